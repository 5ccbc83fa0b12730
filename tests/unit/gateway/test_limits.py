"""Clients that are slow, or too many, over real sockets; and a normal one beside them, which is served."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl

import pytest

from objectio.gateway.app import GatewayApp
from objectio.gateway.arrivals import Arrivals
from objectio.gateway.body import Pace
from objectio.gateway.gate import Gate
from objectio.gateway.protocol import Patience
from objectio.gateway.server import HttpServer
from objectio.iam import signer
from objectio.testing.tls import make_certificate

SECONDS_MAX = 20
CHUNK = bytes(1 << 16)


@pytest.fixture
def make_app(front_end, world):
    return lambda **options: GatewayApp({"s3": front_end}, Gate(world.store), **options)


@pytest.fixture
def tls(tmp_path):
    """(server's, client's)"""
    path = make_certificate(tmp_path / "one.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, ssl.create_default_context(cafile=path)


class Wire:
    """One connection, as `world.root`."""

    def __init__(self, world, server, reader, writer):
        self._root, self._host = world.root, b"127.0.0.1:%d" % server.port
        self.reader, self.writer = reader, writer

    def send(self, method="GET", path=b"/b/k", headers=(), size=None):
        pairs = [(b"host", self._host), *headers]
        if size is not None:
            pairs.append((b"content-length", b"%d" % size))
        pairs = signer.sign_request(
            self._root, method, path, b"", pairs, content_sha256=b"UNSIGNED-PAYLOAD"
        )
        lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        self.writer.write(b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), path, lines))

    async def answer(self):
        """(status, headers, body)"""
        async with asyncio.timeout(SECONDS_MAX):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(status.split()[1]), headers, body

    async def status(self, *arguments, **options):
        self.send(*arguments, **options)
        return (await self.answer())[0]

    async def ended(self):
        """What comes until the server ends it."""
        async with asyncio.timeout(SECONDS_MAX):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def abort(self):
        self.writer.transport.abort()


@pytest.fixture
async def connect(world):
    """`connect(server, address)`: from an address of loopback."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(server, address="127.0.0.1", **options):
            async with asyncio.timeout(SECONDS_MAX):
                streams = await asyncio.open_connection(
                    "127.0.0.1", server.port, local_addr=(address, 0), **options
                )
            wire = Wire(world, server, *streams)
            stack.callback(wire.abort)
            return wire

        yield make


async def eventually(condition):
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.005)


# Too many.


async def test_too_many_connections_of_one_address(make_app, serve, connect):
    arrivals = Arrivals(100, 2)
    async with serve(make_app(), arrivals=arrivals) as server:
        first, second = await connect(server), await connect(server)
        assert [await first.status(), await second.status()] == [200, 200]
        third = await connect(server)
        third.send()
        status, headers, body = await third.answer()
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
        assert b"too many connections" in body
        assert await third.ended() == b""
        beside = await connect(server, "127.0.0.2")
        assert [await beside.status(), await first.status()] == [200, 200]
        first.writer.close()
        await eventually(lambda: arrivals.let_in == 2)
        assert await (await connect(server)).status() == 200
    assert (arrivals.let_in, arrivals.refused) == (0, 0)


async def test_a_proxy_has_as_many_as_it_wants(make_app, serve, connect):
    async with serve(make_app(), arrivals=Arrivals(100, 1, ["127.0.0.3"])) as server:
        proxied = [await connect(server, "127.0.0.3") for _ in range(5)]
        assert [await wire.status() for wire in proxied] == [200] * 5
        others = [await connect(server) for _ in range(2)]
        assert [await wire.status() for wire in others] == [200, 503]


async def test_too_many_connections_leave_those_alone_who_are_there(make_app, serve, connect):
    async with serve(make_app(), connections_max=2) as server:
        there = [await connect(server, f"127.0.0.{number}") for number in (1, 2)]
        for wire in there:
            assert await wire.status() == 200
        for _ in range(3):
            assert await (await connect(server, "127.0.0.3")).status() == 503
            for wire in there:
                assert await wire.status() == 200


async def test_a_socket_of_ours_is_let_in_whoever_is_there(make_app, connect, world, tmp_path):
    path = tmp_path / "http.sock"
    server = HttpServer(make_app(), port=0, also=[f"unix:{path}"], connections_max=1)
    await server.start()
    try:
        there = await connect(server)
        assert await there.status() == 200
        ours = Wire(world, server, *await asyncio.open_unix_connection(path))
        assert await ours.status() == 200
        assert await (await connect(server)).status() == 503
        ours.writer.close()
    finally:
        await server.stop()


