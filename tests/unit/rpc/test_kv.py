"""The key-value store of another node answers as the store itself does."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Absent, Equals, Present, RangeEmpty
from objectio.errors import CommitConflict, DeviceFailed, InvalidRequest, Unavailable
from objectio.kv import changes as changes_module
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.limits import KV_KEY_BYTES_MAX, KV_SCAN_ROWS_MAX, KV_VALUE_BYTES_MAX
from objectio.rpc import kv as rpc_kv
from objectio.rpc import kv_service as service_module
from objectio.rpc.kv import RemoteKV
from objectio.rpc.kv_messages import Method
from objectio.rpc.kv_service import KVService
from objectio.rpc.priority import background
from objectio.testing.kv import KVConformance
from objectio.testing.kv_remote import capabilities_of


class TestOverASocket(KVConformance):
    driver = "objectio.testing.kv_remote:DRIVER"
    loops = ("asyncio",)


class TestOverASocketToAnEngineThatLasts(KVConformance):
    """Also killed with its process, and with a disk that is full."""

    driver = "objectio.testing.kv_remote:DRIVER"
    engine = "objectio_kv_lmdb.plugin:DRIVER"
    settings = {"driver": engine}
    loops = ("asyncio",)

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("objectio_kv_lmdb")

    @pytest.fixture
    def capabilities(self):
        return capabilities_of(self.engine)


class Engine(MemoryKV):
    """Counts batches, and can be made to wait or to fail."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.error = None
        self.batches = self.begun = 0

    def commit(self, commits):
        self.begun += 1
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.batches += 1
        return super().commit(commits)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
