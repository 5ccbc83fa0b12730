"""Trace: one line of the log for each call, or for each slow one.

osd.3: submit 0190…:0:2 65536 B 0.0021 s
meta: commit 3 commits 0.0004 s DeviceFailed: cannot write …
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Annotated, Literal, Self

import msgspec
from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import Done, ShardInfo, ShardStore, ShardWrite
from objectio.filters.passthrough import KVFilter, ShardStoreFilter
from objectio.model.stripe import ShardKey


class TraceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the filter `trace`."""

    level: Annotated[
        Literal["debug", "info", "warning"], msgspec.Meta(description="The level of the lines.")
    ] = "info"
    slow_seconds: Annotated[
        float, msgspec.Meta(ge=0, description="Only calls that take this long; 0: all.")
    ] = 0.0


class Tracer:
    def __init__(self, config: TraceConfig, context: Context) -> None:
        self._log = context.log
        self._name = context.name
        self._level = logging.getLevelNamesMapping()[config.level.upper()]
        self._slow_seconds = config.slow_seconds

    def call(self, what: str) -> Span:
        """For a `with` statement around one call."""
        return Span(self, what)

    def done(self, what: str, done: Done) -> Done:
        """A `done` that ends the span which starts now."""
        span = Span(self, what)

        def ended(error: BaseException | None) -> None:
            span.end(error)
            done(error)

        return ended

    def line(self, what: str, seconds: float, error: BaseException | None) -> None:
        if seconds < self._slow_seconds:
            return
        fate = "" if error is None else f" {type(error).__name__}: {error}"
        self._log.log(self._level, "%s: %s %.6f s%s", self._name, what, seconds, fate)


class Span:
    """One call under way."""

    __slots__ = ("_started", "_tracer", "what")

    def __init__(self, tracer: Tracer, what: str) -> None:
        self._tracer = tracer
        self.what = what
        self._started = time.perf_counter()

    def end(self, error: BaseException | None) -> None:
        self._tracer.line(self.what, time.perf_counter() - self._started, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(error)


class TracedKV(KVFilter):
    def __init__(self, tracer: Tracer, inner: KVDriver) -> None:
        super().__init__(inner)
        self._tracer = tracer

    def get(self, key: bytes) -> bytes | None:
        with self._tracer.call(f"get {key!r}"):
            return self._inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._tracer.call(f"get_many {len(keys)} keys"):
            return self._inner.get_many(keys)

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        with self._tracer.call(f"scan {start!r} {stop!r}") as span:
            rows = self._inner.scan(start, stop, reverse=reverse, limit=limit)
            span.what += f" {len(rows)} rows"
            return rows

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        with self._tracer.call(f"commit {len(commits)} commits") as span:
            fates = self._inner.commit(commits)
            span.what += f" {sum(fate is not None for fate in fates)} refused"
            return fates

    def stats(self) -> Mapping[str, int]:
        with self._tracer.call("stats"):
            return self._inner.stats()

    def close(self) -> None:
        with self._tracer.call("close"):
            self._inner.close()


class TracedShardStore(ShardStoreFilter):
    def __init__(self, tracer: Tracer, inner: ShardStore) -> None:
        super().__init__(inner)
        self._tracer = tracer

    def submit(self, shard: ShardWrite, done: Done) -> None:
        size = sum(memoryview(part).nbytes for part in shard.payload)
        what = f"submit {_show(shard.key)} {size} B" + (" sync" if shard.sync else "")
        self._inner.submit(shard, self._tracer.done(what, done))

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        what = "delete " + " ".join(map(_show, keys[:3])) + (" …" if len(keys) > 3 else "")
        self._inner.submit_delete(keys, self._tracer.done(what, done))

    def submit_sync(self, done: Done) -> None:
        self._inner.submit_sync(self._tracer.done("sync", done))

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        with self._tracer.call(f"read_now {_show(key)} {_span(offset, length)}") as span:
            found = self._inner.read_now(key, offset, length)
            span.what += " would block" if found is None else ""
            return found

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        with self._tracer.call(f"read {_show(key)} {_span(offset, length)}"):
            return await self._inner.read(key, offset, length)

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        plan = self._inner.plan_read(key, offset, length)
        if plan is None:
            return None
        return functools.partial(self._read_planned, plan, key, offset, length)

    def _read_planned(
        self, plan: Callable[[], Buffer], key: ShardKey, offset: int, length: int | None
    ) -> Buffer:
        with self._tracer.call(f"read {_show(key)} {_span(offset, length)}"):
            return plan()

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        with self._tracer.call(f"scan {'start' if after is None else _show(after)} {limit}"):
            return await self._inner.scan(after, limit)

    async def check(self) -> None:
        with self._tracer.call("check"):
            await self._inner.check()

    async def close(self) -> None:
        with self._tracer.call("close"):
            await self._inner.close()


def _show(key: ShardKey) -> str:
    return f"{key.blob.hex()}:{key.stripe}:{key.position}"


def _span(offset: int, length: int | None) -> str:
    return f"{offset}-" if length is None else f"{offset}-{offset + length}"


def _open_kv(config: TraceConfig, context: Context, inner: KVDriver) -> KVDriver:
    return TracedKV(Tracer(config, context), inner)


def _open_shardstore(config: TraceConfig, context: Context, inner: ShardStore) -> ShardStore:
    return TracedShardStore(Tracer(config, context), inner)


DRIVERS = [
    FilterDriver(
        name="trace",
        wraps=FilterKind.KV,
        config=TraceConfig,
        open=_open_kv,
        summary="logs calls, or only slow ones",
    ),
    FilterDriver(
        name="trace",
        wraps=FilterKind.SHARDSTORE,
        config=TraceConfig,
        open=_open_shardstore,
        summary="logs calls, or only slow ones",
    ),
]
