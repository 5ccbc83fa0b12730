"""kill -9 at random moments under a mixed load: what was acknowledged is there, nothing leaks."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import botocore.exceptions
import pytest

WORKERS = 6
KEYS = 8
PART = 5 << 20
LOST = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ResponseStreamingError,
)


def digest(data):
    return None if data is None else hashlib.sha256(data).digest()


class Worker:
    """A client with keys of its own. `possible` holds, by key, the digests that may be read back;
    None stands for no object. More than one: the last call on the key had no answer."""

    def __init__(self, store, number, seed):
        self.store = store
        self.rng = random.Random(f"{seed}:{number}")
        self.base = self.rng.randbytes(12 << 20)
        self.prefix = f"{number}/"
        self.names = [f"{self.prefix}{n}" for n in range(KEYS)]
        self.possible = {name: {None} for name in self.names}
        self.done = 0
        self.failure = None

    def run(self):
        try:
            while True:
                self.step()
                self.done += 1
        except LOST:
            return
        except BaseException as error:
            self.failure = error

    def step(self):
        actions = [self.put_small] * 8 + [self.put_large, self.upload]
        actions += [self.delete, self.copy, self.list, self.get] * 2
        self.rng.choice(actions)()

    def data(self, size):
        begin = self.rng.randrange(len(self.base) - size + 1)
        return (self.rng.randbytes(16) + self.base[begin : begin + size])[:size]

    def change(self, name, outcome, call):
        """`call` makes `name` have the digest `outcome`: until it returns, perhaps."""
        self.possible[name] = self.possible[name] | {outcome}
        call()
        self.possible[name] = {outcome}

    def put_small(self):
        name, data = self.rng.choice(self.names), self.data(self.rng.randrange(100_000))
        self.change(name, digest(data), lambda: self.store.put(name, data))

    def put_large(self):
        name, data = self.rng.choice(self.names), self.data(self.rng.randrange(3 << 20, 10 << 20))
        self.change(name, digest(data), lambda: self.store.put(name, data))

    def delete(self):
        name = self.rng.choice(self.names)
        self.change(name, None, lambda: self.store.delete(name))

    def known(self):
        """(name, digest) of the objects that are certain."""
        rows = [(name, next(iter(each))) for name, each in self.possible.items() if len(each) == 1]
        return [(name, each) for name, each in rows if each is not None]

    def copy(self):
        if not (known := self.known()):
            return
        source, found = self.rng.choice(known)
        name = self.rng.choice([name for name in self.names if name != source])
        what = {"Bucket": self.store.bucket, "Key": source}
        self.change(
            name,
            found,
            lambda: self.store.s3.copy_object(Bucket=self.store.bucket, Key=name, CopySource=what),
        )

    def upload(self):
        s3, name = self.store.s3, self.rng.choice(self.names)
        pieces = [self.data(PART), self.data(self.rng.randrange(1, 200_000))]
        where = {"Bucket": self.store.bucket, "Key": name}
        where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
        parts = [
            {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=piece, **where)["ETag"]}
            for n, piece in enumerate(pieces, 1)
        ]
        self.change(
            name,
            digest(b"".join(pieces)),
            lambda: s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where),
        )

    def list(self):
        assert self.store.keys(self.prefix) == [name for name, _ in self.known()]

    def get(self):
        if known := self.known():
            name, found = self.rng.choice(known)
            assert digest(self.store.get(name)) == found, name

    def verify(self):
        """After a restart: everything reads back, and is known again."""
        for name in self.names:
            try:
                data = self.store.get(name)
            except self.store.s3.exceptions.NoSuchKey:
                data = None
            assert digest(data) in self.possible[name], f"{name}: not what was acknowledged"
            self.possible[name] = {digest(data)}
        self.list()


def run_all(workers, method):
    threads = [threading.Thread(target=getattr(worker, method)) for worker in workers]
    for thread in threads:
        thread.start()
    return threads


BUSY = {
    "osd.log.segment_bytes": str(4 << 20),
    "osd.log.checkpoint_seconds": "0.2",
    "osd.log.checkpoint_changes": "50",
    "osd.log.compact_live_share_max": "0.9",
}
"""Checkpoints, compaction and the reuse of log segments all the time."""


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        pytest.param({}, 7, id="few"),
        pytest.param({}, 25, id="many", marks=pytest.mark.slow),
        pytest.param(BUSY, 20, id="busy upkeep", marks=pytest.mark.slow),
    ],
)
def test_kill_at_random_moments(open_store, seed, rng, assert_clean, settings, rounds):
    store = open_store(settings=settings)
    workers = [Worker(store, number, seed) for number in range(WORKERS)]
    for turn in range(rounds):
        threads = run_all(workers, "run")
        time.sleep(rng.uniform(0.1, 1.2))  # the moment of the power cut
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
    assert sum(worker.done for worker in workers) > 10 * rounds
    for worker in workers:
        for name in worker.names[::2]:
            worker.change(name, None, lambda name=name: store.delete(name))
        worker.verify()
    store.abort_uploads()
    census = assert_clean(store)
    assert census.objects == sum(len(worker.known()) for worker in workers)
