"""Known answers, then every way that a checksum can come."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectio_api_s3.checksums import ALGORITHMS, COMPOSITE, FULL_OBJECT, multipart_digests

from objectio.abc.objects import PartInfo

CHECK = b"123456789"
# The check values of the catalogue of parametrised CRC algorithms (CRC-32/ISO-HDLC,
# CRC-32/ISCSI, CRC-64/NVME), and FIPS 180.
KNOWN = {
    "CRC32": bytes.fromhex("cbf43926"),
    "CRC32C": bytes.fromhex("e3069283"),
    "CRC64NVME": bytes.fromhex("ae8b14860a799888"),
    "SHA1": hashlib.sha1(CHECK).digest(),
    "SHA256": hashlib.sha256(CHECK).digest(),
}


def compute(name, data):
    running = ALGORITHMS[name].new()
    running.update(data)
    return base64.b64encode(running.digest()).decode()


def header(name):
    return f"x-amz-checksum-{name.lower()}"


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name):
    assert compute(name, CHECK) == base64.b64encode(KNOWN[name]).decode()


@pytest.mark.parametrize("name", KNOWN)
async def test_header(s3, bucket, name):
    value = compute(name, b"data")
    answer = await s3.put("/bucket/key", b"data", {header(name): value})
    assert answer.headers[header(name)] == value
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    for method in ("GET", "HEAD"):
        headers = (
            await s3(method, "/bucket/key", headers={"x-amz-checksum-mode": "ENABLED"})
        ).headers
        assert headers[header(name)] == value
        assert headers["x-amz-checksum-type"] == "FULL_OBJECT"
        plain = (await s3(method, "/bucket/key")).headers
        assert header(name) not in plain
        ranged = await s3(
            method,
            "/bucket/key",
            headers={"x-amz-checksum-mode": "ENABLED", "range": "bytes=0-1"},
        )
        assert header(name) not in ranged.headers
    document = await s3.document("/bucket")
    assert document.one("Contents/ChecksumAlgorithm") == name
    assert document.one("Contents/ChecksumType") == "FULL_OBJECT"


@pytest.mark.parametrize("name", KNOWN)
async def test_mismatch(s3, bucket, name):
    refused = await s3.refused(
        "PUT", "/bucket/key", body=b"data", headers={header(name): compute(name, b"else")}
    )
    assert refused == (400, "BadDigest")
    for value in ("", "x", "AAAA", "====", "\xff"):
        refused = await s3.refused(
            "PUT", "/bucket/key", body=b"data", headers={header(name): value}
        )
        assert refused == (400, "BadDigest")
    assert s3.objects.snapshot()["bucket"][1] == {}


def chunked(data, trailers, *, sent=None, piece=5):
    """aws-chunked with an unsigned trailer (S3 API reference, "Signature calculations:
    trailing headers")."""
    framed = b"".join(
        b"%x\r\n%b\r\n" % (len(data[at : at + piece]), data[at : at + piece])
        for at in range(0, len(data), piece)
    )
    framed += b"0\r\n" + b"".join(f"{n}:{v}\r\n".encode() for n, v in (sent or trailers).items())
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(len(data)),
        "content-encoding": "aws-chunked",
        "x-amz-trailer": ",".join(trailers),
    }
    return {"body": framed + b"\r\n", "headers": headers}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("data", [b"", b"data", b"0123456789" * 50])
async def test_trailer(s3, bucket, name, data):
    value = compute(name, data)
    request = chunked(data, {header(name): value})
    request["headers"]["x-amz-sdk-checksum-algorithm"] = name
    answer = await s3("PUT", "/bucket/key", **request)
    assert answer.status == 200
    assert answer.headers[header(name)] == value
    got = await s3("GET", "/bucket/key", headers={"x-amz-checksum-mode": "enabled"})
    assert got.body == data
    assert got.headers[header(name)] == value
    assert "content-encoding" not in got.headers


async def test_wrong_trailers(s3, bucket):
    name = header("CRC32")
    for request, expected in (
        (chunked(b"data", {name: compute("CRC32", b"x")}), "BadDigest"),
        (chunked(b"data", {name: "nonsense"}), "BadDigest"),
        (chunked(b"data", {"x-amz-checksum-md4": "x"}), "InvalidRequest"),
    ):
        answer = await s3("PUT", "/bucket/key", **request)
        assert (answer.status, s3.code(answer)) == (400, expected)
    answer = await s3("PUT", "/bucket/key", **chunked(b"data", {name: "x"}, sent={"a": "b"}))
    assert answer.status == 400
    both = chunked(b"data", {name: compute("CRC32", b"data")})
    both["headers"][header("SHA1")] = compute("SHA1", b"data")
    answer = await s3("PUT", "/bucket/key", **both)
    assert s3.code(answer) == "InvalidRequest"
    assert s3.objects.snapshot()["bucket"][1] == {}


async def test_announcements_that_do_not_fit(s3, bucket):
    crc, sha = compute("CRC32", b"data"), compute("SHA1", b"data")
    for headers in (
        {header("CRC32"): crc, header("SHA1"): sha},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-sdk-checksum-algorithm": "SHA1", header("CRC32"): crc},
        {"x-amz-sdk-checksum-algorithm": "nonsense", header("CRC32"): crc},
    ):
        refused = await s3.refused("PUT", "/bucket/key", body=b"data", headers=headers)
        assert refused == (400, "InvalidRequest"), headers


