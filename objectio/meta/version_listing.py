"""Listings of versions: by key, the newest first, rolled up at a delimiter, a page at a time.

What is current and what is not is in different tables, and a version may move from one to the other
while they are read. So the tables of what is current are read before and after the other: where they
say the same, everything in between belongs together, but for versions newer than the current one, and
that one itself: they came in between, and have gone again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from objectio.abc.objects import NULL_VERSION, ListedObject, Listing
from objectio.errors import InvalidRequest
from objectio.kv.keys import KEY_END, decode_uint, decode_uint_descending, prefix_end, unescape
from objectio.kv.store import KVStore
from objectio.limits import OBJECT_KEY_BYTES_MAX
from objectio.meta import keys
from objectio.meta.listing import rolled_up

_ROWS_MIN: Final = 32
"""A scan after a skipped prefix starts small, for the next prefix may be near."""
_ROWS_MAX: Final = 1_000
_TRIES: Final = 50
"""How often one key is looked at that is being written all the time."""
_SEQUENCE_BYTES: Final = 8
_VERSION_ID_DIGITS: Final = 32


class ListedVersion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `ObjectRecord` of which only that is decoded which a listing shows."""

    size: int
    etag: str
    modified_ms: int
    storage_class: str
    owner: str
    checksum_algorithm: str
    checksum_type: str
    version_id: str
    headers: msgspec.Raw
    metadata: msgspec.Raw
    checksums: msgspec.Raw
    blobs: msgspec.Raw
    part_sizes: msgspec.Raw
    manifest: msgspec.Raw = msgspec.Raw()
    sequence: int = 0
    delete_marker: bool = False

    def listed(self, key: bytes, latest: bool) -> ListedObject:
        return ListedObject(
            key,
            self.size,
            self.etag,
            self.modified_ms,
            self.storage_class,
            self.owner,
            self.version_id,
            latest,
            self.delete_marker,
            self.checksum_algorithm,
            self.checksum_type,
        )


_decode: Final = msgspec.msgpack.Decoder(ListedVersion).decode


class _Place(NamedTuple):
    """From `key` on; of that key itself, if `behind` is one, only versions older than that."""

    key: bytes
    behind: int | None = None


class _Entry(NamedTuple):
    key: bytes
    raw: bytes
    latest: bool


class _Behind(NamedTuple):
    """A noncurrent version. Of two of one key, the newer one has the higher sequence."""

    key: bytes
    sequence: int
    raw: bytes


class _Chunk(NamedTuple):
    """Entries in order, and where the next chunk begins, if there is more."""

    entries: list[_Entry]
    next: _Place | None


