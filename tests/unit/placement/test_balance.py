"""What moves when the map changes: the fair share, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.model.cluster import ClusterMap, FailureDomain, Osd, OsdId, PlacementRule
from objectio.placement.balance import balance
from objectio.placement.rendezvous import RendezvousPlacement
from objectio.placement.spread import Spread
from objectio.testing.placement import cluster_of, clusters, grid, rules

GROUPS = 256
MOVEMENT_MAX = 1.2
HOLE = -1


def crush():
    return pytest.importorskip("objectio_placement_crush.placement").CrushPlacement()


@pytest.fixture(params=[RendezvousPlacement, crush], ids=["rendezvous", "crush"])
def placement(request):
    return request.param()


class Rows:
    """The written members of a pool's groups, under one map after the other."""

    def __init__(self, placement, cluster, rule, groups=GROUPS):
        self.placement, self.rule, self.groups = placement, rule, groups
        self.cluster = cluster
        placed = [
            tuple(HOLE if osd is None else osd for osd in self.prefer(group))
            for group in range(groups)
        ]
        self.members = balance(placed, cluster, rule, self.prefer, slack=0)
        self.check()

    def prefer(self, group):
        return self.placement.place(group, self.cluster, self.rule).osds

    def change(self, cluster):
        """Returns how many positions move."""
        self.cluster = cluster
        before = self.members
        self.members = balance(before, cluster, self.rule, self.prefer)
        assert balance(self.members, cluster, self.rule, self.prefer) == self.members
        self.check()
        return sum(
            now != then
            for members, old in zip(self.members, before, strict=True)
            for now, then in zip(members, old, strict=True)
        )

    def check(self):
        spread = Spread(self.cluster, self.rule)
        for members in self.members:
            assert len(set(members)) == self.rule.width
            assert set(members) <= set(spread.usable)
            assert not spread.crowded(members)

    def quota(self, osds):
        quotas = Spread(self.cluster, self.rule).quotas(self.groups)
        return sum(quotas[osd] for osd in osds)

    def held(self, osds):
        return sum(osd in osds for members in self.members for osd in members)

    def imbalance(self):
        """The most that any OSD has above its share, and below, in positions and by weight."""
        counts = Counter(osd for members in self.members for osd in members)
        quotas = Spread(self.cluster, self.rule).quotas(self.groups)
        return max(abs(counts[osd] - quota) / max(quota, 20) for osd, quota in quotas.items())


def mixed():
    return cluster_of(
        Osd(id=OsdId(i), host=f"host{i % 8}", rack="rack0", weight=(1.0, 2.0, 4.0)[i % 3])
        for i in range(24)
    )


TOPOLOGIES = [
    pytest.param(grid(1, 1, 6), FailureDomain.DISK, id="6 disks"),
    pytest.param(grid(1, 1, 12), FailureDomain.DISK, id="12 disks"),
    pytest.param(grid(1, 3, 4), FailureDomain.HOST, id="3 hosts of 4"),
    pytest.param(grid(1, 6, 2), FailureDomain.HOST, id="6 hosts of 2"),
    pytest.param(grid(1, 8, 3), FailureDomain.HOST, id="8 hosts of 3"),
    pytest.param(grid(3, 4, 2), FailureDomain.RACK, id="3 racks"),
    pytest.param(grid(6, 2, 2), FailureDomain.RACK, id="6 racks"),
    pytest.param(mixed(), FailureDomain.HOST, id="unequal"),
]
every_topology = pytest.mark.parametrize(("cluster", "domain"), TOPOLOGIES)


@every_topology
@pytest.mark.parametrize("what", ["disk", "host"])
def test_what_joins_gets_its_share_and_what_leaves_gives_it_back(placement, cluster, domain, what):
    rows = Rows(placement, cluster, PlacementRule(width=6, failure_domain=domain))
    host = cluster.osds[0].host if what == "disk" else "new"
    count = 1 if what == "disk" else sum(osd.host == cluster.osds[0].host for osd in cluster.osds)
    new = [Osd(id=OsdId(100 + i), host=host, rack="rack0") for i in range(count)]
    ids = {osd.id for osd in new}
    moved = rows.change(cluster_of([*cluster.osds, *new]))
    ideal = rows.quota(ids)
    assert 0.9 * ideal - 1 <= moved <= MOVEMENT_MAX * ideal
    assert rows.held(ids) == pytest.approx(ideal, abs=1.2 * count)
    assert rows.imbalance() < 0.1
    held = rows.held(ids)
    assert rows.change(cluster) <= MOVEMENT_MAX * held
    assert rows.imbalance() < 0.1


@every_topology
def test_who_is_out_moves_what_it_held(placement, cluster, domain):
    if len(cluster.osds) == 6:
        pytest.skip("nobody can be spared")
    rows = Rows(placement, cluster, PlacementRule(width=6, failure_domain=domain))
    victim = cluster.osds[1]
    held = rows.held({victim.id})
    out = cluster_of(
        Osd(id=osd.id, host=osd.host, rack=osd.rack, weight=osd.weight, in_=osd.id != victim.id)
        for osd in cluster.osds
    )
    assert held <= rows.change(out) <= MOVEMENT_MAX * held
    assert rows.change(cluster_of(osd for osd in out.osds if osd.in_)) == 0, (
        "leaving the map for good moves nothing more"
    )


