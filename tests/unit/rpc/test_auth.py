"""Who is let in: each way of not having the secret is tried over a bare socket, refused and counted."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from objectio.errors import RemoteProtocolError, Unauthenticated, Unavailable
from objectio.rpc import connection as connection_module
from objectio.rpc import server as server_module
from objectio.rpc.auth import (
    METHOD,
    NO_TLS,
    Binding,
    ClientHandshake,
    Identity,
    ServerHandshake,
    client_mac,
    server_mac,
    transcript,
)
from objectio.rpc.frames import FRAME_BYTES_MAX, Frame, FrameReader, Header, Kind, encode
from objectio.rpc.messages import (
    PROTOCOL_NAME,
    Challenge,
    Hello,
    Proof,
    pack,
    unpack_challenge,
    unpack_goodbye,
    unpack_hello,
)

SECRET = bytes(range(100, 132))


class CountingMetrics:
    def __init__(self):
        self.counts = {}

    def counter(self, name, help, **labels):
        metrics, key = self, (name, tuple(sorted(labels.items())))

        class Counter:
            def inc(self, amount=1):
                metrics.counts[key] = metrics.counts.get(key, 0) + amount

        return Counter()

    def gauge_function(self, name, help, read, **labels):
        read()

    def refused(self, side, reason):
        labels = (("reason", reason), ("side", side))
        return self.counts.get(("objectio_rpc_refused_total", labels), 0)


class Bare:
    """Frames over a bare socket, and everything that was received."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.raw = b""
        self._frames = FrameReader(None)
        self._frames.frame_bytes_max = FRAME_BYTES_MAX
        self._got = []

    @classmethod
    async def connect(cls, address):
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, kind, head=b"", **fields):
        self.writer.write(b"".join(encode(Header(kind, **fields), head).parts))

    async def receive(self):
        """The next frame; None at the end."""
        while not self._got:
            try:
                raw = await self.reader.read(1000)
            except ConnectionError:
                raw = b""
            if not raw:
                return None
            self.raw += raw
            self._frames.get_buffer()[: len(raw)] = raw
            self._got += self._frames.received(len(raw))
        return self._got.pop(0)

    async def refusal(self):
        """The reason that is given before the end."""
        frame = await self.receive()
        assert frame.header.kind == Kind.GOAWAY
        assert await self.receive() is None
        return unpack_goodbye(frame.head).reason

    def close(self):
        self.writer.close()


HELLO = Hello(
    PROTOCOL_NAME, [1], [METHOD], os.urandom(32), "gateway", "near", "osd", "", ["shards-1"]
)


@pytest.fixture
def metrics():
    return CountingMetrics()


@pytest.fixture
async def served(make_server, metrics):
    server = make_server(metrics=metrics)
    server.add(1, lambda call: call.reply(b"served"))
    server.where = await server.listen("127.0.0.1:0")
    return server


@pytest.fixture
async def bare(served):
    clients = []

    async def connect():
        clients.append(await Bare.connect(served.where))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


async def challenged(client, hello=HELLO):
    client.send(Kind.HELLO, pack(hello))
    frame = await client.receive()
    assert frame.header.kind == Kind.CHALLENGE
    return frame.head


async def was_refused(client, served, metrics, caplog, reason):
    assert await client.refusal() == reason
    assert served.refused == {reason: 1}
    assert metrics.refused("server", reason) == 1
    assert f"({reason})" in caplog.text


# The server's door.


async def test_with_the_secret(served, bare):
    client = await bare()
    challenge = await challenged(client)
    spoken = transcript(pack(HELLO), challenge, NO_TLS)
    client.send(Kind.PROOF, pack(Proof(client_mac(SECRET, spoken))))
    ready = await client.receive()
    assert ready.header.kind == Kind.READY
    assert ready.head == pack(Proof(server_mac(SECRET, spoken)))
    client.send(Kind.CALL, method=1, call_id=5, timeout_ms=9999)
    assert (await client.receive()).head == b"served"
    assert served.refused == {}
    for secret in (SECRET, SECRET.hex().encode()):
        assert secret not in client.raw