def part(number, data, name):
    return PartInfo(
        number=number,
        size=len(data),
        etag=hashlib.md5(data).hexdigest(),
        modified_ms=0,
        checksums={name: compute(name, data)},
    )


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_crcs_combine(pieces):
    whole = b"".join(pieces)
    for name in ("CRC32", "CRC32C", "CRC64NVME"):
        parts = [part(number, piece, name) for number, piece in enumerate(pieces, 1)]
        digests = multipart_digests(parts, ALGORITHMS[name], FULL_OBJECT, None)
        assert digests.checksums == {name: compute(name, whole)}
    assert compute("CRC32", whole) == base64.b64encode(zlib.crc32(whole).to_bytes(4)).decode()


PIECES = [b"a" * 16, b"b" * 17, b"c"]


async def create(s3, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await s3("POST", "/bucket/key?uploads", headers=names)


async def upload(s3, name, kind, send=True):
    answer = await create(s3, x_amz_checksum_algorithm=name, x_amz_checksum_type=kind)
    assert answer.headers["x-amz-checksum-algorithm"] == name
    assert answer.headers["x-amz-checksum-type"] == kind
    number = answer.text.split("<UploadId>")[1].split("<")[0]
    inner = ""
    for at, piece in enumerate(PIECES, 1):
        value = compute(name, piece)
        answer = await s3.put(
            f"/bucket/key?partNumber={at}&uploadId={number}",
            piece,
            {header(name): value} if send else (),
        )
        assert answer.headers[header(name)] == value
        inner += (
            f"<Part><Checksum{name}>{value}</Checksum{name}><PartNumber>{at}</PartNumber>"
            f"<ETag>{answer.headers['etag']}</ETag></Part>"
        )
    document = await s3.document(f"/bucket/key?uploadId={number}")
    assert document.one("ChecksumAlgorithm") == name
    assert document.one("ChecksumType") == kind
    assert document.all(f"Part/Checksum{name}") == [compute(name, piece) for piece in PIECES]
    return number, f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


KINDS = [(name, kind) for name, algorithm in ALGORITHMS.items() for kind in algorithm.types]


def whole_of(name, kind):
    if kind == FULL_OBJECT:
        return compute(name, b"".join(PIECES))
    raw = b"".join(base64.b64decode(compute(name, piece)) for piece in PIECES)
    return f"{compute(name, raw)}-{len(PIECES)}"


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize("send", [True, False])
async def test_multipart(s3, bucket, name, kind, send):
    number, body = await upload(s3, name, kind, send)
    expected = whole_of(name, kind)
    headers = {header(name): expected, "x-amz-checksum-type": kind}
    document = await s3.document(
        f"/bucket/key?uploadId={number}", "POST", body=body, headers=headers
    )
    assert document.one(f"Checksum{name}") == expected
    assert document.one("ChecksumType") == kind
    head = await s3("HEAD", "/bucket/key", headers={"x-amz-checksum-mode": "ENABLED"})
    assert head.headers[header(name)] == expected
    assert head.headers["x-amz-checksum-type"] == kind


@pytest.mark.parametrize(("name", "kind"), KINDS)
async def test_multipart_mismatches(s3, bucket, name, kind):
    number, body = await upload(s3, name, kind)
    path = f"/bucket/key?uploadId={number}"
    other = {"CRC32": "SHA1"}.get(name, "CRC32")
    for headers, expected in (
        ({header(name): compute(name, b"else")}, "BadDigest"),
        ({header(name): "nonsense"}, "BadDigest"),
        ({header(name): compute(name, b"else") + "-x"}, "BadDigest"),
        (
            {"x-amz-checksum-type": COMPOSITE if kind == FULL_OBJECT else FULL_OBJECT},
            "InvalidRequest",
        ),
    ):
        refused = await s3.refused("POST", path, body=body, headers=headers)
        assert refused == (400, expected), headers
    wrong = body.replace(compute(name, PIECES[0]).encode(), compute(name, b"else").encode())
    assert await s3.refused("POST", path, body=wrong) == (400, "InvalidPart")
    refused = await s3.refused(
        "PUT",
        f"/bucket/key?partNumber=1&uploadId={number}",
        body=b"data",
        headers={header(other): compute(other, b"data")},
    )
    assert refused == (400, "InvalidRequest")
    assert (await s3("POST", path, body=body)).status == 200


async def test_types_that_do_not_exist(s3, bucket):
    for headers in (
        {"x_amz_checksum_algorithm": "SHA1", "x_amz_checksum_type": "FULL_OBJECT"},
        {"x_amz_checksum_algorithm": "CRC64NVME", "x_amz_checksum_type": "COMPOSITE"},
        {"x_amz_checksum_algorithm": "CRC32", "x_amz_checksum_type": "HALF"},
        {"x_amz_checksum_type": "FULL_OBJECT"},
        {"x_amz_checksum_algorithm": "MD5"},
    ):
        answer = await create(s3, **headers)
        assert s3.code(answer) == "InvalidRequest"


async def test_default_types(s3, bucket):
    for name, kind in (("CRC32", COMPOSITE), ("SHA256", COMPOSITE), ("CRC64NVME", FULL_OBJECT)):
        answer = await create(s3, x_amz_checksum_algorithm=name)
        assert answer.headers["x-amz-checksum-type"] == kind
