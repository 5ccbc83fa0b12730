"""What the rows hold: typed records, as MessagePack arrays.

Fields are only ever added at the end, with a default, so that rows of an older release stay
readable; a field that is no longer used keeps its place.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from objectio.abc.admin import ScrubReport
from objectio.abc.objects import (
    NULL_VERSION,
    BucketInfo,
    EncryptionInfo,
    ListedObject,
    ObjectAttributes,
    ObjectInfo,
    PartInfo,
    UploadInfo,
)
from objectio.model.bucket import Acl, Retention, Versioning
from objectio.model.cluster import ClusterMap

Membership = Literal["in", "draining", "out"]


class BlobRef(NamedTuple):
    """The stored bytes of a version or a part: id, length, and the pool that says how it is cut."""

    blob: bytes
    size: int
    pool: int


class BucketRecord(msgspec.Struct, frozen=True, array_like=True):
    id: bytes
    name: str
    created_ms: int
    owner: str
    region: str = ""
    versioning: Versioning = ""
    object_lock: bool = False
    revision: int = 0

    def info(self) -> BucketInfo:
        return BucketInfo(
            name=self.name,
            created_ms=self.created_ms,
            owner=self.owner,
            region=self.region,
            id=self.id,
            revision=self.revision,
            versioning=self.versioning,
            object_lock=self.object_lock,
        )


class EncryptionRecord(msgspec.Struct, frozen=True, array_like=True):
    """How the bytes of a version are encrypted: the data key, wrapped. By whom says `method`: for
    SSE-C by the customer's key, of which the MD5 is kept; else by key `key_id` of the KMS. `context`
    is bound into the wrapping, and what the writer asked for is first of it."""

    method: str
    key_id: str
    wrapped: bytes
    context: dict[str, str] = {}
    customer_key_md5: str = ""
    bucket_key: bool = False

    def info(self) -> EncryptionInfo:
        return EncryptionInfo(
            method=self.method,
            key_id=self.key_id,
            customer_key_md5=self.customer_key_md5,
            bucket_key=self.bucket_key,
        )


class ListedRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of an `ObjectRecord`: all that a listing decodes."""

    size: int
    etag: str
    modified_ms: int
    storage_class: str
    owner: str
    checksum_algorithm: str = ""
    checksum_type: str = ""

    def listed(self, key: bytes) -> ListedObject:
        return ListedObject(
            key,
            self.size,
            self.etag,
            self.modified_ms,
            self.storage_class,
            self.owner,
            NULL_VERSION,
            True,
            False,
            self.checksum_algorithm,
            self.checksum_type,
        )


class ObjectRecord(msgspec.Struct, frozen=True, array_like=True):
    """One version. Its bytes are the `blobs` in order, or those of the manifest if there are many;
    `part_sizes` is empty unless it was uploaded in parts. `size` and `part_sizes` are those of the
    plain bytes, also where the blobs are encrypted, each by itself.

    sequence        orders the versions of a key; 0 in rows that are older than versioning
    since_ms        when it became noncurrent
    """

    size: int
    etag: str
    modified_ms: int
    storage_class: str
    owner: str
    checksum_algorithm: str
    checksum_type: str
    version_id: str
    headers: dict[str, str]
    metadata: dict[str, str]
    checksums: dict[str, str]
    blobs: list[BlobRef]
    part_sizes: list[int]
    manifest: bytes = b""
    sequence: int = 0
    delete_marker: bool = False
    since_ms: int = 0
    tags: dict[str, str] = {}
    acl: Acl | None = None
    retention: Retention | None = None
    legal_hold: bool = False
    encryption: EncryptionRecord | None = None
    part_numbers: list[int] = []
    part_checksums: list[dict[str, str]] = []

    def info(
        self,
        key: bytes,
        *,
        latest: bool = True,
        versioned: bool = False,
        bucket: BucketRecord | None = None,
    ) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size=self.size,
            etag=self.etag,
            modified_ms=self.modified_ms,
            version_id=self.version_id,
            is_latest=latest,
            is_delete_marker=self.delete_marker,
            owner=self.owner,
            attributes=self.attributes(),
            checksums=self.checksums,
            part_sizes=self.part_sizes,
            part_numbers=self.part_numbers,
            part_checksums=self.part_checksums,
            versioned=versioned,
            encryption=None if self.encryption is None else self.encryption.info(),
            bucket=None if bucket is None or not bucket.revision else bucket.info(),
        )

    def attributes(self) -> ObjectAttributes:
        return ObjectAttributes(
            headers=self.headers,
            metadata=self.metadata,
            storage_class=self.storage_class,
            checksum_algorithm=self.checksum_algorithm,
            checksum_type=self.checksum_type,
            tags=self.tags,
            acl=self.acl,
            retention=self.retention,
            legal_hold=self.legal_hold,
        )


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    blobs: list[BlobRef]
    part_sizes: list[int]
    part_numbers: list[int] = []
    part_checksums: list[dict[str, str]] = []


class UploadRecord(msgspec.Struct, frozen=True, array_like=True):
    initiated_ms: int
    owner: str
    headers: dict[str, str]
    metadata: dict[str, str]
    storage_class: str
    checksum_algorithm: str
    checksum_type: str
    initiator: str = ""
    tags: dict[str, str] = {}
    acl: Acl | None = None
    retention: Retention | None = None
    legal_hold: bool = False
    encryption: EncryptionRecord | None = None

    def attributes(self) -> ObjectAttributes:
        return ObjectAttributes(
            headers=self.headers,
            metadata=self.metadata,
            storage_class=self.storage_class,
            checksum_algorithm=self.checksum_algorithm,
            checksum_type=self.checksum_type,
            tags=self.tags,
            acl=self.acl,
            retention=self.retention,
            legal_hold=self.legal_hold,
        )

    def info(self, key: bytes, upload_id: str) -> UploadInfo:
        return UploadInfo(
            upload_id=upload_id,
            key=key,
            initiated_ms=self.initiated_ms,
            owner=self.owner,
            attributes=self.attributes(),
            initiator=self.initiator,
            encryption=None if self.encryption is None else self.encryption.info(),
        )