class VersionListings:
    def __init__(self, kv: KVStore) -> None:
        self._kv = kv

    async def page(
        self,
        bucket_id: bytes,
        prefix: bytes,
        delimiter: bytes,
        after: bytes,
        after_version: str | None,
        limit: int,
    ) -> Listing:
        if limit <= 0:
            return Listing([], [], None)
        place = await self._start(bucket_id, prefix, delimiter, after, after_version)
        shown: list[ListedObject] = []
        prefixes: list[bytes] = []
        last, version = b"", None
        want = min(limit + 1, _ROWS_MAX)
        while place is not None:
            chunk = await self._chunk(bucket_id, prefix, place, want)
            place, want, rolled = chunk.next, _ROWS_MAX, b""
            for entry in chunk.entries:
                if rolled and entry.key.startswith(rolled):
                    continue
                if len(shown) + len(prefixes) == limit:
                    return Listing(shown, prefixes, last, version)
                rolled = rolled_up(entry.key, prefix, delimiter)
                if rolled:
                    prefixes.append(rolled)
                    last, version = rolled, None
                    continue
                shown.append(_decode(entry.raw).listed(entry.key, entry.latest))
                last, version = entry.key, shown[-1].version_id
            if rolled and place is not None and place.key.startswith(rolled):
                place, want = _behind(rolled), _ROWS_MIN
        return Listing(shown, prefixes, None)

    async def _start(
        self, bucket_id: bytes, prefix: bytes, delimiter: bytes, after: bytes, version: str | None
    ) -> _Place | None:
        after = after[: OBJECT_KEY_BYTES_MAX + 1]  # behind the same keys, for none is longer
        if after < prefix:
            return _Place(prefix)
        rolled = after.startswith(prefix) and rolled_up(after, prefix, delimiter)
        if rolled:
            return _behind(rolled)
        if not after:
            return _Place(b"")
        if version is None:
            return _Place(after + b"\0")
        if version != NULL_VERSION:
            return _Place(after, sequence_of(version))
        rows = [table(bucket_id, after) for table in (keys.object, keys.marker, keys.null_version)]
        *heads, pointer = await self._kv.aget_many(rows)
        for head in map(_decode, filter(None, heads)):
            if head.version_id == NULL_VERSION:
                return _Place(after, head.sequence)
        # Where it is gone by now, nobody knows how far the page before went: what is shown twice is
        # better than what is not shown.
        return _Place(after, None if pointer is None else decode_uint(pointer))

    async def _chunk(self, bucket_id: bytes, prefix: bytes, place: _Place, want: int) -> _Chunk:
        for _ in range(_TRIES):
            heads, bound = await self._heads(bucket_id, prefix, place, None, want)
            versions, cut = await self._versions(bucket_id, prefix, place, bound, want)
            until = cut.key if cut is not None else bound
            again, _ = await self._heads(bucket_id, prefix, place, until, want)
            heads = {key: raw for key, raw in heads.items() if until is None or key <= until}
            if cut is None and bound is not None:
                cut = _Place(bound + b"\0")
            entries = _merged(heads, versions, place)
            changed = min(
                (key for key in heads.keys() | again.keys() if heads.get(key) != again.get(key)),
                default=None,
            )
            if changed is None:
                return _Chunk(entries, cut)
            if changed > place.key:
                return _Chunk([entry for entry in entries if entry.key < changed], _Place(changed))
            # Only what is said about this one key is in doubt.
            want = _ROWS_MIN
        return _Chunk(entries, cut)

    async def _heads(
        self, bucket_id: bytes, prefix: bytes, place: _Place, until: bytes | None, want: int
    ) -> tuple[dict[bytes, bytes], bytes | None]:
        """What is current, by key, and up to which key that is all of it; None: to the end."""
        found: dict[bytes, bytes] = {}
        bounds: list[bytes] = []
        for table in (keys.objects(bucket_id), keys.markers(bucket_id)):
            start = table + max(place.key, prefix)
            stop = prefix_end(table + prefix) if until is None else table + until + b"\0"
            rows = await self._kv.ascan(start, stop, limit=want)
            if len(rows) == want:
                bounds.append(rows[-1][0][len(table) :])
            found.update((row[len(table) :], raw) for row, raw in rows)
        bound = min(bounds, default=None)
        if bound is not None:
            found = {key: raw for key, raw in found.items() if key <= bound}
        return found, bound

    async def _versions(
        self, bucket_id: bytes, prefix: bytes, place: _Place, bound: bytes | None, want: int
    ) -> tuple[list[_Behind], _Place | None]:
        """Noncurrent versions, and where it goes on if it is not all."""
        key = max(place.key, prefix)
        start = keys.versions_of_key(bucket_id, key)
        if key == place.key and place.behind is not None:
            if place.behind:
                start = keys.version(bucket_id, key, place.behind - 1)
            else:
                start = prefix_end(start)
        stop = prefix_end(keys.versions_of_prefix(bucket_id, prefix))
        if bound is not None:
            stop = min(stop, prefix_end(keys.versions_of_key(bucket_id, bound)))
        rows = await self._kv.ascan(start, stop, limit=want)
        table = len(keys.versions(bucket_id))
        found = [
            _Behind(
                unescape(row, table)[0],
                decode_uint_descending(row, len(row) - _SEQUENCE_BYTES),
                raw,
            )
            for row, raw in rows
        ]
        if len(rows) < want:
            return found, None
        return found, _Place(found[-1].key, found[-1].sequence)


def _behind(rolled: bytes) -> _Place | None:
    end = prefix_end(rolled)
    return None if end == KEY_END else _Place(end)


def _merged(heads: dict[bytes, bytes], versions: list[_Behind], place: _Place) -> list[_Entry]:
    entries = [_Entry(key, raw, True) for key, raw in heads.items()]
    if place.behind is not None and place.key in heads:
        head = _decode(heads[place.key])
        if head.sequence >= place.behind:
            entries = [entry for entry in entries if entry.key != place.key]
    current: dict[bytes, int] = {}
    for each in versions:
        if each.key in heads and each.key not in current:
            current[each.key] = _decode(heads[each.key]).sequence
        if each.sequence < current.get(each.key, each.sequence + 1):
            entries.append(_Entry(each.key, each.raw, False))
    entries.sort(key=lambda entry: entry.key)  # stable: the current one first, the others as read
    return entries


def sequence_of(version_id: str) -> int:
    """Raises `InvalidRequest` for what is no version id."""
    try:
        raw = bytes.fromhex(version_id)
    except ValueError:
        raw = b""
    if len(version_id) != _VERSION_ID_DIGITS or raw.hex() != version_id:
        raise InvalidRequest("not a version id", reason="InvalidArgument", version_id=version_id)
    return decode_uint(raw)
