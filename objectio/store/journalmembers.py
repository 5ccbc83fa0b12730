"""Which devices have the metadata journal: few, far apart, and the same ones as long as they work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from objectio.abc.shardstore import ShardStore
from objectio.model.cluster import FailureDomain, Osd
from objectio.model.stripe import ShardKey


class Member:
    """A device that has a copy. `outstanding` counts shards that it has not answered for."""

    __slots__ = ("osd", "outstanding", "store")

    def __init__(self, osd: int, store: ShardStore) -> None:
        self.osd = osd
        self.store = store
        self.outstanding = 0


class Entry:
    """A batch on its way to them. `waiting` counts its shards that a member has not answered for."""

    __slots__ = ("copies", "number", "shards", "since", "waiting")

    def __init__(self, number: int, shards: list[tuple[ShardKey, bytes]], since: float) -> None:
        self.number = number
        self.shards = shards
        self.since = since
        self.copies = 0
        self.waiting: dict[Member, int] = {}


class Candidate(NamedTuple):
    """A device that could have a copy. `preferred` comes first among those that stand equally far
    from the others: it has an earlier copy, or the most room."""

    osd: Osd
    preferred: tuple[int, ...] = ()


def choose(members: Iterable[Osd], candidates: Sequence[Candidate], wanted: int) -> list[int]:
    """Ids of candidates to add to the members, so that there are `wanted` of them: on other hosts
    than those there are, then in other racks."""
    hosts = Counter(osd.domain(FailureDomain.HOST) for osd in members)
    racks = Counter(osd.domain(FailureDomain.RACK) for osd in members)
    missing = wanted - hosts.total()
    left = list(candidates)
    chosen: list[int] = []
    while left and len(chosen) < missing:
        best = min(
            left,
            key=lambda each: (
                hosts[each.osd.domain(FailureDomain.HOST)],
                racks[each.osd.domain(FailureDomain.RACK)],
                each.preferred,
                each.osd.id,
            ),
        )
        left.remove(best)
        hosts[best.osd.domain(FailureDomain.HOST)] += 1
        racks[best.osd.domain(FailureDomain.RACK)] += 1
        chosen.append(int(best.osd.id))
    return chosen
