"""Writing a blob: payload → stripes → shards → devices, in bounded memory.

While one stripe is being filled from the client, the one before it is digested and encoded in a
worker thread, and those before that are on their way to the devices. Early stripes are handed to the
devices without waiting for a sync; the last one asks for it, and a sync covers everything that the
device was given before.

What a device failed to take at any point of the blob counts as missing for the whole blob: a failed
device makes no promise about earlier stripes either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.objects import Payload, PayloadDigests
from objectio.abc.shardstore import ShardCoordinates, ShardStore, ShardWrite
from objectio.errors import (
    DeviceFailed,
    DeviceFull,
    PayloadIncomplete,
    PayloadTooLarge,
    WriteQuorumFailed,
)
from objectio.limits import KIB
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey, new_blob_id
from objectio.store.devices import DeviceSet
from objectio.store.encryption import Sealer
from objectio.store.memory import BufferPool, ByteBudget
from objectio.store.pools import Pool
from objectio.store.presence import BlobsInUse, Upkeep

_INLINE_BYTES_MAX: Final = 64 * KIB
"""Digesting and encoding this much costs less than a hop to a worker thread and back."""


class Written(NamedTuple):
    """`missing` is a bit mask of the positions whose shards must be repaired."""

    ref: BlobRef
    digests: PayloadDigests
    missing: int


class _Shards:
    """The shards of one blob on their way: which positions failed, how many are still out."""

    __slots__ = (
        "_loop",
        "_straggler_seconds",
        "_timer",
        "_waiter",
        "blob",
        "failed",
        "pending",
        "pool",
        "stores",
    )

    def __init__(
        self,
        pool: Pool,
        blob: BlobId,
        stores: Sequence[ShardStore | None],
        straggler_seconds: float,
    ) -> None:
        self.pool = pool
        self.blob = blob
        self.stores = stores
        self.failed: dict[int, BaseException] = {}
        self.pending: dict[int, int] = {}
        """Submitted and unanswered items by position."""
        self._straggler_seconds = straggler_seconds
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def submit(
        self,
        stripe: int,
        shards: Sequence[memoryview],
        size: int,
        *,
        sync: bool,
        lent: _Lent | None = None,
    ) -> None:
        """Hand one stripe's shards to the devices. `lent` is the buffer that they are views of."""
        code, pending, blob = self.pool.code, self.pending, self.blob
        coordinates = ShardCoordinates(self.pool.family, code.k, code.m, size)
        for position, store in enumerate(self.stores):
            if store is None or position in self.failed:
                continue
            write = ShardWrite(
                ShardKey(blob, stripe, position), (shards[position],), coordinates, sync
            )
            pending[position] = pending.get(position, 0) + 1
            if lent is not None:
                lent.share()
            try:
                store.submit(write, partial(self._done, position, lent))
            except DeviceFailed as error:
                self._done(position, lent, error)

    def _done(self, position: int, lent: _Lent | None, error: BaseException | None) -> None:
        if lent is not None:
            lent.drop()
        pending = self.pending
        left = pending[position] - 1
        if left:
            pending[position] = left
        else:
            del pending[position]
        if error is not None:
            self.failed.setdefault(position, error)
        waiter = self._waiter
        if waiter is None:
            return
        if not pending or error is not None:
            self._wake()
        elif self._timer is None and self._safe() == self.pool.write_quorum:
            # Healthy devices answer in one turn of the loop: no timer is made for them.
            self._loop.call_soon(self._expect_stragglers_if_any)

    def _safe(self) -> int:
        if not self.failed:
            return len(self.stores) - len(self.pending)
        return len(self.stores) - len(self.failed.keys() | self.pending.keys())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expect_stragglers_if_any(self) -> None:
        if self._waiter is not None:
            self._expect_stragglers()

    def _expect_stragglers(self) -> None:
        if self.pending and self._timer is None:
            self._timer = self._loop.call_later(self._straggler_seconds, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        """The write is safe without the devices that are still out; their shards count as missing."""
        if self._safe() >= self.pool.write_quorum:
            for position in self.pending:
                self.failed.setdefault(position, DeviceFailed("too slow"))
            self._wake()

    def check_quorum(self) -> None:
        """Raises as soon as too few devices are left for the write to become safe."""
        if not self.failed:
            return
        usable = len(self.stores) - len(self.failed)
        if usable >= self.pool.write_quorum:
            return
        full = [error for error in self.failed.values() if isinstance(error, DeviceFull)]
        if full:
            raise DeviceFull("too few devices have room for the object") from full[0]
        raise WriteQuorumFailed(
            f"only {usable} of {len(self.stores)} devices take writes; "
            f"{self.pool.write_quorum} are needed",
            usable=usable,
            needed=self.pool.write_quorum,
        ) from next(iter(self.failed.values()), None)

    async def settled(self) -> None:
        """Wait until all answered; or until enough did, and a little longer for the slow ones."""
        try:
            while self.pending.keys() - self.failed.keys():
                self.check_quorum()
                if self._safe() >= self.pool.write_quorum:
                    self._expect_stragglers()
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self.check_quorum()

    def missing(self) -> int:
        return sum(1 << position for position in self.failed)


class BlobWriter:
    """Writes blobs to the current pool."""

    def __init__(
        self,
        devices: DeviceSet,
        executor: Executor,
        budget: ByteBudget,
        *,
        straggler_seconds: float,
        in_use: BlobsInUse,
        upkeep: Upkeep,
    ) -> None:
        self._devices = devices
        self._executor = executor
        self._budget = budget
        self._straggler_seconds = straggler_seconds
        self._in_use = in_use
        self._upkeep = upkeep
        self._buffers: dict[int, BufferPool] = {}

    async def write(self, pool: Pool, payload: Payload, sealer: Sealer | None = None) -> Written:
        """Store a payload of at least one byte. When it returns, the blob is durable, but nothing
        refers to it: until the caller has committed that, which is told to `done`, or given it up,
        it is `active`. If it raises, the shards that were written are handed to `give_up`. With a
        `sealer` it is stored encrypted."""
        # From here to where the shards' places are looked up is one turn of the loop: a survey has
        # the blob, or else it has the places that are right after the survey.
        blob = new_blob_id()
        self._in_use.active.add(blob)
        sealing = None if sealer is None else sealer.seal(blob, payload)
        stored = sealing or payload
        try:
            return await self._write(pool, blob, stored)
        except BaseException:
            self.give_up(BlobRef(blob, stored.size, pool.id))
            raise
        finally:
            if sealing is not None:
                sealing.close()

    def give_up(self, ref: BlobRef) -> None:
        """The blob's write, or the commit that was to refer to it, failed or was cut off: its shards
        may go once it is known that nothing refers to it. Until then it is active."""
        self._upkeep.abandon(ref)

    def done(self, ref: BlobRef) -> None:
        """The commit is through."""
        self._in_use.active.discard(ref.blob)

    async def _write(self, pool: Pool, blob: BlobId, payload: Payload) -> Written:
        members = pool.members(blob)
        stores = [self._devices.stores.get(osd) for osd in members]
        shards = _Shards(pool, blob, stores, self._straggler_seconds)
        for position, store in enumerate(stores):
            if store is None:
                shards.failed[position] = DeviceFailed(f"OSD {members[position]} is down")
        shards.check_quorum()
        if payload.size <= min(_INLINE_BYTES_MAX, pool.stripe_size_bytes):
            await self._write_small(shards, payload)
        else:
            await self._write_stripes(shards, payload)
        digests = payload.finish()
        return Written(BlobRef(blob, payload.size, pool.id), digests, shards.missing())

    async def _write_small(self, shards: _Shards, payload: Payload) -> None:
        """One stripe, all of it on the event loop."""
        code, size = shards.pool.code, payload.size
        buffer = memoryview(bytearray(code.shard_length(size) * code.k))
        source = _Source(payload)
        await source.fill(buffer, size)
        await source.expect_end()
        payload.digest(buffer[:size])
        shards.submit(0, code.encode_stripe(buffer, size), size, sync=True)
        await shards.settled()

    async def _write_stripes(self, shards: _Shards, payload: Payload) -> None:
        pool, size = shards.pool, payload.size
        stripes = pool.stripes(size)
        source = _Source(payload)
        ahead: _Encoding | None = None
        try:
            for stripe in range(stripes):
                buffer = self._try_lend(pool)
                if buffer is None:  # hold nothing that is not on its way while waiting for memory
                    if ahead is not None:
                        await ahead.submit()
                        ahead = None
                    buffer = await self._lend(pool)
                length = pool.stripe_bytes(size, stripe)
                last = stripe == stripes - 1
                try:
                    await source.fill(buffer.view, length)
                    if last:
                        await source.expect_end()
                    if ahead is not None:
                        await ahead.submit()
                        ahead = None
                    shards.check_quorum()
                except BaseException:
                    buffer.drop()
                    raise
                ahead = _Encoding(shards, payload, self._executor, buffer, stripe, length, last)
            if ahead is not None:
                await ahead.submit()
                ahead = None
        finally:
            if ahead is not None:
                await ahead.abandon()
        await shards.settled()

    def _pool_of_buffers(self, pool: Pool) -> BufferPool:
        code = pool.code
        size = code.width * code.shard_length(pool.stripe_size_bytes)
        if size not in self._buffers:
            self._buffers[size] = BufferPool(size, self._budget.limit_bytes // size)
        return self._buffers[size]

    def _try_lend(self, pool: Pool) -> _Lent | None:
        buffers = self._pool_of_buffers(pool)
        if not self._budget.try_acquire(buffers.size_bytes):
            return None
        return _Lent(buffers, self._budget)

    async def _lend(self, pool: Pool) -> _Lent:
        buffers = self._pool_of_buffers(pool)
        await self._budget.acquire(buffers.size_bytes)
        return _Lent(buffers, self._budget)


class _Lent:
    """A stripe buffer, given back when its last user is done: a device that is slow may still be
    reading it long after the request was answered."""

    __slots__ = ("_budget", "_buffers", "_users", "view")

    def __init__(self, buffers: BufferPool, budget: ByteBudget) -> None:
        self._buffers = buffers
        self._budget = budget
        self._users = 1
        self.view = buffers.take()

    def share(self) -> None:
        self._users += 1

    def drop(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._buffers.give(self.view)
            self._budget.release(self._buffers.size_bytes)


class _Encoding:
    """One filled stripe, being digested and encoded in a worker thread."""

    def __init__(
        self,
        shards: _Shards,
        payload: Payload,
        executor: Executor,
        buffer: _Lent,
        stripe: int,
        length: int,
        last: bool,
    ) -> None:
        self._shards = shards
        self._buffer = buffer
        self._stripe = stripe
        self._length = length
        self._last = last
        code = shards.pool.code
        view = buffer.view
        parity = view[code.k * code.shard_length(shards.pool.stripe_size_bytes) :]

        def work() -> list[memoryview]:
            payload.digest(view[:length])
            return code.encode_stripe(view, length, parity)

        self._work = asyncio.get_running_loop().run_in_executor(executor, work)

    async def submit(self) -> None:
        """Hand the shards to the devices; the buffer goes back when the last one has answered."""
        encoded = await asyncio.shield(self._work)
        self._shards.submit(self._stripe, encoded, self._length, sync=self._last, lent=self._buffer)
        self._buffer.drop()

    async def abandon(self) -> None:
        """The write failed: let the thread finish with the buffer, then give it back."""
        await asyncio.gather(self._work, return_exceptions=True)
        self._buffer.drop()


class _Source:
    """A payload, read in lengths that the stripes ask for."""

    __slots__ = ("_payload", "_rest")

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._rest: Buffer = b""

    async def fill(self, buffer: memoryview, length: int) -> None:
        """Exactly `length` bytes into the buffer."""
        at = 0
        piece: Buffer = self._rest
        while True:
            view = memoryview(piece)
            count = min(len(view), length - at)
            buffer[at : at + count] = view[:count]
            at += count
            if at == length:
                self._rest = view[count:]
                return
            piece = await self._payload.read()
            if not piece:
                raise PayloadIncomplete(f"the body ended {length - at} bytes early")

    async def expect_end(self) -> None:
        if memoryview(self._rest).nbytes or await self._payload.read():
            raise PayloadTooLarge("the body is longer than it was declared")