@pytest.mark.parametrize(
    "mac",
    [
        lambda spoken: b"",
        lambda spoken: bytes(32),
        lambda spoken: client_mac(bytes(32), spoken),
        lambda spoken: server_mac(SECRET, spoken),
        lambda spoken: client_mac(SECRET, spoken)[:31],
        lambda spoken: client_mac(SECRET, spoken) + b"x",
        lambda spoken: client_mac(SECRET, spoken[:-1]),
    ],
    ids=["none", "zeros", "another-secret", "servers-label", "short", "long", "other-words"],
)
async def test_without_the_right_proof(served, bare, metrics, caplog, mac):
    client = await bare()
    spoken = transcript(pack(HELLO), await challenged(client), NO_TLS)
    client.send(Kind.PROOF, pack(Proof(mac(spoken))))
    await was_refused(client, served, metrics, caplog, "proof")


@pytest.mark.parametrize("kind", [Kind.CALL, Kind.PROOF, Kind.READY, Kind.PING, Kind.CHALLENGE])
async def test_without_a_hello(served, bare, metrics, caplog, kind):
    client = await bare()
    client.send(kind, pack(Proof(b"")), method=1, timeout_ms=1000)
    await was_refused(client, served, metrics, caplog, "handshake")


@pytest.mark.parametrize("kind", [Kind.CALL, Kind.HELLO])
async def test_without_a_proof(served, bare, metrics, caplog, kind):
    client = await bare()
    await challenged(client)
    client.send(kind, pack(HELLO), method=1, timeout_ms=1000)
    await was_refused(client, served, metrics, caplog, "handshake")


async def test_a_replayed_handshake(served, bare, metrics, caplog):
    client = await bare()
    spoken = transcript(pack(HELLO), await challenged(client), NO_TLS)
    proof = pack(Proof(client_mac(SECRET, spoken)))
    client.send(Kind.PROOF, proof)
    assert (await client.receive()).header.kind == Kind.READY
    replayed = await bare()
    await challenged(replayed)
    replayed.send(Kind.PROOF, proof)
    await was_refused(replayed, served, metrics, caplog, "proof")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": "http"}, "malformed"),
        ({"nonce": b"short"}, "malformed"),
        ({"versions": [0, 2, 99]}, "version"),
        ({"versions": []}, "version"),
        ({"versions": [1] * 1000}, "malformed"),
        ({"methods": ["none", "hmac-md5"]}, "method"),
        ({"methods": []}, "method"),
        ({"role": "stranger"}, "role"),
        ({"role": ""}, "malformed"),
        ({"node": "x" * 200}, "malformed"),
        ({"node": "\x1b[2J"}, "malformed"),
        ({"wanted_role": "meta"}, "wanted"),
        ({"wanted_node": "elsewhere"}, "wanted"),
        ({"capabilities": ["x"] * 100}, "malformed"),
    ],
)
async def test_a_hello_that_is_not_served(served, bare, metrics, caplog, changes, reason):
    client = await bare()
    client.send(Kind.HELLO, pack(msgspec.structs.replace(HELLO, **changes)))
    await was_refused(client, served, metrics, caplog, reason)


@pytest.mark.parametrize("head", [b"", b"\xc1", b"\x90", pack(["objectio-rpc", 1])])
async def test_a_hello_that_cannot_be_read(served, bare, metrics, caplog, head):
    client = await bare()
    client.send(Kind.HELLO, head)
    await was_refused(client, served, metrics, caplog, "head")


async def test_a_stranger_cannot_have_memory_allocated(served, bare, metrics, caplog):
    client = await bare()
    client.send(Kind.HELLO, bytes(5000))
    await was_refused(client, served, metrics, caplog, "malformed")


