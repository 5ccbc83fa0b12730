"""Upkeep of a device: checkpoints of the index, and compaction, which gives space back.

A segment goes through three steps to be free again: its live records are moved to the tail (or all
die by themselves), a checkpoint makes that known durably, and only then is the segment marked FREE
and its space discarded. So a crash in between finds either the old record or its copy, never none.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from objectio.errors import DeviceFailed
from objectio.limits import MIB
from objectio.osd.format import KIND_SHARD, KIND_TOMBSTONE, TOMBSTONE_TARGET
from objectio.osd.index import ENTRY, Checkpoint
from objectio.osd.log import Log, MoveItem
from objectio.osd.walk import Found, walk

if TYPE_CHECKING:
    from objectio.abc.shardstore import Done
    from objectio.osd.log import Item

_log: Final = logging.getLogger("objectio.osd")
_MOVE_BYTES: Final = 4 * MIB
"""What compaction submits at once: a foreground write waits for at most this much of it."""


def checkpoint(log: Log, *, clean: bool = False) -> None:
    """Write the index up to the log's applied position. Blocks; call it from one thread at a time.

    The device is synced first, for the index must not point to what a power cut can take away. If
    that fails the log has failed: the kernel reports a lost write once, and this was the time.
    """
    with log.lock:
        log.index.freeze()
        position = msgspec.structs.replace(log.applied, clean=clean)
        segments = [copy.copy(segment) for segment in log.segments]
        shards = log.shards
        log.bytes_since_checkpoint = 0
    try:
        log.device.sync()
    except DeviceFailed as error:
        log.failure = error
        raise
    log.index.write(Checkpoint(log.superblock.device_id, position, segments, shards))
    for index, segment in enumerate(segments):
        if (
            segment.sequence
            and segment.live_bytes == 0
            and segment.tombstones == 0
            and segment.sequence < position.segment_sequence
            and not clean
        ):
            _release(log, index, segment.sequence)


def _release(log: Log, index: int, sequence: int) -> None:
    if log.segments[index].sequence != sequence:
        return
    try:
        log.release(index)
    except DeviceFailed as error:
        log.failure = error
        raise


def sparse_segments(log: Log, live_share_max: float, exclude: set[int]) -> list[int]:
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
    movable = await asyncio.to_thread(_survey, log, index, sequence)
    if not movable:
        return False
    walker = _live(log, index, sequence)
    while batch := await asyncio.to_thread(_take, walker):
        started = loop.time()
        waits = [loop.create_future() for _ in batch]
        submit(
            [
                MoveItem(_done(wait), found.record, found.record.key, found.offset, found.payload)
                for found, wait in zip(batch, waits, strict=True)
            ]
        )
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
    for found in walk(log.device, index, log.superblock.segment_bytes, sequence):
        if not found.intact:
            continue
        kind = found.record.kind
        if kind == KIND_SHARD and not _is_current(log, found):
            continue
        if kind == KIND_TOMBSTONE and not _has_work(log, found):
            continue
        if kind in (KIND_SHARD, KIND_TOMBSTONE):
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


def _has_work(log: Log, found: Found) -> bool:
    """Whether the segment with the record that this tombstone kills is still there."""
    index: int
    sequence: int
    index, sequence = TOMBSTONE_TARGET.unpack(found.payload)
    return index < len(log.segments) and log.segments[index].sequence == sequence
