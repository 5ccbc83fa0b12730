"""Encryption through the whole front end: what is asked for, answered and refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

SSE = "x-amz-server-side-encryption"
KEY_ID = SSE + "-aws-kms-key-id"
MINE, OTHER = bytes(range(32)), bytes(range(1, 33))
DATA = bytes(range(256)) * 10
SOURCE = "x-amz-copy-source"


def customer(key=MINE, prefix=SSE):
    return {
        prefix + "-customer-algorithm": "AES256",
        prefix + "-customer-key": base64.b64encode(key).decode(),
        prefix + "-customer-key-md5": md5_of(key),
    }


def source_key(key=MINE):
    return customer(key, "x-amz-copy-source-server-side-encryption")


def md5_of(key):
    return base64.b64encode(hashlib.md5(key).digest()).decode()


def said(answer):
    """What an answer says about encryption."""
    return {name: value for name, value in answer.headers.items() if name.startswith(SSE)}


WAYS = pytest.mark.parametrize(
    ("asked", "told", "reading"),
    [
        ({SSE: "AES256"}, {SSE: "AES256"}, {}),
        (
            {SSE: "aws:kms", KEY_ID: "default"},
            {SSE: "aws:kms", KEY_ID: "default"},
            {},
        ),
        (
            {SSE: "aws:kms:dsse", KEY_ID: "default", SSE + "-bucket-key-enabled": "true"},
            {SSE: "aws:kms:dsse", KEY_ID: "default", SSE + "-bucket-key-enabled": "true"},
            {},
        ),
        (
            customer(),
            {SSE + "-customer-algorithm": "AES256", SSE + "-customer-key-md5": md5_of(MINE)},
            customer(),
        ),
    ],
    ids=["SSE-S3", "SSE-KMS", "DSSE-KMS", "SSE-C"],
)


@WAYS
async def test_an_object_says_how_it_is_encrypted(s3, bucket, asked, told, reading):
    put = await s3.put("/bucket/key", DATA, asked)
    assert said(put) == told
    assert put.headers["etag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    for method in ("GET", "HEAD"):
        answer = await s3(method, "/bucket/key", headers=reading)
        assert (answer.status, said(answer)) == (200, told)
    answer = await s3("GET", "/bucket/key", headers={**reading, "range": "bytes=100-299"})
    assert (answer.status, answer.body, said(answer)) == (206, DATA[100:300], told)
    plain = await s3.put("/bucket/plain", DATA)
    assert said(plain) == {}


@WAYS
async def test_an_upload_says_so_at_each_step(s3, bucket, asked, told, reading):
    begun = await s3("POST", "/bucket/key?uploads", headers=asked)
    assert (begun.status, said(begun)) == (200, told)
    upload = begun.body.split(b"<UploadId>")[1].split(b"<")[0].decode()
    parts = ""
    for number in (1, 2):
        path = f"/bucket/key?partNumber={number}&uploadId={upload}"
        # What the upload was begun with may be said again, and means nothing here.
        answer = await s3.put(path, DATA, asked)
        assert said(answer) == told
        etag = answer.headers["etag"]
        parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    done = await s3("POST", f"/bucket/key?uploadId={upload}", headers=asked, body=body)
    assert (done.status, said(done)) == (200, told)
    answer = await s3("GET", "/bucket/key", headers=reading)
    assert (answer.body, said(answer)) == (DATA * 2, told)


@WAYS
async def test_a_copy_says_how_it_is_encrypted_itself(s3, bucket, asked, told, reading):
    await s3.put("/bucket/key", DATA, customer(OTHER))
    headers = {SOURCE: "bucket/key", **source_key(OTHER), **asked}
    answer = await s3("PUT", "/bucket/copy", headers=headers)
    assert (answer.status, said(answer)) == (200, told)
    answer = await s3("GET", "/bucket/copy", headers=reading)
    assert (answer.body, said(answer)) == (DATA, told)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, customer(OTHER)])
async def test_without_the_customers_key_nothing_is_told(s3, bucket, method, headers):
    await s3.put("/bucket/key", DATA, customer())
    answer = await s3(method, "/bucket/key", headers=headers)
    assert answer.status == 400
    assert DATA not in answer.body


async def test_a_part_that_is_not_there_needs_no_key(s3, bucket):
    await s3.put("/bucket/key", DATA, customer())
    assert await s3.refused("GET", "/bucket/key?partNumber=2") == (400, "InvalidPart")
    assert await s3.refused("GET", "/bucket/key?partNumber=1") == (400, "InvalidRequest")


@pytest.mark.parametrize("headers", [{}, source_key(OTHER)])
async def test_a_copy_needs_the_sources_key(s3, bucket, headers):
    await s3.put("/bucket/key", DATA, customer())
    headers = {SOURCE: "bucket/key", **headers}
    assert await s3.refused("PUT", "/bucket/copy", headers=headers) == (400, "InvalidRequest")
    assert (await s3("HEAD", "/bucket/copy")).status == 404


@pytest.mark.parametrize("headers", [{}, customer(OTHER)])
async def test_a_part_needs_the_customers_key(s3, bucket, headers):
    begun = await s3("POST", "/bucket/key?uploads", headers=customer())
    upload = begun.body.split(b"<UploadId>")[1].split(b"<")[0].decode()
    await s3.put("/bucket/plain", DATA)
    path = f"/bucket/key?partNumber=1&uploadId={upload}"
    assert (await s3.refused("PUT", path, body=DATA, headers=headers))[0] == 400
    headers = {SOURCE: "bucket/plain", **headers}
    assert (await s3.refused("PUT", path, headers=headers))[0] == 400
    answer = await s3("PUT", path, headers={SOURCE: "bucket/plain", **customer()})
    assert answer.status == 200
    assert said(answer)[SSE + "-customer-key-md5"] == md5_of(MINE)


@pytest.mark.parametrize(
    "headers",
    [{SSE: "AES256"}, {SSE: "aws:kms"}, {SSE: "aws:kms", KEY_ID: "default"}, customer()],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reads_of_others_are_told_of_their_mistake(s3, bucket, method, headers):
    await s3.put("/bucket/key", DATA)
    assert (await s3(method, "/bucket/key", headers=headers)).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {SSE: "AES192"},
        {SSE: "AES256", KEY_ID: "default"},
        {KEY_ID: "default"},
        {**customer(), SSE: "AES256"},
        {**customer(), SSE + "-customer-key-md5": md5_of(OTHER)},
    ],
)
async def test_what_contradicts_itself_is_refused(s3, bucket, headers):
    for method, path in (("PUT", "/bucket/key"), ("POST", "/bucket/key?uploads")):
        assert await s3.refused(method, path, headers=headers) == (400, "InvalidArgument")
    assert (await s3("HEAD", "/bucket/key")).status == 404


async def test_a_customers_key_is_never_said_again(s3, bucket):
    key = base64.b64encode(MINE).decode()
    answers = [
        await s3("PUT", "/bucket/key", body=DATA, headers=customer()),
        await s3("GET", "/bucket/key", headers=customer()),
        await s3("PUT", "/bucket/key", headers=customer() | {SSE: "AES256"}),
        await s3("GET", "/bucket/key", headers=customer() | {SSE + "-customer-key-md5": "x"}),
    ]
    for answer in answers:
        assert key not in str(answer.headers)
        assert key.encode() not in answer.body
