"""The rules of an `ObjectService` as functions, for `objectio.testing.objects`."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Sequence

from objectio import limits
from objectio.abc.objects import (
    Conditions,
    Encryption,
    EncryptionInfo,
    ObjectInfo,
    Payload,
    PayloadDigests,
)
from objectio.errors import (
    AccessDenied,
    InvalidRequest,
    NotFound,
    PayloadIncomplete,
    PreconditionFailed,
)


async def receive(payload: Payload) -> tuple[bytes, PayloadDigests]:
    pieces = []
    while piece := await payload.read():
        payload.digest(piece)
        pieces.append(piece)
    data = b"".join(pieces)
    if len(data) != payload.size:
        raise PayloadIncomplete("not as many bytes as announced", got=len(data), size=payload.size)
    return data, payload.finish()


def check_key(key: bytes) -> None:
    if not 1 <= len(key) <= limits.OBJECT_KEY_BYTES_MAX:
        raise InvalidRequest("the key is too long", reason="KeyTooLongError", size=len(key))


def matches(etag: str, wanted: Sequence[str]) -> bool:
    return "*" in wanted or etag in wanted


def check_write(
    stored: ObjectInfo | None, conditions: Conditions | None, bucket: str, key: bytes
) -> None:
    """A delete marker is no object."""
    if conditions is None:
        return
    there = stored is not None and not stored.is_delete_marker
    if conditions.if_match:
        if stored is None or not there:
            raise NotFound("no such object", kind="object", key=key)
        if not matches(stored.etag, conditions.if_match):
            raise PreconditionFailed("another object", condition="If-Match", bucket=bucket, key=key)
    if stored is not None and there and matches(stored.etag, conditions.if_none_match):
        raise PreconditionFailed("it exists", condition="If-None-Match", bucket=bucket, key=key)


def check_delete(info: ObjectInfo, conditions: Conditions) -> None:
    """A delete marker has no ETag and no bytes."""
    wrong = ""
    if conditions.if_match and not matches(info.etag, conditions.if_match):
        wrong = "If-Match"
    elif matches(info.etag, conditions.if_none_match):
        wrong = "If-None-Match"
    elif conditions.if_modified_at not in (None, info.modified_ms // 1000):
        wrong = "x-amz-if-match-last-modified-time"
    elif conditions.if_size not in (None, info.size):
        wrong = "x-amz-if-match-size"
    if wrong:
        raise PreconditionFailed("not as demanded", condition=wrong, key=info.key)


def check_lock(info: ObjectInfo, now_ms: int, bypass_governance: bool) -> None:
    said = info.attributes
    retained = said.retention is not None and said.retention.until_ms > now_ms
    if said.retention is not None and said.retention.mode == "GOVERNANCE" and bypass_governance:
        retained = False
    if said.legal_hold or retained:
        raise AccessDenied("the version is locked", reason="AccessDenied", key=info.key)


def said_of(encryption: Encryption | None) -> EncryptionInfo | None:
    """What is kept of how a version was to be encrypted."""
    if encryption is None:
        return None
    return EncryptionInfo(
        method=encryption.method,
        key_id=encryption.key_id,
        customer_key_md5=_md5_base64(encryption.customer_key) if encryption.customer_key else "",
        bucket_key=encryption.bucket_key,
    )


def check_customer_key(encryption: EncryptionInfo | None, customer_key: bytes | None) -> None:
    wanted = "" if encryption is None else encryption.customer_key_md5
    if bool(wanted) != (customer_key is not None):
        raise InvalidRequest("a key is missing, or not wanted", reason="InvalidRequest")
    if customer_key is not None and _md5_base64(customer_key) != wanted:
        raise InvalidRequest("another key", reason="InvalidRequest")


def _md5_base64(key: bytes) -> str:
    return base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode("ascii")


def holds(info: ObjectInfo, conditions: Conditions) -> bool:
    """RFC 9110 §13.2.2, where a failed If-None-Match is a failure too."""
    modified = info.modified_ms // 1000
    if conditions.if_match:
        if not matches(info.etag, conditions.if_match):
            return False
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        return False
    if conditions.if_none_match:
        return not matches(info.etag, conditions.if_none_match)
    return conditions.if_modified_since is None or modified > conditions.if_modified_since


def group(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that `key` is rolled into, if it is."""
    cut = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if cut < 0 else key[: cut + len(delimiter)]


def behind(keys: Sequence[bytes], group: bytes, at: int) -> int:
    """Where the keys that start with `group` end, if `at` is one of them."""
    return bisect_left(keys, True, at, key=lambda key: not key.startswith(group))


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
