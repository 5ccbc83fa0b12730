"""`KVStore`: limits, errors, thread models and group commit, over real engines with known faults."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import time

import pytest

from objectio import limits
from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Absent, Equals, RangeEmpty
from objectio.errors import (
    CommitConflict,
    DeviceFailed,
    DeviceFull,
    InvalidRequest,
    LocalProtocolError,
    Unavailable,
)
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore

FAST = frozenset({CAP_FAST_READS})


class Watched(MemoryKV):
    """The memory engine; remembers its batches, can be held up, and fails when told to."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.threads = set()
        self.may_run = threading.Event()
        self.may_run.set()
        self.started = threading.Event()
        self.error = None
        self.inside = 0
        self.overlapped = False
        self.closed = False

    def commit(self, commits):
        self.threads.add(threading.current_thread())
        self.started.set()
        assert self.may_run.wait(20)
        self.batches.append(len(commits))
        if self.error is not None:
            raise self.error
        return super().commit(commits)

    def get(self, key):
        self.threads.add(threading.current_thread())
        self.inside += 1
        time.sleep(0)  # lets another thread in, if it can come in
        self.overlapped |= self.inside > 1
        try:
            if self.error is not None:
                raise self.error
            return super().get(key)
        finally:
            self.inside -= 1

    def close(self):
        self.closed = True


@pytest.fixture
def driver():
    return Watched()


@pytest.fixture
async def store(driver):
    store = KVStore(driver, FAST, ThreadModel.PARALLEL)
    yield store
    driver.may_run.set()
    await store.close()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def hold(driver, store):
    """Have one commit held in the worker; returns its task."""
    driver.may_run.clear()
    driver.started.clear()
    task = asyncio.create_task(store.commit((), ((b"held", b""),)))
    await until(driver.started.is_set)
    return task


