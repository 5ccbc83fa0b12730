"""Where each shard is on the device: a B-tree on disk and the newest changes in memory.

The B-tree (LMDB) is written only at a checkpoint, in one durable transaction, together with the
position in the log that it stands for. Between checkpoints, changes live in a dictionary. So a
crash never finds a half-written index: it finds the last checkpoint, and the tail of the log behind
it is replayed. The index can be deleted at any time; the log rebuilds it.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb
import msgspec

from objectio.errors import DeviceFailed, DeviceFull
from objectio.limits import GIB
from objectio.model.stripe import RESERVED_PREFIX

ENTRY: Final = struct.Struct("<QIHQ")
"""offset of the record on the device, payload_bytes, header_bytes, generation"""

_MAP_BYTES_START: Final = 64 * GIB
"""Address space, not memory or disk: about 500 million shards. What is mapped cannot grow while
anybody reads, so an index that fills it is given more when it is opened again."""
_CHECKPOINT_KEY: Final = b"checkpoint"


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Up to where the log is in the index. `clean` says that nothing was written behind it."""

    segment_index: int
    segment_sequence: int
    offset_in_segment: int
    record_sequence: int
    clean: bool


class SegmentState(msgspec.Struct, array_like=True):
    """One segment: `sequence` 0 means free; `live_bytes` counts records that the index points to;
    `tombstones` those that may still have work. `moved` says that compaction has begun to copy from
    it: then copies of its records may be deleted while it is still there."""

    sequence: int = 0
    written_bytes: int = 0
    live_bytes: int = 0
    tombstones: int = 0
    moved: bool = False


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """What a checkpoint says besides the entries."""

    device_id: bytes
    position: Position
    segments: list[SegmentState]
    shards: int
    opens: int = 0
    """The superblock's count when it was written: an index that missed an opening is out of date."""


# Made once, here: devices are opened by several threads at the same time, and a decoder that one thread
# is still making for a type crashes another one that uses it.
_decode_checkpoint: Final = msgspec.msgpack.Decoder(Checkpoint).decode


class IndexDamaged(Exception):
    """The files of the index are not usable; the log has all that is in them."""


class _Layers(NamedTuple):
    """Newest first: what changed since the running checkpoint began, and what it is writing."""

    fresh: dict[bytes, bytes | None]
    frozen: dict[bytes, bytes | None]


