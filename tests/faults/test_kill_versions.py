"""kill -9 at random moments while versions are made and taken away: each change happened or did not."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import botocore.exceptions

ROUNDS = 5
WORKERS = 4
LOST = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ResponseStreamingError,
)
PART = 5 << 20


class Worker:
    """A client with keys of its own. `there` holds digests by key and version id, None for a delete
    marker; `going` are those of them whose removal has no answer yet."""

    def __init__(self, store, number, seed):
        self.store = store
        self.rng = random.Random(f"{seed}:{number}")
        self.prefix = f"{number}/"
        self.names = [f"{self.prefix}{n}" for n in range(3)]
        self.there = {}
        self.going = set()
        self.done = 0
        self.failure = None

    def run(self):
        try:
            while True:
                actions = [self.put] * 6 + [self.mark, self.take] * 3 + [self.upload, self.list]
                self.rng.choice(actions)()
                self.done += 1
        except LOST:
            return
        except BaseException as error:
            self.failure = error

    def put(self):
        name, data = self.rng.choice(self.names), self.rng.randbytes(self.rng.randrange(60_000))
        answer = self.store.put(name, data)
        self.there[name, answer["VersionId"]] = hashlib.sha256(data).digest()

    def mark(self):
        name = self.rng.choice(self.names)
        answer = self.store.s3.delete_object(Bucket=self.store.bucket, Key=name)
        assert answer["DeleteMarker"] is True
        self.there[name, answer["VersionId"]] = None

    def upload(self):
        name, s3 = self.rng.choice(self.names), self.store.s3
        where = {"Bucket": self.store.bucket, "Key": name}
        where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
        data = self.rng.randbytes(PART + 1000)
        parts = [
            {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=piece, **where)["ETag"]}
            for n, piece in ((1, data[:PART]), (2, data[PART:]))
        ]
        answer = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)
        self.there[name, answer["VersionId"]] = hashlib.sha256(data).digest()

    def take(self):
        known = [each for each in self.there if each not in self.going]
        if not known:
            return
        which = self.rng.choice(known)
        self.going.add(which)
        self.store.s3.delete_object(Bucket=self.store.bucket, Key=which[0], VersionId=which[1])
        del self.there[which]
        self.going.discard(which)

    def listed(self):
        found, newest = {}, []
        pages = self.store.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.store.bucket, Prefix=self.prefix, PaginationConfig={"PageSize": 7}
        )
        for page in pages:
            for kind in ("Versions", "DeleteMarkers"):
                for each in page.get(kind, []):
                    found[each["Key"], each["VersionId"]] = kind
                    newest += [each["Key"]] * each["IsLatest"]
        assert sorted(newest) == sorted({name for name, _ in found})
        return found

    def list(self):
        found = self.listed()
        sure = {each for each in self.there if each not in self.going}
        assert sure <= found.keys()

    def verify(self):
        """After a restart: what was acknowledged is there, what nobody acknowledged may be."""
        self.list()
        found = self.listed()
        for which in self.going - found.keys():
            del self.there[which]
        self.going.clear()
        for (name, version_id), kind in found.items():
            digest = None
            if kind == "Versions":
                answer = self.store.s3.get_object(
                    Bucket=self.store.bucket, Key=name, VersionId=version_id
                )
                digest = hashlib.sha256(answer["Body"].read()).digest()
            assert self.there.setdefault((name, version_id), digest) == digest, name


def run_all(workers):
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    return threads


def test_kill_while_versions_come_and_go(open_store, seed, rng, assert_clean):
    store = open_store()
    store.s3.put_bucket_versioning(
        Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    workers = [Worker(store, number, seed) for number in range(WORKERS)]
    for turn in range(ROUNDS):
        threads = run_all(workers)
        time.sleep(rng.uniform(0.1, 1.0))  # the moment of the power cut
        store.server.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs on a dead server"
        for worker in workers:
            if worker.failure is not None:
                raise AssertionError(f"round {turn}") from worker.failure
        store.server.start()
        for worker in workers:
            worker.verify()
    assert sum(worker.done for worker in workers) > 10 * ROUNDS
    for worker in workers:
        for _ in range(len(worker.there) // 2):
            worker.take()
        worker.verify()
    store.abort_uploads()
    census = assert_clean(store)
    objects = [digest for worker in workers for digest in worker.there.values()]
    assert census.objects == sum(digest is not None for digest in objects)
