"""Uploads in parts, from the first to the last call."""

from __future__ import annotations

import hashlib
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.testing.objects import MemoryObjects

PARTS = [b"a" * 16, b"b" * 20, b"c" * 3]


class Upload:
    def __init__(self, s3, path, **more):
        self.s3, self.path, self.more = s3, path, more
        self.etags = {}

    async def __aenter__(self):
        document = await self.s3.document(f"{self.path}?uploads", "POST", **self.more)
        assert document.name == "InitiateMultipartUploadResult"
        self.id = document.one("UploadId")
        return self

    async def __aexit__(self, *_):
        pass

    async def part(self, number, body, headers=()):
        answer = await self.s3.put(
            f"{self.path}?partNumber={number}&uploadId={self.id}", body, headers
        )
        self.etags[number] = answer.headers["etag"]
        return answer

    def body(self, parts=None):
        parts = self.etags.items() if parts is None else parts
        inner = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in parts
        )
        return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()

    async def complete(self, parts=None, headers=()):
        return await self.s3(
            "POST",
            f"{self.path}?uploadId={self.id}",
            body=self.body(parts),
            headers=headers,
        )


@pytest.fixture
async def upload(s3, bucket):
    headers = {"content-type": "text/plain", "x-amz-meta-k": "v"}
    async with Upload(s3, "/bucket/key", headers=headers) as found:
        yield found


@pytest.fixture
async def three(upload):
    for number, body in enumerate(PARTS, 1):
        await upload.part(number, body)
    return upload


async def test_complete(s3, three):
    answer = await three.complete()
    assert answer.status == 200
    digests = b"".join(hashlib.md5(part).digest() for part in PARTS)
    etag = f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert escape(etag, {'"': "&quot;"}) in answer.text
    assert "<Location>http://localhost:9000/bucket/key</Location>" in answer.text
    got = await s3("GET", "/bucket/key")
    assert got.body == b"".join(PARTS)
    assert got.headers["etag"] == etag
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["x-amz-meta-k"] == "v"


async def test_complete_again(s3, three):
    """As a client does that did not get the answer."""
    first, second = await three.complete(), await three.complete()
    assert (second.status, second.body) == (200, first.body)
    await s3.put("/bucket/key", b"".join(PARTS))  # the same, but not of these parts
    answer = await three.complete()
    assert s3.code(answer) == "NoSuchUpload"
    assert (await s3("DELETE", "/bucket/key")).status == 204
    answer = await three.complete()
    assert s3.code(answer) == "NoSuchUpload"


async def test_part_numbers_of_the_whole(s3, three):
    await three.complete()
    start = 0
    for number, body in enumerate(PARTS, 1):
        for method in ("GET", "HEAD"):
            answer = await s3(method, f"/bucket/key?partNumber={number}")
            assert answer.status == 206
            assert answer.body == (body if method == "GET" else b"")
            assert answer.headers["x-amz-mp-parts-count"] == "3"
            assert answer.headers["content-length"] == str(len(body))
            stop = start + len(body) - 1
            assert answer.headers["content-range"] == f"bytes {start}-{stop}/39"
        start += len(body)
    assert await s3.refused("GET", "/bucket/key?partNumber=4") == (400, "InvalidPart")
    for number in ("0", "10001", "x", "-1", ""):
        refused = await s3.refused("GET", f"/bucket/key?partNumber={number}")
        assert refused == (400, "InvalidArgument")
    refused = await s3.refused("GET", "/bucket/key?partNumber=1", headers={"range": "bytes=0-1"})
    assert refused == (400, "InvalidRequest")


async def test_part_one_of_what_was_put_whole(s3, bucket):
    await s3.put("/bucket/key", b"data")
    answer = await s3("GET", "/bucket/key?partNumber=1")
    assert (answer.status, answer.body) == (206, b"data")
    assert "x-amz-mp-parts-count" not in answer.headers
    assert await s3.refused("GET", "/bucket/key?partNumber=2") == (400, "InvalidPart")
    await s3.put("/bucket/empty", b"")
    assert (await s3("GET", "/bucket/empty?partNumber=1")).status == 200


