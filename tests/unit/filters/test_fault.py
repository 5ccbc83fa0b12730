"""Fault injection: exact, seeded, switched at run time, and true to the contracts."""

from __future__ import annotations

import asyncio
import errno
import time

import pytest

from objectio.abc.kv import Commit
from objectio.abc.shardstore import StoreState
from objectio.errors import ChecksumMismatch, ConfigError, DeviceFailed, DeviceFull
from objectio.filters.faultrules import FaultConfig, FaultPlan, FaultRule, write_rules
from objectio.testing.shardstore_calls import (
    missing,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)

PUT = Commit([], [(b"k", b"v")])


def hits(rule, calls=20, seed=0, name="osd.3"):
    plan = FaultPlan(FaultConfig(rules=(rule,), seed=seed), [name])
    return [i for i in range(calls) if plan.decide("read").error]


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


class TestRules:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, list(range(20))),
            ({"every": 5}, [4, 9, 14, 19]),
            ({"skip": 17}, [17, 18, 19]),
            ({"skip": 3, "every": 6}, [8, 14]),
            ({"count": 2}, [0, 1]),
            ({"skip": 1, "every": 2, "count": 3}, [2, 4, 6]),
            ({"probability": 0.0}, []),
            ({"device": "osd.3", "count": 1}, [0]),
            ({"device": "osd.4"}, []),
            ({"operation": "scan"}, []),
            ({"operation": "read", "count": 1}, [0]),
        ],
    )
    def test_which_calls_are_hit(self, settings, expected):
        assert hits(FaultRule(error="EIO", **settings)) == expected

    def test_probability_is_seeded(self):
        rule = FaultRule(error="EIO", probability=0.3)
        first = hits(rule, 1000, seed=1)
        assert 220 < len(first) < 380
        assert hits(rule, 1000, seed=1) == first
        assert hits(rule, 1000, seed=2) != first
        assert hits(rule, 1000, seed=1, name="osd.4") != first

    def test_delays_add_up_and_the_first_error_counts(self):
        rules = (
            FaultRule(delay_ms=10),
            FaultRule(error="corrupt", delay_ms=5),
            FaultRule(error="EIO"),
        )
        plan = FaultPlan(FaultConfig(rules=rules), ["osd.3"])
        assert plan.decide("read") == (0.015, "corrupt")
        assert plan.decide("check") == (0.01, "EIO")

    @pytest.mark.parametrize(
        ("error", "hit", "spared"),
        [
            ("EROFS", ["submit", "delete", "sync", "commit"], ["read", "get", "scan", "check"]),
            ("ENOSPC", ["submit", "commit"], ["delete", "sync", "read", "get"]),
            ("corrupt", ["read", "get", "scan"], ["submit", "delete", "commit", "check"]),
            ("EIO", ["read", "submit", "delete", "sync", "check", "scan", "commit"], []),
        ],
    )
    def test_a_star_is_what_the_error_can_happen_to(self, error, hit, spared):
        plan = FaultPlan(FaultConfig(rules=(FaultRule(error=error),)), ["osd.3"])
        assert {plan.decide(operation).error for operation in hit} == {error}
        assert {plan.decide(operation).error for operation in spared} <= {""}

    @pytest.mark.parametrize(
        "rule",
        [
            FaultRule(operation="submit", error="corrupt"),
            FaultRule(operation="read", error="ENOSPC"),
            FaultRule(operation="check", error="EROFS"),
            FaultRule(operation="read"),
        ],
    )
    def test_impossible_rules_are_refused(self, rule):
        with pytest.raises(ConfigError, match="fault"):
            FaultPlan(FaultConfig(rules=(rule,)), ["osd.3"])


