"""One port for frames, gRPC and HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl

import pytest

from objectio.control import port as port_module
from objectio.control.port import DECIDING_BYTES, Port, spoken
from objectio.control.registry import Registry
from objectio.errors import Unavailable
from objectio.rpc import listen as listen_module
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.control.client import ControlClient
from objectio.rpc.control.server import ControlServer
from objectio.rpc.frames import Header, Kind, encode
from objectio.rpc.server import Server

SECRET = bytes(range(100, 132))
REQUEST = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TIMEOUT_SECONDS = 20


def identity(role, node="near"):
    return Identity(secret=SECRET, role=role, node=node)


class Http(asyncio.Protocol):
    """Answers when it has a whole request."""

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        if self.received.endswith(b"\r\n\r\n"):
            assert self.received == REQUEST
            self.transport.write(ANSWER)
            self.received = b""


class Everything:
    """A port, and what is behind it."""

    def __init__(self, kv, **more):
        self.http = Http
        self.server = Server(identity("meta", "far"), roles=("osd",))
        self.server.add(1, lambda call: call.reply(b"", [bytes(call.payload)]))
        registry = Registry(kv, "c", lease_seconds=10)
        self.grpc = ControlServer(SECRET, registry, Admin(), access_keys=lambda name: None)
        self.port = Port(
            frames=self.server.protocol,
            grpc=self.grpc.protocol,
            http=lambda: self.http and self.http(),
            **more,
        )

    async def close(self):
        self.port.close()
        await self.grpc.close()
        await self.server.close(0)
        await self.port.wait_closed()


class Admin:
    def __getattr__(self, name):
        return None


@pytest.fixture
async def make(kv):
    made = []

    def build(**more):
        made.append(Everything(kv, **more))
        return made[-1]

    yield build
    for each in made:
        await each.close()


async def connect(address, tls=None):
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    name = "far" if tls else None
    return await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=name)


async def closed(reader):
    """What came before the connection was closed."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.fixture(params=["tcp", "unix", "tls"])
def where(request, socket_dir):
    """(address, the server's TLS, the client's)"""
    if request.param != "tls":
        address = "127.0.0.1:0" if request.param == "tcp" else f"unix:{socket_dir}/s"
        return address, None, None
    cert, key = request.getfixturevalue("certificate")
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(cert, key)
    far.set_alpn_protocols(["h2", "http/1.1"])
    return "127.0.0.1:0", far, ssl.create_default_context(cafile=str(cert))


async def test_all_three_on_one_port(make, where):
    address, far, near = where
    behind = make()
    address = await behind.port.listen(address, far)
    name = "far" if near else None

    channel = Channel(address, identity("osd"), wanted_role="meta", tls=near, tls_name=name)
    await channel.connect()
    payload = os.urandom(3_000_000)
    into = memoryview(bytearray(len(payload)))
    endpoint = address if address[:5] == "unix:" else f"http{'s' if near else ''}://{address}"
    client = ControlClient(endpoint, identity("osd"), tls=near, tls_name=name)
    reader, writer = await connect(address, near)
    for _ in range(2):
        assert bytes((await channel.call(1, b"", [payload], into=into)).payload) == payload
        assert (await client.status()).state == "waiting"
        writer.write(REQUEST)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await reader.readexactly(len(ANSWER)) == ANSWER
    assert behind.port.refused == {}
    assert behind.port.undecided == set()
    writer.close()
    await client.close()
    await channel.close()


async def test_bytes_that_come_one_by_one(make, where):
    address, far, near = where
    behind = make()
    address = await behind.port.listen(address, far)
    reader, writer = await connect(address, near)
    for at in range(len(REQUEST)):
        writer.write(REQUEST[at : at + 1])
        await writer.drain()
        await asyncio.sleep(0.001)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await reader.readexactly(len(ANSWER)) == ANSWER
    writer.close()


async def test_a_large_body_behind_the_first_bytes(make, until):
    behind = make()
    seen = []

    class Counting(Http):
        def data_received(self, data):
            seen.append(bytes(data))

    behind.http = Counting
    address = await behind.port.listen("127.0.0.1:0")
    _, writer = await connect(address)
    body = REQUEST + os.urandom(2_000_000)
    writer.write(body)
    await until(lambda: sum(map(len, seen)) == len(body))
    assert b"".join(seen) == body
    writer.close()


async def test_whoever_says_nothing_is_sent_away(make, where):
    address, far, near = where
    behind = make(silent_seconds=0.2)
    address = await behind.port.listen(address, far)
    for said in (b"", b"GET "):
        reader, writer = await connect(address, near)
        writer.write(said)
        assert await closed(reader) == b""
        writer.close()
    assert behind.port.refused == {"silent": 2}


