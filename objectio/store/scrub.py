"""Scrubbing: reading everything from time to time, so that damage is found while it can be repaired.

Reads of clients look at data shards only, and not at objects that nobody asks for; damage to the
rest would gather until too much of a stripe is gone. A pass is a census of all that is stored
(`scrub_census`): first of the blobs, by their rows, then of the devices, by their indexes. What is
wrong goes to repair.

How far a pass got, what it has counted, and what the last one found stand in a row of the metadata,
so a restart goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from objectio.abc.admin import ScrubReport, ScrubStatus
from objectio.kv.keys import decode_uint, encode_uint, prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, ScrubRecord, decode_blob_row, decode_scrub, encode
from objectio.model.stripe import ShardKey
from objectio.store.devices import DeviceSet
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pools
from objectio.store.repair_rate import Clock, TokenBucket
from objectio.store.scrub_census import Census, Counts, Damaged, Sweeper
from objectio.store.verify import StripeChecks

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 100
_AT_ONCE: Final = 4
_PAUSE_AFTER_FAILURE_SECONDS: Final = 60.0
_DEVICES: Final = b"d"
"""Begins the cursor of the second half: OSD, and the shard up to which it has been looked at."""
_BLOBS_SHARE: Final = 0.9
"""Of the progress; the indexes of the devices are the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrubSettings:
    """`interval_seconds` is from the begin of one pass to that of the next; 0: only when asked."""

    interval_seconds: float
    bytes_per_second: float
    memory_bytes: int
    clock: Clock = time.monotonic


