"""Versions of objects, delete markers, and what is said about a version beside its bytes."""

from __future__ import annotations

import re

import pytest

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SUSPENDED = ENABLED.replace(b"Enabled", b"Suspended")
TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>"


@pytest.fixture
async def versioned(s3, bucket):
    await s3.put("/bucket?versioning", ENABLED)
    return bucket


async def put(s3, body, path="/bucket/key", **headers):
    answer = await s3.put(path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    return answer.headers["x-amz-version-id"]


async def test_reads(s3, versioned):
    first, second = await put(s3, b"one"), await put(s3, b"two")
    assert first != second
    got = await s3.get("/bucket/key")
    assert (got.body, got.headers["x-amz-version-id"]) == (b"two", second)
    got = await s3.get(f"/bucket/key?versionId={first}")
    assert (got.body, got.headers["x-amz-version-id"]) == (b"one", first)
    refused = await s3.refused("GET", f"/bucket/key?versionId={'0' * 32}")
    assert refused == (404, "NoSuchVersion")


async def test_no_header_without_versioning(s3, bucket):
    answer = await s3.put("/bucket/key")
    assert "x-amz-version-id" not in answer.headers
    assert "x-amz-version-id" not in (await s3.get("/bucket/key")).headers
    assert "x-amz-version-id" not in (await s3("DELETE", "/bucket/key")).headers


async def test_delete_markers(s3, versioned):
    version = await put(s3, b"data")
    deleted = await s3("DELETE", "/bucket/key")
    assert deleted.headers["x-amz-delete-marker"] == "true"
    marker = deleted.headers["x-amz-version-id"]
    for method in ("GET", "HEAD"):
        answer = await s3(method, "/bucket/key")
        assert answer.status == 404
        assert answer.headers["x-amz-delete-marker"] == "true"
        assert answer.headers["x-amz-version-id"] == marker
        answer = await s3(method, f"/bucket/key?versionId={marker}")
        assert answer.status == 405
        assert answer.headers["x-amz-delete-marker"] == "true"
        assert answer.headers["allow"] == "DELETE"
        assert answer.headers["last-modified"].endswith(" GMT")
    assert (await s3.get(f"/bucket/key?versionId={version}")).body == b"data"
    undone = await s3("DELETE", f"/bucket/key?versionId={marker}")
    assert undone.headers["x-amz-version-id"] == marker
    assert undone.headers["x-amz-delete-marker"] == "true"
    assert (await s3.get("/bucket/key")).body == b"data"
    gone = await s3("DELETE", f"/bucket/key?versionId={version}")
    assert gone.headers["x-amz-version-id"] == version
    assert "x-amz-delete-marker" not in gone.headers
    answer = await s3("HEAD", "/bucket/key")
    assert (answer.status, answer.headers["x-amz-delete-marker"]) == (404, "false")


async def test_null_versions(s3, bucket):
    await s3.put("/bucket/key", b"before")
    await s3.put("/bucket?versioning", ENABLED)
    await put(s3, b"meanwhile")
    assert (await s3.get("/bucket/key?versionId=null")).body == b"before"
    await s3.put("/bucket?versioning", SUSPENDED)
    answer = await s3.put("/bucket/key", b"after")
    assert "x-amz-version-id" not in answer.headers
    assert (await s3.get("/bucket/key?versionId=null")).body == b"after"
    deleted = await s3("DELETE", "/bucket/key")
    assert deleted.headers["x-amz-version-id"] == "null"
    listed = await s3.document("/bucket?versions")
    assert (listed.count("Version"), listed.count("DeleteMarker")) == (1, 1)


async def test_deletes_of_many(s3, versioned):
    version = await put(s3, b"data")
    body = b"<Delete><Object><Key>key</Key></Object><Object><Key>none</Key></Object></Delete>"
    answer = await s3.document("/bucket?delete", "POST", body=body)
    assert answer.all("Deleted/DeleteMarker") == ["true", "true"]
    markers = answer.all("Deleted/DeleteMarkerVersionId")
    entries = "".join(
        f"<Object><Key>{key}</Key><VersionId>{each}</VersionId></Object>"
        for key, each in (("key", version), ("key", markers[0]), ("none", markers[1]))
    )
    answer = await s3.document(
        "/bucket?delete", "POST", body=f"<Delete>{entries}</Delete>".encode()
    )
    assert answer.all("Deleted/VersionId") == [version, *markers]
    assert answer.all("Deleted/DeleteMarkerVersionId") == markers
    assert len((await s3.document("/bucket?versions")).all("Version")) == 0


async def test_copies(s3, versioned):
    first, second = await put(s3, b"one"), await put(s3, b"two")
    source = {"x-amz-copy-source": f"bucket/key?versionId={first}"}
    copied = await s3("PUT", "/bucket/key", headers=source)  # an old version becomes the current
    assert copied.status == 200
    assert copied.headers["x-amz-copy-source-version-id"] == first
    assert copied.headers["x-amz-version-id"] not in (first, second)
    assert (await s3.get("/bucket/key")).body == b"one"
    marker = (await s3("DELETE", "/bucket/key")).headers["x-amz-version-id"]
    answer = await s3("PUT", "/bucket/copy", headers={"x-amz-copy-source": "bucket/key"})
    assert s3.code(answer) == "NoSuchKey"
    source = {"x-amz-copy-source": f"bucket/key?versionId={marker}"}
    answer = await s3("PUT", "/bucket/copy", headers=source)
    assert answer.status in (400, 405)


async def test_tags(s3, versioned):
    first = await put(s3, b"one", x_amz_tagging="k=v&with%20space=1%2B1&empty")
    second = await put(s3, b"two")
    shown = await s3.document(f"/bucket/key?tagging&versionId={first}")
    assert shown.all("TagSet/Tag/Key") == ["empty", "k", "with space"]
    assert shown.all("TagSet/Tag/Value") == ["", "v", "1+1"]
    assert (await s3.document("/bucket/key?tagging")).count("TagSet/Tag") == 0
    answer = await s3("PUT", "/bucket/key?tagging", body=TAGGING)
    assert (answer.status, answer.headers["x-amz-version-id"]) == (200, second)
    assert (await s3.document("/bucket/key?tagging")).all("TagSet/Tag/Value") == ["b c"]
    assert (await s3("HEAD", "/bucket/key")).headers["x-amz-tagging-count"] == "1"
    answer = await s3("DELETE", f"/bucket/key?tagging&versionId={first}")
    assert (answer.status, answer.headers["x-amz-version-id"]) == (204, first)
    assert "x-amz-tagging-count" not in (await s3.get(f"/bucket/key?versionId={first}")).headers
    assert await s3.refused("GET", "/bucket/none?tagging") == (404, "NoSuchKey")


def tags(*pairs):
    rows = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in pairs)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (tags(("k" * 129, "")), "InvalidTag"),
        (tags(("", "v")), "InvalidTag"),
        (tags(("k", "v" * 257)), "InvalidTag"),
        (tags(("aws:k", "v")), "InvalidTag"),
        (tags(("k;", "v")), "InvalidTag"),
        (tags(("k", "1"), ("k", "2")), "InvalidTag"),
        (tags(*((f"k{n}", "") for n in range(11))), "InvalidTag"),
        (b"<Tagging/>", "MalformedXML"),
        (b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", "MalformedXML"),
        (b"<Tagging><TagSet><Other/></TagSet></Tagging>", "MalformedXML"),
        (b"", "MalformedXML"),
    ],
)
async def test_tags_that_are_refused(s3, bucket, body, code):
    await s3.put("/bucket/key")
    assert await s3.refused("PUT", "/bucket/key?tagging", body=body) == (400, code)
    assert (await s3.document("/bucket/key?tagging")).count("TagSet/Tag") == 0


