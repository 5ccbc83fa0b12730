"""What every filter starts from: wrappers that pass each call on and change nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import Buffer

from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import (
    Done,
    ShardInfo,
    ShardStore,
    ShardWrite,
    StoreState,
    StoreUsage,
)
from objectio.errors import ObjectIOError
from objectio.model.stripe import ShardKey


class KVFilter:
    """A KV driver that is another one."""

    def __init__(self, inner: KVDriver) -> None:
        self._inner = inner

    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._inner.get_many(keys)

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return self._inner.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        return self._inner.commit(commits)

    def stats(self) -> Mapping[str, int]:
        return self._inner.stats()

    def close(self) -> None:
        self._inner.close()


class ShardStoreFilter:
    """A shard store that is another one."""

    def __init__(self, inner: ShardStore) -> None:
        self._inner = inner

    @property
    def device_id(self) -> str:
        return self._inner.device_id

    @property
    def opens(self) -> int:
        return self._inner.opens

    @property
    def state(self) -> StoreState:
        return self._inner.state

    @property
    def failure(self) -> BaseException | None:
        return self._inner.failure

    def submit(self, shard: ShardWrite, done: Done) -> None:
        self._inner.submit(shard, done)

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        self._inner.submit_delete(keys, done)

    def submit_sync(self, done: Done) -> None:
        self._inner.submit_sync(done)

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        return self._inner.read_now(key, offset, length)

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        return await self._inner.read(key, offset, length)

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        return self._inner.plan_read(key, offset, length)

    async def stat(self, keys: Sequence[ShardKey]) -> list[ShardInfo | None]:
        return await self._inner.stat(keys)

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        return await self._inner.scan(after, limit)

    def usage(self) -> StoreUsage:
        return self._inner.usage()

    async def check(self) -> None:
        await self._inner.check()

    async def close(self) -> None:
        await self._inner.close()


class DelayLine:
    """Calls that are made later, in the order in which they came.

    What is submitted to a shard store takes effect in order, so an item that must wait holds up
    those behind it.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def call(self, delay_seconds: float, action: Callable[[], None]) -> None:
        """At once if nothing waits and there is no delay."""
        if not self._waiting and delay_seconds <= 0:
            action()
            return
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + delay_seconds, action))
        if self._timer is None:
            self._wait(loop)

    def flush(self) -> None:
        """Make all calls now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.popleft()[1]()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(self._waiting[0][0], self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        # A timer may come a little early by the loop's own clock resolution.
        while self._waiting and self._waiting[0][0] <= loop.time() + 0.001:
            self._waiting.popleft()[1]()
        if self._waiting and self._timer is None:
            self._wait(loop)


def answer_soon(done: Done, error: BaseException) -> None:
    """Tell the submitter in a later turn of the loop, as a store does."""
    asyncio.get_running_loop().call_soon(done, error)


def pass_on(submit: Callable[[Done], None], done: Done) -> None:
    """Submit, perhaps later than the caller did: what is raised then is told to `done`."""
    try:
        submit(done)
    except ObjectIOError as error:
        answer_soon(done, error)
