"""Real servers in processes of their own, real files, real sockets."""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from objectio.testing import shapes
from objectio.testing.census import take_census

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


def connect(server, endpoint=None):
    """An S3 client that never tries again by itself."""
    where = server.s3_settings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return boto3.client(
            "s3",
            **{**where, "endpoint_url": endpoint or where["endpoint_url"]},
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                max_pool_connections=64,
                connect_timeout=10,
                read_timeout=60,
            ),
        )


class Store:
    """A server and its bucket, with what tests ask of them. Where there are several gateways, calls
    go to them in turns."""

    def __init__(self, server, bucket=BUCKET):
        self.server = server
        self.bucket = bucket
        self.s3 = shapes.Spread([connect(server, each) for each in server.client_endpoints])

    def make_bucket(self):
        self.s3.create_bucket(Bucket=self.bucket)

    def put(self, key, data, **more):
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, **more)

    def get(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def abort_uploads(self):
        """Returns how many there were."""
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        uploads = [each for page in pages for each in page.get("Uploads", [])]
        for each in uploads:
            self.s3.abort_multipart_upload(
                Bucket=self.bucket, Key=each["Key"], UploadId=each["UploadId"]
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


@pytest.fixture(scope="session")
def shape():
    """One process, many workers or separate roles: see `objectio.testing.shapes`."""
    return shapes.shape_wanted()


@pytest.fixture
def one_process(shape):
    """For tests of what holds in one process only."""
    if shape != "one":
        pytest.skip("counts what one process says, or does")


@pytest.fixture
def make_server(tmp_path, shape):
    """Makes servers that are not started yet; all are ended with the test."""
    servers = []

    def make(name="data", **options):
        server = shapes.make_server(tmp_path / name, shape=shape, **options)
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module")
def shared_settings():
    return {}


@pytest.fixture(scope="module")
def shared_disks():
    return 6


@pytest.fixture(scope="module")
def shared_server(shape, shared_settings, shared_disks, tmp_path_factory, assert_clean):
    """One server for all tests of a module, which are clean only if all of them are."""
    where = tmp_path_factory.mktemp(shape) / "data"
    options = {"settings": shared_settings, "disks": shared_disks}
    with shapes.make_server(where, shape=shape, **options) as server:
        yield server
        store = Store(server)
        assert_clean(store)
        store.close()


@pytest.fixture
def shared_store(shared_server, request):
    """A bucket of its own for each test."""
    store = Store(
        shared_server, re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    )
    store.make_bucket()
    yield store
    store.close()


@pytest.fixture
def blob_of_bytes(rng):
    """Bytes that differ from call to call, and cost little to make."""
    base = rng.randbytes(16 << 20)

    def make(size):
        begin = rng.randrange(len(base) - size + 1)
        head = rng.randbytes(16)
        return (head + base[begin : begin + size])[:size]

    return make
