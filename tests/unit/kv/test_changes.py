"""Who watches a store is told of every commit, whoever made it and however."""

from __future__ import annotations

import asyncio

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Absent, Present
from objectio.errors import CommitConflict, DeviceFailed, Unavailable
from objectio.kv import changes as changes_module
from objectio.kv.changes import ChangeLog
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore


class Engine(MemoryKV):
    error = None

    def commit(self, commits):
        if self.error is not None:
            raise self.error
        return super().commit(commits)


@pytest.fixture
def engine():
    return Engine()


def open_store(engine, **more):
    return KVStore(engine, frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL, **more)


@pytest.fixture
async def store(engine):
    store = open_store(engine)
    yield store
    await store.close()


class Journal:
    def __init__(self):
        self.numbers = []

    def append(self, number, first, body):
        self.numbers.append(number)


async def test_first_everything_then_what_was_written(store):
    changes = store.watch(b"a/")
    assert await anext(changes) == ([], True)
    await store.commit([], [(b"a/1", b""), (b"b", b"")])
    await store.commit([], [(b"b", None)])
    await store.commit([], [(b"a/2", b""), (b"a/1", None)])
    assert await anext(changes) == ([b"a/1", b"a/2"], False)
    waiting = asyncio.ensure_future(anext(changes))
    await store.commit([], [(b"b", b"")])
    assert not waiting.done()
    await store.commit([], [(b"a/3", b"")])
    assert await waiting == ([b"a/3"], False)
    await changes.aclose()


async def test_only_what_went_through_is_told(store, engine):
    changes = store.watch(b"")
    await anext(changes)
    works = [
        store.commit([], [(b"1", b"")]),
        store.commit([Present(b"none")], [(b"2", b"")]),
        store.commit([Absent(b"3")], [(b"3", b"")]),
    ]
    found = await asyncio.gather(*works, return_exceptions=True)
    assert [type(each) for each in found] == [type(None), CommitConflict, type(None)]
    engine.error = OSError(5, "the disk")
    with pytest.raises(DeviceFailed):
        await store.commit([], [(b"4", b"")])
    engine.error = None
    await store.commit([], [(b"5", b"")])
    assert await anext(changes) == ([b"1", b"3", b"5"], False)
    await changes.aclose()


async def test_a_value_can_be_read_when_it_is_told(store):
    changes = store.watch(b"")
    await anext(changes)
    for number in range(50):
        value = b"%d" % number
        work = asyncio.ensure_future(store.commit([], [(b"k", value)]))
        await anext(changes)
        assert store.get(b"k") == value
        await work
    await changes.aclose()


async def test_nothing_is_kept_where_nobody_watches(store):
    await store.commit([], [(b"k", b"")])
    assert store._changes is None
    assert store._group.on_applied is None
    assert store.changes.number == 0


async def test_commits_of_threads_are_told(store):
    changes = store.watch(b"")
    await anext(changes)
    await asyncio.to_thread(store.commit_sync, [], [(b"k", b"")])
    assert await anext(changes) == ([b"k"], False)
    await changes.aclose()


async def test_a_caller_that_has_gone_does_not_hide_its_commit(store):
    changes = store.watch(b"")
    await anext(changes)
    work = asyncio.ensure_future(store.commit([], [(b"k", b"")]))
    while not store._group._active:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    await store.commit([], [(b"l", b"")])
    change = await anext(changes)
    assert (b"k" in change.keys) == (store.get(b"k") is not None)
    assert b"l" in change.keys
    await changes.aclose()


async def test_attaching_a_journal_is_a_reset(engine):
    """The journal may have given the engine what it had lost."""
    store = open_store(engine, journaled=True)
    changes = store.watch(b"k")
    await anext(changes)
    await store.attach(Journal())
    assert await anext(changes) == ([], True)
    commit = asyncio.ensure_future(store.commit([], [(b"k", b"v")]))
    assert await anext(changes) == ([b"k"], False)
    assert store.get(b"k") == b"v"
    assert not commit.done()
    store.acknowledge(store.outbox.number)
    await commit
    await changes.aclose()
    await store.close()


async def test_who_falls_behind_is_told_to_forget_everything(store, monkeypatch):
    monkeypatch.setattr(changes_module, "WATCH_KEYS_MAX", 3)
    changes, other = store.watch(b""), store.watch(b"b")
    await anext(changes)
    await anext(other)
    for number in range(6):
        await store.commit([], [(b"a%d" % number, b""), (b"b", b"")])
    assert await anext(changes) == ([], True)
    assert await anext(other) == ([b"b"], False)
    await store.commit([], [(b"a", b"")])
    assert await anext(changes) == ([b"a"], False)
    await changes.aclose()
    await other.aclose()
    assert not store.changes._listeners


async def test_the_log_reaches_back_so_far(monkeypatch):
    monkeypatch.setattr(changes_module, "LOG_KEYS_MAX", 5)
    log = ChangeLog()
    log.add([b"a%d" % number for number in range(8)])
    assert log.since(8, b"") == []
    assert log.since(5, b"a") == [b"a5", b"a6", b"a7"]
    assert log.since(3, b"") == [b"a3", b"a4", b"a5", b"a6", b"a7"]
    assert log.since(2, b"") is None
    assert log.since(9, b"") is None
    assert log.since(3, b"b") == []
    before = log.name
    log.forget()
    assert log.name != before
    assert log.since(8, b"") == []
    assert log.since(7, b"") is None


async def test_waiting_has_an_end():
    log = ChangeLog()
    assert await log.next(b"", 0.001) == ([], False)
    assert not log._listeners


async def test_a_closed_store_is_not_ready(engine):
    store = open_store(engine)
    store.check_ready()
    await store.close()
    with pytest.raises(Unavailable):
        store.check_ready()
