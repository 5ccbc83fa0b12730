"""Buckets over the KV contract."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Sequence
from typing import Final

from objectio.abc.kv import Absent, Equals, RangeEmpty
from objectio.abc.objects import BucketInfo
from objectio.errors import AlreadyExists, CommitConflict, InvalidRequest, NotEmpty, NotFound
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.limits import BUCKET_NAME_CHARS_MAX, BUCKET_NAME_CHARS_MIN, KV_SCAN_ROWS_MAX
from objectio.meta import keys
from objectio.meta.records import BucketRecord, decode_bucket, encode

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
        raise InvalidRequest(f"{name!r} is not a bucket name", reason="InvalidBucketName")


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

    async def create(self, name: str, owner: str, region: str) -> BucketInfo:
        check_bucket_name(name)
        record = BucketRecord(
            os.urandom(keys.BUCKET_ID_BYTES), name, int(time.time() * 1000), owner, region
        )
        row_key = keys.bucket(name)
        try:
            await self._kv.commit([Absent(row_key)], [(row_key, encode(record))])
        except CommitConflict:
            raw = await self._kv.aget(row_key)
            holder = "" if raw is None else decode_bucket(raw).owner
            raise AlreadyExists(
                f"bucket {name} exists", kind="bucket", bucket=name, owner=holder
            ) from None
        return record.info()

    async def delete(self, name: str) -> None:
        bucket = await self.find(name)
        rows = [keys.objects(bucket.id), keys.uploads(bucket.id)]
        checks = [RangeEmpty(prefix, prefix_end(prefix)) for prefix in rows]
        try:
            await self._kv.commit([bucket.check, *checks], [(keys.bucket(name), None)])
        except CommitConflict as conflict:
            if isinstance(conflict.fields.get("check"), RangeEmpty):
                raise NotEmpty(f"bucket {name} is not empty", bucket=name) from None
            raise

    async def list(self, prefix: str, after: str, limit: int) -> Sequence[BucketInfo]:
        """At most `limit`, which may be more than one scan gives."""
        found: list[BucketInfo] = []
        while len(found) < limit:
            wanted = min(limit - len(found), KV_SCAN_ROWS_MAX)
            rows = await self._kv.ascan_prefix(
                keys.bucket(prefix), after=keys.bucket(after) if after else b"", limit=wanted
            )
            found += [decode_bucket(raw).info() for _, raw in rows]
            if len(rows) < wanted:
                break
            after = found[-1].name
        return found
