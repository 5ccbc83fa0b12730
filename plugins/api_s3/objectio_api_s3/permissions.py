"""What a request wants, for the gate: condition keys, and actions that headers add.

The keys are those of the service authorization reference, "Actions, resources, and condition keys for
Amazon S3". Keys that every request has (aws:SourceIp, s3:authType …) are the gate's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from objectio.abc.api import Wanted
from objectio.model.bucket import Retention
from objectio_api_s3 import locks, tags
from objectio_api_s3.copy_source import Source
from objectio_api_s3.errors import Refusal
from objectio_api_s3.request import Operation
from objectio_api_s3.times import iso8601_exact

Values = Mapping[str, Sequence[str]]

_HEADERS: Final[Mapping[bytes, str]] = {
    name.encode(): f"s3:{name}"
    for name in (
        "x-amz-acl",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-metadata-directive",
        "x-amz-object-ownership",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
    )
} | {
    locks.MODE: "s3:object-lock-mode",
    locks.UNTIL: "s3:object-lock-retain-until-date",
    locks.HOLD: "s3:object-lock-legal-hold",
    b"if-match": "s3:if-match",
    b"if-none-match": "s3:if-none-match",
}
_QUERY: Final[Mapping[str, str]] = {
    "prefix": "s3:prefix",
    "delimiter": "s3:delimiter",
    "max-keys": "s3:max-keys",
    "versionId": "s3:VersionId",
}

# Headers of a write that need a permission of their own.
_GUARDING: Final[Mapping[str, tuple[bytes, ...]]] = {
    "s3:PutObjectTagging": (b"x-amz-tagging",),
    "s3:PutObjectRetention": (locks.MODE, locks.UNTIL),
    "s3:PutObjectLegalHold": (locks.HOLD,),
}
_GUARDED: Final = frozenset(name for names in _GUARDING.values() for name in names)

# Likewise for CreateBucket (S3 API reference, CreateBucket, "Permissions").
_CREATING: Final[Mapping[str, tuple[bytes, ...]]] = {
    "s3:PutBucketAcl": tuple(h for h in _HEADERS if h.startswith((b"x-amz-acl", b"x-amz-grant-"))),
    "s3:PutBucketOwnershipControls": (b"x-amz-object-ownership",),
    "s3:PutBucketVersioning": (b"x-amz-bucket-object-lock-enabled",),
    "s3:PutBucketObjectLockConfiguration": (b"x-amz-bucket-object-lock-enabled",),
}
# What changes nothing.
_IDLE: Final = frozenset(
    ((b"x-amz-acl", b"private"), (b"x-amz-bucket-object-lock-enabled", b"false"))
)
_WRITES: Final = frozenset(("PutObject", "CopyObject", "CreateMultipartUpload"))


def conditions(op: Operation) -> Values:
    found: dict[str, Sequence[str]] = {}
    query, headers = op.query, op.headers
    for name, key in _QUERY.items():
        if name in query:
            found[key] = (query[name].decode("utf-8", "replace"),)
    for header, key in _HEADERS.items():
        if header in headers:
            found[key] = (headers[header].decode("utf-8", "replace"),)
    if isinstance(op.source, Source):  # as it was understood: there are many ways to write it
        found["s3:x-amz-copy-source"] = (op.source.shown,)
    until = found.get("s3:object-lock-retain-until-date")
    if until is not None:
        found["s3:object-lock-remaining-retention-days"] = _remaining_days(until[0])
    if b"x-amz-tagging" in headers:
        found |= request_tags(_tags(headers[b"x-amz-tagging"]))
    return found


def request_tags(given: Mapping[str, str]) -> Values:
    """The keys about the tags that a request is to set."""
    found: dict[str, Sequence[str]] = {
        f"s3:RequestObjectTag/{key}": (value,) for key, value in given.items()
    }
    if given:
        found["s3:RequestObjectTagKeys"] = tuple(given)
    return found


def retention_values(retention: Retention | None) -> Values:
    if retention is None:
        return {}
    until = iso8601_exact(retention.until_ms)
    return {
        "s3:object-lock-mode": (retention.mode,),
        "s3:object-lock-retain-until-date": (until,),
        "s3:object-lock-remaining-retention-days": _remaining_days(until),
    }


def hold_values(held: bool) -> Values:
    return {"s3:object-lock-legal-hold": ("ON" if held else "OFF",)}


def _tags(value: bytes) -> Mapping[str, str]:
    """Malformed ones are none here: the handler refuses them."""
    try:
        return tags.parse_header(value)
    except Refusal:
        return {}


def _remaining_days(until: str) -> Sequence[str]:
    until_ms = locks.parse_until(until)
    return () if until_ms is None else (str((until_ms - locks.now_ms()) // 86_400_000),)


def also(op: Operation, resource: str) -> Sequence[Wanted]:
    """What a request wants besides the operation's own action. Who may write may say who else may
    read what was written: see `acl.place`."""
    spec, headers = op.spec, op.headers
    if spec.also:
        versioned = "versionId" in op.query
        action = spec.version_also if versioned else spec.also
        return (Wanted(action, resource, op.version_id, partial(conditions, op)),)
    if spec.bypass:
        if not locks.bypasses(headers):
            return ()
        version_id = op.version_id
        action = "s3:BypassGovernanceRetention"
        return (Wanted(action, resource, version_id, partial(conditions, op)),)
    if spec.name == "CreateBucket":
        given = {name for name, value in headers.items() if (name, value.lower()) not in _IDLE}
        return [
            Wanted(action, resource, None, partial(conditions, op))
            for action, names in _CREATING.items()
            if not given.isdisjoint(names)
        ]
    if spec.name not in _WRITES or _GUARDED.isdisjoint(headers):
        return ()
    actions = [
        action for action, names in _GUARDING.items() if any(headers.get(name) for name in names)
    ]
    return [Wanted(action, resource, None, partial(conditions, op)) for action in actions]
