"""CopyObject, and who may copy what."""

from __future__ import annotations

import base64
import hashlib

import pytest

from objectio.abc.objects import ObjectAttributes
from objectio.testing.objects import BytesPayload, MemoryObjects

SOURCE = "x-amz-copy-source"
SHA1_OF_DATA = base64.b64encode(hashlib.sha1(b"data").digest()).decode()


async def copy(s3, path, source, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await s3("PUT", path, headers={SOURCE: source, **names})


@pytest.fixture
async def source(s3, bucket):
    await s3.put("/other", b"")
    await s3.put("/bucket/key", b"data", {"content-type": "text/a", "x-amz-meta-k": "v"})


@pytest.mark.parametrize(
    "name",
    ["bucket/key", "/bucket/key", "bucket%2Fkey", "bucket/ke%79", "bucket/key?versionId=null"],
)
async def test_copy(s3, source, name):
    document = await s3.document("/other/copy", "PUT", headers={SOURCE: name})
    assert document.name == "CopyObjectResult"
    assert document.one("ETag") == f'"{hashlib.md5(b"data").hexdigest()}"'
    assert document.one("LastModified").endswith("Z")
    got = await s3("GET", "/other/copy")
    assert got.body == b"data"
    assert got.headers["content-type"] == "text/a"
    assert got.headers["x-amz-meta-k"] == "v"


async def test_odd_keys(s3, bucket):
    await s3.put("/bucket/a%3FversionId=x%20+%25", b"odd")
    assert (await copy(s3, "/bucket/copy", "bucket/a%3FversionId=x%20+%25")).status == 200
    assert (await s3("GET", "/bucket/copy")).body == b"odd"


async def test_replace(s3, source):
    answer = await copy(
        s3,
        "/other/copy",
        "bucket/key",
        x_amz_metadata_directive="REPLACE",
        x_amz_meta_new="n",
        content_type="text/b",
    )
    assert answer.status == 200
    headers = (await s3("HEAD", "/other/copy")).headers
    assert headers["content-type"] == "text/b"
    assert headers["x-amz-meta-new"] == "n"
    assert "x-amz-meta-k" not in headers


async def test_without_replace_new_metadata_is_ignored(s3, source):
    await copy(s3, "/other/copy", "bucket/key", x_amz_meta_new="n", content_type="text/b")
    headers = (await s3("HEAD", "/other/copy")).headers
    assert headers["content-type"] == "text/a"
    assert "x-amz-meta-new" not in headers


async def test_onto_itself(s3, source):
    answer = await copy(s3, "/bucket/key", "bucket/key")
    assert (answer.status, s3.code(answer)) == (400, "InvalidRequest")
    answer = await copy(s3, "/bucket/key", "bucket/key", x_amz_metadata_directive="REPLACE")
    assert answer.status == 200
    assert "x-amz-meta-k" not in (await s3("HEAD", "/bucket/key")).headers
    answer = await copy(s3, "/bucket/key", "bucket/key", x_amz_storage_class="REDUCED_REDUNDANCY")
    assert answer.status == 200
    headers = (await s3("HEAD", "/bucket/key")).headers
    assert headers["x-amz-storage-class"] == "REDUCED_REDUNDANCY"


async def test_the_class_changes_and_the_rest_stays(s3, source):
    await copy(s3, "/other/copy", "bucket/key", x_amz_storage_class="REDUCED_REDUNDANCY")
    headers = (await s3("HEAD", "/other/copy")).headers
    assert headers["x-amz-storage-class"] == "REDUCED_REDUNDANCY"
    assert headers["x-amz-meta-k"] == "v"


async def test_checksums_go_along_or_change(s3, bucket):
    await s3.put("/bucket/key", b"data", {"x-amz-checksum-crc32": "rfPzYw=="})
    document = await s3.document("/bucket/same", "PUT", headers={SOURCE: "bucket/key"})
    assert document.one("ChecksumCRC32") == "rfPzYw=="
    assert document.one("ChecksumType") == "FULL_OBJECT"
    document = await s3.document(
        "/bucket/new",
        "PUT",
        headers={SOURCE: "bucket/key", "x-amz-checksum-algorithm": "SHA1"},
    )
    assert document.one("ChecksumSHA1") == SHA1_OF_DATA
    head = await s3("HEAD", "/bucket/new", headers={"x-amz-checksum-mode": "ENABLED"})
    assert head.headers["x-amz-checksum-sha1"] == SHA1_OF_DATA
    assert "x-amz-checksum-crc32" not in head.headers


async def test_large_through_another_checksum(make_s3):
    s3 = make_s3(MemoryObjects(piece_size_bytes=10, read_now_bytes_max=0))
    await s3.put("/bucket", b"")
    for body in (b"0123456789" * 100, b""):
        await s3.put("/bucket/key", body)
        answer = await copy(s3, "/bucket/copy", "bucket/key", x_amz_checksum_algorithm="CRC64NVME")
        assert answer.status == 200
        assert (await s3("GET", "/bucket/copy")).body == body
    assert not s3.objects.open_readers


async def test_conditions_on_the_destination(s3, source):
    await s3.put("/other/copy", b"old")
    answer = await copy(s3, "/other/copy", "bucket/key", if_none_match="*")
    assert (answer.status, s3.code(answer)) == (412, "PreconditionFailed")
    assert (await s3("GET", "/other/copy")).body == b"old"
    assert (await copy(s3, "/other/fresh", "bucket/key", if_none_match="*")).status == 200
    assert (await s3("GET", "/other/fresh")).headers["x-amz-meta-k"] == "v"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing/key", (404, "NoSuchBucket")),
        ("bucket/missing", (404, "NoSuchKey")),
        ("bucket/key?versionId=abc", (404, "NoSuchVersion")),
        ("bucket", (400, "InvalidArgument")),
        ("bucket/", (400, "InvalidArgument")),
        ("", (400, "InvalidArgument")),
        ("/", (400, "InvalidArgument")),
        ("bucket/%ff", (400, "InvalidArgument")),
        ("bucket/key?versionId=", (400, "InvalidArgument")),
        ("b%00cket/key", (400, "InvalidArgument")),
    ],
)
async def test_sources_that_are_none(s3, source, name, expected):
    for more in ({}, {"x-amz-metadata-directive": "REPLACE"}):
        refused = await s3.refused("PUT", "/other/copy", headers={SOURCE: name, **more})
        assert refused == expected
    assert (await s3("HEAD", "/other/copy")).status == 404


