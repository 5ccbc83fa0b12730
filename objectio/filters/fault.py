"""Fault injection: errors and delays by rule, in a running system (see `faultrules`).

An injected fault keeps the contract of what it is injected into, or a test would prove nothing:

- a write or sync of a shard store that fails with EIO or EROFS ends the store. It is FAILED, and
  takes no more writes until it is opened anew, even if the rule goes away; but then `check` passes,
  and whoever looks after devices opens it. Reads go on as far as the store below gives them;
- ENOSPC refuses one item and no more; the state is FULL while a rule says so;
- a delayed item holds up those behind it, so items still take effect in order;
- an error is told in a later turn of the loop;
- a commit of a key-value store that fails has changed nothing;
- "corrupt" is `ChecksumMismatch`, since a store never gives bytes that it could not verify.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import Done, ShardInfo, ShardStore, ShardWrite, StoreState
from objectio.errors import ChecksumMismatch, DeviceFailed, DeviceFull, StorageError
from objectio.filters.faultrules import FaultConfig, FaultPlan, Verdict
from objectio.filters.passthrough import (
    DelayLine,
    KVFilter,
    ShardStoreFilter,
    answer_soon,
    pass_on,
)
from objectio.model.stripe import ShardKey


def injected(error: str, operation: str) -> StorageError:
    """The exception that a driver raises for it."""
    text = f"injected fault: {operation} gets {error}"
    if error == "ENOSPC":
        return DeviceFull(text, errno=errno.ENOSPC)
    if error == "corrupt":
        return ChecksumMismatch(text)
    return DeviceFailed(text, errno=getattr(errno, error))


class FaultyKV(KVFilter):
    """Delays block, as the driver's own calls do."""

    def __init__(self, plan: FaultPlan, inner: KVDriver) -> None:
        super().__init__(inner)
        self._plan = plan

    def get(self, key: bytes) -> bytes | None:
        self._suffer("get")
        return self._inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._suffer("get_many")
        return self._inner.get_many(keys)

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        self._suffer("scan")
        return self._inner.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        self._suffer("commit")
        return self._inner.commit(commits)

    def stats(self) -> Mapping[str, int]:
        self._suffer("stats")
        return self._inner.stats()

    def _suffer(self, operation: str) -> None:
        _suffer_blocking(self._plan.decide(operation), operation)


class FaultyShardStore(ShardStoreFilter):
    def __init__(self, plan: FaultPlan, inner: ShardStore) -> None:
        super().__init__(inner)
        self._plan = plan
        self._line = DelayLine()
        self._failed: StorageError | None = None
        self._failed_by = ("", "")
        self._full = False
        self._closed = False

    @property
    def state(self) -> StoreState:
        if self._closed:
            return StoreState.CLOSED
        if self._failed is not None:
            return StoreState.FAILED
        if self._full and self._plan.holds("submit", "ENOSPC"):
            return StoreState.FULL
        return self._inner.state

    @property
    def failure(self) -> BaseException | None:
        return self._failed or self._inner.failure

    def submit(self, shard: ShardWrite, done: Done) -> None:
        self._submit("submit", lambda done: self._inner.submit(shard, done), done)

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        self._submit("delete", lambda done: self._inner.submit_delete(keys, done), done)

    def submit_sync(self, done: Done) -> None:
        self._submit("sync", self._inner.submit_sync, done)

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        """Where a rule is about reads, they take the slow path, so that each is counted once."""
        if self._plan.expects("read"):
            return None
        return self._inner.read_now(key, offset, length)

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        await self._suffer("read")
        return await self._inner.read(key, offset, length)

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        plan = self._inner.plan_read(key, offset, length)
        if plan is None:
            return None

        def read() -> Buffer:
            _suffer_blocking(self._plan.decide("read"), "read")
            return plan()

        return read

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        await self._suffer("scan")
        return await self._inner.scan(after, limit)

    async def check(self) -> None:
        await self._suffer("check")
        if self._failed is not None and self._plan.holds(*self._failed_by):
            raise DeviceFailed("the device failed, and would again") from self._failed
        await self._inner.check()

    async def close(self) -> None:
        self._line.flush()
        await self._inner.close()
        self._closed = True

    def _submit(self, operation: str, submit: Callable[[Done], None], done: Done) -> None:
        verdict = self._plan.decide(operation)
        self._line.call(verdict.delay_seconds, lambda: self._land(verdict, operation, submit, done))

    def _land(
        self, verdict: Verdict, operation: str, submit: Callable[[Done], None], done: Done
    ) -> None:
        """An item reaches the device, or what is left of it."""
        if self._failed is not None:
            failed = DeviceFailed("the device failed earlier")
            failed.__cause__ = self._failed
            answer_soon(done, failed)
        elif not verdict.error:
            pass_on(submit, done)
        else:
            error = injected(verdict.error, operation)
            if isinstance(error, DeviceFull):
                self._full = True
            else:
                self._failed = error
                self._failed_by = (operation, verdict.error)
            answer_soon(done, error)

    async def _suffer(self, operation: str) -> None:
        verdict = self._plan.decide(operation)
        if verdict.delay_seconds:
            await asyncio.sleep(verdict.delay_seconds)
        if verdict.error:
            raise injected(verdict.error, operation)


def _suffer_blocking(verdict: Verdict, operation: str) -> None:
    if verdict.delay_seconds:
        time.sleep(verdict.delay_seconds)
    if verdict.error:
        raise injected(verdict.error, operation)


def _open_kv(config: FaultConfig, context: Context, inner: KVDriver) -> KVDriver:
    return FaultyKV(FaultPlan(config, [context.name], context.log), inner)


def _open_shardstore(config: FaultConfig, context: Context, inner: ShardStore) -> ShardStore:
    # The node calls the filter of each device "fault-osd3".
    names = [context.name, context.name.removeprefix("fault-"), inner.device_id]
    return FaultyShardStore(FaultPlan(config, names, context.log), inner)


DRIVERS = [
    FilterDriver(
        name="fault",
        wraps=FilterKind.KV,
        config=FaultConfig,
        open=_open_kv,
        summary="injects errors and delays by rule, also at run time",
    ),
    FilterDriver(
        name="fault",
        wraps=FilterKind.SHARDSTORE,
        config=FaultConfig,
        open=_open_shardstore,
        summary="injects errors and delays by rule, also at run time",
    ),
]
