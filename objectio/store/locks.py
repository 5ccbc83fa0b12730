"""Object lock: which versions may not be deleted, and for how long.

S3 user guide, "Locking objects with Object Lock". A version under a legal hold, or retained in mode
COMPLIANCE, stays, whoever asks; mode GOVERNANCE gives way to who may bypass it. What cannot be read
counts as locked.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import msgspec

from objectio.abc.objects import ObjectAttributes
from objectio.errors import AccessDenied, InvalidRequest, Unavailable
from objectio.meta.records import BucketRecord, ObjectRecord, decode_object
from objectio.model.bucket import DefaultRetention, ObjectLock, Retention, decode_document


def decode_unlocked(raw: bytes) -> ObjectRecord:
    """Of a row that is to go: a record that cannot be read might be locked."""
    try:
        return decode_object(raw)
    except msgspec.DecodeError as error:
        raise AccessDenied(
            "it cannot be read whether the version is locked", reason="AccessDenied"
        ) from error


def check_removal(record: ObjectRecord, *, bypass_governance: bool) -> None:
    """Before a version is gone for good. Raises `AccessDenied`."""
    if record.legal_hold:
        raise AccessDenied("the version is under a legal hold", reason="AccessDenied")
    if not is_retained(record.retention):
        return
    if record.retention is None or record.retention.mode != "GOVERNANCE" or not bypass_governance:
        raise AccessDenied("the version is retained", reason="AccessDenied")


def is_retained(retention: Retention | None) -> bool:
    return retention is not None and retention.until_ms > time.time() * 1000


def check_bucket(bucket: BucketRecord, said: ObjectAttributes | ObjectRecord) -> None:
    """Versions are locked in buckets with object lock only: others may let go of them silently."""
    if not bucket.object_lock and (said.retention is not None or said.legal_hold):
        raise InvalidRequest("Bucket is missing Object Lock Configuration", reason="InvalidRequest")


def check_change(record: ObjectRecord, new: Retention | None) -> None:
    """Retention in mode COMPLIANCE is only ever made longer. Who may change that of mode GOVERNANCE
    is for the caller to know."""
    old = record.retention
    if old is None or old.mode != "COMPLIANCE" or not is_retained(old):
        return
    if new is None or new.mode != "COMPLIANCE" or new.until_ms < old.until_ms:
        raise AccessDenied("the version is retained in mode COMPLIANCE", reason="AccessDenied")


def default_retention(document: bytes | None) -> Retention | None:
    """What the bucket's document says of a version that is made now."""
    if document is None:
        return None
    try:
        default = decode_document(document, ObjectLock).default
    except msgspec.DecodeError as error:
        raise Unavailable("the bucket's default retention cannot be read") from error
    if default is None:
        return None
    return Retention(mode=default.mode, until_ms=int(_until(default).timestamp() * 1000))


def _until(default: DefaultRetention) -> datetime:
    now = datetime.now(UTC)
    year = now.year + default.years
    if now.month == 2 and now.day == 29:
        return now.replace(year=year, month=3, day=1) + timedelta(days=default.days)
    return now.replace(year=year) + timedelta(days=default.days)