async def test_other_refusals(s3, source):
    answer = await copy(s3, "/other/copy", "bucket/key", x_amz_metadata_directive="MERGE")
    assert s3.code(answer) == "InvalidArgument"
    answer = await copy(s3, "/missing/copy", "bucket/key")
    assert s3.code(answer) == "NoSuchBucket"
    answer = await copy(s3, "/other/copy", "bucket/key", x_amz_checksum_algorithm="MD4")
    assert s3.code(answer) == "InvalidRequest"
    answer = await copy(
        s3, "/other/copy", "bucket/key", x_amz_source_expected_bucket_owner="someone"
    )
    assert answer.status == 403


async def test_the_source_is_authorized(s3, source):
    """CVE class: copying what one may not read."""
    from objectio.testing.api import NOBODY

    asked = []

    def allows(action, resource):
        asked.append((action, resource))
        return not resource.startswith("arn:aws:s3:::bucket/")

    for name in ("bucket/key", "/bucket/%6bey", "bucket/key?versionId=null", "bucket/missing"):
        answer = await s3(
            "PUT", "/other/copy", headers={SOURCE: name}, identity=NOBODY, allows=allows
        )
        assert answer.status == 403
    assert ("s3:GetObjectVersion", "arn:aws:s3:::bucket/key") in asked
    assert ("s3:GetObject", "arn:aws:s3:::bucket/key") in asked
    assert (await s3("HEAD", "/other/copy")).status == 404


