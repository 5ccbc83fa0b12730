"""The shard store of one device: the log, its index, and their upkeep, on an event loop."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.shardstore import (
    Done,
    ShardInfo,
    ShardWrite,
    StoreState,
    StoreUsage,
)
from objectio.errors import ConfigError, DeviceFailed
from objectio.limits import KIB, LOG_SEGMENT_BYTES_MIN, MIB
from objectio.model.stripe import ShardKey
from objectio.osd import device as devices
from objectio.osd.blank import contents, how_to_clear
from objectio.osd.cache import ArcCache
from objectio.osd.config import LogStoreConfig
from objectio.osd.device import Device
from objectio.osd.format import (
    DATA_OFFSET,
    FORMAT_VERSION,
    SUPERBLOCK_COPIES,
    Superblock,
)
from objectio.osd.guard import in_thread, start_thread
from objectio.osd.index import ENTRY, Index, IndexDamaged
from objectio.osd.log import DeleteItem, Item, Log, PutItem, SyncItem
from objectio.osd.meter import Meter
from objectio.osd.reader import Reader
from objectio.osd.recovery import recover
from objectio.osd.rounds import Outcome, Rounds
from objectio.osd.superblock import check_cluster, fit, look, read_superblock, write_superblock
from objectio.osd.upkeep import checkpoint, compact, sparse_segments

_log: Final = logging.getLogger("objectio.osd")

_UPKEEP_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 10.0
"""A device that does not answer for so long is left behind."""
_GROWING_SEGMENT_BYTES_MIN: Final = 8 * MIB
"""Room for the largest shard of the default stripe, a replica of 4 MiB."""
_SEGMENT_MULTIPLE_BYTES: Final = 64 * KIB
"""So that segments begin and end at blocks of any device that is read past the page cache."""
_SEGMENTS_MIN: Final = 5
"""Those which a full device keeps, one that is being filled, and one more."""
_LIVE_SHARE_MAX_WHEN_FULL: Final = 0.9
_VICTIMS: Final = 4
"""Segments that are compacted between two checkpoints; one when only the spare ones are left."""
_DAMAGED_RETRY_SECONDS: Final = 600.0
_ENTRY_UNPACK: Final = ENTRY.unpack


class LogShardStore:
    """See `objectio.abc.shardstore.ShardStore`; made by `LogStoreFactory.open`."""

    def __init__(
        self, log: Log, rounds: Rounds, config: LogStoreConfig, metrics: Metrics | None = None
    ) -> None:
        self._core = log
        self._index = log.index
        self._device = log.device
        self._rounds = rounds
        self._config = config
        self._pending: list[Item] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._marked = False
        self._last_checkpoint = time.monotonic()
        self._damaged_segments: dict[int, float] = {}
        """Segments that cannot be compacted for damage, and when to look again."""
        self._in_flight: Sequence[Item] = ()
        self._in_flight_lock = threading.Lock()
        self._checking: asyncio.Future[None] | None = None
        cache = None
        if log.device.is_direct and config.cache_bytes:
            cache = ArcCache(config.cache_bytes)
        self._reader = Reader(log, cache)
        self._meter = Meter(
            self._device, cache, self._queued, metrics or NullMetrics(), self.device_id
        )
        self.busy = False
        self.filesystem = log.device.filesystem
        self._index.adopt()
        rounds.join()
        self._upkeep = asyncio.get_running_loop().create_task(self._run_upkeep())

    @property
    def device_id(self) -> str:
        return str(uuid.UUID(bytes=self._core.superblock.device_id))

    @property
    def opens(self) -> int:
        return self._core.superblock.opens

    @property
    def state(self) -> StoreState:
        if self._closed:
            return StoreState.CLOSED
        if self._core.failure is not None:
            return StoreState.FAILED
        return StoreState.FULL if self._core.is_full() else StoreState.UP

    @property
    def failure(self) -> BaseException | None:
        return self._core.failure

    # Writing: items collect here until the next round takes them.

    def submit(self, shard: ShardWrite, done: Done) -> None:
        self._submit(PutItem(done, shard))

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        self._submit(DeleteItem(done, [key.pack() for key in keys]))

    def submit_sync(self, done: Done) -> None:
        self._submit(SyncItem(done))

    def _submit(self, item: Item) -> None:
        if self._closed:
            raise DeviceFailed("the device was closed")
        self._pending.append(item)
        if not self._marked:
            self._marked = True
            self._idle.clear()
            self._rounds.mark(self)

    def take(self) -> Sequence[Item]:
        items, self._pending = self._pending, []
        self._marked = False
        with self._in_flight_lock:
            self._in_flight = items
        return items

    def run_batch(self, items: Sequence[Item]) -> Sequence[Outcome]:
        began = time.perf_counter()
        try:
            with self._core.guard:
                outcomes = self._core.run_batch(items)
        except DeviceFailed as error:  # it was closed
            outcomes = [(item.done, error) for item in items]
        with self._in_flight_lock:
            if self._in_flight is not items:
                return []  # they were told that it did not answer
            self._in_flight = ()
        self._meter.wrote(time.perf_counter() - began)
        return outcomes

    def _queued(self) -> int:
        return len(self._pending) + len(self._in_flight)

    def batch_done(self) -> None:
        if not self._pending:
            self._idle.set()

    # Reading.

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        return self._reader.read_now(key.pack(), offset, length)

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        return await asyncio.to_thread(self.plan_read(key, offset, length))

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer]:
        return self._reader.plan(key.pack(), offset, length)

    async def stat(self, keys: Sequence[ShardKey]) -> list[ShardInfo | None]:
        if self._closed:
            raise DeviceFailed(f"{self._device.path} was closed")
        found: list[ShardInfo | None] = []
        for key in keys:
            entry = self._index.get(key.pack())
            if entry is None:
                found.append(None)
                continue
            _, payload_bytes, _, generation = _ENTRY_UNPACK(entry)
            found.append(ShardInfo(key, payload_bytes, generation))
        return found

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        start = None if after is None else after.pack()
        rows = await in_thread(self._core.guard.run, self._index.scan, start, limit)
        infos = []
        for key, entry in rows:
            _, payload_bytes, _, generation = _ENTRY_UNPACK(entry)
            infos.append(ShardInfo(ShardKey.unpack(key), payload_bytes, generation))
        return infos

    # State.

    def usage(self) -> StoreUsage:
        log = self._core
        with log.lock:
            used = sum(segment.written_bytes for segment in log.segments)
            live = sum(segment.live_bytes for segment in log.segments)
            shards = log.shards
        capacity = log.superblock.size_bytes or used + self._device.free_bytes()
        cache, longest = self._reader.cache, log.shard_bytes_max
        if cache is None:
            return StoreUsage(capacity, used, live, shards, shard_bytes_max=longest)
        return StoreUsage(
            capacity,
            used,
            live,
            shards,
            cache.used_bytes,
            cache.hits,
            cache.misses,
            longest,
        )

    async def check(self) -> None:
        if self._checking is None or self._checking.done():
            self._checking = start_thread(self._core.guard.run, self._check)
        done, _ = await asyncio.wait([self._checking], timeout=_CLOSE_SECONDS)
        if not done:
            raise DeviceFailed(f"{self._device.path} does not answer")
        self._checking.result()

    def _check(self) -> None:
        self._device.check()
        if self._core.failure is not None:  # does it take writes again? the copy is the same bytes
            self._device.pwritev([self._core.superblock.pack()], SUPERBLOCK_COPIES[1])
            self._device.sync()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = self._reader.closed = True
        self._upkeep.cancel()
        await asyncio.gather(self._upkeep, return_exceptions=True)
        self._meter.end()
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._idle.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            pass
        ended = start_thread(self._end)
        ended.add_done_callback(self._left)
        left = _CLOSE_SECONDS - (time.monotonic() - began)
        done, _ = await asyncio.wait([ended], timeout=max(0.0, left))
        if not done:
            self._leave_behind()

    def _end(self) -> None:
        """Blocks until nobody uses the device any more, and closes it."""
        core = self._core
        core.guard.end()
        core.guard.wait()
        if core.failure is None:
            try:
                checkpoint(core, clean=True)
            except Exception as error:
                _log.warning("no last checkpoint of %s: %s", self._device.path, error)
        self._index.close()
        self._device.close()

    def _left(self, ended: asyncio.Future[None]) -> None:
        self._rounds.leave()  # only now: the thread that hung was one of those
        if not ended.cancelled() and (error := ended.exception()) is not None:
            _log.error("closing %s: %s", self._device.path, error)

    def _leave_behind(self) -> None:
        """The device hangs. Its thread keeps it, and closes it should it answer; those who wait for
        it are told."""
        _log.error(
            "%s has not answered for %g seconds: it is left to a thread that waits for it",
            self._device.path,
            _CLOSE_SECONDS,
        )
        with self._in_flight_lock:
            lost, self._in_flight = self._in_flight, ()
        lost, self._pending = [*lost, *self._pending], []
        for item in lost:
            item.done(DeviceFailed(f"{self._device.path} does not answer"))

    # Upkeep.

    async def _run_upkeep(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            if self._core.failure is not None:
                return
            self._meter.count()
            try:
                await self._upkeep_once()
            except Exception as error:  # the device says so on its next write, too
                _log.warning("upkeep of %s: %s", self._device.path, error)

    async def _upkeep_once(self) -> None:
        config = self._config
        changed = self._index.pending or self._core.bytes_since_checkpoint
        overdue = time.monotonic() - self._last_checkpoint > config.checkpoint_seconds
        in_need = overdue or self._core.is_full()  # a checkpoint gives empty segments back
        if self._index.pending >= config.checkpoint_changes or (changed and in_need):
            await self._checkpoint()
        await self._compact()

    async def _compact(self) -> None:
        """Give space back; the harder the less there is left."""
        core, config, now = self._core, self._config, time.monotonic()
        full = core.is_full()
        share = config.compact_live_share_max
        if full:
            share = max(share, 1.0 if core.starving else _LIVE_SHARE_MAX_WHEN_FULL)
        self._damaged_segments = {
            sequence: again for sequence, again in self._damaged_segments.items() if again > now
        }
        if not full:
            await self._compact_segments(share, _VICTIMS)
            return
        async with self._rounds.compacting:
            await self._compact_segments(share, 1)

    async def _compact_segments(self, share: float, most: int) -> None:
        core = self._core
        victims = sparse_segments(core, share, self._damaged_segments)
        for index in victims[:most]:
            sequence = core.segments[index].sequence
            if not core.may_move(core.segments[index].live_bytes):
                continue
            rate = self._config.compact_bytes_per_second
            try:
                moved = await compact(core, index, self._submit_all, rate)
            except DeviceFailed:  # of sectors that cannot be read: other segments may be well
                if core.failure is not None or core.guard.ended:
                    raise
                moved = False
            if not moved:
                self._damaged_segments[sequence] = time.monotonic() + _DAMAGED_RETRY_SECONDS
        if victims:
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        self._last_checkpoint = time.monotonic()
        await in_thread(self._core.guard.run, checkpoint, self._core)
        self._index.refresh()

    def _submit_all(self, items: list[Item]) -> None:
        for item in items:
            self._submit(item)


class LogStoreFactory:
    """Prepares, probes and opens the devices of one node. Indexes live in the node's own data
    directory, named by device id, so that a failing device cannot take its index's pages with it."""

    def __init__(self, config: LogStoreConfig, context: Context) -> None:
        self._config = config
        self._index_dir = context.data_dir
        self._metrics = context.metrics
        self._rounds: Rounds | None = None

    def prepare(self, path: str, *, cluster_id: str, size_bytes: int | None = None) -> str:
        where = Path(path)
        devices.refuse_if_in_use(where)
        if (found := contents(where)) is not None:
            raise ConfigError(
                f"{path} holds {found}; nothing was written to it: {how_to_clear(where)}"
            )
        devices.create(where, size_bytes)
        device = Device(where, self._config.direct)
        try:
            capacity = device.size_bytes or size_bytes or 0
            segment_bytes = _segment_bytes(self._config.segment_bytes, capacity, device)
            _check_size(device, capacity, segment_bytes)
            superblock = Superblock(
                FORMAT_VERSION,
                segment_bytes,
                capacity,
                uuid.UUID(cluster_id).bytes,
                uuid.uuid4().bytes,
                int(time.time() * 1000),
            )
            write_superblock(device, superblock)
        finally:
            device.close()
        return str(uuid.UUID(bytes=superblock.device_id))

    def probe(self, path: str) -> str | None:
        superblock = look(Path(path))
        return None if superblock is None else str(uuid.UUID(bytes=superblock.device_id))

    def opens_of(self, path: str) -> int:
        superblock = look(Path(path))
        return 0 if superblock is None else superblock.opens

    def cluster_of(self, path: str) -> str | None:
        superblock = look(Path(path))
        return None if superblock is None else str(uuid.UUID(bytes=superblock.cluster_id))

    async def open(self, path: str, *, cluster_id: str, opens_min: int = 0) -> LogShardStore:
        log = await asyncio.to_thread(self._open, Path(path), cluster_id, opens_min)
        if self._rounds is None:
            self._rounds = Rounds(asyncio.get_running_loop())
        return LogShardStore(log, self._rounds, self._config, self._metrics)

    def _open(self, path: Path, cluster_id: str, opens_min: int = 0) -> Log:
        device = Device(path, self._config.direct)
        try:
            superblock = read_superblock(device)
            check_cluster(device, superblock, cluster_id)
            superblock = fit(device, superblock)
            if superblock.segment_bytes % device.block_bytes:
                if self._config.direct == "always":
                    raise ConfigError(
                        f"the log segments of {path} are no multiple of its blocks of "
                        f"{device.block_bytes} bytes: set `direct` of its shard store to auto"
                    )
                device.go_buffered()
            return self._recover(device, superblock, opens_min)
        except BaseException:
            device.close()
            raise

    def _recover(self, device: Device, superblock: Superblock, opens_min: int = 0) -> Log:
        where = self._index_path(str(uuid.UUID(bytes=superblock.device_id)))
        index: Index | None = None
        try:
            try:
                index = Index(where)
                log = Log(device, superblock, index, self._config.free_bytes_min)
                recover(log)
            except IndexDamaged as error:
                _log.warning("the index is damaged and is rebuilt: %s", error)
                if index is not None:
                    index.close()
                shutil.rmtree(where)
                index = Index(where)
                log = Log(device, superblock, index, self._config.free_bytes_min)
                recover(log)
            # From here on the device is not clean, and a crash must find that. And a device that
            # cannot be written must say so now, not at the first PUT.
            log.superblock = superblock._replace(
                opens=(max(superblock.opens, opens_min) + 1) % 2**32
            )
            write_superblock(device, log.superblock)
            checkpoint(log)
        except BaseException:
            if index is not None:
                index.close()
            raise
        return log

    def forget(self, device_id: str) -> None:
        shutil.rmtree(self._index_path(device_id), ignore_errors=True)

    def _index_path(self, device_id: str) -> Path:
        return self._index_dir / str(uuid.UUID(device_id))


def _segment_bytes(wanted: int, capacity: int, device: Device) -> int:
    """A small device gets smaller segments, so that it has at least sixteen if it can. One that
    grows may share its file system with others: it gets a sixty-fourth of what is free there, for
    space comes back by whole segments."""
    segment = max(wanted & -_SEGMENT_MULTIPLE_BYTES, LOG_SEGMENT_BYTES_MIN)
    if device.grows and not capacity:
        free = device.free_bytes_now()
        while segment > _GROWING_SEGMENT_BYTES_MIN and free // segment < 64:
            segment //= 2
    else:
        while segment > LOG_SEGMENT_BYTES_MIN and capacity // segment < 16:
            segment //= 2
    return max(segment & -_SEGMENT_MULTIPLE_BYTES, LOG_SEGMENT_BYTES_MIN)


def _check_size(device: Device, capacity: int, segment_bytes: int) -> None:
    least = DATA_OFFSET + _SEGMENTS_MIN * segment_bytes
    if capacity < least and (capacity or not device.grows):
        raise ConfigError(f"{device.path} is too small: a device has {least // MIB} MiB at least")
