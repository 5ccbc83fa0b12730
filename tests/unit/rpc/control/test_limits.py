"""What strangers can make the server hold, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import h2.config
import h2.connection
import h2.events
import pytest
from grpclib.const import Status

from objectio.errors import PayloadMalformed, PayloadTimeout, PayloadTooLarge, RemoteProtocolError
from objectio.rpc.auth import Identity
from objectio.rpc.control import server as server_module

CHALLENGE = "/objectio.v1.Access/Challenge"
STATUS = "/objectio.v1.Cluster/Status"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Frames:
    """HTTP/2 by hand."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()

    @classmethod
    async def connect(cls, address):
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def begin(self, path):
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, [(":path", path), *HEADERS])
        self.flush()
        return stream_id

    def send(self, stream_id, data, *, end=False):
        self.h2.send_data(stream_id, data, end_stream=end)
        self.flush()

    async def status(self, stream_id):
        """The status with which the call ends."""
        async with asyncio.timeout(20):
            while raw := await self.reader.read(65536):
                for event in self.h2.receive_data(raw):
                    headers = dict(getattr(event, "headers", None) or ())
                    if getattr(event, "stream_id", 0) == stream_id and "grpc-status" in headers:
                        return Status(int(headers["grpc-status"])), headers.get("grpc-message", "")
                self.flush()
        raise ConnectionError("closed")

    async def closed(self):
        """When the server has closed the connection."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass


@pytest.fixture
async def frames(harness):
    made = []

    async def connect():
        made.append(await Frames.connect(harness.address))
        return made[-1]

    yield connect
    for each in made:
        each.writer.close()


async def test_large_requests_are_refused_before_they_come(frames):
    connection = await frames()
    stream_id = connection.begin(CHALLENGE)
    connection.send(stream_id, struct.pack(">BI", 0, server_module.REQUEST_BYTES_MAX + 1))
    status, message = await connection.status(stream_id)
    assert status is Status.INVALID_ARGUMENT
    assert "at most" in message


async def test_requests_must_come_in_time(frames, raw, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(server_module.receive, "__defaults__", (0.2,))
    for sent in (b"", b"\0\0", struct.pack(">BI", 0, 10) + b"12345"):
        connection = await frames()
        stream_id = connection.begin(STATUS)
        if sent:
            connection.send(stream_id, sent)
        status, message = await connection.status(stream_id)
        assert (status, message) == (Status.INVALID_ARGUMENT, "the request did not come in time")


async def test_requests_that_end_early_or_are_compressed(frames):
    for sent, wanted in (
        (b"\0\0", "ended early"),
        (struct.pack(">BI", 0, 10) + b"12345", "ended early"),
        (struct.pack(">BI", 1, 2) + b"12", "compressed"),
    ):
        connection = await frames()
        stream_id = connection.begin(STATUS)
        connection.send(stream_id, sent, end=True)
        status, message = await connection.status(stream_id)
        assert status is Status.INVALID_ARGUMENT
        assert wanted in message


async def test_bytes_that_are_no_message(harness, raw):
    connection = raw()
    with pytest.raises(RemoteProtocolError):
        await connection.call(CHALLENGE, b"\x0a\xff")
    prover = await connection.challenge()
    for garbage in (b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x08"):
        with pytest.raises(RemoteProtocolError):
            await connection.prove(prover, "/objectio.v1.Cluster/Register", garbage)
    assert harness.plane.offers == []
    assert await connection.prove(prover, STATUS)


async def test_a_stranger_is_sent_away_after_a_while(harness, frames, raw, monkeypatch):
    monkeypatch.setattr(server_module, "STRANGER_SECONDS", 0.3)
    stranger, asking = await frames(), raw()
    prover = await asking.challenge()
    await asking.prove(prover, STATUS)
    await stranger.closed()
    await asyncio.sleep(0)
    assert await asking.prove(prover, STATUS)  # who proved something stays


async def test_so_many_strangers_and_no_more(harness, frames, monkeypatch, until):
    monkeypatch.setattr(server_module, "STRANGERS_MAX", 3)
    client = harness.client(Identity(secret=harness.secret, role="osd", node="n1"))
    await client.status()
    few = [await frames() for _ in range(3)]
    await until(lambda: len(harness.server._connections) == 4)
    await (await frames()).closed()
    assert (await client.status()).state == "serving"
    few[0].writer.close()
    await until(lambda: len(harness.server._connections) == 3)
    one = await frames()
    stream_id = one.begin(STATUS)
    one.send(stream_id, struct.pack(">BI", 0, 0), end=True)
    assert (await one.status(stream_id))[0] is Status.UNAUTHENTICATED


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + b"\xff" * 64,
        PREFACE + bytes.fromhex("000000040000000000") + b"\0\0\1\x0a\0" * 2,
        PREFACE + bytes.fromhex("000004080000000000") + bytes(4),
    ],
    ids=["http", "long", "short", "window"],
)
async def test_garbage_ends_the_connection_and_nothing_else(harness, said, caplog, monkeypatch):
    monkeypatch.setattr(server_module, "STRANGER_SECONDS", 0.5)
    client = harness.client(Identity(secret=harness.secret, role="osd", node="n1"))
    await client.status()
    host, _, port = harness.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said)
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
    writer.close()
    assert (await client.status()).state == "serving"
    assert "Fatal error" not in caplog.text


async def test_a_long_frame_of_a_stranger_is_not_waited_for(harness, frames):
    """16 MiB are announced."""
    connection = await frames()
    connection.writer.write(b"\xff\xff\xff" + bytes(6))
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                connection.writer.write(bytes(65536))
                sent += 65536
                await connection.writer.drain()
                await asyncio.sleep(0)
    assert not harness.server._connections
    assert sent < 16 * 2**20


async def test_frames_that_grpclib_does_not_know(harness, frames):
    """ALTSVC, RFC 7838 §4, and a type that does not exist."""
    client = harness.client(Identity(secret=harness.secret, role="osd", node="n1"))
    await client.status()
    for kind in (0x0A, 0xEE):
        connection = await frames()
        connection.writer.write(bytes([0, 0, 2, kind, 0, 0, 0, 0, 0, 0, 0]))
        stream_id = connection.begin(STATUS)
        with contextlib.suppress(ConnectionError):
            connection.send(stream_id, struct.pack(">BI", 0, 0), end=True)
            await connection.status(stream_id)
    assert (await client.status()).state == "serving"


async def test_what_is_not_read_is_not_sent_for_ever(harness, frames, raw, monkeypatch):
    """Pings, whose answers nobody takes."""
    monkeypatch.setattr(server_module, "UNREAD_BYTES_MAX", 64 * 1024)
    monkeypatch.setattr(server_module, "STRANGER_BYTES_MAX", 2**40)
    host, _, port = harness.address.rpartition(":")
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=line)
    writer.transport.pause_reading()
    writer.write(PREFACE)
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(25):
            while True:
                writer.write(ping * 2000)
                await writer.drain()
    writer.close()
    assert not harness.server._connections


def test_what_is_refused_has_words():
    """The statuses above are those of these errors."""
    for kind in (PayloadTooLarge, PayloadTimeout, PayloadMalformed):
        assert server_module.status_of(kind("x")) is Status.INVALID_ARGUMENT