async def start(s3, path):
    return (await s3.document(f"{path}?uploads", "POST")).one("UploadId")


async def test_parts_are_copied(s3, source):
    upload = await start(s3, "/other/copy")
    path = f"/other/copy?uploadId={upload}&partNumber="
    await s3.put("/bucket/long", bytes(range(100)))
    etags = []
    for number, span in ((1, "bytes=20-59"), (2, "bytes=0-0"), (3, None)):
        more = {} if span is None else {"x_amz_copy_source_range": span}
        answer = await copy(s3, path + str(number), "bucket/long", **more)
        assert answer.status == 200, answer
        etags.append(answer.text.partition("&quot;")[2].partition("&quot;")[0])
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
        if number != 2  # too small to be in the middle
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    answer = await s3("POST", f"/other/copy?uploadId={upload}", body=body)
    assert answer.status == 200, answer
    assert (await s3.get("/other/copy")).body == bytes(range(20, 60)) + bytes(range(100))


@pytest.mark.parametrize(
    ("span", "code"),
    [
        ("bytes=0-100", "InvalidRange"),
        ("bytes=100-200", "InvalidRange"),
        ("0-2", "InvalidArgument"),
        ("bytes=0", "InvalidArgument"),
        ("bytes=-2", "InvalidArgument"),
        ("bytes=3-", "InvalidArgument"),
        ("bytes=3-2", "InvalidArgument"),
        ("bytes=0-2,3-5", "InvalidArgument"),
        ("bytes=hello-world", "InvalidArgument"),
    ],
)
async def test_ranges_of_part_copies_that_are_refused(s3, source, span, code):
    await s3.put("/bucket/long", bytes(100))
    path = f"/other/copy?uploadId={await start(s3, '/other/copy')}&partNumber=1"
    answer = await copy(s3, path, "bucket/long", x_amz_copy_source_range=span)
    assert s3.code(answer) == code


async def test_a_part_copy_of_what_is_not_there(s3, source):
    upload = await start(s3, "/other/copy")
    path = f"/other/copy?uploadId={upload}&partNumber=1"
    assert s3.code(await copy(s3, path, "bucket/missing")) == "NoSuchKey"
    assert s3.code(await copy(s3, path, "missing/key")) == "NoSuchBucket"
    path = "/other/copy?uploadId=x&partNumber=1"
    assert s3.code(await copy(s3, path, "bucket/key")) == "NoSuchUpload"


async def test_the_source_of_a_part_is_authorized(objects, make_s3):
    """CVE class: copying what one may not read, in parts."""
    from objectio.testing.api import NOBODY

    s3 = make_s3(objects)
    for path in ("/bucket", "/other", "/bucket/key"):
        await s3.put(path, b"")
    path = f"/other/copy?uploadId={await start(s3, '/other/copy')}&partNumber=1"
    answer = await s3(
        *("PUT", path),
        headers={SOURCE: "bucket/key"},
        identity=NOBODY,
        allows=lambda action, resource: not resource.startswith("arn:aws:s3:::bucket/"),
    )
    assert answer.status == 403


class Changing(MemoryObjects):
    """The source is written between what is known of it and its copy, so many times."""

    left = 0

    async def copy_object(self, *arguments, **more):
        if self.left:
            self.left -= 1
            await self.put_object(
                "bucket", b"key", BytesPayload(b"%d" % self.left), ObjectAttributes(), owner="x"
            )
        return await super().copy_object(*arguments, **more)


@pytest.mark.parametrize(("times", "code"), [(1, None), (4, None), (5, "SlowDown")])
async def test_a_source_that_changes(make_s3, times, code):
    objects = Changing()
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", b"old")
    objects.left = times
    answer = await copy(s3, "/bucket/copy", "bucket/key")
    if code is None:
        assert (await s3.get("/bucket/copy")).body == b"0"
    else:
        assert s3.code(answer) == code