class Scrubber:
    """Runs in the background. `damaged` is repair's; the collector takes away what should not be
    there."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        collector: Sweeper,
        settings: ScrubSettings,
        *,
        damaged: Damaged,
    ) -> None:
        self.finished = 0
        """Passes since the start."""
        self.damaged_blobs = 0
        self.own_damaged: Callable[[], None] = lambda: None
        """Called when shards that the store keeps for itself are damaged: whose they are, sets it."""
        self._kv = kv
        self._stores = devices.stores
        self._settings = settings
        self._report_damage = damaged
        self._collector = collector
        self._bucket = TokenBucket(settings.bytes_per_second, settings.clock)
        self._census = Census(
            kv,
            devices,
            pools,
            checks,
            ByteBudget(settings.memory_bytes),
            collector,
            damaged=self._damaged,
            read=self._pace,
        )
        self._task: asyncio.Task[None] | None = None
        self._now = asyncio.Event()
        self._running = False
        self._record: ScrubRecord | None = None
        self._blobs_in_all = 0

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def start_now(self) -> None:
        """Begin a pass; one that runs goes on."""
        if not self._running:
            self._now.set()

    def status(self) -> ScrubStatus:
        record = self._record
        if record is None:
            running = self._now.is_set()
            return ScrubStatus(running=running, progress=0.0, current=None, last=None, next_ms=None)
        running = self._running or self._now.is_set()
        interval_ms = int(self._settings.interval_seconds * 1000)
        return ScrubStatus(
            running=running,
            progress=self._progress(record) if self._running else 0.0,
            current=_report(record) if self._running else None,
            last=record.last,
            next_ms=record.begun_ms + interval_ms if interval_ms and not running else None,
        )

    def _progress(self, record: ScrubRecord) -> float:
        if not record.cursor.startswith(_DEVICES):
            done = record.counts.get("blobs", 0) / max(1, self._blobs_in_all)
            return _BLOBS_SHARE * min(1.0, done)
        osd, _ = _unpack_cursor(record.cursor)
        done = sum(each < osd for each in self._stores) / max(1, len(self._stores))
        return _BLOBS_SHARE + (1 - _BLOBS_SHARE) * done

    # When.

    async def _run(self) -> None:
        while True:
            try:
                self._record = await self._begin()
                self._running = True
                self._now.clear()
                await self._pass(self._record)
            except Exception as error:
                _log.warning("scrubbing: %s", error, exc_info=True)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
            finally:
                self._running = False

    async def _begin(self) -> ScrubRecord:
        """Wait until a pass is due. One that was broken off goes on where it was."""
        raw = await self._kv.aget(keys.SCRUB)
        if raw is None:  # a new store has nothing to look at yet
            record = ScrubRecord(int(time.time() * 1000), b"")
            await self._write_down(record)
        else:
            record = decode_scrub(raw)
        self._record = record
        if record.cursor:
            return record
        due: float | None = None
        if self._settings.interval_seconds:
            due = record.begun_ms / 1000 + self._settings.interval_seconds
            due = max(0.0, due - time.time())
        try:
            async with asyncio.timeout(due):
                await self._now.wait()
        except TimeoutError:
            pass
        self._census.begin()
        record = ScrubRecord(int(time.time() * 1000), keys.BLOBS, {}, record.last)
        await self._write_down(record)
        return record

    async def _write_down(self, record: ScrubRecord) -> None:
        await self._kv.commit([], [(keys.SCRUB, encode(record))])
        self._record = record

    async def _pace(self, size: int) -> None:
        while delay := self._bucket.wait_seconds():
            await asyncio.sleep(delay)
        self._bucket.spend(size)

    def _damaged(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None:
        self.damaged_blobs += 1
        self._report_damage(ref, mask, examine=examine)

    # A pass.

    async def _pass(self, record: ScrubRecord) -> None:
        counts: Counts = Counter(record.counts)
        if not record.cursor.startswith(_DEVICES):
            await self._count_blobs()
            record = await self._look_at_blobs(record, counts)
        record = await self._look_at_devices(record, counts)
        report = _report(record, finished_ms=int(time.time() * 1000))
        await self._write_down(ScrubRecord(record.begun_ms, b"", {}, report))
        self.finished += 1
        if report.findings:
            _log.warning("scrubbing found: %s", _sentence(report))

    async def _count_blobs(self) -> None:
        """For the progress."""
        count, start = 0, keys.BLOBS
        while rows := await self._kv.ascan(start, prefix_end(keys.BLOBS), limit=1000):
            count += len(rows)
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(0)
        self._blobs_in_all = count

    async def _look_at_blobs(self, record: ScrubRecord, counts: Counts) -> ScrubRecord:
        start, stop = record.cursor, prefix_end(keys.BLOBS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            refs = [decode_blob_row(raw).ref for _, raw in rows]
            for at in range(0, len(refs), _AT_ONCE):
                looks = (self._census.blob(ref) for ref in refs[at : at + _AT_ONCE])
                for found in await asyncio.gather(*looks):
                    counts.update(found)
            start = rows[-1][0] + b"\0"
            record = await self._went_to(record, start, counts)
        return await self._went_to(record, _pack_cursor(0, None), counts)

    async def _look_at_devices(self, record: ScrubRecord, counts: Counts) -> ScrubRecord:
        osd, after = _unpack_cursor(record.cursor)
        while (osd := min((each for each in self._stores if each >= osd), default=-1)) >= 0:
            while True:
                page = await self._census.device_page(osd, after)
                counts.update(page.counts)
                if page.own_damaged:
                    self.own_damaged()
                after = page.after
                if after is None:
                    break
                record = await self._went_to(record, _pack_cursor(osd, after), counts)
            await self._collector.sweep(osd)
            osd += 1
            record = await self._went_to(record, _pack_cursor(osd, None), counts)
        return record

    async def _went_to(self, record: ScrubRecord, cursor: bytes, counts: Counts) -> ScrubRecord:
        kept = {name: count for name, count in counts.items() if count}
        record = ScrubRecord(record.begun_ms, cursor, kept, record.last)
        await self._write_down(record)
        return record


def _pack_cursor(osd: int, after: ShardKey | None) -> bytes:
    return _DEVICES + encode_uint(osd, 4) + (b"" if after is None else after.pack())


def _unpack_cursor(cursor: bytes) -> tuple[int, ShardKey | None]:
    rest = cursor[len(_DEVICES) + 4 :]
    osd = decode_uint(cursor, len(_DEVICES), 4)
    return osd, ShardKey.unpack(rest) if rest else None


def _report(record: ScrubRecord, *, finished_ms: int = 0) -> ScrubReport:
    return ScrubReport(begun_ms=record.begun_ms, finished_ms=finished_ms, **record.counts)


def _sentence(report: ScrubReport) -> str:
    kinds = ("missing", "corrupt", "stale", "misplaced", "orphaned", "inconsistent")
    found = {kind: getattr(report, kind) for kind in kinds}
    return ", ".join(f"{count} {kind}" for kind, count in found.items() if count)
