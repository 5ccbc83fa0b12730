"""Servers and channels over real sockets, which end with the test."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import uvloop

from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.server import Server

SECRET = bytes(range(100, 132))
PATIENCE_SECONDS = 20.0


def pytest_asyncio_loop_factories(config, item):
    """Everything here is run on both loops, for what they call a transport is not the same; a class
    may choose its `loops`."""
    loops = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    wanted = getattr(item.cls, "loops", loops)
    return {name: loops[name] for name in wanted}


@pytest.fixture
def socket_dir():
    """Short: the path of a Unix socket has 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="objectio-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def identity():
    def make(role="gateway", node="near", secret=SECRET, **more):
        return Identity(secret=secret, role=role, node=node, **more)

    return make


@pytest.fixture
async def make_server(identity):
    servers = []

    def make(*, roles=("gateway",), who=None, **more):
        server = Server(who or identity("osd", "far"), roles=roles, **more)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.close(0)


@pytest.fixture
async def make_channel(identity):
    channels = []

    def make(address, *, who=None, wanted_role="osd", **more):
        channel = Channel(address, who or identity(), wanted_role=wanted_role, **more)
        channels.append(channel)
        return channel

    yield make
    for channel in channels:
        await channel.close()


@pytest.fixture
def until():
    """Wait for a condition, and not for a time."""

    async def wait(condition, what="it did not happen"):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    where = tmp_path_factory.mktemp("tls")
    key, cert = where / "key.pem", where / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=far", "-addext", "subjectAltName=DNS:far"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
