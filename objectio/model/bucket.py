"""What a bucket may be configured with, as the kernel reads it.

A bucket has *documents*: values under a name, changed one at a time, each change atomic with the
bucket's row. Those that the store, the gate or the workers act upon have a type here and are kept as
JSON of it (`encode_document`, `decode_document`), whatever the wire format was that they came in;
`POLICY` is the text of the policy as it was sent. A front end may keep documents of its own under
further names, as any bytes.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeVar

import msgspec

POLICY: Final = "policy"
PUBLIC_ACCESS: Final = "public-access"
OWNERSHIP: Final = "ownership"
ACL: Final = "acl"
TAGS: Final = "tags"
ENCRYPTION: Final = "encryption"
LOCK: Final = "lock"
LIFECYCLE: Final = "lifecycle"
NOTIFICATION: Final = "notification"
QUOTA: Final = "quota"

Versioning = Literal["", "Enabled", "Suspended"]
"""Empty: it never was switched on."""

ObjectOwnership = Literal["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"]
RetentionMode = Literal["GOVERNANCE", "COMPLIANCE"]
Permission = Literal["FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"]

ALL_USERS: Final = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS: Final = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY: Final = "http://acs.amazonaws.com/groups/s3/LogDelivery"


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the typed documents have in common."""


class Grant(Document, frozen=True):
    """`grantee` is the canonical id of an account, or the URI of a group."""

    grantee: str
    permission: Permission
    group: bool = False


class Acl(Document, frozen=True):
    """Whose permissions they are besides the owner's, who is that of the bucket or object. The
    owner has only those that are listed, but may always read and write the ACL itself."""

    grants: tuple[Grant, ...] = ()


class PublicAccessBlock(Document, frozen=True):
    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict_buckets: bool = False


class Ownership(Document, frozen=True):
    rule: ObjectOwnership = "BucketOwnerEnforced"


class Retention(Document, frozen=True):
    """Until when a version may not be deleted; milliseconds since 1970."""

    mode: RetentionMode
    until_ms: int


class DefaultRetention(Document, frozen=True):
    """One of days and years is set."""

    mode: RetentionMode
    days: int = 0
    years: int = 0


class ObjectLock(Document, frozen=True):
    """Object lock of a bucket: versions may be retained, and are by default if it says so."""

    default: DefaultRetention | None = None


class DefaultEncryption(Document, frozen=True):
    """What a write that says nothing about encryption gets."""

    method: Literal["AES256", "aws:kms", "aws:kms:dsse"]
    key_id: str = ""
    bucket_key: bool = False


class Quota(Document, frozen=True):
    """0: no bound. Noncurrent versions and parts of uploads count."""

    bytes_max: int = 0
    objects_max: int = 0


class LifecycleFilter(Document, frozen=True):
    """All that is set must hold. Sizes are exclusive bounds in bytes."""

    prefix: str = ""
    tags: dict[str, str] = {}
    size_greater_than: int | None = None
    size_less_than: int | None = None


class LifecycleRule(Document, frozen=True):
    """Days count from the time of a version, or from when it became noncurrent; `date_ms` is
    midnight UTC. `extra` is for the front end: what it must show again and nobody acts upon."""

    id: str
    enabled: bool
    filter: LifecycleFilter = LifecycleFilter()
    expire_days: int | None = None
    expire_date_ms: int | None = None
    expire_delete_marker: bool = False
    noncurrent_days: int | None = None
    newer_noncurrent_versions: int = 0
    abort_upload_days: int | None = None
    extra: dict[str, Any] = {}


class Lifecycle(Document, frozen=True):
    rules: tuple[LifecycleRule, ...]


class NotificationRule(Document, frozen=True):
    """`events` as S3 names them, "s3:ObjectCreated:*"; `target` an ARN that the configuration gives
    a sink to; `form` is the element that it came in (Queue, Topic, CloudFunction)."""

    id: str
    target: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    form: str = "Topic"


class Notification(Document, frozen=True):
    rules: tuple[NotificationRule, ...] = ()


class Tags(Document, frozen=True):
    tags: dict[str, str]


_D = TypeVar("_D", bound=Document)
encode_document: Final = msgspec.json.Encoder().encode


def decode_document(raw: bytes, kind: type[_D]) -> _D:
    """Raises `msgspec.DecodeError` for anything else: what cannot be read must not count as absent."""
    return msgspec.json.decode(raw, type=kind)
