"""What this machine remembers of uploads that are under way, so that the same command goes on with one.

A file for each, under `$XDG_STATE_HOME/objectio/uploads` (by default `~/.local/state`), named by the
server, the object and the file. It has the upload's id and what the object will be like: the headers
with which it was begun. Which parts the server has is asked of the server, and each is compared with
the file as it is now, so nothing here has to be true about bytes.

Looking for an upload of the same key on the server alone would not do: it does not tell the headers, and
the upload may be another program's, which is at work.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from objectio.cli.s3 import Where
from objectio.errors import ObjectIOError

FORGOTTEN_SECONDS: Final = 30 * 86400
_RECORD_BYTES_MAX: Final = 64 << 10

Headers = list[tuple[bytes, bytes]]


class Record:
    """Of one upload; nobody else has it as long as it is open."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    def read(self) -> tuple[str, Headers]:
        """The upload's id and its headers; "" if there is none, or what is there makes no sense."""
        self._file.seek(0)
        try:
            found = json.loads(self._file.read(_RECORD_BYTES_MAX))
            headers = [(name.encode(), value.encode()) for name, value in found["headers"]]
            return str(found["upload_id"]), headers
        except (ValueError, KeyError, TypeError, AttributeError):
            return "", []

    def write(self, upload_id: str, headers: Headers) -> None:
        shown = [(name.decode(), value.decode()) for name, value in headers]
        said = json.dumps({"upload_id": upload_id, "headers": shown}).encode()
        self._file.seek(0)
        self._file.truncate()
        self._file.write(said)
        self._file.flush()
        os.fsync(self._file.fileno())

    def remove(self) -> None:
        """There is nothing to go on with."""
        with contextlib.suppress(OSError):
            self._path.unlink()


@contextlib.contextmanager
def record_of(
    endpoint: str, where: Where, file: Path, environ: Mapping[str, str]
) -> Iterator[Record | None]:
    """None where nothing can be remembered: the home directory is read-only, or there is none."""
    named = hashlib.sha256(repr((endpoint, *where, str(file.resolve()))).encode()).hexdigest()[:32]
    try:
        directory = _directory(environ)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(directory)
        lock = locked(directory / named)
        opened = lock.__enter__()
    except (OSError, RuntimeError):
        yield None
        return
    if opened is None:
        raise ObjectIOError(
            f"another command is putting this file as {where.bucket}/{where.key}: wait for it"
        )
    record = Record(opened, directory / named)
    try:
        yield record
    finally:
        if not record.read()[0]:
            record.remove()
        lock.__exit__(None, None, None)


@contextlib.contextmanager
def locked(path: Path, mode: int = 0o600) -> Iterator[BinaryIO | None]:
    """The file, made if need be, which no other command writes to; None if one does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        with open(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # Whoever had it may have removed it, or given it another name, meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield file
                    return


def _directory(environ: Mapping[str, str]) -> Path:
    # XDG Base Directory Specification: a path that is not absolute is to be ignored.
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        home = Path("~").expanduser()
        if not home.is_dir():  # who is to have none has one that is not to be there
            raise FileNotFoundError(home)
        state = home / ".local/state"
    return state / "objectio" / "uploads"


def _sweep(directory: Path) -> None:
    """Nobody comes back to these."""
    for path in directory.iterdir():
        with contextlib.suppress(OSError), locked(path) as file:
            if file is not None and time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                path.unlink()
