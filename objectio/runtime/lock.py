"""One process for the metadata of a data directory, and one for each name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from objectio.errors import ConfigError

LOCK_FILE: Final = "lock"


class DirectoryLock:
    """Held from `acquire` to `release`, or to the end of the process, however it ends. The file
    stays and holds the number of the process that had it last, for people."""

    def __init__(self, directory: Path, name: str = "") -> None:
        """`name` is that of a process which shares the directory with others."""
        self._directory = directory
        self._name = name
        self._fd = -1

    def acquire(self) -> None:
        """Raises `ConfigError` if another process has it."""
        path = self._directory / (f"{LOCK_FILE}.{self._name}" if self._name else LOCK_FILE)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            what = f"the name {self._name} in {self._directory}" if self._name else self._directory
            raise ConfigError(
                f"{what} is in use by another process ({holder or 'unknown'}); stop that one first, "
                f"or take another {'name' if self._name else 'directory'}"
            ) from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