async def test_a_subset_and_a_replaced_part(s3, three):
    await three.part(2, b"B" * 16)
    answer = await three.complete([(1, three.etags[1]), (2, three.etags[2])])
    assert answer.status == 200
    assert (await s3("GET", "/bucket/key")).body == PARTS[0] + b"B" * 16


async def test_etags_without_quotes(s3, three):
    answer = await three.complete([(n, tag.strip('"')) for n, tag in three.etags.items()])
    assert answer.status == 200


async def test_of_parts_that_were_given_one_number_none_is_dropped_silently(s3, three):
    """A client that miscounts has lost a part: it must hear of it, not get an object without it."""
    old = three.etags[2]
    await three.part(2, b"B" * 16)
    answer = await three.complete([(1, three.etags[1]), (2, old), (2, three.etags[2])])
    assert (answer.status, s3.code(answer)) == (400, "InvalidPartOrder")
    assert (await three.complete()).status == 200


async def test_wrong_lists(s3, three):
    tags = three.etags
    for parts, code in (
        ([(1, tags[1]), (4, tags[1])], "InvalidPart"),
        ([(1, tags[2])], "InvalidPart"),
        ([(2, tags[2]), (1, tags[1])], "InvalidPartOrder"),
        ([(2, tags[2]), (2, tags[2]), (1, tags[1])], "InvalidPartOrder"),
        ([(1, tags[1]), (1, tags[2])], "InvalidPartOrder"),
        ([], "MalformedXML"),
        ([(0, tags[1])], "InvalidArgument"),
        ([(10001, tags[1])], "InvalidArgument"),
        ([("x", tags[1])], "MalformedXML"),
        ([("", tags[1])], "MalformedXML"),
        ([(1, "")], "MalformedXML"),
        ([("\u00b2", tags[1])], "MalformedXML"),
    ):
        answer = await three.complete(parts)
        assert (answer.status, s3.code(answer)) == (400, code), parts
    assert (await three.complete()).status == 200


async def test_a_part_that_is_too_small(s3, three):
    await three.part(1, b"small")
    answer = await three.complete()
    assert s3.code(answer) == "EntityTooSmall"
    assert "<PartNumber>1</PartNumber>" in answer.text
    assert "<MinSizeAllowed>16</MinSizeAllowed>" in answer.text


async def test_part_number_bounds(s3, upload):
    for number in ("0", "10001", "x", "-1", "", "1.0"):
        refused = await s3.refused(
            "PUT", f"/bucket/key?partNumber={number}&uploadId={upload.id}", body=b"x"
        )
        assert refused == (400, "InvalidArgument")
    await upload.part(10_000, b"x")


async def test_parts_alone_mean_nothing(s3, bucket):
    """Neither half of the pair may become a PutObject."""
    for query in ("partNumber=1", "uploadId=x"):
        refused = await s3.refused("PUT", f"/bucket/key?{query}", body=b"x")
        assert refused == (501, "NotImplemented")
    assert s3.objects.snapshot()["bucket"][1] == {}


async def test_no_such_upload(s3, bucket):
    for method, query in (
        ("PUT", "partNumber=1&uploadId=nil"),
        ("GET", "uploadId=nil"),
        ("DELETE", "uploadId=nil"),
        ("DELETE", "uploadId="),
    ):
        refused = await s3.refused(method, f"/bucket/key?{query}")
        assert refused == (404, "NoSuchUpload")
    body = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
        b"</CompleteMultipartUpload>"
    )
    refused = await s3.refused("POST", "/bucket/key?uploadId=nil", body=body)
    assert refused == (404, "NoSuchUpload")
    refused = await s3.refused("POST", "/missing/key?uploads")
    assert refused == (404, "NoSuchBucket")


async def test_abort(s3, three):
    path = f"/bucket/key?uploadId={three.id}"
    assert (await s3("DELETE", path)).status == 204
    assert await s3.refused("DELETE", path) == (404, "NoSuchUpload")
    assert await s3.refused("GET", "/bucket/key") == (404, "NoSuchKey")