async def test_tags_at_their_bounds(s3, bucket):
    await s3.put("/bucket/key")
    body = tags(*((f"{n}" + "k" * 127, "é" * 256) for n in range(10)))
    assert (await s3("PUT", "/bucket/key?tagging", body=body)).status == 200
    assert (await s3.document("/bucket/key?tagging")).count("TagSet/Tag") == 10


@pytest.mark.parametrize("value", ["k=1&k=2", "aws:k=v", "%ff=1", "=v"])
async def test_tagging_headers_that_are_refused(s3, bucket, value):
    for path in ("/bucket/key", "/bucket/key?uploads"):
        method = "POST" if "?" in path else "PUT"
        refused = await s3.refused(method, path, headers={"x-amz-tagging": value})
        assert refused[0] == 400


async def test_tags_of_copies(s3, bucket):
    await s3.put("/bucket/key", b"data", {"x-amz-tagging": "k=v"})
    source = {"x-amz-copy-source": "bucket/key"}
    for directive, header, expected in (
        ("COPY", "new=1", ["k"]),
        ("REPLACE", "new=1", ["new"]),
        ("REPLACE", "", []),
    ):
        more = {"x-amz-tagging-directive": directive, "x-amz-tagging": header}
        answer = await s3("PUT", "/bucket/copy", headers={**source, **more})
        assert answer.status == 200, answer
        assert (await s3.document("/bucket/copy?tagging")).all("TagSet/Tag/Key") == expected
    answer = await s3("PUT", "/bucket/copy", headers={**source, "x-amz-tagging-directive": "KEEP"})
    assert s3.code(answer) == "InvalidArgument"


