"""The LevelDB driver: checks and an overlay above a store that has only batches.

LevelDB writes one batch at a time, all or nothing, and cannot look before it writes. So commits take
turns under a lock: each is checked against the store with an overlay of what the commits before it
in the batch have written, and the overlay then goes to LevelDB as one batch with one sync.

After a failed write LevelDB must not simply be used on. Its log may end in half a record; it appends
behind that, acknowledges, and on the next start takes the log to end at the half record: everything
after it is lost. And if it was the sync that failed, the batch may be whole in the log, so that a
batch which was refused comes back. So the driver remembers the rows as they were, closes the store
before the next commit, opens it anew (which starts a fresh log) and writes those rows over whatever
came back. Reads go on meanwhile.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import plyvel

from objectio.abc.context import Context
from objectio.abc.kv import Absent, Check, Commit, Equals, Present, RangeEmpty
from objectio.errors import DriverUnavailable, Unavailable
from objectio.limits import MIB
from objectio_kv_leveldb.config import LevelDbConfig
from objectio_kv_leveldb.gate import ReaderGate

RECOVERY_FREE_BYTES: Final = 32 * MIB
"""Opening a store writes a log's worth of rows and a manifest. With less room it would fail half-way
and reads would end too, so a full device is left alone until it has this."""

_REASONS: Final = (
    ("No space left on device", errno.ENOSPC),
    ("Disk quota exceeded", errno.EDQUOT),
    ("File too large", errno.EFBIG),
)

Overlay = dict[bytes, bytes | None]
T = TypeVar("T")


class LevelDbKV:
    """One opened store. Any thread may call anything at any time."""

    def __init__(self, config: LevelDbConfig, context: Context) -> None:
        self._config = config
        self._path = Path(config.path) if config.path else context.data_dir
        self._log = context.log
        self._gate = ReaderGate()
        self._reader = self._gate.reader
        self._write_lock = threading.Lock()
        self._before: Overlay | None = None  # rows of a failed batch, as they were
        self._closed = False
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except (plyvel.Error, OSError) as error:
            raise _unavailable(self._path, error) from error

    def _open(self) -> Any:
        return plyvel.DB(
            str(self._path),
            create_if_missing=True,
            paranoid_checks=False,  # would refuse the torn tail that a crash leaves in the log
            write_buffer_size=self._config.write_buffer_bytes,
            lru_cache_size=self._config.cache_bytes,
            bloom_filter_bits=10,
        )

    # Reads.

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._reader():
                value: bytes | None = self._db.get(key)
                return value
        except (plyvel.Error, RuntimeError, AttributeError) as error:
            raise self._failure(error) from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        def read(db: Any) -> list[bytes | None]:
            with closing(db.snapshot()) as snapshot:
                return [snapshot.get(key) for key in keys]

        return self._read(read)

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        if start >= stop:
            return []

        def read(db: Any) -> list[tuple[bytes, bytes]]:
            if not reverse:
                with closing(db.iterator(start=start, stop=stop)) as rows:
                    return list(islice(rows, limit))
            # plyvel 1.5.1 with both bounds, backwards, gives nothing if the only row of the range
            # is the one at `start`. So it gets one bound, and the other is kept here.
            with closing(db.iterator(stop=stop, reverse=True)) as rows:
                return list(islice(takewhile(lambda row: row[0] >= start, rows), limit))

        return self._read(read)

    def _read(self, read: Callable[[Any], T]) -> T:
        try:
            with self._reader():
                return read(self._db)
        except (plyvel.Error, RuntimeError, AttributeError) as error:
            raise self._failure(error) from error

    # Writes.

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        with self._write_lock:
            if self._before is not None:
                self._recover()
            overlay: Overlay = {}
            try:
                results = [self._apply(overlay, commit) for commit in commits]
                if overlay:
                    self._write(overlay)
            except (plyvel.Error, RuntimeError, AttributeError) as error:
                raise self._failure(error) from error
            return results

    def _apply(self, overlay: Overlay, commit: Commit) -> Check | None:
        for check in commit.checks:
            if not self._holds(overlay, check):
                return check
        overlay.update(commit.writes)
        return None

    def _holds(self, overlay: Overlay, check: Check) -> bool:
        if isinstance(check, RangeEmpty):
            return self._is_empty(overlay, check.start, check.stop)
        key = check.key
        value = overlay[key] if key in overlay else self._db.get(key)
        if isinstance(check, Equals):
            return bool(value == check.value)
        if isinstance(check, Absent):
            return value is None
        assert isinstance(check, Present)
        return value is not None

    def _is_empty(self, overlay: Overlay, start: bytes, stop: bytes) -> bool:
        if start >= stop:
            return True
        if any(value is not None and start <= key < stop for key, value in overlay.items()):
            return False
        with closing(self._db.iterator(start=start, stop=stop, include_value=False)) as keys:
            return all(key in overlay for key in keys)  # those that the overlay deletes

    def _write(self, overlay: Overlay) -> None:
        batch = self._db.write_batch(sync=self._config.durability == "sync")
        for key, value in overlay.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            batch.write()
        except plyvel.Error:
            self._before = {key: self._db.get(key) for key in overlay}
            raise

    def _recover(self) -> None:
        """Open the store anew after a failed write, with no trace of the batch that failed."""
        before = self._before
        assert before is not None
        if _free_bytes(self._path) < RECOVERY_FREE_BYTES:
            raise OSError(errno.ENOSPC, "LevelDB waits for free space", str(self._path))
        self._log.warning("LevelDB in %s is opened again after a failed write", self._path)
        try:
            with self._gate.alone():
                if self._closed:
                    raise Unavailable("the LevelDB store is closed")
                if self._db is not None:
                    self._db.close()
                    self._db = None
                self._db = self._open()
                self._write(before)
        except plyvel.Error as error:
            self._before = before
            raise self._failure(error) from error
        self._before = None

    def _failure(self, error: Exception) -> Exception:
        """What plyvel raised, as what the contract knows; its errors have only a text."""
        if self._closed:
            return Unavailable("the LevelDB store is closed")
        if isinstance(error, RuntimeError | AttributeError):
            return Unavailable(f"the LevelDB store is being opened again: {error!r}")
        text = _text(error)
        code = next((code for reason, code in _REASONS if reason in text), errno.EIO)
        return OSError(code, f"LevelDB: {text}", str(self._path))

    def stats(self) -> Mapping[str, int]:
        def read(db: Any) -> Mapping[str, int]:
            memory = db.get_property(b"leveldb.approximate-memory-usage") or b"0"
            return {"memory_bytes": int(memory)}

        files = (entry.stat().st_size for entry in os.scandir(self._path) if entry.is_file())
        return {"bytes": sum(files), **self._read(read)}

    def close(self) -> None:
        with self._write_lock, self._gate.alone():
            if self._closed:
                return
            self._closed = True
            if self._db is not None:
                self._db.close()


def _text(error: Exception) -> str:
    told = error.args[0] if error.args else b""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def _unavailable(path: Path, error: Exception) -> DriverUnavailable:
    text = _text(error) if isinstance(error, plyvel.Error) else str(error)
    if "lock" in text.lower():
        return DriverUnavailable(
            f"LevelDB in {path} is in use: one process may open it at a time. Stop the other one, "
            f"or use an engine that is shared by processes ({text})"
        )
    return DriverUnavailable(f"cannot open LevelDB in {path}: {text}")


def _free_bytes(path: Path) -> int:
    filesystem = os.statvfs(path)
    return filesystem.f_bavail * filesystem.f_frsize
