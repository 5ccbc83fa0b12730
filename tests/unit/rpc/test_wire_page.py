"""The page on the wire is enough to write a client."""

from __future__ import annotations

import asyncio
import re
import struct
from pathlib import Path

import msgspec
import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.rpc import (
    admin_messages,
    auth,
    capabilities,
    frames,
    kv_messages,
    sessions_messages,
    shards_messages,
)
from objectio.rpc.kv_service import KVService
from objectio.rpc.shards_service import ShardService
from objectio.store.session_service import SessionService
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_calls import CLUSTER, noise

PAGE = Path(__file__).resolve().parents[3] / "docs/explanation/wire.md"
SECRET = bytes(range(100, 132))
BLOB = bytes(range(16))
MODULES = (shards_messages, kv_messages, sessions_messages, admin_messages)


class Upkeep:
    """Remembers what it is told."""

    def __init__(self):
        self.told = []

    def abandon(self, ref):
        self.told.append(("abandon", ref))

    def damaged(self, ref, mask, *, examine):
        self.told.append(("damaged", ref, mask, examine))

    def garbage(self):
        self.told.append(("garbage",))

    def repairs(self):
        self.told.append(("repairs",))


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text()


@pytest.fixture(scope="module")
def client_class(page):
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["Client"]


@pytest.fixture
async def connect(make_server, client_class, tmp_path):
    factory = MemoryShardStoreFactory()
    factory.prepare(str(tmp_path / "d"), cluster_id=CLUSTER)
    store = await factory.open(str(tmp_path / "d"), cluster_id=CLUSTER)
    kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    server = make_server()
    server.device_id = store.device_id
    ShardService(server, {3: store}, usage_seconds=0)
    KVService(server, kv)
    server.sessions = SessionService(server, kv, lease_seconds=60)
    server.sessions.serve(Upkeep())
    host, port = (await server.listen("127.0.0.1:0")).split(":")
    clients = []

    def open_client(secret=SECRET, role="osd"):
        clients.append(client_class(host, int(port)))
        clients[-1].shake_hands(secret, role)
        return clients[-1]

    open_client.server = server
    yield open_client
    for client in clients:
        client.close()
    await server.sessions.stop()
    await kv.close()


async def test_shards(connect):
    device_id = connect.server.device_id
    keys = [BLOB + struct.pack(">IB", 0, position) for position in range(3)]

    def use():
        client = connect()
        assert msgspec.msgpack.decode(client.call(0x100)[1]) == [[3, device_id]]
        (handle, device, opens, state, usage), _ = client.call(0x101, [3, bytes(16), 1])
        assert (device, opens, state, usage[3]) == (device_id, 1, "up", 0)
        for key, size in zip(keys, (0, 5000, 3_000_000), strict=True):
            put = [handle, key, "replicate", 1, 0, size, 7, True, False]
            (state, usage, failure), _ = client.call(0x103, put, noise(size))
            assert (state, failure) == ("up", None)
        assert usage[3] == 3
        for key, size in zip(keys, (0, 5000, 3_000_000), strict=True):
            assert client.call(0x106, [3, device_id, key, 0, None])[1] == noise(size)
        assert client.call(0x106, [3, device_id, keys[1], 10, 20])[1] == noise(5000)[10:30]
        assert client.call(0x105, [handle])[0][0] == "up"
        client.call(0x104, [handle], keys[0] + keys[2])
        rows = [None, [keys[1], 5000, 7]]
        found = client.call(0x107, [3, device_id], keys[0] + keys[1])[1]
        assert msgspec.msgpack.decode(found) == rows
        found = client.call(0x108, [3, device_id, None, 10])[1]
        assert msgspec.msgpack.decode(found) == rows[1:]
        client.call(0x109, [3, device_id])
        [told, none] = msgspec.msgpack.decode(
            client.call(0x10A, None, msgspec.msgpack.encode([handle, 99]))[1]
        )
        assert (told[0], told[1][3], told[2], none) == ("up", 1, None, None)
        with pytest.raises(LookupError) as raised:
            client.call(0x106, [3, device_id, keys[0], 0, None])
        assert (raised.value.args[0], raised.value.args[2]) == ("NotFound", {"kind": "shard"})
        client.call(0x102, [handle])
        with pytest.raises(LookupError, match="DeviceFailed"):
            client.call(0x105, [handle])

    await asyncio.to_thread(use)


