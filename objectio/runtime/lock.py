"""One process for a data directory."""

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

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1

    def acquire(self) -> None:
        """Raises `ConfigError` if another process has it."""
        fd = os.open(self._directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise ConfigError(
                f"{self._directory} is in use by another process ({holder or 'unknown'}); stop that "
                "one first, or take another directory"
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
