"""Upkeep of a device: checkpoints of the index, and compaction, which gives space back.

A segment goes through three steps to be free again: its live records are moved to the tail (or all
die by themselves), a checkpoint makes that known durably, and only then is the segment marked FREE
and its space discarded. So a crash in between finds either the old record or its copy, never none.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Final

import msgspec
from typing_extensions import Buffer

from objectio.errors import DeviceFailed
from objectio.limits import MIB
from objectio.osd.format import KIND_SHARD, KIND_TOMBSTONE, TOMBSTONE_TARGET
from objectio.osd.guard import in_thread
from objectio.osd.index import ENTRY, Checkpoint, SegmentState
from objectio.osd.log import Log, MoveItem
from objectio.osd.walk import Found, walk

if TYPE_CHECKING:
    from objectio.abc.shardstore import Done
    from objectio.osd.log import Item

_MOVE_BYTES: Final = 4 * MIB
"""What compaction submits at once: a foreground write waits for at most this much of it."""


def checkpoint(log: Log, *, clean: bool = False) -> None:
    """Write the index up to the log's applied position, and give back what is empty. Blocks.

    The device is synced first, for the index must not point to what a power cut can take away. If
    that fails the log has failed: the kernel reports a lost write once, and this was the time.
    """
    with log.checkpoint_lock:
        with log.lock:
            log.index.freeze()
            position = msgspec.structs.replace(log.applied, clean=clean)
            segments = [copy.copy(segment) for segment in log.segments]
            shards, covered = log.shards, log.bytes_since_checkpoint
        log.sync()
        superblock = log.superblock
        log.index.write(
            Checkpoint(superblock.device_id, position, segments, shards, superblock.opens)
        )
        with log.lock:
            log.bytes_since_checkpoint -= covered
        if not clean:
            _release_empty(log, segments, position.segment_sequence)


def _release_empty(log: Log, segments: list[SegmentState], before: int) -> None:
    """`segments` as the checkpoint that was just written has them."""
    for index, segment in enumerate(segments):
        if 0 < segment.sequence < before and not segment.live_bytes and not segment.tombstones:
            try:
                log.release(index)
            except DeviceFailed as error:
                log.fail(error)
                raise


def sparse_segments(log: Log, live_share_max: float, exclude: Container[int]) -> list[int]:
    """Segments worth compacting, emptiest first."""
    with log.lock:
        rows = [
            (segment.live_bytes / log.superblock.segment_bytes, index)
            for index, segment in enumerate(log.segments)
            if segment.sequence
            and segment.sequence < log.applied.segment_sequence
            and segment.sequence not in exclude
            and (segment.live_bytes or segment.tombstones)
            and segment.live_bytes <= live_share_max * max(segment.written_bytes, 1)
        ]
    return [index for _, index in sorted(rows)]


async def compact(
    log: Log,
    index: int,
    submit: Callable[[list[Item]], None],
    rate_bytes_per_second: float,
) -> bool:
    """Move what is live in a segment to the tail. False if a record there is damaged: its shard
    must be repaired first, since a copy would lose the evidence."""
    sequence = log.segments[index].sequence
    loop = asyncio.get_running_loop()
    movable = await in_thread(log.guard.run, _survey, log, index, sequence)
    if not movable:
        return False
    walker = _live(log, index, sequence)
    while batch := await in_thread(log.guard.run, _take, walker):
        started = loop.time()
        waits = [loop.create_future() for _ in batch]
        submit([_move(found, _done(wait)) for found, wait in zip(batch, waits, strict=True)])
        for wait in waits:
            error = await wait
            if error is not None:
                raise error
        spent = sum(found.record.total_bytes for found in batch) / rate_bytes_per_second
        await asyncio.sleep(max(0.0, spent - (loop.time() - started)))
    with log.lock:
        if log.segments[index].sequence == sequence and log.segments[index].live_bytes == 0:
            log.segments[index].tombstones = 0
    return True


def _move(found: Found, done: Done) -> MoveItem:
    payload: Buffer = found.payload
    if found.record.kind == KIND_TOMBSTONE:
        # What it killed in its own segment goes with that; what came after it there may live on
        # in a copy that is written behind this one.
        index, sequence = TOMBSTONE_TARGET.unpack(payload)
        own = found.record.segment_sequence
        payload = TOMBSTONE_TARGET.pack(index, min(sequence, own - 1))
    return MoveItem(done, found.record, found.record.key, found.offset, payload)


def _done(wait: asyncio.Future[BaseException | None]) -> Done:
    def done(error: BaseException | None) -> None:
        if not wait.done():
            wait.set_result(error)

    return done


def _survey(log: Log, index: int, sequence: int) -> bool:
    """Whether everything live in the segment is intact and can be found by walking it."""
    live = 0
    for found in walk(log.device, index, log.superblock.segment_bytes, sequence):
        if found.record.kind == KIND_SHARD and _is_current(log, found):
            if not found.intact:
                return False
            live += found.record.total_bytes
    return live >= log.segments[index].live_bytes


def _live(log: Log, index: int, sequence: int) -> Iterator[Found]:
    with log.lock:
        others = [each for each in log.segments if each.sequence not in (0, sequence)]
    there = {segment.sequence for segment in others}
    moved_from = min((segment.sequence for segment in others if segment.moved), default=sequence)

    def has_work(tombstone: Found) -> bool:
        """Whether what it kills may be in another segment that is still there: the one that it
        names, or an older one that compaction copied the dead record from."""
        _, target = TOMBSTONE_TARGET.unpack(tombstone.payload)
        return target in there or moved_from < target

    for found in walk(log.device, index, log.superblock.segment_bytes, sequence):
        kind = found.record.kind
        if found.intact and (
            (kind == KIND_SHARD and _is_current(log, found))
            or (kind == KIND_TOMBSTONE and has_work(found))
        ):
            yield found


def _take(walker: Iterator[Found]) -> list[Found]:
    batch: list[Found] = []
    size = 0
    for found in itertools.islice(walker, 1000):
        batch.append(found)
        size += found.record.total_bytes
        if size >= _MOVE_BYTES:
            break
    return batch


def _is_current(log: Log, found: Found) -> bool:
    entry = log.index.get(found.record.key)
    if entry is None:
        return False
    offset: int = ENTRY.unpack(entry)[0]
    return offset == found.offset
