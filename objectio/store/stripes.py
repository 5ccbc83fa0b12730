"""One stripe being read: where its shards are, which of them to read, and what is made of them.

A shard is looked for at the OSD that has its position and, while its placement group moves, at the
one that had it. Only what neither has, although both are up, is missing.

Reads are *hedged*: what a slow device has is made up for from the other shards, as what is lost is;
whichever is there first. Only where there are too few others is a slow device waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from typing import Final

from typing_extensions import Buffer

from objectio.errors import (
    ChecksumMismatch,
    DeviceFailed,
    InsufficientShards,
    NotFound,
    StorageError,
)
from objectio.limits import KIB
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.lanes import Batch, Job, Read
from objectio.store.pools import HOLE, Pool, Pools
from objectio.store.readers import Readers

DECODE_INLINE_BYTES: Final = 64 * KIB
"""Up to here a hand-off to a thread costs more than the arithmetic."""

_COST: Final = 1.0
_COST_UNDER_WAY: Final = 0.5
COST_SLOW: Final = 1000.0
"""More than all the others of a stripe together."""
_LOOKS_MAX: Final = 3
"""How often a shard that is nowhere is looked for anew because its group has moved meanwhile."""


class Stripes:
    """Opens stripes of all pools for reading. Decoding of large ones runs in `executor`."""

    def __init__(self, pools: Pools, readers: Readers, executor: Executor) -> None:
        self.pools = pools
        self.readers = readers
        self.executor = executor
        self.hedged = 0
        """Stripes for which something was read in place of what a slow device has."""
        self.degraded = 0
        """Stripes for which something was read in place of what is lost."""

    def open(self, ref: BlobRef, number: int) -> Stripe:
        return Stripe(self, ref, number)


class Stripe:
    """`lost` are positions that cannot be had; `damaged` is the mask of those whose devices are up
    and yet do not have the shard as it was written. For one task at a time."""

    def __init__(self, stripes: Stripes, ref: BlobRef, number: int) -> None:
        self.pool: Pool = stripes.pools.get(ref.pool)
        self.size = self.pool.stripe_bytes(ref.size, number)
        self.length = self.pool.code.shard_length(self.size)
        self.lost: set[int] = set()
        self.damaged = 0
        self._ref = ref
        self._number = number
        self._stripes = stripes
        self._readers = stripes.readers
        self._slow = stripes.readers.times.slow
        self._members = self.pool.members(ref.blob)
        self._searches: dict[int, _Search] = {}
        self._got: dict[Read, Buffer] = {}
        self._under_way: dict[Read, Job] = {}
        self._batches: list[Batch] = []
        self._waiter: asyncio.Future[None] | None = None

    # What callers ask for.

    async def fetch(self, wanted: Mapping[int, tuple[int, int]]) -> dict[int, Buffer]:
        """The ranges by position, hedged. Raises `InsufficientShards`."""
        ranges = {position: Read(position, *span) for position, span in wanted.items()}
        hedged = False
        try:
            while True:
                missing = [each for each in ranges if not self._has(ranges[each])]
                if not missing:
                    break
                hard = [each for each in missing if each in self.lost or self._is_slow(each)]
                if not hard:
                    await self._read(ranges[position] for position in missing)
                    continue
                hedged = hedged or any(each not in self.lost for each in hard)
                reads = [ranges[position] for position in missing if position not in hard]
                sources = self._sources(hard, reads)
                if self._must_wait(sources):
                    slow = [ranges[position] for position in hard if position not in self.lost]
                    await self._read((*reads, *slow, *self._whole(self._available())))
                    continue
                whole = self._whole(sources)
                if not reads and all(each in self._got for each in whole):
                    made = await self._make(hard, sources)
                    self._got.update({Read(at, 0, self.length): each for at, each in made.items()})
                    continue
                partial = [each for each in reads if each.position not in sources]
                await self._read((*partial, *whole))
        finally:
            self._drop()
            self._stripes.hedged += hedged
            self._stripes.degraded += bool(self.lost)
        return {position: self._take(each) for position, each in ranges.items()}

    # Choosing.

    def _is_slow(self, position: int) -> bool:
        if not self._slow:
            return False
        search = self._searches.get(position)
        return (self._members[position] if search is None else search.osd) in self._slow

    def _sources(self, want: Collection[int], reads: Collection[Read]) -> frozenset[int]:
        """The cheapest shards to make `want` from; `reads` are made in any case."""
        code = self.pool.code
        cost: dict[int, float] = {}
        for position in range(code.width):
            whole = Read(position, 0, self.length)
            if whole in self._got:
                cost[position] = 0.0
            elif position in self.lost:
                continue
            elif self._is_slow(position):
                cost[position] = COST_SLOW
            else:
                cost[position] = _COST_UNDER_WAY if whole in reads else _COST
        try:
            return code.minimum_to_decode(frozenset(want), cost)
        except InsufficientShards as error:
            raise InsufficientShards(
                f"{len(cost)} of {code.width} shards can be read, {code.k} are needed",
                blob=self._ref.blob.hex(),
                stripe=self._number,
            ) from error

    def _available(self) -> list[int]:
        return [each for each in range(self.pool.code.width) if each not in self.lost]

    def _must_wait(self, sources: Iterable[int]) -> bool:
        """Whether these cannot be had without a slow device: then whichever answers first will do,
        and all are asked."""
        return bool(self._slow) and any(
            self._is_slow(each) and Read(each, 0, self.length) not in self._got for each in sources
        )

    def _whole(self, positions: Iterable[int]) -> list[Read]:
        return [Read(position, 0, self.length) for position in positions]

    async def _make(self, want: Collection[int], sources: Iterable[int]) -> dict[int, Buffer]:
        have = {position: self._got[Read(position, 0, self.length)] for position in sources}
        code = self.pool.code
        if self.size <= DECODE_INLINE_BYTES:
            return dict(code.reconstruct(have, want, self.size))
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(
            self._stripes.executor, code.reconstruct, have, want, self.size
        )
        return dict(made)

    def _has(self, read: Read) -> bool:
        return read in self._got or Read(read.position, 0, self.length) in self._got

    def _take(self, read: Read) -> Buffer:
        got = self._got.get(read)
        if got is not None:
            return got
        return memoryview(self._got[Read(read.position, 0, self.length)])[read.begin : read.end]

    # Reading.

    async def _read(self, reads: Iterable[Read]) -> None:
        """Have the reads under way that are not yet, and return when anything has changed."""
        jobs: list[Job] = []
        lost = len(self.lost)
        for read in reads:
            if read in self._under_way or self._has(read):
                continue
            job = self._plan(read)
            if job is None:
                continue
            self._under_way[read] = job
            if job.plan is None:
                key = ShardKey(BlobId(self._ref.blob), self._number, read.position)
                self._batches.append(self._readers.read_remote(job, key, self._wake))
            elif job.osd in self._slow:
                self._batches.append(self._readers.read_apart(job, self._wake))
            else:
                jobs.append(job)
        if jobs:
            self._batches.append(self._readers.read(jobs, self._wake))
        if len(self.lost) != lost:
            return  # then other shards may be needed at once
        if not self._absorb():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._absorb()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _absorb(self) -> bool:
        """Take what the batches have so far. Returns whether there was anything."""
        news = False
        left: list[Batch] = []
        for batch in self._batches:
            if not batch.ended:  # to be asked before its results, or the last ones may be missed
                left.append(batch)
            while batch.results:
                job, result = batch.results.popitem()
                news = True
                self._under_way.pop(job.read, None)
                if isinstance(result, BaseException):
                    self._failed(job.read.position, job.osd, result)
                else:
                    self._got[job.read] = result
            while batch.skipped:
                news = True
                self._under_way.pop(batch.skipped.popleft().read, None)
        self._batches = left
        return news

    def _drop(self) -> None:
        for batch in self._batches:
            self._readers.drop(batch)
        self._batches.clear()
        self._under_way.clear()

    # Finding.

    def _plan(self, read: Read) -> Job | None:
        """A read at the next place where the shard may be; None if it is lost."""
        position = read.position
        readers = self._readers
        key = ShardKey(BlobId(self._ref.blob), self._number, position)
        while position not in self.lost:
            search = self._searches.get(position)
            osd = self._members[position] if search is None else search.osd
            store = readers.stores.get(osd)
            if store is None:
                self._failed(position, osd, None)
                continue
            try:
                plan = store.plan_read(key, read.begin, read.end - read.begin)
            except StorageError as error:
                self._failed(position, osd, error)
                continue
            return Job(read, osd, readers.times.of(osd), plan)
        return None

    def _failed(self, position: int, osd: int, error: BaseException | None) -> None:
        """A place does not have the shard, or cannot be asked; go on to the next one."""
        if isinstance(error, ChecksumMismatch):
            self.damaged |= 1 << position
        elif error is not None and not isinstance(error, NotFound | DeviceFailed):
            raise error
        search = self._searches.get(position)
        if search is None:
            search = self._searches[position] = _Search(self._places(position))
        if search.osd == osd and not search.go_on(absent=isinstance(error, NotFound)):
            self._look_anew(position, search)

    def _look_anew(self, position: int, search: _Search) -> None:
        """The shard is at none of its places. If they have changed since, it may have moved."""
        self.pool = self._stripes.pools.get(self._ref.pool)
        places = self._places(position)
        if places != search.places and search.looks < _LOOKS_MAX:
            self._searches[position] = _Search(places, search.looks + 1)
            return
        self.lost.add(position)
        if search.nowhere:
            self.damaged |= 1 << position

    def _places(self, position: int) -> tuple[int, ...]:
        """Where to look, in order. A shard that moves is copied before it is taken away: if it is
        not at the old place any more, it is at the new one by now."""
        home = self.pool.members(self._ref.blob)[position]
        former = self.pool.former(self._ref.blob)
        if former is None or former[position] in (home, HOLE):
            return (home,)
        return (home, former[position], home)


class _Search:
    """The places of one shard, one after the other."""

    def __init__(self, places: tuple[int, ...], looks: int = 0) -> None:
        self.places = places
        self.looks = looks
        self.nowhere = True
        """Every place so far is up and does not have it."""
        self._at = 0

    @property
    def osd(self) -> int:
        return self.places[self._at]

    def go_on(self, *, absent: bool) -> bool:
        """To the next place; False if there is none."""
        self.nowhere = self.nowhere and absent
        if self._at + 1 == len(self.places):
            return False
        self._at += 1
        return True