class TestFile:
    async def test_rules_come_and_go(self, tmp_path):
        path = tmp_path / "faults.toml"
        plan = FaultPlan(FaultConfig(path=str(path)), ["osd.3", "device-id"])
        assert plan.decide("read").error == ""
        write_rules(path, FaultRule(error="EIO", device="device-id", operation="read"))
        started = time.monotonic()
        await until(lambda: plan.decide("read").error == "EIO")
        assert time.monotonic() - started < 1
        assert plan.decide("scan").error == ""
        write_rules(path)
        await until(lambda: plan.decide("read").error == "")
        write_rules(path, FaultRule(error="corrupt", every=2, probability=1.0))
        await until(lambda: plan.holds("read", "corrupt"))
        assert [plan.decide("read").error for _ in range(4)] == ["", "corrupt", "", "corrupt"]
        path.unlink()
        await until(lambda: not plan.holds("read", "corrupt"))

    def test_every_field_survives_writing(self, tmp_path):
        rule = FaultRule(
            operation="submit",
            device='o"d\\',
            error="EIO",
            delay_ms=1.5,
            probability=0.25,
            every=3,
            skip=2,
            count=9,
        )
        path = tmp_path / "faults.toml"
        write_rules(path, rule, FaultRule(delay_ms=1))
        plan = FaultPlan(FaultConfig(path=str(path)), ["osd.3"])
        assert [active.rule for active in plan._read] == [rule, FaultRule(delay_ms=1)]

    async def test_a_broken_file_leaves_the_rules_as_they_were(self, tmp_path, caplog):
        path = tmp_path / "faults.toml"
        write_rules(path, FaultRule(error="EIO"))
        plan = FaultPlan(FaultConfig(path=str(path)), ["osd.3"])
        path.write_text("[[rules]]\nerror = 'ENOENT'\n")
        await until(lambda: plan.decide("read") and "ENOENT" in caplog.text)
        assert plan.decide("read").error == "EIO"

    def test_a_file_that_is_broken_from_the_start_is_refused(self, tmp_path):
        path = tmp_path / "faults.toml"
        path.write_text("rules = 1")
        with pytest.raises(ConfigError, match=r"faults\.toml"):
            FaultPlan(FaultConfig(path=str(path)), ["osd.3"])


class TestKV:
    def test_errors(self, wrap_kv):
        for operation, error, raised in (
            ("get", "EIO", DeviceFailed),
            ("get", "corrupt", ChecksumMismatch),
            ("commit", "EIO", DeviceFailed),
            ("commit", "EROFS", DeviceFailed),
            ("commit", "ENOSPC", DeviceFull),
        ):
            rule = FaultRule(operation=operation, error=error, count=1)
            kv = wrap_kv("fault", rules=(rule,))
            with pytest.raises(raised) as caught:
                kv.get(b"k") if operation == "get" else kv.commit([PUT])
            if error != "corrupt":
                assert caught.value.fields["errno"] == getattr(errno, error)
            assert kv.get(b"k") is None, "a commit that failed changed something"
            assert kv.commit([PUT]) == [None]
            assert kv.get(b"k") == b"v"

    def test_delay(self, wrap_kv):
        kv = wrap_kv("fault", rules=(FaultRule(operation="scan", delay_ms=40, count=1),))
        started = time.monotonic()
        kv.get(b"k")
        assert time.monotonic() - started < 0.03
        assert kv.scan(b"a", b"z", limit=1) == []
        assert time.monotonic() - started >= 0.04

    def test_all_reads(self, wrap_kv):
        kv = wrap_kv("fault", rules=(FaultRule(error="EIO"),))
        for call in (
            lambda: kv.get(b"k"),
            lambda: kv.get_many([b"k"]),
            lambda: kv.scan(b"a", b"z", limit=1),
            kv.stats,
        ):
            with pytest.raises(DeviceFailed):
                call()
        kv.close()