class TestReads:
    async def test_all_of_them(self, store):
        rows = [(b"a/%d" % number, b"%d" % number) for number in range(5)]
        await store.commit([], [*rows, (b"b", b"")])
        assert store.get(b"a/1") == await store.aget(b"a/1") == b"1"
        assert store.get_many([b"b", b"c"]) == await store.aget_many([b"b", b"c"]) == [b"", None]
        assert store.scan() == await store.ascan() == [*rows, (b"b", b"")]
        assert store.scan(b"a/3", limit=1, reverse=True) == [(b"b", b"")]
        assert store.scan_prefix(b"a/") == await store.ascan_prefix(b"a/") == rows
        assert store.scan_prefix(b"a/", after=b"a/2") == rows[3:]
        assert store.scan_prefix(b"a/", after=b"a/2", reverse=True) == rows[1::-1]
        assert store.scan(b"b", b"a") == []
        assert [row async for row in store.arows(b"a/", b"a0", page_rows=2)] == rows

    @pytest.mark.parametrize("threads", ThreadModel)
    @pytest.mark.parametrize("capabilities", [FAST, frozenset()])
    async def test_blocking_reads_leave_the_loop(self, driver, threads, capabilities):
        store = KVStore(driver, capabilities, threads)
        await asyncio.gather(*(store.aget(b"k") for _ in range(20)))
        here = driver.threads == {threading.current_thread()}
        assert here is store.fast_reads
        assert store.fast_reads is (bool(capabilities) and threads is ThreadModel.PARALLEL)
        await store.close()

    @pytest.mark.parametrize("threads", [ThreadModel.SERIALIZE_ALL, ThreadModel.SERIALIZE_HANDLE])
    async def test_serialized_calls_take_turns(self, driver, threads):
        store = KVStore(driver, frozenset(), threads)
        workers = [
            threading.Thread(target=lambda: [store.get(b"k") for _ in range(2000)])
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not driver.overlapped
        await store.close()

    async def test_limits(self, store):
        for key in (b"", b"k" * (limits.KV_KEY_BYTES_MAX + 1)):
            with pytest.raises(InvalidRequest):
                store.get(key)
            with pytest.raises(InvalidRequest):
                store.get_many([b"k", key])
        for limit in (0, -1, limits.KV_SCAN_ROWS_MAX + 1):
            with pytest.raises(InvalidRequest):
                store.scan(limit=limit)


class TestCommit:
    async def test_conflicts_name_the_check(self, store):
        await store.commit([Absent(b"k")], [(b"k", b"1")])
        for commit in (store.commit, lambda *a: asyncio.to_thread(store.commit_sync, *a)):
            with pytest.raises(CommitConflict) as caught:
                await commit([Equals(b"k", b"1"), RangeEmpty(b"a", b"z")], [(b"k", b"2")])
            assert caught.value.fields["check"] == RangeEmpty(b"a", b"z")
        assert store.get(b"k") == b"1"

    async def test_commits_collect_while_one_runs(self, driver, store):
        first = await hold(driver, store)
        others = [asyncio.create_task(store.commit((), ((b"%d" % n, b""),))) for n in range(50)]
        await asyncio.sleep(0)
        driver.may_run.set()
        await asyncio.gather(first, *others)
        assert driver.batches == [1, 50]

    async def test_commits_of_one_turn_go_together(self, driver, store):
        await asyncio.gather(*(store.commit((), ((b"%d" % n, b""),)) for n in range(30)))
        assert driver.batches == [30]

    async def test_batches_are_bounded(self, driver, store):
        first = await hold(driver, store)
        big = b"v" * limits.KV_VALUE_BYTES_MAX
        per_batch = limits.KV_BATCH_BYTES_MAX // (len(big) + 2)
        others = [
            asyncio.create_task(store.commit((), ((b"%02d" % n, big),)))
            for n in range(2 * per_batch)
        ]
        others += [asyncio.create_task(store.commit((), ())) for _ in range(1500)]
        await asyncio.sleep(0)
        driver.may_run.set()
        await asyncio.gather(first, *others)
        assert driver.batches[:3] == [1, per_batch, limits.KV_BATCH_COMMITS_MAX]
        assert sum(driver.batches) == 1 + 2 * per_batch + 1500

    async def test_order_is_kept(self, store):
        commits = [store.commit((), ((b"k", b"%d" % number),)) for number in range(3000)]
        await asyncio.gather(*commits)
        assert store.get(b"k") == b"2999"

    async def test_contended_counter(self, store):
        async def increment():
            while True:
                seen = store.get(b"n")
                check = Absent(b"n") if seen is None else Equals(b"n", seen)
                try:
                    return await store.commit([check], [(b"n", b"%d" % (int(seen or 0) + 1))])
                except CommitConflict:
                    continue

        await asyncio.gather(*(increment() for _ in range(40)))
        assert store.get(b"n") == b"40"

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (OSError(errno.ENOSPC, "full"), DeviceFull),
            (OSError(errno.EDQUOT, "quota"), DeviceFull),
            (OSError(errno.EIO, "i/o"), DeviceFailed),
            (ValueError("bug"), Unavailable),
            (Unavailable("its own", hint=1), Unavailable),
        ],
    )
    async def test_a_failed_batch_fails_all_of_it_and_nothing_else(
        self, driver, store, error, told
    ):
        first = await hold(driver, store)
        driver.error = error
        others = [asyncio.create_task(store.commit((), ((b"%d" % n, b""),))) for n in range(3)]
        await asyncio.sleep(0)
        driver.may_run.set()
        failures = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(failure) for failure in failures] == [told] * 4
        assert len({id(failure) for failure in failures}) == 4
        assert all(failure.__cause__ is error for failure in failures)
        with pytest.raises(told):
            store.get(b"k")
        with pytest.raises(told):
            store.commit_sync((), ((b"k", b""),))
        driver.error = None
        await store.commit((), ((b"k", b"v"),))
        assert store.scan() == [(b"k", b"v")]

    async def test_an_engine_that_loses_count(self):
        lossy = Watched()
        lossy.commit = lambda commits: []
        other = KVStore(lossy, FAST, ThreadModel.PARALLEL)
        with pytest.raises(Unavailable):
            await other.commit((), ())
        await other.close()

    async def test_a_cancelled_caller_harms_nobody(self, driver, store):
        first = await hold(driver, store)
        waiting = [asyncio.create_task(store.commit((), ((b"%d" % n, b""),))) for n in range(4)]
        await asyncio.sleep(0)
        first.cancel()  # with the worker already: happens
        waiting[1].cancel()  # still queued: does not begin
        await asyncio.sleep(0)
        driver.may_run.set()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [type(result) for result in results] == [
            asyncio.CancelledError,
            type(None),
            asyncio.CancelledError,
            type(None),
            type(None),
        ]
        assert [key for key, _ in store.scan()] == [b"0", b"2", b"3", b"held"]

    async def test_all_cancelled(self, driver, store):
        tasks = [asyncio.create_task(store.commit((), ((b"k", b""),))) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.commit((), ((b"after", b""),))
        assert store.scan() == [(b"after", b"")]

    @pytest.mark.parametrize(
        ("checks", "writes", "reason"),
        [
            ([Absent(b"")], [], "key-length"),
            ([], [(b"", b"")], "key-length"),
            ([], [(b"k" * (limits.KV_KEY_BYTES_MAX + 1), None)], "key-length"),
            ([], [(b"k", b"v" * (limits.KV_VALUE_BYTES_MAX + 1))], "value-length"),
            ([], [(b"k", b"1"), (b"k", None)], "commit-duplicate"),
            (
                [],
                [(b"%d" % n, b"") for n in range(limits.KV_COMMIT_WRITES_MAX + 1)],
                "commit-writes",
            ),
            (
                [],
                [(b"%d" % n, b"v" * limits.KV_VALUE_BYTES_MAX) for n in range(17)],
                "commit-bytes",
            ),
        ],
    )
    async def test_limits(self, driver, store, checks, writes, reason):
        with pytest.raises(InvalidRequest) as caught:
            await store.commit(checks, writes)
        assert caught.value.fields["reason"] == reason
        with pytest.raises(InvalidRequest):
            store.commit_sync(checks, writes)
        assert driver.batches == []

    async def test_too_many_waiting(self, driver, store, monkeypatch):
        monkeypatch.setattr("objectio.kv.group.KV_PENDING_COMMITS_MAX", 2)
        first = await hold(driver, store)
        others = [asyncio.create_task(store.commit((), ())) for _ in range(3)]
        await asyncio.sleep(0)
        driver.may_run.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 3 + [Unavailable]


class TestLifeCycle:
    async def test_close_finishes_what_is_queued(self, driver):
        store = KVStore(driver, FAST, ThreadModel.PARALLEL)
        first = await hold(driver, store)
        others = [asyncio.create_task(store.commit((), ((b"%d" % n, b""),))) for n in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await store.commit((), ())
        assert not driver.closed
        driver.may_run.set()
        await asyncio.gather(closing, first, *others)
        assert driver.closed
        assert len(driver.scan(b"", b"\xff", limit=99)) == 6
        await store.close()
        assert all(not t.is_alive() for t in driver.threads - {threading.current_thread()})

    def test_close_without_a_loop(self, driver):
        store = KVStore(driver, FAST, ThreadModel.PARALLEL)
        store.commit_sync([], [(b"k", b"v")])
        store.close_sync()
        store.close_sync()
        assert driver.closed

    def test_one_loop_after_another(self, driver):
        store = KVStore(driver, FAST, ThreadModel.PARALLEL)
        asyncio.run(store.commit([], [(b"a", b"")]))
        asyncio.run(store.commit([], [(b"b", b"")]))
        asyncio.run(store.close())
        assert driver.batches == [1, 1]

    def test_a_loop_that_went_away(self, driver, caplog):
        store = KVStore(driver, FAST, ThreadModel.PARALLEL)

        async def leave():
            await hold(driver, store)

        asyncio.run(leave())  # cancels the task; the batch is still with the worker
        gc.collect()
        driver.may_run.set()
        asyncio.run(store.commit([], [(b"k", b"")]))
        assert [key for key, _ in driver.scan(b"", b"\xff", limit=9)] == [b"held", b"k"]
        assert "event loop was closed" in caplog.text
        store.close_sync()

    async def test_two_loops_at_once_are_refused(self, driver, store):
        first = await hold(driver, store)
        with pytest.raises(LocalProtocolError):
            await asyncio.to_thread(asyncio.run, store.commit((), ()))
        driver.may_run.set()
        await first
