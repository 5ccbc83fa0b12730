"""Damage to what is on a simulated disk, behind the back of the store."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from objectio.osd.format import (
    ALIGNMENT,
    DATA_OFFSET,
    HEADER_BYTES_MIN,
    KIND_SHARD,
    MAGIC,
    Record,
    parse_header,
)


def find_shards(disk: Path) -> list[tuple[int, Record]]:
    """Every SHARD record in the log of a directory, dead ones, too: (offset, record)."""
    raw = (disk / "log").read_bytes()
    found: list[tuple[int, Record]] = []
    at = DATA_OFFSET
    while 0 <= (at := raw.find(MAGIC, at)) <= len(raw) - HEADER_BYTES_MIN:
        record = parse_header(raw, at) if at % ALIGNMENT == 0 else None
        if record is None:
            at += 4
            continue
        if record.kind == KIND_SHARD:
            found.append((at, record))
        at += record.total_bytes
    return found


def swap_spans(disk: Path, one: int, other: int, length: int) -> None:
    """Exchange the bytes at two offsets of the log of a directory. The server may be running."""
    fd = os.open(disk / "log", os.O_RDWR)
    try:
        first, second = os.pread(fd, length, one), os.pread(fd, length, other)
        os.pwrite(fd, second, one)
        os.pwrite(fd, first, other)
        os.fsync(fd)
    finally:
        os.close(fd)


def flip_payload_bytes(
    disk: Path, rng: random.Random, wanted: Callable[[Record], bool] = lambda record: True
) -> int:
    """Change one byte in the payload of every shard in the log of a directory for which `wanted`
    says yes; dead ones, too. Returns how many. The server may be running."""
    flipped = 0
    fd = os.open(disk / "log", os.O_RDWR)
    try:
        for at, record in find_shards(disk):
            if record.payload_bytes and wanted(record):
                byte = at + record.header_bytes + rng.randrange(record.payload_bytes)
                (held,) = os.pread(fd, 1, byte)
                os.pwrite(fd, bytes([held ^ (1 + rng.randrange(255))]), byte)
                flipped += 1
        os.fsync(fd)
    finally:
        os.close(fd)
    return flipped
