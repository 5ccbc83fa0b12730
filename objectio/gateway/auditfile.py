"""A file of lines of JSON that is only ever added to, and put aside when it has its size.

`NAME.jsonl` takes lines. One that is full becomes `NAME.000001.jsonl`, and so on; of those the oldest go
when there are too many. Each line that was taken is on the disk, whole. What a crash left half written
is cut off when the file is next opened, and a line says what it was.

Not for the event loop: everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from objectio.limits import KIB, MIB

TAIL_BYTES: Final = 1 * MIB
"""So much of the end is looked through for lines that are none: more than is written at once."""
CUT_SHOWN_BYTES_MAX: Final = 4 * KIB
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def encode_line(facts: Mapping[str, object]) -> bytes:
    """In ASCII, so that no terminal, and no lone surrogate, has anything to take amiss."""
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def timestamp(seconds: float) -> str:
    """RFC 3339, in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class AuditFile:
    """`bytes_max` is the size from which a new one is begun, `files_max` how many full ones are kept."""

    def __init__(self, directory: Path, name: str, *, bytes_max: int, files_max: int) -> None:
        self.path = directory / f"{name}.jsonl"
        self._directory = directory
        self._full = re.compile(re.escape(name) + r"\.([0-9]{6,})\.jsonl")
        self._name = name
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._fd = -1
        self._size = 0

    def open(self) -> None:
        """Raises OSError. Whoever owns the directory has put nothing else in its place."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self.path, _FLAGS, 0o600)
        try:
            found = os.fstat(self._fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is no file")
            if stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(self._fd, 0o600)
            self._size = found.st_size
            self._repair()
            os.fsync(self._fd)
            self._sync_directory()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def append(self, lines: bytes) -> None:
        """Whole lines; they are on the disk when it returns. Raises OSError: then they are not, or not
        for certain."""
        if self._fd >= 0 and not self._is_still_there():
            self.close()
        if self._fd < 0:
            self.open()
        try:
            if self._size and self._size + len(lines) > self._bytes_max:
                self._rotate()
            self._write(lines)
        except BaseException:
            # What a failed write or sync has left of the file is not known: it is looked at anew.
            self.close()
            raise

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(lines)

    def _is_still_there(self) -> bool:
        """Somebody may have moved the file away, or deleted it to make room."""
        own = os.fstat(self._fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)

    def _rotate(self) -> None:
        full = sorted(self._find_full())
        number = full[-1][0] + 1 if full else 1
        os.rename(self.path, self._directory / f"{self._name}.{number:06d}.jsonl")
        self.close()
        self.open()
        for _, path in full[: max(0, len(full) + 1 - self._files_max)]:
            path.unlink(missing_ok=True)

    def _find_full(self) -> Iterator[tuple[int, Path]]:
        for path in self._directory.iterdir():
            if match := self._full.fullmatch(path.name):
                yield int(match[1]), path

    def _repair(self) -> None:
        begin = max(0, self._size - TAIL_BYTES)
        tail = os.pread(self._fd, self._size - begin, begin)
        at = tail.find(b"\n") + 1 if begin else 0
        for line in tail[at:].splitlines(keepends=True) if tail else ():
            if not _is_whole(line):
                break
            at += len(line)
        torn = tail[at:]
        if not torn:
            return
        self._size = begin + at
        os.ftruncate(self._fd, self._size)
        facts = {
            "time": timestamp(datetime.now(UTC).timestamp()),
            "event": "repaired",
            "bytes": len(torn),
            "cut": torn[:CUT_SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace"),
        }
        self._write(encode_line(facts))

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _is_whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
