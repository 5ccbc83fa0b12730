"""The buckets of `objectio.testing.objects`: what is kept in memory, and what is said of a bucket."""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from objectio import limits
from objectio.abc.objects import (
    NULL_VERSION,
    BucketInfo,
    EncryptionInfo,
    ObjectAttributes,
    ObjectInfo,
    PartInfo,
    UploadInfo,
)
from objectio.errors import AlreadyExists, CommitConflict, InvalidRequest, NotEmpty, NotFound
from objectio.model.bucket import (
    ENCRYPTION,
    LOCK,
    DefaultEncryption,
    ObjectLock,
    Retention,
    Versioning,
    decode_document,
)

_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.))*[a-z0-9]")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


@dataclass(slots=True)
class MemoryObject:
    """A version; `info` as it is while it is the current one."""

    info: ObjectInfo
    data: bytes = b""


@dataclass(slots=True)
class MemoryPart:
    info: PartInfo
    data: bytes


@dataclass(slots=True)
class MemoryUpload:
    info: UploadInfo
    parts: dict[int, MemoryPart] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryBucket:
    info: BucketInfo
    documents: dict[str, bytes] = field(default_factory=dict)
    versions: dict[bytes, list[MemoryObject]] = field(default_factory=dict)  # newest first
    keys: list[bytes] = field(default_factory=list)  # those of `versions`, sorted
    uploads: dict[tuple[bytes, str], MemoryUpload] = field(default_factory=dict)
    count: int = 0

    def current(self, key: bytes) -> MemoryObject | None:
        """Be it an object or a delete marker."""
        return self.versions[key][0] if key in self.versions else None

    def find(self, key: bytes, version_id: str) -> MemoryObject | None:
        return next(
            (each for each in self.versions.get(key, []) if each.info.version_id == version_id),
            None,
        )

    def put(self, stored: MemoryObject) -> MemoryObject | None:
        """On top of the others. Returns the version that it replaced for good, if any."""
        key, version_id = stored.info.key, NULL_VERSION
        if self.info.versioning == "Enabled":
            self.count += 1
            version_id = f"{self.count:032x}"
        replaced = self.find(key, version_id)
        if replaced is not None:
            self.remove(replaced)
        stored.info = msgspec.structs.replace(
            stored.info,
            version_id=version_id,
            versioned=bool(self.info.versioning),
            attributes=self._retained(stored.info),
            encryption=self._encrypted(stored.info),
        )
        if key not in self.versions:
            insort(self.keys, key)
            self.versions[key] = []
        self.versions[key].insert(0, stored)
        return replaced

    def remove(self, stored: MemoryObject) -> None:
        key = stored.info.key
        self.versions[key].remove(stored)
        if not self.versions[key]:
            del self.versions[key]
            del self.keys[bisect_left(self.keys, key)]

    def shown(self, stored: MemoryObject) -> ObjectInfo:
        return msgspec.structs.replace(
            stored.info,
            is_latest=self.current(stored.info.key) is stored,
            versioned=bool(self.info.versioning),
            bucket=self.info if self.info.revision else None,
        )

    def _retained(self, info: ObjectInfo) -> ObjectAttributes:
        document = self.documents.get(LOCK)
        default = None if document is None else decode_document(document, ObjectLock).default
        if default is None or info.attributes.retention is not None or info.is_delete_marker:
            return info.attributes
        until = datetime.fromtimestamp(info.modified_ms / 1000, UTC) + timedelta(days=default.days)
        until = until.replace(year=until.year + default.years)
        retention = Retention(mode=default.mode, until_ms=int(until.timestamp() * 1000))
        return msgspec.structs.replace(info.attributes, retention=retention)

    def _encrypted(self, info: ObjectInfo) -> EncryptionInfo | None:
        document = self.documents.get(ENCRYPTION)
        if document is None or info.encryption is not None or info.is_delete_marker:
            return info.encryption
        default = decode_document(document, DefaultEncryption)
        return EncryptionInfo(
            method=default.method, key_id=default.key_id, bucket_key=default.bucket_key
        )


