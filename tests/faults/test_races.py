"""Many clients, one key: in every shape that a store can have, clients spread over its gateways."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectio.testing.shapes import SHAPES

PART = 5 << 20


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def store(shared_store):
    """What it holds is counted on its disks when the last test is over."""
    return shared_store


def status_of(call, *args, **kwargs):
    """200, or the status and code of the refusal."""
    from botocore.exceptions import ClientError

    try:
        call(*args, **kwargs)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return 200


def at_once(calls):
    """Begin all of them at the same moment; their results in order."""
    gate = threading.Barrier(len(calls))

    def run(call):
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("size", [100, 100_000, 5_000_000])
def test_one_of_many_creates_a_key(store, blob_of_bytes, size):
    for turn in range(3):
        bodies = [blob_of_bytes(size) for _ in range(32)]
        answers = at_once(
            [
                lambda body=body, turn=turn: status_of(
                    store.put, f"key{turn}", body, IfNoneMatch="*"
                )
                for body in bodies
            ]
        )
        assert answers.count(200) == 1, answers
        assert set(answers) == {200, (412, "PreconditionFailed")}
        assert store.get(f"key{turn}") == bodies[answers.index(200)]
    assert len(store.keys()) == 3


def test_one_of_many_replaces_a_version(store, blob_of_bytes):
    etag = store.put("key", b"first")["ETag"]
    bodies = [blob_of_bytes(50_000) for _ in range(32)]
    answers = at_once(
        [lambda body=body: status_of(store.put, "key", body, IfMatch=etag) for body in bodies]
    )
    assert answers.count(200) == 1, answers
    assert store.get("key") == bodies[answers.index(200)]


@pytest.mark.parametrize("size", [20_000, 9_000_000])
def test_readers_of_a_key_that_is_overwritten_see_one_version(store, blob_of_bytes, size):
    """Never bytes of two versions, never a broken stream: what is being read is not taken away."""
    bodies = [blob_of_bytes(size + n) for n in range(8)]
    known = {hashlib.sha256(body).digest() for body in bodies}
    store.put("key", bodies[0])
    done = threading.Event()

    def write(body):
        for _ in range(4 if size > 1_000_000 else 40):
            store.put("key", body)

    def read():
        count = 0
        while not done.is_set():
            assert hashlib.sha256(store.get("key")).digest() in known
            count += 1
        return count

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read) for _ in range(6)]
        writers = [pool.submit(write, body) for body in bodies[:4]]
        try:
            for writer in writers:
                writer.result(120)
        finally:
            done.set()
        assert all(reader.result(60) > 3 for reader in readers)
    assert store.keys() == ["key"]


def test_a_slow_reader_keeps_its_version(store, blob_of_bytes):
    """Even if that was overwritten, deleted and collected long before it is read to the end."""
    data = blob_of_bytes(16_000_000)
    store.put("key", data)
    answer = store.s3.get_object(Bucket=store.bucket, Key="key")["Body"]
    first = answer.read(100_000)
    store.put("key", b"another")
    store.delete("key")
    for number in range(20):
        store.put(f"other/{number}", blob_of_bytes(1_000_000))
    assert first + answer.read() == data


def upload(store, key, pieces):
    s3, where = store.s3, {"Bucket": store.bucket, "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=piece, **where)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]
    return where, {"Parts": parts}


def test_complete_and_abort_at_once(store, blob_of_bytes):
    """One of them wins, the other finds no upload; no bytes stay behind. To complete again what was
    completed is no error."""
    pieces = [blob_of_bytes(PART), blob_of_bytes(100_000)]
    completed = 0
    for turn in range(8):
        where, parts = upload(store, f"key{turn}", pieces)
        answers = at_once(
            [lambda: status_of(store.s3.abort_multipart_upload, **where)]  # noqa: B023
            + [
                lambda: status_of(
                    store.s3.complete_multipart_upload,
                    MultipartUpload=parts,  # noqa: B023
                    **where,  # noqa: B023
                )
            ]
            * 2
        )
        lost = (404, "NoSuchUpload")
        assert answers in ([200, lost, lost], [lost, 200, 200])
        if answers[0] == 200:
            assert status_of(store.s3.head_object, Bucket=store.bucket, Key=f"key{turn}") != 200
        else:
            assert store.get(f"key{turn}") == b"".join(pieces)
            completed += 1
    assert store.abort_uploads() == 0
    assert len(store.keys()) == completed


def test_a_part_sent_again_while_the_upload_is_completed(store, blob_of_bytes):
    """The object is made of the parts that were named, or it is refused."""
    for turn in range(6):
        pieces = [blob_of_bytes(PART), blob_of_bytes(50_000)]
        where, parts = upload(store, f"key{turn}", pieces)
        again = blob_of_bytes(60_000)
        _, done = at_once(
            [
                lambda: status_of(store.s3.upload_part, PartNumber=2, Body=again, **where),  # noqa: B023
                lambda: status_of(
                    store.s3.complete_multipart_upload,
                    MultipartUpload=parts,  # noqa: B023
                    **where,  # noqa: B023
                ),
            ]
        )
        if done == 200:
            assert store.get(f"key{turn}") == b"".join(pieces)
        else:
            assert done == (400, "InvalidPart")
    store.abort_uploads()


def test_buckets_made_and_deleted_while_objects_are_put(store, eventually):
    """An object never ends up in a bucket that is not there: once the bucket is gone, so is it."""
    s3 = store.s3

    def make_and_delete():
        for _ in range(30):
            status_of(s3.create_bucket, Bucket="fleeting")
            status_of(s3.delete_bucket, Bucket="fleeting")

    def put():
        return [
            status_of(s3.put_object, Bucket="fleeting", Key=f"{n}", Body=b"x") for n in range(60)
        ]

    _, *answers = at_once([make_and_delete, put, put])
    for answer in {each for row in answers for each in row}:
        assert answer in (200, (404, "NoSuchBucket"))
    status_of(s3.create_bucket, Bucket="fleeting")
    listed = s3.list_objects_v2(Bucket="fleeting").get("Contents", [])
    for each in listed:
        assert s3.get_object(Bucket="fleeting", Key=each["Key"])["Body"].read() == b"x"
        s3.delete_object(Bucket="fleeting", Key=each["Key"])
    assert status_of(s3.delete_bucket, Bucket="fleeting") == 200
