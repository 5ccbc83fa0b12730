"""The log of one device: where the next record goes, which segments are in use, how a batch is
written.

`run_batch` is called by one thread at a time. What it shares with readers and with the checkpoint
(the index, the segment table) it changes only after the bytes are written; whatever the index says
is on the device.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import Done, ShardWrite
from objectio.errors import DeviceFailed, DeviceFull, InvalidRequest
from objectio.limits import MIB
from objectio.osd.device import Device
from objectio.osd.format import (
    ALIGNMENT,
    BLOCK_LOG2,
    DATA_OFFSET,
    HEADER_BYTES_MAX,
    HEADER_BYTES_MIN,
    KIND_FREE,
    KIND_SEGMENT,
    KIND_SHARD,
    KIND_TOMBSTONE,
    SUPERBLOCK_BYTES,
    TOMBSTONE_TARGET,
    Record,
    Superblock,
    block_checksums,
    header_bytes_for,
    pack_header,
    pack_small_header,
    record_bytes,
)
from objectio.osd.guard import Guard
from objectio.osd.index import ENTRY, Index, Position, SegmentState
from objectio.osd.rounds import Outcome
from objectio.osd.walk import Found, segment_offset

_WRITEBACK_BYTES_MIN: Final = MIB
_SMALL_BYTES_MAX: Final = 1 << BLOCK_LOG2
_PADDING: Final = tuple(bytes(count) for count in range(ALIGNMENT))
_FAMILY_BYTES_MAX: Final = 255
_SPARE_SEGMENTS: Final = 3
"""Kept when the device is full, so that it can still be emptied: one for shards that deleting itself
needs, one for tombstones, and the last for compaction, which gives back more than it takes."""
_LEFT_BY_RESERVE: Final = 2
_LEFT_BY_DELETES: Final = 1


class PutItem(NamedTuple):
    done: Done
    write: ShardWrite


class DeleteItem(NamedTuple):
    done: Done
    keys: Sequence[bytes]


class SyncItem(NamedTuple):
    done: Done


class MoveItem(NamedTuple):
    """A record on its way out of a sparse segment; a shard moves only if it is still current."""

    done: Done
    record: Record
    key: bytes
    offset: int
    payload: Buffer


_TOMBSTONE_BYTES: Final = record_bytes(
    header_bytes_for(TOMBSTONE_TARGET.size, b""), TOMBSTONE_TARGET.size
)


def _random_sequence() -> int:
    """Where a device's sequence numbers begin; far from the end of 64 bits."""
    return int.from_bytes(os.urandom(6), "big")


Item = PutItem | DeleteItem | SyncItem | MoveItem


def _segments_kept(item: Item) -> int:
    """How many free segments an item must leave."""
    if isinstance(item, PutItem):
        return _LEFT_BY_RESERVE if item.write.reserve else _SPARE_SEGMENTS
    return 0 if isinstance(item, MoveItem) else _LEFT_BY_DELETES


class _Draft(NamedTuple):
    """A record before it has a place. `old` is the index entry that it makes dead."""

    kind: int
    key: bytes
    payload: Buffer
    old: bytes | None
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)  # k, m, generation, stripe_bytes
    family: bytes = b""
    checksums: Sequence[int] = ()
    block_log2: int = BLOCK_LOG2


def _tombstone(key: bytes, target: Buffer, old: bytes | None) -> _Draft:
    return _Draft(KIND_TOMBSTONE, key, target, old, checksums=block_checksums(target))


class _Change(NamedTuple):
    """One change of the index, made when the bytes are written."""

    key: bytes
    entry: bytes | None
    old: bytes | None
    total_bytes: int


@dataclass(slots=True)
class Tail:
    """Where the next record goes."""

    segment_index: int
    segment_sequence: int
    offset_in_segment: int
    record_sequence: int

    def position(self) -> Position:
        return Position(
            self.segment_index,
            self.segment_sequence,
            self.offset_in_segment,
            self.record_sequence,
            False,
        )


@dataclass(slots=True)
class _Run:
    """Records that go to the tail in one write. `start` is where the tail goes back to if it
    fails."""

    start: Tail
    offset: int
    buffers: list[Buffer] = field(default_factory=list)
    size: int = 0
    changes: list[_Change] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


