"""Throttle: so many operations and bytes per second, and no more.

Two budgets fill at their rates up to `burst_seconds` worth, and every call takes from both. A call
may overdraw them (a large shard must pass at some time) and then the next ones wait until the debt
is paid.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import Done, ShardInfo, ShardStore, ShardWrite
from objectio.filters.passthrough import DelayLine, KVFilter, ShardStoreFilter, pass_on
from objectio.model.stripe import ShardKey


class ThrottleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the filter `throttle`."""

    operations_per_second: Annotated[
        float, msgspec.Meta(ge=0, description="Calls, reads and writes together; 0: no limit.")
    ] = 0.0
    bytes_per_second: Annotated[
        float, msgspec.Meta(ge=0, description="Payload, both ways together; 0: no limit.")
    ] = 0.0
    burst_seconds: Annotated[
        float, msgspec.Meta(ge=0, description="How much unused budget is kept.")
    ] = 0.1


class Budget:
    """One rate. `take` never refuses; it says how long to wait."""

    def __init__(self, per_second: float, burst_seconds: float) -> None:
        self._per_second = per_second
        self._most = per_second * burst_seconds
        self._left = self._most
        self._at = time.monotonic()

    def take(self, amount: float) -> float:
        """Seconds until this amount is paid for."""
        if self._per_second <= 0:
            return 0.0
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= amount
        return max(0.0, -self._left / self._per_second)

    def has(self, amount: float) -> bool:
        """Whether `take` would answer 0."""
        if self._per_second <= 0:
            return True
        earned = (time.monotonic() - self._at) * self._per_second
        return min(self._most, self._left + earned) >= amount


class Throttle:
    """Both budgets; may be used from several threads."""

    def __init__(self, config: ThrottleConfig) -> None:
        self._lock = threading.Lock()
        self._operations = Budget(config.operations_per_second, config.burst_seconds)
        self._bytes = Budget(config.bytes_per_second, config.burst_seconds)

    def take(self, size_bytes: int = 0, operations: int = 1) -> float:
        with self._lock:
            return max(self._operations.take(operations), self._bytes.take(size_bytes))

    def take_now(self) -> bool:
        """Take one operation if neither budget is overdrawn."""
        with self._lock:
            if self._operations.has(1) and self._bytes.has(0):
                self._operations.take(1)
                return True
            return False


class ThrottledKV(KVFilter):
    """Waits block, as the driver's own calls do."""

    def __init__(self, config: ThrottleConfig, inner: KVDriver) -> None:
        super().__init__(inner)
        self._throttle = Throttle(config)

    def get(self, key: bytes) -> bytes | None:
        value = self._inner.get(key)
        self._wait(len(value or b""))
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._inner.get_many(keys)
        self._wait(sum(len(value or b"") for value in values))
        return values

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        rows = self._inner.scan(start, stop, reverse=reverse, limit=limit)
        self._wait(sum(len(key) + len(value) for key, value in rows))
        return rows

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        writes = (write for commit in commits for write in commit.writes)
        self._wait(sum(len(key) + len(value or b"") for key, value in writes))
        return self._inner.commit(commits)

    def _wait(self, size_bytes: int) -> None:
        wait = self._throttle.take(size_bytes)
        if wait > 0:
            time.sleep(wait)


class ThrottledShardStore(ShardStoreFilter):
    """Writes wait in line, in order; reads wait each for itself."""

    def __init__(self, config: ThrottleConfig, inner: ShardStore) -> None:
        super().__init__(inner)
        self._throttle = Throttle(config)
        self._line = DelayLine()

    def submit(self, shard: ShardWrite, done: Done) -> None:
        size = sum(memoryview(part).nbytes for part in shard.payload)
        self._queue(size, lambda done: self._inner.submit(shard, done), done)

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        self._queue(0, lambda done: self._inner.submit_delete(keys, done), done)

    def submit_sync(self, done: Done) -> None:
        self._line.call(0, lambda: pass_on(self._inner.submit_sync, done))

    def _queue(self, size_bytes: int, submit: Callable[[Done], None], done: Done) -> None:
        self._line.call(self._throttle.take(size_bytes), lambda: pass_on(submit, done))

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        if not self._throttle.take_now():
            return None
        found = self._inner.read_now(key, offset, length)
        if found is not None:
            self._throttle.take(memoryview(found).nbytes, operations=0)
        return found

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        found = await self._inner.read(key, offset, length)
        wait = self._throttle.take(memoryview(found).nbytes)
        if wait > 0:
            await asyncio.sleep(wait)
        return found

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        plan = self._inner.plan_read(key, offset, length)
        if plan is None:
            return None

        def read() -> Buffer:
            found = plan()
            wait = self._throttle.take(memoryview(found).nbytes)
            if wait > 0:
                time.sleep(wait)
            return found

        return read

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        wait = self._throttle.take()
        if wait > 0:
            await asyncio.sleep(wait)
        return await self._inner.scan(after, limit)

    async def close(self) -> None:
        self._line.flush()
        await self._inner.close()


def _open_kv(config: ThrottleConfig, context: Context, inner: KVDriver) -> KVDriver:
    return ThrottledKV(config, inner)


def _open_shardstore(config: ThrottleConfig, context: Context, inner: ShardStore) -> ShardStore:
    return ThrottledShardStore(config, inner)


DRIVERS = [
    FilterDriver(
        name="throttle",
        wraps=FilterKind.KV,
        config=ThrottleConfig,
        open=_open_kv,
        summary="limits operations and bytes per second",
    ),
    FilterDriver(
        name="throttle",
        wraps=FilterKind.SHARDSTORE,
        config=ThrottleConfig,
        open=_open_shardstore,
        summary="limits operations and bytes per second",
    ),
]
