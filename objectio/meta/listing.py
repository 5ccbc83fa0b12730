"""Listings: ordered keys, rolled up at a delimiter, a page at a time.

A page costs what it shows, not what the bucket holds: a common prefix is noted once and the scan
goes on behind everything under it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from objectio.abc.objects import ListedObject, Listing, UploadInfo, UploadListing
from objectio.kv.keys import prefix_end, unescape
from objectio.kv.store import KVStore
from objectio.limits import KV_SCAN_ROWS_MAX
from objectio.meta import keys
from objectio.meta.records import decode_listed, decode_upload

_ROWS_MIN: Final = 32
"""A scan after a skipped prefix starts small, for the next prefix may be near."""

T = TypeVar("T")


class _Page(NamedTuple):
    """Entries and common prefixes in one order; `cut` if there is more."""

    entries: list[tuple[bytes, bytes]]
    prefixes: list[bytes]
    last: bytes
    cut: bool


class Listings:
    def __init__(self, kv: KVStore) -> None:
        self._kv = kv

    async def objects(
        self, bucket_id: bytes, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> Listing:
        page = await self._page(keys.objects(bucket_id), prefix, delimiter, after, limit)
        listed: list[ListedObject] = [decode_listed(raw).listed(key) for key, raw in page.entries]
        return Listing(listed, page.prefixes, page.last if page.cut else None)

    async def _page(
        self, table: bytes, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> _Page:
        if limit <= 0:
            return _Page([], [], after, False)
        skip = len(table)
        stop = prefix_end(table + prefix)
        start = max(table + prefix, _behind(table, after, prefix, delimiter))
        page = _Page([], [], b"", False)
        entries, prefixes = page.entries, page.prefixes
        last = b""
        want = min(limit + 1, 1000 if delimiter else KV_SCAN_ROWS_MAX)
        while True:
            rows = await self._kv.ascan(start, stop, limit=want)
            position, seek = 0, b""
            while position < len(rows):
                key = rows[position][0][skip:]
                rolled = rolled_up(key, prefix, delimiter)
                if len(entries) + len(prefixes) == limit:
                    return _Page(entries, prefixes, last, True)
                if not rolled:
                    entries.append((key, rows[position][1]))
                    last = key
                    position += 1
                    continue
                prefixes.append(rolled)
                last = rolled
                seek = prefix_end(table + rolled)
                position = bisect_left(rows, seek, position, key=_row_key)
            if len(rows) < want:
                return _Page(entries, prefixes, last, False)
            past_last_row = rows[-1][0] + b"\0"
            start = max(seek, past_last_row)
            want = _ROWS_MIN if start == seek else 1000

    async def uploads(
        self,
        bucket_id: bytes,
        prefix: bytes,
        delimiter: bytes,
        after: tuple[bytes, str],
        limit: int,
    ) -> UploadListing:
        """By key, then by upload id. `after`: a key and an upload id of it, or "" for all of it; the
        id may be anything, as it comes from clients."""
        if limit <= 0:
            return UploadListing([], [], None)
        table = keys.uploads(bucket_id)
        start, stop = keys.uploads_of_prefix(bucket_id, prefix), prefix_end(table)
        if after[0]:
            key_row = keys.upload(bucket_id, after[0], b"")
            rolled = after[0].startswith(prefix) and rolled_up(after[0], prefix, delimiter)
            if rolled:
                behind = prefix_end(keys.uploads_of_prefix(bucket_id, rolled))
            else:
                behind = key_row if after[1] else prefix_end(key_row)
            start = max(start, behind)
        uploads: list[UploadInfo] = []
        prefixes: list[bytes] = []
        last = after
        while True:
            rows = await self._kv.ascan(start, stop, limit=min(limit + 1, 1000))
            seek = b""
            for row_key, raw in rows:
                if row_key < seek:
                    continue
                key, end = unescape(row_key, len(table))
                upload_id = row_key[end:].hex()
                if not key.startswith(prefix):
                    return UploadListing(uploads, prefixes, None)
                if key == after[0] and upload_id <= after[1]:
                    continue
                if len(uploads) + len(prefixes) >= limit:
                    return UploadListing(uploads, prefixes, last)
                rolled = rolled_up(key, prefix, delimiter)
                if rolled:
                    prefixes.append(rolled)
                    last = (rolled, "")
                    seek = prefix_end(keys.uploads_of_prefix(bucket_id, rolled))
                else:
                    uploads.append(decode_upload(raw).info(key, upload_id))
                    last = (key, upload_id)
            if len(rows) < min(limit + 1, 1000):
                return UploadListing(uploads, prefixes, None)
            start = max(seek, rows[-1][0] + b"\0")


def rolled_up(key: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """The common prefix that stands for the key, or b""."""
    if not delimiter:
        return b""
    at = key.find(delimiter, len(prefix))
    return key[: at + len(delimiter)] if at >= 0 else b""


def _behind(table: bytes, after: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """The first row that may be shown behind `after`. A common prefix comes before everything in
    it, so that an `after` inside of one is behind it."""
    if not after:
        return b""
    rolled = rolled_up(after, prefix, delimiter) if after.startswith(prefix) else b""
    return prefix_end(table + rolled) if rolled else table + after + b"\0"


_row_key: Final[Callable[[Any], bytes]] = lambda row: row[0]  # noqa: E731
