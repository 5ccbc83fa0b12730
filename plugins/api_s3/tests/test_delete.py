"""DeleteObjects: many keys, each with its own fate."""

from __future__ import annotations

import base64
import hashlib
from xml.sax.saxutils import escape

import pytest

from objectio.testing.api import NOBODY


def document(*keys, quiet=None, inner=""):
    flag = "" if quiet is None else f"<Quiet>{quiet}</Quiet>"
    listed = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{flag}{listed}{inner}</Delete>'
    ).encode()


@pytest.fixture
async def three(s3, bucket):
    for key in "abc":
        await s3.put(f"/bucket/{key}")


def left(s3):
    return sorted(s3.objects.snapshot()["bucket"][1])


async def test_some(s3, three):
    answer = await s3.document("/bucket?delete", "POST", body=document("a", "c", "missing"))
    assert answer.name == "DeleteResult"
    assert answer.all("Deleted/Key") == ["a", "c", "missing"]
    assert left(s3) == [b"b"]


async def test_quiet(s3, three):
    answer = await s3.document("/bucket?delete", "POST", body=document("a", quiet="true"))
    assert len(answer.root) == 0
    assert left(s3) == [b"b", b"c"]


@pytest.mark.parametrize(
    "make",
    [
        lambda body: {},
        lambda body: {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()},
        lambda body: {
            "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        },
    ],
)
async def test_no_digest_is_demanded(s3, three, make):
    body = document("a")
    answer = await s3("POST", "/bucket?delete", body=body, headers=make(body))
    assert answer.status == 200
    assert left(s3) == [b"b", b"c"]


@pytest.mark.parametrize(
    "headers",
    [{"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, {"x-amz-checksum-crc32": "AAAAAA=="}],
)
async def test_a_wrong_digest_deletes_nothing(s3, three, headers):
    refused = await s3.refused("POST", "/bucket?delete", body=document("a"), headers=headers)
    assert refused == (400, "BadDigest")
    assert len(left(s3)) == 3


async def test_odd_keys(s3, bucket):
    for key in (" a ", "a&b", "\u00e9", "line\nbreak"):
        from urllib.parse import quote

        await s3.put(f"/bucket/{quote(key)}")
        answer = await s3.document("/bucket?delete", "POST", body=document(key))
        assert answer.all("Deleted/Key") == [key]
    assert left(s3) == []


async def test_each_key_is_authorized(s3, three):
    def allows(action, resource):
        return resource != "arn:aws:s3:::bucket/b"

    answer = await s3.document(
        "/bucket?delete",
        "POST",
        body=document("a", "b", "c", quiet="true"),
        identity=NOBODY,
        allows=allows,
    )
    assert answer.all("Error/Key") == ["b"]
    assert answer.all("Error/Code") == ["AccessDenied"]
    assert left(s3) == [b"b"]


async def test_versions_and_conditions(s3, three):
    inner = (
        "<Object><Key>a</Key><VersionId>null</VersionId></Object>"
        "<Object><Key>b</Key><VersionId>other</VersionId></Object>"
        '<Object><Key>c</Key><ETag>"x"</ETag></Object>'
    )
    answer = await s3.document("/bucket?delete", "POST", body=document(inner=inner))
    assert answer.all("Deleted/Key") == ["a", "b"]
    assert answer.all("Deleted/VersionId") == ["null", "other"]
    assert answer.all("Error/Code") == ["PreconditionFailed"]
    assert left(s3) == [b"b", b"c"]


async def test_a_key_that_is_too_long(s3, three):
    answer = await s3.document("/bucket?delete", "POST", body=document("k" * 1025, "a"))
    assert answer.all("Error/Code") == ["KeyTooLongError"]
    assert answer.all("Deleted/Key") == ["a"]


async def test_a_thousand_and_one(s3, bucket):
    keys = [f"{number}" for number in range(1001)]
    answer = await s3.document("/bucket?delete", "POST", body=document(*keys[:1000]))
    assert answer.count("Deleted") == 1000
    refused = await s3.refused("POST", "/bucket?delete", body=document(*keys))
    assert refused == (400, "MalformedXML")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b"<Other/>",
        b"<Delete><Object>",
        document("a", quiet="maybe"),
        b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
    ],
)
async def test_malformed(s3, three, body):
    refused = await s3.refused("POST", "/bucket?delete", body=body)
    assert refused == (400, "MalformedXML")
    assert len(left(s3)) == 3


async def test_one_failure_leaves_the_others(make_s3, caplog):
    from objectio.abc.objects import Deleted
    from objectio.errors import InsufficientShards
    from objectio.testing.objects import MemoryObjects

    class Failing(MemoryObjects):
        async def delete_objects(self, bucket, targets, **more):
            broken = InsufficientShards("osd 3 of /dev/x")
            return [broken if target.key == b"b" else Deleted() for target in targets]

    s3 = make_s3(Failing())
    await s3.put("/bucket", b"")
    answer = await s3("POST", "/bucket?delete", body=document("a", "b"))
    assert "<Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>SlowDown</Code>" in answer.text
    assert "osd" not in answer.text
    assert "osd 3" in caplog.text


async def test_no_such_bucket(s3):
    refused = await s3.refused("POST", "/missing?delete", body=document("a"))
    assert refused == (404, "NoSuchBucket")
