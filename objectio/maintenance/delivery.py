"""Delivery: handing events that wait in rows to the sinks, each at least once.

A row goes when its event was sent, or when the event is too old. In between an event may be sent again:
a process that dies in between leaves the row. A receiver that cannot be reached is tried again after a
pause that grows, with everything that waits for it; an event that the receiver refuses is put aside
alone. Each target has its rows and its pace for itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.sinks import EventSink
from objectio.errors import ConfigError, InvalidRequest, ObjectIOError
from objectio.kv.keys import decode_uint, prefix_end
from objectio.kv.store import KVStore, Row
from objectio.meta import keys
from objectio.store.events import decode_event, message_of

_log: Final = logging.getLogger("objectio.maintenance")

_PAGE: Final = 64
"""Rows that are struck out together; a process that dies sends so many again at most."""
_LOOK_SECONDS: Final = 5.0
"""Between two looks where nothing was heard of new rows."""
_SWEEP_SECONDS: Final = 3600.0
_ASIDE_MAX: Final = 10_000
_MS_AT: Final = len(keys.EVENTS) + keys.EVENT_TARGET_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverySettings:
    """Pauses grow from `pause_seconds` to `pause_seconds_max`."""

    age_seconds_max: float
    pause_seconds: float = 1.0
    pause_seconds_max: float = 60.0
    aside_seconds_max: float = 3600.0


class Delivery:
    """Runs in the background."""

    def __init__(
        self,
        kv: KVStore,
        sinks: Mapping[str, EventSink],
        settings: DeliverySettings,
        metrics: Metrics | None = None,
    ) -> None:
        self._kv = kv
        self._settings = settings
        self._sinks = sinks
        counting = NullMetrics() if metrics is None else metrics
        self._targets = [
            _Target(kv, target, sink, settings, counting)
            for target, sink in targets_of(sinks).items()
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        running = [target.run() for target in self._targets]
        if running:
            running.append(self._hear())
        self._tasks = [loop.create_task(each) for each in (*running, self._sweep())]

    async def stop(self) -> None:
        for sink in self._sinks.values():
            await sink.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hear(self) -> None:
        async for _ in self._kv.watch(keys.EVENTS):
            for target in self._targets:
                target.wake.set()

    async def _sweep(self) -> None:
        """Events for targets that are not configured any more wait for that to change, too."""
        while True:
            try:
                await self.sweep()
            except Exception as error:
                _log.warning("looking for events that are too old: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> None:
        configured = {target.prefix for target in self._targets}
        oldest_ms = _oldest_ms(self._settings)
        start, stop = keys.EVENTS, prefix_end(keys.EVENTS)
        while rows := await self._kv.ascan(start, stop, limit=1):
            prefix = rows[0][0][:_MS_AT]
            start = prefix_end(prefix)
            if prefix not in configured:
                target = decode_event(rows[0][1]).target
                _log.warning("events wait for %s, for which no sink is configured", target)
                await self._drop_old(prefix, oldest_ms)

    async def _drop_old(self, prefix: bytes, oldest_ms: int) -> None:
        end = prefix + oldest_ms.to_bytes(8, "big")
        dropped = 0
        while rows := await self._kv.ascan(prefix, end, limit=1000):
            await self._kv.commit([], [(row, None) for row, _ in rows])
            dropped += len(rows)
        if dropped:
            _log.warning("%d events for a target that is not configured are too old", dropped)


def targets_of(sinks: Mapping[str, EventSink]) -> dict[str, EventSink]:
    """By ARN. Raises `ConfigError` if two sinks have one."""
    found: dict[str, EventSink] = {}
    for name, sink in sinks.items():
        for target in sink.targets:
            if target in found:
                raise ConfigError(f"sinks.{name}: another sink has {target}, too")
            found[target] = sink
    return found


class _Target:
    def __init__(
        self,
        kv: KVStore,
        arn: str,
        sink: EventSink,
        settings: DeliverySettings,
        metrics: Metrics,
    ) -> None:
        self.prefix = keys.events(arn)
        self.wake = asyncio.Event()
        self._kv = kv
        self._arn = arn
        self._sink = sink
        self._settings = settings
        self._aside: dict[bytes, tuple[float, float]] = {}
        """Rows that were refused: when they are tried again, and the pause after that."""
        self._oldest_ms = 0
        self._progress = False
        """Whether anything was taken since the last pause: then the next one is short again."""
        self._sent = metrics.counter(
            "objectio_events_sent_total", "Events that a target has taken.", target=arn
        )
        self._failed = metrics.counter(
            "objectio_events_failed_total", "Requests that a target did not take.", target=arn
        )
        self._dropped = metrics.counter(
            "objectio_events_dropped_total", "Events given up, for they were too old.", target=arn
        )
        metrics.gauge_function(
            "objectio_events_oldest_seconds",
            "Age of the oldest event that waits for a target.",
            lambda: max(0.0, time.time() - self._oldest_ms / 1000) if self._oldest_ms else 0.0,
            target=arn,
        )

    async def run(self) -> None:
        pause = self._settings.pause_seconds
        while True:
            self.wake.clear()
            self._progress = False
            try:
                await self._deliver()
            except Exception as error:
                self._failed.inc()
                known = isinstance(error, ObjectIOError)
                _log.warning("events for %s wait: %s", self._arn, error, exc_info=not known)
                if self._progress:
                    pause = self._settings.pause_seconds
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))
                pause = min(2 * pause, self._settings.pause_seconds_max)
                continue
            pause = self._settings.pause_seconds
            try:
                async with asyncio.timeout(self._until_next()):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _until_next(self) -> float:
        due = min((at for at, _ in self._aside.values()), default=None)
        if due is None:
            return _LOOK_SECONDS
        return min(_LOOK_SECONDS, max(0.0, due - time.monotonic()))

    async def _deliver(self) -> None:
        """All that waits, in the order of time."""
        start, stop = self.prefix, prefix_end(self.prefix)
        self._oldest_ms = 0
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            self._oldest_ms = self._oldest_ms or _time_ms(rows[0][0])
            done: list[bytes] = []
            try:
                await self._send(rows, done)
            finally:
                if done:
                    await self._kv.commit([], [(row, None) for row in done])
                    for row in done:
                        self._aside.pop(row, None)
            start = rows[-1][0] + b"\0"
        if not self._aside:
            self._oldest_ms = 0

    async def _send(self, rows: Sequence[Row], done: list[bytes]) -> None:
        oldest_ms, now = _oldest_ms(self._settings), time.monotonic()
        fresh: list[Row] = []
        for row, raw in rows:
            if _time_ms(row) < oldest_ms:
                self._dropped.inc()
                done.append(row)
            elif self._aside.get(row, (0.0, 0.0))[0] <= now:
                fresh.append((row, raw))
        if len(done):
            _log.warning("%d events for %s are too old and were given up", len(done), self._arn)
        for batch in self._batches(fresh):
            try:
                await self._sink.send(self._arn, [message_of(row, raw) for row, raw in batch])
            except InvalidRequest as error:
                self._failed.inc()
                self._put_aside(batch, error)
                continue
            self._progress = True
            self._sent.inc(len(batch))
            done += [row for row, _ in batch]

    def _batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        most = self._sink.messages_max(self._arn)
        together = [each for each in rows if each[0] not in self._aside]
        for at in range(0, len(together), most):
            yield together[at : at + most]
        for each in rows:
            if each[0] in self._aside:
                yield (each,)

    def _put_aside(self, batch: Sequence[Row], error: InvalidRequest) -> None:
        """For a while; and those that were refused together are then sent one by one."""
        if len(self._aside) + len(batch) > _ASIDE_MAX:
            raise error  # it seems to refuse everything
        for row, _ in batch:
            _, pause = self._aside.get(row, (0.0, self._settings.pause_seconds_max))
            later = min(2 * pause, self._settings.aside_seconds_max)
            self._aside[row] = time.monotonic() + pause, later
        _log.warning("%d events for %s were refused: %s", len(batch), self._arn, error)


def _time_ms(row: bytes) -> int:
    return decode_uint(row, _MS_AT, 8)


def _oldest_ms(settings: DeliverySettings) -> int:
    return max(0, int((time.time() - settings.age_seconds_max) * 1000))
