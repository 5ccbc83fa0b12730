"""Which OSDs the groups move to when the cluster map has changed.

The members of each group are written down, so what must move follows from what is there: nothing
else moves. Three things move a member:

- its OSD takes no groups any more: it is draining, out, or has no weight;
- too many members of its group stand in one failure domain, and there are better places by now;
- its OSD has more groups than its share, and another one has fewer.

A position is the index of a shard, so members that stay keep theirs, and a newcomer takes the
position of the one that it replaces. An OSD that is new gets its share and no more, from those that
have most above theirs. In which of the groups, the placement says, as far as shares allow: its
answers alone, one group at a time, move up to 1.7 times that where hosts or racks count.

Pure, and the same in every process; applied to its own result it changes nothing.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import xxhash

from objectio.model.cluster import ClusterMap, PlacementRule
from objectio.placement.spread import Spread

SLACK: Final = 0.05
"""An OSD is left alone while it is within so much of its share."""

_PAIR: Final = struct.Struct(">qq")
_NEVER: Final = 1e9

Members = tuple[int, ...]
Preference = Callable[[int], Collection[int | None]]
"""The members that the placement would choose for a group."""


def balance(
    rows: Sequence[Sequence[int]],
    cluster: ClusterMap,
    rule: PlacementRule,
    prefer: Preference,
    *,
    receivers: Collection[int] | None = None,
    slack: float = SLACK,
) -> list[Members]:
    """The members of each group after the move. Only `receivers` (all, if None) get anything new,
    and a position that none of them can fill stays as it is."""
    state = _Balance(rows, Spread(cluster, rule), prefer, receivers, slack)
    state.replace()
    state.fill()
    state.relieve()
    return [tuple(row) for row in state.rows]


class _Balance:
    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        spread: Spread,
        prefer: Preference,
        receivers: Collection[int] | None,
        slack: float,
    ) -> None:
        self.rows = [list(row) for row in rows]
        self.spread = spread
        self.over = {osd: -quota for osd, quota in spread.quotas(len(rows)).items()}
        """How many positions each usable OSD has above its share."""
        self.slack = {osd: max(1.0, -slack * over) for osd, over in self.over.items()}
        self.receivers = [osd for osd in self.over if receivers is None or osd in receivers]
        self._prefer = prefer
        self._preferred: dict[int, frozenset[int | None]] = {}
        self._at: Counter[tuple[int, int]] = Counter()
        """How often each OSD has each position."""
        for row in rows:
            for position, osd in enumerate(row):
                self._at[osd, position] += 1
                if osd in self.over:
                    self.over[osd] += 1

    def preferred(self, group: int) -> frozenset[int | None]:
        if group not in self._preferred:
            self._preferred[group] = frozenset(self._prefer(group))
        return self._preferred[group]

    def put(self, group: int, position: int, osd: int) -> None:
        old, self.rows[group][position] = self.rows[group][position], osd
        if old in self.over:
            self.over[old] -= 1
        self.over[osd] += 1
        self._at[old, position] -= 1
        self._at[osd, position] += 1

    # What may not stay.

    def replace(self) -> None:
        for group, row in enumerate(self.rows):
            kept = self._kept(row)
            if len(kept) == len(row):
                continue
            members = [row[position] for position in sorted(kept)]
            for position in range(len(row)):
                if position in kept:
                    continue
                newcomer = self._newcomer(group, members, row)
                if newcomer is None:
                    continue
                members.append(newcomer)
                self.put(group, position, newcomer)

    def _kept(self, row: Sequence[int]) -> set[int]:
        """Positions whose members may stay: usable, and not too many in one domain."""
        kept: set[int] = set()
        members: list[int] = []
        able = [position for position, osd in enumerate(row) if osd in self.over]
        if len(able) == len(row) and not self.spread.crowded(row):
            return set(able)
        for position in sorted(able, key=lambda position: (self.over[row[position]], position)):
            if self.spread.fits(row[position], self.spread.crowd(members)):
                members.append(row[position])
                kept.add(position)
        return kept

    def _newcomer(self, group: int, members: Sequence[int], row: Sequence[int]) -> int | None:
        crowd = self.spread.crowd(members)
        able = [osd for osd in self.receivers if osd not in row and self.spread.fits(osd, crowd)]
        if not able:
            return None
        preferred = self.preferred(group)
        return min(
            able,
            key=lambda osd: (
                not (self.over[osd] <= -0.5 and osd in preferred),
                self.over[osd],
                osd,
            ),
        )

    # Shares.

    def fill(self) -> None:
        """Give those who have too little what others have too much."""
        hungry = [osd for osd in self.receivers if -self.over[osd] > self.slack[osd]]
        for osd in sorted(hungry, key=lambda osd: (self.over[osd], osd)):
            for enough in (0.5, -0.5):
                for group in self._groups_for(osd):
                    if self.over[osd] > -0.5:
                        break
                    self._give(group, osd, enough)

    def _groups_for(self, osd: int) -> Iterator[int]:
        """Those first in which the placement wants the OSD; the rest in an order of its own."""
        groups = [group for group, row in enumerate(self.rows) if osd not in row]
        yield from (group for group in groups if osd in self.preferred(group))
        others = [group for group in groups if osd not in self.preferred(group)]
        yield from sorted(others, key=lambda group: _mix(group, osd))

    def _give(self, group: int, osd: int, enough: float) -> None:
        """Put the OSD into the group in place of the member that has most, if any has enough; of
        several, at the position that it has least often, since data is read more than parity."""
        row = self.rows[group]

        def rank(position: int) -> tuple[float, int, int]:
            member = row[position]
            return -self.over.get(member, -_NEVER), self._at[osd, position], _mix(group, member)

        for position in sorted(range(len(row)), key=rank):
            surplus = self.over.get(row[position], -_NEVER)
            if surplus < enough or surplus - self.over[osd] <= 1:
                return
            if self._exchangeable(row, position, osd):
                self.put(group, position, osd)
                return

    def _exchangeable(self, row: Sequence[int], position: int, osd: int) -> bool:
        others = [member for at, member in enumerate(row) if at != position]
        return osd not in row and self.spread.fits(osd, self.spread.crowd(others))

    def relieve(self) -> None:
        """Take from those who have too much what others have room for."""
        full = [osd for osd, over in self.over.items() if over > self.slack[osd]]
        for osd in sorted(full, key=lambda osd: (-self.over[osd], osd)):
            groups = [group for group, row in enumerate(self.rows) if osd in row]
            for group in sorted(groups, key=lambda group: _mix(group, osd)):
                if self.over[osd] < 0.5:
                    break
                self._take(group, osd)

    def _take(self, group: int, osd: int) -> None:
        row = self.rows[group]
        position = row.index(osd)
        for other in sorted(self.receivers, key=lambda other: (self.over[other], other)):
            if self.over[osd] - self.over[other] <= 1:
                return
            if self._exchangeable(row, position, other):
                self.put(group, position, other)
                return


def _mix(group: int, osd: int) -> int:
    return xxhash.xxh3_64_intdigest(_PAIR.pack(group, osd))
