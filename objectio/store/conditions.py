"""Preconditions of RFC 9110 §13, as S3 uses them."""

from __future__ import annotations

from collections.abc import Sequence

from objectio.abc.objects import Conditions, ObjectInfo
from objectio.errors import NotFound, NotModified, PreconditionFailed
from objectio.meta.records import ObjectRecord


def check_write(conditions: Conditions, current: ObjectRecord | None) -> None:
    """Before a version becomes the current one. Raises `PreconditionFailed`, or `NotFound` where
    If-Match names a version of an object that does not exist, as S3 does. One whose current version
    is a delete marker does not exist."""
    if current is not None and current.delete_marker:
        current = None
    if conditions.if_match:
        if current is None:
            raise NotFound("there is no such object", kind="object")
        if not _matches(conditions.if_match, current.etag):
            raise PreconditionFailed("the object has another ETag", condition="If-Match")
    if current is not None and _matches(conditions.if_none_match, current.etag):
        raise PreconditionFailed("the object exists", condition="If-None-Match")


def check_delete(conditions: Conditions, record: ObjectRecord) -> None:
    """Before a version, or a delete marker, is deleted or a delete marker put on top of it."""
    if conditions.if_match and not _matches(conditions.if_match, record.etag):
        raise PreconditionFailed("the object has another ETag", condition="If-Match")
    if _matches(conditions.if_none_match, record.etag):
        raise PreconditionFailed("the object exists", condition="If-None-Match")
    if conditions.if_modified_at not in (None, record.modified_ms // 1000):
        raise PreconditionFailed(
            "the object is of another time", condition="x-amz-if-match-last-modified-time"
        )
    if conditions.if_size not in (None, record.size):
        raise PreconditionFailed("the object has another size", condition="x-amz-if-match-size")


def check_read(conditions: Conditions, info: ObjectInfo, *, copying: bool = False) -> None:
    """Before a version is read, in the order of RFC 9110 §13.2.2. A copy's source never answers
    "not modified": it fails instead."""
    modified = info.modified_ms // 1000
    if conditions.if_match:
        if not _matches(conditions.if_match, info.etag):
            raise PreconditionFailed("the object has another ETag", condition="If-Match")
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        raise PreconditionFailed("the object was modified", condition="If-Unmodified-Since")
    same = False
    if conditions.if_none_match:
        same = _matches(conditions.if_none_match, info.etag)
    elif conditions.if_modified_since is not None:
        same = modified <= conditions.if_modified_since
    if same and copying:
        raise PreconditionFailed("the object has this ETag", condition="If-None-Match")
    if same:
        raise NotModified("the object was not modified")


def _matches(etags: Sequence[str], etag: str) -> bool:
    return "*" in etags or etag in etags
