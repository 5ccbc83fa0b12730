"""Quotas from the command line and through S3, with one gateway and with several."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from objectio.testing.shapes import SHAPES_SLOW

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


@pytest.fixture(params=SHAPES_SLOW)
def shape(request):
    return request.param


@pytest.fixture
def server(start):
    return start(settings={"store.quota_interval_seconds": "0.2"})


@pytest.fixture
def run(server):
    def run_(*words):
        where = ("-e", server.endpoint, "--data", str(server.data_dir), "-f", "json")
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *words, *where],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_


def until(ask):
    deadline = time.monotonic() + 30
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def refused(call, **arguments):
    """(status, code)"""
    from botocore.exceptions import ClientError

    try:
        call(**arguments)
    except ClientError as error:
        response = error.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
    return None


def test_of_a_bucket(server, run, connect):
    s3 = connect(server)
    s3.create_bucket(Bucket="full")
    s3.put_object(Bucket="full", Key="a", Body=bytes(600))
    assert run("bucket", "quota", "full")["bytes_max"] == 0
    assert run("bucket", "quota", "full", "--bytes", "1000", "--objects", "9")["bytes_max"] == 1000
    until(lambda: run("bucket", "quota", "full")["bytes"] == 600)
    no_room = {"Bucket": "full", "Key": "b", "Body": bytes(401)}
    until(lambda: refused(s3.put_object, **no_room) == (403, "QuotaExceeded"))
    s3.put_object(Bucket="full", Key="b", Body=bytes(400))
    until(lambda: run("bucket", "quota", "full")["objects"] == 2)
    until(lambda: refused(s3.put_object, Bucket="full", Key="c", Body=b"1"))
    s3.delete_object(Bucket="full", Key="a")
    until(lambda: not refused(s3.put_object, Bucket="full", Key="c", Body=b"1"))
    assert run("bucket", "quota", "full", "--none")["bytes_max"] == 0
    until(lambda: not refused(s3.put_object, Bucket="full", Key="d", Body=bytes(5000)))


def test_of_an_account(server, run, connect):
    s3 = connect(server)
    for name in ("one-bucket", "two-bucket"):
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="a", Body=bytes(300))
    said = run("account", "quota", "000000000000", "--bytes", "1000")
    assert (said["bytes_max"], said["objects_max"]) == (1000, 0)
    until(lambda: run("account", "quota", "000000000000")["bytes"] == 600)
    no_room = {"Bucket": "two-bucket", "Key": "b", "Body": bytes(401)}
    until(lambda: refused(s3.put_object, **no_room) == (403, "QuotaExceeded"))
    s3.delete_object(Bucket="two-bucket", Key="b")  # put before gateways knew of the quota
    until(lambda: not refused(s3.put_object, Bucket="one-bucket", Key="b", Body=bytes(400)))
    until(lambda: refused(s3.put_object, Bucket="two-bucket", Key="c", Body=b"1"))
    assert run("account", "quota", "000000000000", "--none")["bytes_max"] == 0
    until(lambda: not refused(s3.put_object, Bucket="two-bucket", Key="c", Body=b"1"))
