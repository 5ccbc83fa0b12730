"""A whole object store on the devices of other processes."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from objectio.filters.passthrough import ShardStoreFilter
from objectio.meta import keys
from objectio.meta.records import decode_blob_row
from objectio.model.stripe import BlobId, ShardKey
from objectio.rpc.auth import Identity
from objectio.rpc.shards_messages import Method
from objectio.store.remote_devices import RemoteDevices
from objectio.testing.osds import SECRET, OsdCluster

PATIENCE_SECONDS = 20.0
SIZES = (0, 1, 4096, 100_000, 1_000_000)


def noise(size, seed=0):
    return random.Random(size + seed).randbytes(size)


async def until(ask, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Gate(ShardStoreFilter):
    """Reads wait here while it is closed."""

    def __init__(self, inner):
        super().__init__(inner)
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    def read_now(self, key, offset=0, length=None):
        return self._inner.read_now(key, offset, length) if self.open.is_set() else None

    async def read(self, key, offset=0, length=None):
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return await self._inner.read(key, offset, length)


@pytest.fixture
async def make_far(tmp_path, make_kit):
    """Stores with six nodes of one disk each, in this process, on Unix sockets."""
    made = []

    class FarKit(make_kit.kit_class):
        def __init__(self, where, **more):
            super().__init__(where, **more)
            self.gates = {}
            self.cluster = OsdCluster(where, kv=self.kv, wrap=self._gate)
            identity = Identity(secret=SECRET, role="meta", node="m")
            self.devices = RemoteDevices(self.kv, identity, check_seconds=0.2)

        def _gate(self, osd, store):
            self.gates[osd] = Gate(store)
            return self.gates[osd]

        async def start(self):
            await self.cluster.start()
            for osd in range(6):
                await self.start_node(osd)
            return await super().start()

        async def stop(self):
            for gate in self.gates.values():
                gate.open.set()
            await super().stop()
            await self.cluster.stop()

        async def start_node(self, osd):
            await self.cluster.add_node(f"n{osd}", [{"id": osd, "path": "disk"}])

        async def stop_node(self, osd):
            await self.cluster.nodes.pop(f"n{osd}").stop()

        def members(self, number=0):
            return self.pools.current.members(self.refs()[number].blob)

        def refs(self):
            rows = self.kv.scan_prefix(keys.BLOBS)
            return [decode_blob_row(raw).ref for _, raw in rows]

        async def lacking(self):
            """Shards that are not where they belong."""
            found = []
            for ref in self.refs():
                pool = self.pools.get(ref.pool)
                for position, osd in enumerate(pool.members(ref.blob)):
                    stripes = range(pool.stripes(ref.size))
                    wanted = [ShardKey(BlobId(ref.blob), each, position) for each in stripes]
                    infos = await self.devices.stores[osd].stat(wanted)
                    found += [
                        (osd, key) for key, info in zip(wanted, infos, strict=True) if not info
                    ]
            return found

    async def make(**more):
        made.append(FarKit(tmp_path / f"far{len(made)}", **more))
        made[-1].where.mkdir()
        await made[-1].start()
        await made[-1].store.create_bucket("bucket", owner="me")
        return made[-1]

    yield make
    for kit in made:
        await kit.stop()


@pytest.fixture
async def far(make_far):
    # A busy processor makes nothing slow.
    return await make_far(read_hedge_seconds=0, write_straggler_seconds=20)


async def fill(kit, seed=0):
    objects = {b"%d/%d" % (size, seed): noise(size, seed) for size in SIZES}
    for key, data in objects.items():
        await kit.put(key, data)
    return objects


async def check(kit, objects):
    for key, data in objects.items():
        assert await kit.get(key) == data


async def test_objects_on_devices_of_other_processes(far, read_all):
    objects = await fill(far)
    await check(far, objects)
    reader = await far.store.get_object("bucket", b"1000000/0")
    assert await read_all(reader, 12_345, 54_321) == noise(1_000_000)[12_345 : 12_345 + 54_321]
    reader.close()
    assert await far.lacking() == []
    await far.store.delete_object("bucket", b"1000000/0")
    await far.settle()
    blobs = {ref.blob for ref in far.refs()}
    for store in far.devices.stores.values():
        assert {info.key.blob for info in await store.scan(None, 1000)} <= blobs


async def test_the_shards_of_a_stripe_are_read_together(far):
    await far.put(b"small", noise(4096))
    for gate in far.gates.values():
        gate.open.clear()
    get = asyncio.create_task(far.get(b"small"))
    await until(lambda: sum(gate.waiting for gate in far.gates.values()) == 4)
    for gate in far.gates.values():
        gate.open.set()
    assert await get == noise(4096)


async def test_a_node_that_does_not_answer_is_read_round(make_far):
    far = await make_far(read_hedge_seconds=0.02)
    await far.put(b"key", noise(4096))
    slow = far.members()[0]
    far.gates[slow].open.clear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await far.get(b"key") == noise(4096)
    assert far.gates[slow].waiting <= 1
    assert not [row for row in far.rows() if row.startswith(keys.REPAIRS)]


async def test_two_nodes_away(far):
    objects = await fill(far)
    await far.stop_node(1)
    await far.stop_node(4)
    await until(lambda: len(far.devices.stores) == 4)
    await check(far, objects)
    await far.start_node(1)
    await until(lambda: len(far.devices.stores) == 5)
    objects |= await fill(far, seed=1)
    await far.start_node(4)
    await until(lambda: len(far.devices.stores) == 6)
    await far.settle()
    await check(far, objects)
    assert await far.lacking() == []


async def test_clients_notice_nothing_of_a_node_that_comes_and_goes(far):
    objects = await fill(far)
    gone = False

    async def use(number):
        turn = 0
        while not gone:
            await check(far, objects)
            await far.put(b"%d" % number, noise(10_000, turn))
            assert await far.get(b"%d" % number) == noise(10_000, turn)
            turn += 1
        return turn

    users = [asyncio.create_task(use(number)) for number in range(4)]
    for _ in range(3):
        await far.stop_node(2)
        await until(lambda: 2 not in far.devices.stores)
        await far.start_node(2)
        await until(lambda: 2 in far.devices.stores)
    gone = True
    assert min(await asyncio.gather(*users)) > 0
    await far.settle()
    assert await far.lacking() == []


async def test_a_blank_disk_is_refilled(far):
    objects = await fill(far)
    path = far.cluster.where / "n3/disk"
    path.rename(path.with_suffix(".out"))
    await until(lambda: 3 not in far.devices.stores)
    await check(far, objects)
    path.mkdir()
    await far.devices.replace(3)
    await far.refilled()
    assert await far.lacking() == []
    await check(far, objects)


async def test_damage_on_a_device_of_another_process_is_repaired(far):
    """By calls that let those of clients pass."""
    calls = []
    for node in far.cluster.nodes.values():
        handlers = node.service._member._server.dispatcher.handlers

        def read(call, inner=handlers[Method.READ]):
            calls.append(call.background)
            return inner(call)

        handlers[Method.READ] = read
    await far.put(b"key", noise(4096))
    first = far.members()[0]
    store, key = far.devices.stores[first], ShardKey(BlobId(far.refs()[0].blob), 0, 0)
    done = asyncio.get_running_loop().create_future()
    store.submit_delete([key], done.set_result)
    assert await done is None
    assert [osd for osd, _ in await far.lacking()] == [first]
    far.gates[far.members()[1]].open.clear()
    get = asyncio.create_task(far.get(b"key"))
    await until(lambda: len(calls) >= 4)
    assert not any(calls)
    far.gates[far.members()[1]].open.set()
    assert await get == noise(4096)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await far.lacking():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert any(calls)
