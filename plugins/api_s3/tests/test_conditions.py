"""RFC 9110 §13.2.2, in every combination."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objectio_api_s3.conditions import parse_etags
from objectio_api_s3.times import http_date, iso8601, parse_http_date

from objectio.testing.objects import MemoryObjects

NOW = 1_700_000_000
BEFORE, AT, AFTER = (http_date((NOW + delta) * 1000).decode() for delta in (-1, 0, 1))
ETAG = hashlib.md5(b"data").hexdigest()


@pytest.fixture
def objects():
    return MemoryObjects(now_ms=lambda: NOW * 1000 + 789)


MATCH = {
    None: True,
    f'"{ETAG}"': True,
    ETAG: True,
    "*": True,
    '"x"': False,
    f'W/"{ETAG}"': False,
    f'"x", "{ETAG}"': True,
}
NONE_MATCH = {
    None: True,
    '"x"': True,
    f'"{ETAG}"': False,
    f'W/"{ETAG}"': False,
    "*": False,
    f'"x","{ETAG}"': False,
}
UNMODIFIED = {None: True, AT: True, AFTER: True, BEFORE: False, "nonsense": True}
MODIFIED = {None: True, BEFORE: True, AT: False, AFTER: False, "nonsense": True}


def expected(match, unmodified, none_match, modified):
    if match is not None:
        if not MATCH[match]:
            return 412
    elif not UNMODIFIED[unmodified]:
        return 412
    if none_match is not None:
        return 200 if NONE_MATCH[none_match] else 304
    return 200 if MODIFIED[modified] else 304


async def test_reads(s3, bucket):
    assert s3.clock_stands_still
    await s3.put("/bucket/key", b"data", {"cache-control": "max-age=1"})
    names = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since")
    for values in itertools.product(MATCH, UNMODIFIED, NONE_MATCH, MODIFIED):
        headers = {n: v for n, v in zip(names, values, strict=True) if v is not None}
        for method in ("GET", "HEAD"):
            answer = await s3(method, "/bucket/key", headers=headers)
            assert answer.status == expected(*values), headers
            if answer.status == 304:
                assert answer.headers["etag"] == f'"{ETAG}"'
                assert answer.headers["last-modified"] == AT
                assert answer.headers["cache-control"] == "max-age=1"
                assert "content-length" not in answer.headers
            elif answer.status == 412 and method == "GET":
                assert s3.code(answer) == "PreconditionFailed"
                assert "<Condition>If-" in answer.text


async def test_copy_sources(s3, bucket):
    assert s3.clock_stands_still
    await s3.put("/bucket/key")
    names = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since")
    for values in itertools.product(MATCH, UNMODIFIED, NONE_MATCH, MODIFIED):
        headers = {
            f"x-amz-copy-source-{n}": v for n, v in zip(names, values, strict=True) if v is not None
        }
        headers["x-amz-copy-source"] = "bucket/key"
        ways = ({}, {"x-amz-metadata-directive": "REPLACE"}, {"x-amz-checksum-algorithm": "SHA1"})
        for more in ways:
            answer = await s3("PUT", "/bucket/copy", headers={**headers, **more})
            assert answer.status == (200 if expected(*values) == 200 else 412), headers


async def test_if_range(s3, bucket):
    assert s3.clock_stands_still
    await s3.put("/bucket/key")
    for value, status in (
        (f'"{ETAG}"', 206),
        (ETAG, 206),
        ('"x"', 200),
        (f'W/"{ETAG}"', 200),
        (AT, 206),
        (BEFORE, 200),
        (AFTER, 200),
    ):
        answer = await s3.get("/bucket/key", range="bytes=1-2", if_range=value)
        assert answer.status == status, value


async def test_exclusive_create(s3, bucket):
    headers = {"if-none-match": "*"}
    await s3.put("/bucket/key", b"first", headers)
    refused = await s3.refused("PUT", "/bucket/key", body=b"second", headers=headers)
    assert refused == (412, "PreconditionFailed")
    assert (await s3("GET", "/bucket/key")).body == b"first"


async def test_put_if_match(s3, bucket):
    refused = await s3.refused("PUT", "/bucket/key", headers={"if-match": '"x"'})
    assert refused == (404, "NoSuchKey")
    etag = (await s3.put("/bucket/key", b"first")).headers["etag"]
    await s3.put("/bucket/key", b"second", {"if-match": etag})
    refused = await s3.refused("PUT", "/bucket/key", body=b"third", headers={"if-match": etag})
    assert refused == (412, "PreconditionFailed")
    assert (await s3("GET", "/bucket/key")).body == b"second"


async def test_delete_if_match(s3, bucket):
    etag = (await s3.put("/bucket/key")).headers["etag"]
    refused = await s3.refused("DELETE", "/bucket/key", headers={"if-match": '"x"'})
    assert refused == (412, "PreconditionFailed")
    assert (await s3("DELETE", "/bucket/key", headers={"if-match": etag})).status == 204


@pytest.mark.parametrize(
    ("name", "right", "wrong", "nonsense"),
    [
        ("if-match", "*", '"x"', None),
        ("x-amz-if-match-size", "4", "5", "four"),
        (
            *("x-amz-if-match-last-modified-time", None),
            *("Thu, 01 Jan 1970 00:00:00 GMT", "yesterday"),
        ),
    ],
)
async def test_conditional_deletes(s3, bucket, name, right, wrong, nonsense):
    await s3.put("/bucket/key", b"data")
    if right is None:
        right = (await s3("HEAD", "/bucket/key")).headers["last-modified"]
    refused = await s3.refused("DELETE", "/bucket/key", headers={name: wrong})
    assert refused == (412, "PreconditionFailed")
    if nonsense is not None:
        refused = await s3.refused("DELETE", "/bucket/key", headers={name: nonsense})
        assert refused == (400, "InvalidArgument")
    assert (await s3("DELETE", "/bucket/key", headers={name: right})).status == 204
    assert (await s3("HEAD", "/bucket/key")).status == 404
    assert (await s3("DELETE", "/bucket/key", headers={name: wrong})).status == 204


@given(st.binary(max_size=50))
def test_etags_of_anything(value):
    for weak in (False, True):
        assert parse_etags(value, weak=weak)


def test_unreadable_tags_match_nothing():
    assert parse_etags(b'"', weak=True) == ("",)
    assert parse_etags(b"", weak=True) == ("",)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_times(moment):
    moment = moment.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    assert iso8601(seconds * 1000 + 5) == moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert parse_http_date(http_date(seconds * 1000)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        (b"Sun Nov  6 08:49:37 1994", 784111777),
        (b"Sun, 06 Foo 1994 08:49:37 GMT", None),
        (b"Sun, 46 Nov 1994 08:49:37 GMT", None),
        (b"1994-11-06T08:49:37Z", None),
        (b"", None),
    ],
)
def test_http_dates(text, seconds):
    assert parse_http_date(text) == seconds
