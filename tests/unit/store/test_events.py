"""Which events a change makes, and what a message looks like."""

from __future__ import annotations

import json

import pytest

from objectio.abc.objects import Origin
from objectio.meta import keys
from objectio.meta.records import BucketRecord, ObjectRecord
from objectio.model.bucket import NOTIFICATION, Notification, NotificationRule, encode_document
from objectio.store.events import decode_event, event_rows, matching, message_of

ARN = "arn:aws:sns:us-east-1:000000000000:t"
BUCKET = BucketRecord(b"12345678", "photos", 0, "owner-id", "us-east-1", "Enabled")
PUT = Origin("ObjectCreated:Put", "AIDA", "10.0.0.1", "REQ1")


def record(**more):
    fields = {"version_id": "v1", "sequence": 0xABC, **more}
    return ObjectRecord(
        7, "e" * 32, 0, "STANDARD", "o", "", "", headers={}, metadata={}, checksums={}, blobs=[],
        part_sizes=[], **fields,
    )  # fmt: skip


def documents(*rules):
    return {NOTIFICATION: encode_document(Notification(rules=rules))}


def rule(*events, id="r", target=ARN, **more):
    return NotificationRule(id=id, target=target, events=events, **more)


def rows(rules, origin=PUT, key=b"a/b.jpg", bucket=BUCKET, marked=False, **more):
    return event_rows(
        documents(*rules),
        bucket,
        key,
        record(**more),
        origin,
        time_ms=1_000_123,
        marked=marked,
    )


@pytest.mark.parametrize(
    ("wanted", "event", "fits"),
    [
        ("s3:ObjectCreated:*", "ObjectCreated:Put", True),
        ("s3:ObjectCreated:Put", "ObjectCreated:Put", True),
        ("s3:ObjectCreated:Post", "ObjectCreated:Put", False),
        ("s3:ObjectRemoved:*", "ObjectCreated:Put", False),
        ("s3:LifecycleExpiration:*", "LifecycleExpiration:Delete", True),
        ("s3:LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated", False),
        ("s3:*", "ObjectTagging:Put", True),
    ],
)
def test_which_events(wanted, event, fits):
    assert bool(matching([rule(wanted)], event, b"k")) == fits


@pytest.mark.parametrize(
    ("key", "fits"), [(b"a/b.jpg", True), (b"a/b.png", False), (b"b/b.jpg", False), (b"a/", False)]
)
def test_prefix_and_suffix(key, fits):
    found = matching([rule("s3:*", prefix="a/", suffix=".jpg")], "ObjectCreated:Put", key)
    assert bool(found) == fits


def test_none_without_rules_or_somebody_who_did_it():
    assert event_rows({}, BUCKET, b"k", record(), PUT, time_ms=0) == []
    assert rows([rule("s3:*")], origin=None) == []


def test_a_row_for_each_rule_under_its_target():
    other = ARN + "2"
    found = rows([rule("s3:*", id="1"), rule("s3:ObjectCreated:*", id="2", target=other)])
    assert [row[: -8 - 8] for row, _ in found] == [keys.events(ARN), keys.events(other)]
    assert [decode_event(raw).rule_id for _, raw in found] == ["1", "2"]


def test_the_message():
    """S3 user guide, "Event message structure"."""
    ((row, raw),) = rows([rule("s3:ObjectCreated:*", id="conf")], key="a b/ü+.jpg".encode())
    message = message_of(row, raw)
    assert message.id == row[-8:].hex()
    assert message.key == "photos/a b/ü+.jpg".encode()
    assert json.loads(message.record) == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "1970-01-01T00:16:40.123Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AIDA"},
        "requestParameters": {"sourceIPAddress": "10.0.0.1"},
        "responseElements": {"x-amz-request-id": "REQ1", "x-amz-id-2": message.id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "conf",
            "bucket": {
                "name": "photos",
                "ownerIdentity": {"principalId": "owner-id"},
                "arn": "arn:aws:s3:::photos",
            },
            "object": {
                "key": "a+b/%C3%BC%2B.jpg",
                "size": 7,
                "eTag": "e" * 32,
                "versionId": "v1",
                "sequencer": "0000000000000ABC",
            },
        },
    }


def test_a_delete_tells_neither_size_nor_etag_and_says_whether_it_marked():
    gone = Origin("ObjectRemoved:Delete")
    for marker, name in ((False, "Delete"), (True, "DeleteMarkerCreated")):
        ((row, raw),) = rows([rule("s3:ObjectRemoved:*")], gone, marked=marker)
        told = json.loads(message_of(row, raw).record)
        assert told["eventName"] == f"ObjectRemoved:{name}"
        assert set(told["s3"]["object"]) == {"key", "versionId", "sequencer"}


def test_no_version_where_there_never_was_versioning():
    plain = BucketRecord(b"12345678", "photos", 0, "o")
    ((row, raw),) = rows([rule("s3:*")], bucket=plain)
    assert "versionId" not in json.loads(message_of(row, raw).record)["s3"]["object"]


def test_sequencers_order_as_text():
    found = []
    for sequence in (1, 255, 1 << 40, 1 << 60):
        ((row, raw),) = rows([rule("s3:*")], sequence=sequence)
        found.append(json.loads(message_of(row, raw).record)["s3"]["object"]["sequencer"])
    assert found == sorted(found)
