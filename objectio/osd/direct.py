"""Input and output past the page cache (`O_DIRECT`): aligned memory, aligned spans.

The kernel wants offset, length and memory aligned, each thread has a buffer that is. All calls
block and raise `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import threading
from typing import Final

from typing_extensions import Buffer

from objectio.limits import KIB, MIB

_BLKSSZGET: Final = 0x1268  # linux/fs.h
_BLKPBSZGET: Final = 0x127B
_STATX_DIOALIGN: Final = 0x2000  # linux/stat.h
_STATX_BYTES: Final = 256
_STATX_DIO_OFFSET_ALIGN_AT: Final = 156
_AT_EMPTY_PATH: Final = 0x1000  # linux/fcntl.h
_FILE_BLOCK_BYTES_MIN: Final = 4 * KIB
"""What disks under file systems write whole, whatever they say about their sectors."""
_CHUNK_BYTES: Final = 4 * MIB
_KEPT_BYTES_MAX: Final = 8 * MIB
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Memory(threading.local):
    """The buffer of a thread. It is never lent: what is read is copied out of it."""

    held: mmap.mmap | None = None

    def at_least(self, size: int) -> memoryview:
        if self.held is None or len(self.held) < size:
            held = mmap.mmap(-1, max(size, _CHUNK_BYTES))
            if len(held) > _KEPT_BYTES_MAX:
                return memoryview(held)
            self.held = held
        return memoryview(self.held)


_memory: Final = _Memory()


def turn_on(fd: int) -> None:
    """Raises `OSError` where it cannot be."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)


def turn_off(fd: int) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def block_bytes(fd: int, *, is_block: bool) -> int:
    """What must be written whole: the larger of what the device addresses (logical sector) and what
    it writes at once (physical sector), for a power cut may tear the whole of the latter. For files
    what the file system asks for, and 4096 at least. A power of two."""
    if not is_block:
        return max(_FILE_BLOCK_BYTES_MIN, _statx_dio_align(fd))
    logical, physical = (
        struct.unpack("I", fcntl.ioctl(fd, request, bytes(4)))[0]
        for request in (_BLKSSZGET, _BLKPBSZGET)
    )
    found: int = max(logical, physical)
    return found if found & (found - 1) == 0 else int(logical)


def _statx_dio_align(fd: int) -> int:
    """0 where the kernel does not say (before 6.1) or the C library does not ask."""
    raw = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        failed = _LIBC.statx(fd, b"", _AT_EMPTY_PATH, _STATX_DIOALIGN, raw)
    except AttributeError:
        return 0
    (mask,) = struct.unpack_from("=I", raw)
    if failed or not mask & _STATX_DIOALIGN:
        return 0
    (align,) = struct.unpack_from("=I", raw, _STATX_DIO_OFFSET_ALIGN_AT)
    return int(align)


def read(fd: int, block: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes; fewer only at the end."""
    begin = offset & -block
    span = ((offset + length + block - 1) & -block) - begin
    memory = _memory.at_least(span)
    got = 0
    while got < span:
        count = os.preadv(fd, [memory[got:span]], begin + got)
        got += count
        if count == 0 or got % block:
            break  # the end, which need not be aligned
    skip = offset - begin
    return bytes(memory[skip : max(skip, min(got, skip + length))])


def write(fd: int, block: int, data: Buffer, offset: int, flags: int) -> None:
    """All of the data. Where it does not begin or end at a block, what else is in that block is read
    and written with it."""
    view = memoryview(data)
    begin, end = offset & -block, (offset + len(view) + block - 1) & -block
    if (begin, end) != (offset, offset + len(view)):
        around = bytearray(read(fd, block, end - begin, begin).ljust(end - begin, b"\0"))
        around[offset - begin : offset - begin + len(view)] = view
        view = memoryview(around)
    memory = _memory.at_least(_CHUNK_BYTES)
    for at in range(0, len(view), _CHUNK_BYTES):
        part = view[at : at + _CHUNK_BYTES]
        memory[: len(part)] = part
        _write_all(fd, block, memory[: len(part)], begin + at, flags)


def _write_all(fd: int, block: int, memory: memoryview, offset: int, flags: int) -> None:
    done = 0
    while done < len(memory):
        count = os.pwritev(fd, [memory[done:]], offset + done, flags)
        if count < block and count < len(memory) - done:
            raise OSError(errno.EIO, "the device takes no more bytes")
        done += count & -block if done + count < len(memory) else count
