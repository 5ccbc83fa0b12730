"""Remote shard stores: what happens to items when connections, devices or processes end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite, StoreState
from objectio.errors import ChecksumMismatch, DeviceFailed, DeviceFull, InvalidRequest, NotFound
from objectio.limits import SHARD_SIZE_BYTES_MAX
from objectio.rpc import shards as shards_module
from objectio.rpc.priority import background
from objectio.rpc.shards import WINDOW_BYTES, RemoteShards
from objectio.rpc.shards_messages import Method
from objectio.rpc.shards_service import ShardService
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_calls import (
    CLUSTER,
    noise,
    scan_all,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)

MIB = 1024 * 1024


class Slow:
    """A store that takes items and keeps them until it is let go."""

    def __init__(self, inner):
        self._inner = inner
        self.held = []
        self.turns = []
        self.holds = True
        self.error = None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def submit(self, shard, done):
        loop = asyncio.get_running_loop()
        if not self.turns or not self.held:
            loop.call_soon(self.turns.append, 0)
        if self.error is not None:
            loop.call_soon(done, self.error)
        elif self.holds:
            self.held.append((shard, done))
        else:
            self._inner.submit(shard, done)

    def let_go(self):
        self.holds = False
        held, self.held = self.held, []
        for shard, done in held:
            self._inner.submit(shard, done)


class Node:
    """A node with OSDs in memory, and what a gateway has of it."""

    def __init__(self, make_server, make_channel, tmp_path, socket_dir):
        self.factory = MemoryShardStoreFactory()
        self.stores = {}
        self._make_server, self._make_channel = make_server, make_channel
        self._tmp_path = tmp_path
        self.address = f"unix:{socket_dir}/s"
        self.server = self.channel = self.shards = None

    async def device(self, osd):
        path = str(self._tmp_path / f"osd{osd}")
        if self.factory.probe(path) is None:
            self.factory.prepare(path, cluster_id=CLUSTER)
        self.stores[osd] = Slow(await self.factory.open(path, cluster_id=CLUSTER))
        self.stores[osd].holds = False
        return self.stores[osd]

    async def serve(self):
        self.server = self._make_server()
        ShardService(self.server, self.stores, usage_seconds=0)
        await self.server.listen(self.address)

    async def connect(self, **more):
        self.channel = self._make_channel(self.address)
        await self.channel.connect()
        self.shards = RemoteShards(self.channel, **more)

    def cut(self):
        """The connection, and not the node."""
        for each in list(self.server._connections):
            each._transport.abort()


@pytest.fixture
async def node(make_server, make_channel, tmp_path, socket_dir):
    node = Node(make_server, make_channel, tmp_path, socket_dir)
    await node.device(1)
    await node.device(2)
    await node.serve()
    await node.connect(status_seconds=0.05)
    yield node
    await node.shards.close()


async def test_the_osds_of_a_node(node):
    assert await node.shards.list() == {osd: store.device_id for osd, store in node.stores.items()}
    store = await node.shards.open(1)
    assert (store.device_id, store.opens) == (node.stores[1].device_id, 1)
    assert store.read_now(shard_key(1)) is None
    assert store.plan_read(shard_key(1)) is None
    with pytest.raises(DeviceFailed) as raised:
        await node.shards.open(9)
    assert raised.value.fields["gone"] is True


async def test_errors_of_the_device_come_as_what_they_are(node):
    store = await node.shards.open(1)
    await submit(store, shard_key(1), noise(100), generation=4)
    with pytest.raises(NotFound) as raised:
        await store.read(shard_key(2))
    assert raised.value.fields == {"kind": "shard"}
    node.factory.damage(str(node._tmp_path / "osd1"), noise(100))
    with pytest.raises(ChecksumMismatch):
        await store.read(shard_key(1))
    [info, missing] = await store.stat([shard_key(1), shard_key(2)])
    assert (info.key, info.length, info.generation, missing) == (shard_key(1), 100, 4, None)
    node.stores[1].error = DeviceFull("full", path="x")
    with pytest.raises(DeviceFull) as raised:
        await submit(store, shard_key(3), b"x")
    assert raised.value.fields == {"path": "x"}
    assert store.state is StoreState.FULL
    node.stores[1].error = InvalidRequest("too long", reason="size")
    with pytest.raises(InvalidRequest):
        await submit(store, shard_key(3), b"x")
    node.stores[1].error = None
    await submit(store, shard_key(3), b"x")
    assert store.state is StoreState.UP


async def test_a_device_that_fails_ends_writing_and_is_opened_anew(node):
    store = await node.shards.open(1)
    await submit(store, shard_key(1), b"one")
    node.stores[1].error = DeviceFailed("EIO", errno=5)
    with pytest.raises(DeviceFailed) as raised:
        await submit(store, shard_key(2), b"two")
    assert raised.value.fields == {"errno": 5}
    node.stores[1].error = None
    for later in (submit(store, shard_key(3), b"3"), submit_sync(store)):
        with pytest.raises(DeviceFailed):
            await later
    assert store.state is StoreState.FAILED
    assert bytes(await store.read(shard_key(1))) == b"one"
    await store.check()
    await store.close()
    store = await node.shards.open(1)
    await submit(store, shard_key(3), b"3")
    assert await scan_all(store) == [shard_key(1), shard_key(3)]


async def test_what_was_under_way_when_the_connection_was_lost_failed(node, until):
    first, second = await node.shards.open(1), await node.shards.open(2)
    node.stores[1].holds = True
    fates = [submit(first, shard_key(n), bytes(3 * MIB), sync=n % 2 == 0) for n in range(6)]
    fates.append(submit_delete(first, shard_key(100)))
    await until(lambda: len(node.stores[1].held) == 2)  # the rest waits for its turn
    await submit(second, shard_key(1), b"x")
    node.cut()
    for each in fates:
        with pytest.raises(DeviceFailed):
            await each
    assert (first.state, second.state) == (StoreState.FAILED, StoreState.FAILED)
    assert isinstance(second.failure, DeviceFailed)
    with pytest.raises(DeviceFailed):
        await submit(second, shard_key(2), b"x")
    node.stores[1].let_go()
    await node.channel.connect()
    await second.check()
    assert bytes(await second.read(shard_key(1))) == b"x"  # reads go on
    assert second.state is StoreState.FAILED
    again = await node.shards.open(2)
    await submit(again, shard_key(2), b"x")
    await until(lambda: node.server.pool.used_bytes == 0)


async def test_without_the_node_everything_fails_at_once(node, until):
    store = await node.shards.open(1)
    await node.server.close(0)
    await until(lambda: store.state is StoreState.FAILED)
    for attempt in (
        store.read(shard_key(1)),
        store.stat([shard_key(1)]),
        store.scan(None, 1),
        store.check(),
        node.shards.open(1),
        submit(store, shard_key(1), b"x"),
    ):
        with pytest.raises(DeviceFailed) as raised:
            await asyncio.wait_for(attempt, 2)
        assert not raised.value.fields.get("gone")
    await asyncio.wait_for(store.close(), 5)
    assert store.state is StoreState.CLOSED


async def test_an_item_that_is_not_answered_in_time_failed(node, until, monkeypatch):
    store = await node.shards.open(1)
    monkeypatch.setattr(shards_module, "WRITE_SECONDS", 0.2)
    node.stores[1].holds = True
    with pytest.raises(DeviceFailed):
        await submit(store, shard_key(1), b"x")
    assert store.state is StoreState.FAILED
    node.stores[1].let_go()
    await store.check()


async def test_a_device_that_was_opened_anew_over_there_takes_nothing_from_before(node, until):
    """Items of the old handle may have been lost with the old opening."""
    store, other = await node.shards.open(1), await node.shards.open(2)
    await submit(store, shard_key(1), b"x", sync=False)
    node.shards._watch.cancel()  # nobody tells the client
    await node.stores[1].close()
    await node.device(1)
    with pytest.raises(DeviceFailed):
        await submit(store, shard_key(2), b"y")
    assert bytes(await store.read(shard_key(1))) == b"x"
    await store.check()
    await submit(other, shard_key(2), b"y")
    store = await node.shards.open(1)
    assert store.opens == 2
    await submit(store, shard_key(2), b"y")


async def test_the_status_tells_of_a_device_that_was_opened_anew(node, until):
    store = await node.shards.open(1)
    await node.stores[1].close()
    await until(lambda: store.state is StoreState.FAILED)
    await node.device(1)
    await store.check()


async def test_another_device_in_its_place_is_not_it(node):
    store = await node.shards.open(1)
    node.stores[1] = node.stores[2]
    for attempt in (store.read(shard_key(1)), store.check(), store.scan(None, 1)):
        with pytest.raises(DeviceFailed) as raised:
            await attempt
        assert raised.value.fields["gone"] is True
    del node.stores[1]
    with pytest.raises(DeviceFailed) as raised:
        await store.check()
    assert raised.value.fields["gone"] is True


async def test_an_old_handle_is_fenced_by_a_newer_one(node):
    """Its writes may come out of an old socket after newer ones."""
    old = await node.shards.open(1)
    new = await node.shards.open(1)
    await submit(new, shard_key(1), b"new")
    with pytest.raises(DeviceFailed):
        await submit(old, shard_key(1), b"old")
    assert bytes(await new.read(shard_key(1))) == b"new"
    await submit(new, shard_key(2), b"new")
    await new.close()
    with pytest.raises(DeviceFailed):
        await submit(old, shard_key(1), b"old")


async def test_two_gateways_write_beside_each_other(node, make_channel, identity):
    other = make_channel(node.address, who=identity(node="other"))
    await other.connect()
    theirs = RemoteShards(other)
    mine, their = await node.shards.open(1), await theirs.open(1)
    await asyncio.gather(
        *(submit(mine, shard_key(n), b"m") for n in range(50)),
        *(submit(their, shard_key(n), b"t") for n in range(50, 100)),
    )
    assert len(await scan_all(mine, 7)) == 100
    await theirs.close()


async def test_items_of_one_turn_are_submitted_in_one_turn(node):
    store, local = await node.shards.open(1), node.stores[1]
    local.turns.clear()
    local.holds = True
    fates = [submit(store, shard_key(n), b"x" * 100) for n in range(100)]
    while len(local.held) < 100:
        await asyncio.sleep(0)
    assert len(local.turns) <= 2  # a second read of the socket at most
    local.let_go()
    await asyncio.gather(*fates)


async def test_a_device_that_hangs_leaves_the_connection_to_the_others(node, until):
    hung, fine = await node.shards.open(1), await node.shards.open(2)
    node.stores[1].holds = True
    fates = [submit(hung, shard_key(n), bytes(MIB)) for n in range(3 * WINDOW_BYTES // MIB)]
    await until(lambda: len(node.stores[1].held) == WINDOW_BYTES // MIB)
    for number in range(20):
        await submit(fine, shard_key(number), bytes(MIB))
    assert len(node.stores[1].held) == WINDOW_BYTES // MIB
    node.stores[1].let_go()
    await asyncio.gather(*fates)
    assert len(await scan_all(hung)) == len(fates)


async def test_usage_comes_with_the_heartbeat(node, until):
    store = await node.shards.open(1)
    coordinates = ShardCoordinates("replicate", 1, 0, 5)
    node.stores[1]._inner.submit(
        ShardWrite(shard_key(1), [b"local"], coordinates), lambda error: None
    )
    await until(lambda: store.usage().shards == 1)
    assert store.usage() == node.stores[1].usage()


async def test_reads_of_background_tasks_are_marked(node):
    store = await node.shards.open(1)
    await submit(store, shard_key(1), b"x")
    seen = []
    handlers = node.server.dispatcher.handlers
    read = handlers[Method.READ]
    handlers[Method.READ] = lambda call: seen.append(call.background) or read(call)
    await store.read(shard_key(1))
    with background():
        await store.read(shard_key(1))
    assert seen == [False, True]


async def test_a_shard_beyond_the_limit_is_refused_and_writing_goes_on(node):
    store = await node.shards.open(1)
    half = bytes(SHARD_SIZE_BYTES_MAX // 2 + 1)
    coordinates = ShardCoordinates("replicate", 1, 0, 1)
    with pytest.raises(InvalidRequest):
        store.submit(ShardWrite(shard_key(1), [half, half], coordinates), lambda error: None)
    await submit(store, shard_key(1), b"x")


async def test_a_long_scan_is_put_together(node, monkeypatch):
    store = await node.shards.open(1)
    await asyncio.gather(*(submit(store, shard_key(n), b"x") for n in range(25)))
    monkeypatch.setattr(shards_module, "SCAN_ROWS_MAX", 10)
    for limit in (1, 10, 20, 24, 25, 26, 100):
        assert len(await store.scan(None, limit)) == min(limit, 25)


SERVER = """
import asyncio, sys
from pathlib import Path
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.rpc.auth import Identity
from objectio.rpc.server import Server
from objectio.rpc.shards_service import ShardService
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import CLUSTER