async def test_an_upload_belongs_to_its_key(s3, three):
    refused = await s3.refused("GET", f"/bucket/other?uploadId={three.id}")
    assert refused == (404, "NoSuchUpload")


async def test_conditions(s3, three):
    await s3.put("/bucket/key", b"there")
    answer = await three.complete(headers={"if-none-match": "*"})
    assert (answer.status, s3.code(answer)) == (412, "PreconditionFailed")
    assert (await s3("GET", "/bucket/key")).body == b"there"
    etag = (await s3("HEAD", "/bucket/key")).headers["etag"]
    assert (await three.complete(headers={"if-match": etag})).status == 200


async def test_the_size_of_the_whole(s3, three):
    for value in ("38", "x", ""):
        answer = await three.complete(headers={"x-amz-mp-object-size": value})
        assert s3.code(answer) == "InvalidRequest"
    assert (await three.complete(headers={"x-amz-mp-object-size": "39"})).status == 200


async def test_list_parts(s3, three):
    path = f"/bucket/key?uploadId={three.id}"
    document = await s3.document(path)
    assert document.name == "ListPartsResult"
    assert document.all("Part/PartNumber") == ["1", "2", "3"]
    assert document.all("Part/Size") == ["16", "20", "3"]
    assert document.all("Part/ETag") == list(three.etags.values())
    assert document.one("IsTruncated") == "false"
    assert document.one("Owner/ID") == document.one("Initiator/ID") == "root"
    found, marker = [], 0
    for _ in range(5):
        document = await s3.document(f"{path}&max-parts=2&part-number-marker={marker}")
        found += document.all("Part/PartNumber")
        marker = document.one("NextPartNumberMarker")
        if document.one("IsTruncated") == "false":
            break
    assert found == ["1", "2", "3"]
    document = await s3.document(f"{path}&max-parts=0")
    assert document.count("Part") == 0
    assert await s3.refused("GET", f"{path}&max-parts=x") == (400, "InvalidArgument")


NAMES = st.lists(st.text("ab/", min_size=1, max_size=4), max_size=12)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=NAMES,
    prefix=st.sampled_from(["", "a", "a/"]),
    delimiter=st.sampled_from(["", "/"]),
    limit=st.integers(1, 5),
)
async def test_list_uploads(make_s3, names, prefix, delimiter, limit):
    s3 = make_s3(MemoryObjects())
    await s3.put("/bucket", b"")
    uploads = []
    for name in names:
        async with Upload(s3, f"/bucket/{name}") as upload:
            uploads.append((name, upload.id))
    expected, groups = [], set()
    for name, number in sorted(uploads):
        if name.startswith(prefix):
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                expected.append((name, number))
            else:
                groups.add(name[: cut + 1])
    found, found_groups, markers = [], [], ""
    for _ in range(50):
        document = await s3.document(
            f"/bucket?uploads&prefix={prefix}&delimiter={delimiter}&max-uploads={limit}{markers}"
        )
        page = list(zip(document.all("Upload/Key"), document.all("Upload/UploadId"), strict=True))
        found += page
        found_groups += document.all("CommonPrefixes/Prefix")
        assert len(page) + document.count("CommonPrefixes") <= limit
        if document.one("IsTruncated") == "false":
            break
        markers = (
            f"&key-marker={document.one('NextKeyMarker')}"
            f"&upload-id-marker={document.one('NextUploadIdMarker')}"
        )
    assert found == expected
    assert found_groups == sorted(groups)


async def test_list_uploads_says(s3, upload):
    document = await s3.document("/bucket?uploads&encoding-type=url&max-uploads=2000")
    assert document.name == "ListMultipartUploadsResult"
    assert document.one("MaxUploads") == "1000"
    assert document.one("Upload/Initiated").endswith("Z")
    assert document.one("Upload/StorageClass") == "STANDARD"
    assert (await s3.document("/bucket?uploads&max-uploads=0")).count("Upload") == 0
    refused = await s3.refused("GET", "/missing?uploads&max-uploads=0")
    assert refused == (404, "NoSuchBucket")
