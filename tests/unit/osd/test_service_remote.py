"""The OSD role of a process whose metadata is elsewhere."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest

from objectio.abc.cluster import OsdReport
from objectio.errors import ConfigError, DeviceFailed, Unauthenticated
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import decode_location, decode_osd
from objectio.osd import member
from objectio.osd.service import OsdService
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.shards import RemoteShards
from objectio.store.device_service import ask_slots
from objectio.testing.osds import SECRET, OsdCluster, OsdParts, osd_config, osd_factory
from objectio.testing.shardstore_calls import OTHER_CLUSTER, noise, shard_key, submit

PATIENCE_SECONDS = 20.0


async def until(ask, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.fixture
async def cluster(tmp_path):
    cluster = OsdCluster(tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def connect(cluster):
    """What another process has of a node's shards."""
    opened = []

    async def connect(node, role="gateway"):
        identity = Identity(secret=SECRET, role=role, node="near")
        channel = Channel(cluster.listen(node), identity, wanted_role="osd", wanted_node=node)
        opened.append((channel, RemoteShards(channel)))
        await channel.connect()
        return opened[-1][1]

    yield connect
    for channel, shards in opened:
        await shards.close()
        await channel.close()


def devices_of(node):
    return node.service._member.devices


def places(cluster):
    rows = cluster.kv.scan_prefix(keys.LOCATIONS)
    return {int.from_bytes(row[-4:], "big"): decode_location(raw) for row, raw in rows}


# Numbers.


async def test_disks_without_numbers_are_given_some_and_keep_them(cluster):
    await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    b = await cluster.add_node("b", [{"path": "x", "weight": 2.5}])
    assert {osd: (each.node, each.path, each.weight) for osd, each in places(cluster).items()} == {
        0: ("a", str(cluster.where / "a/x"), 1.0),
        1: ("a", str(cluster.where / "a/y"), 1.0),
        2: ("b", str(cluster.where / "b/x"), 2.5),
    }
    assert places(cluster)[2].address == cluster.listen("b")
    assert places(cluster)[2].host == "b"
    held = devices_of(b).stores[2].device_id
    assert decode_osd(cluster.kv.get(keys.osd(2))).device_id == held
    a = await cluster.add_node("a", [{"path": "y"}, {"path": "z"}, {"path": "x"}])
    assert {slot.osd: slot.path[-1] for slot in devices_of(a).slots} == {1: "y", 3: "z", 0: "x"}
    assert sorted(devices_of(a).stores) == [0, 1, 3]


async def test_a_device_keeps_its_number_under_another_path(cluster):
    a = await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    held = {osd: store.device_id for osd, store in devices_of(a).stores.items()}
    await cluster.nodes.pop("a").stop()
    where = cluster.where / "a"
    for old, new in (("x", "t"), ("y", "x"), ("t", "y")):
        (where / old).rename(where / new)
    a = await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    assert {osd: store.device_id for osd, store in devices_of(a).stores.items()} == held
    assert devices_of(a).slot(1).path == str(where / "x")


async def test_swapped_disks_stay_down_and_the_others_are_served(cluster):
    disks = [{"id": 5, "path": "x"}, {"id": 3, "path": "y"}, {"id": 4, "path": "z"}]
    await cluster.add_node("a", disks)
    await cluster.nodes.pop("a").stop()
    where = cluster.where / "a"
    for old, new in (("x", "t"), ("y", "x"), ("t", "y")):
        (where / old).rename(where / new)
    a = await cluster.add_node("a", disks)
    assert list(devices_of(a).stores) == [4]
    assert "swapped" in devices_of(a).slot(5).reason
    for old, new in (("x", "t"), ("y", "x"), ("t", "y")):
        (where / old).rename(where / new)
    await until(lambda: sorted(devices_of(a).stores) == [3, 4, 5])


async def test_numbers_of_the_configuration_are_the_numbers(cluster):
    a = await cluster.add_node("a", [{"id": 5, "path": "x"}, {"id": 3, "path": "y"}])
    assert sorted(devices_of(a).stores) == [3, 5]
    assert places(cluster)[5].path.endswith("x")


