"""What the tests with a whole server share: starting servers, and talking S3 to them."""

from __future__ import annotations

import contextlib

import pytest

from objectio.testing.shapes import make_server


@pytest.fixture
def shape():
    """One process, unless the module is for others too: see `objectio.testing.shapes`."""
    return "one"


@pytest.fixture
def start(tmp_path, shape):
    """`start(**options)` of `LocalServer`: a started server, which is gone after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda data_dir=None, **options: stack.enter_context(
            make_server(data_dir or tmp_path / "data", shape=shape, **options)
        )


@pytest.fixture
def connect():
    """`connect(server, **config)`: boto3's S3 client as the root of the server; of a `LocalCluster`
    at `gateway`, 0 unless told otherwise."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    from botocore.config import Config

    with contextlib.ExitStack() as stack:

        def make(server, gateway=0, **config):
            settings = Config(retries={"max_attempts": 0}, **config)
            where = server.s3_settings(gateway) if gateway else server.s3_settings()
            client = boto3.client("s3", config=settings, **where)
            return stack.enter_context(contextlib.closing(client))

        yield make