@pytest.mark.parametrize(
    "said",
    [
        b"get / http/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20),  # a ClientHello of TLS
        b"SSH-2.0-x\r\n\r\n\0\0\0",
        bytes(64),
        b"\xff" * 64,
    ],
)
async def test_whoever_says_something_else_is_sent_away(make, said):
    behind = make()
    reader, writer = await connect(await behind.port.listen("127.0.0.1:0"))
    writer.write(said)
    assert await closed(reader) == b""
    writer.close()
    assert behind.port.refused == {"unknown": 1}
    assert behind.port.undecided == set()


async def test_http_where_nobody_serves_it(make):
    behind = make()
    behind.http = None
    reader, writer = await connect(await behind.port.listen("127.0.0.1:0"))
    writer.write(REQUEST)
    assert await closed(reader) == b""
    writer.close()
    assert behind.port.refused == {"http": 1}


async def test_so_many_silent_ones_and_no_more(make, monkeypatch, until):
    monkeypatch.setattr(port_module, "UNDECIDED_MAX", 3)
    behind = make()
    address = await behind.port.listen("127.0.0.1:0")
    silent = [await connect(address) for _ in range(3)]
    await until(lambda: len(behind.port.undecided) == 3)
    reader, writer = await connect(address)
    writer.write(REQUEST)
    assert await closed(reader) == b""
    writer.close()
    assert behind.port.refused == {"strangers": 1}
    silent.pop()[1].close()
    await until(lambda: len(behind.port.undecided) == 2)
    reader, writer = await connect(address)
    writer.write(REQUEST)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await reader.readexactly(len(ANSWER)) == ANSWER
    for _, each in [*silent, (reader, writer)]:
        each.close()


async def test_without_tls_nobody_gets_past_a_port_that_has_it(make, certificate):
    cert, key = certificate
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(cert, key)
    behind = make()
    address = await behind.port.listen("127.0.0.1:0", far)
    reader, writer = await connect(address)
    writer.write(REQUEST)
    assert b"HTTP" not in await closed(reader)
    writer.close()
    channel = Channel(address, identity("osd"), wanted_role="meta")
    with pytest.raises(Unavailable):
        await channel.connect(0.5)
    await channel.close()


async def test_whoever_does_not_shake_hands_is_sent_away(make, certificate, monkeypatch):
    monkeypatch.setattr(listen_module, "HANDSHAKE_SECONDS", 0.2)
    cert, key = certificate
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(cert, key)
    reader, writer = await connect(await make().port.listen("127.0.0.1:0", far))
    assert await closed(reader) == b""
    writer.close()


async def test_closing_ends_what_is_undecided_and_leaves_no_socket(make, socket_dir, until):
    behind = make()
    address = await behind.port.listen(f"unix:{socket_dir}/s")
    assert os.stat(f"{socket_dir}/s").st_mode & 0o777 == 0o600
    reader, writer = await connect(address)
    await until(lambda: behind.port.undecided)
    behind.port.close()
    await behind.port.wait_closed()
    assert await closed(reader) == b""
    writer.close()
    with pytest.raises(OSError):
        await connect(address)
    assert not os.path.exists(f"{socket_dir}/s")


async def test_refused_frames_are_counted_behind_the_port(make, until):
    behind = make()
    address = await behind.port.listen("127.0.0.1:0")
    channel = Channel(
        address, Identity(secret=bytes(32), role="osd", node="near"), wanted_role="meta"
    )
    with contextlib.suppress(Exception):
        await channel.connect(1.0)
    await until(lambda: behind.server.refused.get("proof", 0) >= 1)
    await channel.close()


# What the first bytes say.


def test_every_hello_is_told_from_requests():
    """Whatever its checksum happens to be."""
    for at in range(2_000):
        frame = encode(Header(Kind.HELLO), os.urandom(40 + at % 200))
        assert spoken(b"".join(map(bytes, frame.parts))) == "frames"
    head = b"".join(map(bytes, encode(Header(Kind.HELLO), bytes(90)).parts))[8:]
    for checksum in (b"GET / HT", b"PRI * HT", b"POST /ab", bytes(8)):
        assert spoken(checksum + head) == "frames"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "grpc"),
        (b"GET / HTTP/1.1\r\n", "http"),
        (b"OPTIONS * HTTP/1.1\r\n", "http"),
        (b"M-SEARCH / HTTP/1.1", "http"),
        (b"PRI * HTTP/3.0", "http"),  # whoever serves HTTP/1.1 refuses it
        (b"GET /\n HTTP/1.1\r\n", ""),
        (bytes(12) + b"\x02\0", ""),  # a frame, but no hello
        (bytes(10) + b"\0\x01\x01\0", ""),  # a hello that is too long
        (b" GET / HTTP/1.1", ""),
    ],
)
def test_what_the_first_bytes_say(said, what):
    assert len(said) >= DECIDING_BYTES
    assert spoken(said) == what
