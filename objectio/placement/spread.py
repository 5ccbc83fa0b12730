"""How far apart the members of a group can stand, and how many groups each OSD ought to hold.

The rule asks that no two members of a group share a failure domain. Where there are too few
domains, the limit of each level is the least that still lets a group be filled: 4+2 on three hosts
is two members on a host at most, 6+3 over two racks of three hosts three on a host and five in a
rack at most. Limits hold from the rule's level down to the disk; wider levels are free.

An OSD's share of all positions follows its weight, as far as the limits let it: no OSD can hold
more than one position of a group, and no domain more than its limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from objectio.model.cluster import ClusterMap, FailureDomain, Osd, PlacementRule

_ROUNDS: Final = 100
"""Halvings when a share is looked for: more than a float has bits."""


class Spread:
    """A cluster map and a rule, made ready. `usable` are the OSDs that may hold groups, by id."""

    def __init__(self, cluster: ClusterMap, rule: PlacementRule) -> None:
        self.rule = rule
        self.usable: dict[int, Osd] = {
            osd.id: osd for osd in cluster.osds if osd.in_ and osd.weight > 0
        }
        levels = list(FailureDomain)
        self.levels = tuple(levels[levels.index(rule.failure_domain) : -1])
        """Those above the disk that have a limit, from wide to narrow."""
        self.limits = self._limits()
        self._domains: dict[int, tuple[tuple[FailureDomain, str], ...]] = {
            osd.id: tuple((level, osd.domain(level)) for level in self.levels)
            for osd in cluster.osds
        }

    def _limits(self) -> dict[FailureDomain, int]:
        limits: dict[FailureDomain, int] = {}
        room: list[tuple[Osd, int]] = [(osd, 1) for osd in self.usable.values()]
        for level in reversed(self.levels):
            domains: Counter[str] = Counter()
            some: dict[str, Osd] = {}
            for osd, size in room:
                domains[osd.domain(level)] += size
                some[osd.domain(level)] = osd
            limit = _least_limit(domains.values(), self.rule.width)
            limits[level] = limit
            room = [(some[name], min(size, limit)) for name, size in domains.items()]
        return limits

    @property
    def degraded(self) -> bool:
        """Whether members of a group must share a failure domain, or a group cannot be filled."""
        return len(self.usable) < self.rule.width or any(
            limit > 1 for level, limit in self.limits.items() if level is self.rule.failure_domain
        )

    def explain(self) -> str:
        """A sentence for people about a degraded spread."""
        width, level = self.rule.width, self.rule.failure_domain
        if len(self.usable) < width:
            return f"{width} disks are needed, {len(self.usable)} take data"
        there = len({osd.domain(level) for osd in self.usable.values()})
        return (
            f"the {width} shards of a stripe are to be on {width} {level.value}s, there "
            f"{'is' if there == 1 else 'are'} {there}: up to {self.limits[level]} share one"
        )

    def crowd(self, members: Iterable[int]) -> Counter[tuple[FailureDomain, str]]:
        """How many of the members stand in each limited domain."""
        return Counter(domain for osd in members for domain in self._domains.get(osd, ()))

    def fits(self, osd: int, crowd: Mapping[tuple[FailureDomain, str], int]) -> bool:
        """Whether a usable OSD may join members that crowd the domains so."""
        return all(crowd.get(domain, 0) < self.limits[domain[0]] for domain in self._domains[osd])

    def crowded(self, members: Sequence[int]) -> bool:
        """Whether the members break a limit."""
        return any(count > self.limits[domain[0]] for domain, count in self.crowd(members).items())

    def quotas(self, groups: int) -> dict[int, float]:
        """The share of each usable OSD in the positions of so many groups."""
        root = _Node(float("inf"))
        for osd in self.usable.values():
            at = root
            for level, name in self._domains[osd.id]:
                at = at.children.setdefault(name, _Node(groups * self.limits[level]))
            at.children[f"osd {osd.id}"] = _Node(groups, osd.weight, osd.id)
        found: dict[int, float] = {}
        root.divide(min(groups * self.rule.width, root.amount(float("inf"))), found)
        return found


def _least_limit(sizes: Iterable[int], width: int) -> int:
    """The least limit of members in one domain with which the domains still have room for all."""
    sizes = list(sizes)
    width = min(width, sum(sizes))
    limit = 1
    while sum(min(size, limit) for size in sizes) < width:
        limit += 1
    return limit


class _Node:
    """A domain or, with a weight, an OSD; takes at most `most` positions."""

    def __init__(self, most: float, weight: float = 0.0, osd: int = -1) -> None:
        self.most = most
        self.weight = weight
        self.osd = osd
        self.children: dict[str, _Node] = {}

    def amount(self, each: float) -> float:
        """What it takes when a weight of 1 takes `each`."""
        if not self.children:
            return min(self.most, each * self.weight)
        return min(self.most, sum(child.amount(each) for child in self.children.values()))

    def divide(self, amount: float, found: dict[int, float]) -> None:
        if not self.children:
            if self.osd >= 0:
                found[self.osd] = amount
            return
        low, high = 0.0, 1.0
        children = self.children.values()
        while sum(child.amount(high) for child in children) < amount and high < 1e30:
            high *= 2
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            if sum(child.amount(middle) for child in children) < amount:
                low = middle
            else:
                high = middle
        for child in children:
            child.divide(child.amount(high), found)
