"""A store of rows, and waiting for conditions; everything here is run on both loops."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import uvloop

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore

PATIENCE_SECONDS = 20.0


def pytest_asyncio_loop_factories(config, item):
    loops = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    wanted = getattr(item.cls, "loops", loops)
    return {name: loops[name] for name in wanted}


@pytest.fixture
async def kv():
    store = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    yield store
    await store.close()


@pytest.fixture
def socket_dir():
    """Short: the path of a Unix socket has 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="objectio-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


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