class Index:
    """Packed shard key → packed `ENTRY`. Reads from any thread; changes from one at a time."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._layers = _Layers({}, {})
        self._epoch = 0
        self._owner = 0
        self._standing: Any = None
        self._standing_epoch = -1
        self._open()

    def _open(self) -> None:
        try:
            size = (self._path / "data.mdb").stat().st_size
        except FileNotFoundError:
            size = 0
        try:
            self._env = lmdb.open(
                str(self._path),
                map_size=max(_MAP_BYTES_START, 2 * size),
                max_dbs=2,
                max_readers=512,
                max_spare_txns=16,
            )
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise IndexDamaged(f"{self._path}: {error}") from error
        try:
            # A page beyond the end of the file would end the process when it is touched.
            pages = self._env.info()["last_pgno"] + 1
            if size and pages * self._env.stat()["psize"] > size:
                raise IndexDamaged(f"{self._path} is cut short")
            self._entries = self._env.open_db(b"entries")
            self._state = self._env.open_db(b"state")
            with self._env.begin(db=self._entries) as txn, txn.cursor() as cursor:
                more = cursor.prev() if cursor.set_range(RESERVED_PREFIX) else cursor.last()
                self._highest: bytes = cursor.key() if more else b""
            """No key above it, but for reserved ones, was ever in a checkpoint."""
        except BaseException as error:
            self._env.close()
            if isinstance(error, lmdb.Error):
                raise IndexDamaged(f"{self._path}: {error}") from error
            raise

    # Reading.

    def adopt(self) -> None:
        """Make the calling thread the one with a standing read transaction: it saves the thread
        that looks up most about a microsecond each time."""
        self._owner = threading.get_ident()
        self.refresh()

    def refresh(self) -> None:
        """Let the owner's transaction go on to the newest checkpoint, so that it pins no old pages.
        Called by the owner."""
        if self._standing is not None:
            self._standing.abort()
        self._standing = self._env.begin(db=self._entries)
        self._standing_epoch = self._epoch

    def get(self, key: bytes) -> bytes | None:
        fresh, frozen = self._layers
        entry: Any = fresh.get(key, _MISSING)
        if entry is _MISSING:
            entry = frozen.get(key, _MISSING)
        if entry is not _MISSING:
            return entry  # type: ignore[no-any-return]
        # Blob ids ascend in time: a fresh one is in no checkpoint. Reserved ones are above them all.
        if self._highest < key < RESERVED_PREFIX:
            return None
        if threading.get_ident() == self._owner:
            if self._standing_epoch != self._epoch:
                self.refresh()
            return self._standing.get(key)  # type: ignore[no-any-return]
        with self._env.begin(db=self._entries) as txn:
            return txn.get(key)

    def scan(self, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """The next entries in key order."""
        fresh, frozen = self._layers
        changes = {**frozen, **fresh}
        start = b"" if after is None else after + b"\0"
        rows: dict[bytes, bytes] = {}
        last: bytes | None = None
        with self._env.begin(db=self._entries) as txn, txn.cursor() as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key, entry in cursor:
                    if key in changes:
                        continue
                    rows[key] = entry
                    if len(rows) == limit:
                        last = key
                        break
        rows.update(
            (key, changed)
            for key, changed in changes.items()
            if changed is not None and key >= start and (last is None or key <= last)
        )
        return sorted(rows.items())[:limit]

    @property
    def pending(self) -> int:
        """How many changes the next checkpoint will write."""
        fresh, frozen = self._layers
        return len(fresh) + len(frozen)

    # Changing.

    def set(self, key: bytes, entry: bytes | None) -> None:
        self._layers.fresh[key] = entry

    def load_checkpoint(self) -> Checkpoint | None:
        """Raises `IndexDamaged`."""
        try:
            with self._env.begin(db=self._state) as txn:
                raw = txn.get(_CHECKPOINT_KEY)
            return None if raw is None else _decode_checkpoint(raw)
        except (lmdb.Error, msgspec.DecodeError) as error:
            raise IndexDamaged(f"{self._path}: {error}") from error

    def freeze(self) -> None:
        """Begin a checkpoint: changes from now on belong to the next one."""
        fresh, frozen = self._layers
        self._layers = _Layers({}, {**frozen, **fresh} if frozen else fresh)

    def write(self, checkpoint: Checkpoint) -> None:
        """Finish it: one durable transaction. On an error the frozen changes stay in memory."""
        frozen = self._layers.frozen
        try:
            self._write(checkpoint, frozen)
        except lmdb.MapFullError as error:
            raise DeviceFull(
                f"the index at {self._path} has filled its map; it is larger after a restart"
            ) from error
        except lmdb.Error as error:
            kind = DeviceFull if "No space" in str(error) else DeviceFailed
            raise kind(f"cannot write the index at {self._path}: {error}") from error
        self._highest = max(
            self._highest, max((key for key in frozen if key < RESERVED_PREFIX), default=b"")
        )
        self._epoch += 1
        self._layers = _Layers(self._layers.fresh, {})

    def _write(self, checkpoint: Checkpoint, changes: dict[bytes, bytes | None]) -> None:
        with self._env.begin(write=True, db=self._entries) as txn:
            puts = sorted((key, entry) for key, entry in changes.items() if entry is not None)
            with txn.cursor() as cursor:
                cursor.putmulti(puts)
            for key, entry in changes.items():
                if entry is None:
                    txn.delete(key)
            txn.put(_CHECKPOINT_KEY, msgspec.msgpack.encode(checkpoint), db=self._state)

    def clear(self) -> None:
        """Forget everything: before a rebuild from the log."""
        with self._env.begin(write=True) as txn:
            txn.drop(self._entries, delete=False)
            txn.drop(self._state, delete=False)
        self._epoch += 1
        self._layers = _Layers({}, {})

    def close(self) -> None:
        if self._standing is not None:
            self._standing.abort()
            self._standing = None
        self._owner = 0
        self._env.close()


_MISSING: Final[Any] = object()
