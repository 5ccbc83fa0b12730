"""The reference placement: weighted rendezvous hashing in plain Python.

Each position of a group holds its own draw. A draw gives OSD i, of weight w, the straw

    -ln(h) / w        h = hash(group, position, i), uniform in (0, 1]

and the shortest straw wins (Weil et al., "CRUSH", and Schindelhauer and Schomaker, "Weighted
Distributed Hash Tables"). -ln(h) / w is exponentially distributed with rate w, and the shortest of
several such straws is so with the sum of their rates: drawing disks is therefore the same as first
drawing a host by its total weight and then a disk within it, and an OSD that comes or goes changes
only the draws that it wins. Positions draw one after the other, each among the failure domains
that are still free.

The logarithm is decimal's, which is correctly rounded and so the same on every machine; the C
library's is not.
"""

from __future__ import annotations

import decimal
import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Sequence

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.abc.placement import Placed, Placement
from objectio.model.cluster import ClusterMap, FailureDomain, Osd, OsdId, PlacementRule

_DRAW = struct.Struct(">QQQ")
_ARITHMETIC = decimal.Context(prec=20)
_HASHES = decimal.Decimal(1 << 53)


class RendezvousPlacement:
    """See the module. Has no state."""

    def place(self, group: int, cluster: ClusterMap, rule: PlacementRule) -> Placed:
        usable = [osd for osd in cluster.osds if osd.in_ and osd.weight > 0]
        level = spread_level(usable, rule)
        wider = levels_between(rule.failure_domain, level)
        taken: Counter[str] = Counter()
        members: list[OsdId | None] = []
        for position in range(rule.width):
            free = [osd for osd in usable if not taken[osd.domain(level)]]
            if not free:
                members.append(None)
                continue
            least = min(_crowding(osd, wider, taken) for osd in free)
            winner = _draw(
                group, position, [osd for osd in free if _crowding(osd, wider, taken) == least]
            )
            members.append(winner.id)
            taken.update({winner.domain(each) for each in (*wider, level)})
        return Placed(tuple(members), level)


def spread_level(usable: Iterable[Osd], rule: PlacementRule) -> FailureDomain:
    """The widest level, from the rule's downwards, that has a domain for each member."""
    osds = list(usable)
    level = rule.failure_domain
    while len({osd.domain(level) for osd in osds}) < rule.width:
        smaller = level.next_smaller
        if smaller is None:
            break
        level = smaller
    return level


def levels_between(wanted: FailureDomain, level: FailureDomain) -> tuple[FailureDomain, ...]:
    """The levels that the rule wanted and could not have, from wide to narrow."""
    every = list(FailureDomain)
    return tuple(every[every.index(wanted) : every.index(level)])


def _crowding(osd: Osd, wider: Sequence[FailureDomain], taken: Counter[str]) -> tuple[int, ...]:
    """How many members already stand in the wider domains of an OSD; the least crowded go first,
    so that a fallback is spread as evenly as it can be."""
    return tuple(taken[osd.domain(level)] for level in wider)


def _draw(group: int, position: int, osds: Iterable[Osd]) -> Osd:
    """The OSD of the shortest straw; of equal ones, that of the lowest id."""
    largest: dict[float, tuple[int, Osd]] = {}
    for osd in osds:
        h = _hash(group, position, osd)
        if osd.weight not in largest or h > largest[osd.weight][0]:
            largest[osd.weight] = (h, osd)
    # Among equal weights the largest hash has the shortest straw: only these need a logarithm.
    return min(largest.values(), key=lambda each: (_straw(*each), each[1].id))[1]


def _hash(group: int, position: int, osd: Osd) -> int:
    """1 … 2^53."""
    digest = hashlib.blake2b(_DRAW.pack(group, position, osd.id), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) + 1


def _straw(h: int, osd: Osd) -> decimal.Decimal:
    fraction = _ARITHMETIC.divide(decimal.Decimal(h), _HASHES)
    return _ARITHMETIC.divide(-_ARITHMETIC.ln(fraction), decimal.Decimal(osd.weight))


def _open(config: NoConfig, context: Context) -> Placement:
    return RendezvousPlacement()


DRIVER: Driver[NoConfig, Placement] = Driver(
    name="rendezvous",
    config=NoConfig,
    open=_open,
    summary="weighted rendezvous hashing in plain Python: the reference",
    rank=0,
    threads=ThreadModel.PARALLEL,
)