async def test_who_is_refused_and_silent_does_not_stay(make_app, serve, connect, monkeypatch):
    monkeypatch.setattr("objectio.gateway.protocol.REFUSED_SECONDS_MAX", 0.1)
    monkeypatch.setattr("objectio.gateway.arrivals.REFUSED_MAX", 3)
    arrivals = Arrivals(1)
    async with serve(make_app(), arrivals=arrivals) as server:
        there = await connect(server)
        assert await there.status() == 200
        assert (await (await connect(server)).answer())[0] == 408
        crowd = [await connect(server) for _ in range(10)]
        ends = await asyncio.gather(*(wire.ended() for wire in crowd))
        assert {end[:12] for end in ends} == {b"", b"HTTP/1.1 408"}
        await eventually(lambda: arrivals.refused == 0)
        assert await there.status() == 200


async def test_too_many_requests_are_told_to_slow_down(make_app, serve, connect, front_end):
    entered, leave = [], asyncio.Event()

    async def slow(scope, receive, send):
        entered.append(scope)
        await leave.wait()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})

    front_end.responses[b"/slow"] = slow
    async with serve(make_app(requests_max=2)) as server:
        busy = [await connect(server) for _ in range(2)]
        for wire in busy:
            wire.send(path=b"/slow")
        await eventually(lambda: len(entered) == 2)
        beside = await connect(server)
        beside.send()
        status, _, body = await beside.answer()
        assert status == 503
        assert b"SlowDown" in body
        leave.set()
        assert [(await wire.answer())[2] for wire in busy] == [b"done"] * 2
        assert await beside.status() == 200


# Slow senders.


async def test_a_handshake_that_does_not_come_is_not_waited_for(make_app, serve, connect, tls):
    patience = Patience(head_seconds_max=0.2)
    async with serve(make_app(), tls=tls[0], patience=patience) as server:
        silent = await connect(server)
        assert await silent.ended() == b""
        beside = await connect(server, ssl=tls[1], server_hostname="localhost")
        assert await beside.status() == 200


async def drip(wire, pause_seconds=0.01):
    """One byte at a time, for as long as it is taken."""
    with contextlib.suppress(ConnectionError):
        while not wire.writer.is_closing():
            wire.writer.write(b"x")
            await wire.writer.drain()
            await asyncio.sleep(pause_seconds)


async def test_a_body_that_drips_is_cut_off(make_app, serve, connect):
    async with serve(make_app(body_pace=Pace(0.4, 1000.0))) as server:
        slow, beside = await connect(server), await connect(server)
        slow.send("PUT", size=1 << 20)
        dripping = asyncio.create_task(drip(slow))
        answering = asyncio.create_task(slow.answer())
        while not answering.done():
            assert await beside.status() == 200
            await asyncio.sleep(0.02)
        status, headers, body = await answering
        assert (status, headers["connection"]) == (400, "close")
        assert b"RequestTimeout" in body
        assert await beside.status() == 200
        dripping.cancel()


async def test_a_body_that_was_fast_once_is_cut_off_too(make_app, serve, connect):
    async with serve(make_app(body_pace=Pace(0.2, 1000.0))) as server:
        slow = await connect(server)
        slow.send("PUT", size=1 << 21)
        slow.writer.write(bytes(1 << 20))
        dripping = asyncio.create_task(drip(slow))
        assert (await slow.answer())[0] == 400
        dripping.cancel()


async def test_a_body_that_nobody_reads_may_not_drip_for_ever(make_app, serve, connect, world):
    async with serve(make_app(), keep_alive_seconds=1) as server:
        slow = await connect(server)
        slow._root = world.bob
        slow.send("PUT", size=1 << 19)
        assert (await slow.answer())[0] == 403
        dripping = asyncio.create_task(drip(slow))
        assert await slow.ended() == b""
        dripping.cancel()


async def test_a_body_at_the_pace_that_is_asked_for_is_taken(make_app, serve, connect):
    """For several times as long as the pace is taken over."""
    async with serve(make_app(body_pace=Pace(0.2, 1000.0))) as server:
        wire = await connect(server)
        wire.send("PUT", size=100 * 300)
        for _ in range(100):
            wire.writer.write(bytes(300))
            await asyncio.sleep(0.01)
        assert (await wire.answer())[0] == 200


