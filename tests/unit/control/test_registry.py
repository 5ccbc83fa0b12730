"""Numbers for OSDs, where they are, and who is alive."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from objectio.abc.cluster import DiskOffer, NodeOffer, NodeStatus, OsdReport
from objectio.control import registry as registry_module
from objectio.control.registry import Registry
from objectio.errors import ConfigError, NotFound
from objectio.kv.keys import decode_uint
from objectio.meta import keys
from objectio.meta.records import (
    LocationRecord,
    MoveRecord,
    OsdRecord,
    decode_location,
    encode,
)
from objectio.model.cluster import ClusterMap, Osd, OsdId

CLUSTER = "the-cluster"
LEASE_SECONDS = 10.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1_700_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(registry_module, "time", made)
    return made


@pytest.fixture
def make(kv, clock):
    def build(**more):
        return Registry(kv, CLUSTER, lease_seconds=LEASE_SECONDS, **more)

    return build


@pytest.fixture
def registry(make):
    return make()


def node(*disks, name="n1", address="n1:9200", host="h1", rack="r1"):
    offered = tuple(DiskOffer(path=disk) if isinstance(disk, str) else disk for disk in disks)
    return NodeOffer(node=name, address=address, host=host, rack=rack, disks=offered)


async def osds_of(registry, *disks, **more):
    return (await registry.register(node(*disks, **more))).osds


async def locations(kv):
    return {
        decode_uint(row, len(keys.LOCATIONS), 4): decode_location(raw)
        for row, raw in await kv.ascan_prefix(keys.LOCATIONS)
    }


async def device(kv, osd, device_id):
    """What the process with the device writes down once it has opened it."""
    await kv.commit([], [(keys.osd(osd), encode(OsdRecord(device_id, opens=1)))])


# Numbers.


async def test_blank_disks_get_numbers_in_their_order(registry, kv):
    registration = await registry.register(node("/a", DiskOffer(path="/b", weight=2.0)))
    assert registration.osds == (0, 1)
    assert registration.cluster_id == CLUSTER
    assert registration.epoch == 0
    assert 0 < registration.heartbeat_seconds < LEASE_SECONDS / 2
    assert await osds_of(registry, "/a", name="n2", address="n2:1") == (2,)
    assert await locations(kv) == {
        0: LocationRecord("n1", "n1:9200", "/a", "h1", "r1", 1.0),
        1: LocationRecord("n1", "n1:9200", "/b", "h1", "r1", 2.0),
        2: LocationRecord("n2", "n2:1", "/a", "h1", "r1", 1.0),
    }


async def test_registering_again_changes_nothing(registry, make, kv):
    offer = node("/a", "/b")
    first = await registry.register(offer)
    rows = await kv.ascan(b"")
    assert await registry.register(offer) == first
    assert await make().register(offer) == first  # after a restart
    assert await kv.ascan(b"") == rows


async def test_another_order_of_the_same_disks(registry):
    assert await osds_of(registry, "/a", "/b", "/c") == (0, 1, 2)
    assert await osds_of(registry, "/c", "/d", "/a") == (2, 3, 0)


async def test_a_known_device_keeps_its_number_wherever_it_appears(registry, kv, clock):
    assert await osds_of(registry, "/a", "/b") == (0, 1)
    await device(kv, 0, "dev-a")
    await device(kv, 1, "dev-b")
    swapped = (DiskOffer(path="/a", device_id="dev-b"), DiskOffer(path="/b", device_id="dev-a"))
    assert await osds_of(registry, *swapped) == (1, 0)
    moved = DiskOffer(path="/x", device_id="dev-b")
    assert await osds_of(registry, moved, name="n2", address="n2:1", host="h2") == (1,)
    assert (await locations(kv))[1] == LocationRecord("n2", "n2:1", "/x", "h2", "r1", 1.0)
    assert (await locations(kv))[0].node == "n1"


async def test_a_new_disk_where_a_device_was_carried_away_gets_a_new_number(registry, kv):
    await osds_of(registry, "/a")
    await device(kv, 0, "dev-a")
    carried = DiskOffer(path="/x", device_id="dev-a")
    await osds_of(registry, carried, name="n2", address="n2:1")
    assert await osds_of(registry, "/a") == (1,)


async def test_a_blank_disk_in_place_of_a_device_has_its_number(registry, kv):
    """Whether it may replace it is for whoever opens it to say."""
    await osds_of(registry, "/a", "/b")
    await device(kv, 0, "dev-a")
    assert await osds_of(registry, "/a", "/b") == (0, 1)


async def test_a_device_that_was_prepared_and_not_written_down(registry):
    """The process died in between, or somebody prepared it by hand."""
    assert await osds_of(registry, "/a") == (0,)
    assert await osds_of(registry, DiskOffer(path="/a", device_id="fresh")) == (0,)
    assert await osds_of(registry, "/a", DiskOffer(path="/b", device_id="by-hand")) == (0, 1)


async def test_numbers_of_the_configuration_are_respected(registry):
    assert await osds_of(registry, DiskOffer(path="/a", osd=7), "/b") == (7, 8)
    assert await osds_of(registry, "/c", DiskOffer(path="/d", osd=3), name="n2", address="x:1") == (
        9,
        3,
    )


async def test_a_number_that_was_given_is_never_given_again(registry, make, kv):
    assert await osds_of(registry, "/a", "/b") == (0, 1)
    await kv.commit([], [(keys.location(1), None)])
    assert await osds_of(make(), "/c", name="n2", address="n2:1") == (2,)
    await kv.commit([], [(keys.location(2), None), (keys.location(0), None)])
    assert await osds_of(make(), "/d", name="n3", address="n3:1") == (3,)


async def test_numbers_that_only_old_rows_know_are_taken(registry, kv):
    """Of a store that one process had, which knew no locations."""
    rows = [
        (keys.osd(2), encode(OsdRecord("dev-2"))),
        (keys.MAP, encode(ClusterMap(epoch=9, osds=(Osd(id=OsdId(4)),)))),
        (keys.groups(1), encode([[0, 1, -1], [5, 2, 1]])),
        (keys.move(1, 0), encode(MoveRecord([6, 0, -1], [0]))),
    ]
    await kv.commit([], rows)
    registration = await registry.register(
        node("/new", DiskOffer(path="/old", device_id="dev-2"), DiskOffer(path="/4", osd=4))
    )
    assert registration.osds == (7, 2, 4)
    assert registration.epoch == 9


async def test_registrations_at_once_get_different_numbers(make, kv):
    registries = [make(), make()]
    offers = [node("/a", "/b", name=f"n{at}", address=f"n{at}:1") for at in range(20)]
    found = await asyncio.gather(
        *(registries[at % 2].register(offer) for at, offer in enumerate(offers))
    )
    numbers = [osd for each in found for osd in each.osds]
    assert sorted(numbers) == list(range(40))
    assert {osd: (where.node, where.path) for osd, where in (await locations(kv)).items()} == {
        osd: (f"n{at}", path)
        for at, each in enumerate(found)
        for osd, path in zip(each.osds, ("/a", "/b"), strict=True)
    }


async def test_the_same_node_at_once(make):
    offer = node("/a", "/b")
    found = await asyncio.gather(*(make().register(offer) for _ in range(8)))
    assert {each.osds for each in found} == {(0, 1)}


async def test_an_engine_whose_commits_conflict(registry, kv):
    """Somebody else writes the same rows between each reading and its commit, three times."""
    commit, left = kv.commit, 3

    async def meddle(checks, writes):
        nonlocal left
        if left and any(key == keys.OSD_NEXT for key, _ in writes):
            left -= 1
            raw = await kv.aget(keys.OSD_NEXT)
            number = 100 if raw is None else decode_uint(raw, 0, 8) + 1
            await commit([], [(keys.OSD_NEXT, number.to_bytes(8, "big"))])
        await commit(checks, writes)

    kv.commit = meddle
    assert await osds_of(registry, "/a") == (102,)
    assert left == 0


# What is refused.


async def test_a_device_of_another_cluster_is_refused(registry, kv):
    foreign = DiskOffer(path="/b", device_id="d", cluster_id="another")
    with pytest.raises(ConfigError, match="belongs to cluster another"):
        await registry.register(node("/a", foreign))
    assert await kv.ascan(b"") == []
    own = DiskOffer(path="/b", device_id="d", cluster_id=CLUSTER)
    assert await osds_of(registry, "/a", own) == (0, 1)


@pytest.mark.parametrize(
    ("disks", "what"),
    [
        ((DiskOffer(path="/a"), DiskOffer(path="/a")), "path"),
        ((DiskOffer(path="/a", osd=1), DiskOffer(path="/b", osd=1)), "osd"),
        ((DiskOffer(path="/a", device_id="d"), DiskOffer(path="/b", device_id="d")), "device_id"),
    ],
)
async def test_disks_that_are_one(registry, disks, what):
    with pytest.raises(ConfigError, match=what):
        await registry.register(node(*disks))


async def test_nodes_without_a_name_or_an_address(registry):
    for more in ({"name": ""}, {"address": ""}, {"host": ""}, {"rack": ""}):
        with pytest.raises(ConfigError):
            await registry.register(node("/a", **more))
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            await registry.register(node(DiskOffer(path="/a", weight=weight)))
    with pytest.raises(ConfigError):
        await registry.register(node(""))


async def test_a_device_under_a_number_that_is_not_its_own(registry, kv):
    await osds_of(registry, "/a", "/b")
    await device(kv, 0, "dev-a")
    with pytest.raises(ConfigError, match="holds the device of OSD 0"):
        await registry.register(node(DiskOffer(path="/a", device_id="dev-a", osd=1)))
    with pytest.raises(ConfigError, match="another disk of n1"):
        await registry.register(
            node(DiskOffer(path="/a", device_id="dev-a"), DiskOffer(path="/b", osd=0))
        )


async def test_a_copy_of_a_device_in_service_is_refused(registry, kv, clock):
    await osds_of(registry, "/a")
    await device(kv, 0, "dev-a")
    await registry.heartbeat("n1", [OsdReport(osd=0, state="up")])
    copy = node(DiskOffer(path="/x", device_id="dev-a"), name="n2", address="n2:1")
    with pytest.raises(ConfigError, match="in service at n1"):
        await registry.register(copy)
    await registry.heartbeat("n1", [OsdReport(osd=0, state="down", reason="pulled")])
    assert (await registry.register(copy)).osds == (0,)


async def test_a_number_that_two_nodes_are_configured_for(registry, clock):
    await osds_of(registry, DiskOffer(path="/a", osd=5))
    other = node(DiskOffer(path="/b", osd=5), name="n2", address="n2:1")
    with pytest.raises(ConfigError, match="so is /a of n1"):
        await registry.register(other)
    clock.now += LEASE_SECONDS + 1
    assert (await registry.register(other)).osds == (5,)  # n1 was renamed


async def test_two_nodes_of_one_name(registry, clock):
    await registry.register(node("/a"))
    twin = node("/a", address="n9:1", host="h9")
    with pytest.raises(ConfigError, match=r"node\.name"):
        await registry.register(twin)
    with pytest.raises(ConfigError, match=r"node\.name"):
        await registry.register(node("/other", address="n1:9999"))
    await registry.register(node("/a", address="n1:9999"))  # started again at another port
    clock.now += LEASE_SECONDS + 1
    await registry.register(twin)


# Who is alive.


async def test_only_who_registered_is_heard(registry, make):
    with pytest.raises(NotFound) as caught:
        await registry.heartbeat("n1", [])
    assert caught.value.fields["kind"] == "node"
    await registry.register(node("/a"))
    assert await registry.heartbeat("n1", []) == 0
    with pytest.raises(NotFound):
        await make().heartbeat("n1", [])  # after a restart


async def test_status_has_all_nodes(registry, make, kv, clock):
    await kv.commit([], [(keys.MAP, encode(ClusterMap(epoch=3)))])
    gateway = NodeStatus(node="g1", role="gateway", address="g:1", alive=True, seen_ms=5)
    registry = make(
        state=lambda: ("waiting", "2 of 3 OSDs are there"),
        pool=lambda: "4+2",
        others=lambda: [gateway],
    )
    await registry.register(node("/a", "/b"))
    await registry.register(node("/a", name="n2", address="n2:1"))
    up = OsdReport(osd=0, state="up", device_id="d", capacity_bytes=10, used_bytes=1)
    elsewhere = OsdReport(osd=2, state="failed")
    assert await registry.heartbeat("n1", [up, elsewhere]) == 3
    status = await registry.status()
    assert (status.cluster_id, status.epoch, status.pool) == (CLUSTER, 3, "4+2")
    assert (status.state, status.reason) == ("waiting", "2 of 3 OSDs are there")
    assert [(each.node, each.role, each.alive) for each in status.nodes] == [
        ("g1", "gateway", True),
        ("n1", "osd", True),
        ("n2", "osd", True),
    ]
    first, second = status.nodes[1:]
    assert first.osds == (up, OsdReport(osd=1, state="down", reason="nothing was heard of it yet"))
    assert [each.osd for each in second.osds] == [2]
    assert first.seen_ms == int(clock.time() * 1000)
    clock.now += LEASE_SECONDS
    await registry.heartbeat("n2", [])
    first, second = (await registry.status()).nodes[1:]
    assert (first.alive, second.alive) == (False, True)
    assert {(each.state, each.reason) for each in first.osds} == {("down", "its node is down")}
    assert first.seen_ms < second.seen_ms


async def test_status_after_a_restart_knows_nodes_from_rows(registry, make):
    await registry.register(node("/a"))
    [known] = (await make().status()).nodes
    assert (known.node, known.alive, known.seen_ms, known.address) == ("n1", False, 0, "n1:9200")
    assert [each.osd for each in known.osds] == [0]


async def test_a_node_that_has_nothing_any_more_is_forgotten(registry, kv, clock):
    await osds_of(registry, "/a")
    await device(kv, 0, "dev-a")
    await osds_of(registry, DiskOffer(path="/a", device_id="dev-a"), name="n2", address="n2:1")
    assert [each.node for each in (await registry.status()).nodes] == ["n1", "n2"]
    clock.now += LEASE_SECONDS
    assert [each.node for each in (await registry.status()).nodes] == ["n2"]


async def test_an_osd_is_at_one_node(registry, kv):
    await osds_of(registry, "/a", "/b")
    await device(kv, 1, "dev-b")
    await registry.heartbeat("n1", [OsdReport(osd=0, state="up"), OsdReport(osd=1, state="down")])
    await osds_of(
        registry, DiskOffer(path="/x", device_id="dev-b"), name="n2", address="n2:1", host="h2"
    )
    await registry.heartbeat("n1", [OsdReport(osd=0, state="up"), OsdReport(osd=1, state="up")])
    await registry.heartbeat("n2", [OsdReport(osd=1, state="full")])
    nodes = (await registry.status()).nodes
    assert [[(each.osd, each.state) for each in one.osds] for one in nodes] == [
        [(0, "up")],
        [(1, "full")],
    ]


# The map.


async def test_watching_the_map(registry, kv):
    async def change(epoch):
        await kv.commit([], [(keys.MAP, encode(ClusterMap(epoch=epoch)))])

    async with contextlib.aclosing(registry.watch()) as watch, asyncio.timeout(20):
        assert (await anext(watch)).epoch == 0
        for epoch in (1, 2):
            await change(epoch)
            assert (await anext(watch)).epoch == epoch
        following = asyncio.ensure_future(anext(watch))
        await change(2)  # written again, and not another one
        await kv.commit([], [(keys.location(1), None)])
        await asyncio.sleep(0)
        assert not following.done()
        await change(3)
        assert (await following).epoch == 3
    assert (await registry.cluster_map()).epoch == 3
