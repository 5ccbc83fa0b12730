"""Opening a device: the last checkpoint of the index, then the log behind it.

Only segments that were in use at the checkpoint's position or opened later are read, so the time
depends on what was written since, not on the device's size. Without a usable checkpoint (the index
was lost, or belongs to another device) every segment is read.

What a crash tore off was never acknowledged: a record whose payload fails its checksums is left
out. After a crash the log goes on in a new segment, so that no remains of a torn run can ever be
behind a record that counts; and its sequence number leaves out those of segments that the crash may
have kept from being found.

A checkpoint counts the device's openings as the superblock does. Where they differ the device was
used without this index meanwhile (moved to another node and back, or the index is an old copy), and
what the index says of the log's end is no longer so: it is rebuilt. The same goes for a clean end
whose last record is not there: the device is an older copy of itself, or had not synced what it said
it had. To go on at such an end would put records where no rebuild from the log finds them.
"""

from __future__ import annotations

import logging
from typing import Final

from objectio.limits import KIB
from objectio.osd.format import KIND_SHARD, KIND_TOMBSTONE, MAGIC, parse_header
from objectio.osd.index import Checkpoint, Position, SegmentState
from objectio.osd.log import Log, Tail
from objectio.osd.walk import is_segment_start, read_segment_header, walk

_SEQUENCES_SKIPPED: Final = 1 << 20
"""More segments than can have been begun and not synced."""
_END_BYTES_MIN: Final = 64 * KIB
"""How far back the header of the last record is looked for first."""
_log: Final = logging.getLogger("objectio.osd")


def recover(log: Log) -> None:
    """Bring an empty `Log` to the state of its device."""
    checkpoint = log.index.load_checkpoint()
    if checkpoint is not None and not _is_of(log, checkpoint):
        _log.warning("the index of %s is out of date; rebuilding it", log.device.path)
        checkpoint = None
    if checkpoint is None:
        log.index.clear()
        position = Position(-1, 0, log.superblock.segment_bytes, 0, False)
    else:
        _load(log, checkpoint)
        position = checkpoint.position
        if position.clean:
            log.resume(position)
            return
    _replay_tail(log, position)


def _is_of(log: Log, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was written for the device as it is."""
    superblock = log.superblock
    if (checkpoint.device_id, checkpoint.opens) != (superblock.device_id, superblock.opens):
        return False
    return not checkpoint.position.clean or _has_end(log, checkpoint.position)


def _has_end(log: Log, end: Position) -> bool:
    """Whether the last record before a position is on the device; only its header is looked at."""
    if end.segment_index < 0:
        return True
    segment_bytes = log.superblock.segment_bytes
    first = read_segment_header(log.device, end.segment_index, segment_bytes)
    if first is None or not is_segment_start(first, log.superblock.device_id):
        return False
    wanted = (end.segment_sequence, end.record_sequence)
    length = 0
    while length < end.offset_in_segment:
        length = min(max(_END_BYTES_MIN, 4 * length), end.offset_in_segment)
        begin = log.segment_start(end.segment_index) + end.offset_in_segment - length
        raw = log.device.pread(length, begin)
        at = raw.rfind(MAGIC)
        while at >= 0:
            record = parse_header(raw, at)
            if record is not None and (record.segment_sequence, record.record_sequence) == wanted:
                return first.segment_sequence == end.segment_sequence
            at = raw.rfind(MAGIC, 0, at)
    return False


def _load(log: Log, checkpoint: Checkpoint) -> None:
    log.segments = checkpoint.segments
    log.free = [i for i, segment in enumerate(log.segments) if segment.sequence == 0]
    log.last_sequence = checkpoint.position.segment_sequence
    log.shards = checkpoint.shards


def _replay_tail(log: Log, position: Position) -> None:
    """Read what was written behind `position`, in the order in which it was written."""
    record_sequence = position.record_sequence
    replayed = damaged = 0
    for index, start in _segments_behind(log, position):
        segment = log.segments[index]
        log.device.forget_cached(log.segment_start(index), log.superblock.segment_bytes)
        newer_than = position.record_sequence if start else 0
        for found in walk(
            log.device, index, log.superblock.segment_bytes, segment.sequence, start, newer_than
        ):
            record = found.record
            record_sequence = max(record_sequence, record.record_sequence)
            segment.written_bytes = found.offset + record.total_bytes - log.segment_start(index)
            if record.kind not in (KIND_SHARD, KIND_TOMBSTONE):
                continue
            if not found.intact:
                damaged += 1
                continue
            log.replay(index, found)
            replayed += 1
    # No clean end: the next record opens a segment of its own.
    if log.last_sequence:
        log.last_sequence += _SEQUENCES_SKIPPED
    log.tail = Tail(-1, log.last_sequence, log.superblock.segment_bytes, record_sequence)
    log.applied = log.tail.position()
    if replayed or damaged:
        _log.info(
            "recovered %s: %d records replayed, %d torn or damaged ones left out",
            log.device.path,
            replayed,
            damaged,
        )


def _segments_behind(log: Log, position: Position) -> list[tuple[int, int]]:
    """(segment index, offset to start at) in ascending order of sequence numbers."""
    behind: list[tuple[int, int, int]] = []
    if position.segment_index >= 0:
        behind.append(
            (position.segment_sequence, position.segment_index, position.offset_in_segment)
        )
    for index in _candidates(log):
        header = read_segment_header(log.device, index, log.superblock.segment_bytes)
        if not is_segment_start(header, log.superblock.device_id) or header is None:
            continue
        if header.segment_sequence <= position.segment_sequence:
            continue
        while len(log.segments) <= index:
            log.segments.append(SegmentState())
        log.segments[index] = SegmentState(header.segment_sequence)
        behind.append((header.segment_sequence, index, 0))
    log.last_sequence = max(log.last_sequence, *(segment.sequence for segment in log.segments), 0)
    log.free = [i for i, segment in enumerate(log.segments) if segment.sequence == 0]
    return [(index, start) for _, index, start in sorted(behind)]


def _candidates(log: Log) -> list[int]:
    """Segments that may have been begun behind the checkpoint: those that it knows to be free or
    does not know, and those without anything live, since they are given back, and used again, as
    soon as the checkpoint that says so is written."""
    known = len(log.segments)
    most = log.segments_on_device()
    empty = [index for index, segment in enumerate(log.segments) if not segment.live_bytes]
    return [*empty, *range(known, most)]
