"""The reference placement."""

from __future__ import annotations

from pathlib import Path

from objectio.abc.context import Context
from objectio.abc.driver import NoConfig
from objectio.model.cluster import PlacementRule
from objectio.placement.rendezvous import DRIVER
from objectio.testing.placement import PlacementConformance, answers, grid


class TestRendezvous(PlacementConformance):
    make = "objectio.placement.rendezvous:RendezvousPlacement"

    def test_answers_are_those_of_the_first_release(self, placement):
        """A change here moves everybody's data."""
        golden = answers(placement)
        assert golden[0] == GOLDEN_FIRST
        assert golden[-1] == GOLDEN_LAST


def test_driver_opens(tmp_path: Path):
    placement = DRIVER.open(NoConfig(), Context(name="rendezvous", data_dir=tmp_path))
    assert DRIVER.rank == 0
    assert None not in placement.place(0, grid(1, 6, 1), PlacementRule(width=6)).osds


GOLDEN_FIRST = [13, 58, 55, 4, 40, 1]
GOLDEN_LAST = [2, 5, 0, 4]
