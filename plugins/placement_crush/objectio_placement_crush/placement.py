"""Placement by weighted draws over the tree of racks, hosts and disks.

Each position of a group draws for itself among the failure domains that are free: every disk gets
a straw by hash(group, position, disk), as long as -log2(h) / weight, and the shortest wins. The
shortest straw of a host's disks is distributed as one straw of the host's total weight would be,
so this is a draw by weight at each level of the tree, and the descent within the winner is already
done. What it adds to drawing level by level: a disk that comes or goes changes the draws that it
wins and no others, at whatever level its weight counts.

**Positions stay.** A position's draw does not depend on what the later ones hold, so most members
of a group keep their position when another one leaves. An OSD that is out (`in_` is False) still
draws, and only then is replaced in each position that it won: the others do not move at all, and
a hole is left where there is no replacement. Removing it from the map for good may move a few.

**Fallback.** With fewer domains than members the level is the next smaller one, and the members
still go to the least crowded of the wider domains first: 4+2 on three hosts of many disks is two
disks on each host, always.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from objectio.abc.placement import Placed
from objectio.model.cluster import ClusterMap, FailureDomain, OsdId, PlacementRule
from objectio_placement_crush.straw import straw

_DRAW = struct.Struct(">QI")
_OSD = struct.Struct(">Q")
_LEVELS = tuple(FailureDomain)


class Disk(NamedTuple):
    """One OSD, with its domains numbered in the order of `FailureDomain`."""

    id: OsdId
    key: bytes
    weight: float
    domains: tuple[int, ...]
    usable: bool


class Tree(NamedTuple):
    """A cluster map, prepared: who draws, who may be a member, how many domains these have."""

    disks: tuple[Disk, ...]
    usable: tuple[Disk, ...]
    widths: tuple[int, ...]


class CrushPlacement:
    """See the module. Keeps the last cluster map in its prepared form, and nothing else."""

    def __init__(self) -> None:
        self._last: tuple[ClusterMap, Tree] | None = None

    def place(self, group: int, cluster: ClusterMap, rule: PlacementRule) -> Placed:
        last = self._last
        if last is None or last[0] is not cluster:
            last = self._last = (cluster, plant(cluster))
        tree = last[1]
        top = _LEVELS.index(rule.failure_domain)
        bottom = next((i for i in range(top, 3) if tree.widths[i] >= rule.width), 2)
        draw = _Group(group, top, bottom)
        for position in range(rule.width):
            draw.fill(position, tree.disks)
        for position in [p for p, disk in draw.members.items() if not disk.usable]:
            draw.vacate(position)
        for position in range(rule.width):
            if position not in draw.members:
                draw.fill(position, tree.usable)
        members = (draw.members.get(position) for position in range(rule.width))
        return Placed(tuple(disk and disk.id for disk in members), _LEVELS[bottom])


def plant(cluster: ClusterMap) -> Tree:
    numbers: dict[tuple[FailureDomain, str], int] = {}
    disks = tuple(
        Disk(
            osd.id,
            _OSD.pack(osd.id),
            osd.weight,
            tuple(
                numbers.setdefault((level, osd.domain(level)), len(numbers)) for level in _LEVELS
            ),
            osd.in_,
        )
        for osd in cluster.osds
        if osd.weight > 0
    )
    usable = tuple(disk for disk in disks if disk.usable)
    widths = tuple(len({disk.domains[i] for disk in usable}) for i in range(len(_LEVELS)))
    return Tree(disks, usable, widths)


class _Group:
    """The members of one group while they are being chosen."""

    def __init__(self, group: int, top: int, bottom: int) -> None:
        self.group = group
        self.bottom = bottom
        self.wider = range(top, bottom)
        self.members: dict[int, Disk] = {}
        self.crowd: dict[int, int] = {}

    def fill(self, position: int, disks: Sequence[Disk]) -> None:
        """Give the position to the winner of its draw, if any domain is free."""
        crowd, bottom = self.crowd, self.bottom
        free = [disk for disk in disks if not crowd.get(disk.domains[bottom])]
        for level in self.wider:
            least = min((crowd.get(disk.domains[level], 0) for disk in free), default=0)
            free = [disk for disk in free if crowd.get(disk.domains[level], 0) == least]
        if not free:
            return
        prefix = _DRAW.pack(self.group, position)
        hash_of = xxhash.xxh3_64_intdigest
        winner = min(
            free, key=lambda disk: (straw(hash_of(prefix + disk.key)) / disk.weight, disk.id)
        )
        self.members[position] = winner
        self._count(winner, 1)

    def vacate(self, position: int) -> None:
        self._count(self.members.pop(position), -1)

    def _count(self, disk: Disk, by: int) -> None:
        for level in (*self.wider, self.bottom):
            domain = disk.domains[level]
            self.crowd[domain] = self.crowd.get(domain, 0) + by
