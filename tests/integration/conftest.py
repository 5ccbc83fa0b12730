"""What the tests with a whole server share: starting servers, and talking S3 to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from objectio.testing.shapes import make_server

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts():
    """What a shell starts with `&` ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def objectio(server, tmp_path):
    """`objectio(*words, code=0, keys=None, stdin="", **variables)` → (what it wrote, what it complained
    of); as the root, or with the keys that were made for somebody."""

    def run(*words, code=0, keys=None, stdin="", **variables):
        clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = {**clean, "HOME": str(tmp_path), "OBJECTIO_ENDPOINT": server.endpoint}
        if keys is None:
            words += ("--data", str(server.data_dir))
        else:
            names = ("OBJECTIO_ACCESS_KEY", "OBJECTIO_SECRET_KEY", "OBJECTIO_SESSION_TOKEN")
            env |= dict(zip(names, keys, strict=False))
        env |= variables
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env,
            input=stdin,
            timeout=120,
        )
        assert done.returncode == code, done
        assert done.stderr.count("\n") == (1 if done.stderr else 0), "one sentence"
        return done.stdout, done.stderr

    return run


@pytest.fixture
def show(objectio):
    return lambda *words, **more: json.loads(objectio(*words, "-f", "json", **more)[0])
