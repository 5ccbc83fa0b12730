"""What the tests with client programs share: a server by HTTP and by HTTPS, and how to run a program
against it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from objectio.testing.cluster import LocalServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = Path(os.environ.get("OBJECTIO_CLIENTS_PYTHON", ROOT / ".venv-clients/bin/python"))
SECONDS_MAX = 240


class Place(NamedTuple):
    """A server, and an empty bucket for one test."""

    server: LocalServer
    bucket: str
    home: Path

    @property
    def tls(self):
        return self.server.endpoint.startswith("https:")

    @property
    def ca_file(self):
        return str(self.server.ca_file or "")

    @property
    def environment(self):
        """Of every program: nothing of whoever runs the tests."""
        access_key, secret_key = self.server.credentials
        kept = ("PATH", "LD_LIBRARY_PATH")
        return {key: os.environ[key] for key in kept if key in os.environ} | {
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *command, env=None, **more):
        """Run a program; its standard output. Fails with what it and the server said."""
        program = shutil.which(command[0])
        if program is None:
            pytest.skip(f"{command[0]} is not installed: `make clients`")
        done = subprocess.run(
            [program, *map(str, command[1:])],
            env=self.environment | (env or {}),
            capture_output=True,
            timeout=SECONDS_MAX,
            **more,
        )
        told = (done.stdout + done.stderr).decode(errors="replace")[-6000:]
        assert done.returncode == 0, f"{command}\n{told}\n{self.server.log_tail(20)}"
        return done.stdout

    def run_python(self, name):
        """Run a program of programs/, whose assertions are the test."""
        if not PYTHON.exists():
            pytest.skip(f"the Python client libraries are not installed: `make clients` ({name})")
        access_key, secret_key = self.server.credentials
        env = {
            "CLIENT_ENDPOINT": self.server.endpoint,
            "CLIENT_ACCESS_KEY": access_key,
            "CLIENT_SECRET_KEY": secret_key,
            "CLIENT_BUCKET": self.bucket,
            "CLIENT_CA_FILE": self.ca_file,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.run(str(PYTHON), HERE / "programs" / name, env=env)


SETTINGS = {"log.requests": "true"}


@pytest.fixture(scope="session")
def http_server(tmp_path_factory):
    with LocalServer(tmp_path_factory.mktemp("http") / "data", settings=SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def https_server(tmp_path_factory):
    where = tmp_path_factory.mktemp("https") / "data"
    with LocalServer(where, settings=SETTINGS, tls=True) as server:
        yield server


@pytest.fixture
def server(http_server):
    """Modules for HTTPS too have one of the same name."""
    return http_server


@pytest.fixture
def place(request, server, tmp_path):
    """The server, and a bucket named after the test."""
    found = Place(server, bucket_name(request.node.name), tmp_path)
    with client_of(server) as client:
        client.create_bucket(Bucket=found.bucket)
    return found


@pytest.fixture
def s3(server):
    """boto3's client of the same server."""
    with client_of(server) as client:
        yield client


def client_of(server):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    return contextlib.closing(boto3.client("s3", **server.s3_settings()))


def bucket_name(test):
    return re.sub(r"[^a-z0-9]+", "-", test.lower())[-60:].strip("-")
