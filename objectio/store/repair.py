"""Repair: making up for shards that are missing or damaged.

What must be repaired stands in rows of the metadata, so a restart forgets nothing: a row for each
blob with a mask of positions, written in the commit of a write that could not reach every device, or
when a read or a scrub finds damage; and a row for each OSD whose device is blank or old, whose share
of all blobs is then walked through (`repair_refill`).

    reads, scrub ── report ──▶ x row ──┐
    writes ──── in their commit ─▶ x row ─ pass over the rows ─▶ queue, least margin first ─▶ mend
    devices ── blank or old ─▶ refill row ── walk over blobs ──┘                        (repair_blob)

The rows are the truth; the queue is a bounded look at them. A blob none of whose devices can take
its shards now is *blocked*: it stays in its row and is looked at again when a device comes, or has
room. Everything is limited to a rate, but what has no margin left: the next failure would lose it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from objectio.abc.admin import RepairStatus
from objectio.abc.kv import Absent, Check, Equals, Present
from objectio.errors import CommitConflict
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, RepairRecord, decode_blob_row, decode_repair
from objectio.store.devices import DeviceSet
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pools
from objectio.store.presence import Presence
from objectio.store.repair_blob import Mended, Mender
from objectio.store.repair_margin import Margins
from objectio.store.repair_queue import Job, JobQueue
from objectio.store.repair_rate import Backoff, Clock, MovingRate, TokenBucket
from objectio.store.repair_refill import Refill, shard_bytes
from objectio.store.verify import StripeChecks

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500
_AT_ONCE: Final = 16
_QUEUE_MAX: Final = 10_000
_NO_ROOM_SECONDS_MAX: Final = 30.0
"""Space comes back without a word, when something is deleted or a file system grows."""
_AGAIN_SECONDS: Final = 30.0
"""After that, and twice as long each time, a blob is tried again that could not be mended."""
_PASS_PAUSE_FACTOR: Final = 20
"""A pass over many rows is not made again before so many times as long as it took."""
_PACE_SECONDS_MAX: Final = 1.0
"""A job that waits looks so often whether it has become urgent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairSettings:
    """`memory_bytes` bounds the stripes under repair, `bytes_per_second` what is written."""

    interval_seconds: float
    bytes_per_second: float
    memory_bytes: int
    clock: Clock = time.monotonic


