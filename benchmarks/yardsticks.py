"""What the machine can do without us: one thread of MD5, and one file that is written and synced."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from objectio.limits import MIB


def md5_bytes_per_second(seconds: float) -> float:
    """One thread of MD5: no ETag of a single PUT can be had faster."""
    block = bytes(4 * MIB)
    digest = hashlib.md5()
    return len(block) * _per_second(lambda: digest.update(block), seconds)


def device_writes_per_second(directory: Path, size: int, seconds: float) -> float:
    """`pwrite` and `fdatasync` of `size` bytes, one after the other, in a file that grows."""
    path = directory / "yardstick"
    block = os.urandom(size)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    offset = 0

    def write() -> None:
        nonlocal offset
        os.pwrite(fd, block, offset)
        os.fdatasync(fd)
        offset += size

    try:
        return _per_second(write, seconds)
    finally:
        os.close(fd)
        path.unlink()


def _per_second(call: Callable[[], None], seconds: float) -> float:
    call()
    started = time.perf_counter()
    calls = 0
    while (passed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls / passed
