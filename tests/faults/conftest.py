"""Real servers in processes of their own, real files, real sockets."""

from __future__ import annotations

import hashlib
import os
import random
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from objectio.testing.census import take_census
from objectio.testing.cluster import LocalServer

BUCKET = "faults"
HERE = Path(__file__).parent
# What these tests drive and ask: the S3 API, metadata that a crash leaves, and numbers.
NEEDED = ("objectio_api_s3", "objectio_kv_lmdb", "objectio_metrics_prometheus")


def pytest_collection_modifyitems(items):
    """The kernel's tests pass without any plugin; these need some."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        mark = pytest.mark.skip(reason=f"not installed: {', '.join(missing)}")
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(mark)


@pytest.fixture
def seed():
    """OBJECTIO_TEST_SEED, or always the same. Printed, so that a failure can be tried again."""
    number = int(os.environ.get("OBJECTIO_TEST_SEED", "20"))
    print(f"OBJECTIO_TEST_SEED={number}")
    return number


@pytest.fixture
def rng(seed):
    return random.Random(seed)


class Store:
    """A server and an S3 client that never tries again by itself, with what tests ask of them."""

    bucket = BUCKET

    def __init__(self, server):
        self.server = server
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.s3 = boto3.client(
                "s3",
                **server.s3_settings(),
                config=Config(
                    signature_version="s3v4",
                    retries={"total_max_attempts": 1},
                    max_pool_connections=64,
                    connect_timeout=10,
                    read_timeout=60,
                ),
            )

    def make_bucket(self):
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, key, data, **more):
        return self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, **more)

    def get(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def delete(self, key):
        self.s3.delete_object(Bucket=BUCKET, Key=key)

    def keys(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def abort_uploads(self):
        """Returns how many there were."""
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        uploads = [each for page in pages for each in page.get("Uploads", [])]
        for each in uploads:
            self.s3.abort_multipart_upload(
                Bucket=BUCKET, Key=each["Key"], UploadId=each["UploadId"]
            )
        return len(uploads)

    def wait_collected(self, seconds_max=30):
        backlogs = ("objectio_store_ended_uploads", "objectio_store_garbage_backlog")
        eventually(lambda: not any(self.server.metric(name) for name in backlogs), seconds_max)

    def wait_repaired(self, seconds_max=60):
        eventually(lambda: self.server.metric("objectio_store_repair_backlog") == 0, seconds_max)

    def close(self):
        self.s3.close()


class Objects:
    """What must be in a store: contents by key, checked by SHA-256."""

    def __init__(self, store):
        self.store = store
        self.digests = {}

    def put(self, key, data):
        self.store.put(key, data)
        self.digests[key] = hashlib.sha256(data).digest()

    def delete(self, key):
        self.store.delete(key)
        del self.digests[key]

    def check_some(self, rng, count):
        for key in rng.sample(sorted(self.digests), count):
            assert hashlib.sha256(self.store.get(key)).digest() == self.digests[key], key

    def check(self):
        for key, digest in self.digests.items():
            assert hashlib.sha256(self.store.get(key)).digest() == digest, key
        assert self.store.keys() == sorted(self.digests)


def eventually(ask, seconds_max=30, what=""):
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds_max
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not in {seconds_max} s: {what or ask}"
        time.sleep(0.02)
    return answer


def error_of(call, *args, **kwargs):
    """(status, code) of the S3 error that a call ends with."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.fixture(name="eventually")
def _eventually():
    return eventually


@pytest.fixture(name="error_of")
def _error_of():
    return error_of


@pytest.fixture
def make_server(tmp_path):
    """Makes servers that are not started yet; all are ended with the test."""
    servers = []

    def make(name="data", **options):
        server = LocalServer(tmp_path / name, **options)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def open_store(make_server):
    """Starts a server with a bucket and returns its `Store`."""
    stores = []

    def open_(name="data", **options):
        server = make_server(name, **options)
        server.start()
        stores.append(Store(server))
        stores[-1].make_bucket()
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def store_of():
    return Store


@pytest.fixture
def objects_of():
    return Objects


@pytest.fixture
def assert_clean():
    """Stop a store's server, and let nothing be missing or left over on its disks."""

    def check(store, seconds_max=30):
        store.wait_repaired()  # what a full disk refused is tried again, after a while
        store.wait_collected(seconds_max)
        store.server.stop()
        census = take_census(store.server.data_dir)
        assert not census.problems, "\n".join(census.problems[:20])
        return census

    return check


@pytest.fixture
def blob_of_bytes(rng):
    """Bytes that differ from call to call, and cost little to make."""
    base = rng.randbytes(16 << 20)

    def make(size):
        begin = rng.randrange(len(base) - size + 1)
        head = rng.randbytes(16)
        return (head + base[begin : begin + size])[:size]

    return make
