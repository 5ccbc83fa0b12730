"""The conformance kit finds each of the broken placements."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent

SUITE = """
from objectio.testing.placement import PlacementConformance
class TestBroken(PlacementConformance):
    make = "broken_placements:{name}"
"""


def outcome(pytester, name, *arguments):
    pytester.makepyfile(SUITE.format(name=name))
    pytester.syspathinsert(HERE)
    result = pytester.runpytest_inprocess(
        "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *arguments
    )
    outcomes = result.parseoutcomes()
    failed = {line.split("::")[-1].split(" ")[0] for line in result.outlines if "FAILED" in line}
    return outcomes, {name.split("[")[0] for name in failed}


@pytest.mark.parametrize(
    ("name", "caught_by"),
    [
        ("Modulo", "test_removing_an_osd_moves_little_more_than_it_held"),
        ("Salted", "test_another_process_gives_the_same_answers"),
        ("Weightless", "test_share_follows_weight"),
        ("Shorter", "test_too_few_disks_leave_holes"),
        ("Sorted", "test_removing_an_osd_moves_little_more_than_it_held"),
        ("Epochal", "test_the_epoch_alone_changes_nothing"),
        ("Silent", "test_level_is_the_widest_that_has_enough_domains"),
    ],
)
def test_a_broken_placement_fails(pytester, name, caught_by):
    outcomes, failed = outcome(pytester, name, "-k", caught_by)
    assert outcomes["failed"] > 0
    assert failed == {caught_by}


def test_a_right_one_passes(pytester):
    outcomes, failed = outcome(pytester, "Right")
    assert failed == set()
    assert outcomes["passed"] > 15
