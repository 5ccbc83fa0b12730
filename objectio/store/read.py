"""Reading blobs: the k data shards where they are whole, reconstruction where they are not.

Every byte that leaves here was verified by the device that holds it. A shard that is missing,
damaged or out of reach costs a reconstruction, and is reported to repair if its device is up.
The next stripe is fetched while the one before is being sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import ShardStore
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
from objectio.store.devices import Devices
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pool, Pools

_PIECE_BYTES_UNLENT: Final = 512 * KIB
"""What a reader may hold without asking the budget: slow clients then cannot use it up."""

Damage = Callable[[BlobRef, int], None]
"""Told of a blob and a bit mask of positions that must be repaired."""

Plan = Callable[[], Buffer]


class _Span(NamedTuple):
    """Bytes [begin, end) of one stripe of one blob."""

    ref: BlobRef
    stripe: int
    begin: int
    end: int


@dataclass(slots=True)
class _Fetch:
    task: asyncio.Task[list[Buffer]]
    lent_bytes: int


class BlobReads:
    """Reads from all pools."""

    def __init__(
        self,
        devices: Devices,
        pools: Pools,
        executor: Executor,
        budget: ByteBudget,
        damaged: Damage,
    ) -> None:
        self._stores = devices.stores
        self._pools = pools
        self._executor = executor
        self._budget = budget
        self._damaged = damaged

    def read_now(self, ref: BlobRef, start: int, length: int) -> Buffer | None:
        """The range of a blob of one stripe, if every data shard can be had without waiting."""
        pool = self._pools.get(ref.pool)
        if ref.size > pool.stripe_size_bytes:
            return None
        code = pool.code
        shard_bytes = code.shard_length(ref.size)
        members = pool.members(ref.blob)
        first, last = start // shard_bytes, (start + length - 1) // shard_bytes
        blob, stores = BlobId(ref.blob), self._stores
        pieces: list[Buffer] = []
        try:
            for position in range(first, last + 1):
                piece = stores[members[position]].read_now(ShardKey(blob, 0, position))
                if piece is None:
                    return None
                pieces.append(piece)
        except (KeyError, StorageError):
            return None  # the slow path knows what to do about it
        skip = start - first * shard_bytes
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return memoryview(whole)[skip : skip + length]

    async def stream(
        self, refs: Sequence[BlobRef], start: int, length: int
    ) -> AsyncGenerator[Buffer, None]:
        """The bytes of the blobs, one behind the other, from `start` on."""
        spans = _Spans(self._pools, refs, start, start + length)
        current = self._fetch(spans)
        ahead: _Fetch | None = None
        try:
            while current is not None:
                buffers = await current.task
                ahead = self._fetch(spans)
                for buffer in buffers:
                    yield buffer
                self._budget.release(current.lent_bytes)
                current, ahead = ahead, None
        finally:
            for fetch in (current, ahead):
                if fetch is not None:
                    await self._drop(fetch)

    def _fetch(self, spans: _Spans) -> _Fetch | None:
        """Start reading the next span: a whole stripe if there is memory for it, else a piece."""
        size = spans.left_in_stripe()
        if size == 0:
            return None
        lent = 0
        if size > _PIECE_BYTES_UNLENT:
            if self._budget.try_acquire(size):
                lent = size
            else:
                size = _PIECE_BYTES_UNLENT
        span = spans.take(size)
        return _Fetch(asyncio.get_running_loop().create_task(self._read_span(span)), lent)

    async def _drop(self, fetch: _Fetch) -> None:
        fetch.task.cancel()
        await asyncio.gather(fetch.task, return_exceptions=True)
        self._budget.release(fetch.lent_bytes)

    async def _read_span(self, span: _Span) -> list[Buffer]:
        pool = self._pools.get(span.ref.pool)
        shard_bytes = pool.code.shard_length(pool.stripe_bytes(span.ref.size, span.stripe))
        first, last = span.begin // shard_bytes, (span.end - 1) // shard_bytes
        stripe = _Stripe(pool, span.ref, span.stripe, self._stores)
        wanted = {
            position: (
                max(span.begin - position * shard_bytes, 0),
                min(span.end - position * shard_bytes, shard_bytes),
            )
            for position in range(first, last + 1)
        }
        loop = asyncio.get_running_loop()
        direct = await stripe.read(wanted, loop, self._executor)
        if len(direct) == len(wanted):
            return [direct[position] for position in wanted]
        whole = {at: each for at, each in direct.items() if wanted[at] == (0, shard_bytes)}
        try:
            data = await stripe.decode(whole, loop, self._executor)
        finally:
            if stripe.damaged:
                self._damaged(span.ref, stripe.damaged)
        return [memoryview(data[position])[begin:end] for position, (begin, end) in wanted.items()]

    async def verify(self, ref: BlobRef, stripe_number: int) -> int:
        """Read every shard of a stripe. Returns the mask of positions whose device is up and yet
        does not have the shard as it was written."""
        pool = self._pools.get(ref.pool)
        stripe = _Stripe(pool, ref, stripe_number, self._stores)
        length = pool.code.shard_length(pool.stripe_bytes(ref.size, stripe_number))
        wanted = dict.fromkeys(range(pool.code.width), (0, length))
        await stripe.read(wanted, asyncio.get_running_loop(), self._executor)
        return stripe.damaged

    async def mend(
        self, ref: BlobRef, stripe_number: int, suspects: Sequence[int]
    ) -> dict[int, Buffer]:
        """For repair: those of the suspect shards that their devices do not have, or have damaged,
        made anew from the others. A suspect that reads well is no suspect any more: in a blob of
        many stripes each may have lost another shard, and more shards be suspect than may be lost.
        """
        pool = self._pools.get(ref.pool)
        stripe = _Stripe(pool, ref, stripe_number, self._stores)
        length = pool.code.shard_length(pool.stripe_bytes(ref.size, stripe_number))
        loop = asyncio.get_running_loop()
        have = await stripe.read(dict.fromkeys(suspects, (0, length)), loop, self._executor)
        want = [position for position in suspects if position not in have]
        if not want:
            return {}
        known = stripe.damaged
        try:
            return await stripe.reconstruct(have, want, loop, self._executor)
        finally:
            if found := stripe.damaged & ~known:
                self._damaged(ref, found)


class _Spans:
    """Walks a range over several blobs, never across the end of a stripe."""

    def __init__(self, pools: Pools, refs: Sequence[BlobRef], start: int, end: int) -> None:
        self._rest: Iterator[tuple[BlobRef, int, int]] = _ranges(refs, start, end)
        self._pools = pools
        self._at: tuple[BlobRef, int, int] | None = next(self._rest, None)

    def left_in_stripe(self) -> int:
        if self._at is None:
            return 0
        ref, begin, end = self._at
        stripe_bytes = self._pools.get(ref.pool).stripe_size_bytes
        return min(end, (begin // stripe_bytes + 1) * stripe_bytes) - begin

    def take(self, size: int) -> _Span:
        assert self._at is not None
        ref, begin, end = self._at
        stripe_bytes = self._pools.get(ref.pool).stripe_size_bytes
        stripe, offset = divmod(begin, stripe_bytes)
        if begin + size < end:
            self._at = (ref, begin + size, end)
        else:
            self._at = next(self._rest, None)
        return _Span(ref, stripe, offset, offset + size)


def _ranges(refs: Sequence[BlobRef], start: int, end: int) -> Iterator[tuple[BlobRef, int, int]]:
    """(blob, begin, end) of the parts of [start, end) that each blob holds."""
    base = 0
    for ref in refs:
        begin, stop = max(start - base, 0), min(end - base, ref.size)
        if begin < stop:
            yield ref, begin, stop
        base += ref.size


@dataclass(slots=True)
class _Stripe:
    """One stripe being read. `lost` are positions that cannot be had; `damaged` is the mask of
    those whose device is up and yet does not have the shard as it was written."""

    pool: Pool
    ref: BlobRef
    number: int
    stores: dict[int, ShardStore]
    lost: set[int] = field(default_factory=set)
    damaged: int = 0

    async def read(
        self,
        wanted: dict[int, tuple[int, int]],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> dict[int, Buffer]:
        """What can be had of the ranges, by position; the others are then in `lost`.

        All shards on this machine are read by one worker thread, in one hop; remote ones at the
        same time over their channels.
        """
        members = self.pool.members(self.ref.blob)
        local: dict[int, Plan] = {}
        remote: dict[int, asyncio.Future[Buffer]] = {}
        for position, (begin, end) in wanted.items():
            store = self.stores.get(members[position])
            if store is None:
                self.lost.add(position)
                continue
            key = ShardKey(BlobId(self.ref.blob), self.number, position)
            try:
                plan = store.plan_read(key, begin, end - begin)
            except StorageError as error:
                self._lose(position, error)
                continue
            if plan is not None:
                local[position] = plan
            else:
                remote[position] = asyncio.ensure_future(store.read(key, begin, end - begin))
        results: dict[int, Buffer | BaseException] = {}
        if local:
            results.update(await loop.run_in_executor(executor, _run_plans, local))
        if remote:
            answers = await asyncio.gather(*remote.values(), return_exceptions=True)
            results.update(zip(remote, answers, strict=True))
        got: dict[int, Buffer] = {}
        for position, result in results.items():
            if isinstance(result, BaseException):
                self._lose(position, result)
            else:
                got[position] = result
        return got

    def _lose(self, position: int, error: BaseException) -> None:
        self.lost.add(position)
        if isinstance(error, NotFound | ChecksumMismatch):
            self.damaged |= 1 << position
        elif not isinstance(error, DeviceFailed):
            raise error

    async def _gather(
        self,
        have: dict[int, Buffer],
        want: Sequence[int],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> dict[int, Buffer]:
        """Enough whole shards to compute `want`, those of `have` among them; tries others as long
        as some fail."""
        code = self.pool.code
        length = code.shard_length(self.pool.stripe_bytes(self.ref.size, self.number))
        while True:
            cost = {
                position: 0.0 if position in have else 1.0
                for position in range(code.width)
                if position not in self.lost
            }
            try:
                needed = code.minimum_to_decode(frozenset(want), cost)
            except InsufficientShards as error:
                raise InsufficientShards(
                    f"{len(cost)} of {code.width} shards can be read, {code.k} are needed",
                    blob=self.ref.blob.hex(),
                    stripe=self.number,
                ) from error
            unread = {position: (0, length) for position in needed if position not in have}
            if not unread:
                return have
            have.update(await self.read(unread, loop, executor))

    async def decode(
        self,
        have: dict[int, Buffer],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> list[Buffer]:
        """All k data shards; `have` are whole ones that were read already."""
        code = self.pool.code
        have = await self._gather(have, range(code.k), loop, executor)
        size = self.pool.stripe_bytes(self.ref.size, self.number)
        return await loop.run_in_executor(executor, code.decode_stripe, have, size)

    async def reconstruct(
        self,
        have: dict[int, Buffer],
        want: Sequence[int],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> dict[int, Buffer]:
        code = self.pool.code
        have = await self._gather(have, want, loop, executor)
        size = self.pool.stripe_bytes(self.ref.size, self.number)
        made = await loop.run_in_executor(executor, code.reconstruct, have, want, size)
        return dict(made)


def _run_plans(plans: dict[int, Plan]) -> dict[int, Buffer | BaseException]:
    results: dict[int, Buffer | BaseException] = {}
    for position, plan in plans.items():
        try:
            results[position] = plan()
        except Exception as error:
            results[position] = error
    return results