class PartRecord(msgspec.Struct, frozen=True, array_like=True):
    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str]
    blobs: list[BlobRef]

    def info(self, number: int, encryption: EncryptionRecord | None = None) -> PartInfo:
        return PartInfo(
            number=number,
            size=self.size,
            etag=self.etag,
            modified_ms=self.modified_ms,
            checksums=self.checksums,
            encryption=None if encryption is None else encryption.info(),
        )


class EndedUpload(msgspec.Struct, frozen=True, array_like=True):
    """`keep` are the parts that an object took over; the blobs of all others are garbage."""

    keep: list[int]


class BlobRow(msgspec.Struct, frozen=True, array_like=True):
    """Who owns a blob, for repair and for people: bucket id and key."""

    ref: BlobRef
    bucket_id: bytes
    key: bytes


class PoolRecord(msgspec.Struct, frozen=True, array_like=True):
    """How the blobs of a pool are cut and spread. Never changed: another way is another pool."""

    family: str
    data_shards: int
    parity_shards: int
    stripe_size_bytes: int
    failure_domain: str
    groups: int
    placement: str


class ClusterRecord(msgspec.Struct, frozen=True, array_like=True):
    cluster_id: str
    created_ms: int


class OsdRecord(msgspec.Struct, frozen=True, array_like=True):
    """Which device stands for an OSD now. `opens` is how often it had been opened when it was last
    taken into service: an old copy of it has a lower number. `membership` says whether it takes
    placement groups: in; draining, they are on their way elsewhere; out, it has none."""

    device_id: str
    opens: int = 0
    membership: Membership = "in"


class MoveRecord(msgspec.Struct, frozen=True, array_like=True):
    """A group on its way: where its shards may still be, by position, and the positions that are
    not known to be where they belong."""

    former: list[int]
    changed: list[int]


class RepairRecord(msgspec.Struct, frozen=True, array_like=True):
    """What is to be repaired of a blob: a bit mask of positions. `examine` says that its shards are
    intact and do not fit together, so that all must be read. Without that it may be written as the
    bare mask."""

    mask: int
    examine: bool = False

    def pack(self) -> bytes:
        return encode(self if self.examine else self.mask)


class ScrubRecord(msgspec.Struct, frozen=True, array_like=True):
    """The pass over everything stored: when it began, and where it goes on, empty if it is done; what
    it has counted so far, by the names of the report's fields; and what the last one found."""

    begun_ms: int
    cursor: bytes
    counts: dict[str, int] = {}
    last: ScrubReport | None = None


class JournalRecord(msgspec.Struct, frozen=True, array_like=True):
    """The metadata journal on the devices: see `objectio.store.journal`. `on`: no commit went by it.
    `osds` had it when this was written."""

    lineage: int
    on: bool
    osds: list[int]


class LocationRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where an OSD is: the node that has its device, the address at which that is reached, the path
    there, and its place in the topology."""

    node: str
    address: str
    path: str
    host: str
    rack: str
    weight: float


class SessionRecord(msgspec.Struct, frozen=True, array_like=True):
    """A process that may commit what it wrote, as long as this row is there."""

    name: str
    begun_ms: int


encode: Final = msgspec.msgpack.Encoder().encode
decode_bucket: Final = msgspec.msgpack.Decoder(BucketRecord).decode
decode_object: Final = msgspec.msgpack.Decoder(ObjectRecord).decode
decode_listed: Final = msgspec.msgpack.Decoder(ListedRecord).decode
decode_manifest: Final = msgspec.msgpack.Decoder(Manifest).decode
decode_upload: Final = msgspec.msgpack.Decoder(UploadRecord).decode
decode_part: Final = msgspec.msgpack.Decoder(PartRecord).decode
decode_ended: Final = msgspec.msgpack.Decoder(EndedUpload).decode
decode_blob_row: Final = msgspec.msgpack.Decoder(BlobRow).decode
decode_blobs: Final = msgspec.msgpack.Decoder(list[BlobRef]).decode
decode_pool: Final = msgspec.msgpack.Decoder(PoolRecord).decode
decode_groups: Final = msgspec.msgpack.Decoder(list[list[int]]).decode
decode_cluster: Final = msgspec.msgpack.Decoder(ClusterRecord).decode
decode_osd: Final = msgspec.msgpack.Decoder(OsdRecord).decode
decode_journal: Final = msgspec.msgpack.Decoder(JournalRecord).decode
decode_map: Final = msgspec.msgpack.Decoder(ClusterMap).decode
decode_move: Final = msgspec.msgpack.Decoder(MoveRecord).decode
decode_location: Final = msgspec.msgpack.Decoder(LocationRecord).decode
decode_session: Final = msgspec.msgpack.Decoder(SessionRecord).decode
decode_scrub: Final = msgspec.msgpack.Decoder(ScrubRecord).decode
_decode_repair: Final = msgspec.msgpack.Decoder(int | RepairRecord).decode


def decode_repair(raw: bytes) -> RepairRecord:
    found = _decode_repair(raw)
    return RepairRecord(found) if isinstance(found, int) else found