async def test_a_stranger_cannot_stay(served, bare, monkeypatch, caplog, metrics):
    monkeypatch.setattr(connection_module, "HANDSHAKE_SECONDS", 0.1)
    client = await bare()
    await was_refused(client, served, metrics, caplog, "timeout")


async def test_there_are_few_strangers_at_once(served, bare, monkeypatch, caplog, metrics):
    monkeypatch.setattr(server_module, "STRANGERS_MAX", 3)
    first = [await bare() for _ in range(3)]
    for client in first:
        await challenged(client)
    await was_refused(await bare(), served, metrics, caplog, "strangers")
    first[0].close()
    await first[0].writer.wait_closed()
    while served._strangers > 2:
        await asyncio.sleep(0.005)
    assert await challenged(await bare())


# The client's door: somebody else answers at the server's address.


@pytest.fixture
async def impostor():
    """Listens, and answers each HELLO with what `challenge` and then `proof` say."""
    listeners, seen = [], []

    async def listen(challenge, proof):
        async def answer(reader, writer):
            far = Bare(reader, writer)
            try:
                hello = (await far.receive()).head
                answered = pack(challenge(hello))
                far.send(Kind.CHALLENGE, answered)
                if (frame := await far.receive()) is None or frame.header.kind != Kind.PROOF:
                    return
                spoken = transcript(hello, answered, NO_TLS)
                far.send(Kind.READY, proof(spoken, frame.head))
                seen.append(await far.receive())
            finally:
                writer.close()

        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        listeners.append(listener)
        return f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"

    yield listen
    assert all(frame is None or frame.header.kind == Kind.GOAWAY for frame in seen)
    for listener in listeners:
        listener.close()


GOOD = Challenge(1, METHOD, os.urandom(32), "osd", "far", [], 10, 10**6)


def good(hello):
    return GOOD


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (lambda spoken, clients: pack(Proof(b"")), "proof"),
        (lambda spoken, clients: pack(Proof(server_mac(bytes(32), spoken))), "proof"),
        (lambda spoken, clients: clients, "proof"),
        (lambda spoken, clients: pack(Proof(server_mac(SECRET, spoken[1:]))), "proof"),
        (lambda spoken, clients: b"\xc1", "head"),
    ],
    ids=["none", "another-secret", "reflected", "other-words", "noise"],
)
async def test_a_server_without_the_right_proof(
    impostor, make_channel, metrics, caplog, until, proof, reason
):
    channel = make_channel(await impostor(good, proof), metrics=metrics)
    with pytest.raises((Unauthenticated, Unavailable)):
        await channel.connect(0.3)
    await until(lambda: channel.refused.get(reason, 0) >= 1)
    assert metrics.refused("client", reason) >= 1
    assert f"({reason})" in caplog.text
    assert channel.connection is None
    with pytest.raises(Unavailable):
        await channel.call(1)


async def test_a_server_with_the_right_proof(impostor, make_channel):
    address = await impostor(good, lambda spoken, _: pack(Proof(server_mac(SECRET, spoken))))
    channel = make_channel(address)
    assert (await channel.connect()).node == "far"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 0}, "version"),
        ({"method": "none"}, "method"),
        ({"nonce": b""}, "malformed"),
        ({"role": "meta"}, "wanted"),
        ({"node": "elsewhere"}, "wanted"),
        ({"calls_max": 0}, "malformed"),
    ],
)
async def test_a_challenge_that_is_not_taken(impostor, make_channel, until, changes, reason):
    """Also by a server that has the secret: nobody is talked down to less than was offered."""

    def challenge(hello):
        return msgspec.structs.replace(GOOD, **changes)

    address = await impostor(challenge, lambda spoken, _: pack(Proof(server_mac(SECRET, spoken))))
    channel = make_channel(address, wanted_node="far")
    with pytest.raises((Unauthenticated, Unavailable)):
        await channel.connect(0.3)
    await until(lambda: channel.refused.get(reason, 0) >= 1)