async def main(data, device, address):
    factory = LogStoreFactory(LogStoreConfig(), make_context(Path(data)))
    if factory.probe(device) is None:
        factory.prepare(device, cluster_id=CLUSTER)
    store = await factory.open(device, cluster_id=CLUSTER)
    server = Server(
        Identity(secret=bytes(range(100, 132)), role="osd", node="far"), roles=["gateway"]
    )
    ShardService(server, {1: store})
    print(await server.listen(address), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_node_loses_nothing_that_it_acknowledged(
    make_channel, tmp_path, socket_dir, until
):
    address, data, device = f"unix:{socket_dir}/s", tmp_path / "data", tmp_path / "device"
    data.mkdir()

    def start():
        command = [sys.executable, "-c", SERVER, str(data), str(device), address]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=env)

    child = start()
    assert await asyncio.to_thread(child.stdout.readline)
    channel = make_channel(address)
    await channel.connect()
    shards = RemoteShards(channel)
    store = await shards.open(1)
    acknowledged, number, fates = {}, 0, set()

    def told(fate, key, payload):
        fates.discard(fate)
        if fate.exception() is None:
            acknowledged[key] = payload

    while store.state is StoreState.UP:
        for _ in range(10):
            number += 1
            key, payload = shard_key(number), noise(number * 37 % 20_000, number)
            fate = submit(store, key, payload)
            fates.add(fate)
            fate.add_done_callback(lambda fate, key=key, payload=payload: told(fate, key, payload))
        await asyncio.sleep(0)
        if len(acknowledged) > 300:
            child.send_signal(signal.SIGKILL)
        while len(fates) > 100:
            await asyncio.sleep(0.001)
    await asyncio.gather(*list(fates), return_exceptions=True)
    child.wait()
    child.stdout.close()
    assert len(acknowledged) < number
    child = start()
    try:
        assert await asyncio.to_thread(child.stdout.readline)
        await channel.connect(15)
        await store.check()
        await store.close()
        store = await shards.open(1)
        for key, payload in acknowledged.items():
            assert bytes(await store.read(key)) == payload
        assert set(await scan_all(store)) <= {shard_key(n + 1) for n in range(number)}
        await shards.close()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


async def test_a_device_that_is_closed_waits_for_what_was_submitted(node):
    store = await node.shards.open(1)
    node.stores[1].holds = True
    fates = [submit(store, shard_key(n), bytes(MIB), sync=False) for n in range(12)]
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    assert store.state is StoreState.CLOSED
    with pytest.raises(DeviceFailed):
        store.submit_sync(lambda error: None)
    node.stores[1].let_go()
    await closing
    await asyncio.gather(*fates)
