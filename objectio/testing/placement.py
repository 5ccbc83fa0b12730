"""Conformance of a placement.

    class TestMine(PlacementConformance):
        make = "my_plugin.placement:MyPlacement"

`make` names a callable without arguments, as "module:name", since one test asks another process for
the same answers.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.abc.placement import Placed, Placement
from objectio.model.cluster import ClusterMap, FailureDomain, Osd, OsdId, PlacementRule

_PROPERTY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
_GROUPS = 600
_MOVEMENT_MAX = 1.2  # of the least that must move

_IN_ANOTHER_PROCESS = """
import json, sys
from objectio.testing.placement import answers, load
json.dump(answers(load(sys.argv[1])), sys.stdout)
"""


def load(make: str) -> Placement:
    module, _, name = make.partition(":")
    placement: Placement = getattr(importlib.import_module(module), name)()
    return placement


def cluster_of(osds: Iterable[Osd], epoch: int = 1) -> ClusterMap:
    return ClusterMap(epoch=epoch, osds=tuple(sorted(osds, key=lambda osd: osd.id)))


def grid(racks: int, hosts: int, disks: int, weight: float = 1.0) -> ClusterMap:
    """`racks` × `hosts` × `disks` equal OSDs."""
    return cluster_of(
        Osd(
            id=OsdId((rack * hosts + host) * disks + disk),
            rack=f"rack{rack}",
            host=f"host{host}",
            weight=weight,
        )
        for rack in range(racks)
        for host in range(hosts)
        for disk in range(disks)
    )


def answers(placement: Placement) -> list[list[int | None]]:
    """What a placement says about a mixed cluster, in a form that can be written down."""
    osds = [
        Osd(
            id=OsdId(3 * i + 1),
            rack=f"r{i % 3}",
            host=f"h{i % 7}",
            weight=(1.0, 2.5, 0.3)[i % 3],
            in_=i % 11 != 5,
        )
        for i in range(40)
    ]
    clusters = (cluster_of(osds), cluster_of(osds[:9]), grid(1, 3, 2))
    rules = (
        PlacementRule(width=6),
        PlacementRule(width=3, failure_domain=FailureDomain.RACK),
        PlacementRule(width=6, failure_domain=FailureDomain.RACK),
        PlacementRule(width=4, failure_domain=FailureDomain.DISK),
    )
    return [
        [None if osd is None else int(osd) for osd in placement.place(group, cluster, rule).osds]
        for cluster in clusters
        for rule in rules
        for group in range(20)
    ]


@st.composite
def clusters(draw: st.DrawFn) -> ClusterMap:
    """1 … 50 OSDs on few racks and hosts, some of them of weight 0 or out."""
    ids = draw(st.sets(st.integers(0, 2**31), min_size=1, max_size=50))
    weights = st.sampled_from([0.0, 0.5, 1.0, 1.0, 4.0, 1000.0])
    return cluster_of(
        Osd(
            id=OsdId(osd),
            rack=f"r{draw(st.integers(0, 3))}",
            host=f"h{draw(st.integers(0, 5))}",
            weight=draw(weights),
            in_=draw(st.integers(0, 7)) > 0,
        )
        for osd in sorted(ids)
    )


rules = st.builds(
    PlacementRule,
    width=st.integers(1, 14),
    failure_domain=st.sampled_from(list(FailureDomain)),
)


def excess(counts: Counter[OsdId], weights: dict[OsdId, float]) -> float:
    """Chi-square of the counts against the weights, per degree of freedom."""
    total, weight = sum(counts.values()), sum(weights.values())
    expected = {osd: total * each / weight for osd, each in weights.items()}
    chi_square = sum((counts[osd] - e) ** 2 / e for osd, e in expected.items())
    return chi_square / (len(weights) - 1)


def moves(before: Sequence[Placed], after: Sequence[Placed]) -> int:
    """Positions that another OSD fills now: the shards that must be copied or rebuilt."""
    return sum(
        new is not None and new != old
        for one, other in zip(before, after, strict=True)
        for old, new in zip(one.osds, other.osds, strict=True)
    )


class PlacementConformance:
    """Subclass, set `make`; every test must pass."""

    make: ClassVar[str]

    @pytest.fixture
    def placement(self) -> Placement:
        return load(self.make)

    def place_all(
        self, placement: Placement, cluster: ClusterMap, rule: PlacementRule, groups: int = _GROUPS
    ) -> list[Placed]:
        return [placement.place(group, cluster, rule) for group in range(groups)]

    # Shape and spread.

    @_PROPERTY
    @given(cluster=clusters(), rule=rules, group=st.integers(0, 2**32))
    def test_members_are_usable_distinct_and_as_many_as_possible(
        self, placement: Placement, cluster: ClusterMap, rule: PlacementRule, group: int
    ) -> None:
        placed = placement.place(group, cluster, rule)
        usable = {osd.id: osd for osd in cluster.osds if osd.in_ and osd.weight > 0}
        members = [osd for osd in placed.osds if osd is not None]
        assert len(placed.osds) == rule.width
        assert set(members) <= set(usable)
        assert len(members) == min(rule.width, len(usable))
        domains = [usable[osd].domain(placed.level) for osd in members]
        assert len(set(domains)) == len(domains)

    @_PROPERTY
    @given(cluster=clusters(), rule=rules)
    def test_level_is_the_widest_that_has_enough_domains(
        self, placement: Placement, cluster: ClusterMap, rule: PlacementRule
    ) -> None:
        placed = placement.place(0, cluster, rule)
        levels = list(FailureDomain)
        usable = [osd for osd in cluster.osds if osd.in_ and osd.weight > 0]
        enough = [
            level
            for level in levels[levels.index(rule.failure_domain) :]
            if len({osd.domain(level) for osd in usable}) >= rule.width
        ]
        assert placed.level is (enough[0] if enough else FailureDomain.DISK)
        fallen = placed.level is not rule.failure_domain
        assert placed.degraded(rule) == (fallen or None in placed.osds)

    def test_same_host_name_in_two_racks_is_two_hosts(self, placement: Placement) -> None:
        placed = placement.place(1, grid(racks=2, hosts=2, disks=1), PlacementRule(width=4))
        assert placed.level is FailureDomain.HOST
        assert set(placed.osds) == {0, 1, 2, 3}

    def test_empty_cluster_is_all_holes(self, placement: Placement) -> None:
        placed = placement.place(0, cluster_of([]), PlacementRule(width=3))
        assert placed.osds == (None, None, None)
        assert placed.degraded(PlacementRule(width=3))

    def test_too_few_disks_leave_holes(self, placement: Placement) -> None:
        for group in range(50):
            placed = placement.place(group, grid(1, 1, 4), PlacementRule(width=6))
            assert placed.osds.count(None) == 2
            assert placed.level is FailureDomain.DISK

    @pytest.mark.parametrize(
        ("shape", "width", "level", "each"),
        [
            ((1, 3, 2), 6, FailureDomain.DISK, [2, 2, 2]),
            ((1, 3, 5), 6, FailureDomain.DISK, [2, 2, 2]),
            ((1, 4, 5), 6, FailureDomain.DISK, [1, 1, 2, 2]),
            ((1, 1, 6), 6, FailureDomain.DISK, [6]),
            ((1, 6, 4), 6, FailureDomain.HOST, [1, 1, 1, 1, 1, 1]),
        ],
    )
    def test_fallback_from_host_is_even_over_hosts(
        self,
        placement: Placement,
        shape: tuple[int, int, int],
        width: int,
        level: FailureDomain,
        each: list[int],
    ) -> None:
        cluster = grid(*shape)
        host = {osd.id: osd.domain(FailureDomain.HOST) for osd in cluster.osds}
        for group in range(100):
            placed = placement.place(group, cluster, PlacementRule(width=width))
            assert placed.level is level
            members = [osd for osd in placed.osds if osd is not None]
            assert sorted(Counter(host[osd] for osd in members).values()) == each

    def test_fallback_from_rack_is_even_over_racks_and_distinct_in_hosts(
        self, placement: Placement
    ) -> None:
        cluster = grid(racks=2, hosts=4, disks=3)
        rule = PlacementRule(width=6, failure_domain=FailureDomain.RACK)
        rack = {osd.id: osd.rack for osd in cluster.osds}
        for group in range(100):
            placed = placement.place(group, cluster, rule)
            assert placed.level is FailureDomain.HOST
            members = [osd for osd in placed.osds if osd is not None]
            assert sorted(Counter(rack[osd] for osd in members).values()) == [3, 3]

    # Proportion.

    @pytest.mark.parametrize("width", [1, 4])
    def test_equal_weights_get_equal_shares(self, placement: Placement, width: int) -> None:
        cluster = grid(racks=1, hosts=16, disks=1)
        placed = self.place_all(placement, cluster, PlacementRule(width=width))
        counts = Counter(osd for each in placed for osd in each.osds if osd is not None)
        assert excess(counts, {osd.id: 1.0 for osd in cluster.osds}) < 2.5

    def test_every_position_gets_equal_shares(self, placement: Placement) -> None:
        cluster = grid(racks=1, hosts=12, disks=1)
        placed = self.place_all(placement, cluster, PlacementRule(width=3))
        for position in range(3):
            at = [each.osds[position] for each in placed]
            counts = Counter(osd for osd in at if osd is not None)
            assert excess(counts, {osd.id: 1.0 for osd in cluster.osds}) < 2.5

    def test_share_follows_weight(self, placement: Placement) -> None:
        weights = {OsdId(i): (0.5, 1.0, 2.0, 3.5)[i % 4] for i in range(12)}
        cluster = cluster_of(Osd(id=i, host=f"h{i}", weight=w) for i, w in weights.items())
        placed = self.place_all(placement, cluster, PlacementRule(width=1), 2 * _GROUPS)
        counts = Counter(each.osds[0] for each in placed if each.osds[0] is not None)
        assert excess(counts, weights) < 2.5

    def test_share_of_a_host_follows_its_disks(self, placement: Placement) -> None:
        """Hosts of 1, 2, 3 and 6 disks: every disk gets the same."""
        hosts = [(host, disks) for host, disks in enumerate((1, 2, 3, 6))]
        names = [f"h{host}" for host, disks in hosts for _ in range(disks)]
        cluster = cluster_of(Osd(id=OsdId(i), host=name) for i, name in enumerate(names))
        placed = self.place_all(placement, cluster, PlacementRule(width=1), 2 * _GROUPS)
        counts = Counter(each.osds[0] for each in placed if each.osds[0] is not None)
        assert excess(counts, {osd.id: 1.0 for osd in cluster.osds}) < 2.5

    def test_wide_groups_still_prefer_weight(self, placement: Placement) -> None:
        """Members are drawn without replacement, so the share of the heavy falls a little short."""
        cluster = cluster_of(Osd(id=OsdId(i), host=f"h{i}", weight=1.0 + i % 2) for i in range(32))
        placed = self.place_all(placement, cluster, PlacementRule(width=4))
        heavy = sum(osd is not None and osd % 2 == 1 for each in placed for osd in each.osds)
        light = sum(osd is not None and osd % 2 == 0 for each in placed for osd in each.osds)
        assert 1.65 < heavy / light < 2.1

    # Stability.

    @pytest.mark.parametrize("victim", [0, 11, 23])
    def test_removing_an_osd_moves_little_more_than_it_held(
        self, placement: Placement, victim: int
    ) -> None:
        cluster, rule = grid(racks=2, hosts=6, disks=2), PlacementRule(width=3)
        smaller = cluster_of(osd for osd in cluster.osds if osd.id != victim)
        before = self.place_all(placement, cluster, rule)
        after = self.place_all(placement, smaller, rule)
        held = sum(victim in each.osds for each in before)
        assert held > 0
        assert moves(before, after) <= _MOVEMENT_MAX * held

    def test_adding_an_osd_moves_its_share(self, placement: Placement) -> None:
        cluster, rule = grid(racks=1, hosts=20, disks=1), PlacementRule(width=3)
        larger = cluster_of([*cluster.osds, Osd(id=OsdId(99), host="new")])
        before = self.place_all(placement, cluster, rule)
        after = self.place_all(placement, larger, rule)
        gained = sum(99 in each.osds for each in after)
        assert gained == pytest.approx(_GROUPS * 3 / 21, rel=0.35)
        assert moves(before, after) <= _MOVEMENT_MAX * gained

    def test_taking_an_osd_out_moves_what_it_held(self, placement: Placement) -> None:
        cluster, rule = grid(racks=1, hosts=20, disks=1), PlacementRule(width=3)
        out = cluster_of(
            Osd(id=osd.id, host=osd.host, rack=osd.rack, in_=osd.id != 7) for osd in cluster.osds
        )
        before = self.place_all(placement, cluster, rule)
        after = self.place_all(placement, out, rule)
        held = sum(7 in each.osds for each in before)
        assert not any(7 in each.osds for each in after)
        assert moves(before, after) <= _MOVEMENT_MAX * held

    def test_more_weight_attracts(self, placement: Placement) -> None:
        """What moves, moves to the OSD whose weight grew, but for little."""
        cluster, rule = grid(racks=1, hosts=16, disks=1), PlacementRule(width=3)
        heavier = cluster_of(
            Osd(id=osd.id, host=osd.host, rack=osd.rack, weight=3.0 if osd.id == 5 else 1.0)
            for osd in cluster.osds
        )
        before = self.place_all(placement, cluster, rule)
        after = self.place_all(placement, heavier, rule)
        gained = [
            osd
            for one, other in zip(before, after, strict=True)
            for osd in set(other.osds) - set(one.osds)
        ]
        assert gained.count(OsdId(5)) > 0.4 * _GROUPS * 3 / 16
        assert len(gained) <= _MOVEMENT_MAX * gained.count(OsdId(5))

    def test_an_osd_without_weight_changes_nothing(self, placement: Placement) -> None:
        cluster, rule = grid(racks=1, hosts=8, disks=1), PlacementRule(width=4)
        larger = cluster_of([*cluster.osds, Osd(id=OsdId(99), host="empty", weight=0.0)])
        before = self.place_all(placement, cluster, rule, 100)
        assert self.place_all(placement, larger, rule, 100) == before

    def test_the_epoch_alone_changes_nothing(self, placement: Placement) -> None:
        cluster, rule = grid(racks=1, hosts=8, disks=1), PlacementRule(width=4)
        later = ClusterMap(epoch=cluster.epoch + 1, osds=cluster.osds)
        before = self.place_all(placement, cluster, rule, 100)
        assert self.place_all(placement, later, rule, 100) == before

    # Determinism.

    def test_another_process_gives_the_same_answers(self, placement: Placement) -> None:
        here = answers(placement)
        assert answers(load(self.make)) == here
        seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
        done = subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS, self.make],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == here
