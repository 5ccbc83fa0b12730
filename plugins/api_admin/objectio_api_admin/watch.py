"""Who listens to what happens, and the one watcher that looks for all of them.

Theory of operation:

- While anybody listens, one task looks at everything once a second, a tenth of the time at most. What
  differs from the last look is made into events once, and put into the queue of each listener.
- What cannot be asked (the process with the metadata is gone) is said to be unknown, and is compared with
  what was known last when it comes back.
- A listener has a bounded queue, and the time to hand something to its client is bounded: one that does
  not read is cut off, and costs the others nothing. There are so many listeners at most, and of one
  identity not all of them.
- A listener ends after `STREAM_SECONDS_MAX`, for its client to prove again who it is, and when the server
  stops, which does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from objectio.abc.api import ApiContext, Receive, Send
from objectio.errors import ObjectIOError, OperationNotImplemented, Unavailable
from objectio_api_admin.events import Event, Facts, Part, UnknownEvent, changes, frame, state
from objectio_api_admin.shapes import ELSEWHERE, Order, Route

LOOK_SECONDS: Final = 1.0
LOOK_SHARE_MAX: Final = 0.1
"""Of the time, for looking."""
PAUSE_SECONDS_MAX: Final = 10.0
ASK_SECONDS_MAX: Final = 5.0
"""What has not answered by then is unknown."""
HEARTBEAT_SECONDS: Final = 15.0
"""Proxies close connections on which nothing comes, most of them after a minute."""
STREAM_SECONDS_MAX: Final = 900.0
SEND_SECONDS_MAX: Final = 10.0
LISTENERS_MAX: Final = 32
LISTENERS_OF_ONE_MAX: Final = 16
"""Of one user, role or root: whoever may listen does not keep all others from it."""
QUEUE_MAX: Final = 1_000
_LAST_SECONDS: Final = 1.0
"""What a client that is sent something gets at the end."""

_HEARTBEAT: Final = b":\n\n"
_RETRY: Final = b"retry: 1000\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather what should go out at once
)

_log: Final = logging.getLogger("objectio.api.admin")


class Listener:
    """What one client is still to be sent. An asynchronous iterator of frames."""

    def __init__(self, watch: Watch, whose: str) -> None:
        self.whose = whose
        self._watch = watch
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._until = time.monotonic() + watch.stream_seconds_max
        self._ended = False
        self._sending: asyncio.Timeout | None = None
        self.overflown = False
        self.told_state = False

    def put(self, event: bytes) -> None:
        if len(self._queue) >= QUEUE_MAX:
            self.overflown = True
            self._hurry(0.0)
        else:
            self._queue.append(event)
        self._wake.set()

    def end(self) -> None:
        """What is in the queue already is sent, if that goes quickly."""
        self._ended = True
        self._wake.set()
        self._hurry(_LAST_SECONDS)

    def close(self) -> None:
        self._watch.leave(self)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> bytes:
        while not self._queue:
            left = self._until - time.monotonic()
            if self._ended or left <= 0:
                raise StopAsyncIteration
            self._wake.clear()
            try:
                async with asyncio.timeout(min(self._watch.heartbeat_seconds, left)):
                    await self._wake.wait()
            except TimeoutError:
                if time.monotonic() < self._until:
                    return _HEARTBEAT
        return self._queue.popleft()

    async def hand_over(self, sending: Awaitable[None]) -> None:
        """Raises `Unavailable` for a client that does not take it."""
        try:
            async with asyncio.timeout(self._watch.send_seconds_max) as self._sending:
                if self._ended:
                    self._hurry(_LAST_SECONDS)
                await sending
        except TimeoutError:
            raise Unavailable("a listener does not read its events", reason="slow") from None
        finally:
            self._sending = None
        if self.overflown:
            raise Unavailable("a listener is too slow for its events", reason="slow")

    def _hurry(self, seconds: float) -> None:
        sending = self._sending
        if sending is None or sending.expired():
            return
        at, before = asyncio.get_running_loop().time() + seconds, sending.when()
        sending.reschedule(at if before is None else min(at, before))


class Watch:
    """Of one process. The bounds are for tests to change."""

    def __init__(self, context: ApiContext) -> None:
        self.look_seconds = LOOK_SECONDS
        self.heartbeat_seconds = HEARTBEAT_SECONDS
        self.stream_seconds_max = STREAM_SECONDS_MAX
        self.send_seconds_max = SEND_SECONDS_MAX
        self._sources = _sources(context)
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None
        self._known: dict[Part, Any] = {}
        self._unknown: tuple[Part, ...] = ()
        self._looked = False
        self._stopped = False
        self._name = secrets.token_hex(4)
        self._number = 0

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def listen(self, whose: str = "") -> Listener:
        """Raises `Unavailable` where there are too many already, or the server stops."""
        if not self._sources:
            raise OperationNotImplemented("no part of this node manages storage", reason=ELSEWHERE)
        if self._stopped or len(self._listeners) >= LISTENERS_MAX:
            raise Unavailable("nobody else may listen now", reason="listeners")
        if sum(each.whose == whose for each in self._listeners) >= LISTENERS_OF_ONE_MAX:
            raise Unavailable("so many listen for you already", reason="listeners")
        listener = Listener(self, whose)
        self._listeners.add(listener)
        if self._looked:
            self._tell_state(listener)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._run(), name="watch")
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._watching is not None:
            self._watching.cancel()
            self._watching = None
            self._looked = False
            self._known.clear()
            self._unknown = ()

    def stop(self) -> None:
        """All that listen end soon, and nobody may any more."""
        self._stopped = True
        for listener in self._listeners:
            listener.end()

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            now = await self._look()
            self._tell(now)
            took = time.monotonic() - started
            pause = max(self.look_seconds - took, took * (1 / LOOK_SHARE_MAX - 1))
            await asyncio.sleep(min(pause, max(PAUSE_SECONDS_MAX, self.look_seconds)))

    async def _look(self) -> Facts:
        answers = await asyncio.gather(
            *(_ask(part, source) for part, source in self._sources.items())
        )
        return {
            part: answer
            for part, answer in zip(self._sources, answers, strict=True)
            if answer is not None
        }

    def _tell(self, now: Facts) -> None:
        """To those who have been told the state what is new, and the state to the others."""
        unknown = tuple(part for part in _PARTS if part not in now)
        events: list[Event] = []
        if self._looked:
            events += changes(self._known, now, self._make)
            if unknown != self._unknown:
                events.append(self._make(UnknownEvent, unknown=unknown))
        self._known.update(now)
        self._unknown = unknown
        self._looked = True
        frames = [frame(event) for event in events]
        for listener in self._listeners:
            if not listener.told_state:
                self._tell_state(listener)
                continue
            for each in frames:
                listener.put(each)

    def _tell_state(self, listener: Listener) -> None:
        listener.told_state = True
        listener.put(frame(state(self._known, self._unknown, self._make)))

    def _make(self, kind: Any, **fields: Any) -> Any:
        self._number += 1
        made_id = f"{self._name}-{self._number}"
        return kind(id=made_id, time_ms=int(time.time() * 1000), **fields)


Source = Callable[[], Awaitable[Any]]

_PARTS: Final[tuple[Part, ...]] = (
    "cluster",
    "disks",
    "repair",
    "scrub",
    "rebalance",
    "findings",
)


def _sources(context: ApiContext) -> Mapping[Part, Source]:
    found: dict[Part, Source] = {}
    if context.cluster is not None:
        found["cluster"] = context.cluster.status
    if context.admin is not None:
        found["disks"] = context.admin.disks
        found["repair"] = context.admin.repair
        found["scrub"] = context.admin.scrub
        found["rebalance"] = context.admin.rebalance
        found["findings"] = context.admin.doctor
    return found


async def _ask(part: Part, source: Source) -> Any:
    """None if there is no answer."""
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            return await source()
    except (ObjectIOError, OSError) as error:  # the latter is a TimeoutError, too
        _log.debug("%s cannot be asked: %s", part, error)
    except Exception:
        _log.exception("asking for %s", part)
    return None


# The response.


async def listen(watch: Watch, order: Order) -> Listener:
    return watch.listen(order.identity.role_arn or order.identity.arn)


async def send_events(listener: Listener, request_id: str, receive: Receive, send: Send) -> None:
    """All that there is to tell, until it ends or the client goes."""
    headers = [*_HEADERS, (b"x-objectio-request-id", request_id.encode("latin-1", "replace"))]
    leaving = asyncio.ensure_future(_end_when_gone(listener, receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await listener.hand_over(_send_on(send, _RETRY))
        async for each in listener:
            await listener.hand_over(_send_on(send, each))
        await listener.hand_over(_send_on(send, b"", more=False))
    finally:
        listener.close()
        leaving.cancel()
        await asyncio.wait([leaving])


async def _send_on(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _end_when_gone(listener: Listener, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()


ROUTES: Final = (
    Route(
        "GET",
        "/v1/events",
        "GetEvents",
        "events",
        listen,
        "watch",
        returns=Event,
        summary="Tells what happens in the cluster as it happens, by server-sent events.",
        streams=True,
    ),
)