class TestShardStore:
    async def test_a_read_error_is_one_and_not_the_end(self, wrap_store, store):
        await submit(store, shard_key(1), b"here")
        rule = FaultRule(operation="read", error="EIO", every=2)
        filtered = wrap_store("fault", store, rules=(rule,))
        for _ in range(3):
            assert filtered.read_now(shard_key(1)) is None
            assert await filtered.read(shard_key(1)) == b"here"
            with pytest.raises(DeviceFailed) as caught:
                await asyncio.to_thread(filtered.plan_read(shard_key(1)))
            assert caught.value.fields["errno"] == errno.EIO
        assert filtered.state is StoreState.UP
        await submit(filtered, shard_key(2), b"more")

    async def test_corrupt(self, wrap_store, store):
        await submit(store, shard_key(1), b"here")
        filtered = wrap_store("fault", store, rules=(FaultRule(error="corrupt"),))
        with pytest.raises(ChecksumMismatch):
            await filtered.read(shard_key(1))
        await submit(filtered, shard_key(1), b"again")

    @pytest.mark.parametrize("error", ["EIO", "EROFS"])
    @pytest.mark.parametrize("operation", ["submit", "delete", "sync"])
    async def test_a_failed_write_ends_the_store(
        self, wrap_store, store, tmp_path, operation, error
    ):
        path = tmp_path / "faults.toml"
        filtered = wrap_store("fault", store, path=str(path))
        await submit(filtered, shard_key(1), b"before")
        write_rules(path, FaultRule(operation=operation, error=error))
        calls = {
            "submit": lambda: submit(filtered, shard_key(2), b"after"),
            "delete": lambda: submit_delete(filtered, shard_key(1)),
            "sync": lambda: submit_sync(filtered),
        }
        await until(lambda: filtered._plan.holds(operation, error))
        with pytest.raises(DeviceFailed) as caught:
            await calls[operation]()
        assert caught.value.fields["errno"] == getattr(errno, error)
        assert filtered.state is StoreState.FAILED
        assert filtered.failure is caught.value
        with pytest.raises(DeviceFailed):
            await filtered.check()
        write_rules(path)
        await until(lambda: not filtered._plan.holds(operation, error))
        for call in calls.values():
            with pytest.raises(DeviceFailed):
                await call()
        await filtered.check()  # it would take writes again, once it is opened anew
        assert filtered.state is StoreState.FAILED
        assert await scan_all(store) == [shard_key(1)]
        assert await filtered.read(shard_key(1)) == b"before"

    async def test_full(self, wrap_store, store, tmp_path):
        path = tmp_path / "faults.toml"
        write_rules(path, FaultRule(error="ENOSPC"))
        filtered = wrap_store("fault", store, path=str(path))
        await submit(store, shard_key(1), b"old")
        assert filtered.state is StoreState.UP
        with pytest.raises(DeviceFull):
            await submit(filtered, shard_key(2), b"new")
        assert filtered.state is StoreState.FULL
        assert await missing(filtered, shard_key(2))
        assert await read(filtered, shard_key(1)) == b"old"
        await submit_delete(filtered, shard_key(1))
        await submit_sync(filtered)
        path.unlink()
        await until(lambda: filtered.state is StoreState.UP)
        await submit(filtered, shard_key(2), b"new")

    async def test_a_hanging_write_holds_up_those_behind_it(self, wrap_store, store):
        rule = FaultRule(operation="submit", delay_ms=60, count=1)
        filtered = wrap_store("fault", store, rules=(rule,))
        started = time.monotonic()
        fates = [submit(filtered, shard_key(1), b"%d" % i) for i in range(3)]
        fates.append(submit_delete(filtered, shard_key(2)))
        await asyncio.gather(*fates)
        assert time.monotonic() - started >= 0.055
        assert await read(filtered, shard_key(1)) == b"2"

    async def test_a_hanging_read_hangs_alone(self, wrap_store, store):
        await submit(store, shard_key(1), b"here")
        rule = FaultRule(operation="read", delay_ms=100, count=1)
        filtered = wrap_store("fault", store, rules=(rule,))
        slow = asyncio.create_task(filtered.read(shard_key(1)))
        await asyncio.sleep(0)
        assert await filtered.read(shard_key(1)) == b"here"
        assert not slow.done()
        assert await slow == b"here"

    async def test_close_lands_what_hangs(self, wrap_store, store):
        rule = FaultRule(operation="submit", delay_ms=60_000)
        filtered = wrap_store("fault", store, rules=(rule,))
        fate = submit(filtered, shard_key(1), b"x")
        await filtered.close()
        await fate
        assert filtered.state is StoreState.CLOSED

    async def test_what_a_closed_store_says_later_is_told_to_done(self, wrap_store, store):
        rule = FaultRule(operation="submit", delay_ms=30)
        filtered = wrap_store("fault", store, rules=(rule,))
        fate = submit(filtered, shard_key(1), b"x")
        await store.close()
        with pytest.raises(DeviceFailed):
            await fate
