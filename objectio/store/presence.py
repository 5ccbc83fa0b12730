"""Who uses blobs at this moment, in whichever process.

Whoever takes shards off devices must know that nobody is writing them, so that they will have an
owner in a moment, or reading them. What a process uses stands in its `BlobsInUse`; a `Presence`
answers for all processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from typing import NamedTuple, Protocol

from objectio.meta.records import BlobRef


class Survey(NamedTuple):
    """`active` are blobs under way to the commit that gives them an owner; `pinned` are being read."""

    active: Set[bytes]
    pinned: Set[bytes]


class Presence(Protocol):
    async def survey(self) -> Survey:
        """Every blob that any process used at some moment after the call began.

        When it returns, each process has taken over pools, groups and moves as they were committed
        when the call began, and answered after that. One that did not answer within its lease is
        fenced: nothing of it is committed any more. So a blob that is not `active`
        has an owner in a row that can be read now, or never will have one; and a blob that is not
        `pinned` will only be read by who finds its row after this.
        """
        ...


class BlobsInUse:
    """Those of this process. As a `Presence` it answers for a store that one process has alone."""

    def __init__(self) -> None:
        self.active: set[bytes] = set()
        self.pins: Counter[bytes] = Counter()

    def pin(self, refs: Iterable[BlobRef]) -> None:
        for ref in refs:
            self.pins[ref.blob] += 1

    def unpin(self, refs: Iterable[BlobRef]) -> None:
        for ref in refs:
            self.pins[ref.blob] -= 1
            if not self.pins[ref.blob]:
                del self.pins[ref.blob]

    async def survey(self) -> Survey:
        """The sets themselves, which go on changing."""
        return Survey(self.active, self.pins.keys())


class Upkeep(Protocol):
    """What serving has to tell whoever keeps the store in order, in this process or another. None of
    these waits; what is told is also in rows, or found by the next scrub, should it get lost."""

    def abandon(self, ref: BlobRef) -> None:
        """A blob whose write, or the commit that was to own it, failed or was cut off. It is
        `active`, and ceases to be once this is dealt with."""
        ...

    def damaged(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None:
        """Shards are missing or damaged on devices that are up; `examine`: they are intact, and do
        not belong where they are."""
        ...

    def garbage(self) -> None:
        """There are new rows of garbage."""
        ...

    def repairs(self) -> None:
        """There are new rows of blobs to repair."""
        ...
