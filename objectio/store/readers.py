"""Reading from devices, some of which may be slow.

Reads of devices that answer share one lane. A read that is overdue makes its device slow: the
others of its batch are given back, its thread is replaced, and whoever waits is told, to make up
for it from other shards. Reads of a slow device, for those who cannot do without, go through a
narrow lane of its own. Every now and then a read in the background looks whether it is well again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from typing_extensions import Buffer

from objectio.abc.shardstore import ShardStore
from objectio.limits import KIB
from objectio.model.stripe import BLOB_ID_BYTES, BlobId, ShardKey
from objectio.store import latency
from objectio.store.lanes import Batch, Job, Lane, Read
from objectio.store.latency import ReadTimes

_log: Final = logging.getLogger("objectio.store")

_THREADS_APART: Final = 2
"""How many reads may be stuck in a device that is known to be slow."""
_PROBE_BYTES: Final = 64 * KIB


class Readers:
    """Runs batches of reads; a `store.devices.Listener`. Call from the event loop."""

    def __init__(
        self,
        stores: Mapping[int, ShardStore],
        *,
        hedge_seconds: float,
        threads: int,
        slow: set[int] | None = None,
    ) -> None:
        self.stores = stores
        self.times = ReadTimes(hedge_seconds, self._became_slow, slow)
        self._threads = threads
        self._lane: Lane | None = None
        self._apart: dict[int, Lane] = {}
        self._watched = 0
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        self._came_late = False
        self._probes: dict[int, asyncio.TimerHandle | asyncio.Task[None]] = {}

    def up(self, osd: int, *, blank: bool) -> None:
        """It is as fast as it shows."""

    def down(self, osd: int, reason: str) -> None:
        """What comes back may be another device."""
        self._forget(osd)

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        tasks = [probe for probe in probes if isinstance(probe, asyncio.Task)]
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in (self._lane, *self._apart.values()):
            if lane is not None:
                lane.close()

    # Batches.

    def read(self, jobs: Sequence[Job], told: Callable[[], None]) -> Batch:
        """Start reads that one thread makes, in this order. Those of a device that keeps another
        read waiting are passed over."""
        if self._lane is None:
            self._lane = Lane("read", self._threads, self.times, self._ended)
        batch = Batch(jobs, told, skips=self.times.hedge_seconds > 0)
        self._watch_over(batch)
        self._lane.submit(batch)
        return batch

    def read_apart(self, job: Job, told: Callable[[], None]) -> Batch:
        """Start a read of a slow device, behind others of it; it takes as long as it takes."""
        lane = self._apart.get(job.osd)
        if lane is None:
            lane = Lane(f"read-osd{job.osd}", _THREADS_APART, self.times, self._ended)
            self._apart[job.osd] = lane
        batch = Batch([job], told, skips=False)
        lane.submit(batch)
        return batch

    def read_remote(self, job: Job, key: ShardKey, told: Callable[[], None]) -> Batch:
        """Start a read of a store that is not on this machine."""
        batch = Batch([], told, skips=False)
        self._watch_over(batch)
        store = self.stores[job.osd]  # it may be gone from there before the task begins
        batch.task = asyncio.get_running_loop().create_task(self._await(batch, job, store, key))
        return batch

    def drop(self, batch: Batch) -> None:
        """Nobody waits for it any more. What a thread has begun to read goes on."""
        batch.told = None
        batch.interrupt()
        if batch.task is not None:
            self._unwatch(batch)
            batch.task.cancel()  # perhaps before it has begun

    async def _await(self, batch: Batch, job: Job, store: ShardStore, key: ShardKey) -> None:
        began = time.monotonic()
        job.times.reading[batch] = began
        begin, end = job.read.begin, job.read.end
        try:
            result: Buffer | BaseException = await store.read(key, begin, end - begin)
        except Exception as error:
            result = error
        finally:
            del job.times.reading[batch]
            batch.ended = True
        batch.results[job] = result
        batch.seconds.append((job, time.monotonic() - began))  # one that was given up took longer
        self._ended(batch)

    def _ended(self, batch: Batch) -> None:
        for job, seconds in batch.seconds:
            self._record(job, seconds)
        self._unwatch(batch)
        if batch.told is not None:
            batch.told()

    def _record(self, job: Job, seconds: float) -> None:
        was_slow = job.osd in self.times.slow
        self.times.record(job.osd, job.times, seconds)
        if was_slow and job.osd not in self.times.slow:
            _log.info("OSD %d is fast again", job.osd)

    # Watching them.

    def _watch_over(self, batch: Batch) -> None:
        batch.watched = True
        self._watched += 1
        if self._watch is None:
            self._keep_watch()

    def _keep_watch(self) -> None:
        hedge_seconds = self.times.hedge_seconds
        if self._watched and hedge_seconds:
            loop = asyncio.get_running_loop()
            self._watch_at = loop.time() + hedge_seconds / 2
            self._watch = loop.call_at(self._watch_at, self._look)

    def _look(self) -> None:
        self._watch = None
        # When this comes late the process was stopped, or busy, and the devices may have been too;
        # but not twice in a row.
        late = asyncio.get_running_loop().time() - self._watch_at > self.times.hedge_seconds
        self._came_late = late and not self._came_late
        if not self._came_late:
            for osd in self.times.look(time.monotonic()):
                for batch in list(self.times.of(osd).reading):
                    if isinstance(batch, Batch) and batch.watched:
                        self._overdue(batch)
        self._keep_watch()

    def _unwatch(self, batch: Batch) -> None:
        if batch.watched:
            batch.watched = False
            self._watched -= 1

    def _overdue(self, batch: Batch) -> None:
        self._unwatch(batch)
        if batch.lane is not None:
            batch.lane.replace(batch)
            batch.interrupt()
        if batch.told is not None:
            batch.told()

    # Finding out whether a slow device is well again.

    def _forget(self, osd: int) -> None:
        self.times.forget(osd)
        probe = self._probes.pop(osd, None)
        if probe is not None:
            probe.cancel()
        lane = self._apart.pop(osd, None)
        if lane is not None:
            lane.close()  # after those that wait for the old device

    def _became_slow(self, osd: int) -> None:
        _log.warning("OSD %d is slow: reads are made up for from the others", osd)
        self._plan_probe(osd)

    def _plan_probe(self, osd: int) -> None:
        retry_at = self.times.retry_at(osd)
        delay = latency.PROBATION_SECONDS
        if retry_at is not None:
            delay = max(0.0, retry_at - time.monotonic())
        self._probes[osd] = asyncio.get_running_loop().call_later(delay, self._start_probe, osd)

    def _start_probe(self, osd: int) -> None:
        if osd not in self.times.slow:
            del self._probes[osd]
            return
        retry_at = self.times.retry_at(osd)
        if retry_at is None or retry_at > time.monotonic():
            self._plan_probe(osd)
            return
        task = asyncio.get_running_loop().create_task(self._probe(osd))
        self._probes[osd] = task
        task.add_done_callback(partial(self._probed, osd))

    def _probed(self, osd: int, task: asyncio.Task[None]) -> None:
        if self._probes.get(osd) is not task:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("looking whether OSD %d is fast again: %s", osd, error)
        if task.cancelled() or osd not in self.times.slow:
            del self._probes[osd]
        else:
            self._plan_probe(osd)

    async def _probe(self, osd: int) -> None:
        """Read some shard of the device: by chance, so that it is hardly in a cache."""
        store = self.stores[osd]
        found = await store.scan(ShardKey(BlobId(os.urandom(BLOB_ID_BYTES)), 0, 0), 1)
        found = found or await store.scan(None, 1)
        if not found:
            self.times.cure(osd)
            return
        read = Read(found[0].key.position, 0, min(found[0].length, _PROBE_BYTES))
        plan = store.plan_read(found[0].key, 0, read.end)
        job = Job(read, osd, self.times.of(osd), plan)
        told = asyncio.Event()
        if plan is None:
            batch = self.read_remote(job, found[0].key, told.set)
        else:
            batch = self.read_apart(job, told.set)
        try:
            await told.wait()
            while not batch.ended:  # only overdue
                told.clear()
                await told.wait()
        finally:
            self.drop(batch)
