"""Operators of another process are answered as those of the one that has the store."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from objectio import errors
from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubReport,
    ScrubStatus,
    StorageAdmin,
)
from objectio.errors import AccessDenied, ConfigError, InvalidRequest, NotFound, Unavailable
from objectio.rpc.admin_messages import Method
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.messages import pack
from objectio.rpc.server import Server
from objectio.store.remote_admin import AdminService, RemoteAdmin

SECRET = bytes(range(100, 132))
DISK = DiskStatus(osd=3, path="/dev/x", host="h", rack="r", weight=1.5, state="up")
FULL = DiskStatus(
    osd=4,
    path="/dev/ü",
    host="h",
    rack="r",
    weight=0.0,
    state="full",
    reason="it is full",
    membership="draining",
    device_id="d",
    refilling=True,
    journal=True,
    groups=7,
    slow=True,
    capacity_bytes=1 << 45,
    used_bytes=1,
    live_bytes=2,
    shards=3,
    cache_bytes=4,
    cache_hits=5,
    cache_misses=6,
)


class Admin:
    """Answers with what it was given; an order may wait, or raise."""

    def __init__(self):
        self.orders = []
        self.error = None
        self.may = asyncio.Event()
        self.may.set()

    async def disks(self):
        return [DISK, FULL]

    async def repair(self):
        return RepairStatus(
            active=True,
            waiting={0: 3, 2: 9},
            blocked=1,
            refilling=[1, 2],
            repaired_shards=5,
            repaired_bytes=6,
            bytes_left=7,
            bytes_per_second=8.5,
            seconds_left=None,
            waiting_for={4: "it is full"},
        )

    async def scrub(self):
        report = ScrubReport(begun_ms=1, blobs=2, unrepairable=3)
        return ScrubStatus(running=True, progress=0.25, current=report, last=None, next_ms=None)

    async def start_scrub(self):
        self.orders.append(("start_scrub",))
        return await self.scrub()

    async def rebalance(self):
        return RebalanceStatus(
            epoch=1,
            groups=2,
            groups_moving=3,
            groups_waiting=4,
            moved_shards=5,
            moved_bytes=6,
            bytes_left=7,
            bytes_per_second=0.0,
            seconds_left=1.5,
            degraded_spread=["not enough racks"],
        )

    async def journal(self):
        return JournalStatus(
            enabled=True,
            copies_wanted=3,
            osds=[0, 1],
            sequence=4,
            checkpoint_sequence=1,
            waiting=0,
            bytes_since_checkpoint=99,
            reason="one is down",
        )

    async def doctor(self):
        return [Finding(severity="critical", what="w", meaning="m", action="a")]

    async def _order(self, name, osd):
        self.orders.append((name, osd))
        await self.may.wait()
        if self.error is not None:
            raise self.error
        self.orders.append((name, "done"))
        return DISK

    async def replace(self, osd):
        return await self._order("replace", osd)

    async def drain(self, osd):
        return await self._order("drain", osd)

    async def undrain(self, osd):
        return await self._order("undrain", osd)

    async def remove(self, osd):
        return await self._order("remove", osd)


QUESTIONS = ("disks", "repair", "scrub", "start_scrub", "rebalance", "journal", "doctor")
ORDERS = ("replace", "drain", "undrain", "remove")


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def admin():
    return Admin()


@pytest.fixture
async def server(admin):
    identity = Identity(secret=SECRET, role="meta", node="m")
    server = Server(identity, roles=["gateway", "osd"])
    server.service = AdminService(server, admin)
    server.where = await server.listen("127.0.0.1:0")
    yield server
    await server.service.stop()
    await server.close(0)


@pytest.fixture
async def connect(server):
    channels = []

    async def make(role="gateway"):
        who = Identity(secret=SECRET, role=role, node=role)
        channels.append(Channel(server.where, who, wanted_role="meta"))
        await channels[-1].connect()
        return channels[-1]

    yield make
    for channel in channels:
        await channel.close()


@pytest.fixture
async def remote(connect):
    return RemoteAdmin(await connect())


def test_it_has_all_of_the_contract():
    wanted = {name for name, _ in inspect.getmembers(StorageAdmin, inspect.isfunction)}
    wanted = {name for name in wanted if not name.startswith("_")}
    assert wanted == {*QUESTIONS, *ORDERS}
    assert {method.name.lower() for method in Method} == wanted
    for name in wanted:
        assert callable(getattr(RemoteAdmin, name))


@pytest.mark.parametrize("question", QUESTIONS)
async def test_questions(remote, admin, question):
    assert await getattr(remote, question)() == await getattr(admin, question)()
    if question == "start_scrub":
        assert admin.orders == [("start_scrub",)] * 2


@pytest.mark.parametrize("order", ORDERS)
async def test_orders(remote, admin, order):
    assert await getattr(remote, order)(7) == DISK
    assert admin.orders == [(order, 7), (order, "done")]


@pytest.mark.parametrize(
    "error",
    [
        NotFound("there is no OSD 9 in the configuration", kind="osd", osd=9),
        InvalidRequest("OSD 3 is up: drain it instead", reason="up"),
        ConfigError("/dev/x holds the device of another cluster"),
        errors.DeviceFailed("no such device", errno=6),
    ],
)
async def test_errors_keep_their_class_and_their_sentence(remote, admin, error):
    admin.error = error
    with pytest.raises(type(error)) as raised:
        await remote.remove(9)
    assert type(raised.value) is type(error)
    assert (raised.value.message, raised.value.fields) == (error.message, error.fields)


async def test_an_order_is_carried_out_when_nobody_waits_any_more(remote, admin, connect):
    admin.may.clear()
    work = asyncio.ensure_future(remote.replace(3))
    await until(lambda: admin.orders == [("replace", 3)])
    remote._channel.connection.abort(OSError("cut"))
    with pytest.raises(Unavailable) as raised:
        await work
    assert raised.value.fields["reason"] == "lost"
    admin.may.set()
    await until(lambda: admin.orders[-1] == ("replace", "done"))


async def test_an_order_may_take_longer_than_a_question(connect, admin):
    admin.may.clear()
    remote = RemoteAdmin(await connect(), ask_seconds=0.01, order_seconds=20)
    work = asyncio.ensure_future(remote.drain(3))
    with pytest.raises(Unavailable):
        await RemoteAdmin(remote._channel, order_seconds=0.01).drain(4)
    assert not work.done()
    admin.may.set()
    assert await work == DISK


async def test_orders_end_with_the_service(remote, admin, server):
    admin.may.clear()
    work = asyncio.ensure_future(remote.drain(3))
    await until(lambda: admin.orders)
    await server.service.stop()
    with pytest.raises(Unavailable):
        await work
    assert ("drain", "done") not in admin.orders


async def test_it_is_not_for_osds(connect, admin):
    channel = await connect("osd")
    for method in Method:
        with pytest.raises(AccessDenied):
            await channel.call(method, pack([3]))
    assert admin.orders == []
