"""The object service: what front ends are given. Buckets, objects, listings and uploads.

This is the portable type that `objectio.store` implements; S3, the admin API and the lakehouse
front ends all speak to it. It knows nothing of any wire format. Errors are those of
`objectio.errors`. Every change is durable and visible to the next reader when its call returns.

Keys are bytes: 1 … 1,024 of them, valid UTF-8 if they come from S3, any otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from typing_extensions import Buffer

NULL_VERSION = "null"


class Payload(Protocol):
    """The bytes of an object on their way in. Implemented by the gateway for request bodies."""

    @property
    def size(self) -> int:
        """How many bytes will come, exactly, decoded; known before the first is read."""
        ...

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises `PayloadError` when the sender breaks its word."""
        ...

    def digest(self, data: Buffer) -> None:
        """Feed the digests of this payload with the next bytes, in order, each byte once. The store
        calls it, in a worker thread for large buffers, never concurrently."""
        ...

    def finish(self) -> PayloadDigests:
        """After the last `digest`: raises `PayloadDigestMismatch` if the sender declared something
        else. The store calls it before it commits, and stores nothing when it raises."""
        ...


class PayloadDigests(NamedTuple):
    """`etag` without quotes; `checksums` maps an algorithm ("CRC32", "CRC32C", "CRC64NVME", "SHA1",
    "SHA256") to the digest as S3 writes it (base64)."""

    etag: str
    checksums: Mapping[str, str] = {}


class ObjectAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """What the writer says about an object. `headers` are those returned as they came
    (content-type, cache-control, content-disposition, content-encoding, content-language, expires);
    `metadata` the user's own, names in lower case without prefix."""

    headers: Mapping[str, str] = {}
    metadata: Mapping[str, str] = {}
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: str = ""


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    created_ms: int
    owner: str
    region: str = ""


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: Mapping[str, str] = {}


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version. `part_sizes` is empty for an object that was put in one piece."""

    key: bytes
    size: int
    etag: str
    modified_ms: int
    version_id: str = NULL_VERSION
    is_latest: bool = True
    is_delete_marker: bool = False
    owner: str = ""
    attributes: ObjectAttributes = ObjectAttributes()
    checksums: Mapping[str, str] = {}
    part_sizes: Sequence[int] = ()


class ListedObject(NamedTuple):
    """What a listing shows of an object."""

    key: bytes
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    owner: str
    version_id: str = NULL_VERSION
    is_latest: bool = True
    is_delete_marker: bool = False
    checksum_algorithm: str = ""
    checksum_type: str = ""


class Listing(NamedTuple):
    """One page. `next_after` is the last key or common prefix of a page that was cut, else None:
    passing it as `after` continues exactly behind it."""

    objects: Sequence[ListedObject]
    common_prefixes: Sequence[bytes]
    next_after: bytes | None
    next_version: str | None = None


class UploadInfo(msgspec.Struct, frozen=True, kw_only=True):
    upload_id: str
    key: bytes
    initiated_ms: int
    owner: str
    attributes: ObjectAttributes = ObjectAttributes()


class UploadListing(NamedTuple):
    uploads: Sequence[UploadInfo]
    common_prefixes: Sequence[bytes]
    next_after: tuple[bytes, str] | None


class PartListing(NamedTuple):
    upload: UploadInfo
    parts: Sequence[PartInfo]
    next_after: int | None


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9110 §13 preconditions. ETags without quotes, "*" for any; times in Unix seconds."""

    if_match: Sequence[str] = ()
    if_none_match: Sequence[str] = ()
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None


class CompletePart(NamedTuple):
    number: int
    etag: str
    checksums: Mapping[str, str] = {}


class ObjectReader(Protocol):
    """One version opened for reading. Its bytes stay readable while it is open, even if the object
    is overwritten or deleted meanwhile."""

    @property
    def info(self) -> ObjectInfo: ...

    def read_now(self, start: int, length: int) -> Buffer | None:
        """All of the range if it is small and can be had without waiting, else None."""
        ...

    def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        """The range in pieces of at most a stripe, each verified. Raises `InsufficientShards` from
        the first step if the first stripe cannot be had, so that a status can still be chosen."""
        ...

    def close(self) -> None: ...


class ObjectService(Protocol):
    # Buckets. Names are validated here.
    async def create_bucket(self, name: str, *, owner: str, region: str = "") -> BucketInfo:
        """Raises `AlreadyExists` with `fields["owner"]`."""
        ...

    async def delete_bucket(self, name: str) -> None:
        """Raises `NotEmpty` while any object, version or upload is left."""
        ...

    async def get_bucket(self, name: str) -> BucketInfo: ...

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 10_000
    ) -> Sequence[BucketInfo]: ...

    # Objects.
    async def put_object(
        self,
        bucket: str,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        *,
        owner: str,
        conditions: Conditions | None = None,
    ) -> ObjectInfo: ...

    async def get_object(
        self, bucket: str, key: bytes, *, version_id: str | None = None
    ) -> ObjectReader: ...

    async def head_object(
        self, bucket: str, key: bytes, *, version_id: str | None = None
    ) -> ObjectInfo: ...

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        conditions: Conditions | None = None,
    ) -> ObjectInfo | None:
        """What was deleted, or None if there was nothing (which is no error)."""
        ...

    async def delete_objects(
        self, bucket: str, keys: Sequence[tuple[bytes, str | None]]
    ) -> Sequence[Exception | None]:
        """Several at once, (key, version id or None); one fate each, in order."""
        ...

    async def copy_object(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        *,
        owner: str,
        source_version_id: str | None = None,
        source_conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> ObjectInfo:
        """`attributes` None keeps the source's. The bytes are copied, never shared."""
        ...

    # Listings.
    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing: ...

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        after_version: str | None = None,
        limit: int = 1000,
    ) -> Listing: ...

    # Multipart uploads.
    async def create_upload(
        self, bucket: str, key: bytes, attributes: ObjectAttributes, *, owner: str
    ) -> UploadInfo: ...

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo: ...

    async def put_part(
        self, bucket: str, key: bytes, upload_id: str, number: int, payload: Payload
    ) -> PartInfo: ...

    async def complete_upload(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        parts: Sequence[CompletePart],
        *,
        conditions: Conditions | None = None,
        check: Callable[[Sequence[PartInfo]], PayloadDigests] | None = None,
    ) -> ObjectInfo:
        """`check` sees the parts in order and gives the ETag and checksums of the whole; it may
        raise. Without one the ETag is S3's md5-of-md5s "-N"."""
        ...

    async def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> None: ...

    async def list_parts(
        self, bucket: str, key: bytes, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartListing: ...

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: tuple[bytes, str] = (b"", ""),
        limit: int = 1000,
    ) -> UploadListing: ...