async def test_a_server_that_reads_slowly_does_not_blame_the_sender(
    make_app, serve, connect, front_end
):
    digest, caught_up = hashlib.md5(), asyncio.Event()

    async def ponder(scope, receive, send):
        body = scope["objectio"].body
        md5 = body.md5
        while data := await body.read():
            body.digest(data)
            await asyncio.sleep(0.1)
            if body.bytes_in == 39 * len(CHUNK):
                caught_up.set()
        assert body.finish().etag == md5.hexdigest() == digest.hexdigest()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    front_end.responses[b"/ponder"] = ponder
    async with serve(make_app(body_pace=Pace(0.2, 50_000_000.0))) as server:
        wire = await connect(server)
        wire.send("PUT", path=b"/ponder", size=40 * len(CHUNK))
        for number in range(40):
            digest.update(CHUNK)
            if number == 39:
                await asyncio.wait_for(caught_up.wait(), SECONDS_MAX)
                await asyncio.sleep(0.12)  # now it waits, and looks how fast that was
            wire.writer.write(CHUNK)
        assert (await wire.answer())[0] == 200


# Slow readers.


def in_one_piece(size, ended=None, connection=b"keep-alive"):
    async def app(scope, receive, send):
        headers = [(b"content-length", b"%d" % size), (b"connection", connection)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = {"type": "http.response.body", "body": bytes(size // 2), "more_body": True}
        await send(half)
        await send({"type": "http.response.body", "body": bytes(size - size // 2)})
        if ended is not None:
            ended.set()

    return app


def narrow(size_bytes=1 << 16):
    """A socket to listen at whose connections take little that has to wait."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def small(server):
    """A connection whose client has room for little."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", server.port))
    return raw


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_who_takes_a_little_now_and_then_gets_it_all(
    make_app, serve, world, front_end, tls, secure
):
    """Over TLS too, where a large piece waits in a buffer below the one that can be asked."""
    size, write_seconds_max = 16 << 20, 0.4
    front_end.responses[b"/large"] = in_one_piece(size)
    options = {"tls": tls[0]} if secure else {}
    patience = Patience(write_seconds_max=write_seconds_max)
    async with serve(make_app(), listener=narrow(), patience=patience, **options) as server:
        raw = await small(server)
        more = {"ssl": tls[1], "server_hostname": "localhost"} if secure else {}
        reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 16, **more)
        wire = Wire(world, server, reader, writer)
        wire.send(path=b"/large")
        await reader.readuntil(b"\r\n\r\n")
        began, left = asyncio.get_running_loop().time(), size
        while left:
            data = await reader.read(1 << 17)
            assert data, f"cut with {left} bytes to come"
            left -= len(data)
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - began > 3 * write_seconds_max
        writer.transport.abort()


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_who_takes_nothing_is_cut(make_app, serve, connect, front_end, tls, secure):
    front_end.responses[b"/large"] = in_one_piece(64 << 20)
    options = {"tls": tls[0]} if secure else {}
    arrivals = Arrivals()
    patience = Patience(write_seconds_max=0.2)
    async with serve(make_app(), arrivals=arrivals, patience=patience, **options) as server:
        more = {"ssl": tls[1], "server_hostname": "localhost"} if secure else {}
        stuck = await connect(server, limit=1 << 10, **more)
        stuck.send(path=b"/large")
        await stuck.reader.readexactly(100)
        beside = await connect(server, "127.0.0.2", **more)
        assert await beside.status() == 200
        await eventually(lambda: arrivals.let_in == 1)
        assert await beside.status() == 200


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
async def test_who_leaves_the_end_of_a_response_is_cut(make_app, world, front_end, connection):
    """The rest is too short for anybody to wait until it can be written."""
    ended = asyncio.Event()
    front_end.responses[b"/rest"] = in_one_piece(60_000, ended, connection)
    arrivals = Arrivals()
    server = HttpServer(
        make_app(),
        listener=narrow(4096),
        arrivals=arrivals,
        keep_alive_seconds=1,
        patience=Patience(write_seconds_max=0.2),
    )
    await server.start()
    raw = socket.socket()
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=256)
        Wire(world, server, reader, writer).send(path=b"/rest")
        await asyncio.wait_for(ended.wait(), SECONDS_MAX)
        assert arrivals.let_in == 1
        await eventually(lambda: arrivals.let_in == 0)
        writer.transport.abort()
    finally:
        raw.close()
        await server.stop()
