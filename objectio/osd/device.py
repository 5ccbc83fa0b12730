"""A device as bytes at offsets: a directory, an image file or a block device.

A directory holds one file, `log`, that grows; an image file or a block device has a fixed size.
Image files and block devices are read and written past the page cache where they can be; a log that
grows stays in it. Nothing here knows what the bytes mean. All calls block.
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
from typing import Final, Literal

from typing_extensions import Buffer

from objectio.errors import ConfigError, DeviceFailed, DeviceFull
from objectio.limits import GIB
from objectio.osd import direct as direct_io

Direct = Literal["auto", "always", "never"]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_FALLOC_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02  # linux/falloc.h
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h
_BLKDISCARD: Final = 0x1277  # linux/fs.h
_IOV_MAX: Final = 1024  # limits.h
_FREE_SECONDS: Final = 0.1
_FREE_PLENTY_BYTES: Final = 4 * GIB
"""More than all devices of a node write in that time."""
LOG_NAME: Final = "log"

_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_LIBC.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def log_path(path: Path) -> Path:
    """The file that holds the bytes."""
    return path / LOG_NAME if path.is_dir() else path


def create(path: Path, size_bytes: int | None) -> None:
    """Make the directory, or the image file if a size is given and no directory is there; an image
    that is smaller is made larger. A block device is what it is."""
    if path.is_block_device() or (path.is_file() and size_bytes is None):
        return
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
        os.close(os.open(path / LOG_NAME, os.O_RDWR | os.O_CREAT, 0o600))
    sync_directory(log_path(path).parent)
    for each in above:  # every name that leads here was made by us, and must be durable
        sync_directory(each.parent)


def refuse_if_in_use(path: Path) -> None:
    """Raises `ConfigError` for a block device that somebody has: a file system, a volume manager."""
    if path.is_block_device():
        os.close(_open(path, path))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Device:
    """One opened device. Errors come as `DeviceFull` (ENOSPC, EDQUOT) or `DeviceFailed`."""

    def __init__(self, path: Path, direct: Direct = "auto") -> None:
        self.path = path
        self._file = log_path(path)
        self._fd = _open(path, self._file)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(
                f"{path} is in use by another process; stop that one first"
            ) from error
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino, status.st_rdev)
        self._is_block = stat.S_ISBLK(status.st_mode)
        self.filesystem: int = status.st_rdev if self._is_block else status.st_dev
        """Devices with the same number wait for each other."""
        self.grows = path.is_dir()
        self._size_at_open = self.size_bytes
        self.block_bytes = 1
        """Where it is not 1 the page cache is passed by, and what is written must begin and end at
        multiples of it, so that nothing else is written again."""
        self.read_bytes = 0
        self.written_bytes = 0
        self._nowait = True
        self._free_at = 0.0
        self._free_bytes = 0
        try:
            self._go_direct(direct)
        except BaseException:
            self.close()
            raise

    def _go_direct(self, direct: Direct) -> None:
        if direct == "never" or (direct == "auto" and self.grows):
            return
        try:
            direct_io.turn_on(self._fd)
            block = direct_io.block_bytes(self._fd, is_block=self._is_block)
            direct_io.read(self._fd, block, block, 0)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise _failed("read", self.path, error) from error
            direct_io.turn_off(self._fd)
            if direct == "always":
                raise ConfigError(
                    f"{self.path} cannot be opened past the page cache (O_DIRECT): set `direct` of "
                    "its shard store to auto"
                ) from error
            return
        self.block_bytes = block

    @property
    def is_direct(self) -> bool:
        return self.block_bytes > 1

    def go_buffered(self) -> None:
        """Use the page cache after all."""
        direct_io.turn_off(self._fd)
        self.block_bytes = 1

    @property
    def size_bytes(self) -> int:
        """The fixed size, or 0 for a directory, which grows."""
        return 0 if self.grows else self.length_bytes()

    def length_bytes(self) -> int:
        """Up to where there may be data."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    def free_bytes(self) -> int:
        """What the file system under a directory can take; where that is plenty, what it could take
        a tenth of a second ago. Shards that are written meanwhile must not use up what deletes,
        compaction and checkpoints need to give space back."""
        now = time.monotonic()
        if self._free_bytes < _FREE_PLENTY_BYTES or now - self._free_at >= _FREE_SECONDS:
            self._free_bytes = self.free_bytes_now()
            self._free_at = now
        return self._free_bytes

    def free_bytes_now(self) -> int:
        status = os.fstatvfs(self._fd)
        return status.f_bavail * status.f_frsize

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the device."""
        try:
            if self.is_direct:
                data = direct_io.read(self._fd, self.block_bytes, length, offset)
                self.read_bytes += len(data)
                return data
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise _failed("read", self.path, error) from error
        self.read_bytes += len(data)
        return data

    def pread_now(self, length: int, offset: int) -> bytearray | None:
        """Exactly `length` bytes if the page cache has them, else None. Never blocks."""
        if not self._nowait or self.is_direct:
            return None
        buffer = bytearray(length)
        try:
            if os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT) == length:
                self.read_bytes += length
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
            if self.is_direct:
                data = b"".join(buffers)
                direct_io.write(self._fd, self.block_bytes, data, offset, flags)
                written = len(data)
            else:
                written = self._write_buffered(buffers, offset, flags)
        except OSError as error:
            raise _failed("write", self.path, error) from error
        self.written_bytes += written
        if durable:
            self._check_linked()
        return written

    def _write_buffered(self, buffers: Sequence[Buffer], offset: int, flags: int) -> int:
        written = 0
        for start in range(0, len(buffers), _IOV_MAX):
            part = buffers[start : start + _IOV_MAX]
            written += self._pwritev_all(part, offset + written, flags)
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
        if not self.is_direct:
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

    def forget_cached(self, offset: int, length: int) -> None:
        """Have a span read from the disk next time: after a failed sync the kernel may hold pages as
        clean that never got there."""
        os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def check(self) -> None:
        """Raises `DeviceFailed`, with `fields["gone"]`, if the path no longer leads to what is
        open, or to less of it."""
        try:
            status = os.stat(self._file)
        except OSError as error:
            raise DeviceFailed(f"{self.path} is gone: {error.strerror}", gone=True) from error
        if (status.st_dev, status.st_ino, status.st_rdev) != self._identity:
            raise DeviceFailed(f"{self.path} was replaced while it was in use", gone=True)
        if self.size_bytes < self._size_at_open:
            raise DeviceFailed(f"{self.path} was cut while it was in use", gone=True)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path, file: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        if file.is_block_device():
            flags |= os.O_EXCL  # nobody else has it: no file system, no volume manager
        return os.open(file, flags)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConfigError(
                f"{path} is in use: it is mounted, or part of a volume, or another process has it "
                "(see `lsblk` and `fuser -v`)"
            ) from error
        raise DeviceFailed(f"cannot open {file}: {error.strerror}") from error


def _failed(what: str, path: Path, error: OSError) -> DeviceFull | DeviceFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeviceFull(f"{path} is full")
    return DeviceFailed(f"cannot {what} {path}: {error.strerror}", errno=error.errno)