async def test_attributes(s3, versioned):
    version = await put(s3, b"data", x_amz_checksum_crc32="rfPzYw==")
    wanted = {"x-amz-object-attributes": "ETag,Checksum, ObjectParts,StorageClass,ObjectSize"}
    shown = await s3("GET", "/bucket/key?attributes", headers=wanted)
    assert shown.headers["x-amz-version-id"] == version
    assert "last-modified" in shown.headers
    document = await s3.document(f"/bucket/key?attributes&versionId={version}", headers=wanted)
    assert document.name == "GetObjectAttributesResponse"
    assert re.fullmatch("[0-9a-f]{32}", document.one("ETag"))
    assert document.one("Checksum/ChecksumCRC32") == "rfPzYw=="
    assert document.one("Checksum/ChecksumType") == "FULL_OBJECT"
    assert document.one("ObjectSize") == "4"
    assert document.one("StorageClass") == "STANDARD"
    assert document.count("ObjectParts") == 0
    for nonsense in ("", "Size", "ETag,Secret"):
        headers = {"x-amz-object-attributes": nonsense}
        refused = await s3.refused("GET", "/bucket/key?attributes", headers=headers)
        assert refused == (400, "InvalidArgument")


async def test_attributes_of_parts(s3, bucket):
    upload = (await s3.document("/bucket/key?uploads", "POST")).one("UploadId")
    parts = ""
    for number in (2, 4, 7):
        part = await s3.put(f"/bucket/key?partNumber={number}&uploadId={upload}", bytes(20))
        etag = part.headers["etag"]
        parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert (await s3("POST", f"/bucket/key?uploadId={upload}", body=body)).status == 200
    headers = {
        "x-amz-object-attributes": "ObjectParts",
        "x-amz-max-parts": "1",
        "x-amz-part-number-marker": "2",
    }
    document = await s3.document("/bucket/key?attributes", headers=headers)
    assert document.one("ObjectParts/PartsCount") == "3"
    assert document.all("ObjectParts/Part/PartNumber") == ["4"]
    assert document.all("ObjectParts/Part/Size") == ["20"]
    assert document.one("ObjectParts/IsTruncated") == "true"
    assert document.one("ObjectParts/NextPartNumberMarker") == "4"


async def test_expiration(s3, bucket):
    assert "x-amz-expiration" not in (await s3.put("/bucket/log/0")).headers
    rule = (
        b"<LifecycleConfiguration><Rule><ID>old logs</ID><Status>Enabled</Status>"
        b"<Filter><Prefix>log/</Prefix></Filter><Expiration><Days>3</Days></Expiration></Rule>"
        b"<Rule><ID>uploads</ID><Status>Enabled</Status><Filter/><AbortIncompleteMultipartUpload>"
        b"<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
        b"</LifecycleConfiguration>"
    )
    await s3.put("/bucket?lifecycle", rule)
    answers = [
        await s3.put("/bucket/log/1"),
        await s3("HEAD", "/bucket/log/1"),
        await s3.get("/bucket/log/0"),
    ]
    for answer in answers:
        value = answer.headers["x-amz-expiration"]
        assert re.fullmatch(
            r'expiry-date="\w{3}, \d\d \w{3} \d{4} 00:00:00 GMT", rule-id="old%20logs"', value
        )
    assert "x-amz-expiration" not in (await s3.put("/bucket/other")).headers
    begun = await s3("POST", "/bucket/other?uploads")
    assert begun.headers["x-amz-abort-rule-id"] == "uploads"
    assert begun.headers["x-amz-abort-date"].endswith(" GMT")
