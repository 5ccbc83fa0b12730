"""A whole store of several gateways, in trouble: nothing that was acknowledged is lost, nothing stays.

The gateways have their metadata over sockets; upkeep deletes, sweeps and moves all the time while
connections are cut, gateways sleep longer than their leases, and the metadata's process begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest

from objectio.abc.objects import CompletePart, ObjectAttributes
from objectio.errors import InvalidRequest, NotFound, ObjectIOError, StorageError, Unavailable
from objectio.meta import keys
from objectio.meta.records import decode_blob_row
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.kv_service import KVService
from objectio.rpc.server import Server
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse
from objectio.store.service import ObjectStore
from objectio.store.session_service import SessionService
from objectio.store.sessions import Session
from objectio.store.settings import StoreSettings
from objectio.testing.objects import BytesPayload

# Of connections that come while a server closes: before Python 3.12 asyncio forgets them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(function _SelectorTransport|socket.socket)"
    ":pytest.PytestUnraisableExceptionWarning"
)

SECRET = bytes(range(100, 132))
BUCKET = "bucket"
SECONDS = float(os.environ.get("OBJECTIO_TEST_DEPTH", "1")) * 3
SEEDS = range(1, 6)
KEYS = 30
STRIPE_BYTES = 8192
DISKS = 8


class Metadata:
    """The process that has the rows: serves them, keeps sessions, and does the upkeep of the kit."""

    def __init__(self, kit, address):
        self.kit, self.address = kit, address
        presence = self  # the upkeep outlives restarts of the rest, which is harder than the truth
        for part in (kit.maintenance.collector, kit.maintenance.rebalancer):
            part._presence = presence

    async def survey(self):
        return await self.sessions.survey()

    async def start(self):
        self.server = Server(Identity(secret=SECRET, role="meta", node="m"), roles=["gateway"])
        rows = KVService(self.server, self.kit.kv)
        self.sessions = SessionService(
            self.server, self.kit.kv, lease_seconds=0.25, local=self.kit.in_use
        )
        rows.admit = self.sessions.admit
        await self.sessions.start()
        self.sessions.serve(self.kit.maintenance)
        await self.server.listen(self.address)

    async def stop(self):
        await self.sessions.stop()
        await self.server.close(0)


class Node:
    """A gateway. Its devices are those of the kit, as if they were reached from afar."""

    def __init__(self, kit, address, name):
        identity = Identity(secret=SECRET, role="gateway", node=name)
        self.channel = Channel(address, identity, wanted_role="meta")
        self.kv = RemoteKV(self.channel)
        self.in_use = BlobsInUse()
        self.pools = Pools(self.kv, kit.pools._codes, kit.pools._placements)
        self.session = Session(self.channel, self.kv, name, self.pools, self.in_use)
        settings = StoreSettings(**kit._settings)
        self.store = ObjectStore(
            self.kv, kit.devices, self.pools, settings, in_use=self.in_use, upkeep=self.session
        )

    async def open(self):
        await self.channel.connect()
        await self.pools.follow("")
        await self.session.open()
        return self

    async def close(self):
        await self.store.stop()
        await self.session.close(0.5)
        await self.channel.close()

    async def sleep(self, seconds):
        """Nothing of it answers, and yet it is there."""
        tasks = self.session._tasks
        for task in tasks:
            task.cancel()
        await asyncio.sleep(seconds)
        loop = asyncio.get_running_loop()
        self.session._tasks = [
            loop.create_task(self.session._run()),
            loop.create_task(self.session._run_notes()),
        ]

    async def get(self, key):
        reader = await self.store.get_object(BUCKET, key)
        try:
            return b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
        finally:
            reader.close()


class SlowPayload(BytesPayload):
    """A client that sends one half, and the other when the session may have ended meanwhile."""

    def __init__(self, data, seconds):
        super().__init__(data, piece_size_bytes=len(data) // 2 + 1)
        self._seconds = seconds

    async def read(self):
        if len(self._pieces) == 1:
            await asyncio.sleep(self._seconds)
        return await super().read()


class Clients:
    """Each key has one writer at a time, so that what it may hold is known."""

    def __init__(self, nodes, seed):
        self.nodes = nodes
        self.random = random.Random(seed)
        self.may_hold = {b"k%02d" % number: {None} for number in range(KEYS)}
        self.locks = {key: asyncio.Lock() for key in self.may_hold}
        self.busy = True
        self.done = self.refused = self.read = 0

    async def enough(self):
        """Some time, and until something of everything has happened."""
        await asyncio.sleep(SECONDS)
        while min(self.done, self.refused, self.read) < 10:
            await asyncio.sleep(0.01)
        self.busy = False

    async def run(self):
        while self.busy:
            key = self.random.choice(list(self.locks))
            if self.locks[key].locked():
                await asyncio.sleep(0.001)
                continue
            async with self.locks[key]:
                node = self.random.choice(self.nodes)
                work = self.random.choice([self.put, self.put, self.upload, self.delete, self.get])
                await work(node, key)

    async def change(self, key, value, work):
        before = self.may_hold[key]
        self.may_hold[key] = before | {value}
        try:
            await work
        except (Unavailable, NotFound, InvalidRequest):
            # Whether or not it happened: somebody may have been told that there is no such upload
            # by a second try of what had been through.
            self.refused += 1
            await asyncio.sleep(0.005)
        else:
            self.may_hold[key] = {value}
            self.done += 1

    def payload(self):
        size = self.random.choice([0, 100, 5000, 20_000, 40_000, 60_000])
        return self.random.randbytes(size)

    async def put(self, node, key):
        data = self.payload()
        pause = self.random.choice([0, 0, 0.3, 0.6])
        payload = SlowPayload(data, pause) if len(data) > STRIPE_BYTES else BytesPayload(data)
        put = node.store.put_object(BUCKET, key, payload, ObjectAttributes(), owner="me")
        await self.change(key, data, put)

    async def upload(self, node, key):
        parts = [self.random.randbytes(self.random.choice([16, 9000])) for _ in range(2)]

        async def work():
            store = node.store
            upload = await store.create_upload(BUCKET, key, ObjectAttributes(), owner="me")
            told = []
            for number, data in enumerate(parts, 1):
                other = self.random.choice(self.nodes).store
                part = await other.put_part(
                    BUCKET, key, upload.upload_id, number, BytesPayload(data)
                )
                told.append(CompletePart(number, part.etag))
            await store.complete_upload(BUCKET, key, upload.upload_id, told)

        await self.change(key, b"".join(parts), work())

    async def delete(self, node, key):
        await self.change(key, None, node.store.delete_object(BUCKET, key))

    async def get(self, node, key):
        """What it finds is one of what may be there. A reader of a gateway that was shut out may
        lose its object; it asks again."""
        while self.busy:
            session = node.session._id
            try:
                found = await node.get(key)
            except NotFound:
                found = None
            except Unavailable:
                await asyncio.sleep(0.005)
                continue
            except StorageError:
                assert session is None or session != node.session._id or self.was_cut(node)
                continue
            assert found in self.may_hold[key], "a wrong answer"
            self.read += 1
            return

    @staticmethod
    def was_cut(node):
        """Its session may be over without its knowledge."""
        return node.session._id not in node.metadata.sessions._sessions


async def trouble(metadata, clients, rebalancer, source):
    out = None
    while clients.busy:
        await asyncio.sleep(source.choice([0.02, 0.05, 0.1]))
        node, what = source.choice(clients.nodes), source.randrange(6)
        if what == 0:
            await metadata.stop()
            await asyncio.sleep(0.05)
            await metadata.start()
        elif what in (1, 2):
            if node.channel.connection is not None:
                node.channel.connection.abort(OSError("cut"))
        else:
            with contextlib.suppress(ObjectIOError):
                if out is None:
                    out = source.randrange(DISKS)
                    await rebalancer.drain(out)
                else:
                    await rebalancer.undrain(out)
                    out = None
    if out is not None:
        await rebalancer.undrain(out)


async def doze(node, clients, source):
    """Every second sleep is longer than the lease, and not longer than what clients wait for."""
    while clients.busy:
        await asyncio.sleep(source.choice([0.05, 0.1, 0.4]))
        await node.sleep(source.choice([0.05, 0.45]))


async def sweeps(kit, clients, source):
    while clients.busy:
        await asyncio.sleep(0.002)
        with contextlib.suppress(Unavailable):
            await kit.maintenance.collector.sweep(source.randrange(DISKS))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS)]
)
async def test_nothing_is_lost_and_nothing_stays(make_kit, sockets, until, seed):
    kit = await make_kit(disks=DISKS, write_straggler_seconds=5)
    metadata = Metadata(kit, f"unix:{sockets}/meta")
    await metadata.start()
    nodes = [await Node(kit, metadata.address, f"g{number}").open() for number in range(3)]
    for node in nodes:
        node.metadata = metadata
    source = random.Random(seed)
    clients = Clients(nodes, seed)
    async with asyncio.timeout(120):
        await asyncio.gather(
            trouble(metadata, clients, kit.maintenance.rebalancer, source),
            sweeps(kit, clients, source),
            clients.enough(),
            *(doze(node, clients, source) for node in nodes),
            *(clients.run() for _ in range(20)),
        )
        for node in nodes:
            await node.session.open()
            await node.session._quiet.wait()
        await until(lambda: not any(node.in_use.active for node in nodes))
        await settled(kit, until)
    for key, may_hold in clients.may_hold.items():
        for reader in (nodes[0].get, kit.get):
            try:
                found = await reader(key)
            except NotFound:
                found = None
            assert found in may_hold, key
    assert kit.shards() == expected(kit)
    for node in nodes:
        await node.close()
    await metadata.stop()


async def settled(kit, until):
    await kit.maintenance.ended.look()
    await until(lambda: kit.maintenance.rebalancer.backlog == 0)
    await kit.settle()
    for osd in range(DISKS):
        await kit.maintenance.collector.sweep(osd)
    await kit.settle()


def expected(kit):
    """Every shard of every blob that has an owner, where it belongs."""
    found = {osd: set() for osd in range(DISKS)}
    for _, raw in kit.kv.scan_prefix(keys.BLOBS):
        ref = decode_blob_row(raw).ref
        pool = kit.pools.get(ref.pool)
        for position, osd in enumerate(pool.members(ref.blob)):
            for stripe in range(pool.stripes(ref.size)):
                found[osd].add((ref.blob, stripe, position))
    return found
