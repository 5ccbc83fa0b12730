"""Events of buckets: which rules a change matches, and the rows that wait to be sent.

A row is written in the commit of the change that it tells of, so that there is one if and only if the
change happened. Who sends them is `objectio.maintenance.delivery`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote_plus

import msgspec

from objectio.abc.objects import Origin
from objectio.abc.sinks import EventMessage
from objectio.kv.store import Write
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import BucketRecord, ObjectRecord
from objectio.model.bucket import NOTIFICATION, Notification, NotificationRule, decode_document
from objectio.model.remembered import Compiled

_RULES_BYTES_MAX: Final = 4 * MIB
_REMOVED: Final = "ObjectRemoved:Delete"
_MARKED: Final = {
    _REMOVED: "ObjectRemoved:DeleteMarkerCreated",
    "LifecycleExpiration:Delete": "LifecycleExpiration:DeleteMarkerCreated",
}
_VERSIONS: Final = {"ObjectCreated": "2.1", "ObjectRemoved": "2.1"}
"""Of the event's structure, by the family of the event; S3 raised it with each family it added."""


class EventRecord(msgspec.Struct, frozen=True, array_like=True):
    """An event that waits in a row. `event` is its name without "s3:"; `size` is -1 where the event
    has none to tell."""

    target: str
    rule_id: str
    event: str
    time_ms: int
    bucket: str
    bucket_owner: str
    region: str
    key: bytes
    sequence: int
    size: int = -1
    etag: str = ""
    version_id: str = ""
    principal: str = ""
    source_ip: str = ""
    request_id: str = ""


encode_event: Final = msgspec.msgpack.Encoder().encode
decode_event: Final = msgspec.msgpack.Decoder(EventRecord).decode
_json: Final = msgspec.json.Encoder().encode


def event_rows(
    documents: Mapping[str, bytes],
    bucket: BucketRecord,
    key: bytes,
    record: ObjectRecord,
    origin: Origin | None,
    *,
    time_ms: int,
    sequence: int = 0,
    marked: bool = False,
) -> list[Write]:
    """What a commit that makes or removes `record` writes besides: a row for each rule of the bucket
    that wants to hear of it. `marked`: the record is a delete marker that was made.

    `sequence` is that of the change where that is not the record's own: a delete comes after it."""
    raw = documents.get(NOTIFICATION)
    if origin is None or raw is None:
        return []
    event = _MARKED.get(origin.event, origin.event) if marked else origin.event
    rules = matching(_rules(raw), event, key)
    removed = event.partition(":")[0] in ("ObjectRemoved", "LifecycleExpiration")
    rows: list[Write] = []
    for rule in rules:
        told = EventRecord(
            rule.target,
            rule.id,
            event,
            time_ms,
            bucket.name,
            bucket.owner,
            bucket.region,
            key,
            sequence or record.sequence,
            -1 if removed else record.size,
            "" if removed else record.etag,
            record.version_id if bucket.versioning else "",
            origin.principal,
            origin.source_ip,
            origin.request_id,
        )
        rows.append((keys.event(rule.target, time_ms, os.urandom(8)), encode_event(told)))
    return rows


def wants_events(documents: Mapping[str, bytes]) -> bool:
    return NOTIFICATION in documents


def _decode_rules(raw: bytes) -> tuple[NotificationRule, ...]:
    return decode_document(raw, Notification).rules


_rules: Final = Compiled(_decode_rules, _RULES_BYTES_MAX)


def matching(rules: Sequence[NotificationRule], event: str, key: bytes) -> list[NotificationRule]:
    """`event` without "s3:", as in "ObjectCreated:Put"."""
    name = f"s3:{event}"
    return [
        rule
        for rule in rules
        if any(_covers(wanted, name) for wanted in rule.events)
        and key.startswith(rule.prefix.encode())
        and key.endswith(rule.suffix.encode())
    ]


def _covers(wanted: str, name: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def message_of(row: bytes, raw: bytes) -> EventMessage:
    """As it is sent: S3 user guide, "Event message structure"."""
    told = decode_event(raw)
    event_id = row[-8:].hex()
    s3_object: dict[str, object] = {"key": quote_plus(told.key, safe="/")}
    if told.size >= 0:
        s3_object |= {"size": told.size, "eTag": told.etag}
    if told.version_id:
        s3_object["versionId"] = told.version_id
    s3_object["sequencer"] = f"{told.sequence:016X}"
    record = {
        "eventVersion": _VERSIONS.get(told.event.partition(":")[0], "2.3"),
        "eventSource": "aws:s3",
        "awsRegion": told.region,
        "eventTime": _time(told.time_ms),
        "eventName": told.event,
        "userIdentity": {"principalId": told.principal},
        "requestParameters": {"sourceIPAddress": told.source_ip},
        "responseElements": {"x-amz-request-id": told.request_id, "x-amz-id-2": event_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": told.rule_id,
            "bucket": {
                "name": told.bucket,
                "ownerIdentity": {"principalId": told.bucket_owner},
                "arn": f"arn:aws:s3:::{told.bucket}",
            },
            "object": s3_object,
        },
    }
    return EventMessage(event_id, told.bucket.encode() + b"/" + told.key, _json(record))


def _time(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
