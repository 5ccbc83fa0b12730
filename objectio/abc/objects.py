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

from objectio.model.bucket import Acl, Retention, Versioning

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


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """How a write asks to be encrypted. `method` is "AES256" (SSE-S3), "aws:kms", "aws:kms:dsse" or
    "SSE-C", for which `customer_key` has 32 bytes, which are never kept. Never show one of these."""

    method: str
    key_id: str = ""
    customer_key: bytes = b""
    context: Mapping[str, str] = {}
    bucket_key: bool = False

    def __repr__(self) -> str:
        return f"Encryption({self.method})"


class EncryptionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a version is encrypted. `customer_key_md5` is base64, as S3 says it."""

    method: str
    key_id: str = ""
    customer_key_md5: str = ""
    bucket_key: bool = False


class Origin(NamedTuple):
    """Who caused a change and by what, for notifications: `event` as S3 names it, without "s3:"
    ("ObjectCreated:Put")."""

    event: str
    principal: str = ""
    source_ip: str = ""
    request_id: str = ""


class ObjectAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """What the writer says about an object. `headers` are those returned as they came
    (content-type, cache-control, content-disposition, content-encoding, content-language, expires,
    x-amz-website-redirect-location); `metadata` the user's own, names in lower case without prefix.
    `acl` None is private."""

    headers: Mapping[str, str] = {}
    metadata: Mapping[str, str] = {}
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: str = ""
    tags: Mapping[str, str] = {}
    acl: Acl | None = None
    retention: Retention | None = None
    legal_hold: bool = False


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` is the canonical id of an account. `id` is never used again; `revision` changes with
    every document. `object_lock`: the bucket was made for it, or it was switched on since."""

    name: str
    created_ms: int
    owner: str
    region: str = ""
    id: bytes = b""
    revision: int = 0
    versioning: Versioning = ""
    object_lock: bool = False


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`encryption` is said of a part that was just put."""

    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: Mapping[str, str] = {}
    encryption: EncryptionInfo | None = None


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version. `part_sizes` and `part_checksums` are empty for an object that was put in one
    piece. `versioned`: the bucket has or had versioning, so that answers name the version. `bucket`
    is given where it may have documents, so that whoever asks for them need not look it up."""

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
    part_numbers: Sequence[int] = ()
    part_checksums: Sequence[Mapping[str, str]] = ()
    versioned: bool = False
    encryption: EncryptionInfo | None = None
    bucket: BucketInfo | None = None


class Deleted(NamedTuple):
    """What a delete did. `info` is the version that is gone for good, if any; `version_id` that of
    it or of the delete marker that was put on top (`delete_marker` in both cases says whether it is
    one), None where the bucket never had versioning."""

    info: ObjectInfo | None = None
    version_id: str | None = None
    delete_marker: bool = False


class DeleteTarget(NamedTuple):
    key: bytes
    version_id: str | None = None
    conditions: Conditions | None = None


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
    """`initiator` is the ARN of who began it."""

    upload_id: str
    key: bytes
    initiated_ms: int
    owner: str
    attributes: ObjectAttributes = ObjectAttributes()
    initiator: str = ""
    encryption: EncryptionInfo | None = None


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
    if_modified_at: int | None = None
    """Last-Modified must be exactly this: conditional deletes."""
    if_size: int | None = None


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
    """`owner` is always the canonical id of an account. `origin` is for notifications; without one
    nobody is told."""

    # Buckets. Names are validated here.
    async def create_bucket(
        self,
        name: str,
        *,
        owner: str,
        region: str = "",
        object_lock: bool = False,
        documents: Mapping[str, bytes] = {},
    ) -> BucketInfo:
        """Raises `AlreadyExists` with `fields["owner"]`. With `object_lock` versioning is on."""
        ...

    async def delete_bucket(self, name: str) -> None:
        """Raises `NotEmpty` while any object, version or upload is left."""
        ...

    async def get_bucket(self, name: str) -> BucketInfo: ...

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 10_000, owner: str | None = None
    ) -> Sequence[BucketInfo]: ...

    async def set_versioning(self, name: str, status: Versioning) -> None:
        """Raises `InvalidRequest` (reason InvalidBucketState) where object lock forbids it."""
        ...

    async def get_documents(self, bucket: BucketInfo) -> Mapping[str, bytes]:
        """All documents of a bucket, by name: see `objectio.model.bucket`. Remembered by revision,
        so it is cheap to ask again."""
        ...

    async def put_document(
        self, bucket: str, name: str, value: bytes | None, *, judged: BucketInfo | None = None
    ) -> None:
        """Set one, or remove it (None; no error where there is none). That of `LOCK` turns object
        lock on for good, and raises `InvalidRequest` (reason InvalidBucketState) unless versioning is
        on. `judged` is the bucket as it was when the caller judged that this may be done, by its other
        documents: raises `CommitConflict` if any of them changed since."""
        ...

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
        encryption: Encryption | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        """The bucket's defaults for retention and encryption are applied here."""
        ...

    async def get_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
    ) -> ObjectReader:
        """Raises `NotFound` (kind bucket, object or version), with `fields["delete_marker"]` true and
        `fields["version_id"]` where the current version is one; `MethodNotAllowed` with the same
        fields and `modified_ms` where the version asked for is; `InvalidRequest` (reason
        InvalidRequest) where the customer's key is missing, not wanted, or another."""
        ...

    async def head_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
        check_key: bool = True,
    ) -> ObjectInfo:
        """`check_key` false: for who looks at what is said about a version, not at its bytes."""
        ...

    async def update_object(
        self,
        bucket: str,
        key: bytes,
        change: Callable[[ObjectInfo], ObjectAttributes],
        *,
        version_id: str | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        """Change what is said about a version in place: tags, ACL, retention, legal hold. `change`
        gets it as it is and gives the new attributes, and may raise; it is called again if somebody
        else changed it meanwhile. Neither bytes nor time of the version change."""
        ...

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        conditions: Conditions | None = None,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Deleted:
        """Without a version: a delete marker where the bucket has versioning, else the object is
        gone. That there was nothing is no error. Raises `AccessDenied` (reason AccessDenied) for a
        version that is retained or held, also if that cannot be read."""
        ...

    async def delete_objects(
        self,
        bucket: str,
        targets: Sequence[DeleteTarget],
        *,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Sequence[Deleted | Exception]:
        """Several at once; one fate each, in order."""
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
        conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        """`conditions` are those of the target. `attributes` None keeps the source's but ACL,
        retention and legal hold. The bytes are copied, never shared."""
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
    ) -> Listing:
        """By key, and the newest version of each first. Behind all versions of `after` unless
        `after_version` names one."""
        ...

    # Multipart uploads.
    async def create_upload(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        *,
        owner: str,
        initiator: str = "",
        encryption: Encryption | None = None,
    ) -> UploadInfo: ...

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo: ...

    async def put_part(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        number: int,
        payload: Payload,
        *,
        customer_key: bytes | None = None,
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
        customer_key: bytes | None = None,
        origin: Origin | None = None,
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
