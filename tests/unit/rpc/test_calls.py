"""Calls over real sockets: answers, errors, deadlines, cancelling, flow control, lost connections."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from contextlib import suppress

import pytest

from objectio import errors
from objectio.errors import (
    DeviceFailed,
    LocalProtocolError,
    NotFound,
    OperationNotImplemented,
    RemoteProtocolError,
    Unavailable,
)
from objectio.rpc import client as client_module
from objectio.rpc import connection as connection_module
from objectio.rpc import server as server_module
from objectio.rpc.budget import CONNECTION_BYTES_MAX
from objectio.rpc.dispatch import Dispatcher
from objectio.rpc.frames import HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, Header, Kind, encode
from objectio.rpc.messages import pack_error, unpack_error
from objectio.rpc.priority import background

ECHO, FAIL, WAIT, SINK, SOURCE = 1, 2, 3, 4, 5
MIB = 1024 * 1024


class Far:
    """Handlers to call. What waits goes on when `gate` is set."""

    def __init__(self, server):
        self.gate = asyncio.Event()
        self.error = RuntimeError("a bug")
        self.begun, self.cancelled = 0, 0
        self.order = []
        for method, handler in (
            (ECHO, self.echo),
            (FAIL, self.fail),
            (WAIT, self.wait),
            (SINK, self.sink),
            (SOURCE, self.source),
        ):
            server.add(method, handler)

    def echo(self, call):
        self.order.append(call.head)
        call.reply(call.head, [bytes(call.payload)])

    def fail(self, call):
        raise self.error

    async def wait(self, call):
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.order.append(call.head)
        call.reply(call.head)

    async def sink(self, call):
        self.begun += 1
        await self.gate.wait()
        call.reply(str(len(call.payload)).encode())

    async def source(self, call):
        size = int(call.head)
        replies = call.connection.replies
        await replies.take(size)
        self.begun += 1
        call.reply(b"", [bytes(size)])
        replies.give(size)


@pytest.fixture(params=["tcp", "unix"])
def address(request, socket_dir):
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{socket_dir}/s"


@pytest.fixture
async def pair(make_server, make_channel, address):
    """(channel, what is at its far end, the server)."""
    server = make_server()
    far = Far(server)
    channel = make_channel(await server.listen(address))
    await channel.connect()
    yield channel, far, server
    far.gate.set()


async def test_many_calls_of_all_sizes_at_once(pair):
    channel, far, _ = pair
    source = random.Random(5)
    sizes = [0, 1, 4096, 4097, 16383, 16384, 65536, 70_000, 3 * MIB, *range(100)] * 2
    source.shuffle(sizes)

    async def one(number, size):
        payload = source.randbytes(size)
        half = size // 2
        reply = await channel.call(ECHO, b"%d" % number, [payload[:half], payload[half:]])
        assert (reply.head, bytes(reply.payload)) == (b"%d" % number, payload)

    await asyncio.gather(*(one(number, size) for number, size in enumerate(sizes)))


async def test_calls_arrive_in_order(pair):
    channel, far, _ = pair
    heads = [b"%d" % number for number in range(2000)]
    await asyncio.gather(*(channel.call(ECHO, head) for head in heads))
    assert far.order == heads


@pytest.mark.parametrize("size", [0, 100, 5000, 200_000])
async def test_an_answer_is_received_where_it_is_wanted(pair, size):
    channel, _, _ = pair
    payload, into = os.urandom(size), memoryview(bytearray(size + 10))
    reply = await channel.call(ECHO, b"", [payload], into=into)
    assert bytes(into[:size]) == payload
    assert bytes(reply.payload) == payload
    assert not into[size:].tobytes().strip(b"\0")


async def test_exceptions_cross_the_wire_with_their_fields(pair):
    channel, far, _ = pair
    for error in (
        NotFound("no shard", kind="shard", osd=3),
        DeviceFailed("gone", gone=True, ratio=0.5, nothing=None, raw=b"x"),
        errors.ChecksumMismatch("bits"),
    ):
        far.error = error
        with pytest.raises(type(error)) as raised:
            await channel.call(FAIL)
        assert type(raised.value) is type(error)
        assert (raised.value.message, raised.value.fields) == (error.message, error.fields)


async def test_a_bug_over_there_is_told_and_logged(pair, caplog):
    channel, _, _ = pair
    with pytest.raises(Unavailable, match="RuntimeError: a bug"):
        await channel.call(FAIL)
    assert "a bug" in caplog.text
    assert (await channel.call(ECHO, b"x")).head == b"x"


def test_every_exception_of_ours_comes_back_as_itself():
    def tree(kind):
        return {kind}.union(*(tree(each) for each in kind.__subclasses__()))

    for kind in tree(errors.ObjectIOError):
        if kind.__module__ == errors.__name__:
            assert type(unpack_error(pack_error(kind("m", k=1)))) is kind

    class Special(NotFound):
        pass

    assert type(unpack_error(pack_error(Special("m")))) is NotFound
    far = pack_error(DeviceFailed("\U0001f4be" * 5000, a="\U0001f4be" * 5000, o=[1]))
    assert len(far) < HEAD_BYTES_MAX
    assert type(unpack_error(far)) is DeviceFailed


async def test_a_method_that_nobody_serves(pair):
    channel, _, _ = pair
    with pytest.raises(OperationNotImplemented):
        await channel.call(999)


async def test_what_is_too_large_is_refused_here(pair):
    channel, _, _ = pair
    for head, payload in ((b"h" * (HEAD_BYTES_MAX + 1), b""), (b"", bytes(PAYLOAD_BYTES_MAX + 1))):
        with pytest.raises(LocalProtocolError):
            await channel.call(ECHO, head, [payload])
    assert (await channel.call(ECHO, b"x")).head == b"x"


async def test_the_largest_payload(pair):
    channel, far, _ = pair
    far.gate.set()
    payload = bytes(PAYLOAD_BYTES_MAX)
    assert (await channel.call(SINK, b"", [payload])).head == b"%d" % PAYLOAD_BYTES_MAX


# Deadlines and cancelling.


async def test_a_deadline_ends_the_call_and_the_task_over_there(pair, until):
    channel, far, server = pair
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await channel.call(WAIT, timeout_seconds=0.3)
    assert raised.value.fields["reason"] == "timeout"
    assert 0.25 < time.monotonic() - began < 5
    await until(lambda: far.cancelled == 1)
    await until(lambda: server.dispatcher.running == 0)
    assert (await channel.call(ECHO, b"x")).head == b"x"
    assert channel.connection.calls == 0


async def test_cancelling_reaches_the_task_over_there(pair, until):
    channel, far, server = pair
    task = asyncio.create_task(channel.call(WAIT))
    await until(lambda: far.begun == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: far.cancelled == 1)
    await until(lambda: channel.connection.calls == 0)
    assert server.dispatcher.running == 0


async def test_a_call_that_is_cancelled_before_its_task_begins(pair, until):
    """The connection may end in the turn in which a call came."""
    channel, far, server = pair
    handlers = server.dispatcher.handlers
    wait = handlers[WAIT]

    def cancelled_at_once(call):
        asyncio.get_running_loop().call_soon(server.dispatcher.cancel, call)
        return wait(call)

    handlers[WAIT] = cancelled_at_once
    with pytest.raises(Unavailable) as raised:
        await channel.call(WAIT, payload=(bytes(MIB),))
    assert raised.value.fields["reason"] == "cancelled"
    assert (far.begun, server.dispatcher.running, server.pool.used_bytes) == (0, 0, 0)


async def test_a_call_that_is_cancelled_before_it_is_sent_is_not_sent(pair):
    channel, far, _ = pair
    call = channel.connection.start(ECHO, b"never", (), lambda reply, error: None)
    channel.connection.cancel(call)
    await channel.call(ECHO, b"next")
    assert far.order == [b"next"]
    assert channel.connection.calls == 0


async def test_an_abandoned_answer_touches_no_memory(pair, until):
    channel, far, _ = pair
    into = memoryview(bytearray(MIB))
    task = asyncio.create_task(channel.call(SOURCE, b"%d" % MIB, into=into))
    await until(lambda: far.begun == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    into[:] = b"\x07" * MIB
    await until(lambda: channel.connection.calls == 0)
    assert bytes(into) == b"\x07" * MIB


async def test_memory_that_is_taken_back_while_it_is_sent_ends_the_connection(
    pair, until, monkeypatch
):
    """Else the system would go on sending from it."""
    channel, far, server = pair
    first = channel.connection
    [far_side] = server._connections
    far_side._transport.pause_reading()
    lent = bytearray(24 * MIB)
    task = asyncio.create_task(channel.call(SINK, b"", [lent]))
    await until(lambda: first._transport.get_write_buffer_size() > 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: first.closed.done())
    assert first.failure.fields["reason"] == "lent"
    await until(lambda: channel.connection not in (None, first), "no new connection")
    lent.extend(b"x")  # nothing holds on to the memory


# Lost connections.


async def test_calls_under_way_fail_when_the_connection_is_lost(pair, until):
    channel, far, server = pair
    calls = [asyncio.create_task(channel.call(WAIT)) for _ in range(5)]
    await until(lambda: far.begun == 5)
    for each in list(server._connections):
        each._transport.abort()
    for call in calls:
        with pytest.raises(Unavailable) as raised:
            await call
        assert raised.value.fields["reason"] == "lost"
    await until(lambda: far.cancelled == 5)


async def test_without_a_connection_calls_fail_at_once_and_it_comes_back(
    make_server, make_channel, until, address
):
    server = make_server()
    Far(server)
    where = await server.listen(address)
    channel = make_channel(where)
    ups, downs = [], []
    channel.on_up.append(lambda: ups.append(1))
    channel.on_down.append(downs.append)
    await channel.connect()
    await server.close(0)
    await until(lambda: channel.connection is None)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            await channel.call(ECHO)
        assert raised.value.fields["reason"] == "disconnected"
        assert time.monotonic() - began < 0.5
    server = make_server()
    Far(server)
    await server.listen(where)
    await channel.connect(15)
    assert (await channel.call(ECHO, b"x")).head == b"x"
    assert (len(ups), len(downs)) == (2, 1)


async def test_connecting_to_nothing_ends(make_channel, socket_dir):
    channel = make_channel(f"unix:{socket_dir}/nobody")
    with pytest.raises(Unavailable) as raised:
        await channel.connect(0.3)
    assert isinstance(raised.value.__cause__, OSError)


async def test_a_peer_that_says_nothing_is_given_up(pair, until, monkeypatch):
    channel, far, server = pair
    first = channel.connection
    monkeypatch.setattr(client_module, "PING_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "DEAD_SECONDS", 0.3)
    first._beat()
    call = asyncio.create_task(channel.call(WAIT))
    await until(lambda: far.begun == 1)
    for each in server._connections:
        each._transport.pause_reading()
    with pytest.raises(Unavailable) as raised:
        await call
    assert raised.value.fields["reason"] == "lost"
    assert first.failure.fields["reason"] == "dead"


async def test_pings_keep_a_quiet_connection(pair, monkeypatch):
    channel, _, server = pair
    first = channel.connection
    monkeypatch.setattr(client_module, "PING_SECONDS", 0.02)
    monkeypatch.setattr(client_module, "DEAD_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.2)
    first._beat()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        assert channel.connection is first


async def test_a_server_that_closes_lets_calls_end(pair, until):
    channel, far, server = pair
    call = asyncio.create_task(channel.call(WAIT, b"x"))
    await until(lambda: far.begun == 1)
    closing = asyncio.create_task(server.close())
    await until(lambda: channel.connection is None)
    with pytest.raises(Unavailable):
        await channel.call(ECHO)
    far.gate.set()
    assert (await call).head == b"x"
    await asyncio.wait_for(closing, 5)


async def test_a_channel_that_closes_lets_calls_end_or_ends_them(pair, until):
    channel, far, _ = pair
    call = asyncio.create_task(channel.call(WAIT, b"x"))
    await until(lambda: far.begun == 1)
    await channel.close()
    with pytest.raises(Unavailable):
        await call
    with pytest.raises(Unavailable):
        await channel.call(ECHO)


# Flow control.


async def test_bytes_under_way_have_a_bound_and_the_rest_waits(pair, until):
    channel, far, server = pair
    size = 4 * MIB
    count = 3 * CONNECTION_BYTES_MAX // size
    calls = [asyncio.create_task(channel.call(SINK, b"", [bytes(size)])) for _ in range(count)]
    fit = CONNECTION_BYTES_MAX // size - 1  # heads count, too
    await until(lambda: far.begun == fit)
    assert far.begun == fit
    assert server.pool.used_bytes == fit * size
    assert channel.connection.calls == count
    far.gate.set()
    assert [reply.head for reply in await asyncio.gather(*calls)] == [b"%d" % size] * count
    assert server.pool.used_bytes == 0


async def test_a_client_that_does_not_count_is_cut_off(pair, until):
    channel, far, _ = pair
    connection = channel.connection
    connection._bytes_max = 10 * CONNECTION_BYTES_MAX
    size = CONNECTION_BYTES_MAX // 2
    calls = [asyncio.create_task(channel.call(SINK, b"", [bytes(size)])) for _ in range(4)]
    for call in calls:
        with pytest.raises(Unavailable):
            await call
    assert isinstance(connection.failure, Unavailable | RemoteProtocolError | OSError)
    await until(lambda: far.begun <= 2)


async def test_a_client_that_reads_no_answers_has_none_made(pair, until):
    channel, far, server = pair
    client, [far_side] = channel.connection, server._connections
    client._transport.pause_reading()
    size, count = 2 * MIB, 60
    calls = [asyncio.create_task(channel.call(SOURCE, b"%d" % size)) for _ in range(count)]
    bound = CONNECTION_BYTES_MAX + connection_module.WRITE_HIGH_BYTES + 3 * size
    await until(lambda: far.begun * size >= CONNECTION_BYTES_MAX)
    for _ in range(20):
        await asyncio.sleep(0.005)
    kernel = 8 * MIB  # what sockets hold
    assert far.begun * size <= bound + kernel
    assert far_side.replies.used_bytes <= bound
    client._transport.resume_reading()
    assert [len(reply.payload) for reply in await asyncio.gather(*calls)] == [size] * count
    await until(lambda: far_side.replies.used_bytes == 0)


async def test_a_server_without_memory_reads_on_when_there_is_some(pair, until):
    channel, far, server = pair
    server.pool._budget.bytes_max = 3 * MIB
    calls = [asyncio.create_task(channel.call(SINK, b"", [bytes(MIB)])) for _ in range(9)]
    await until(lambda: far.begun == 3)
    [far_side] = server._connections
    await until(lambda: far_side.reader.blocked)
    assert server.pool.used_bytes == 3 * MIB
    far.gate.set()
    await asyncio.gather(*calls)
    assert server.pool.used_bytes == 0


async def test_a_peer_that_takes_its_share_leaves_the_others_theirs(
    pair, make_channel, identity, until
):
    channel, far, server = pair
    budget, _ = server._peers["near"]
    budget.bytes_max = 2 * MIB
    calls = [asyncio.create_task(channel.call(SINK, b"", [bytes(MIB)])) for _ in range(5)]
    await until(lambda: far.begun == 2)
    other = make_channel(channel.address, who=identity(node="other"))
    await other.connect()
    more = asyncio.create_task(other.call(SINK, b"", [bytes(MIB)]))
    await until(lambda: far.begun == 3)
    far.gate.set()
    await asyncio.gather(*calls, more)


# Priorities.


async def test_background_work_waits_for_what_people_wait_for(pair, until):
    channel, far, server = pair
    server.dispatcher._running_max = 4
    server.dispatcher._background_max = 1

    async def in_background(head):
        with background():
            await channel.call(WAIT, head)

    calls = [asyncio.create_task(in_background(b"back%d" % number)) for number in range(3)]
    await until(lambda: far.begun == 1 and server.dispatcher.waiting == 2)
    calls += [asyncio.create_task(channel.call(WAIT, b"fore%d" % number)) for number in range(6)]
    await until(lambda: far.begun == 4 and server.dispatcher.waiting == 5)
    far.gate.set()
    await asyncio.gather(*calls)
    assert far.order.index(b"back1") > far.order.index(b"fore5")


async def test_background_frames_are_sent_last(pair):
    channel, far, _ = pair
    connection, done = channel.connection, asyncio.Event()
    heard = []

    def answered(reply, error):
        heard.append(reply.head)
        if len(heard) == 3:
            done.set()

    connection.start(ECHO, b"background", (), answered, background=True)
    connection.start(ECHO, b"one", (), answered)
    connection.start(ECHO, b"two", (), answered)
    await done.wait()
    assert far.order == [b"one", b"two", b"background"]


async def test_a_call_that_waited_beyond_its_deadline_is_not_begun(pair, until):
    channel, far, server = pair
    server.dispatcher._running_max = 1
    first = asyncio.create_task(channel.call(WAIT))
    await until(lambda: far.begun == 1)
    with pytest.raises(Unavailable):
        await channel.call(ECHO, b"late", timeout_seconds=0.2)
    [far_side] = server._connections
    await until(lambda: len(far_side.calls) == 1)
    far.gate.set()
    await first
    await channel.call(ECHO, b"next")
    assert far.order == [b"", b"next"]


async def test_answers_from_within_handlers_do_not_nest():
    """A dispatcher whose only place is freed by each call at once, ten thousand times."""
    dispatcher = Dispatcher(asyncio.get_running_loop(), 1)
    served = []

    class Call:
        background, is_over, task, method, deadline = False, False, None, 1, float("inf")

    def handler(call):
        if not served:
            dispatcher._foreground.extend(Call() for _ in range(10_000))
        served.append(call)
        call.is_over = True
        dispatcher.left(call)

    dispatcher.handlers[1] = handler
    dispatcher.add(Call())
    assert len(served) == 10_001
    assert dispatcher.running == 0


# What is no client.


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3, os.urandom(5000), b""])
async def test_other_protocols_are_shown_the_door(make_server, raw, until):
    server = make_server()
    where = await server.listen("127.0.0.1:0")
    host, port = where.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    if not raw:
        writer.write_eof()
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
    await until(lambda: sum(server.refused.values()) == 1)


async def test_a_frame_that_does_not_belong_ends_the_connection(pair, until):
    channel, _, server = pair
    first = channel.connection
    first.sender.send(encode(Header(Kind.READY)))
    await until(lambda: first.closed.done())
    await until(lambda: channel.connection not in (None, first))
    assert len(server._connections) == 1


async def test_nothing_is_left_behind(make_server, make_channel, until):
    server = make_server()
    far = Far(server)
    where = await server.listen("127.0.0.1:0")
    for _ in range(5):
        channel = make_channel(where)
        await channel.connect()
        await channel.call(ECHO, b"x", [bytes(100_000)])
        await channel.close()
    await until(lambda: not server._connections)
    assert server._peers == {}
    assert server._strangers == 0
    assert server.pool.used_bytes == 0
    assert far.order
    gc.collect()