class MemoryBuckets:
    """The calls of an `ObjectService` that are about buckets."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._buckets: dict[str, MemoryBucket] = {}
        self._now_ms = now_ms

    def snapshot(self) -> Mapping[str, object]:
        """All that is stored, to see that nothing changed: bucket, objects, uploads, documents."""
        return {
            name: (
                bucket.info,
                {
                    key: [(stored.info, stored.data) for stored in versions]
                    for key, versions in bucket.versions.items()
                },
                {
                    key: (upload.info, {n: (p.info, p.data) for n, p in upload.parts.items()})
                    for key, upload in bucket.uploads.items()
                },
                dict(bucket.documents),
            )
            for name, bucket in self._buckets.items()
        }

    async def create_bucket(
        self,
        name: str,
        *,
        owner: str,
        region: str = "",
        object_lock: bool = False,
        documents: Mapping[str, bytes] = {},
    ) -> BucketInfo:
        if (
            not limits.BUCKET_NAME_CHARS_MIN <= len(name) <= limits.BUCKET_NAME_CHARS_MAX
            or not _BUCKET_NAME.fullmatch(name)
            or _IPV4.fullmatch(name)
        ):
            raise InvalidRequest("not a bucket name", reason="InvalidBucketName", bucket=name)
        if name in self._buckets:
            existing = self._buckets[name].info
            raise AlreadyExists("the bucket exists", bucket=name, owner=existing.owner)
        info = BucketInfo(
            name=name,
            created_ms=self._now_ms(),
            owner=owner,
            region=region,
            id=os.urandom(8),
            revision=int(bool(documents)),
            versioning="Enabled" if object_lock else "",
            object_lock=object_lock,
        )
        self._buckets[name] = MemoryBucket(info, dict(documents))
        return info

    async def delete_bucket(self, name: str) -> None:
        bucket = self._bucket(name)
        if bucket.versions or bucket.uploads:
            raise NotEmpty("the bucket is not empty", bucket=name)
        del self._buckets[name]

    async def get_bucket(self, name: str) -> BucketInfo:
        return self._bucket(name).info

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 10_000, owner: str | None = None
    ) -> Sequence[BucketInfo]:
        names = sorted(n for n in self._buckets if n.startswith(prefix) and n > after)
        infos = [self._buckets[name].info for name in names]
        return [info for info in infos if owner is None or info.owner == owner][:limit]

    async def set_versioning(self, name: str, status: Versioning) -> None:
        bucket = self._bucket(name)
        if not status:
            raise InvalidRequest("not a status", reason="IllegalVersioningConfiguration")
        if bucket.info.object_lock and status != "Enabled":
            raise InvalidRequest("the bucket has object lock", reason="InvalidBucketState")
        bucket.info = msgspec.structs.replace(bucket.info, versioning=status)

    async def get_documents(self, bucket: BucketInfo) -> Mapping[str, bytes]:
        held = self._buckets.get(bucket.name)
        return dict(held.documents) if held is not None and held.info.id == bucket.id else {}

    async def put_document(
        self, bucket: str, name: str, value: bytes | None, *, judged: BucketInfo | None = None
    ) -> None:
        held = self._bucket(bucket)
        if judged is not None and (held.info.id, held.info.revision) != (
            judged.id,
            judged.revision,
        ):
            raise CommitConflict("the bucket's documents changed meanwhile", bucket=bucket)
        lock = held.info.object_lock or name == LOCK
        if name == LOCK and held.info.versioning != "Enabled":
            raise InvalidRequest("the bucket has no versioning", reason="InvalidBucketState")
        held.documents.pop(name, None)
        if value is not None:
            held.documents[name] = value
        held.info = msgspec.structs.replace(
            held.info, revision=held.info.revision + 1, object_lock=lock
        )

    def _bucket(self, name: str) -> MemoryBucket:
        try:
            return self._buckets[name]
        except KeyError:
            raise NotFound("no such bucket", kind="bucket", bucket=name) from None
