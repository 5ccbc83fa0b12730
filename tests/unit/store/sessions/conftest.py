"""A process with the metadata in LMDB, and gateways that reach it over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from objectio.abc.driver import ThreadModel
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef
from objectio.model.stripe import new_blob_id
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.kv_service import KVService
from objectio.rpc.server import Server
from objectio.store.presence import BlobsInUse
from objectio.store.session_service import SessionService
from objectio.store.sessions import Session
from objectio.testing.context import make_context

SECRET = bytes(range(100, 132))
PATIENCE_SECONDS = 20.0
LONG = 60.0
"""A lease that does not end within a test."""


class Engine:
    """A driver whose commits can be held up, or made to fail."""

    def __init__(self, driver):
        self._driver = driver
        self.gate = threading.Event()
        self.gate.set()
        self.error = None
        self.begun = 0

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def commit(self, commits):
        self.begun += 1
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return self._driver.commit(commits)


class Counts:
    """Metrics that are read by name."""

    def __init__(self):
        self.values = Counter()
        self.functions = {}

    def counter(self, name, help, **labels):
        counts = self

        class Instrument:
            def inc(self, amount=1):
                counts.values[name] += amount

            observe = inc

        return Instrument()

    def histogram(self, name, help, buckets=(), **labels):
        counts = self

        class Instrument:
            def observe(self, value):
                assert value >= 0
                counts.values[name] += 1

        return Instrument()

    def gauge_function(self, name, help, read, **labels):
        self.functions[name] = read

    counter_function = gauge_function


class Notes:
    """Upkeep that writes down what it is told."""

    def __init__(self):
        self.told = []

    def abandon(self, ref):
        self.told.append(("abandon", ref))

    def damaged(self, ref, mask, *, examine=False):
        self.told.append(("damaged", ref, mask, examine))

    def garbage(self):
        self.told.append(("garbage",))

    def repairs(self):
        self.told.append(("repairs",))


class Pools:
    """Stands for pools and groups: one row that is read anew, when it may be."""

    ROW = keys.GROUPS + b"test"

    def __init__(self, kv):
        self._kv = kv
        self.value = None
        self.refreshed = 0
        self.may = asyncio.Event()
        self.may.set()
        self.error = None

    async def refresh(self):
        self.refreshed += 1
        await self.may.wait()
        if self.error is not None:
            raise self.error
        self.value = await self._kv.aget(self.ROW)


class Meta:
    """The process with the metadata; `restart` is another one with the same rows and address."""

    def __init__(self, where, sockets, lease_seconds, lost_seconds, metrics=None, **more):
        lmdb = pytest.importorskip("objectio_kv_lmdb.plugin").DRIVER
        self.engine = Engine(lmdb.open(lmdb.config(), make_context(where, "meta")))
        self.kv = KVStore(self.engine, lmdb.capabilities, ThreadModel.PARALLEL)
        self.address = f"unix:{sockets}/meta"
        self.counts = Counts()
        self._settings = {
            "lease_seconds": lease_seconds,
            "lost_seconds": lost_seconds,
            "metrics": self.counts,
            **more,
        }
        self.local = BlobsInUse()
        self.notes = Notes()

    async def start(self, *, serve=True):
        who = Identity(secret=SECRET, role="meta", node="m")
        self.server = Server(who, roles=["gateway", "osd"])
        self.rows = KVService(self.server, self.kv)
        self.sessions = SessionService(self.server, self.kv, local=self.local, **self._settings)
        self.rows.admit = self.sessions.admit
        await self.sessions.start()
        if serve:
            self.sessions.serve(self.notes)
        await self.server.listen(self.address)
        return self

    async def stop(self):
        await self.sessions.stop()
        await self.server.close(0)

    async def restart(self, **more):
        await self.stop()
        return await self.start(**more)

    async def touch(self, value=b"touched"):
        """Change what gateways read anew for the next survey."""
        await self.kv.commit([], [(Pools.ROW, value)])

    def row_ids(self):
        return {row[len(keys.SESSIONS) :] for row, _ in self.kv.scan_prefix(keys.SESSIONS)}

    def connection_of(self, gateway):
        """The server's end of it."""
        [found] = [
            each
            for each in self.server._connections
            if each.peer is not None and each.peer.node == gateway.node and each.is_open
        ]
        return found


class Gateway:
    def __init__(self, meta, node, name=None, role="gateway"):
        self.node = node
        self.in_use = BlobsInUse()
        identity = Identity(secret=SECRET, role=role, node=node)
        self.channel = Channel(meta.address, identity, wanted_role="meta")
        self.kv = RemoteKV(self.channel)
        self.pools = Pools(self.kv)
        self.session = Session(self.channel, self.kv, name or node, self.pools, self.in_use)

    async def open(self):
        await self.channel.connect()
        await self.session.open()
        return self

    def begin(self):
        """A blob that is being written from now on."""
        ref = BlobRef(bytes(new_blob_id()), 1, 1)
        self.in_use.active.add(ref.blob)
        return ref

    async def own(self, ref, checks=()):
        """The commit that gives it an owner."""
        await self.kv.commit(checks, [(keys.blob(ref.blob), b"owner")])
        self.in_use.active.discard(ref.blob)

    def freeze(self):
        """It does nothing by itself any more, but its connection is there."""
        for task in self.session._tasks:
            task.cancel()

    def wake(self):
        loop = asyncio.get_running_loop()
        self.session._tasks = [
            loop.create_task(self.session._run()),
            loop.create_task(self.session._run_notes()),
        ]

    def cut(self):
        self.channel.connection.abort(OSError("cut"))

    @property
    def id(self):
        return self.session._id


@pytest.fixture
def sockets():
    """Short: the path of a Unix socket has 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="objectio-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def make_meta(tmp_path, sockets):
    made = []

    async def make(lease_seconds=LONG, lost_seconds=LONG, *, serve=True, **more):
        meta = Meta(tmp_path, sockets, lease_seconds, lost_seconds, **more)
        made.append(meta)
        return await meta.start(serve=serve)

    yield make
    for meta in made:
        meta.engine.gate.set()
        await meta.stop()
        await meta.kv.close()


@pytest.fixture
async def make_gateway():
    made = []

    def make(meta, node="g", **more):
        made.append(Gateway(meta, node, **more))
        return made[-1]

    yield make
    for gateway in made:
        gateway.pools.may.set()
        await gateway.session.close(0)
        await gateway.channel.close()


@pytest.fixture
async def meta(make_meta):
    return await make_meta()


@pytest.fixture
async def short(make_meta):
    """Whose leases end soon, also of those whose connection ended."""
    return await make_meta(0.4, 0.4)


@pytest.fixture
async def gateway(meta, make_gateway):
    return await make_gateway(meta).open()


@pytest.fixture
def until():
    """Wait for a condition, and not for a time."""

    async def wait(condition, what="it did not happen"):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.002)

    return wait