async def test_a_client_with_another_secret_is_told(make_channel, served, identity):
    channel = make_channel(served.where, who=identity(secret=bytes(32)))
    with pytest.raises(Unauthenticated):
        await channel.connect()
    assert served.refused["proof"] >= 1


async def test_a_server_of_a_release_that_lacks_what_is_needed(make_channel, make_server, identity):
    server = make_server(who=identity("osd", "far", capabilities=("shards-0", "kv-1")))
    where = await server.listen("127.0.0.1:0")
    channel = make_channel(where, needs=["shards-1", "kv-1"])
    with pytest.raises(Unauthenticated, match="a release without shards-1"):
        await channel.connect()
    assert channel.refused["capability"] >= 1
    fitting = make_channel(where, needs=["kv-1"])
    assert (await fitting.connect()).capabilities == {"kv-1"}


# Somebody in between. Both ends have the secret.


def shake(alter_hello=lambda hello: hello, alter_challenge=lambda c: c, bindings=(NO_TLS, NO_TLS)):
    near = Identity(secret=SECRET, role="gateway", node="near", capabilities=("a", "b"))
    far = Identity(secret=SECRET, role="osd", node="far", capabilities=("b", "c"))
    client = ClientHandshake(near, bindings[0], "osd")
    server = ServerHandshake(
        far, bindings[1], roles=frozenset(["gateway"]), calls_max=9, bytes_max=99
    )

    def frame(encoded):
        [raw] = encoded.parts
        reader = FrameReader(None)
        reader.get_buffer()[: len(raw)] = raw
        [frame] = reader.received(len(raw))
        return frame

    hello = frame(client.begin())
    [challenge] = server.receive(hello._replace(head=alter_hello(hello.head)))
    challenge = frame(challenge)
    [proof] = client.receive(challenge._replace(head=alter_challenge(challenge.head)))
    [ready] = server.receive(frame(proof))
    assert client.receive(frame(ready)) == []
    return client, server


def test_both_know_each_other():
    client, server = shake()
    assert client.peer == ("osd", "far", 1, frozenset("b"))
    assert server.peer == ("gateway", "near", 1, frozenset("b"))
    assert (client.calls_max, client.bytes_max) == (9, 99)


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": [1, 0]},
        {"methods": [METHOD, "none"]},
        {"nonce": bytes(32)},
        {"node": "another"},
        {"capabilities": []},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_hello_breaks_the_proof(changes):
    def alter(head):
        return pack(msgspec.structs.replace(unpack_hello(head), **changes))

    with pytest.raises(Unauthenticated) as raised:
        shake(alter_hello=alter)
    assert raised.value.fields["reason"] == "proof"


@pytest.mark.parametrize(
    "changes",
    [{"nonce": bytes(32)}, {"node": "another"}, {"capabilities": []}, {"bytes_max": 10**9}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_challenge_breaks_the_proof(changes):
    def alter(head):
        return pack(msgspec.structs.replace(unpack_challenge(head), **changes))

    with pytest.raises(Unauthenticated) as raised:
        shake(alter_challenge=alter)
    assert raised.value.fields["reason"] == "proof"


def test_the_same_words_in_other_bytes_break_the_proof():
    """What is proved is what was sent, and not what it was read as."""
    with pytest.raises(Unauthenticated):
        shake(alter_hello=lambda head: pack([*msgspec.msgpack.decode(head), "more"]))


@pytest.mark.parametrize(
    "others", [NO_TLS, Binding("tls-unique", b"another"), Binding("none", b"session")]
)
def test_another_tls_session_breaks_the_proof(others):
    mine = Binding("tls-unique", b"session")
    shake(bindings=(mine, mine))
    with pytest.raises(Unauthenticated):
        shake(bindings=(mine, others))


def test_a_machine_takes_no_frame_twice():
    client, server = shake()
    for machine, kind in ((client, Kind.CHALLENGE), (server, Kind.HELLO)):
        with pytest.raises(RemoteProtocolError):
            machine.receive(Frame(Header(kind), b"", b""))