async def test_an_image_is_made_where_there_is_none(cluster, connect):
    size = 64 * MIB
    a = await cluster.add_node("a", [{"path": "disks/a.img", "size_bytes": size}])
    image = cluster.where / "a/disks/a.img"
    assert image.stat().st_size == size
    assert image.stat().st_blocks * 512 < size / 4
    held = devices_of(a).stores[0].device_id
    a = await cluster.add_node("a", [{"path": "disks/a.img", "size_bytes": size}])
    assert devices_of(a).stores[0].device_id == held
    shards = await connect("a")
    store = await shards.open(0)
    await submit(store, shard_key(1), noise(5000))
    assert bytes(await store.read(shard_key(1))) == noise(5000)


# Disks that are not as they should be.


async def test_a_disk_with_something_on_it_is_left_out_until_it_is_blank(cluster, monkeypatch):
    monkeypatch.setattr(member, "_LOOK_AGAIN_SECONDS", 0.1)
    other = cluster.where / "a/y"
    other.mkdir(parents=True)
    (other / "precious").write_text("mine")
    a = await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    assert sorted(devices_of(a).stores) == [0]
    health = a.service.health()
    assert health["ok"]
    assert health["degraded"]
    assert list(health["left_out"]) == [str(other)]
    assert (other / "precious").read_text() == "mine"
    (other / "precious").unlink()
    await until(lambda: 1 in devices_of(a).stores)
    await until(lambda: not a.service.health()["degraded"])


async def test_a_disk_of_another_cluster_is_left_alone(cluster):
    config = cluster.config("a", [{"path": "x"}])
    factory = osd_factory(config)
    device_id = factory.prepare(str(cluster.where / "a/x"), cluster_id=OTHER_CLUSTER)
    with pytest.raises(ConfigError, match=OTHER_CLUSTER):
        await cluster.add_node("a", [{"path": "x"}])
    assert factory.probe(str(cluster.where / "a/x")) == device_id
    assert places(cluster) == {}


async def test_a_disk_that_is_gone_at_the_start_keeps_its_number(cluster):
    await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    await cluster.nodes.pop("a").stop()
    path = cluster.where / "a/x"
    path.rename(path.with_suffix(".out"))
    path.mkdir()
    (path / "lost+found").write_text("")  # another file system is mounted there
    a = await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    assert [(slot.osd, slot.store is None) for slot in devices_of(a).slots] == [
        (0, True),
        (1, False),
    ]
    shutil.rmtree(path)
    path.with_suffix(".out").rename(path)
    await until(lambda: 0 in devices_of(a).stores)


async def test_a_blank_disk_in_place_of_another_waits_for_the_operator(cluster, connect):
    await cluster.add_node("a", [{"path": "x"}])
    await cluster.nodes.pop("a").stop()
    shutil.rmtree(cluster.where / "a/x")
    (cluster.where / "a/x").mkdir()
    a = await cluster.add_node("a", [{"path": "x"}])
    assert devices_of(a).stores == {}
    shards = await connect("a", "meta")
    slots = await ask_slots(shards.channel)
    assert "objectio disk replace 0" in slots[0].reason
    assert not a.service.health()["ok"]


@pytest.mark.parametrize(
    ("listen", "says"), [("", "osd.listen"), ("0.0.0.0:0", "osd.address"), ("[::]:0", "address")]
)
async def test_an_address_that_nobody_can_connect_to(cluster, monkeypatch, listen, says):
    monkeypatch.setattr(cluster, "listen", lambda node: listen)
    with pytest.raises(ConfigError, match=says):
        await cluster.add_node("a", [{"path": "x"}])


async def test_no_disks(cluster):
    with pytest.raises(ConfigError, match=r"no \[\[osd.disk\]\]"):
        await cluster.add_node("a", [])


# Who is served.


@pytest.mark.parametrize("role", ["gateway", "meta"])
async def test_gateways_and_the_metadata_are_served(cluster, connect, role):
    await cluster.add_node("a", [{"path": "x"}])
    shards = await connect("a", role)
    assert list(await shards.list()) == [0]


