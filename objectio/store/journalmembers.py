"""Which devices have the metadata journal: few, far apart, and the same ones as long as they work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from objectio.model.cluster import FailureDomain, Osd


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