async def test_rows(connect):
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode

    def use():
        client = connect()
        writes = [[b"a", b"1"], [b"b", b""], [b"c", b"3"]]
        assert client.call(0x203, [b"me", 1], pack([[[1, b"a", b""]], writes]))[0] == [None]
        checks = [[3, b"a", b"1"], [2, b"b", b""], [4, b"b", b"c"]]
        assert client.call(0x203, [b"me", 1], pack([checks, [[b"a", None]]]))[0] == [2]
        assert client.call(0x200, [b"c"]) == ([True], b"3")
        assert client.call(0x200, [b"x"]) == ([False], b"")
        result, payload = client.call(0x201, None, pack([b"b", b"x", b"a"]))
        assert (result, unpack(payload)) == ([False], [b"", None, b"1"])
        result, payload = client.call(0x202, [b"b", b"d", True, 10])
        assert (result, unpack(payload)) == ([False], [[b"c", b"3"], [b"b", b""]])
        assert unpack(client.call(0x204)[1])["rows"] >= 3
        (log, number, reset), _ = client.call(0x205, [b"", b"", 0, 0])
        assert reset is True
        client.call(0x203, [b"me", 1], pack([[], [[b"new", b""]]]))
        (same, after, reset), payload = client.call(0x205, [b"n", log, number, 1000])
        assert (same, after > number, reset, unpack(payload)) == (log, True, False, [b"new"])
        assert client.call(0x205, [b"n", log, after, 10])[0] == [log, after, False]

    await asyncio.to_thread(use)


async def test_sessions(connect):
    pack = msgspec.msgpack.encode
    loop, sessions = asyncio.get_running_loop(), connect.server.sessions
    upkeep = sessions._upkeep

    def use():
        client = connect()
        (session, term, number, pools, lease_ms), _ = client.call(0x300, ["page"])
        assert lease_ms == 60_000
        row = [2, b"c/session/" + session, b""]
        assert client.call(0x203, [b"me", 1], pack([[row], [[b"a", b"1"]]]))[0] == [None]
        survey = asyncio.run_coroutine_threadsafe(sessions.survey(), loop)
        asked = client.call(0x301, [session, term, number, 0])[0]
        assert asked[:2] == [term, number + 1]
        late = asyncio.run_coroutine_threadsafe(sessions.survey(), loop)
        poll = [session, term, number + 1, 1]
        assert client.call(0x301, poll, BLOB + BLOB[::-1])[0] == [term, number + 2, asked[2]]
        assert survey.result(10) == ({BLOB}, {BLOB[::-1]})
        blob = [BLOB, 100, 1]
        client.call(0x302, [session], pack([[blob], [[blob, 3, True]], True, True]))
        client.call(0x303, [session])
        assert late.result(10) == (set(), set())
        assert client.call(0x203, [b"me", 1], pack([[row], [[b"a", b"1"]]]))[0] == [0]
        with pytest.raises(LookupError) as raised:
            client.call(0x301, poll)
        assert (raised.value.args[0], raised.value.args[2]) == ("NotFound", {"kind": "session"})

    await asyncio.to_thread(use)
    ref = (BLOB, 100, 1)
    wanted = [("abandon", ref), ("damaged", ref, 3, True), ("garbage",), ("repairs",)]
    assert upkeep.told == wanted


async def test_a_client_without_the_secret(connect):
    with pytest.raises(AssertionError, match="proof"):
        await asyncio.to_thread(connect, bytes(32))
    with pytest.raises(AssertionError, match="wanted"):
        await asyncio.to_thread(connect, SECRET, "meta")


def test_the_tables_of_the_page_are_complete(page):
    rows = {
        tuple(cell.strip() for cell in line.split("|")[1:3])
        for line in page.splitlines()
        if line.startswith("|")
    }
    for kind in frames.Kind:
        assert (str(int(kind)), kind.name) in rows
    methods = {row[0] for row in rows if row[0].startswith("0x")}
    wanted = [each for module in MODULES for each in module.Method]
    assert methods == {f"0x{int(method):04X} {method.name}" for method in wanted}


def test_the_numbers_of_the_page_are_right(page):
    assert f"Protocol version {frames.PROTOCOL_VERSION}." in page
    assert (
        f"| {frames.HEADER_BYTES} | … | head: at most {frames.HEAD_BYTES_MAX // 1024} KiB" in page
    )
    assert f"at most {frames.PAYLOAD_BYTES_MAX // 2**20} MiB, to the end" in page
    assert f"at most {frames.HANDSHAKE_FRAME_BYTES_MAX // 1024} KiB" in page
    assert f"longer than {kv_messages.ANSWER_BYTES // 2**20} MiB" in page
    assert f"At most {sessions_messages.NOTES_MAX} blobs" in page
    for name in (auth.METHOD, *capabilities.ALL):
        assert f"`{name}" in page
