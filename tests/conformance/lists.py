"""The three lists of the public suite's tests, and what a run says of them.

Every function of the suite is in exactly one of:

    expected.txt    passes; a run in which one of these does not pass is a regress
    planned.txt     should pass one day, with what is in its way, if that is known
    excluded.txt    is not run, with the reason

A line is `file::function`, or `file::function  # words`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("test_s3", "test_headers", "test_iam", "test_sts")
FOLDER = "s3tests/functional"

EXCLUDED_MARKERS = {
    "fails_on_rgw": "fails on the server the suite is written for",
    "bucket_logging": "access logging with extensions of another server",
    "bucket_logging_cleanup": "access logging with extensions of another server",
    "cloud_transition": "needs a second object store to move objects to",
    "cloud_restore": "needs a second object store to move objects to",
    "target_by_bucket": "needs a second object store to move objects to",
    "lifecycle_transition": "there is one storage class, so there is nothing to move objects to",
    "iam_account": "calls of another server to administer accounts",
    "iam_user": "calls of another server to administer accounts",
    "webidentity_test": "wants ARNs of roles without an account, as another server's are, and a Keycloak",
    "auth_aws2": "old signatures, which are refused, as AWS refuses them in its newer regions",
}
TENANT = "tenants, which are another server's: an account has a name space of its own on no S3"


@dataclass
class Lists:
    """What the three files hold: test → words behind it."""

    expected: dict[str, str] = field(default_factory=dict)
    planned: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path = HERE) -> Lists:
        return cls(
            *(_read(directory / f"{name}.txt") for name in ("expected", "planned", "excluded"))
        )

    def write(self, directory: Path = HERE) -> None:
        for name, words in _HEADS.items():
            rows = sorted(getattr(self, name).items())
            text = "".join(f"{test}  # {why}\n" if why else f"{test}\n" for test, why in rows)
            (directory / f"{name}.txt").write_text(f"# {words}\n{text}")

    def errors(self) -> list[str]:
        """Why these are not lists as the head of this module says."""
        found = [
            f"excluded without a reason: {test}" for test, why in self.excluded.items() if not why
        ]
        for one, other in (
            ("expected", "planned"),
            ("expected", "excluded"),
            ("planned", "excluded"),
        ):
            both = getattr(self, one).keys() & getattr(self, other).keys()
            found += [f"{one} and {other}: {test}" for test in sorted(both)]
        return found

    def regresses(self, outcomes: Mapping[str, str]) -> list[str]:
        """Those that are expected to pass, were run, and did not."""
        return sorted(
            test
            for test, outcome in outcomes.items()
            if test in self.expected and outcome != "passed"
        )

    def surprises(self, outcomes: Mapping[str, str]) -> list[str]:
        """Those that passed and are not expected to."""
        return sorted(
            test
            for test, outcome in outcomes.items()
            if test not in self.expected and outcome == "passed"
        )

    def learn(self, outcomes: Mapping[str, str]) -> None:
        """Let the lists say what a run has shown of the tests that were in it."""
        for test, outcome in outcomes.items():
            if test in self.excluded:
                continue
            known = self.expected.pop(test, "") or self.planned.pop(test, "")
            if outcome == "passed":
                self.expected[test] = ""
            else:
                self.planned[test] = known

    def follow(self, checkout: Path) -> None:
        """Let the lists hold each function of the suite, and no other."""
        found = suite_functions(checkout)
        for rows in (self.expected, self.planned, self.excluded):
            for test in rows.keys() - found.keys():
                del rows[test]
        for test, markers in found.items():
            if reason := reason_to_exclude(test, markers):
                self.excluded.setdefault(test, reason)
                self.expected.pop(test, None)
                self.planned.pop(test, None)
            elif not any(test in rows for rows in (self.expected, self.planned, self.excluded)):
                self.planned[test] = ""


_HEADS = {
    "expected": "Tests that pass. Written by --update; a run in which one does not pass fails.",
    "planned": "Tests that do not pass yet, or that were not seen to pass twice. Written by --update.",
    "excluded": "Tests that are not run, each with the reason.",
}


def suite_functions(checkout: Path) -> dict[str, set[str]]:
    """Every test function of the suite, with the names of its markers."""
    found = {}
    for name in FILES:
        for node in ast.parse((checkout / FOLDER / f"{name}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                marks = {each for line in node.decorator_list for each in ast.walk(line)}
                found[f"{name}::{node.name}"] = {
                    each.attr for each in marks if isinstance(each, ast.Attribute)
                }
    return found


def reason_to_exclude(test: str, markers: Iterable[str]) -> str:
    """Why a function is not run by its markers or its name; empty if it is run."""
    for marker in sorted(markers):
        if reason := EXCLUDED_MARKERS.get(marker):
            return f"{marker}: {reason}"
    return TENANT if "tenant" in test else ""


def function_of(node_id: str) -> str:
    """`s3tests/functional/test_s3.py::test_a[1-2]` → `test_s3::test_a`."""
    path, _, name = node_id.partition("::")
    return f"{Path(path).stem}::{name.partition('[')[0]}"


def per_function(items: Mapping[str, str]) -> dict[str, str]:
    """Outcomes of items (node id → outcome) → of functions. A function passes if each item does."""
    found: dict[str, str] = {}
    for node_id, outcome in items.items():
        test = function_of(node_id)
        if found.get(test, "passed") == "passed":
            found[test] = outcome
    return found


def _read(path: Path) -> dict[str, str]:
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        test, _, words = line.partition("#")
        if test.strip():
            rows[test.strip()] = words.strip()
    return rows
