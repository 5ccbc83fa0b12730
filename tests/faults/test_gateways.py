"""Races that only several gateways can have: each client knows which one it talks to.

Where gateways share a port, a client that has one connection stays with whoever took it; one that needs
more of them has several with each.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from objectio.cli.client import Client, find_keys
from objectio.testing.load import HalfSent, Load

SETTINGS = {
    "osd.check_seconds": "0.2",
    "store.repair_interval_seconds": "0.5",
    "store.part_size_bytes_min": "1",
    "pool.placement_groups": "64",
}
WRITERS = 32


@pytest.fixture(scope="module", params=["roles", pytest.param("workers", marks=pytest.mark.slow)])
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def shared_settings():
    return SETTINGS


@pytest.fixture(scope="module")
def shared_disks():
    """One more than 4+2 needs, so that one can be drained."""
    return 7


@pytest.fixture
def store(shared_store):
    """What it holds is counted on its disks when the last test is over."""
    return shared_store


@pytest.fixture
def gateways(store):
    """A client of each of two; an answer tells which process gave it."""
    found = {}
    for s3 in store.s3.clients:
        answer = s3.list_buckets()["ResponseMetadata"]
        found.setdefault(answer["HostId"], s3)
    return [*found.values(), *store.s3.clients][:2]


def status_of(call, **arguments):
    """200, or the status and code of the refusal."""
    try:
        call(**arguments)
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


def read(s3, **where):
    """The bytes, or None if there is no such object."""
    try:
        return s3.get_object(**where)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def keys_of(s3, bucket, **options):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


# One of many wins.


@pytest.mark.parametrize("size", [100, 100_000])
def test_one_of_many_creates_and_one_of_many_replaces(store, gateways, blob_of_bytes, size):
    """Every gateway reads at once what the winner was told."""
    where = {"Bucket": store.bucket, "Key": "key"}
    conditions = {"IfNoneMatch": "*"}
    for _ in range(6):
        bodies = [blob_of_bytes(size) for _ in range(WRITERS)]
        writes = [
            lambda s3=s3, body=body, conditions=conditions: status_of(
                s3.put_object, Body=body, **where, **conditions
            )
            for body, s3 in zip(bodies, itertools.cycle(gateways), strict=False)
        ]
        answers = at_once(writes)
        assert answers.count(200) == 1, answers
        assert set(answers) == {200, (412, "PreconditionFailed")}
        won = bodies[answers.index(200)]
        assert [read(s3, **where) for s3 in gateways] == [won] * len(gateways)
        conditions = {"IfMatch": gateways[0].head_object(**where)["ETag"]}


def test_conditions_hold_between_a_delete_and_a_put(store, gateways):
    """A key is deleted through one gateway and created through another, in turns: whoever is told
    that it created the key made it where there was none."""
    where = {"Bucket": store.bucket, "Key": "key"}
    created = deleted = 0
    for turn in range(30):
        one, other = gateways if turn % 2 else gateways[::-1]
        was_there = read(one, **where) is not None
        put, _ = at_once(
            [
                lambda one=one: status_of(one.put_object, Body=b"x", IfNoneMatch="*", **where),
                lambda other=other: status_of(other.delete_object, **where),
            ]
        )
        is_there = read(other, **where) is not None
        assert put in (200, (412, "PreconditionFailed"))
        if put != 200:
            assert was_there
            assert not is_there
            deleted += 1
        else:
            assert is_there or not was_there
            created += 1
    assert created
    assert deleted


def upload(s3, bucket, key, pieces):
    where = {"Bucket": bucket, "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=piece, **where)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]
    return where, {"Parts": parts}


@pytest.mark.parametrize("rival", ["complete", "abort"])
def test_an_upload_is_ended_once(store, gateways, blob_of_bytes, rival):
    """By a completion on one gateway, and a completion or an abort on another at the same time. To
    complete again what was completed is no error."""
    completed = []
    for turn in range(12):
        one, other = gateways if turn % 2 else gateways[::-1]
        pieces = [blob_of_bytes(60_000), blob_of_bytes(100)]
        where, parts = upload(one, store.bucket, f"key{turn}", pieces)
        calls = [
            lambda where=where, parts=parts, one=one: status_of(
                one.complete_multipart_upload, MultipartUpload=parts, **where
            ),
            lambda where=where, parts=parts, other=other: (
                status_of(other.abort_multipart_upload, **where)
                if rival == "abort"
                else status_of(other.complete_multipart_upload, MultipartUpload=parts, **where)
            ),
        ]
        answers = at_once(calls)
        other_answer = (404, "NoSuchUpload") if rival == "abort" else 200
        assert sorted(answers, key=str) == sorted([other_answer, 200], key=str), answers
        wanted = b"".join(pieces) if rival == "complete" or answers[0] == 200 else None
        for s3 in gateways:
            assert read(s3, Bucket=store.bucket, Key=f"key{turn}") == wanted
        if wanted is not None:
            completed.append(f"key{turn}")
    assert store.keys() == sorted(completed)
    assert store.abort_uploads() == 0


# What one gateway has acknowledged, every other shows.


def test_what_one_acknowledged_the_other_shows_at_once(store, seed):
    """Every client goes from gateway to gateway with each call, on keys of its own: contents and
    listings are always those of its last write."""
    load = Load(store.s3.clients, store.bucket, seed=seed, workers=8, part_size_bytes=60_000)
    with load:
        time.sleep(3)  # for as long as clients work
    assert not [call for call in load.calls if call.error]
    assert len(load.calls) > 100
    load.verify()


class Register:
    """One key as clients of several gateways saw it: puts, deletes and reads, each with the times
    between which it happened. A version is the digest of a body; None is that of no object."""

    def __init__(self):
        self.changes = [(0.0, 0.0, None)]
        self.reads = []

    def check(self):
        for began, ended, version in self.reads:
            assert any(
                self._may_be_read(change, began, ended)
                for change in [*self.changes]
                if change[2] == version
            ), f"{version and version.hex()} was read, which was not there at any time of the read"

    def _may_be_read(self, change, began, ended):
        """It was begun before the read ended, and no other change came wholly between the two."""
        return change[0] < ended and not any(
            other[0] > change[1] and other[1] < began for other in self.changes
        )


def test_contested_keys_are_registers(store, gateways, blob_of_bytes, seed):
    """Puts, deletes and reads of the same few keys through all gateways: what is read is one whole
    version, and one that was there while it was read."""
    registers = {f"key{n}": Register() for n in range(4)}
    until = time.monotonic() + 4

    def change(worker):
        rng, s3 = random.Random(f"{seed}:{worker}"), gateways[worker % len(gateways)]
        while time.monotonic() < until:
            where = {"Bucket": store.bucket, "Key": rng.choice([*registers])}
            began, version = time.monotonic(), None
            if rng.randrange(3):
                body = blob_of_bytes(rng.choice((50, 30_000, 400_000)))
                version = hashlib.sha256(body).digest()
                s3.put_object(Body=body, **where)
            else:
                s3.delete_object(**where)
            registers[where["Key"]].changes.append((began, time.monotonic(), version))

    def look(worker):
        rng, s3 = random.Random(f"{seed}:{worker}"), gateways[worker % len(gateways)]
        while time.monotonic() < until:
            key = rng.choice([*registers])
            began = time.monotonic()
            body = read(s3, Bucket=store.bucket, Key=key)
            version = None if body is None else hashlib.sha256(body).digest()
            registers[key].reads.append((began, time.monotonic(), version))

    with ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(change, n) for n in range(4)] + [pool.submit(look, n) for n in range(6)]
        for job in jobs:
            job.result(60)
    for register in registers.values():
        assert len({version for _, _, version in register.reads}) > 3
        register.check()


def test_pages_of_a_listing_while_keys_come_and_go(store, gateways, seed):
    """Each page from another gateway than the one before. What is there all the time is listed once,
    in order; of the rest nobody can say."""
    steady = [f"{n:03d}/steady" for n in range(40)]
    for key in steady:
        store.put(key, b"x")
    stop = threading.Event()

    def come_and_go(worker):
        rng, s3 = random.Random(f"{seed}:{worker}"), gateways[worker % len(gateways)]
        while not stop.is_set():
            key = f"{rng.randrange(40):03d}/{worker}-{rng.randrange(5)}"
            s3.put_object(Bucket=store.bucket, Key=key, Body=b"y")
            if rng.randrange(2):
                s3.delete_object(Bucket=store.bucket, Key=key)

    def pages(turns):
        where = {"Bucket": store.bucket, "MaxKeys": 7}
        while True:
            answer = gateways[next(turns) % len(gateways)].list_objects_v2(**where)
            yield [entry["Key"] for entry in answer.get("Contents", [])]
            if not answer["IsTruncated"]:
                return
            where["ContinuationToken"] = answer["NextContinuationToken"]

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(come_and_go, n) for n in range(4)]
        try:
            for turn in range(8):
                listed = [key for page in pages(itertools.count(turn)) for key in page]
                assert listed == sorted(set(listed))
                assert [key for key in listed if key.endswith("steady")] == steady
        finally:
            stop.set()
        for job in jobs:
            job.result(60)
    assert keys_of(gateways[0], store.bucket) == keys_of(gateways[1], store.bucket)


def test_a_bucket_is_deleted_on_one_gateway_while_another_puts(store, gateways):
    """A bucket that is gone has no objects, and none comes back with the next of that name."""
    one, other = gateways
    outcomes = set()
    for turn in range(25):
        status_of(one.create_bucket, Bucket="fleeting")
        puts = [
            lambda n=n: status_of(other.put_object, Bucket="fleeting", Key=f"{n}", Body=b"x")
            for n in range(3)
        ]
        deleted, *put = at_once([lambda: status_of(one.delete_bucket, Bucket="fleeting"), *puts])
        outcomes.add(deleted)
        if deleted == 200:
            assert set(put) == {(404, "NoSuchBucket")}, turn
            assert status_of(other.head_bucket, Bucket="fleeting") != 200
            assert status_of(other.create_bucket, Bucket="fleeting") == 200
            assert keys_of(one, "fleeting") == []
        else:
            assert deleted == (409, "BucketNotEmpty")
            there = [f"{n}" for n in range(3) if put[n] == 200]
            assert keys_of(one, "fleeting") == there
            for key in there:
                other.delete_object(Bucket="fleeting", Key=key)
        assert status_of(one.delete_bucket, Bucket="fleeting") == 200
    assert outcomes <= {200, (409, "BucketNotEmpty")}


# What is being read on one gateway, another may delete; what moves meanwhile is not lost.


def test_what_one_gateway_reads_another_deletes(store, gateways, blob_of_bytes, eventually):
    """The reader gets all of it, long after; then it is collected."""
    one, other = gateways
    body = blob_of_bytes(15 << 20) * 4
    where = {"Bucket": store.bucket, "Key": "key"}
    one.put_object(Body=body, **where)
    reading = one.get_object(**where)["Body"]
    first = reading.read(100_000)
    other.put_object(Body=b"another", **where)
    other.delete_object(**where)
    assert read(one, **where) is None
    for number in range(10):  # work for the collector, which comes by what is read
        for key in (f"other{number}", f"other{number}"):
            other.put_object(Bucket=store.bucket, Key=key, Body=blob_of_bytes(100_000))
    backlog = "objectio_store_garbage_backlog"
    eventually(lambda: store.server.metric(backlog) == 1, what="all but what is read is collected")
    assert first + reading.read() == body
    store.wait_collected()


def operator(server):
    where = getattr(server, "meta_endpoint", server.endpoint)
    return Client(where, find_keys(server.data_dir, {}))


def order(server, what, osd):
    return operator(server).post(f"/disks/{osd}/{what}")


def disk(server, osd):
    return operator(server).get(f"/disks/{osd}")


def test_a_disk_is_drained_and_comes_back_under_load(
    store, gateways, seed, blob_of_bytes, eventually
):
    """Nothing fails meanwhile, neither what is quick nor what slow clients write. The census after
    the last test finds nothing missing, and nothing left over."""
    server = store.server
    load = Load(gateways, store.bucket, seed=seed, part_size_bytes=60_000)
    bodies = {f"slow/{number}": blob_of_bytes(12 << 20) for number in range(4)}

    def begin():
        return [
            HalfSent(s3, store.bucket, key, body)
            for (key, body), s3 in zip(bodies.items(), itertools.cycle(gateways), strict=False)
        ]

    with load:
        load.wait_served(0.5, 30)
        slow = begin()
        order(server, "drain", 2)
        time.sleep(3)  # groups move, and what is left behind is swept, while the clients are slow
        assert [each.finish() for each in slow] == [200] * len(slow)
        eventually(lambda: disk(server, 2)["groups"] == disk(server, 2)["shards"] == 0, 60, "empty")
        load.check()
        slow = begin()
        order(server, "undrain", 2)
        eventually(lambda: disk(server, 2)["groups"] > 0, 60, "it has groups again")
        assert [each.finish() for each in slow] == [200] * len(slow)
        eventually(lambda: server.metric("objectio_store_rebalance_backlog") == 0, 60, "all moved")
    assert not [call for call in load.calls if call.error]
    load.verify()
    for s3 in gateways:
        for key, body in bodies.items():
            assert read(s3, Bucket=store.bucket, Key=key) == body
    store.wait_collected()
