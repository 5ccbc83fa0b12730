"""Read-only, retry, throttle and trace."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from objectio.abc.kv import Absent, Commit
from objectio.abc.shardstore import StoreState
from objectio.errors import DeviceFailed, NotFound, Unavailable
from objectio.filters.passthrough import DelayLine, KVFilter, ShardStoreFilter
from objectio.filters.throttle import Budget
from objectio.testing.shardstore_calls import (
    missing,
    read,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)

PUT = Commit([], [(b"k", b"v")])


class TestReadOnly:
    def test_kv_reads_and_checks_but_writes_nothing(self, wrap_kv):
        inner = KVFilter(wrap_kv("trace"))
        inner.commit([PUT])
        kv = wrap_kv("readonly", inner)
        assert kv.get(b"k") == b"v"
        assert kv.commit([Commit([Absent(b"k")], [])]) == [Absent(b"k")]
        for commit in (PUT, Commit([], [(b"k", None)])):
            with pytest.raises(Unavailable, match="read-only"):
                kv.commit([Commit([], []), commit])
        assert inner.get(b"k") == b"v"

    async def test_shards_are_read_and_not_written(self, wrap_store, store):
        await submit(store, shard_key(1), b"here")
        filtered = wrap_store("readonly", store)
        for refused in (
            submit(filtered, shard_key(2), b"new"),
            submit(filtered, shard_key(1), b"replaced"),
            submit_delete(filtered, shard_key(1)),
        ):
            with pytest.raises(Unavailable):
                await refused
        await submit_sync(filtered)
        assert await read(filtered, shard_key(1)) == b"here"
        assert await missing(filtered, shard_key(2))
        assert filtered.state is StoreState.UP


class Flaky(KVFilter, ShardStoreFilter):
    """Fails its next `failures` calls."""

    def __init__(self, inner, failures, error):
        super().__init__(inner)
        self.failures, self.error, self.calls = failures, error, 0

    def fail(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error


class FlakyKV(Flaky):
    def get(self, key):
        self.fail()
        return self._inner.get(key)

    def commit(self, commits):
        self.fail()
        return self._inner.commit(commits)


class FlakyStore(Flaky):
    def read_now(self, key, offset=0, length=None):
        self.fail()
        return self._inner.read_now(key, offset, length)

    async def read(self, key, offset=0, length=None):
        self.fail()
        return await self._inner.read(key, offset, length)

    def plan_read(self, key, offset=0, length=None):
        plan = self._inner.plan_read(key, offset, length)
        return lambda: (self.fail(), plan())[1]

    async def scan(self, after, limit):
        self.fail()
        return await self._inner.scan(after, limit)


class TestRetry:
    @pytest.mark.parametrize(("failures", "calls"), [(0, 1), (1, 2), (2, 3)])
    def test_a_read_is_tried_until_it_works(self, wrap_kv, failures, calls):
        flaky = FlakyKV(wrap_kv("trace"), failures, Unavailable("busy"))
        assert wrap_kv("retry", flaky, delay_seconds=0).get(b"k") is None
        assert flaky.calls == calls

    def test_it_gives_up(self, wrap_kv):
        flaky = FlakyKV(wrap_kv("trace"), 9, Unavailable("busy"))
        with pytest.raises(Unavailable):
            wrap_kv("retry", flaky, delay_seconds=0, attempts=4).get(b"k")
        assert flaky.calls == 4

    @pytest.mark.parametrize("error", [NotFound("no"), ZeroDivisionError()])
    def test_what_will_not_pass_is_not_tried_again(self, wrap_kv, error):
        flaky = FlakyKV(wrap_kv("trace"), 9, error)
        with pytest.raises(type(error)):
            wrap_kv("retry", flaky, delay_seconds=0).get(b"k")
        assert flaky.calls == 1

    def test_writes_only_when_told_to(self, wrap_kv):
        flaky = FlakyKV(wrap_kv("trace"), 1, Unavailable("busy"))
        with pytest.raises(Unavailable):
            wrap_kv("retry", flaky, delay_seconds=0).commit([PUT])
        assert flaky.calls == 1
        flaky.calls = 0
        kv = wrap_kv("retry", flaky, delay_seconds=0, writes=True)
        assert kv.commit([PUT]) == [None]
        assert kv.get(b"k") == b"v"

    def test_waits_double_up_to_the_most(self, wrap_kv):
        flaky = FlakyKV(wrap_kv("trace"), 3, Unavailable("busy"))
        kv = wrap_kv("retry", flaky, attempts=4, delay_seconds=0.01, delay_seconds_max=0.02)
        started = time.monotonic()
        kv.get(b"k")
        assert time.monotonic() - started >= 0.05

    async def test_shards(self, wrap_store, store):
        await submit(store, shard_key(1), b"here")
        flaky = FlakyStore(store, 2, DeviceFailed("I/O error"))
        filtered = wrap_store("retry", flaky, delay_seconds=0)
        assert filtered.read_now(shard_key(1)) is None
        assert await filtered.read(shard_key(1)) == b"here"
        flaky.calls = 0
        assert await asyncio.to_thread(filtered.plan_read(shard_key(1))) == b"here"
        flaky.calls = 0
        assert len(await filtered.scan(None, 5)) == 1
        flaky.error = NotFound("no", kind="shard")
        flaky.failures = 9
        flaky.calls = 0
        with pytest.raises(NotFound):
            await filtered.read(shard_key(1))
        assert flaky.calls == 1


class TestThrottle:
    def test_operations_of_a_kv(self, wrap_kv):
        kv = wrap_kv("throttle", operations_per_second=200, burst_seconds=0)
        started = time.monotonic()
        for _ in range(20):
            kv.get(b"k")
        assert 0.09 < time.monotonic() - started < 2

    def test_bytes_of_a_kv(self, wrap_kv):
        kv = wrap_kv("throttle", bytes_per_second=1_000_000, burst_seconds=0)
        started = time.monotonic()
        kv.commit([Commit([], [(b"k", bytes(50_000))])])
        kv.get(b"k")
        assert 0.09 < time.monotonic() - started < 2

    def test_no_limit_is_no_wait(self, wrap_kv):
        kv = wrap_kv("throttle")
        started = time.monotonic()
        for _ in range(1000):
            kv.get(b"k")
        assert time.monotonic() - started < 0.5

    async def test_writes_wait_in_order(self, wrap_store, store):
        filtered = wrap_store("throttle", store, bytes_per_second=1_000_000)
        started = time.monotonic()
        fates = [submit(filtered, shard_key(1), bytes(30_000) + b"%d" % i) for i in range(10)]
        fates += [submit_sync(filtered)]
        order = []
        for i, each in enumerate(fates):
            each.add_done_callback(lambda _, i=i: order.append(i))
        await asyncio.gather(*fates)
        assert 0.15 < time.monotonic() - started < 3
        assert order == list(range(11))
        assert bytes(await filtered.read(shard_key(1)))[30_000:] == b"9"

    async def test_reads_wait(self, wrap_store, store):
        await submit(store, shard_key(1), bytes(50_000))
        filtered = wrap_store("throttle", store, bytes_per_second=1_000_000, burst_seconds=0)
        started = time.monotonic()
        assert len(filtered.read_now(shard_key(1))) == 50_000
        assert filtered.read_now(shard_key(1)) is None
        await filtered.read(shard_key(1))
        assert 0.09 < time.monotonic() - started < 2

    async def test_close_waits_for_nothing_and_loses_nothing(self, wrap_store, store):
        filtered = wrap_store("throttle", store, operations_per_second=0.01)
        fates = [submit(filtered, shard_key(i), b"x") for i in range(3)]
        await filtered.close()
        await asyncio.gather(*fates)
        assert filtered.state is StoreState.CLOSED

    def test_a_budget_saves_no_more_than_a_burst(self):
        budget = Budget(1000, 0.01)
        assert budget.take(10) == 0
        assert budget.take(100) == pytest.approx(0.1, abs=0.02)
        assert not budget.has(1)


class TestTrace:
    def test_kv_calls(self, wrap_kv, caplog):
        caplog.set_level(logging.INFO)
        kv = wrap_kv("trace")
        kv.commit([PUT, Commit([Absent(b"k")], [])])
        kv.get(b"k")
        kv.get_many([b"k", b"l"])
        kv.scan(b"a", b"z", limit=3)
        kv.stats()
        kv.close()
        lines = [record.getMessage() for record in caplog.records]
        assert [line.split(": ")[0] for line in lines] == ["osd.3"] * 6
        starts = ("commit 2 commits 1 refused", "get b'k'", "get_many 2 keys")
        starts += ("scan b'a' b'z' 1 rows", "stats", "close")
        for line, start in zip(lines, starts, strict=True):
            assert line.startswith(f"osd.3: {start} 0.0")

    async def test_shard_store_calls_and_their_errors(self, wrap_store, store, caplog):
        caplog.set_level(logging.DEBUG)
        filtered = wrap_store("trace", store, level="debug")
        await submit(filtered, shard_key(5, 6, 7), b"abc")
        await filtered.read(shard_key(5, 6, 7), 1, 2)
        filtered.plan_read(shard_key(5, 6, 7))()
        await submit_delete(filtered, shard_key(5, 6, 7))
        await submit_sync(filtered)
        with pytest.raises(NotFound):
            await filtered.read(shard_key(5, 6, 7))
        await filtered.check()
        lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("osd.3")]
        name = f"{5:032x}:6:7"
        starts = (f"submit {name} 3 B sync", f"read {name} 1-3", f"read {name} 0-")
        starts += (f"delete {name}", "sync", f"read {name} 0-", "check")
        for line, start in zip(lines, starts, strict=True):
            assert line.startswith(f"osd.3: {start} 0.0")
        assert lines[5].endswith("NotFound: no such shard on this device")

    def test_only_slow_calls(self, wrap_kv, caplog):
        caplog.set_level(logging.INFO)
        slow = wrap_kv("throttle", operations_per_second=20, burst_seconds=0)
        wrap_kv("trace", slow_seconds=0.04, inner=slow).get(b"k")
        wrap_kv("trace", slow_seconds=0.04).get(b"k")
        assert len(caplog.records) == 1


async def test_a_delay_line_keeps_order():
    line, seen = DelayLine(), []
    line.call(0, lambda: seen.append("now"))
    line.call(0.03, lambda: seen.append("late"))
    line.call(0, lambda: seen.append("behind"))
    assert seen == ["now"]
    async with asyncio.timeout(5):
        while len(seen) < 3:
            await asyncio.sleep(0.005)
    assert seen == ["now", "late", "behind"]
