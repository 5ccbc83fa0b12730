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
    Record,
    parse_header,
)


def flip_payload_bytes(
    disk: Path, rng: random.Random, wanted: Callable[[Record], bool] = lambda record: True
) -> int:
    """Change one byte in the payload of every shard in the log of a directory for which `wanted`
    says yes; dead ones, too. Returns how many. The server may be running."""
    path = disk / "log"
    raw = path.read_bytes()
    flipped = 0
    fd = os.open(path, os.O_WRONLY)
    try:
        at = DATA_OFFSET
        while 0 <= (at := raw.find(b"OIR1", at)) <= len(raw) - HEADER_BYTES_MIN:
            record = parse_header(raw, at) if at % ALIGNMENT == 0 else None
            if record is None:
                at += 4
                continue
            if record.kind == KIND_SHARD and record.payload_bytes and wanted(record):
                byte = at + record.header_bytes + rng.randrange(record.payload_bytes)
                os.pwrite(fd, bytes([raw[byte] ^ (1 + rng.randrange(255))]), byte)
                flipped += 1
            at += record.total_bytes
        os.fsync(fd)
    finally:
        os.close(fd)
    return flipped