def test_weight_moves_the_difference(placement):
    cluster = grid(1, 12, 1)
    rows = Rows(placement, cluster, PlacementRule(width=4))
    before = rows.held({5})
    moved = rows.change(
        cluster_of(
            Osd(id=osd.id, host=osd.host, rack=osd.rack, weight=2.0 if osd.id == 5 else 1.0)
            for osd in cluster.osds
        )
    )
    gained = rows.held({5}) - before
    assert gained == pytest.approx(rows.quota({5}) - before, abs=1)
    assert moved <= MOVEMENT_MAX * gained


def test_many_changes_one_after_the_other_leave_shares_even(placement):
    rows = Rows(placement, grid(1, 1, 6), PlacementRule(width=6, failure_domain=FailureDomain.DISK))
    for disks in range(7, 12):
        ideal = GROUPS * 6 / disks
        assert rows.change(grid(1, 1, disks)) <= MOVEMENT_MAX * ideal
    osds = grid(1, 1, 11).osds
    for victim in (3, 8):
        osds = tuple(osd for osd in osds if osd.id != victim)
        rows.change(cluster_of(osds))
    counts = Counter(osd for members in rows.members for osd in members)
    assert max(counts.values()) <= 1.03 * GROUPS * 6 / 9
    assert min(counts.values()) >= 0.97 * GROUPS * 6 / 9
    for position in range(6):  # a position is data or parity: nobody gets only one kind
        at = Counter(members[position] for members in rows.members)
        assert max(at.values()) < 2 * GROUPS / 9


def test_only_receivers_get_anything(placement):
    rows = Rows(placement, grid(1, 1, 8), PlacementRule(width=6, failure_domain=FailureDomain.DISK))
    larger = cluster_of([*grid(1, 1, 8).osds, *(Osd(id=OsdId(100 + i)) for i in range(2))])
    without = cluster_of(osd for osd in larger.osds if osd.id != 2)
    after = balance(rows.members, without, rows.rule, lambda group: (), receivers={100}, slack=0.05)
    gained = {
        now
        for members, old in zip(after, rows.members, strict=True)
        for now in set(members) - set(old)
    }
    assert gained == {100}
    assert not any(2 in members and 100 not in members for members in after)


def test_a_domain_more_ends_the_crowding(placement):
    rows = Rows(placement, grid(1, 5, 2), PlacementRule(width=6))
    assert Spread(rows.cluster, rows.rule).degraded
    moved = rows.change(grid(1, 6, 2))
    assert not Spread(rows.cluster, rows.rule).degraded
    assert GROUPS <= moved <= MOVEMENT_MAX * GROUPS, "one member of each group must"


_PROPERTY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


@_PROPERTY
@given(before=clusters(), after=clusters(), rule=rules)
def test_any_change_of_any_map(before, after, rule):
    """From any members to any map: distinct, as many usable as there can be, within the limits, each
    at its old position if it stays; and a second time changes nothing."""
    placement = RendezvousPlacement()

    def prefer(group):
        return placement.place(group, after, rule).osds

    rows = [
        tuple(
            HOLE if osd is None else int(osd) for osd in placement.place(group, before, rule).osds
        )
        for group in range(8)
    ]
    changed = balance(rows, after, rule, prefer)
    spread = Spread(after, rule)
    for old, new in zip(rows, changed, strict=True):
        real = [osd for osd in new if osd != HOLE]
        assert len(set(real)) == len(real)
        usable = [osd for osd in new if osd in spread.usable]
        assert len(usable) == min(rule.width, len(spread.usable))
        assert not spread.crowded(usable)
        for position, osd in enumerate(new):
            if osd in old:
                assert old[position] == osd or old.index(osd) != position
    assert balance(changed, after, rule, prefer) == changed


@given(cluster=clusters(), rule=rules, groups=st.integers(1, 500))
@settings(max_examples=100, deadline=None)
def test_quotas_fill_all_positions_within_the_limits(cluster, rule, groups):
    spread = Spread(cluster, rule)
    quotas = spread.quotas(groups)
    assert quotas.keys() == spread.usable.keys()
    assert sum(quotas.values()) == pytest.approx(groups * min(rule.width, len(quotas)), rel=1e-6)
    for level, limit in spread.limits.items():
        domains: Counter[str] = Counter()
        for osd, quota in quotas.items():
            domains[spread.usable[osd].domain(level)] += quota
        assert all(each <= groups * limit * (1 + 1e-6) for each in domains.values())
    assert all(quota <= groups * (1 + 1e-6) for quota in quotas.values())


def test_a_spread_that_falls_short_says_why():
    six = PlacementRule(width=6)
    assert not Spread(grid(1, 6, 1), six).degraded
    three = Spread(grid(1, 3, 2), six)
    assert three.degraded
    assert three.explain() == (
        "the 6 shards of a stripe are to be on 6 hosts, there are 3: up to 2 share one"
    )
    few = Spread(grid(1, 1, 4), PlacementRule(width=6, failure_domain=FailureDomain.DISK))
    assert few.degraded
    assert few.explain() == "6 disks are needed, 4 take data"
    assert not Spread(
        grid(1, 1, 6), PlacementRule(width=6, failure_domain=FailureDomain.DISK)
    ).degraded
    assert Spread(ClusterMap(epoch=1), six).degraded
