"""A device as bytes at offsets: a directory, an image file or a block device.

A directory holds one file, `log`, that grows; an image file or a block device has a fixed size.
Nothing here knows what the bytes mean. All calls block.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from typing_extensions import Buffer

from objectio.errors import ConfigError, DeviceFailed, DeviceFull

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_FALLOC_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02  # linux/falloc.h
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h
_BLKDISCARD: Final = 0x1277  # linux/fs.h
_IOV_MAX: Final = 1024  # limits.h
_FREE_SECONDS: Final = 0.1
_LOG_NAME: Final = "log"

_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_LIBC.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def is_blank(path: Path) -> bool:
    """Whether nothing is there: no path, an empty directory, or a file of zeroes at its head. An
    empty log alone in its directory is what a crash leaves of `create`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        inside = list(path.iterdir())
        return not inside or (inside == [path / _LOG_NAME] and inside[0].stat().st_size == 0)
    with path.open("rb") as file:
        return not any(file.read(64 * 1024))


def log_path(path: Path) -> Path:
    """The file that holds the bytes."""
    return path / _LOG_NAME if path.is_dir() else path


def create(path: Path, size_bytes: int | None) -> None:
    """Make the directory, or the image file if a size is given and no directory is there."""
    above = [each for each in (path, *path.parents) if not each.exists()]
    if size_bytes is not None and not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.is_file():
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if os.fstat(fd).st_size < size_bytes:
                    os.ftruncate(fd, size_bytes)
            finally:
                os.close(fd)
    else:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path / _LOG_NAME, os.O_RDWR | os.O_CREAT, 0o600))
    sync_directory(log_path(path).parent)
    for each in above:  # every name that leads here was made by us, and must be durable
        sync_directory(each.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Device:
    """One opened device. Errors come as `DeviceFull` (ENOSPC, EDQUOT) or `DeviceFailed`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = log_path(path)
        try:
            self._fd = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceFailed(f"cannot open {self._file}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(
                f"{path} is in use by another process; stop that one first"
            ) from error
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._is_block = stat.S_ISBLK(status.st_mode)
        self.filesystem: int = status.st_rdev if self._is_block else status.st_dev
        """Devices with the same number wait for each other."""
        self.grows = path.is_dir()
        self._nowait = True
        self._free_at = 0.0
        self._free_bytes = 0

    @property
    def size_bytes(self) -> int:
        """The fixed size, or 0 for a directory, which grows."""
        return 0 if self.grows else self.length_bytes()

    def length_bytes(self) -> int:
        """Up to where there may be data."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    def free_bytes(self) -> int:
        """What the file system under a directory could take a tenth of a second ago."""
        now = time.monotonic()
        if now - self._free_at >= _FREE_SECONDS:
            self._free_bytes = self.free_bytes_now()
            self._free_at = now
        return self._free_bytes

    def free_bytes_now(self) -> int:
        status = os.fstatvfs(self._fd)
        return status.f_bavail * status.f_frsize

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the device."""
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise _failed("read", self.path, error) from error
        return data

    def pread_now(self, length: int, offset: int) -> bytearray | None:
        """Exactly `length` bytes if the page cache has them, else None. Never blocks."""
        if not self._nowait:
            return None
        buffer = bytearray(length)
        try:
            if os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT) == length:
                return buffer
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise _failed("read", self.path, error) from error
            self._nowait = False  # this file system cannot say whether it would block
        return None

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool = False) -> int:
        """Write all of it; returns the number of bytes.

        `durable`: as if `sync` followed, for these bytes only. One system call instead of two: each
        gives up the interpreter's lock and must get it back from a busy event loop.
        """
        flags = os.RWF_DSYNC if durable else 0
        try:
            written = 0
            for start in range(0, len(buffers), _IOV_MAX):
                part = buffers[start : start + _IOV_MAX]
                written += self._pwritev_all(part, offset + written, flags)
        except OSError as error:
            raise _failed("write", self.path, error) from error
        if durable:
            self._check_linked()
        return written

    def _pwritev_all(self, buffers: Sequence[Buffer], offset: int, flags: int) -> int:
        wanted = sum([memoryview(part).nbytes for part in buffers])
        written = os.pwritev(self._fd, buffers, offset, flags)
        if written < wanted:  # a signal, or space ran out in the middle: the rest in one piece
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                count = os.pwritev(self._fd, [rest], offset + wanted - len(rest), flags)
                if count == 0:
                    raise OSError(errno.EIO, "the device takes no more bytes")
                rest = rest[count:]
        return wanted

    def start_writeback(self, offset: int, length: int) -> None:
        """Have the kernel start writing, without waiting: a later `sync` then finds less to do."""
        _LIBC.sync_file_range(self._fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def sync(self) -> None:
        """Everything written before this call survives a power cut when it returns."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise DeviceFailed(f"cannot sync {self.path}: {error.strerror}") from error
        self._check_linked()

    def _check_linked(self) -> None:
        """A file that was unlinked under us takes writes and syncs without complaint, and loses
        them: that counts as a failed device, and nothing is acknowledged on it any more."""
        try:
            unlinked = not self._is_block and os.fstat(self._fd).st_nlink == 0
        except OSError as error:
            raise DeviceFailed(f"cannot look at {self.path}: {error.strerror}") from error
        if unlinked:
            raise DeviceFailed(f"{self.path} was removed while it was in use", gone=True)

    def discard(self, offset: int, length: int) -> None:
        """Give the space of a span back. It may read as zeroes or as before afterwards."""
        if self._is_block:
            span = offset.to_bytes(8, "little") + length.to_bytes(8, "little")
            try:
                fcntl.ioctl(self._fd, _BLKDISCARD, span)
            except OSError:
                return  # a device without discard keeps its bytes; the log does not mind
        else:
            _LIBC.fallocate(self._fd, _FALLOC_KEEP_SIZE_PUNCH_HOLE, offset, length)

    def check(self) -> None:
        """Raises `DeviceFailed`, with `fields["gone"]`, if the path no longer leads to what is
        open."""
        try:
            status = os.stat(self._file)
        except OSError as error:
            raise DeviceFailed(f"{self.path} is gone: {error.strerror}", gone=True) from error
        if (status.st_dev, status.st_ino) != self._identity:
            raise DeviceFailed(f"{self.path} was replaced while it was in use", gone=True)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _failed(what: str, path: Path, error: OSError) -> DeviceFull | DeviceFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeviceFull(f"{path} is full")
    return DeviceFailed(f"cannot {what} {path}: {error.strerror}", errno=error.errno)
