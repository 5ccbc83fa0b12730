"""The LMDB driver: one environment, a batch of commits per write transaction.

Reads begin a read transaction for each call, so they see the newest commit; py-lmdb keeps ended read
transactions and renews one, which takes a quarter of a microsecond. A batch is one write
transaction, so it costs one sync; each commit in it is checked on the state that the commits before
it left, and its writes begin only when all its checks held, so it is all or nothing without undo.

What fails leaves the environment as it was: LMDB writes new pages beside the old ones and makes them
valid by its last write, of the meta page. Only a failure of that last write makes LMDB refuse the
environment, which is then opened anew.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from objectio.abc.context import Context
from objectio.abc.kv import Absent, Check, Commit, Equals, Present
from objectio.errors import DriverUnavailable, Unavailable
from objectio.limits import MIB, TIB
from objectio_kv_lmdb.config import LmdbConfig
from objectio_kv_lmdb.gate import ReaderGate
from objectio_kv_lmdb.layers import CHUNK_BYTES, Layers

READERS_MAX: Final = 1024  # slots of the lock file: threads of all processes, 64 bytes each
SPARE_TRANSACTIONS: Final = 16  # ended read transactions kept for reuse
FREE_BYTES_FOR_EIO: Final = 16 * MIB
MAP_SIZE_BYTES_MAX: Final = 64 * TIB  # half of the address space of a process
ATTEMPTS_MAX: Final = 40  # more than doublings from the smallest map to the largest
_CHILD_LAYERS: Final = b"layers"

T = TypeVar("T")


class LmdbKV:
    """One opened environment. Any thread may call anything at any time."""

    def __init__(self, config: LmdbConfig, context: Context) -> None:
        self._path = Path(config.path) if config.path else context.data_dir
        self._sync = config.durability == "sync"
        self._map_size_bytes = config.map_size_bytes
        self._log = context.log
        self._gate = ReaderGate()
        self._reader = self._gate.reader
        self._write_lock = threading.Lock()
        self._closed = False
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._open()
            self._file = _find_file(self._path)
            _sync_directories(self._path)
        except (lmdb.Error, OSError) as error:
            raise DriverUnavailable(f"cannot open LMDB in {self._path}: {error}") from error

    def _open(self) -> None:
        # Both databases are named, since the unnamed one holds a row for the name of each other one,
        # and a caller's key might meet it.
        self._env = lmdb.open(
            str(self._path),
            map_size=self._map_size_bytes,
            max_dbs=2,
            max_readers=READERS_MAX,
            max_spare_txns=SPARE_TRANSACTIONS,
            sync=self._sync,
            metasync=self._sync,
            writemap=False,
        )
        self._env.reader_check()  # slots of processes that were killed
        self._map_size_bytes = max(self._map_size_bytes, self._env.info()["map_size"])
        self._root = self._env.open_db(b"root")
        self._layers = Layers(self._root, self._env.open_db(_CHILD_LAYERS))
        self._begin = self._env.begin

    # Reads.

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._reader():
                return self._layers.get(self._begin(self._root), key)
        except lmdb.Error:
            return self._read(lambda txn: self._layers.get(txn, key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._read(lambda txn: [self._layers.get(txn, key) for key in keys])

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        if start >= stop:
            return []

        def read(txn: Any) -> list[tuple[bytes, bytes]]:
            with closing(self._layers.scan(txn, start, stop, reverse)) as rows:
                return list(islice(rows, limit))

        return self._read(read)

    def _read(self, read: Callable[[Any], T]) -> T:
        for _ in range(ATTEMPTS_MAX):
            try:
                with self._reader(), self._begin(self._root) as txn:
                    return read(txn)
            except lmdb.MapResizedError:  # by another process
                with self._write_lock:
                    self._resize(0)
            except lmdb.PanicError:
                with self._write_lock:
                    self._reopen()
            except lmdb.Error as error:
                raise self._failure(error) from error
        raise Unavailable("the LMDB map changes faster than it can be read")

    # Writes.

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        with self._write_lock:
            for _ in range(ATTEMPTS_MAX):
                try:
                    return self._transact(commits)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.MapResizedError:
                    self._resize(0)
                except lmdb.PanicError:
                    self._reopen()
                except lmdb.Error as error:
                    raise self._failure(error) from error
        raise Unavailable("the LMDB map changes faster than it can be written")

    def _transact(self, commits: Sequence[Commit]) -> list[Check | None]:
        txn = self._begin(self._root, None, True)
        try:
            batch = _Batch(txn, self._layers)
            results = [batch.apply(commit) for commit in commits]
            batch.flush()
        except BaseException:
            # py-lmdb 3.0 holds up an abort until no thread is in a call on the environment. Threads
            # that read without a pause would never let that be, so they are asked to wait.
            with self._gate.alone():
                txn.abort()
            raise
        txn.commit()
        return results

    # The environment. The caller holds the write lock.

    def _grow(self) -> None:
        doubled = 2 * self._env.info()["map_size"]
        if doubled > MAP_SIZE_BYTES_MAX:
            raise OSError(errno.ENOSPC, "the LMDB map has reached its largest size")
        self._log.info("LMDB map of %s grows to %d bytes", self._path, doubled)
        self._resize(doubled)

    def _resize(self, size_bytes: int) -> None:
        """Replace the map; 0 takes the size that another process has given it."""
        with self._alone():
            try:
                self._env.set_mapsize(size_bytes)
            except lmdb.Error as error:
                # The old map may be gone by now: an environment without one must not be read.
                self._env.close()
                self._open()
                raise self._failure(error) from error
            self._map_size_bytes = self._env.info()["map_size"]

    def _reopen(self) -> None:
        """After a failed write of the meta page, LMDB wants to be opened anew. Of files that were taken
        away meanwhile it would make empty ones."""
        if _find_file(self._path) != self._file:
            raise Unavailable(f"LMDB must be opened again, but its files in {self._path} are gone")
        self._log.warning("LMDB in %s is opened again after a failed write", self._path)
        with self._alone():
            self._env.close()
            try:
                self._open()
            except lmdb.Error as error:
                raise self._failure(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate.alone():
            if self._closed:
                raise Unavailable("the LMDB environment is closed")
            yield

    def _failure(self, error: lmdb.Error) -> Exception:
        """An `OSError` where the system gave a reason, else what may pass."""
        if self._closed:
            return Unavailable("the LMDB environment is closed")
        if error.code <= 0:
            return Unavailable(f"LMDB: {error}")
        code = error.code
        if code == errno.EIO and _free_bytes(self._path) < FREE_BYTES_FOR_EIO:
            code = errno.ENOSPC  # LMDB says EIO for a write that was cut short by a full disk
        return OSError(code, f"LMDB: {error}", str(self._path))

    def stats(self) -> Mapping[str, int]:
        def read(txn: Any) -> Mapping[str, int]:
            rows = txn.stat(self._root)["entries"]
            info = self._env.info()
            return {
                "rows": rows,
                "bytes": (info["last_pgno"] + 1) * self._env.stat()["psize"],
                "map_bytes": info["map_size"],
            }

        return self._read(read)

    def close(self) -> None:
        with self._write_lock, self._gate.alone():
            if self._closed:
                return
            self._closed = True
            try:
                if not self._sync:
                    self._env.sync(True)
            except lmdb.Error as error:
                raise OSError(error.code, f"LMDB: {error}", str(self._path)) from error
            finally:
                self._env.close()


def _find_file(path: Path) -> tuple[int, int] | None:
    try:
        found = (path / "data.mdb").stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _free_bytes(path: Path) -> int:
    filesystem = os.statvfs(path)
    return filesystem.f_bavail * filesystem.f_frsize


def _sync_directories(path: Path) -> None:
    """Make the names of new files last."""
    for directory in (path, path.parent):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Batch:
    """Commits in one write transaction. Writes collect and are made at the end, so that they cost
    one call; what they leave is what the commits behind them see."""

    def __init__(self, txn: Any, layers: Layers) -> None:
        self._txn = txn
        self._layers = layers
        self._writes: dict[bytes, bytes | None] = {}

    def apply(self, commit: Commit) -> Check | None:
        for check in commit.checks:
            if not self._holds(check):
                return check
        self._writes.update(commit.writes)
        return None

    def _holds(self, check: Check) -> bool:
        if isinstance(check, Equals):
            return self._get(check.key) == check.value
        if isinstance(check, Absent):
            return self._get(check.key) is None
        if isinstance(check, Present):
            return self._get(check.key) is not None
        if check.start >= check.stop:
            return True
        self.flush()
        with closing(self._layers.scan(self._txn, check.start, check.stop, False)) as rows:
            return next(rows, None) is None

    def _get(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        return self._layers.get(self._txn, key)

    def flush(self) -> None:
        short: list[tuple[bytes, bytes]] = []
        for key, value in self._writes.items():
            if value is None:
                self._layers.delete(self._txn, key)
            elif len(key) <= CHUNK_BYTES:
                short.append((key, value))
            else:
                self._layers.put(self._txn, key, value)
        if short:
            short.sort()
            self._layers.put_short(self._txn, short)
        self._writes.clear()
