"""Scrubbing: reading everything from time to time, so that damage is found while it can be repaired.

Reads of clients look at data shards only, and not at objects that nobody asks for; damage to the
rest would gather until too much of a stripe is gone. A pass walks through all blobs by their rows,
reads every shard from every device that is up, and reports what is missing or fails its checksums
to repair. How far it got is written down, so a restart goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, ScrubRecord, decode_blob_row, decode_scrub, encode
from objectio.store.pools import Pools
from objectio.store.read import BlobReads

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 100
_PAUSE_AFTER_FAILURE_SECONDS: Final = 60.0


class Scrubber:
    """Runs in the background, unless `interval_seconds`, from the begin of one pass to that of the
    next, is 0. `damaged` is told of a blob and a bit mask of positions."""

    def __init__(
        self,
        kv: KVStore,
        pools: Pools,
        reads: BlobReads,
        damaged: Callable[[BlobRef, int], None],
        *,
        interval_seconds: float,
        bytes_per_second: float,
    ) -> None:
        self.finished = 0
        """Passes since the start."""
        self.damaged_blobs = 0
        self._kv = kv
        self._pools = pools
        self._reads = reads
        self._damaged = damaged
        self._interval_seconds = interval_seconds
        self._bytes_per_second = bytes_per_second
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._interval_seconds:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._next_pass()
            except Exception as error:
                _log.warning("scrubbing: %s", error)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)

    async def _next_pass(self) -> None:
        raw = await self._kv.aget(keys.SCRUB)
        if raw is None:  # a new store has nothing to look at yet
            record = ScrubRecord(int(time.time() * 1000), b"")
            await self._kv.commit([], [(keys.SCRUB, encode(record))])
        else:
            record = decode_scrub(raw)
        if not record.cursor:
            due = record.begun_ms / 1000 + self._interval_seconds
            await asyncio.sleep(max(0.0, due - time.time()))
            record = ScrubRecord(int(time.time() * 1000), keys.BLOBS)
        await self._pass(record)

    async def _pass(self, record: ScrubRecord) -> None:
        start, stop = record.cursor, prefix_end(keys.BLOBS)
        found = 0
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            for _, raw in rows:
                found += await self._look_at(decode_blob_row(raw).ref)
            start = rows[-1][0] + b"\0"
            await self._write_down(record.begun_ms, start)
        await self._write_down(record.begun_ms, b"")
        self.finished += 1
        if found:
            _log.warning("scrubbing found %d damaged blobs", found)

    async def _write_down(self, begun_ms: int, cursor: bytes) -> None:
        await self._kv.commit([], [(keys.SCRUB, encode(ScrubRecord(begun_ms, cursor)))])

    async def _look_at(self, ref: BlobRef) -> bool:
        """Whether it is damaged."""
        pool = self._pools.get(ref.pool)
        mask = 0
        for stripe in range(pool.stripes(ref.size)):
            started = time.monotonic()
            mask |= await self._reads.verify(ref, stripe)
            size = pool.code.width * pool.code.shard_length(pool.stripe_bytes(ref.size, stripe))
            spent = time.monotonic() - started
            await asyncio.sleep(max(0.0, size / self._bytes_per_second - spent))
        # What was deleted meanwhile is not damaged.
        if not mask or await self._kv.aget(keys.blob(ref.blob)) is None:
            return False
        self.damaged_blobs += 1
        self._damaged(ref, mask)
        return True
