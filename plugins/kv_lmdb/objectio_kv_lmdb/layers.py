"""Keys of any length in an engine whose keys are short, in the same order.

LMDB takes keys of at most 511 bytes; the contract promises 4 KiB. A key is cut into chunks of
`CHUNK_BYTES`, and each chunk lives in a layer, as in Masstree:

    terminal row   layer id + the last chunk (1 … 480 bytes)   →  the value
    link row       layer id + a full chunk + 01                →  the id of a child layer

A link row stands for every key that continues beyond that chunk; its child layer holds what follows.
A row is a link if and only if it is 481 bytes long (without the layer id), so a terminal chunk may
hold any bytes. Order is kept: the terminal row of a full chunk sorts just before the link row of the
same chunk, as a key sorts before its continuations, and all else differs within the chunk.

The root layer is a database of its own without layer ids, so a key of up to 480 bytes is its own
row, and reading one is a single look-up. Child layers share a second database, with ids of 8 bytes.
No child layer is empty: a delete that takes its last row takes its link row too. Hence the highest
id in use is the id of the last row, and the next one is free.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

CHUNK_BYTES: Final = 480
LAYER_ID_BYTES: Final = 8
_LINK: Final = b"\x01"
_ABOVE_LINK: Final = b"\x02"

Rows = Generator[tuple[bytes, bytes], None, None]


class Layers:
    """The two databases of one environment. Every method works on a transaction of the caller."""

    def __init__(self, root: Any, children: Any) -> None:
        self._root = root
        self._children = children

    def get(self, txn: Any, key: bytes) -> bytes | None:
        value: bytes | None
        if len(key) <= CHUNK_BYTES:
            value = txn.get(key)
            return value
        layer = txn.get(key[:CHUNK_BYTES] + _LINK)
        rest = key[CHUNK_BYTES:]
        while layer is not None and len(rest) > CHUNK_BYTES:
            layer = txn.get(layer + rest[:CHUNK_BYTES] + _LINK, db=self._children)
            rest = rest[CHUNK_BYTES:]
        if layer is None:
            return None
        value = txn.get(layer + rest, db=self._children)
        return value

    def put(self, txn: Any, key: bytes, value: bytes) -> None:
        database, layer, rest = self._root, b"", key
        while len(rest) > CHUNK_BYTES:
            link = layer + rest[:CHUNK_BYTES] + _LINK
            child = txn.get(link, db=database)
            if child is None:
                # The new layer is not in the database until a row is: the one after this.
                child = self._next_layer(txn, layer)
                txn.put(link, child, db=database)
            database, layer, rest = self._children, child, rest[CHUNK_BYTES:]
        txn.put(layer + rest, value, db=database)

    def put_short(self, txn: Any, rows: list[tuple[bytes, bytes]]) -> None:
        """Put rows whose keys are chunks, in one call.

        py-lmdb gives up the interpreter's lock in each `put` and waits for it again, beside a busy
        event loop for half a millisecond; `putmulti` keeps it (beside a busy thread: 0.4 µs a row
        against 530 µs).
        """
        with txn.cursor(db=self._root) as cursor:
            cursor.putmulti(rows)

    def delete(self, txn: Any, key: bytes) -> bool:
        """Whether there was such a key."""
        database, layer, rest = self._root, b"", key
        links: list[tuple[Any, bytes]] = []
        while len(rest) > CHUNK_BYTES:
            link = layer + rest[:CHUNK_BYTES] + _LINK
            links.append((database, link))
            child = txn.get(link, db=database)
            if child is None:
                return False
            database, layer, rest = self._children, child, rest[CHUNK_BYTES:]
        if not txn.delete(layer + rest, db=database):
            return False
        for database, link in reversed(links):
            if self._has_rows(txn, layer):
                break
            txn.delete(link, db=database)
            layer = link[:LAYER_ID_BYTES]
        return True

    def scan(self, txn: Any, start: bytes, stop: bytes, reverse: bool) -> Rows:
        """Rows with start ≤ key < stop, in key order or the opposite."""
        walk = self._descending if reverse else self._ascending
        return walk(txn, self._root, b"", b"", start, stop)

    def _ascending(
        self, txn: Any, database: Any, layer: bytes, head: bytes, start: bytes, stop: bytes | None
    ) -> Rows:
        """The rows of one layer and of those below. `head` is what its keys start with; `start` and
        `stop` are relative to it, and a `stop` of None is above everything."""
        skip = len(layer)
        link_bytes = skip + CHUNK_BYTES + 1
        with txn.cursor(db=database) as cursor:
            if not cursor.set_range(layer + start[:CHUNK_BYTES]):
                return
            for row, value in cursor.iternext():
                if skip and not row.startswith(layer):
                    return
                if len(row) < link_bytes:
                    chunk = row[skip:] if skip else row
                    if stop is not None and chunk >= stop:
                        return
                    if chunk >= start:
                        yield head + chunk, value
                    continue
                chunk = row[skip:-1]
                if stop is not None and chunk >= stop:
                    return
                yield from self._ascending(
                    txn,
                    self._children,
                    value,
                    head + chunk,
                    start[CHUNK_BYTES:] if start.startswith(chunk) else b"",
                    stop[CHUNK_BYTES:] if stop is not None and stop.startswith(chunk) else None,
                )

    def _descending(
        self, txn: Any, database: Any, layer: bytes, head: bytes, start: bytes, stop: bytes | None
    ) -> Rows:
        """As `_ascending`, from the last row to the first."""
        skip = len(layer)
        link_bytes = skip + CHUNK_BYTES + 1
        lowest_chunk = start[:CHUNK_BYTES]
        with txn.cursor(db=database) as cursor:
            if not _seek_below(cursor, layer, stop):
                return
            for row, value in cursor.iterprev():
                if skip and not row.startswith(layer):
                    return
                if len(row) < link_bytes:
                    chunk = row[skip:] if skip else row
                    if chunk < start:
                        return
                    yield head + chunk, value
                    continue
                chunk = row[skip:-1]
                if chunk < lowest_chunk:
                    return
                yield from self._descending(
                    txn,
                    self._children,
                    value,
                    head + chunk,
                    start[CHUNK_BYTES:] if start.startswith(chunk) else b"",
                    stop[CHUNK_BYTES:] if stop is not None and stop.startswith(chunk) else None,
                )

    def _next_layer(self, txn: Any, parent: bytes) -> bytes:
        """An id above all in use. `parent` may be so new that it has no row yet."""
        highest = int.from_bytes(parent, "big")
        with txn.cursor(db=self._children) as cursor:
            if cursor.last():
                highest = max(highest, int.from_bytes(cursor.key()[:LAYER_ID_BYTES], "big"))
        return (highest + 1).to_bytes(LAYER_ID_BYTES, "big")

    def _has_rows(self, txn: Any, layer: bytes) -> bool:
        with txn.cursor(db=self._children) as cursor:
            return bool(cursor.set_range(layer) and cursor.key().startswith(layer))


def _seek_below(cursor: Any, layer: bytes, stop: bytes | None) -> bool:
    """Put the cursor on the last row that may belong to keys below `stop`."""
    if stop is None:
        above = (int.from_bytes(layer, "big") + 1).to_bytes(LAYER_ID_BYTES, "big")
    elif len(stop) > CHUNK_BYTES:
        above = layer + stop[:CHUNK_BYTES] + _ABOVE_LINK  # the link row holds keys below stop
    else:
        above = layer + stop
    if not above:
        return False
    found = cursor.prev() if cursor.set_range(above) else cursor.last()
    return bool(found)
