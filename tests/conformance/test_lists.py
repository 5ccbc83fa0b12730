"""The lists of the public suite's tests keep to their rules, and so does what reads them."""

from __future__ import annotations

import pytest

conformance = pytest.importorskip("tests.conformance.lists")
from tests.conformance import report  # noqa: E402


def test_the_committed_lists_are_disjoint_and_say_why():
    lists = conformance.Lists.read()
    assert lists.errors() == []
    assert len(lists.excluded) > 100
    assert len(lists.expected) + len(lists.planned) > 600


def test_excluded_is_only_what_a_rule_excludes():
    reasons = {f"{marker}: {words}" for marker, words in conformance.EXCLUDED_MARKERS.items()} | {
        conformance.TENANT
    }
    assert set(conformance.Lists.read().excluded.values()) <= reasons


def test_a_run_with_an_expected_failure_is_a_regress():
    lists = conformance.Lists({"a": "", "b": ""}, {"c": "why"}, {})
    outcomes = {"a": "passed", "b": "skipped", "c": "passed"}
    assert lists.regresses(outcomes) == ["b"]
    assert lists.surprises(outcomes) == ["c"]


def test_the_lists_learn_only_of_what_ran():
    lists = conformance.Lists(
        {"a": "", "b": "", "untouched": ""}, {"c": "why", "d": "why"}, {"e": "no"}
    )
    lists.learn({"a": "failed", "b": "passed", "c": "passed", "d": "error", "e": "passed"})
    assert set(lists.expected) == {"b", "c", "untouched"}
    assert lists.planned == {"a": "", "d": "why"}
    assert lists.excluded == {"e": "no"}


def test_lists_are_read_as_they_were_written(tmp_path):
    lists = conformance.Lists({"a::b": ""}, {"a::c": "in the way"}, {"a::d": "never"})
    lists.write(tmp_path)
    assert conformance.Lists.read(tmp_path) == lists


def test_errors_are_told():
    lists = conformance.Lists({"a": ""}, {"a": ""}, {"b": ""})
    assert lists.errors() == ["excluded without a reason: b", "expected and planned: a"]


def test_a_function_passes_if_each_of_its_items_does():
    items = {
        "s3tests/functional/test_s3.py::test_a[1]": "passed",
        "s3tests/functional/test_s3.py::test_a[2]": "failed",
        "s3tests/functional/test_s3.py::test_b": "passed",
    }
    assert conformance.per_function(items) == {
        "test_s3::test_a": "failed",
        "test_s3::test_b": "passed",
    }


def test_the_lists_follow_the_suite(tmp_path):
    folder = tmp_path / conformance.FOLDER
    folder.mkdir(parents=True)
    for name in conformance.FILES:
        (folder / f"{name}.py").write_text("")
    (folder / "test_s3.py").write_text(
        "@pytest.mark.bucket_logging\ndef test_log(): pass\n"
        "def test_new(): pass\ndef test_tenant_one(): pass\ndef test_old(): pass\ndef helper(): pass\n"
    )
    lists = conformance.Lists({"test_s3::test_old": "", "test_s3::test_gone": ""})
    lists.follow(tmp_path)
    assert set(lists.expected) == {"test_s3::test_old"}
    assert set(lists.planned) == {"test_s3::test_new"}
    assert set(lists.excluded) == {"test_s3::test_log", "test_s3::test_tenant_one"}


def test_a_table_names_each_failure_once_in_its_area():
    outcomes = {"test_s3::test_versioning_x": "failed", "test_s3::test_cors_y": "passed"}
    items = [
        {"test": "test_s3::test_versioning_x", "outcome": "failed", "message": "line 1: first"},
        {"test": "test_s3::test_versioning_x", "outcome": "failed", "message": "line 1: second"},
    ]
    text = report.table(outcomes, items, "head")
    assert "1 of 2 functions passed, 1 failed" in text
    assert "| versioning | 0 | 1 |" in text
    assert "| cors | 1 | 1 |" in text
    assert text.count("test_versioning_x") == 1
    assert "line 1: first" in text
