"""The next step of one group on its way to the members that it ought to have.

A group moves position by position, each of them from one OSD to another, and all at once: a *move* has
a new OSD for some positions. Until it ends every blob that was written before has its whole stripe at
the former members, and every blob that was written since has it at the new ones. A step may change a
move under way, as long as no shard that can be had gets out of sight:

- The new OSD is gone for good: the position goes to another one instead; the old shards are where they
  were, and those that only the lost OSD had are made anew, as any lost shard is.
- The new OSD is full: the position goes back to where it came from, and what the full one has of new
  blobs goes there, too. If the old OSD is gone for good, the position goes on to a third one.
- Another OSD of the group is gone for good: its position joins the move.

Everything else waits: a move ends first, then the group may move again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from objectio.placement.balance import Members

HOLE: Final = -1


class Step(NamedTuple):
    """The rows of a group that moves. `restarted` are positions of which nothing is known any more:
    every blob must be looked at there."""

    members: Members
    former: Members
    changed: tuple[int, ...]
    restarted: tuple[int, ...]


class Osds(NamedTuple):
    """`up` can take shards; `gone` are out for good, and so is what they have; `full` cannot take
    any more."""

    up: Collection[int]
    gone: Collection[int]
    full: Collection[int] = ()


def begin(members: Members, target: Sequence[int], osds: Osds) -> Step | None:
    """The move of a group that rests; None if it has no reason to, or nowhere to go now."""
    changed = tuple(
        position
        for position, (now, then) in enumerate(zip(members, target, strict=True))
        if then != now and then in osds.up and then not in osds.full
    )
    new = list(members)
    for position in changed:
        new[position] = target[position]
    if not changed or not _distinct(new):
        return None
    return Step(tuple(new), members, changed, changed)


def redirect(
    members: Members,
    former: Members,
    changed: Sequence[int],
    target: Sequence[int],
    osds: Osds,
) -> Step | None:
    """What becomes of a move under way; None if it goes on as it is."""
    new, old = list(members), list(former)
    restarted: list[int] = []
    for position, (now, then) in enumerate(zip(members, former, strict=True)):
        want = target[position]
        free = want != now and want in osds.up and want not in osds.full and want not in new
        if position not in changed:
            if now in osds.gone and free:
                new[position], old[position] = want, now
                restarted.append(position)
        elif now in osds.gone:
            if free:
                new[position] = want
                restarted.append(position)
        elif now in osds.full and now != then:
            if then in osds.up and then not in osds.full and then not in new:
                new[position], old[position] = then, now
                restarted.append(position)
            elif (then in osds.gone or then == HOLE) and free:
                new[position], old[position] = want, now
                restarted.append(position)
    if not restarted:
        return None
    return Step(tuple(new), tuple(old), tuple(sorted({*changed, *restarted})), tuple(restarted))


def _distinct(members: Sequence[int]) -> bool:
    real = [osd for osd in members if osd != HOLE]
    return len(set(real)) == len(real)
