"""The role: what it serves at `meta.listen`, and what it provides to roles that start later."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from objectio import builtin
from objectio.abc.admin import Finding
from objectio.abc.cluster import DiskOffer, NodeOffer, OsdReport
from objectio.abc.context import Context
from objectio.abc.kv import Present
from objectio.abc.metrics import NullMetrics
from objectio.config import Config
from objectio.config.schema import ClusterSection, MetaSection, NodeSection
from objectio.control.service import DRIVER
from objectio.errors import AccessDenied, ConfigError, Unauthenticated, Unavailable
from objectio.iam.credentials import RootCredentials
from objectio.meta import keys
from objectio.meta.records import ClusterRecord, decode_location
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.control.client import AccessKey, ControlClient
from objectio.rpc.kv import RemoteKV
from objectio.store.remote_admin import RemoteAdmin

SECRET = bytes(range(100, 132))
TIMEOUT_SECONDS = 20


class Parts:
    """What a node gives its roles."""

    metrics = NullMetrics()

    def __init__(self, config, **parts):
        self.config = config
        self._parts = parts

    def part(self, name):
        if name not in self._parts:
            raise ConfigError(f"nothing provides {name}")
        return self._parts[name]

    def has(self, name):
        return name in self._parts

    def provide(self, name, part):
        self._parts[name] = part


class Admin:
    async def doctor(self):
        return [Finding(severity="info", what="a", meaning="b", action="c")]


@pytest.fixture
def parts(kv, tmp_path):
    config = Config(
        node=NodeSection(name="m1", data_dir=str(tmp_path), roles=("meta",)),
        cluster=ClusterSection(lease_seconds=5.0),
        meta=MetaSection(listen="127.0.0.1:0"),
    )
    return Parts(
        config,
        kv=kv,
        cluster=ClusterRecord("the-cluster", 1),
        identity=Identity(secret=SECRET, role="meta", node="m1"),
        server_tls=None,
    )


@pytest.fixture
async def service(parts, tmp_path):
    role = DRIVER.open(DRIVER.config(), None)
    context = Context(name="control", data_dir=tmp_path, log=None, metrics=NullMetrics())
    made = role.build(parts, context)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(parts, service):
    made = []

    def build(who):
        made.append(ControlClient(f"http://{parts.part('meta_address')}", who))
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.fixture
async def channel(parts, service):
    made = []

    def build(role, node="g1", secret=SECRET):
        who = Identity(secret=secret, role=role, node=node)
        made.append(Channel(parts.part("meta_address"), who, wanted_role="meta"))
        return made[-1]

    yield build
    for each in made:
        await each.close()


def osd(node="n1"):
    return Identity(secret=SECRET, role="osd", node=node)


def root(parts):
    found = RootCredentials.load(parts.config.data_dir).root
    return AccessKey(access_key=found.access_key, secret_key=found.secret_key)


def test_the_role_is_built_in():
    assert DRIVER in list(builtin.objectio_register_roles())
    assert DRIVER.open(DRIVER.config(), None).after == ("meta",)


async def test_what_it_provides(parts, service):
    for name in ("sessions", "presence", "in_use", "rpc_server", "registry", "meta_address"):
        assert parts.has(name), name
    parts.part("in_use").active.add(b"blob")
    assert (await parts.part("presence").survey()).active == {b"blob"}
    health = service.health()
    assert health["ok"]
    assert health["address"] == parts.part("meta_address")


async def test_osds_register_before_the_store_is_ready(parts, client, kv):
    near = client(osd())
    offer = NodeOffer(node="n1", address="n1:1", host="h", rack="r", disks=(DiskOffer(path="/a"),))
    registration = await near.register(offer)
    assert (registration.cluster_id, registration.osds) == ("the-cluster", (0,))
    assert registration.heartbeat_seconds == pytest.approx(5.0 / 3)
    assert decode_location(await kv.aget(keys.location(0))).node == "n1"
    await near.heartbeat("n1", [OsdReport(osd=0, state="up")])
    status = await near.status()
    assert (status.state, bool(status.reason)) == ("waiting", True)
    assert [(each.node, each.role, each.alive) for each in status.nodes] == [
        ("m1", "meta", True),
        ("n1", "osd", True),
    ]


async def test_state_and_administration_are_those_of_maintenance(parts, client):
    person = client(root(parts))
    with pytest.raises(Unavailable, match="not ready"):
        await person.doctor()
    parts.provide("admin", Admin())
    parts.provide("maintenance", SimpleNamespace(state=("serving", "")))
    assert [finding.what for finding in await person.doctor()] == ["a"]
    assert (await person.status()).state == "serving"


async def test_only_the_root_administers(parts, client):
    good = root(parts)
    await client(good).status()
    for wrong in (
        AccessKey(access_key=good.access_key, secret_key=good.secret_key[::-1]),
        AccessKey(access_key="AK" + good.access_key[2:], secret_key=good.secret_key),
    ):
        with pytest.raises(Unauthenticated):
            await client(wrong).status()


async def test_gateways_have_the_metadata_and_commit_with_a_session_only(parts, channel, kv):
    await kv.commit([], [(b"x", b"1")])
    lines = channel("gateway"), channel("osd")
    for line in lines:
        await line.connect()
    gateway, devices = map(RemoteKV, lines)
    assert await gateway.aget(b"x") == b"1"
    with pytest.raises(AccessDenied):
        await gateway.commit([], [(b"x", b"2")])
    with pytest.raises(AccessDenied):
        await gateway.commit([Present(b"x")], [(b"x", b"2")])
    assert await kv.aget(b"x") == b"1"
    await devices.commit([], [(b"x", b"3")])
    assert await kv.aget(b"x") == b"3"


async def test_gateways_ask_for_administration_over_the_wire(parts, channel):
    parts.provide("admin", Admin())
    line = channel("gateway")
    await line.connect()
    assert [each.what for each in await RemoteAdmin(line).doctor()] == ["a"]


async def test_gateways_stand_in_the_status(parts, client, channel):
    from objectio.rpc.messages import pack
    from objectio.rpc.sessions_messages import Method, Open

    parts.part("sessions").serve(SimpleNamespace())
    line = channel("gateway", "g7")
    await line.connect()
    await line.call(Method.OPEN, pack(Open("g7")))
    nodes = {each.node: each for each in (await client(osd()).status()).nodes}
    assert (nodes["g7"].role, nodes["g7"].alive) == ("gateway", True)
    assert abs(nodes["g7"].seen_ms / 1000 - time.time()) < 60


async def test_a_process_with_another_secret_is_refused(channel, client):
    with pytest.raises(Unauthenticated):
        await channel("gateway", secret=bytes(32)).connect(5.0)
    with pytest.raises(Unauthenticated):
        await client(Identity(secret=bytes(32), role="osd", node="n1")).status()


async def test_http_is_served_once_there_is_a_host(parts, service):
    class Http(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            self.transport.close()

    host, _, port = parts.part("meta_address").rpartition(":")

    async def ask():
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\n\r\n")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    assert await ask() == b""
    parts.provide("http", Http)
    assert (await ask()).startswith(b"HTTP/1.1 204")


async def test_stopping_ends_all_connections(parts, kv, tmp_path):
    context = Context(name="control", data_dir=tmp_path, log=None, metrics=NullMetrics())
    made = DRIVER.open(DRIVER.config(), None).build(parts, context)
    await made.start()
    address = parts.part("meta_address")
    near = ControlClient(f"http://{address}", osd())
    await near.status()
    line = Channel(address, osd(), wanted_role="meta")
    await line.connect()
    began = time.monotonic()
    await made.stop()
    assert time.monotonic() - began < 10
    with pytest.raises(Unavailable):
        await near.status()
    await near.close()
    await line.close()


async def test_an_address_that_is_taken(parts, service, tmp_path, kv):
    again = Parts(
        Config(
            node=NodeSection(name="m2", data_dir=str(tmp_path), roles=("meta",)),
            meta=MetaSection(listen=parts.part("meta_address")),
        ),
        kv=kv,
        cluster=ClusterRecord("the-cluster", 1),
        identity=Identity(secret=SECRET, role="meta", node="m2"),
        server_tls=None,
    )
    context = Context(name="control", data_dir=tmp_path, log=None, metrics=NullMetrics())
    made = DRIVER.open(DRIVER.config(), None).build(again, context)
    with pytest.raises(OSError):
        await made.start()
    await made.stop()
