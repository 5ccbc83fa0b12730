"""The crush placement."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from objectio_placement_crush.placement import CrushPlacement
from objectio_placement_crush.plugin import objectio_register_placements
from objectio_placement_crush.straw import straw

from objectio.abc.context import Context
from objectio.abc.driver import NoConfig
from objectio.model.cluster import FailureDomain, Osd, PlacementRule
from objectio.testing.placement import PlacementConformance, answers, cluster_of, grid, moves

GOLDEN = Path(__file__).with_name("golden.json")


def out(cluster, *ids):
    return cluster_of(
        Osd(id=osd.id, host=osd.host, rack=osd.rack, weight=osd.weight, in_=osd.id not in ids)
        for osd in cluster.osds
    )


class TestCrush(PlacementConformance):
    make = "objectio_placement_crush.placement:CrushPlacement"

    def test_answers_are_those_of_the_first_release(self, placement):
        """A change here moves everybody's data: never write this file anew."""
        assert answers(placement) == json.loads(GOLDEN.read_text())

    def test_an_osd_that_is_out_moves_nothing_but_its_own(self, placement):
        """Not even on a narrow cluster, where the other members have nowhere else to go."""
        rule = PlacementRule(width=6)
        for cluster in (grid(1, 1, 6), grid(1, 1, 7), grid(1, 8, 1), grid(2, 6, 2)):
            before = self.place_all(placement, cluster, rule, 200)
            after = self.place_all(placement, out(cluster, 3), rule, 200)
            for one, other in zip(before, after, strict=True):
                for old, new in zip(one.osds, other.osds, strict=True):
                    assert new == old or old == 3

    def test_hole_stays_where_the_lost_member_was(self, placement):
        rule = PlacementRule(width=6)
        before = placement.place(5, grid(1, 1, 6), rule)
        after = placement.place(5, out(grid(1, 1, 6), 2), rule)
        assert after.osds == tuple(None if osd == 2 else osd for osd in before.osds)
        assert after.degraded(rule)

    def test_losing_a_disk_of_a_host_moves_only_its_groups(self, placement):
        """The host's weight shrinks with the disk, and still no group leaves its other disks."""
        cluster, rule = grid(1, 10, 4), PlacementRule(width=3)
        before = self.place_all(placement, cluster, rule)
        after = self.place_all(placement, out(cluster, 9), rule)
        assert moves(before, after) == sum(9 in each.osds for each in before)

    def test_all_disks_of_a_host_out(self, placement):
        cluster, rule = grid(1, 7, 2), PlacementRule(width=6)
        for group in range(100):
            placed = placement.place(group, out(cluster, 0, 1), rule)
            assert placed.level is FailureDomain.HOST
            assert None not in placed.osds

    def test_two_maps_in_turn(self, placement):
        """The prepared form of one map is not used for another."""
        rule, maps = PlacementRule(width=3), (grid(1, 5, 1), grid(1, 9, 2))
        alone = [CrushPlacement().place(1, each, rule) for each in maps]
        assert [placement.place(1, each, rule) for each in (*maps, *maps)] == alone * 2

    def test_a_group_of_100_osds_takes_about_a_millisecond(self, placement):
        cluster, rule = grid(5, 10, 2), PlacementRule(width=6)
        placement.place(0, cluster, rule)
        best = math.inf
        for group in range(30):
            started = time.perf_counter()
            placement.place(group, cluster, rule)
            best = min(best, time.perf_counter() - started)
        assert best < 0.003


class TestStraw:
    @pytest.mark.parametrize("h", [0, 1, 2, 12345, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])
    def test_is_the_logarithm(self, h):
        assert straw(h) / 2**44 == pytest.approx(64 - math.log2(h + 1), abs=1e-7)

    def test_falls_as_the_hash_grows(self):
        hashes = sorted({(i * 0x9E3779B97F4A7C15) % 2**64 for i in range(5000)})
        lengths = [straw(h) for h in hashes]
        assert lengths == sorted(lengths, reverse=True)

    def test_is_the_same_for_ever(self):
        assert [straw(h) for h in (0, 1000, 2**40 + 7, 2**63 + 2**61)] == STRAWS


def test_plugin_offers_crush(tmp_path):
    (driver,) = objectio_register_placements()
    assert (driver.name, driver.rank) == ("crush", 100)
    placement = driver.open(NoConfig(), Context(name="crush", data_dir=tmp_path))
    assert placement.place(0, grid(1, 1, 1), PlacementRule(width=1)).osds == (0,)


STRAWS = [1125899906842624, 950554608150393, 422212465065800, 11928767106233]
