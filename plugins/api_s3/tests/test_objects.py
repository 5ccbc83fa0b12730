"""Put, get, head and delete of one object, and ranges."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.abc.api import ANONYMOUS, ApiContext, Identity, Request
from objectio.abc.metrics import NullMetrics
from objectio.errors import InsufficientShards
from objectio.testing.api import ROOT, make_scope
from objectio.testing.objects import MemoryObjects

READER = Identity("reader", "arn:aws:iam::000000000000:user/reader", "READERKEY")


async def test_put_get_head_delete(s3, bucket):
    answer = await s3.put("/bucket/key", b"content")
    etag = f'"{hashlib.md5(b"content").hexdigest()}"'
    assert answer.headers["etag"] == etag
    got = await s3("GET", "/bucket/key")
    assert (got.status, got.body, got.pieces) == (200, b"content", 1)
    assert got.headers["etag"] == etag
    assert got.headers["content-length"] == "7"
    assert got.headers["content-type"] == "binary/octet-stream"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["last-modified"].endswith(" GMT")
    assert got.headers["x-amz-request-id"]
    assert got.headers["x-amz-id-2"]
    head = await s3("HEAD", "/bucket/key")
    volatile = ("date", "x-amz-request-id", "x-amz-id-2")  # the last names the process
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }
    for _ in range(2):  # idempotent
        assert (await s3("DELETE", "/bucket/key")).status == 204
    assert await s3.refused("GET", "/bucket/key") == (404, "NoSuchKey")
    head = await s3("HEAD", "/bucket/key")
    assert (head.status, head.body) == (404, b"")


async def test_an_empty_object(s3, bucket):
    await s3.put("/bucket/key", b"")
    got = await s3("GET", "/bucket/key")
    assert (got.status, got.body) == (200, b"")
    assert got.headers["content-length"] == "0"


async def test_no_such_bucket(s3):
    for method in ("GET", "PUT", "DELETE"):
        body = b"x" if method == "PUT" else b""
        assert await s3.refused(method, "/missing/key", body=body) == (404, "NoSuchBucket")


async def test_large_objects_are_streamed(bucket, s3):
    data = bytes(range(256)) * 4096
    s3.objects._read_now_bytes_max = 1000
    await s3.put("/bucket/key", data)
    got = await s3("GET", "/bucket/key")
    assert got.body == data
    assert got.pieces == 16
    got = await s3.get("/bucket/key", range="bytes=100-199999")
    assert (got.status, got.body) == (206, data[100:200000])
    assert not s3.objects.open_readers


class Breaking(MemoryObjects):
    """Streams that break after some pieces."""

    def __init__(self, pieces):
        super().__init__(read_now_bytes_max=0, piece_size_bytes=10)
        self.pieces = pieces

    async def get_object(self, bucket, key, **more):
        reader = await super().get_object(bucket, key, **more)
        whole = reader.stream

        async def stream(start, length):
            left = self.pieces
            async for piece in whole(start, length):
                if not left:
                    raise InsufficientShards("shards are missing")
                left -= 1
                yield piece

        reader.stream = stream
        return reader


async def test_a_read_that_fails_at_once_has_a_status(make_s3):
    s3 = make_s3(Breaking(0))
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", bytes(100))
    assert await s3.refused("GET", "/bucket/key") == (503, "SlowDown")
    assert not s3.objects.open_readers


async def start_reading(s3, send):
    access = s3.front_end.classify(make_scope("GET", "/bucket/key"))
    scope = {"objectio": Request("R", access, ROOT, None, lambda action, resource: None)}
    await s3.front_end.app(scope, None, send)


async def test_a_read_that_fails_later_is_not_a_whole_response(make_s3):
    s3 = make_s3(Breaking(3))
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", bytes(100))
    sent = []

    async def send(message):
        sent.append(message)

    with pytest.raises(InsufficientShards):
        await start_reading(s3, send)
    assert [message.get("more_body") for message in sent] == [None, True, True, True]
    assert not s3.objects.open_readers


async def test_a_client_that_goes_away(make_s3):
    s3 = make_s3(MemoryObjects(read_now_bytes_max=0, piece_size_bytes=10))
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", bytes(100))

    async def send(message):
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await start_reading(s3, send)
    assert not s3.objects.open_readers


async def test_every_reader_is_closed(s3, bucket):
    await s3.put("/bucket/key", b"x")
    for headers in ({}, {"range": "bytes=5-"}, {"if-none-match": "*"}, {"if-match": "x"}):
        await s3("GET", "/bucket/key", headers=headers)
    assert not s3.objects.open_readers


async def test_stored_headers_and_metadata(s3, bucket):
    sent = {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-cache",
        "content-disposition": 'attachment; filename="\xe9.txt"',
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "Wed, 21 Oct 2015 07:28:00 GMT",
        "x-amz-meta-Color": "blue",
        "x-amz-meta-empty": "",
        "x-amz-meta-utf8": "\xc3\xbc",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    await s3.put("/bucket/key", headers=sent)
    for method in ("GET", "HEAD"):
        headers = (await s3(method, "/bucket/key")).headers
        for name, value in sent.items():
            assert headers[name.lower()] == value
    await s3.put("/bucket/key")
    headers = (await s3("GET", "/bucket/key")).headers
    assert not set(headers) & {"x-amz-meta-color", "cache-control", "x-amz-storage-class"}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("aws-chunked", None),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("AWS-CHUNKED", None),
        ("gzip", "gzip"),
        ("gzip,br", "gzip,br"),
    ],
)
async def test_aws_chunked_is_no_coding_of_the_object(s3, bucket, sent, stored):
    await s3.put("/bucket/key", headers={"content-encoding": sent})
    assert (await s3("GET", "/bucket/key")).headers.get("content-encoding") == stored


async def test_metadata_has_a_limit(s3, bucket):
    await s3.put("/bucket/key", headers={"x-amz-meta-k": "v" * 2047})
    refused = await s3.refused("PUT", "/bucket/key", headers={"x-amz-meta-k": "v" * 2048})
    assert refused == (400, "MetadataTooLarge")


async def test_response_overrides(s3, bucket):
    await s3.put("/bucket/key", headers={"content-type": "text/plain", "cache-control": "a"})
    query = (
        "response-content-type=image%2Fpng&response-content-disposition=inline"
        "&response-expires=never&response-content-language=fr&response-content-encoding=x"
    )
    headers = (await s3("GET", f"/bucket/key?{query}")).headers
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == "inline"
    assert headers["expires"] == "never"
    assert headers["cache-control"] == "a"
    headers = (await s3("HEAD", f"/bucket/key?{query}")).headers
    assert headers["content-type"] == "image/png"
    refused = await s3.refused("GET", "/bucket/key?response-content-type=a%0d%0ab:c")
    assert refused == (400, "InvalidArgument")


async def test_response_overrides_need_a_signature(s3, bucket, monkeypatch):
    """Were an anonymous caller let in, it could not choose what a browser takes the object for."""
    from objectio_api_s3.errors import Refusal
    from objectio_api_s3.operations.object import get_object
    from objectio_api_s3.request import Call

    await s3.put("/bucket/key")
    access = s3.front_end.classify(make_scope("GET", "/bucket/key?response-content-type=x"))
    request = Request("R", access, ANONYMOUS, None, lambda action, resource: None)
    context = ApiContext(objects=s3.objects, metrics=NullMetrics())
    with pytest.raises(Refusal, match="anonymous"):
        await get_object(Call(context, request, access.operation))


async def test_hostile_values_in_the_store_stay_out_of_headers(s3, bucket):
    """Other front ends may store other things."""
    from objectio.abc.objects import ObjectAttributes
    from objectio.testing.objects import BytesPayload

    attributes = ObjectAttributes(
        headers={"content-type": "a\r\nset-cookie: x", "x-evil": "y"},
        metadata={"k\r\nx": "v\r\n\r\nbody", "euro": "\u20ac"},
    )
    await s3.objects.put_object("bucket", b"key", BytesPayload(b"x"), attributes, owner="root")
    headers = (await s3("GET", "/bucket/key")).headers
    assert headers["content-type"] == "aset-cookie: x"
    assert "x-evil" not in headers
    assert headers["x-amz-meta-kx"] == "vbody"


async def test_who_may_not_list_cannot_probe(s3, bucket):
    """403 for what is not there, as S3 does."""
    await s3.put("/bucket/key")

    def allows(action, resource):
        return action == "s3:GetObject"

    for method in ("GET", "HEAD"):
        assert (await s3(method, "/bucket/key", identity=READER, allows=allows)).status == 200
        assert (await s3(method, "/bucket/nil", identity=READER, allows=allows)).status == 403
        answer = await s3(method, "/bucket/nil", identity=READER, allows=lambda *_: True)
        assert answer.status == 404


async def test_versions_of_a_bucket_without_versioning(s3, bucket):
    await s3.put("/bucket/key", b"x")
    assert (await s3("GET", "/bucket/key?versionId=null")).body == b"x"
    assert await s3.refused("GET", "/bucket/key?versionId=abc") == (404, "NoSuchVersion")
    assert await s3.refused("GET", "/bucket/key?versionId=") == (400, "InvalidArgument")
    answer = await s3("DELETE", "/bucket/key?versionId=abc")
    assert answer.status == 204
    answer = await s3("DELETE", "/bucket/key?versionId=null")
    assert answer.headers["x-amz-version-id"] == "null"
    assert await s3.refused("GET", "/bucket/key") == (404, "NoSuchKey")


async def test_content_md5(s3, bucket):
    import base64

    right = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    await s3.put("/bucket/key", b"data", {"content-md5": right})
    await s3("DELETE", "/bucket/key")
    for value, expected in ((wrong, "BadDigest"), ("nonsense", "InvalidDigest")):
        refused = await s3.refused(
            "PUT", "/bucket/key", body=b"data", headers={"content-md5": value}
        )
        assert refused == (400, expected)
    assert await s3.refused("GET", "/bucket/key") == (404, "NoSuchKey")


async def test_the_length_must_be_known_and_true(s3, bucket):
    from objectio.limits import PUT_SIZE_BYTES_MAX

    refused = await s3.refused("PUT", "/bucket/key", body=b"1234", headers={"content-length": "10"})
    assert refused == (400, "IncompleteBody")
    refused = await s3.refused(
        "PUT", "/bucket/key", headers={"content-length": str(PUT_SIZE_BYTES_MAX + 1)}
    )
    assert refused == (400, "EntityTooLarge")
    assert s3.objects.snapshot()["bucket"][1] == {}


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=40),
    first=st.none() | st.integers(0, 50),
    last=st.none() | st.integers(0, 50),
    now=st.booleans(),
)
async def test_ranges_are_slices(data, first, last, now, make_s3):
    s3 = make_s3(MemoryObjects(read_now_bytes_max=100 if now else 0, piece_size_bytes=7))
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", data)
    value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    answer = await s3.get("/bucket/key", range=value)
    head = await s3("HEAD", "/bucket/key", headers={"range": value})
    assert head.status == answer.status
    if (first is None and last is None) or (None not in (first, last) and last < first):
        assert (answer.status, answer.body) == (200, data)
        return
    expected = data[len(data) - min(last, len(data)) :] if first is None else data[first:]
    if first is not None and last is not None:
        expected = data[first : last + 1]
    if not expected:
        assert (answer.status, s3.code(answer)) == (416, "InvalidRange")
        assert answer.headers["content-range"] == f"bytes */{len(data)}"
        return
    start = len(data) - len(expected) if first is None else first
    assert (answer.status, answer.body) == (206, expected)
    stop = start + len(expected) - 1
    assert answer.headers["content-range"] == f"bytes {start}-{stop}/{len(data)}"
    assert head.headers["content-range"] == answer.headers["content-range"]
    assert head.headers["content-length"] == str(len(expected))
    assert not s3.objects.open_readers


@pytest.mark.parametrize(
    "value",
    [
        "bytes",
        "bytes=",
        "bytes=a-b",
        "bytes=1-2,4-5",
        "lines=1-2",
        "bytes=--1",
        "bytes 1-2",
        "bytes=1",
        "bytes=-",
        "Bytes=0-1",
        "bytes=0x1-2",
        "bytes=" + "9" * 30 + "-",
    ],
)
async def test_ranges_that_do_not_count(s3, bucket, value):
    await s3.put("/bucket/key", b"0123456789")
    answer = await s3.get("/bucket/key", range=value)
    assert (answer.status, answer.body) == (200, b"0123456789")


async def test_the_error_of_a_range(s3, bucket):
    await s3.put("/bucket/key", b"0123456789")
    answer = await s3.get("/bucket/key", range="bytes=40-50")
    assert "<RangeRequested>bytes=40-50</RangeRequested>" in answer.text
    assert "<ActualObjectSize>10</ActualObjectSize>" in answer.text
