"""The devices of other processes: found, opened, lost, and opened again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from objectio.abc.shardstore import StoreState
from objectio.errors import AccessDenied, DeviceFailed, InvalidRequest, NotFound, Unavailable
from objectio.meta import keys
from objectio.meta.records import OsdRecord, decode_osd, encode
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.rpc import client
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.tls import client_context, server_context
from objectio.store.lanes import Job, Read
from objectio.store.readers import Readers
from objectio.store.remote_devices import RemoteDevices
from objectio.testing.context import make_context
from objectio.testing.osds import SECRET, OsdCluster
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_calls import noise, shard_key, submit
from objectio.testing.shardstore_cluster import ClusterFactory
from objectio.testing.shardstore_conformance import ShardStoreConformance

PATIENCE_SECONDS = 20.0


class TestConformance(ShardStoreConformance):
    make = "objectio.testing.shardstore_cluster:make_cluster_log_store"

    @pytest.fixture
    def factory(self, tmp_path: Path):
        inner = LogStoreFactory(LogStoreConfig(), make_context(tmp_path))
        factory = ClusterFactory(inner, "unix")
        yield factory
        factory.clean()


async def until(ask, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Heard:
    """What listeners are told, in order."""

    def __init__(self, devices):
        self.told = []
        self.old_copies = []
        devices.listen(self)
        devices.listen_for_old_copies(lambda *words: self.old_copies.append(words))

    def up(self, osd, *, blank):
        self.told.append((osd, "blank" if blank else "up"))

    def down(self, osd, reason):
        self.told.append((osd, "down"))


def disk(osd=None, **more):
    number = {} if osd is None else {"id": osd}
    return {"path": f"disk{osd or 0}", **number, **more}


@pytest.fixture
async def cluster(tmp_path):
    cluster = OsdCluster(tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def connect(cluster):
    """Makes what a process has of all devices."""
    made, channels = [], []

    async def connect(role="meta", *, far_kv=False, **more):
        identity = Identity(secret=SECRET, role=role, node=f"near{len(made)}")
        kv = cluster.kv
        if far_kv:
            channels.append(Channel(cluster.meta.address, identity, wanted_role="meta"))
            await channels[-1].connect()
            kv = RemoteKV(channels[-1])
        made.append(RemoteDevices(kv, identity, check_seconds=0.2, **more))
        made[-1].heard = Heard(made[-1])
        await made[-1].start()
        return made[-1]

    yield connect
    for devices in made:
        await devices.stop()
    for channel in channels:
        await channel.close()


async def test_osds_are_found_where_the_rows_say(cluster, connect):
    await cluster.add_node("a", [disk(0), disk(1)])
    devices = await connect()
    assert sorted(devices.stores) == [0, 1]
    assert sorted(devices.heard.told) == [(0, "up"), (1, "up")]
    assert [(slot.osd, slot.path, slot.reason) for slot in devices.slots] == [
        (0, str(cluster.where / "a/disk0"), ""),
        (1, str(cluster.where / "a/disk1"), ""),
    ]
    await submit(devices.stores[0], shard_key(1), noise(100))
    assert bytes(await devices.stores[0].read(shard_key(1))) == noise(100)
    await cluster.add_node("b", [disk(7)])
    await until(lambda: 7 in devices.stores)
    assert devices.slot(7).location.host == "b"
    with pytest.raises(NotFound):
        devices.slot(9)


async def test_who_comes_before_the_devices_finds_them_later(cluster, connect):
    devices = await connect()
    assert (devices.slots, devices.stores) == ([], {})
    await cluster.add_node("a", [disk(0)])
    await until(lambda: 0 in devices.stores)


async def test_osds_that_are_not_in_the_cluster_any_more(cluster, connect):
    await cluster.add_node("a", [disk(0), disk(1)])
    devices = await connect()
    await cluster.kv.commit([], [(keys.location(1), None)])
    await until(lambda: 1 not in devices.stores)
    assert [slot.osd for slot in devices.slots] == [0]
    assert devices.heard.told[-1] == (1, "down")
    await cluster.kv.commit([], [(keys.location(0), None)])
    await until(lambda: not devices.slots)


async def test_a_process_that_dies_and_comes_back(cluster, connect):
    process = await cluster.add_process("a", [disk(0)])
    await cluster.add_process("b", [disk(1)])
    devices = await connect("gateway", far_kv=True)
    first = devices.stores[0]
    await submit(first, shard_key(1), noise(100))
    under_way = submit(first, shard_key(2), noise(5_000_000))
    killed = time.monotonic()
    process.kill()
    await until(lambda: 0 not in devices.stores)
    assert time.monotonic() - killed < 1
    assert "connection to" in devices.slot(0).reason
    assert devices.heard.told[-1] == (0, "down")
    with pytest.raises(DeviceFailed):
        await under_way
    with pytest.raises(DeviceFailed):
        await first.read(shard_key(1))
    assert 1 in devices.stores
    await asyncio.to_thread(process.start)
    await until(lambda: 0 in devices.stores, seconds=2)
    assert devices.heard.told[-1] == (0, "up")
    assert devices.stores[0] is not first
    assert bytes(await devices.stores[0].read(shard_key(1))) == noise(100)
    await submit(devices.stores[0], shard_key(3), noise(100))
    assert (await asyncio.to_thread(process.stop)) == 0
    await until(lambda: 0 not in devices.stores)


async def test_a_connection_that_is_lost_and_nothing_else(cluster, connect):
    node = await cluster.add_node("a", [disk(0)])
    devices = await connect()
    store = devices.stores[0]
    for connection in list(node.service._member._server._connections):
        connection._transport.abort()
    await until(lambda: store.state is not StoreState.UP)
    await until(lambda: 0 in devices.stores)
    assert devices.heard.told == [(0, "up"), (0, "down"), (0, "up")]
    await submit(devices.stores[0], shard_key(1), b"x")


async def test_a_process_that_moves(cluster, connect):
    node = await cluster.add_node("a", [disk(0)])
    devices = await connect()
    await submit(devices.stores[0], shard_key(1), b"x")
    await node.stop()
    del cluster.nodes["a"]
    (cluster.where / "b").mkdir()
    shutil.move(cluster.where / "a/disk0", cluster.where / "b/disk0")
    await cluster.add_node("b", [disk(0)])
    await until(lambda: 0 in devices.stores and devices.slot(0).location.node == "b")
    assert len(devices.slots) == 1
    assert bytes(await devices.stores[0].read(shard_key(1))) == b"x"
    assert devices.heard.told == [(0, "up"), (0, "down"), (0, "up")]


async def test_a_process_that_stands_still(cluster, connect, monkeypatch):
    monkeypatch.setattr(client, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(client, "PING_SECONDS", 0.2)
    process = await cluster.add_process("a", [disk(0)])
    devices = await connect("gateway")
    await submit(devices.stores[0], shard_key(1), b"x")
    os.kill(process.process.pid, signal.SIGSTOP)
    under_way = submit(devices.stores[0], shard_key(2), b"y")
    await until(lambda: 0 not in devices.stores)
    with pytest.raises(DeviceFailed):
        await under_way
    os.kill(process.process.pid, signal.SIGCONT)
    await until(lambda: 0 in devices.stores, seconds=5)
    assert bytes(await devices.stores[0].read(shard_key(1))) == b"x"
    await submit(devices.stores[0], shard_key(3), b"z")


async def test_over_tls(cluster, connect, monkeypatch, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=a", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    cluster.tls = server_context(certificate, key)
    monkeypatch.setattr(cluster, "listen", lambda node: "127.0.0.1:0")
    await cluster.add_node("a", [disk(0)])
    devices = await connect("gateway", tls=client_context(certificate))
    data = noise(500_000)
    await submit(devices.stores[0], shard_key(1), data)
    assert bytes(await devices.stores[0].read(shard_key(1))) == data
    plain, stranger = await connect("gateway"), await connect("gateway", tls=client_context(None))
    assert plain.stores == stranger.stores == {}
    assert "certificate" in stranger.slot(0).reason


# Devices.


def vanish(cluster, node="a", osd=0):
    path = cluster.where / node / f"disk{osd}"
    path.rename(path.with_suffix(".out"))
    return path


async def test_a_device_that_is_gone_and_comes_back(cluster, connect):
    await cluster.add_node("a", [disk(0), disk(1)])
    devices = await connect()
    await submit(devices.stores[0], shard_key(1), b"x")
    path = vanish(cluster)
    await until(lambda: 0 not in devices.stores)
    await until(lambda: "blank" in devices.slot(0).reason)
    assert 1 in devices.stores
    path.with_suffix(".out").rename(path)
    await until(lambda: 0 in devices.stores)
    assert bytes(await devices.stores[0].read(shard_key(1))) == b"x"
    assert [word for osd, word in devices.heard.told if osd == 0] == ["up", "down", "up"]


async def test_a_device_that_failed_is_read_until_it_is_opened_anew(cluster, connect):
    factory = MemoryShardStoreFactory()
    await cluster.add_node("a", [disk(0)], factory)
    devices = await connect()
    store = devices.stores[0]
    await submit(store, shard_key(1), b"x")
    marker = cluster.where / "a/disk0/memory-device"
    held = marker.read_text()
    marker.unlink()
    with pytest.raises(DeviceFailed):
        await submit(store, shard_key(2), b"y")
    await until(lambda: not store.has_ended)  # it knows that it is the device
    await devices.look()
    assert devices.stores[0] is store
    assert store.state is StoreState.FAILED
    marker.write_text(held)
    await until(lambda: 0 in devices.stores and devices.stores[0].state is StoreState.UP)
    assert devices.heard.told == [(0, "up"), (0, "down"), (0, "up")]
    await submit(devices.stores[0], shard_key(2), b"y")
    assert bytes(await devices.stores[0].read(shard_key(1))) == b"x"


async def test_a_blank_device_in_place_of_another(cluster, connect):
    await cluster.add_node("a", [disk(0)])
    devices, other = await connect(), await connect("gateway", far_kv=True)
    before = devices.stores[0].device_id
    with pytest.raises(InvalidRequest, match="is in service"):
        await devices.replace(0)
    path = vanish(cluster)
    await until(lambda: 0 not in devices.stores)
    with pytest.raises(InvalidRequest, match="there is nothing at"):
        await devices.replace(0)
    path.mkdir()
    with pytest.raises(AccessDenied):
        await other.replace(0)
    await devices.replace(0)
    assert devices.stores[0].device_id != before
    assert devices.heard.told == [(0, "up"), (0, "down"), (0, "blank")]
    assert await cluster.kv.aget(keys.refill(0)) == devices.stores[0].device_id.encode()
    await until(lambda: other.heard.told == devices.heard.told)
    with pytest.raises(NotFound):
        await devices.replace(5)


async def test_a_blank_device_that_was_taken_while_nobody_looked(cluster, connect):
    """Its device is another than the one that this process saw last."""
    await cluster.add_node("a", [disk(0)])
    devices = await connect()
    vanish(cluster)
    await cluster.add_node("a", [disk(0, replace_blank=True)])
    await until(lambda: 0 in devices.stores)
    assert devices.heard.told == [(0, "up"), (0, "down"), (0, "blank")]


async def test_an_old_copy_of_a_device(cluster, connect):
    await cluster.add_node("a", [disk(0)])
    devices = await connect()
    store = devices.stores[0]
    opened = decode_osd(await cluster.kv.aget(keys.osd(0)))
    assert store.opens == opened.opens == 1
    later = OsdRecord(opened.device_id, opens=5)
    await cluster.kv.commit([], [(keys.osd(0), encode(later))])
    await cluster.add_node("a", [disk(0)])
    await until(lambda: devices.heard.old_copies)
    assert devices.heard.old_copies == [(0, 2, 6)]
    assert devices.heard.told[-1] == (0, "blank")  # it lacks what a blank one lacks, or less
    node = cluster.nodes["a"]
    for connection in list(node.service._member._server._connections):
        connection._transport.abort()
    await until(lambda: devices.heard.told[-2:] == [(0, "down"), (0, "up")])
    assert len(devices.heard.old_copies) == 1


async def test_a_process_without_the_cluster_secret_is_told_why(cluster, connect):
    await cluster.add_node("a", [disk(0)])
    devices = RemoteDevices(
        cluster.kv, Identity(secret=bytes(32), role="gateway", node="x"), check_seconds=0.2
    )
    await devices.start()
    assert devices.stores == {}
    assert devices.slot(0).reason
    with pytest.raises(Unavailable):
        await devices.replace(0)
    await devices.stop()


# Without the metadata.


async def test_the_metadata_is_away(cluster, connect):
    await cluster.add_node("a", [disk(0)])
    devices = await connect("gateway", far_kv=True)
    await submit(devices.stores[0], shard_key(1), b"x")
    await cluster.meta.stop()
    assert bytes(await devices.stores[0].read(shard_key(1))) == b"x"
    await submit(devices.stores[0], shard_key(2), b"y")
    for connection in list(cluster.nodes["a"].service._member._server._connections):
        connection._transport.abort()
    await until(lambda: devices.heard.told[-2:] == [(0, "down"), (0, "up")])
    await submit(devices.stores[0], shard_key(3), b"z")
    await cluster.meta.start()
    await cluster.add_node("b", [disk(1)])
    await until(lambda: 1 in devices.stores)


async def test_devices_of_this_process_stand_among_the_others(cluster, connect):
    node = await cluster.add_node("a", [disk(0)])
    await cluster.add_node("b", [disk(1)])
    local = node.service._member.devices
    devices = await connect(local=local)
    await until(lambda: sorted(devices.stores) == [0, 1])
    assert devices.stores[0] is local.stores[0]
    assert [slot.osd for slot in devices.slots] == [0, 1]
    path = vanish(cluster)
    await until(lambda: 0 not in devices.stores)
    path.mkdir()
    await devices.replace(0)
    assert devices.stores[0] is local.stores[0]
    told = [word for osd, word in devices.heard.told if osd == 0]
    assert told == ["down", "blank"]


# Reading.


async def test_a_read_whose_device_goes_before_it_begins_is_no_error_of_its_own(cluster, connect):
    await cluster.add_node("a", [disk(0)])
    devices = await connect()
    await submit(devices.stores[0], shard_key(1), b"x")
    readers = Readers(devices.stores, hedge_seconds=0.02, threads=1)
    told = asyncio.Event()
    job = Job(Read(0, 0, 1), 0, readers.times.of(0), None)
    batch = readers.read_remote(job, shard_key(1), told.set)
    store = devices.stores.pop(0)
    await store.close()
    await asyncio.wait_for(told.wait(), 5)
    assert isinstance(batch.results[job], DeviceFailed)
    devices.stores[0] = store
    batch = readers.read_remote(job, shard_key(1), told.set)
    readers.drop(batch)
    await asyncio.sleep(0)
    assert readers._watched == 0
    await readers.stop()
