"""The outbox: which keys were written by commits that the journal may not have yet.

An engine with one copy is followed by a journal somewhere else (`CommitJournal`). The engine is first:
a batch is committed there, and then appended to the journal, before anybody is told that it is done.
So that a crash between the two loses nothing, the batch has a row of its own, in the same stroke,
with the *keys* that it writes. Whoever starts next journals the present values of these keys; that
may be more than the batch wrote, and never less. Values would double what the engine writes, and say
nothing that the engine does not know.

    j/ <number> <part>         a batch with that number, in as many parts as its keys need
    j/ <2^63 + count> <part>   a batch from before the journal was attached; it gets no number
    j/ <all ones>              rows were dropped, for there were too many: only a whole copy helps

A row is [first, keys]: it stands for the batches from `first` to its own number. Rows go when their
batch is journaled, along with a later batch; the newest row always stays, for it says how far the
numbers are. These rows are the engine's own and are never journaled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from objectio.abc.kv import Check, Commit, KVDriver
from objectio.errors import LocalProtocolError
from objectio.kv.keys import decode_uint, encode_uint
from objectio.limits import KIB, KV_BATCH_BYTES_MAX, KV_OUTBOX_ROWS_MAX

PREFIX: Final = b"j/"
PREFIX_END: Final = b"j0"
_UNNUMBERED: Final = 1 << 63
_UNNUMBERED_ROWS: Final = PREFIX + encode_uint(_UNNUMBERED)
_OVERFLOW: Final = PREFIX + b"\xff" * 8
_PART_KEY_BYTES: Final = 512 * KIB
"""Keys of one part: half of what every engine takes as a value."""
_PAGE: Final = 1000

Write = tuple[bytes, bytes | None]
pack: Final = msgspec.msgpack.Encoder().encode
unpack_writes: Final = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]]).decode
_unpack_row: Final = msgspec.msgpack.Decoder(tuple[int, list[bytes]]).decode


class CommitJournal(Protocol):
    """Where numbered batches go. All calls are made on the event loop, in ascending order."""

    def append(self, number: int, first: int, body: bytes) -> None:
        """Take a batch: `body` is the MessagePack of its writes, [[key, value or nil], …], in
        order. It stands for all numbers from `first` on. Once it and all before it are as safe as
        they get, `KVStore.acknowledge` is called with the number."""
        ...


class Applied(NamedTuple):
    """What became of a batch. `number` is 0 if it is not for the journal."""

    results: list[Check | None]
    number: int = 0
    body: bytes = b""


class CatchUp(NamedTuple):
    """What a journal lacks: one batch for all that stood in the outbox. `whole`: not even the outbox
    knows, so that everything must be copied; the numbers then have a gap, which tells readers of the
    journal that they cannot go on without that copy."""

    number: int
    first: int
    body: bytes
    whole: bool


class _Row(NamedTuple):
    number: int
    keys: tuple[bytes, ...]


class Outbox:
    """Commits to the driver, with outbox rows. Called from one thread at a time, or it waits."""

    def __init__(self, driver: KVDriver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._rows: deque[_Row] = deque()
        """Rows of numbered batches since the journal was attached, ascending."""
        self.numbered = False
        self.safe = 0
        """Everything up to this number is journaled on as many devices as it should be."""
        newest = driver.scan(PREFIX, _UNNUMBERED_ROWS, reverse=True, limit=1)
        self.number = _number_of(newest[0][0]) if newest else 0
        """Of the last batch that the engine has."""
        self._dropped = 0
        """Rows up to this number may be missing, and the overflow row says so."""
        later = driver.scan(_UNNUMBERED_ROWS, _OVERFLOW, reverse=True, limit=1)
        self._count = _number_of(later[0][0]) - _UNNUMBERED + 1 if later else 0
        self._overflowed = driver.get(_OVERFLOW) is not None

    # Commits.

    def commit(self, commits: Sequence[Commit]) -> Applied:
        """Blocking. If it raises, nothing was committed and no number is used up."""
        keys = [key for commit in commits for key, _ in commit.writes]
        if not keys:
            return Applied(self._driver.commit(commits))
        with self._lock:
            if not self.numbered:
                return self._commit_unnumbered(commits, keys)
            number = self.number + 1
            rows = _rows(number, number, keys)
            leaving = self._leaving()
            overflow = self._overflow_change(leaving)
            writes: list[Write] = [*rows, *overflow]
            writes += [(key, None) for row in leaving for key in row.keys]
            results = self._driver.commit([Commit((), writes), *commits])[1:]
            self.number = number
            for row in leaving:
                self._rows.popleft()
                self._dropped = max(self._dropped, row.number)
            if overflow:
                self._overflowed = overflow[0][1] is not None
            self._rows.append(_Row(number, tuple(key for key, _ in rows)))
        done = [
            write
            for commit, check in zip(commits, results, strict=True)
            if check is None
            for write in commit.writes
        ]
        return Applied(results, number, pack(done))

    def commit_alone(self, commit: Commit) -> Check | None:
        """For callers without an event loop: no journal can be attached."""
        if self.numbered:
            raise LocalProtocolError("a commit outside of the event loop cannot be journaled")
        return self.commit([commit]).results[0]

    def _commit_unnumbered(self, commits: Sequence[Commit], keys: Sequence[bytes]) -> Applied:
        if self._overflowed:
            return Applied(self._driver.commit(commits))
        rows: list[Write]
        full = self._count >= KV_OUTBOX_ROWS_MAX
        if full:
            rows = [(_OVERFLOW, b"")]
        else:
            rows = list(_rows(_UNNUMBERED + self._count, 0, keys))
        results = self._driver.commit([Commit((), rows), *commits])[1:]
        self._overflowed = full
        self._count += 1
        return Applied(results)

    def _leaving(self) -> list[_Row]:
        """The rows that go with the batch under way: journaled ones, and the oldest if there are too
        many."""
        safe = self.safe
        surplus = len(self._rows) - KV_OUTBOX_ROWS_MAX
        return [row for at, row in enumerate(self._rows) if row.number <= safe or at < surplus]

    def _overflow_change(self, leaving: Sequence[_Row]) -> list[Write]:
        safe = self.safe
        if leaving and leaving[-1].number > safe:
            return [] if self._overflowed else [(_OVERFLOW, b"")]
        return [(_OVERFLOW, None)] if self._overflowed and self._dropped <= safe else []

    # Attaching a journal; no batch may be under way.

    def replay(self, number: int, writes: Iterable[Write]) -> None:
        """Apply a batch that the journal has and this engine lost. Blocking."""
        with self._lock:
            row = first_row(number)
            changes: list[Write] = [*dict(writes).items(), row]
            old = [key for key, _ in self._driver.scan(*_numbered_rows(self.number), limit=_PAGE)]
            changes += [(key, None) for key in old if key != row[0]]
            self._driver.commit([Commit((), changes)])
            self.number = number

    def first(self) -> int:
        """The first batch that `catch_up` will journal again. Blocking."""
        rows = self._driver.scan(PREFIX, _UNNUMBERED_ROWS, limit=1)
        return _unpack_row(rows[0][1])[0] if rows else self.number + 1

    def catch_up(self) -> CatchUp:
        """Number everything that stands in the outbox as one batch; later ones get numbers of their
        own. Blocking."""
        with self._lock:
            first, keys, rows = self._read_rows()
            body = None if self._overflowed else self._present_values(keys)
            whole = body is None
            number = self.number + (2 if whole else 1)
            if whole or not first:
                first = number
            written = list(_rows(number, first, () if whole else list(keys)))
            changes: list[Write] = [*written, *((row, None) for row in rows)]
            if whole and not self._overflowed:
                changes.append((_OVERFLOW, b""))
            self._driver.commit([Commit((), changes)])
            self.number = number
            self._count = 0
            self._rows = deque([_Row(number, tuple(key for key, _ in written))])
            self._overflowed = whole
            self._dropped = number if whole else 0
            self.safe = first - 1
            self.numbered = True
            return CatchUp(number, first, body or pack([]), whole)

    def let_go(self) -> None:
        """No journal is attached any more."""
        with self._lock:
            self.numbered = False
            self._rows.clear()

    def _read_rows(self) -> tuple[int, dict[bytes, None], list[bytes]]:
        """(the first batch that a row stands for, all keys in all rows, the rows)."""
        first = 0
        keys: dict[bytes, None] = {}
        rows: list[bytes] = []
        start = PREFIX
        while page := self._driver.scan(start, _OVERFLOW, limit=_PAGE):
            for row, raw in page:
                rows.append(row)
                row_first, row_keys = _unpack_row(raw)
                keys.update(dict.fromkeys(row_keys))
                if row_first and (not first or row_first < first):
                    first = row_first
            start = page[-1][0] + b"\0"
        return first, keys, rows

    def _present_values(self, keys: Iterable[bytes]) -> bytes | None:
        """The keys' values as the body of a batch; None if that would be too much."""
        writes: list[Write] = []
        size = 0
        names = list(keys)
        for at in range(0, len(names), _PAGE):
            page = names[at : at + _PAGE]
            for key, value in zip(page, self._driver.get_many(page), strict=True):
                writes.append((key, value))
                size += len(key) + len(value or b"")
            if size > KV_BATCH_BYTES_MAX:
                return None
        return pack(writes)


def first_row(number: int) -> Write:
    """The only outbox row of an engine that was made anew: its numbers go on behind this one."""
    return _rows(number, number, ())[0]


def _rows(number: int, first: int, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    name = PREFIX + encode_uint(number)
    parts = list(_parts(keys)) or [[]]
    return [(name + encode_uint(part, 2), pack((first, held))) for part, held in enumerate(parts)]


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    if sum(map(len, keys)) <= _PART_KEY_BYTES:
        yield keys
        return
    part: list[bytes] = []
    size = 0
    for key in keys:
        part.append(key)
        size += len(key) + 3
        if size > _PART_KEY_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _numbered_rows(number: int) -> tuple[bytes, bytes]:
    return PREFIX + encode_uint(number), PREFIX + encode_uint(number + 1)


def _number_of(row: bytes) -> int:
    return decode_uint(row, len(PREFIX))
