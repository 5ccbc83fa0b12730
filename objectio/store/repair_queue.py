"""What repair does next: jobs by margin, the least first.

The queue is bounded. What does not fit, or is pushed out by something more urgent, still stands in
its row, and is found again when there is room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from objectio.meta.records import BlobRef
from objectio.store.repair_blob import Mended


@dataclass(slots=True, eq=False)
class Job:
    """One blob to be made whole.

    suspects    positions that are to be read, whatever the index says
    examine     read every stripe whole: its shards are intact, and do not fit together
    late        positions of which damage was told while it ran
    row         the value of the blob's repair row, if it has one
    waiters     a walk that goes on when this is done
    """

    ref: BlobRef
    margin: int
    suspects: int = 0
    examine: bool = False
    row: bytes | None = None
    late: int = 0
    waiters: list[asyncio.Future[Mended]] = field(default_factory=list)

    def merge(self, other: Job) -> None:
        self.margin = min(self.margin, other.margin)
        self.suspects |= other.suspects
        self.examine |= other.examine
        self.row = other.row or self.row
        self.waiters += other.waiters


class JobQueue:
    """Of equal margins, first in, first out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_margin: dict[int, OrderedDict[bytes, Job]] = {}
        self._margins: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._margins)

    def knows(self, blob: bytes, row: bytes) -> bool:
        """Whether a blob's job is for its row as it is. A walk's job for the blob is not: it goes
        with the walk."""
        margin = self._margins.get(blob)
        return margin is not None and self._by_margin[margin][blob].row == row

    def __iter__(self) -> Iterator[Job]:
        """In no order that means anything."""
        for jobs in self._by_margin.values():
            yield from jobs.values()

    @property
    def best_margin(self) -> int | None:
        return min((margin for margin, jobs in self._by_margin.items() if jobs), default=None)

    def push(self, job: Job) -> Job | None:
        """Take a job in, or add it to the one of the same blob. Returns the job that found no room
        or lost its own, whose row tells of it. A job that somebody waits for always has room."""
        left_out = None
        known = self.take(job.ref.blob)
        if known is not None:
            known.merge(job)
            job = known
        elif len(self) >= self._limit:
            left_out = self._worst()
            if left_out is not None and left_out.margin > job.margin:
                self.take(left_out.ref.blob)
            elif not job.waiters:
                return job
            else:
                left_out = None
        self._by_margin.setdefault(job.margin, OrderedDict())[job.ref.blob] = job
        self._margins[job.ref.blob] = job.margin
        return left_out

    def _worst(self) -> Job | None:
        """The last to have its turn, if nobody waits for it."""
        margin = max((margin for margin, jobs in self._by_margin.items() if jobs), default=None)
        if margin is None:
            return None
        jobs = reversed(self._by_margin[margin].values())
        return next((job for job in jobs if not job.waiters), None)

    def pop(self) -> Job | None:
        margin = self.best_margin
        if margin is None:
            return None
        blob, job = self._by_margin[margin].popitem(last=False)
        del self._margins[blob]
        return job

    def take(self, blob: bytes) -> Job | None:
        """Out of the order."""
        margin = self._margins.pop(blob, None)
        return None if margin is None else self._by_margin[margin].pop(blob)

    def sort_anew(self, margin_of: Callable[[Job], int]) -> None:
        jobs = list(self)
        self._by_margin.clear()
        self._margins.clear()
        for job in jobs:
            job.margin = margin_of(job)
            self._by_margin.setdefault(job.margin, OrderedDict())[job.ref.blob] = job
            self._margins[job.ref.blob] = job.margin