class Log:
    """`lock` guards the segment table, the tail and the counters against the checkpoint."""

    def __init__(
        self, device: Device, superblock: Superblock, index: Index, free_bytes_min: int
    ) -> None:
        self.device = device
        self.superblock = superblock
        self.index = index
        self.guard = Guard()
        """Entered by whoever uses the device or the index in a thread."""
        self.lock = threading.Lock()
        self.checkpoint_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self.segments: list[SegmentState] = []
        self.free: list[int] = []
        self.last_sequence = 0
        self.tail = Tail(-1, 0, superblock.segment_bytes, 0)
        self.applied = self.tail.position()
        """The tail up to which the index is true."""
        self.shards = 0
        self.failure: BaseException | None = None
        self.bytes_since_checkpoint = 0
        self.refusing = False
        """A shard was refused for want of a segment, and none has become free since."""
        self.starving = False
        """Likewise, something that a full device should still take was refused."""
        self._unsynced = True
        """Something was written, by this process or the one before, that no sync has covered."""
        self._write_through = False
        self._free_bytes_min = free_bytes_min
        self._run = self._new_run()
        self._overlay: dict[bytes, bytes | None] = {}
        """Entries as the batch under way will leave them."""

    # One batch.

    def run_batch(self, items: Sequence[Item]) -> list[Outcome]:
        """Write and, if any item asks for it, sync. After an error of the device, or a bug, nobody
        knows what is on it: the log then refuses everything until it is opened anew."""
        if self.failure is not None:
            return [(item.done, self.failure) for item in items]
        durable = any(not isinstance(item, PutItem) or item.write.sync for item in items)
        # Where nothing else waits to be synced, the write itself can be durable.
        self._write_through = durable and not self._unsynced
        try:
            outcomes = self._write(items)
            if durable and (self._unsynced or any(isinstance(item, SyncItem) for item in items)):
                self.sync()
                self._unsynced = False
        except BaseException as error:
            failure = self.fail(error)
            return [(item.done, failure) for item in items]
        return outcomes

    def sync(self) -> None:
        """Make everything written so far durable. One at a time: the kernel tells of a lost write
        once, to whoever syncs first, and nobody may take the silence after that for success."""
        with self._sync_lock:
            if self.failure is not None:
                raise self.failure
            try:
                self.device.sync()
            except BaseException as error:
                self.fail(error)
                raise

    def fail(self, error: BaseException) -> BaseException:
        """Nothing is written any more. Returns what callers are told."""
        if self.failure is None:
            if not isinstance(error, DeviceFailed):
                told = DeviceFailed(f"{self.device.path} failed: {error!r}")
                told.__cause__ = error
                error = told
            self.failure = error
        return self.failure

    def _write(self, items: Sequence[Item]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self._run = self._new_run()
        self._overlay.clear()
        full = self.is_full()
        for item in items:
            try:
                if isinstance(item, PutItem):
                    if full and not self._may_use_reserve(item.write):
                        raise DeviceFull(f"{self.device.path} is full")
                    if not self._put_fresh(item.write):
                        self._add(item, outcomes)
                elif isinstance(item, MoveItem) and not self.may_move(
                    memoryview(item.payload).nbytes
                ):
                    raise DeviceFull(f"{self.device.path} has no room for compaction")
                else:
                    self._add(item, outcomes)
                self._run.items.append(item)
            except (DeviceFull, InvalidRequest) as error:
                outcomes.append((item.done, error))
        try:
            self._flush(outcomes)
        except DeviceFull:
            pass  # every item of the run has its answer
        return outcomes

    def _put_fresh(self, write: ShardWrite) -> bool:
        """The common case in one go: a small shard of a new blob, with room for it in the segment.
        False, and nothing done, if it is another case."""
        if len(write.payload) != 1:
            return False
        payload = write.payload[0]
        size = memoryview(payload).nbytes
        key = write.key.pack()
        if not 0 < size <= _SMALL_BYTES_MAX or self._current(key) is not None:
            return False
        run, tail, at = self._run, self.tail, write.coordinates
        family = at.family.encode("ascii")
        header_bytes = HEADER_BYTES_MIN + 8 + len(family)
        total = record_bytes(header_bytes, size)
        if not 0 < tail.offset_in_segment <= self.superblock.segment_bytes - total:
            return False
        shape = (at.data_shards, at.parity_shards, at.generation, at.stripe_bytes)
        tail.record_sequence += 1
        tail.offset_in_segment += total
        header = pack_small_header(
            tail.segment_sequence, tail.record_sequence, key, shape, payload, size, family
        )
        entry = ENTRY.pack(run.offset + run.size, size, header_bytes, at.generation)
        run.changes.append(_Change(key, entry, None, total))
        run.buffers += (header, payload, _PADDING[total - header_bytes - size])
        run.size += total
        self._overlay[key] = entry
        return True

    def _add(self, item: Item, outcomes: list[Outcome]) -> None:
        """Give an item's records their place at the tail; in the next segment if this one ends."""
        if isinstance(item, PutItem):
            self._make_room(item, outcomes)
        for draft in self._drafts_of(item):
            size = memoryview(draft.payload).nbytes
            total = record_bytes(header_bytes_for(size, draft.family), size)
            if self.tail.offset_in_segment + total > self.superblock.segment_bytes:
                self._next_segment(outcomes, _segments_kept(item))
            if self.tail.offset_in_segment == 0:
                self._append(_Draft(KIND_SEGMENT, self.superblock.device_id + bytes(5), b"", None))
            self._append(draft)

    def _make_room(self, item: PutItem, outcomes: list[Outcome]) -> None:
        """See that a shard, and the tombstone of the one it may replace, go into one segment: a
        shard that is refused must not have killed the one before."""
        write = item.write
        size = sum(memoryview(part).nbytes for part in write.payload)
        total = record_bytes(header_bytes_for(size, write.coordinates.family.encode("ascii")), size)
        if total + HEADER_BYTES_MIN > self.superblock.segment_bytes - _TOMBSTONE_BYTES:
            raise InvalidRequest(f"a record of {total} bytes is larger than a log segment")
        if self.tail.offset_in_segment + total + _TOMBSTONE_BYTES > self.superblock.segment_bytes:
            self._next_segment(outcomes, _segments_kept(item))

    def _next_segment(self, outcomes: list[Outcome], kept: int) -> None:
        self._flush(outcomes)
        self._open_segment(kept)

    def _drafts_of(self, item: Item) -> Iterator[_Draft]:
        if isinstance(item, PutItem):
            write = item.write
            key = write.key.pack()
            old = self._current(key)
            payload = write.payload[0] if len(write.payload) == 1 else b"".join(write.payload)
            at = write.coordinates
            shape = (at.data_shards, at.parity_shards, at.generation, at.stripe_bytes)
            family = at.family.encode("ascii")
            yield _Draft(KIND_SHARD, key, payload, old, shape, family, block_checksums(payload))
            if old is not None and self._segment_of(old) != self.tail.segment_index:
                # What is replaced stays dead, also if the index is rebuilt and the new one is
                # damaged by then. Behind the new one, so that a write that is cut short leaves one
                # of them. It cannot say so within one segment, where the place decides.
                yield _tombstone(key, self._target_of(old), None)
        elif isinstance(item, DeleteItem):
            for key in item.keys:
                old = self._current(key)
                if old is not None:
                    yield _tombstone(key, self._target_of(old), old)
        elif isinstance(item, MoveItem):
            yield from self._drafts_of_move(item)

    def _drafts_of_move(self, item: MoveItem) -> Iterator[_Draft]:
        record = item.record
        if record.kind == KIND_TOMBSTONE:
            yield _tombstone(item.key, item.payload, None)
            return
        old = self._current(item.key)
        if old is not None and ENTRY.unpack(old)[0] == item.offset:
            yield _Draft(
                KIND_SHARD,
                item.key,
                item.payload,
                old,
                (record.data_shards, record.parity_shards, record.generation, record.stripe_bytes),
                record.family.encode("ascii"),
                record.block_checksums,
                record.block_log2,
            )

    def _current(self, key: bytes) -> bytes | None:
        if key in self._overlay:
            return self._overlay[key]
        return self.index.get(key)

    def _segment_of(self, entry: bytes) -> int:
        return self.segment_of(ENTRY.unpack(entry)[0])

    def _target_of(self, entry: bytes) -> bytes:
        index = self._segment_of(entry)
        return TOMBSTONE_TARGET.pack(index, self.segments[index].sequence)

    def _new_run(self) -> _Run:
        base = segment_offset(self.tail.segment_index, self.superblock.segment_bytes)
        return _Run(copy.copy(self.tail), base + self.tail.offset_in_segment)

    def _append(self, draft: _Draft) -> None:
        run, tail, key = self._run, self.tail, draft.key
        size = memoryview(draft.payload).nbytes
        header = pack_header(
            draft.kind,
            tail.segment_sequence,
            tail.record_sequence + 1,
            key[:16],
            int.from_bytes(key[16:20], "big"),
            key[20],
            *draft.shape,
            size,
            draft.checksums,
            draft.family,
            draft.block_log2,
        )
        total = record_bytes(len(header), size)
        if draft.kind != KIND_SEGMENT:
            entry = None
            if draft.kind == KIND_SHARD:
                entry = ENTRY.pack(run.offset + run.size, size, len(header), draft.shape[2])
            run.changes.append(_Change(key, entry, draft.old, total))
            if entry is not None or draft.old is not None:
                self._overlay[key] = entry
        run.buffers.append(header)
        if size:
            run.buffers.append(draft.payload)
        if padding := total - len(header) - size:
            run.buffers.append(bytes(padding))
        run.size += total
        tail.offset_in_segment += total
        tail.record_sequence += 1

    def _flush(self, outcomes: list[Outcome]) -> None:
        """Write the run at its place and make its changes visible, or refuse its items if the
        device has no room: then nothing of the run has happened, and the tail goes back."""
        run = self._run
        if run.buffers:
            self._pad(run)
            try:
                self._write_run(run)
            except DeviceFull as error:
                # Its number is used up: whatever the device took of the run may come to stand
                # behind what is written here next, and must be older than that.
                run.start.record_sequence = self.tail.record_sequence
                self.tail = run.start
                self._overlay.clear()
                outcomes.extend((item.done, error) for item in run.items)
                self._run = self._new_run()
                raise
            if run.size >= _WRITEBACK_BYTES_MIN:
                self.device.start_writeback(run.offset, run.size)
            with self.lock:
                self.bytes_since_checkpoint += run.size
                segment = self.segments[self.tail.segment_index]
                segment.written_bytes = self.tail.offset_in_segment
                for change in run.changes:
                    self.apply(segment, change)
                self.applied = self.tail.position()
        outcomes.extend((item.done, None) for item in run.items)
        self._run = self._new_run()

    def _pad(self, run: _Run) -> None:
        """Fill the last block of a device that is written by blocks: the next run begins behind it,
        so that no block which holds a promise is ever written again."""
        padding = -run.size % self.device.block_bytes
        if padding:
            run.buffers.append(bytes(padding))
            run.size += padding
            self.tail.offset_in_segment += padding

    def _write_run(self, run: _Run) -> None:
        if not self._write_through:
            self._unsynced = True
            self.device.pwritev(run.buffers, run.offset)
            return
        with self._sync_lock:  # for the reason that `sync` gives
            if self.failure is not None:
                raise self.failure
            try:
                self.device.pwritev(run.buffers, run.offset, durable=True)
            except DeviceFull:
                raise
            except BaseException as error:
                self.fail(error)
                raise

    def apply(self, segment: SegmentState, change: _Change) -> None:
        """Make one record count. `segment` is the one that holds it."""
        if change.old is not None:
            offset, payload_bytes, header_bytes, _ = ENTRY.unpack(change.old)
            dead = self.segments[self.segment_of(offset)]
            dead.live_bytes -= record_bytes(header_bytes, payload_bytes)
            dead.moved = dead.moved or (change.entry is not None and dead is not segment)
            self.shards -= 1
        if change.entry is not None:
            self.index.set(change.key, change.entry)
            segment.live_bytes += change.total_bytes
            self.shards += 1
        else:
            segment.tombstones += 1
            if change.old is not None:
                self.index.set(change.key, None)

    def replay(self, segment_index: int, found: Found) -> None:
        """Apply a record that was found in the log when the device was opened."""
        record = found.record
        segment, key = self.segments[segment_index], record.key
        old = self.index.get(key)
        entry = None
        if record.kind == KIND_SHARD:
            entry = ENTRY.pack(
                found.offset, record.payload_bytes, record.header_bytes, record.generation
            )
        elif old is not None:
            # Compaction may have moved the tombstone behind a record that is newer than the dead.
            _, sequence = TOMBSTONE_TARGET.unpack(found.payload)
            if self.segments[self.segment_of(ENTRY.unpack(old)[0])].sequence > sequence:
                old = None
        self.apply(segment, _Change(key, entry, old, record.total_bytes))

    # Segments.

    @property
    def shard_bytes_max(self) -> int:
        """The largest shard that a segment takes, whatever its codec family is called."""
        room = self.superblock.segment_bytes - HEADER_BYTES_MIN - _TOMBSTONE_BYTES - ALIGNMENT
        room -= HEADER_BYTES_MIN + _FAMILY_BYTES_MAX
        checksums = 8 * -(-room >> BLOCK_LOG2)
        header_max = HEADER_BYTES_MAX - HEADER_BYTES_MIN - _FAMILY_BYTES_MAX
        return min(room - checksums, header_max // 8 << BLOCK_LOG2)

    def resume(self, position: Position) -> None:
        """Go on where the log ended. It may have been written by smaller blocks."""
        block = self.device.block_bytes
        self.applied = position
        self.tail = Tail(
            position.segment_index,
            position.segment_sequence,
            (position.offset_in_segment + block - 1) & -block,
            position.record_sequence,
        )

    def segment_of(self, offset: int) -> int:
        return (offset - DATA_OFFSET) // self.superblock.segment_bytes

    def segment_start(self, index: int) -> int:
        return segment_offset(index, self.superblock.segment_bytes)

    def segments_on_device(self) -> int:
        """How many the device has, or, where it grows, how many it may have begun."""
        size = self.superblock.size_bytes or self.device.length_bytes()
        return max(0, -(-(size - DATA_OFFSET) // self.superblock.segment_bytes))

    def segments_left(self) -> int:
        """Free segments of a device of fixed size; a large number where it grows."""
        size = self.superblock.size_bytes
        if not size:
            return 1 << 30
        return (size - DATA_OFFSET) // self.superblock.segment_bytes - (
            len(self.segments) - len(self.free)
        )

    def is_full(self) -> bool:
        """Whether shards are refused: only tombstones and moves may still be written."""
        if self.refusing or self.segments_left() < _SPARE_SEGMENTS:
            return True
        return self.device.grows and self.device.free_bytes() < self._free_bytes_min

    def _may_use_reserve(self, write: ShardWrite) -> bool:
        """Whether a shard may be written though the device is full. What is left where devices grow
        is for tombstones, compaction and checkpoints. Segments are counted when one is opened."""
        if not write.reserve:
            return False
        if not self.device.grows:
            return True
        size = sum(memoryview(part).nbytes for part in write.payload)
        return self.device.free_bytes_now() - size >= self._free_bytes_min // 2

    def may_move(self, size_bytes: int) -> bool:
        """Whether compaction may copy so much. Where devices grow in one file system, copies must
        not use up what tombstones and checkpoints need: without these nothing is ever freed."""
        if not self.device.grows:
            return True
        return self.device.free_bytes_now() - size_bytes >= self._free_bytes_min // 4

    def _open_segment(self, kept: int) -> None:
        """Move the tail to the start of a free segment, if `kept` are left then."""
        if self.segments_left() <= kept:
            self.refusing = True
            self.starving = self.starving or kept < _SPARE_SEGMENTS
            raise DeviceFull(f"{self.device.path} has no free log segment")
        with self.lock:
            self.last_sequence = (self.last_sequence or _random_sequence()) + 1
            fresh = SegmentState(self.last_sequence)
            if self.free:
                index = self.free.pop()
                self.segments[index] = fresh
            else:
                index = len(self.segments)
                self.segments.append(fresh)
        self.tail = Tail(index, fresh.sequence, 0, self.tail.record_sequence)
        self._run = self._new_run()

    def release(self, index: int) -> None:
        """Give back a segment whose records are all dead, once a checkpoint says so."""
        offset = segment_offset(index, self.superblock.segment_bytes)
        sequence = self.segments[index].sequence
        header = pack_header(KIND_FREE, sequence, 0, self.superblock.device_id)
        # A whole block: what else is in it is a shard that is dead, and the checkpoint knows that.
        self.device.pwritev([header.ljust(self.device.block_bytes, b"\0")], offset)
        self.sync()
        # The first block stays, to say FREE; the rest goes back to the file system.
        kept = max(SUPERBLOCK_BYTES, self.device.block_bytes)
        self.device.discard(offset + kept, self.superblock.segment_bytes - kept)
        with self.lock:
            self.starving = False
            self.segments[index] = SegmentState()
            self.free.append(index)
            self.refusing = self.refusing and self.segments_left() <= _SPARE_SEGMENTS
