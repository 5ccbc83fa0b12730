"""`ControlClient` against a server: every call, and what happens when one end goes away."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from objectio.abc.cluster import ClusterStatus, DiskOffer, NodeOffer, OsdReport
from objectio.errors import (
    ConfigError,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from objectio.rpc.auth import Identity
from objectio.rpc.control.client import ControlClient

OFFER = NodeOffer(
    node="n1",
    address="[::1]:9200",
    host="höst",
    rack="r",
    disks=(
        DiskOffer(path="/a"),
        DiskOffer(path="/b", device_id="d", cluster_id="c", osd=0, weight=0.0),
    ),
)


@pytest.fixture
def osd(harness):
    return harness.client(Identity(secret=harness.secret, role="osd", node="n1"))


@pytest.fixture
def person(harness):
    return harness.client(harness.root)


async def test_registering_and_heartbeats(harness, osd):
    with pytest.raises(NotFound) as caught:
        await osd.heartbeat("n1", [])
    assert caught.value.fields == {"kind": "node", "node": "n1"}
    registration = await osd.register(OFFER)
    assert harness.plane.offers == [OFFER]
    assert registration.osds == (0, 1)
    assert registration.heartbeat_seconds == 2.5
    reports = [
        OsdReport(osd=0, state="up", device_id="d", capacity_bytes=2**50, used_bytes=3),
        OsdReport(osd=1, state="down", reason="no such device"),
    ]
    assert await osd.heartbeat("n1", reports) == 4
    assert harness.plane.reports == [("n1", reports)]


async def test_asking_for_the_cluster(harness, osd, person):
    for client in (osd, person):
        status = await client.status()
        assert isinstance(status, ClusterStatus)
        assert status == await harness.plane.status()
        assert await client.cluster_map() == harness.plane.map


async def test_watching_the_map(harness, osd):
    async with contextlib.aclosing(osd.watch()) as watch:
        for epoch in (4, 5, 6):
            async with asyncio.timeout(10):
                assert (await anext(watch)).epoch == epoch
            harness.plane.change()
    assert (await osd.cluster_map()).epoch == 7


async def test_a_watch_ends_with_the_server(harness, osd):
    watch = osd.watch()
    await anext(watch)
    await harness.server.close()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(10):
            await anext(watch)


async def test_administration(harness, person):
    admin = harness.admin
    admin.go_on.set()
    assert await person.disks() == [harness.disk, harness.disk]
    for order in ("replace", "drain", "undrain"):
        assert await getattr(person, order)(3) == harness.disk
    assert admin.orders == [("replace", 3), ("drain", 3), ("undrain", 3)]
    for ask in ("repair", "scrub", "start_scrub", "rebalance", "journal", "doctor"):
        assert await getattr(person, ask)() == await getattr(admin, ask)(), ask


async def test_errors_keep_their_class_and_their_fields(person):
    with pytest.raises(InvalidRequest, match="OSD 3 is up: drain it instead") as caught:
        await person.remove(3)
    assert caught.value.fields == {"reason": "up"}
    with pytest.raises(NotFound) as caught:
        await person.drain(9)
    assert caught.value.fields == {"kind": "osd", "osd": 9}


async def test_an_order_goes_on_when_whoever_gave_it_goes_away(harness, person, until):
    call = asyncio.create_task(person.replace(3))
    await harness.admin.going_on.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await person.close()
    harness.admin.go_on.set()
    await until(lambda: harness.admin.orders == [("replace", 3)])


async def test_a_bug_over_there_is_told_as_one(harness, person, caplog):
    harness.server.answers = {
        **harness.server.answers,
        "/objectio.v1.Admin/Journal": lambda caller, raw: asyncio.to_thread(lambda: 1 / 0),
    }
    with pytest.raises(Unavailable, match="see the log of the server"):
        await person.journal()
    assert "ZeroDivisionError" in caplog.text


async def test_a_server_that_comes_back_is_found_again(harness, osd):
    await osd.status()
    before = harness.address
    harness.listeners.close()
    await harness.server.close()
    with pytest.raises(Unavailable):
        await osd.status()
    again = type(harness)()
    again.address = await again.listeners.add(before)
    try:
        assert (await osd.status()).state == "serving"
        assert again.refused == {}
    finally:
        await again.close()


async def test_nobody_there(harness):
    who = Identity(secret=harness.secret, role="osd", node="n1")
    with pytest.raises(Unavailable):
        await harness.client(who, endpoint="http://127.0.0.1:1").status()
    with pytest.raises(Unavailable):
        await harness.client(who, endpoint="unix:/nowhere/at/all").status()


async def test_somebody_who_says_nothing(harness):
    async def nothing(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    who = Identity(secret=harness.secret, role="osd", node="n1")
    client = harness.client(who, endpoint=f"http://127.0.0.1:{port}", call_seconds=0.2)
    with pytest.raises(Unavailable, match="does not answer"):
        await client.status()
    await client.close()
    listener.close()


async def test_somebody_who_speaks_something_else(harness):
    async def other(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(other, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    who = Identity(secret=harness.secret, role="osd", node="n1")
    with pytest.raises(Unavailable):
        await harness.client(who, endpoint=f"http://127.0.0.1:{port}", call_seconds=5).status()
    listener.close()


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:1", "http://", "http://h", "http://h:1/x", "ftp://h:1", "unix:"]
)
async def test_what_is_no_endpoint(harness, endpoint):
    with pytest.raises(ConfigError):
        ControlClient(endpoint, harness.root)


async def test_secrets_are_not_shown(harness):
    assert harness.root.secret_key not in repr(harness.root)


async def test_over_a_unix_socket(harness, socket_dir):
    harness.address = await harness.listeners.add(f"unix:{socket_dir}/s")
    assert (await harness.client(harness.root).status()).pool == "4+2"


# TLS, to which the proofs of processes are bound.


@pytest.fixture
def trust(certificate):
    cert, key = certificate
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(cert, key)
    far.set_alpn_protocols(["h2", "http/1.1"])
    return far, ssl.create_default_context(cafile=str(cert))


async def over_tls(harness, trust, who, address=None):
    address = address or await harness.listeners.add("127.0.0.1:0", trust[0])
    return harness.client(who, endpoint=f"https://{address}", tls=trust[1], tls_name="far")


async def test_over_tls(harness, trust):
    process = Identity(secret=harness.secret, role="osd", node="n1")
    for who in (process, harness.root):
        client = await over_tls(harness, trust, who)
        assert (await client.status()).state == "serving"
    with pytest.raises(ConfigError):
        harness.client(process, endpoint="https://127.0.0.1:1")


async def test_without_trust_nothing_is_said(harness, trust):
    address = await harness.listeners.add("127.0.0.1:0", trust[0])
    client = harness.client(
        harness.root, endpoint=f"https://{address}", tls=ssl.create_default_context()
    )
    with pytest.raises(Unavailable):
        await client.status()
    with pytest.raises(Unavailable):
        await harness.client(harness.root, endpoint=f"http://{address}", call_seconds=5).status()


async def test_a_proof_cannot_be_relayed_through_another_tls_session(harness, trust):
    """Somebody with a certificate that the client accepts sits in between, and passes on."""
    address = await harness.listeners.add("127.0.0.1:0", trust[0])
    pumps = []

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while raw := await reader.read(65536):
                writer.write(raw)
        writer.close()

    async def between(reader, writer):
        port = int(address.rpartition(":")[2])
        far = await asyncio.open_connection("127.0.0.1", port, ssl=trust[1], server_hostname="far")
        pumps.append(asyncio.create_task(pump(reader, far[1])))
        pumps.append(asyncio.create_task(pump(far[0], writer)))

    listener = await asyncio.start_server(between, "127.0.0.1", 0, ssl=trust[0])
    relayed = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    process = Identity(secret=harness.secret, role="osd", node="n1")
    client = await over_tls(harness, trust, process, relayed)
    with pytest.raises(Unauthenticated):
        await client.status()
    assert harness.refused == {"proof": 1}
    await client.close()
    listener.close()
    await asyncio.wait(pumps, timeout=5)
