"""The buckets of `objectio.testing.objects`: what is kept in memory, and what is said of a bucket."""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from objectio import limits
from objectio.abc.objects import BucketInfo, ObjectInfo, PartInfo, UploadInfo
from objectio.errors import AlreadyExists, InvalidRequest, NotEmpty, NotFound
from objectio.model.bucket import LOCK, Versioning

_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.))*[a-z0-9]")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


@dataclass(slots=True)
class MemoryObject:
    info: ObjectInfo
    data: bytes


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
    objects: dict[bytes, MemoryObject] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)  # those of `objects`, sorted
    uploads: dict[tuple[bytes, str], MemoryUpload] = field(default_factory=dict)

    def put(self, stored: MemoryObject) -> None:
        key = stored.info.key
        if key not in self.objects:
            insort(self.keys, key)
        self.objects[key] = stored

    def pop(self, key: bytes) -> MemoryObject:
        del self.keys[bisect_left(self.keys, key)]
        return self.objects.pop(key)


class MemoryBuckets:
    """The calls of an `ObjectService` that are about buckets."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._buckets: dict[str, MemoryBucket] = {}
        self._now_ms = now_ms

    def snapshot(self) -> Mapping[str, object]:
        """All that is stored, to see that nothing changed."""
        return {
            name: (
                bucket.info,
                dict(bucket.documents),
                {key: (stored.info, stored.data) for key, stored in bucket.objects.items()},
                {
                    key: (upload.info, {n: (p.info, p.data) for n, p in upload.parts.items()})
                    for key, upload in bucket.uploads.items()
                },
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
            versioning="Enabled" if object_lock else "",
            object_lock=object_lock,
        )
        self._buckets[name] = MemoryBucket(info, dict(documents))
        return info

    async def delete_bucket(self, name: str) -> None:
        bucket = self._bucket(name)
        if bucket.objects or bucket.uploads:
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

    async def put_document(self, bucket: str, name: str, value: bytes | None) -> None:
        held = self._bucket(bucket)
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
