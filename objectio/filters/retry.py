"""Retry: a call that failed in a way that may pass is made again.

Only errors that say so (`retryable`), and only reads. A commit of a key-value engine whose fate is
unknown may have happened, so trying it again is a choice (`writes`). Items of a shard store are
never tried again: those behind them would overtake.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec
from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import ShardInfo, ShardStore
from objectio.errors import ObjectIOError
from objectio.filters.passthrough import KVFilter, ShardStoreFilter
from objectio.model.stripe import ShardKey

T = TypeVar("T")

Attempts = Annotated[
    int, msgspec.Meta(ge=1, le=100, description="How often a call is made at most.")
]
Delay = Annotated[
    float, msgspec.Meta(ge=0, description="The wait before the second attempt; it doubles.")
]
DelayMax = Annotated[float, msgspec.Meta(ge=0, description="The longest wait.")]


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the filter `retry`."""

    attempts: Attempts = 3
    delay_seconds: Delay = 0.02
    delay_seconds_max: DelayMax = 1.0
    writes: Annotated[
        bool,
        msgspec.Meta(
            description="Also commits of key-value stores, which may then happen twice if they have "
            "no checks. Never writes of shards."
        ),
    ] = False

    def waits(self) -> Iterator[float]:
        """The wait after each failed attempt but the last."""
        for attempt in range(self.attempts - 1):
            yield min(self.delay_seconds * 2**attempt, self.delay_seconds_max)


def _again(call: Callable[[], T], config: RetryConfig, log: logging.Logger) -> T:
    for wait in config.waits():
        try:
            return call()
        except ObjectIOError as error:
            if not error.retryable:
                raise
            log.info("trying again in %.3f s after: %s", wait, error)
        time.sleep(wait)
    return call()


class RetryKV(KVFilter):
    """Waits block, as the driver's own calls do: it is for engines whose reads may wait."""

    def __init__(self, config: RetryConfig, log: logging.Logger, inner: KVDriver) -> None:
        super().__init__(inner)
        self._config = config
        self._log = log

    def get(self, key: bytes) -> bytes | None:
        return self._retry(lambda: self._inner.get(key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._retry(lambda: self._inner.get_many(keys))

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return self._retry(lambda: self._inner.scan(start, stop, reverse=reverse, limit=limit))

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        if self._config.writes or not any(commit.writes for commit in commits):
            return self._retry(lambda: self._inner.commit(commits))
        return self._inner.commit(commits)

    def stats(self) -> Mapping[str, int]:
        return self._retry(self._inner.stats)

    def _retry(self, call: Callable[[], T]) -> T:
        return _again(call, self._config, self._log)


class RetryShardStore(ShardStoreFilter):
    def __init__(self, config: RetryConfig, log: logging.Logger, inner: ShardStore) -> None:
        super().__init__(inner)
        self._config = config
        self._log = log

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        """An error that may pass makes the caller come back through `read`."""
        try:
            return self._inner.read_now(key, offset, length)
        except ObjectIOError as error:
            if not error.retryable or self._config.attempts == 1:
                raise
            return None

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        for wait in self._config.waits():
            try:
                return await self._inner.read(key, offset, length)
            except ObjectIOError as error:
                await self._pause(error, wait)
        return await self._inner.read(key, offset, length)

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        plan = self._inner.plan_read(key, offset, length)
        if plan is None:
            return None
        return lambda: _again(plan, self._config, self._log)

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        for wait in self._config.waits():
            try:
                return await self._inner.scan(after, limit)
            except ObjectIOError as error:
                await self._pause(error, wait)
        return await self._inner.scan(after, limit)

    async def _pause(self, error: ObjectIOError, wait: float) -> None:
        if not error.retryable:
            raise error
        self._log.info("trying again in %.3f s after: %s", wait, error)
        await asyncio.sleep(wait)


def _open_kv(config: RetryConfig, context: Context, inner: KVDriver) -> KVDriver:
    return RetryKV(config, context.log, inner)


def _open_shardstore(config: RetryConfig, context: Context, inner: ShardStore) -> ShardStore:
    return RetryShardStore(config, context.log, inner)


DRIVERS = [
    FilterDriver(
        name="retry",
        wraps=FilterKind.KV,
        config=RetryConfig,
        open=_open_kv,
        summary="makes failed reads again, and commits if told to",
    ),
    FilterDriver(
        name="retry",
        wraps=FilterKind.SHARDSTORE,
        config=RetryConfig,
        open=_open_shardstore,
        summary="makes failed reads again",
    ),
]