async def local(engine):
    store = KVStore(engine, frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    yield store
    engine.gate.set()
    await store.close()


@pytest.fixture
async def meta(make_server, identity, local):
    server = make_server(who=identity("meta", "m"))
    server.kv = KVService(server, local)
    server.where = await server.listen("127.0.0.1:0")
    return server


@pytest.fixture
async def make_kv(meta, make_channel, identity):
    async def make(node="near"):
        channel = make_channel(meta.where, who=identity(node=node), wanted_role="meta")
        await channel.connect()
        kv = RemoteKV(channel)
        kv.channel = channel
        return kv

    return make


@pytest.fixture
async def kv(make_kv):
    return await make_kv()


async def outcome(work):
    try:
        return await work
    except CommitConflict as error:
        return type(error.fields["check"]), error.fields["check"]


@pytest.mark.parametrize("seed", range(4))
async def test_it_answers_as_the_store_itself(kv, seed):
    model = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    source = random.Random(seed)

    def key():
        return bytes(source.choices(b"\x00ab\xff", k=source.randrange(1, 4)))

    def check():
        kind = source.choice([Absent, Present, Equals, RangeEmpty])
        return kind(key(), key()) if kind in (Equals, RangeEmpty) else kind(key())

    for _ in range(150):
        writes = {key(): source.choice([None, b"", key()]) for _ in range(source.randrange(4))}
        checks = [check() for _ in range(source.randrange(3))]
        todo = (checks, list(writes.items()))
        assert await outcome(kv.commit(*todo)) == await outcome(model.commit(*todo))
        names = [key() for _ in range(5)]
        assert await kv.aget_many(names) == model.get_many(names)
        assert await kv.aget(names[0]) == model.get(names[0])
        span, reverse = sorted([key(), key()]), source.random() < 0.5
        found = await kv.ascan(*span, reverse=reverse, limit=5)
        assert found == model.scan(*span, reverse=reverse, limit=5)
        prefix, after = key()[:1], key()
        found = await kv.ascan_prefix(prefix, after=after, reverse=reverse)
        assert found == model.scan_prefix(prefix, after=after, reverse=reverse)
    assert [row async for row in kv.arows(page_rows=3)] == model.scan()
    await model.close()


async def test_commits_of_many_join_in_order_of_arrival(make_kv, engine):
    clients = [await make_kv(f"g{number}") for number in range(3)]
    works = []
    for number in range(100):
        for which, kv in enumerate(clients):
            last = [Present(b"%d/%d" % (which, number - 1))] if number else []
            works.append(kv.commit(last, [(b"%d/%d" % (which, number), b"")]))
    await asyncio.gather(*works)  # each needs the one before it of its connection
    assert len(await clients[0].ascan(b"0", b"9")) == 300
    assert engine.batches < 60


async def test_errors_are_those_of_the_store(kv, engine):
    for work in (
        kv.aget(b""),
        kv.aget_many([b"k" * (KV_KEY_BYTES_MAX + 1)]),
        kv.ascan(limit=KV_SCAN_ROWS_MAX + 1),
        kv.commit([], [(b"k", b"v" * (KV_VALUE_BYTES_MAX + 1))]),
        kv.commit([], [(b"k", b""), (b"k", b"")]),
    ):
        with pytest.raises(InvalidRequest):
            await work

    engine.error = OSError(5, "the disk")
    with pytest.raises(DeviceFailed) as raised:
        await kv.commit([], [(b"k", b"")])
    assert raised.value.fields["errno"] == 5


async def test_rows_asked_for_at_once_are_one_call_and_one_snapshot(kv, local, meta):
    await local.commit([], [(b"k%d" % number, b"%d" % number) for number in range(0, 600, 2)])
    called = []
    for method, handler in list(meta.dispatcher.handlers.items()):

        def counted(call, handler=handler, method=method):
            called.append(Method(method))
            return handler(call)

        meta.dispatcher.handlers[method] = counted
    found = await asyncio.gather(*(kv.aget(b"k%d" % number) for number in range(600)))
    assert found == [b"%d" % number if number % 2 == 0 else None for number in range(600)]
    assert called == [Method.GET_MANY] * 3
    called.clear()
    assert await kv.aget(b"k2") == b"2"
    assert called == [Method.GET]


async def test_large_rows_asked_for_at_once_come_in_several_answers(kv, local):
    for number in range(20):
        await local.commit([], [(b"big%d" % number, bytes([number]) * KV_VALUE_BYTES_MAX)])
    found = await asyncio.gather(*(kv.aget(b"big%d" % number) for number in range(20)))
    assert found == [bytes([number]) * KV_VALUE_BYTES_MAX for number in range(20)]


async def test_each_who_asks_gets_an_error_of_its_own(kv, meta):
    await meta.close(0)
    found = await asyncio.gather(
        *(kv.aget(b"k%d" % number) for number in range(3)), return_exceptions=True
    )
    assert [type(each) for each in found] == [Unavailable] * 3
    assert len({id(each) for each in found}) == 3


async def test_long_answers_come_in_pieces(kv, local):
    rows = [(b"%03d" % number, bytes([number]) * KV_VALUE_BYTES_MAX) for number in range(40)]
    for row in rows:
        await local.commit([], [row])
    assert await kv.ascan() == rows
    assert await kv.ascan(reverse=True, limit=35) == rows[:4:-1]
    assert await kv.aget_many([key for key, _ in rows] + [b"none"]) == [
        *(value for _, value in rows),
        None,
    ]


async def test_an_engine_whose_reads_block(make_server, make_channel, identity):
    store = KVStore(MemoryKV(), frozenset(), ThreadModel.PARALLEL)
    server = make_server(who=identity("meta", "m"))
    KVService(server, store)
    channel = make_channel(await server.listen("127.0.0.1:0"), wanted_role="meta")
    await channel.connect()
    kv = RemoteKV(channel)
    await kv.commit([], [(b"k", b"v"), (b"e", b"")])
    assert [await kv.aget(key) for key in (b"k", b"e", b"n")] == [b"v", b"", None]
    assert await kv.astats() == {"rows": 2}
    await channel.close()
    await server.close(0)
    await store.close()


async def test_a_watch_tells_what_was_written(kv, make_kv):
    other = await make_kv("other")
    changes = kv.watch(b"a/")
    first = await anext(changes)
    assert (first.keys, first.reset) == ([], True)
    waiting = asyncio.ensure_future(anext(changes))
    await other.commit([], [(b"b/1", b"")])
    with pytest.raises(CommitConflict):
        await other.commit([Present(b"none")], [(b"a/0", b"")])
    await other.commit([], [(b"a/1", b"x"), (b"b/2", b"")])
    change = await waiting
    assert (change.keys, change.reset) == ([b"a/1"], False)
    assert await kv.aget(b"a/1") == b"x"
    for value in (b"1", b"2"):
        await other.commit([], [(b"a/1", value), (b"a/2", value), (b"a/1/", None)])
    seen = set()
    while seen != {b"a/1", b"a/2", b"a/1/"}:
        change = await anext(changes)
        assert not change.reset
        seen |= set(change.keys)
    await changes.aclose()


async def test_a_watch_survives_its_connection(kv, make_kv, meta):
    other = await make_kv("other")
    changes = kv.watch(b"")
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    kv.channel.connection.abort(Unavailable("cut"))
    await other.commit([], [(b"k", b"")])
    change = await waiting
    assert (change.keys, change.reset) == ([b"k"], False)
    await changes.aclose()


async def test_watches_do_not_hold_up_the_end(make_kv, meta, make_server, identity, local, until):
    kv = await make_kv()
    changes = kv.watch(b"")
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    await until(lambda: meta.dispatcher.running == 1, "nobody watches")
    async with asyncio.timeout(5):  # half of what it waits for calls
        await meta.close()
    again = make_server(who=identity("meta", "m"))
    KVService(again, local)
    await again.listen(meta.where)
    await local.commit([], [(b"k", b"")])
    change = await asyncio.wait_for(waiting, 20)
    assert change.reset or change.keys == [b"k"]
    await changes.aclose()


async def test_a_watch_that_fell_behind_forgets_everything(kv, local, monkeypatch):
    monkeypatch.setattr(changes_module, "WATCH_KEYS_MAX", 3)
    changes = kv.watch(b"")
    await anext(changes)
    await local.commit([], [(b"%d" % number, b"") for number in range(4)])
    assert (await anext(changes)).reset
    await local.commit([], [(b"k", b"")])
    assert await anext(changes) == ([b"k"], False)
    waiting = asyncio.ensure_future(anext(changes))
    local.changes.forget()
    assert await waiting == ([], True)
    await changes.aclose()


async def test_a_watch_waits_through_what_it_does_not_ask_for(kv, local, monkeypatch):
    """Many other keys pass by while it waits: more than the log holds."""
    monkeypatch.setattr(changes_module, "LOG_KEYS_MAX", 5)
    monkeypatch.setattr(rpc_kv, "WATCH_SECONDS", 0.05)
    local.changes._keys = deque(maxlen=5)
    changes = kv.watch(b"a")
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    for number in range(20):
        await local.commit([], [(b"b%d" % number, b"")])
        await kv.aget(b"b")
    await local.commit([], [(b"a", b"")])
    assert await waiting == ([b"a"], False)
    await changes.aclose()


async def test_a_commit_whose_caller_has_gone_is_told_to_watchers(kv, make_kv, local, engine):
    other = await make_kv("other")
    engine.gate.clear()
    begun = engine.begun
    changes = kv.watch(b"")
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    commit = asyncio.ensure_future(other.commit([], [(b"k", b"v")]))
    while engine.begun == begun:
        await asyncio.sleep(0.001)
    other.channel.connection.abort(Unavailable("cut"))
    with pytest.raises(Unavailable) as raised:
        await commit
    assert raised.value.fields["reason"] == "lost"
    engine.gate.set()
    assert (await waiting).keys == [b"k"]
    assert local.get(b"k") == b"v"
    await changes.aclose()


async def test_nothing_comes_out_of_an_old_connection_after_a_newer_commit(
    kv, meta, local, make_channel, identity, until
):
    """A commit that was lost may be in a socket still. Here it is, until the new one is through."""
    first = kv.channel.connection
    await kv.commit([], [(b"k", b"0")])
    [old] = meta._connections
    old._transport.pause_reading()
    lost = asyncio.ensure_future(kv.commit([], [(b"k", b"old")]))
    await until(lambda: first.calls == 1)
    again = make_channel(meta.where, wanted_role="meta")
    await again.connect()
    kv._channel = again
    await kv.commit([], [(b"k", b"new")])
    old._transport.resume_reading()
    with pytest.raises(Unavailable) as raised:
        await lost
    assert raised.value.fields["reason"] == "fenced"
    assert local.get(b"k") == b"new"
    await kv.barrier()


async def test_clients_that_are_remembered_have_a_bound(meta, make_kv, monkeypatch):
    monkeypatch.setattr(service_module, "INSTANCES_MAX", 3)
    for number in range(6):
        kv = await make_kv(f"g{number}")
        for _ in range(2):
            await kv.commit([], [(b"k", b"")])
    assert len(meta.kv._epochs) == 3
    assert kv._instance in meta.kv._epochs


async def test_commits_of_background_tasks_keep_their_place(kv, meta):
    seen = []
    handlers = meta.dispatcher.handlers
    commit = handlers[Method.COMMIT]
    handlers[Method.COMMIT] = lambda call: seen.append(call.background) or commit(call)
    with background():
        await kv.commit([], [(b"k", b"")])
    assert seen == [False]
