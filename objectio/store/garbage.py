"""Garbage: taking the shards of blobs that nothing refers to off the devices.

Two ways lead here. The commit that makes a blob unreachable (a delete, an overwrite, an abort)
writes a garbage row in the same stroke. And a write that never got as far as its commit, because the
process or the client died, leaves orphans: shards whose blob has no row at all; a sweep over the
devices finds these.

A blob that is being read is left alone until its last reader is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from objectio.abc.shardstore import ShardStore
from objectio.errors import ObjectIOError
from objectio.kv.keys import encode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, decode_blobs, encode
from objectio.model.stripe import BlobId, ShardKey, is_reserved
from objectio.store.devices import Devices
from objectio.store.pools import Pools

_log: Final = logging.getLogger("objectio.store")

_ROWS: Final = 256
_WRITES: Final = 5000
_IDLE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.25
"""Garbage is cheaper by the hundred: one sync of each device for all of it."""
_SWEEP_SECONDS: Final = 3600.0
_SWEEP_PAGE: Final = 1000
_DELETE_AT_ONCE: Final = 5000
"""Shards of one device in one item: what comes behind it waits for so many tombstones at most."""
Write = tuple[bytes, bytes | None]


def garbage_row(refs: Sequence[BlobRef]) -> Write:
    """The row that hands blobs over to the collector; part of the commit that lets go of them."""
    return keys.garbage(int(time.time() * 1000), os.urandom(8)), encode(list(refs))


def _answer(answer: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not answer.done():
        answer.set_result(error)


class Collector:
    """Runs in the background. `active` are blobs under way to their first commit."""

    def __init__(
        self, kv: KVStore, devices: Devices, pools: Pools, active: set[bytes], grace_seconds: float
    ) -> None:
        self.pins: Counter[bytes] = Counter()
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._active = active
        self._grace_ms = int(grace_seconds * 1000)
        self._work = asyncio.Event()
        self._abandoned: list[BlobRef] = []
        self._waiting_for: dict[bytes, frozenset[int]] = {}
        """Garbage rows that wait for OSDs which are down."""
        self._tasks: list[asyncio.Task[None]] = []
        self._collecting = False
        self._sweeping = False
        self._rows_left = 0

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._work.set()  # what was left when the process before this one ended
        self._sweeping = True
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._run_sweeps())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        self._work.set()

    @property
    def backlog(self) -> int:
        """Garbage rows that wait, for a reader, an OSD or their time, as far as the last pass knows;
        at least 1 while one is under way. 0 says that nothing is left to do."""
        at_work = self._collecting or self._sweeping or self._work.is_set()
        return max(self._rows_left, int(at_work))

    def abandon(self, ref: BlobRef) -> None:
        """A blob whose write failed: not worth a row, its shards can go at once."""
        self._abandoned.append(ref)
        self._work.set()

    # Readers.

    def pin(self, refs: Iterable[BlobRef]) -> None:
        for ref in refs:
            self.pins[ref.blob] += 1

    def unpin(self, refs: Iterable[BlobRef]) -> None:
        for ref in refs:
            self.pins[ref.blob] -= 1
            if not self.pins[ref.blob]:
                del self.pins[ref.blob]

    # Collecting.

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._collecting = True
            self._work.clear()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self._delete_abandoned()
                await self.collect()
                self._rows_left = len(await self._kv.ascan_prefix(keys.GARBAGE))
            except Exception as error:
                _log.warning("garbage collection: %s", error)
                await asyncio.sleep(1)
            finally:
                self._collecting = False

    async def _delete_abandoned(self) -> None:
        refs = self._abandoned[:_ROWS]
        if not refs:
            return
        # A commit that failed, or whose caller has gone, may go through all the same: then there
        # is a row, as soon as a later commit is through.
        await self._kv.commit([], [])
        rows = await self._kv.aget_many([keys.blob(ref.blob) for ref in refs])
        unowned = [ref for ref, row in zip(refs, rows, strict=True) if row is None]
        await self._delete(unowned)  # what cannot be reached now is an orphan for the sweep
        del self._abandoned[: len(refs)]
        self._active.difference_update(ref.blob for ref in refs)
        if self._abandoned:
            self._work.set()

    async def collect(self) -> None:
        """All garbage rows that are due, a batch at a time."""
        start = keys.GARBAGE
        while True:
            due = keys.GARBAGE + encode_uint(int(time.time() * 1000) - self._grace_ms + 1)
            rows = await self._kv.ascan(start, due, limit=_ROWS)
            if not rows:
                return
            start = rows[-1][0] + b"\0"
            await self._collect_rows(rows)

    async def _collect_rows(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        up = self._devices.stores.keys()
        todo: dict[bytes, list[BlobRef]] = {}
        for row_key, raw in rows:
            waiting = self._waiting_for.get(row_key)
            if waiting and not waiting & up:
                continue
            refs = decode_blobs(raw)
            if not any(ref.blob in self.pins for ref in refs):
                todo[row_key] = refs
        # The blobs' own rows go first, so that nobody repairs, refills or scrubs what is being
        # deleted; the garbage row goes last, so that a crash in between finds it again.
        new = [refs for row_key, refs in todo.items() if row_key not in self._waiting_for]
        blobs = list({ref.blob for refs in new for ref in refs})
        await self._forget([keys.blob(blob) for blob in blobs])
        await self._forget([keys.repair(blob) for blob in blobs])
        unreached = await self._delete([ref for refs in todo.values() for ref in refs])
        done: list[bytes] = []
        for row_key, refs in todo.items():
            waiting = frozenset(osd for ref in refs for osd in unreached.get(ref.blob, ()))
            if waiting:
                self._waiting_for[row_key] = waiting
                continue
            self._waiting_for.pop(row_key, None)
            done.append(row_key)
        await self._forget(done)

    async def _forget(self, rows: Sequence[bytes]) -> None:
        for at in range(0, len(rows), _WRITES):
            await self._kv.commit([], [(row, None) for row in rows[at : at + _WRITES]])

    async def _delete(self, refs: Sequence[BlobRef]) -> dict[bytes, set[int]]:
        """Delete all shards of the blobs. Returns the OSDs that could not be reached, by blob."""
        by_osd: dict[int, list[ShardKey]] = {}
        blobs_of: dict[int, list[bytes]] = {}
        for ref in refs:
            pool = self._pools.get(ref.pool)
            for position, osd in enumerate(pool.members(ref.blob)):
                if osd < 0:
                    continue
                blobs_of.setdefault(osd, []).append(ref.blob)
                by_osd.setdefault(osd, []).extend(
                    ShardKey(BlobId(ref.blob), stripe, position)
                    for stripe in range(pool.stripes(ref.size))
                )
        known = {slot.osd for slot in self._devices.slots}
        targets = [osd for osd in by_osd if osd in known]  # an OSD that was removed keeps nothing
        outcomes = await asyncio.gather(
            *(self._delete_on(self._devices.stores.get(osd), by_osd[osd]) for osd in targets)
        )
        unreached: dict[bytes, set[int]] = {}
        for osd, done in zip(targets, outcomes, strict=True):
            if not done:
                for blob in blobs_of[osd]:
                    unreached.setdefault(blob, set()).add(osd)
        return unreached

    @staticmethod
    async def _delete_on(store: ShardStore | None, shards: Sequence[ShardKey]) -> bool:
        if store is None:
            return False
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[BaseException | None]
        try:
            for at in range(0, len(shards), _DELETE_AT_ONCE):
                answer = loop.create_future()
                store.submit_delete(shards[at : at + _DELETE_AT_ONCE], partial(_answer, answer))
                if await answer is not None:
                    return False
        except ObjectIOError:
            return False
        return True

    # Orphans.

    async def _run_sweeps(self) -> None:
        while True:
            self._sweeping = True
            for osd in list(self._devices.stores):
                try:
                    await self.sweep(osd)
                except Exception as error:
                    _log.warning("sweeping OSD %d: %s", osd, error)
            self._sweeping = False
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self, osd: int) -> int:
        """Delete shards on an OSD whose blob nothing knows. Returns how many there were."""
        store = self._devices.stores.get(osd)
        after: ShardKey | None = None
        orphans = 0
        while store is not None:
            page = await store.scan(after, _SWEEP_PAGE)
            # What is under way now is no orphan; what is not is either committed by now, and then
            # has a row, or never will be. So `active` is looked at first.
            seen = {info.key.blob for info in page if not is_reserved(info.key.blob)}
            blobs = list(seen - self._active)
            rows = await self._kv.aget_many([keys.blob(blob) for blob in blobs])
            unknown = {blob for blob, row in zip(blobs, rows, strict=True) if row is None}
            doomed = [info.key for info in page if info.key.blob in unknown]
            if doomed:
                orphans += len(doomed)
                await self._delete_on(store, doomed)
            if len(page) < _SWEEP_PAGE:
                break
            after = page[-1].key
            await asyncio.sleep(0)
        if orphans:
            _log.info("OSD %d: %d orphaned shards deleted", osd, orphans)
        return orphans
