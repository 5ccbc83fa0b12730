"""Reading a log segment from front to back, over damage if there is any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from objectio.limits import MIB
from objectio.osd.device import Device
from objectio.osd.format import (
    ALIGNMENT,
    DATA_OFFSET,
    HEADER_BYTES_MAX,
    HEADER_BYTES_MIN,
    KIND_SEGMENT,
    MAGIC,
    Record,
    parse_header,
    verify_payload,
)

_WINDOW_BYTES: Final = 4 * MIB


class Found(NamedTuple):
    """A record at an offset of the device. `intact` is False if its payload fails its checksums."""

    offset: int
    record: Record
    payload: memoryview
    intact: bool


def segment_offset(index: int, segment_bytes: int) -> int:
    return DATA_OFFSET + index * segment_bytes


def read_segment_header(device: Device, index: int, segment_bytes: int) -> Record | None:
    """The record at the start of a segment, whatever its kind; None if there is none."""
    raw = device.pread(HEADER_BYTES_MIN, segment_offset(index, segment_bytes))
    return parse_header(raw)


def walk(
    device: Device,
    index: int,
    segment_bytes: int,
    sequence: int,
    start: int = 0,
    newer_than: int = 0,
) -> Iterator[Found]:
    """Every record of one use (`sequence`) of a segment from `start` on, in order; record sequence
    numbers ascend from above `newer_than`, and what does not is left behind by a refused write.

    Where no record begins, the walk looks for the next one further on: behind a torn or damaged
    record there may be whole ones. An empty span ends it after one window.
    """
    base = segment_offset(index, segment_bytes)
    at = start
    raw = b""
    window_at = asked = 0
    while at + HEADER_BYTES_MIN <= segment_bytes:
        header = _parse_in(memoryview(raw), at - window_at, sequence, newer_than)
        size = HEADER_BYTES_MAX if header is None else header.total_bytes
        need = max(_WINDOW_BYTES, size)
        if at + size > window_at + len(raw) and (window_at != at or asked < need):
            kept = raw[at - window_at :]
            window_at, asked = at, need
            lacking = min(need, segment_bytes - at) - len(kept)
            raw = kept + device.pread(lacking, base + at + len(kept))
            if len(raw) < HEADER_BYTES_MIN:
                return
            continue
        if header is None:
            skipped = _next_magic(raw, at - window_at + ALIGNMENT)
            if skipped is None and raw.count(0) == len(raw):
                return  # zeroes: the end of what was written
            # A header may be cut by the window's end: go on just before it.
            behind = (len(raw) - HEADER_BYTES_MIN) & -ALIGNMENT if skipped is None else skipped
            at = max(at + ALIGNMENT, window_at + behind)
            continue
        if at + header.total_bytes > segment_bytes:
            at += ALIGNMENT
            continue
        begin = at - window_at + header.header_bytes
        payload = memoryview(raw)[begin : begin + header.payload_bytes]
        whole = len(payload) == header.payload_bytes
        yield Found(base + at, header, payload, whole and verify_payload(header, payload))
        newer_than = header.record_sequence
        at += header.total_bytes


def _parse_in(window: memoryview, offset: int, sequence: int, newer_than: int) -> Record | None:
    if not 0 <= offset < len(window):
        return None
    record = parse_header(window[: offset + HEADER_BYTES_MAX], offset)
    if record is None or record.segment_sequence != sequence:
        return None
    return record if record.record_sequence > newer_than else None


def _next_magic(raw: bytes, start: int) -> int | None:
    at = raw.find(MAGIC, start)
    while at >= 0:
        if at % ALIGNMENT == 0:
            return at
        at = raw.find(MAGIC, at + 1)
    return None


def is_segment_start(record: Record | None, device_id: bytes) -> bool:
    return record is not None and record.kind == KIND_SEGMENT and record.blob == device_id
