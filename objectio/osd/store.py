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
from typing import Annotated, Final

import msgspec
from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.shardstore import (
    Done,
    ShardInfo,
    ShardWrite,
    StoreState,
    StoreUsage,
)
from objectio.errors import ChecksumMismatch, ConfigError, DeviceFailed, NotFound
from objectio.limits import KIB, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MIN, MIB
from objectio.model.stripe import ShardKey
from objectio.osd import device as devices
from objectio.osd.device import Device
from objectio.osd.format import (
    FORMAT_VERSION,
    SUPERBLOCK_BYTES,
    SUPERBLOCK_COPIES,
    Superblock,
    verify_blocks,
    verify_small,
)
from objectio.osd.index import ENTRY, Index, IndexDamaged
from objectio.osd.log import DeleteItem, Item, Log, PutItem, SyncItem
from objectio.osd.recovery import recover
from objectio.osd.rounds import Outcome, Rounds
from objectio.osd.upkeep import checkpoint, compact, in_thread, sparse_segments

_log: Final = logging.getLogger("objectio.osd")

_BLOCK_BYTES: Final = 64 * KIB
_UPKEEP_SECONDS: Final = 0.5
_GROWING_SEGMENT_BYTES_MIN: Final = 8 * MIB
"""Room for the largest shard of the default stripe, a replica of 4 MiB."""
_LIVE_SHARE_MAX_WHEN_FULL: Final = 0.9
_VICTIMS: Final = 4
"""Segments that are compacted between two checkpoints; one when only the spare ones are left."""
_DAMAGED_RETRY_SECONDS: Final = 600.0
_ENTRY_UNPACK: Final = ENTRY.unpack


class LogStoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the log-structured shard store, `[osd.log]`."""

    segment_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=LOG_SEGMENT_BYTES_MIN,
            description="Size of a log segment of devices prepared from now on; a small device "
            "gets smaller ones.",
        ),
    ] = LOG_SEGMENT_BYTES_DEFAULT
    free_bytes_min: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="A directory takes no more shards when its file system has less than this "
            "left, so that deletes and metadata still have room.",
        ),
    ] = 32 * MIB
    checkpoint_changes: Annotated[
        int, msgspec.Meta(ge=1, description="Index changes after which a checkpoint is written.")
    ] = 16_384
    checkpoint_seconds: Annotated[
        float, msgspec.Meta(gt=0, description="The longest time between changes and a checkpoint.")
    ] = 10.0
    compact_live_share_max: Annotated[
        float,
        msgspec.Meta(ge=0, le=1, description="Segments with a smaller live share are compacted."),
    ] = 0.5
    compact_bytes_per_second: Annotated[
        float, msgspec.Meta(gt=0, description="How fast compaction may copy, per device.")
    ] = 64.0 * MIB


class LogShardStore:
    """See `objectio.abc.shardstore.ShardStore`; made by `LogStoreFactory.open`."""

    def __init__(self, log: Log, rounds: Rounds, config: LogStoreConfig) -> None:
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
        self._readers = _Readers()
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
        return items

    def run_batch(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return self._core.run_batch(items)

    def batch_done(self) -> None:
        if not self._pending:
            self._idle.set()

    # Reading.

    def _locate(self, key: bytes) -> bytes:
        if self._closed:
            raise DeviceFailed(f"{self._device.path} was closed")
        entry = self._index.get(key)
        if entry is None:
            raise NotFound("no such shard on this device", kind="shard")
        return entry

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        packed = key.pack()
        at, payload_bytes, header_bytes, _ = _ENTRY_UNPACK(self._locate(packed))
        if payload_bytes > _BLOCK_BYTES:
            return None
        raw = self._device.pread_now(header_bytes + payload_bytes, at)
        if raw is None:
            return None
        try:
            payload = verify_small(memoryview(raw), header_bytes, payload_bytes, packed)
        except ChecksumMismatch:
            return None  # the record may have moved; the slow path looks twice
        if offset or length is not None:
            return payload[offset : None if length is None else offset + length]
        return payload

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        return await asyncio.to_thread(self.plan_read(key, offset, length))

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer]:
        packed = key.pack()
        self._locate(packed)

        def read() -> Buffer:
            with self._readers:
                entry = self._locate(packed)
                while True:
                    try:
                        return self._read_at(packed, entry, offset, length)
                    except ChecksumMismatch:
                        now = self._locate(packed)
                        if now == entry:
                            raise
                        entry = now  # compaction moved it while we read

        return read

    def _read_at(self, key: bytes, entry: bytes, offset: int, length: int | None) -> Buffer:
        """Blocking: the payload's bytes from `offset` on, verified block by block."""
        at, payload_bytes, header_bytes, _ = _ENTRY_UNPACK(entry)
        stop = payload_bytes if length is None else min(payload_bytes, offset + length)
        if offset >= stop:
            return b""
        first = offset // _BLOCK_BYTES
        last = -(-stop // _BLOCK_BYTES)
        begin, end = first * _BLOCK_BYTES, min(last * _BLOCK_BYTES, payload_bytes)
        if first == 0:
            raw = memoryview(self._device.pread(header_bytes + end, at))
            header, blocks = raw[:header_bytes], raw[header_bytes:]
        else:
            header = memoryview(self._device.pread(header_bytes, at))
            blocks = memoryview(self._device.pread(end - begin, at + header_bytes + begin))
        if len(blocks) != end - begin:
            raise ChecksumMismatch("a shard on the device is cut short", key=key.hex())
        verify_blocks(header, key, blocks, first, payload_bytes)
        return blocks[offset - begin : stop - begin]

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
        with self._readers:
            rows = await in_thread(self._index.scan, start, limit)
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
        return StoreUsage(capacity, used, live, shards)

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    def _check(self) -> None:
        self._device.check()
        if self._core.failure is not None:  # does it take writes again? the copy is the same bytes
            self._device.pwritev([self._core.superblock.pack()], SUPERBLOCK_COPIES[1])
            self._device.sync()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._upkeep.cancel()
        await asyncio.gather(self._upkeep, return_exceptions=True)
        await self._idle.wait()
        self._rounds.leave()
        await asyncio.to_thread(self._readers.end)
        if self._core.failure is None:
            try:
                await asyncio.to_thread(checkpoint, self._core, clean=True)
            except Exception as error:
                _log.warning("no last checkpoint of %s: %s", self._device.path, error)
        self._index.close()
        self._device.close()

    # Upkeep.

    async def _run_upkeep(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            if self._core.failure is not None:
                return
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
            share = max(share, _LIVE_SHARE_MAX_WHEN_FULL)
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
            if not await compact(core, index, self._submit_all, rate):
                self._damaged_segments[sequence] = time.monotonic() + _DAMAGED_RETRY_SECONDS
        if victims:
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        self._last_checkpoint = time.monotonic()
        await in_thread(checkpoint, self._core)
        self._index.refresh()

    def _submit_all(self, items: list[Item]) -> None:
        for item in items:
            self._submit(item)


class _Readers:
    """Who reads in another thread; what they read from is closed only when the last one is done.
    Raises `DeviceFailed` for those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._ended = False

    def __enter__(self) -> None:
        with self._changed:
            if self._ended:
                raise DeviceFailed("the device was closed")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            if self._ended and not self._count:
                self._changed.notify_all()

    def end(self) -> None:
        """Let nobody in any more, and wait for those who are."""
        with self._changed:
            self._ended = True
            while self._count:
                self._changed.wait()


class LogStoreFactory:
    """Prepares, probes and opens the devices of one node. Indexes live in the node's own data
    directory, named by device id, so that a failing device cannot take its index's pages with it."""

    def __init__(self, config: LogStoreConfig, context: Context) -> None:
        self._config = config
        self._index_dir = context.data_dir
        self._rounds: Rounds | None = None

    def prepare(self, path: str, *, cluster_id: str, size_bytes: int | None = None) -> str:
        where = Path(path)
        if not devices.is_blank(where):
            raise ConfigError(f"{path} is not empty; nothing was written to it")
        devices.create(where, size_bytes)
        device = Device(where)
        try:
            capacity = device.size_bytes or size_bytes or 0
            superblock = Superblock(
                FORMAT_VERSION,
                _segment_bytes(self._config.segment_bytes, capacity, device),
                capacity,
                uuid.UUID(cluster_id).bytes,
                uuid.uuid4().bytes,
                int(time.time() * 1000),
            )
            _write_superblock(device, superblock)
        finally:
            device.close()
        return str(uuid.UUID(bytes=superblock.device_id))

    def probe(self, path: str) -> str | None:
        where = Path(path)
        try:
            if devices.is_blank(where):
                return None
            with devices.log_path(where).open("rb") as file:
                superblock = _find_superblock(file.read(SUPERBLOCK_BYTES * len(SUPERBLOCK_COPIES)))
        except FileNotFoundError:
            superblock = None
        except OSError as error:
            raise DeviceFailed(f"cannot read {path}: {error.strerror}") from error
        if superblock is None:
            raise ConfigError(f"{path} holds something that is not a device of ObjectIO")
        return str(uuid.UUID(bytes=superblock.device_id))

    async def open(self, path: str, *, cluster_id: str) -> LogShardStore:
        log = await asyncio.to_thread(self._open, Path(path), cluster_id)
        if self._rounds is None:
            self._rounds = Rounds(asyncio.get_running_loop())
        return LogShardStore(log, self._rounds, self._config)

    def _open(self, path: Path, cluster_id: str) -> Log:
        device = Device(path)
        try:
            superblock = _read_superblock(device)
            if superblock.cluster_id != uuid.UUID(cluster_id).bytes:
                raise ConfigError(f"{path} belongs to another cluster; it is left alone")
            return self._recover(device, superblock)
        except BaseException:
            device.close()
            raise

    def _recover(self, device: Device, superblock: Superblock) -> Log:
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
            log.superblock = superblock._replace(opens=(superblock.opens + 1) % 2**32)
            _write_superblock(device, log.superblock)
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
    segment = wanted
    if device.grows and not capacity:
        free = device.free_bytes_now()
        while segment > _GROWING_SEGMENT_BYTES_MIN and free // segment < 64:
            segment //= 2
        return segment
    while capacity and segment > LOG_SEGMENT_BYTES_MIN and capacity // segment < 16:
        segment //= 2
    return max(segment, LOG_SEGMENT_BYTES_MIN)


def _find_superblock(raw: bytes) -> Superblock | None:
    """The newest of the copies."""
    copies = (
        Superblock.unpack(raw[offset : offset + SUPERBLOCK_BYTES]) for offset in SUPERBLOCK_COPIES
    )
    return max((copy for copy in copies if copy), key=lambda copy: copy.opens, default=None)


def _read_superblock(device: Device) -> Superblock:
    found = _find_superblock(device.pread(SUPERBLOCK_BYTES * len(SUPERBLOCK_COPIES), 0))
    if found is None:
        raise ConfigError(f"{device.path} is not a device of ObjectIO; prepare it first")
    return found


def _write_superblock(device: Device, superblock: Superblock) -> None:
    """One copy after the other, so that a power cut leaves one of them whole."""
    for offset in SUPERBLOCK_COPIES:
        device.pwritev([superblock.pack()], offset)
        device.sync()
