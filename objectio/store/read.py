"""Reading blobs: the k data shards where they are whole, reconstruction where they are not.

Every byte that leaves here was verified by the device that holds it. A shard that is missing,
damaged or out of reach costs a reconstruction, and is reported to repair if its device is up; one
on a slow device costs a reconstruction and nothing else. The next stripe is fetched while the one
before is being sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.errors import StorageError
from objectio.limits import KIB
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pool, Pools
from objectio.store.stripes import DECODE_INLINE_BYTES, Stripes

_PIECE_BYTES_UNLENT: Final = 512 * KIB
"""What a reader may hold without asking the budget: slow clients then cannot use it up."""

Damage = Callable[[BlobRef, int], None]
"""Told of a blob and a bit mask of positions that must be repaired."""


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
        stripes: Stripes,
        budget: ByteBudget,
        damaged: Damage,
    ) -> None:
        self.stripes = stripes
        self._stores = stripes.readers.stores
        self._slow = stripes.readers.times.slow
        self._pools = stripes.pools
        self._budget = budget
        self._damaged = damaged

    def read_now(self, ref: BlobRef, start: int, length: int) -> Buffer | None:
        """The range of a blob of one stripe, if it can be had without waiting."""
        pool = self._pools.get(ref.pool)
        if ref.size > pool.stripe_size_bytes:
            return None
        shard_bytes = pool.code.shard_length(ref.size)
        members = pool.members(ref.blob)
        first, last = start // shard_bytes, (start + length - 1) // shard_bytes
        blob, stores = BlobId(ref.blob), self._stores
        pieces: list[Buffer] = []
        for position in range(first, last + 1):
            try:
                piece = stores[members[position]].read_now(ShardKey(blob, 0, position))
            except (KeyError, StorageError):
                piece = self._former_now(pool, ref, position) if pool.moving else None
            if piece is None:
                made = self._make_now(pool, ref, range(first, last + 1))
                if made is None:
                    return None
                pieces = made
                break
            pieces.append(piece)
        skip = start - first * shard_bytes
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return memoryview(whole)[skip : skip + length]

    def _former_now(self, pool: Pool, ref: BlobRef, position: int) -> Buffer | None:
        """The shard where it was before its group moved."""
        former = pool.former(ref.blob)
        if former is None:
            return None
        try:
            return self._stores[former[position]].read_now(ShardKey(BlobId(ref.blob), 0, position))
        except (KeyError, StorageError):
            return None

    def _make_now(self, pool: Pool, ref: BlobRef, wanted: range) -> list[Buffer] | None:
        """The shards, those computed whose devices are slow or down; None if others are not at hand
        or damaged: that is for those who can wait, and report it."""
        if ref.size > DECODE_INLINE_BYTES or pool.moving:
            return None
        members, stores, slow = pool.members(ref.blob), self._stores, self._slow
        cost = {
            position: 1.0
            for position, osd in enumerate(members)
            if osd in stores and osd not in slow
        }
        missing = [position for position in wanted if position not in cost]
        if not missing:
            return None
        try:
            sources = pool.code.minimum_to_decode(missing, cost)
            have: dict[int, Buffer] = {}
            for position in sources.union(wanted).difference(missing):
                piece = stores[members[position]].read_now(ShardKey(BlobId(ref.blob), 0, position))
                if piece is None:
                    return None
                have[position] = piece
            have.update(pool.code.reconstruct(have, missing, ref.size))
        except StorageError:
            return None
        return [have[position] for position in wanted]

    @property
    def slow(self) -> Collection[int]:
        """The OSDs whose devices take much longer than the others to answer."""
        return frozenset(self._slow)

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
        stripe = self.stripes.open(span.ref, span.stripe)
        shard_bytes = stripe.length
        first, last = span.begin // shard_bytes, (span.end - 1) // shard_bytes
        wanted = {
            position: (
                max(span.begin - position * shard_bytes, 0),
                min(span.end - position * shard_bytes, shard_bytes),
            )
            for position in range(first, last + 1)
        }
        try:
            found = await stripe.fetch(wanted)
        finally:
            if stripe.damaged:
                self._damaged(span.ref, stripe.damaged)
        return list(found.values())


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