@pytest.mark.parametrize("role", ["osd", "block", "admin"])
async def test_others_are_refused(cluster, connect, role):
    a = await cluster.add_node("a", [{"path": "x"}])
    with pytest.raises(Unauthenticated):
        await connect("a", role)
    assert a.service._member._server.refused == {"role": 1}


async def test_a_free_port_is_told(cluster, monkeypatch):
    monkeypatch.setattr(cluster, "listen", lambda node: "127.0.0.1:0")
    a = await cluster.add_node("a", [{"path": "x"}])
    assert places(cluster)[0].address == a.service.health()["address"]
    assert not places(cluster)[0].address.endswith(":0")


# The metadata may be away.


async def test_the_metadata_comes_later(cluster, monkeypatch):
    monkeypatch.setattr(member, "START_SECONDS", 0.2)
    await cluster.meta.stop()
    a = await cluster.add_node("a", [{"path": "x"}])
    assert devices_of(a).stores == {}
    assert not a.service.health()["ok"]
    await cluster.meta.start()
    await until(lambda: 0 in devices_of(a).stores)
    assert a.service.health()["registered"]


async def test_shards_are_served_while_the_metadata_is_away(cluster, connect):
    a = await cluster.add_node("a", [{"path": "x"}, {"path": "y"}])
    shards = await connect("a")
    store = await shards.open(0)
    await submit(store, shard_key(1), noise(100))
    await cluster.meta.stop()
    assert bytes(await store.read(shard_key(1))) == noise(100)
    await submit(store, shard_key(2), noise(200))
    path = cluster.where / "a/y"
    path.rename(path.with_suffix(".out"))
    await until(lambda: 1 not in devices_of(a).stores)
    path.with_suffix(".out").rename(path)
    await until(lambda: "connection" in devices_of(a).slot(1).reason)
    with pytest.raises(DeviceFailed):
        await shards.open(1)
    await cluster.meta.start()
    await until(lambda: 1 in devices_of(a).stores)
    assert bytes(await store.read(shard_key(2))) == noise(200)


async def test_a_process_that_was_forgotten_registers_anew(cluster):
    a = await cluster.add_node("a", [{"path": "x"}])
    store = devices_of(a).stores[0]
    offers = len(cluster.numbers.offers)
    cluster.numbers.forget()
    await until(lambda: len(cluster.numbers.offers) > offers)
    assert cluster.numbers.offers[-1].disks[0].device_id == store.device_id
    assert devices_of(a).stores[0] is store
    await until(lambda: cluster.numbers.reports("a"))


async def test_what_the_metadata_is_told(cluster):
    a = await cluster.add_node("a", [{"path": "x"}])
    await until(lambda: cluster.numbers.reports("a"))
    [report] = cluster.numbers.reports("a").values()
    usage = devices_of(a).stores[0].usage()
    assert report == OsdReport(
        osd=0,
        state="up",
        device_id=devices_of(a).stores[0].device_id,
        capacity_bytes=usage.capacity_bytes,
        used_bytes=usage.used_bytes,
    )
    path = cluster.where / "a/x"
    path.rename(path.with_suffix(".out"))
    await until(lambda: cluster.numbers.reports("a")[0].state == "down")
    await until(lambda: cluster.numbers.reports("a")[0].reason)


async def test_a_process_of_another_cluster_does_not_join(cluster, monkeypatch):
    """The metadata was made anew, as another cluster, at the same address."""
    monkeypatch.setattr(cluster.numbers, "_cluster_id", OTHER_CLUSTER)
    with pytest.raises(ConfigError, match=OTHER_CLUSTER):
        await cluster.add_node("a", [{"path": "x"}])


def test_the_role_without_a_cluster_asks_for_numbers(tmp_path):
    config = osd_config("a", tmp_path, "", [{"path": "x"}])
    service = OsdService(OsdParts(config, osd_factory(config), {}))
    with pytest.raises(ConfigError, match="needs an id"):
        asyncio.run(service.start())


def test_the_role_beside_the_metadata_serves_nobody_else(tmp_path):
    config = osd_config("a", tmp_path, "127.0.0.1:0", [{"id": 0, "path": "x"}])
    service = OsdService(OsdParts(config, osd_factory(config), {}))
    with pytest.raises(ConfigError, match="listen is set"):
        asyncio.run(service.start())
