"""What lifecycle rules may be due for in a bucket: a walk over its rows, in the order of the keys.

What is found is a guess, for rows change while the walk goes on: whoever acts upon it judges each
version again in the commit that removes it. How many newer noncurrent versions there are is not judged
again; there can only have become more, or somebody removed one who might have done so a moment later.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from objectio.kv.keys import prefix_end, unescape
from objectio.kv.store import KVStore, Row
from objectio.meta import keys
from objectio.meta.buckets import Bucket
from objectio.meta.records import ObjectRecord, decode_object, decode_upload
from objectio.model.lifecycle import Due, LifecycleRules

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500


class DueVersion(NamedTuple):
    """`newer` noncurrent versions are above it."""

    kind: Literal["current", "noncurrent", "marker"]
    key: bytes
    version_id: str | None
    newer: int = 0


class DueUpload(NamedTuple):
    row: bytes
    raw: bytes
    upload_id: bytes


class Step(NamedTuple):
    """`after`: everything up to here has been looked at; None: that cannot be said yet."""

    rows: int
    due: Sequence[DueVersion | DueUpload]
    after: bytes | None


def is_due(rules: LifecycleRules, version: DueVersion, record: ObjectRecord, now_ms: float) -> bool:
    """Whether a version as it is now is due: other rows may have taken the place of those seen."""
    due: Due | None = None
    key, marker = version.key, record.delete_marker
    if version.kind == "noncurrent" and record.since_ms:
        since_ms, newer = record.since_ms, version.newer
        due = rules.noncurrent(key, record.size, record.tags, since_ms, newer, marker=marker)
    elif version.kind == "current" and not marker and not record.since_ms:
        due = rules.current(key, record.size, record.tags, record.modified_ms)
    elif version.kind == "marker" and marker and not record.since_ms:
        due = rules.lone_marker(key, record.modified_ms)
    return due is not None and due.at_ms <= now_ms


class Walk:
    """One bucket, by its rules."""

    def __init__(self, kv: KVStore, bucket: Bucket, rules: LifecycleRules, now_ms: float) -> None:
        self._kv = kv
        self._id = bucket.id
        self._versioned = bool(bucket.record.versioning)
        self._rules = rules
        self._now_ms = now_ms

    async def versions(self, after: bytes) -> AsyncIterator[Step]:
        """Behind the key `after`."""
        for prefix in self._rules.version_prefixes:
            if after < prefix_end(prefix):
                async for step in self._versions_of(prefix, after):
                    yield step

    async def _versions_of(self, prefix: bytes, after: bytes) -> AsyncIterator[Step]:
        start = max(prefix, after + b"\0" if after else b"")
        while True:
            objects = await self._heads(keys.objects(self._id), prefix, start)
            markers: list[Row] = []
            if self._versioned:
                markers = await self._heads(keys.markers(self._id), prefix, start)
            full = [rows[-1][0] for rows in (objects, markers) if len(rows) == _PAGE]
            bound = min(full, default=None)
            if bound is not None:
                objects = [row for row in objects if row[0] <= bound]
                markers = [row for row in markers if row[0] <= bound]
            current = self._choose("current", objects)
            yield Step(len(objects), current, None if self._versioned else bound)
            if self._versioned:
                lone = dict(markers)
                async for step in self._noncurrent(prefix, start, bound, lone):
                    yield step
                yield Step(len(markers), self._choose("marker", list(lone.items())), bound)
            if bound is None:
                return
            start = bound + b"\0"

    async def _heads(self, table: bytes, prefix: bytes, start: bytes) -> list[Row]:
        rows = await self._kv.ascan(table + start, prefix_end(table + prefix), limit=_PAGE)
        return [(row[len(table) :], raw) for row, raw in rows]

    def _choose(self, kind: Literal["current", "marker"], rows: Sequence[Row]) -> list[DueVersion]:
        found: list[DueVersion] = []
        for key, raw in rows:
            record = _decode(key, raw)
            if record is None:
                continue
            version = DueVersion(kind, key, record.version_id if kind == "marker" else None)
            if is_due(self._rules, version, record, self._now_ms):
                found.append(version)
        return found

    async def _noncurrent(
        self, prefix: bytes, start: bytes, bound: bytes | None, lone: dict[bytes, bytes]
    ) -> AsyncIterator[Step]:
        """From the key `start` to `bound`. What has noncurrent versions is no longer `lone`."""
        table = keys.versions(self._id)
        at = keys.versions_of_prefix(self._id, start)
        stop = prefix_end(keys.versions_of_prefix(self._id, prefix))
        if bound is not None:
            stop = prefix_end(keys.versions_of_key(self._id, bound))
        last, newer = b"", 0
        while rows := await self._kv.ascan(at, stop, limit=_PAGE):
            found: list[DueVersion] = []
            for row, raw in rows:
                key, _ = unescape(row, len(table))
                if key != last:
                    last, newer = key, 0
                    lone.pop(key, None)
                record = _decode(key, raw)
                if record is None:
                    continue
                version = DueVersion("noncurrent", key, record.version_id, newer)
                newer += not record.delete_marker
                if is_due(self._rules, version, record, self._now_ms):
                    found.append(version)
            yield Step(len(rows), found, None)
            at = rows[-1][0] + b"\0"

    async def uploads(self, after: bytes) -> AsyncIterator[Step]:
        """Behind the row `after`."""
        table = keys.uploads(self._id)
        for prefix in self._rules.upload_prefixes:
            under = keys.uploads_of_prefix(self._id, prefix)
            start, stop = max(under, after + b"\0"), prefix_end(under)
            while rows := await self._kv.ascan(start, stop, limit=_PAGE):
                found: list[DueUpload] = []
                for row, raw in rows:
                    key, end = unescape(row, len(table))
                    try:
                        upload = decode_upload(raw)
                    except msgspec.DecodeError as error:
                        _log.warning("lifecycle: an upload of %r cannot be read: %s", key, error)
                        continue
                    due = self._rules.upload(key, upload.initiated_ms)
                    if due is not None and due.at_ms <= self._now_ms:
                        found.append(DueUpload(row, raw, row[end:]))
                yield Step(len(rows), found, rows[-1][0])
                start = rows[-1][0] + b"\0"


def _decode(key: bytes, raw: bytes) -> ObjectRecord | None:
    """None for what cannot be read: it stays."""
    try:
        return decode_object(raw)
    except msgspec.DecodeError as error:
        _log.warning("lifecycle: a version of %r cannot be read: %s", key, error)
        return None