class Repairer:
    """Runs in the background; a `store.devices.Listener` and the place where damage is reported."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        settings: RepairSettings,
        presence: Presence,
        *,
        removed: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        clock = settings.clock
        self.repaired_shards = 0
        self.repaired_bytes = 0
        self.margins = Margins(devices, pools)
        self._kv = kv
        self._pools = pools
        self._settings = settings
        self._bucket = TokenBucket(settings.bytes_per_second, clock)
        self._rate = MovingRate(clock)
        self._backoff: Backoff[int] = Backoff(clock, seconds_max=_NO_ROOM_SECONDS_MAX)
        again = min(_AGAIN_SECONDS, settings.interval_seconds)
        self._unmendable: Backoff[bytes] = Backoff(clock, first_seconds=again)
        self._mender = Mender(
            kv,
            devices,
            pools,
            checks,
            ByteBudget(settings.memory_bytes),
            pace=self._pace,
            wrote=self._wrote,
            refuses=self._backoff.waits,
        )
        self._refill = Refill(
            kv,
            devices,
            pools,
            self.margins,
            self._backoff,
            presence,
            submit=self._submit,
            report=self._report,
            refilling=self._refilling,
            removed=removed,
        )
        self._queue = JobQueue(_QUEUE_MAX)
        self._running: dict[bytes, Job] = {}
        self._again: set[bytes] = set()
        """Those of them whose rows were looked at meanwhile."""
        self._next: dict[bytes, Job] = {}
        """Those of them that a walk has asked for meanwhile."""
        self._reported: dict[bytes, tuple[BlobRef, RepairRecord]] = {}
        self._blocked: Counter[int] = Counter()
        """Blobs by margin that have a row and wait for a device."""
        self._left_out: Counter[int] = Counter()
        """Likewise, those that had no room in the queue."""
        self._reporting = asyncio.Lock()
        self._work = asyncio.Event()
        self._turn = asyncio.Event()
        self._looking = False
        self._pass_due = True
        self._pass_not_before = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._work.set()
        for run in (self._run, self._dispatch, self._refill.run):
            self._spawn(asyncio.get_running_loop().create_task(run()))

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What must be repaired.

    def damaged(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None:
        """Shards are missing or damaged on devices that are up; `examine`: they are intact, and do
        not belong where they are."""
        _, known = self._reported.get(ref.blob, (ref, RepairRecord(0)))
        record = RepairRecord(known.mask | mask, known.examine or examine)
        self._reported[ref.blob] = (ref, record)
        if (running := self._running.get(ref.blob)) is not None:
            running.late |= mask  # perhaps of what it has looked at already
        self._work.set()

    def wake(self) -> None:
        """Rows were written."""
        self._pass_due = True
        self._work.set()

    def up(self, osd: int, *, blank: bool) -> None:
        if blank:
            self.margins.refilling.add(osd)
        self._backoff.accepted(osd)
        self._unmendable.clear()
        self._look_at_once()
        self._devices_changed()

    def down(self, osd: int, reason: str) -> None:
        if self._left_out:
            self._look_at_once()
        self._devices_changed()

    def _look_at_once(self) -> None:
        self._pass_not_before = 0.0
        self.wake()

    def _refilling(self, osds: frozenset[int]) -> None:
        self.margins.refilling = set(osds)
        self._sort_anew()

    def _devices_changed(self) -> None:
        self._sort_anew()
        self._refill.changed()

    def _sort_anew(self) -> None:
        """Margins changed: what is queued, and what runs, has another turn and another pace."""
        self._queue.sort_anew(self._margin)
        for job in self._running.values():
            job.margin = self._margin(job)
        self._turn.set()

    def _margin(self, job: Job) -> int:
        return self.margins.of(job.ref, job.suspects)

    # What is known of it.

    @property
    def urgent(self) -> bool:
        """Something has no margin left, and can be repaired now."""
        best = self._queue.best_margin
        return (
            (best is not None and best <= 0)
            or any(job.margin <= 0 for job in self._running.values())
            or any(margin <= 0 for margin, count in self._left_out.items() if count)
            or any(margin <= 0 for margin, count in self._refill.outlook.blobs.items() if count)
        )

    @property
    def backlog(self) -> int:
        """Blobs to repair and OSDs to refill, as far as is known; at least 1 while there is
        something to look at. 0 says that nothing is left to do."""
        looking = self._looking or self._pass_due or self._work.is_set() or self._refill.looking
        known = (
            len(self._queue)
            + len(self._running)
            + len(self._reported)
            + len(self._refill.osds)
            + self._blocked.total()
            + self._left_out.total()
        )
        return max(known, int(looking))

    def status(self) -> RepairStatus:
        outlook = self._refill.outlook
        waiting = Counter(outlook.blobs) + self._blocked + self._left_out
        bytes_left = outlook.bytes.total()
        for job in (*self._queue, *self._running.values()):
            if job.row is not None:
                waiting[job.margin] += 1
                size = shard_bytes(self._pools.get(job.ref.pool), job.ref.size)
                bytes_left += size * decode_repair(job.row).mask.bit_count()
        rate = self._rate.bytes_per_second()
        return RepairStatus(
            active=bool(self._running or len(self._queue)),
            waiting={margin: count for margin, count in sorted(waiting.items()) if count},
            blocked=self._blocked.total(),
            refilling=sorted(self._refill.osds),
            repaired_shards=self.repaired_shards,
            repaired_bytes=self.repaired_bytes,
            bytes_left=bytes_left,
            bytes_per_second=rate,
            seconds_left=self._rate.seconds_left(bytes_left),
            waiting_for={
                osd: f"has no room; tried again in {seconds:.0f} s"
                for osd, seconds in sorted(self._backoff.waiting.items())
            },
        )

    # Rows.

    async def _run(self) -> None:
        while True:
            await self._wait_for_work()
            self._looking = True
            self._work.clear()
            try:
                await self._write_reported()
                if self._pass_due and self._settings.clock() >= self._pass_not_before:
                    self._pass_due = False
                    await self._read_rows()
            except Exception:
                _log.exception("repair")
                self._pass_due = True
                await asyncio.sleep(1)
            finally:
                self._looking = False

    async def _wait_for_work(self) -> None:
        clock = self._settings.clock
        waits = [self._settings.interval_seconds]
        without_room = self._backoff.waiting
        waits += without_room.values()
        if self._pass_due:
            waits.append(max(0.0, self._pass_not_before - clock()))
        try:
            async with asyncio.timeout(min(waits)):
                await self._work.wait()
        except TimeoutError:
            self._pass_due = True
        if without_room.keys() - self._backoff.waiting.keys():
            self._pass_due = True

    async def _write_reported(self) -> None:
        async with self._reporting:
            while self._reported:
                blob, (ref, record) = next(iter(self._reported.items()))
                await self._write_report(ref, record)
                if self._reported.get(blob) == (ref, record):
                    del self._reported[blob]

    async def _write_report(self, ref: BlobRef, record: RepairRecord) -> None:
        row, owned = keys.repair(ref.blob), Present(keys.blob(ref.blob))
        while True:
            raw = await self._kv.aget(row)
            old = RepairRecord(0) if raw is None else decode_repair(raw)
            new = RepairRecord(old.mask | record.mask, old.examine or record.examine)
            if new == old:
                return  # it is queued, or blocked, or has its turn with the next pass
            checks: Sequence[Check] = (owned, Absent(row) if raw is None else Equals(row, raw))
            try:
                await self._kv.commit(checks, [(row, new.pack())])
            except CommitConflict as conflict:
                if conflict.fields.get("check") == owned:
                    return  # what was deleted meanwhile is not damaged
                continue
            self._enqueue(ref, new.pack())
            return

    async def _report(self, unmade: Sequence[tuple[BlobRef, int]]) -> None:
        """What a walk could not make gets rows of its own, before the walk is past it."""
        for ref, mask in unmade:
            self.damaged(ref, mask)
        if unmade:
            await self._write_reported()

    async def _read_rows(self) -> None:
        """A pass over all rows: the most urgent ones into the queue."""
        begun = self._settings.clock()
        self._blocked.clear()
        self._left_out.clear()
        start, stop = keys.REPAIRS, prefix_end(keys.REPAIRS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            blobs = [row[len(keys.REPAIRS) :] for row, _ in rows]
            owners = await self._kv.aget_many([keys.blob(blob) for blob in blobs])
            for blob, (row, raw), owner in zip(blobs, rows, owners, strict=True):
                if owner is None:
                    await self._forget(row, raw, blob)
                elif not self._queue.knows(blob, raw):
                    self._enqueue(decode_blob_row(owner).ref, raw, known=True)
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(0)
        now = self._settings.clock()
        self._pass_not_before = now + _PASS_PAUSE_FACTOR * (now - begun)

    async def _forget(self, row: bytes, raw: bytes, blob: bytes) -> None:
        try:
            await self._kv.commit([Equals(row, raw), Absent(keys.blob(blob))], [(row, None)])
        except CommitConflict:
            self.wake()

    def _enqueue(self, ref: BlobRef, raw: bytes, *, known: bool = False) -> None:
        if ref.blob in self._running:  # on what was known before
            self._again.add(ref.blob)
            return
        record = decode_repair(raw)
        margin = self.margins.of(ref, record.mask)
        hopeless = known and self._unmendable.waits(ref.blob)
        targets = self._mender.targets(ref)
        if hopeless or not any(record.mask >> position & 1 for position in targets):
            self._blocked[margin] += 1
            return
        self._push(Job(ref, margin, record.mask, record.examine, raw))

    def _push(self, job: Job) -> None:
        left_out = self._queue.push(job)
        if left_out is not None:
            self._left_out[left_out.margin] += 1
        self._turn.set()

    # Work.

    def _submit(self, ref: BlobRef, margin: int) -> asyncio.Future[Mended]:
        answer: asyncio.Future[Mended] = asyncio.get_running_loop().create_future()
        job = Job(ref, margin, waiters=[answer])
        if ref.blob not in self._running:
            self._push(job)
        elif ref.blob in self._next:
            self._next[ref.blob].merge(job)
        else:  # what runs may have looked at a device before another one took its place
            self._next[ref.blob] = job
        return answer

    async def _dispatch(self) -> None:
        while True:
            await self._next_turn()
            job = self._queue.pop()
            assert job is not None
            if self._left_out and len(self._queue) < _QUEUE_MAX // 4:
                self._left_out.clear()
                self._look_at_once()
            job.waiters = [waiter for waiter in job.waiters if not waiter.done()]
            if job.row is None and not job.waiters:
                continue  # a walk that was given up
            self._rate.begin()
            self._running[job.ref.blob] = job
            self._spawn(asyncio.get_running_loop().create_task(self._do(job)))

    async def _next_turn(self) -> None:
        """Until the best job may begin. What is urgent does not wait for the rate, nor for the jobs
        that do."""
        while True:
            self._turn.clear()
            margin = self._queue.best_margin
            if margin is None:
                await self._turn.wait()
                continue
            urgent = margin <= 0
            delay = 0.0 if urgent else self._bucket.wait_seconds()
            if len(self._running) >= _AT_ONCE * (2 if urgent else 1):
                await self._turn.wait()
            elif delay:
                try:
                    async with asyncio.timeout(delay):
                        await self._turn.wait()
                except TimeoutError:
                    pass
            else:
                return

    async def _pace(self, margin: Callable[[], int]) -> None:
        while margin() > 0 and (delay := self._bucket.wait_seconds()):
            await asyncio.sleep(min(delay, _PACE_SECONDS_MAX))

    def _wrote(self, size: int, margin: int) -> None:
        self.repaired_shards += 1
        self.repaired_bytes += size
        self._rate.add(size)
        if margin > 0:
            self._bucket.spend(size)

    async def _do(self, job: Job) -> None:
        mended: Mended | None = None
        try:
            mended = await self._mender.mend(
                job.ref, job.suspects, examine=job.examine, margin=lambda: job.margin
            )
            await self._settle(job, mended)
        except Exception as error:
            _log.exception("repair of blob %s", job.ref.blob.hex())
            mended = Mended(0, reason=str(error))
            if job.row is not None:
                self._blocked[job.margin] += 1
        finally:
            del self._running[job.ref.blob]
            if job.ref.blob in self._again:
                self._again.discard(job.ref.blob)
                self._look_at_once()
            if (following := self._next.pop(job.ref.blob, None)) is not None:
                following.margin = self._margin(following)
                self._push(following)
            for waiter in job.waiters:
                if mended is None:
                    waiter.cancel()
                elif not waiter.done():
                    waiter.set_result(mended)
            self._turn.set()

    async def _settle(self, job: Job, mended: Mended) -> None:
        """Keep account of what a job has come to, in its row and of the devices."""
        for osd in mended.accepted - mended.refused:
            self._backoff.accepted(osd)
        for osd in mended.refused:
            self._backoff.refused(osd)
            self._work.set()  # the wait for the next look is shorter now
        if mended.reason and not mended.gone:
            _log.warning("blob %s is not whole yet: %s", job.ref.blob.hex(), mended.reason)
        if job.row is None:
            return
        record = decode_repair(job.row)
        left = 0 if mended.gone else record.mask & ~(mended.whole & ~job.late)
        if job.late and not mended.gone:
            self._again.add(job.ref.blob)
        new = RepairRecord(left, record.examine).pack() if left else None
        if new != job.row:
            row = keys.repair(job.ref.blob)
            try:
                await self._kv.commit([Equals(row, job.row)], [(row, new)])
            except CommitConflict:
                self.wake()  # more was found meanwhile
                return
        if left:
            self._blocked[job.margin] += 1
            if mended.hopeless:
                self._unmendable.refused(job.ref.blob)
        else:
            self._unmendable.accepted(job.ref.blob)
