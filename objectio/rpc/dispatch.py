"""Calls on the answering end: from their arrival through a handler to exactly one answer.

A handler is called with an `Incoming` in the order in which the calls of a connection came. It
answers at once, or later from a callback, or returns a coroutine that does. What it raises is sent
to the caller. So code that only queues work (`ShardStore.submit`) makes no task, and everything that
came in one read of the socket is queued in one turn of the loop.

Calls that find all places taken wait in two queues, client traffic before background work, which may
take a quarter of the places at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import Buffer

from objectio.errors import (
    LocalProtocolError,
    ObjectIOError,
    OperationNotImplemented,
    Unavailable,
)
from objectio.rpc.auth import Peer
from objectio.rpc.budget import Lease
from objectio.rpc.frames import FLAG_BACKGROUND, HEADER_BYTES, Frame, Header, Kind, encode
from objectio.rpc.messages import pack_error

if TYPE_CHECKING:
    from objectio.rpc.server import ServerConnection

RUNNING_CALLS_MAX: Final = 16_384
"""Calls of all connections in their handlers."""

_log: Final = logging.getLogger("objectio.rpc")

Handler = Callable[["Incoming"], Coroutine[Any, Any, None] | None]


class Incoming:
    """One call, until it is answered: exactly one `reply` or `fail`. `payload` is the handler's
    until then and no longer; its memory is used again."""

    __slots__ = (
        "_lease",
        "background",
        "call_id",
        "connection",
        "deadline",
        "head",
        "is_over",
        "method",
        "payload",
        "size_bytes",
        "task",
    )

    def __init__(self, connection: ServerConnection, frame: Frame, lease: Lease | None) -> None:
        header = frame.header
        self.connection = connection
        self.method = header.method
        self.call_id = header.call_id
        self.background = bool(header.flags & FLAG_BACKGROUND)
        self.deadline = connection.received_at + header.timeout_ms / 1000
        self.head = frame.head
        self.payload = frame.payload
        self.size_bytes = HEADER_BYTES + len(frame.head) + len(frame.payload)
        self.task: asyncio.Task[None] | None = None
        self.is_over = False
        self._lease = lease

    @property
    def peer(self) -> Peer:
        peer = self.connection.peer
        assert peer is not None
        return peer

    def reply(self, head: bytes = b"", payload: Sequence[Buffer] = ()) -> None:
        """`payload` must not change afterwards."""
        self._answer(Kind.REPLY, head, payload)

    def fail(self, error: BaseException) -> None:
        if not isinstance(error, ObjectIOError | asyncio.CancelledError):
            _log.error("a call of method %#x failed", self.method, exc_info=error)
        self._answer(Kind.ERROR, pack_error(error), ())

    def _answer(self, kind: Kind, head: bytes, payload: Sequence[Buffer]) -> None:
        if self.is_over:
            raise LocalProtocolError("a call is answered once")
        encoded = encode(Header(kind, 0, self.method, self.call_id), head, payload)
        self.is_over = True
        if self._lease is not None:
            self.payload = b""
            self._lease.give()
        connection = self.connection
        connection.dispatcher.left(self)
        if connection.answered(self):
            connection.replies.charge(encoded.size_bytes)
            connection.sender.send(
                encoded, background=self.background, on_handed=connection.replies.give
            )


class Dispatcher:
    """Calls into handlers, with a bound on how many are under way."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, running_max: int = RUNNING_CALLS_MAX
    ) -> None:
        self.handlers: dict[int, Handler] = {}
        self._loop = loop
        self._running_max = running_max
        self._background_max = max(1, running_max // 4)
        self._running: set[Incoming] = set()
        self._background_running = 0
        self._foreground: deque[Incoming] = deque()
        self._background: deque[Incoming] = deque()
        self._starting = False

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._foreground) + len(self._background)

    def add(self, call: Incoming) -> None:
        (self._background if call.background else self._foreground).append(call)
        self._start_next()

    def cancel(self, call: Incoming) -> None:
        """The caller has gone. What is in a handler without a task runs to its end."""
        if call.task is not None:
            call.task.cancel()
        elif not call.is_over and call not in self._running:
            call.fail(Unavailable("cancelled", reason="cancelled"))

    def left(self, call: Incoming) -> None:
        """The call was answered."""
        if call in self._running:
            self._running.discard(call)
            self._background_running -= call.background
            if self._foreground or self._background:
                self._start_next()

    def _start_next(self) -> None:
        if self._starting:
            return  # an answer from within a handler: the loop below goes on
        self._starting = True
        running = self._running
        while len(running) < self._running_max:
            if self._foreground:
                call = self._foreground.popleft()
            elif self._background and self._background_running < self._background_max:
                call = self._background.popleft()
            else:
                break
            if not call.is_over:
                self._start(call)
        self._starting = False

    def _start(self, call: Incoming) -> None:
        handler = self.handlers.get(call.method)
        if handler is None:
            call.fail(OperationNotImplemented(f"no method {call.method:#x}", reason="method"))
            return
        if call.deadline < time.monotonic():
            call.fail(Unavailable("the call waited for too long", reason="deadline"))
            return
        self._running.add(call)
        self._background_running += call.background
        try:
            work = handler(call)
        except Exception as error:
            if call.is_over:
                _log.exception("a handler failed after it had answered")
            else:
                call.fail(error)
            return
        if work is not None:
            call.task = self._loop.create_task(self._run(call, work))
            call.task.add_done_callback(partial(self._ended, call, work))

    async def _run(self, call: Incoming, work: Coroutine[Any, Any, None]) -> None:
        error: BaseException | None = None
        try:
            await work
        except asyncio.CancelledError:
            error = Unavailable("cancelled", reason="cancelled")
        except Exception as raised:
            error = raised
        if error is None and not call.is_over:
            error = LocalProtocolError("a handler that ended without an answer", reason="bug")
        if error is not None and not call.is_over:
            call.fail(error)

    @staticmethod
    def _ended(call: Incoming, work: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        """A task that is cancelled in the turn in which it was made never begins."""
        if task.cancelled() and not call.is_over:
            work.close()
            call.fail(Unavailable("cancelled", reason="cancelled"))
