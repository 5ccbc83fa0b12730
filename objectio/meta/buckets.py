"""Buckets over the KV contract."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from objectio.abc.kv import Absent, Equals, RangeEmpty
from objectio.abc.objects import BucketInfo
from objectio.errors import (
    AlreadyExists,
    CommitConflict,
    InvalidRequest,
    NotEmpty,
    NotFound,
    Unavailable,
)
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.limits import BUCKET_NAME_CHARS_MAX, BUCKET_NAME_CHARS_MIN, KV_SCAN_ROWS_MAX
from objectio.meta import keys
from objectio.meta.records import BucketRecord, decode_bucket, encode
from objectio.model.bucket import Versioning

COMMIT_TRIES: Final = 200
"""Each conflict means that somebody else's commit went through, so a loop that long is a livelock
between a great many writers of one row."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\Z")
_RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3")


def check_bucket_name(name: str) -> None:
    """S3 user guide, "General purpose bucket naming rules"."""
    good = (
        BUCKET_NAME_CHARS_MIN <= len(name) <= BUCKET_NAME_CHARS_MAX
        and _NAME.match(name) is not None
        and ".." not in name
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
        and not _is_address(name)
    )
    if not good:
        raise InvalidRequest(
            f"{name!r} is not a bucket name: 3 to 63 of a-z, 0-9, - and ., a letter or digit at both ends",
            reason="InvalidBucketName",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


class Bucket:
    """A bucket as it was read: the record, and the row's bytes to check a commit against."""

    __slots__ = ("check", "id", "record")

    def __init__(self, row_key: bytes, raw: bytes) -> None:
        self.record = decode_bucket(raw)
        self.id = self.record.id
        self.check = Equals(row_key, raw)


class Buckets:
    def __init__(self, kv: KVStore) -> None:
        self._kv = kv

    async def find(self, name: str) -> Bucket:
        """Raises `NotFound` (kind bucket)."""
        row_key = keys.bucket(name)
        raw = await self._kv.aget(row_key)
        if raw is None:
            raise NotFound(f"there is no bucket {name}", kind="bucket", bucket=name)
        return Bucket(row_key, raw)

    async def find_again(self, bucket: Bucket) -> Bucket:
        """As it is now. Raises `NotFound` if another of this name took its place."""
        found = await self.find(bucket.record.name)
        if found.id != bucket.id:
            name = bucket.record.name
            raise NotFound(f"bucket {name} was deleted", kind="bucket", bucket=name)
        return found

    async def create(
        self,
        name: str,
        owner: str,
        region: str,
        *,
        object_lock: bool = False,
        documents: Mapping[str, bytes] = {},
    ) -> BucketInfo:
        check_bucket_name(name)
        record = BucketRecord(
            os.urandom(keys.BUCKET_ID_BYTES),
            name,
            int(time.time() * 1000),
            owner,
            region,
            "Enabled" if object_lock else "",
            object_lock,
            int(bool(documents)),
        )
        row_key = keys.bucket(name)
        writes: list[tuple[bytes, bytes | None]] = [(row_key, encode(record))]
        writes += [(keys.document(record.id, each), raw) for each, raw in documents.items()]
        try:
            await self._kv.commit([Absent(row_key)], writes)
        except CommitConflict:
            raw = await self._kv.aget(row_key)
            holder = "" if raw is None else decode_bucket(raw).owner
            raise AlreadyExists(
                f"bucket {name} exists", kind="bucket", bucket=name, owner=holder
            ) from None
        return record.info()

    async def set_versioning(self, name: str, status: Versioning) -> None:
        if not status:
            raise InvalidRequest(
                "versioning never goes away", reason="IllegalVersioningConfiguration"
            )
        for _ in range(COMMIT_TRIES):
            bucket = await self.find(name)
            if bucket.record.versioning == status:
                return
            if bucket.record.object_lock and status != "Enabled":
                raise InvalidRequest(
                    "a bucket with object lock keeps its versions", reason="InvalidBucketState"
                )
            record = msgspec.structs.replace(bucket.record, versioning=status)
            try:
                await self._kv.commit([bucket.check], [(keys.bucket(name), encode(record))])
            except CommitConflict:
                continue
            return
        raise Unavailable("too many changes of one bucket at once", bucket=name)

    async def delete(self, name: str) -> None:
        """With its documents. Raises `NotEmpty`."""
        for _ in range(COMMIT_TRIES):
            bucket = await self.find(name)
            tables = (keys.objects, keys.markers, keys.versions, keys.null_versions, keys.uploads)
            prefixes = [table(bucket.id) for table in tables]
            documents = await self._kv.ascan_prefix(keys.documents(bucket.id))
            try:
                await self._kv.commit(
                    [bucket.check, *(RangeEmpty(each, prefix_end(each)) for each in prefixes)],
                    [(keys.bucket(name), None), *((row, None) for row, _ in documents)],
                )
            except CommitConflict as conflict:
                if isinstance(conflict.fields.get("check"), RangeEmpty):
                    raise NotEmpty(f"bucket {name} is not empty", bucket=name) from None
                continue
            return
        raise Unavailable("too many changes of one bucket at once", bucket=name)

    async def list(
        self, prefix: str, after: str, limit: int, owner: str | None = None
    ) -> Sequence[BucketInfo]:
        """At most `limit`, which may be more than one scan gives."""
        found: list[BucketInfo] = []
        while len(found) < limit:
            wanted = KV_SCAN_ROWS_MAX if owner is not None else min(limit, KV_SCAN_ROWS_MAX)
            rows = await self._kv.ascan_prefix(
                keys.bucket(prefix), after=keys.bucket(after) if after else b"", limit=wanted
            )
            page = [decode_bucket(raw).info() for _, raw in rows]
            found += [info for info in page if owner is None or info.owner == owner]
            if len(rows) < wanted:
                break
            after = page[-1].name
        return found[:limit]
