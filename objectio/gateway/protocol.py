"""uvicorn's HTTP/1.1 protocol with what a server on an open network needs besides.

uvicorn with httptools reads a request head of any size, for any time. Here both are bounded: what
has come of a head that is not complete may be `HEAD_BYTES_MAX` long and `HEAD_SECONDS_MAX` old. A
connection that sends nothing at all after it was opened is closed by the same clock. A client that
does not take its response is cut after `WRITE_SECONDS_MAX` without progress. In the common case, a
head that arrives in one piece, all this costs a few attribute accesses.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from objectio.gateway.exchange import CONNECTION_KEY
from objectio.limits import KIB

# S3 takes 8 KiB of headers, 2 KiB of them metadata; a presigned URL with a long key adds a few.
HEAD_BYTES_MAX: Final = 64 * KIB
HEAD_SECONDS_MAX: Final = 20.0
WRITE_SECONDS_MAX: Final = 60.0


class HoldingTransport:
    """A transport whose next write can be held back until the one after it, to go out as one.

    uvicorn writes a response's head and its body separately, and each write is a system call that
    wakes the client: for a small object that costs more than everything else about it.
    """

    __slots__ = ("_held", "_holding", "_inner", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self.is_closing = inner.is_closing  # asked for with every request
        self.pause_reading = inner.pause_reading
        self.resume_reading = inner.resume_reading
        self._held = b""
        self._holding = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def hold(self) -> None:
        """Keep the next write until there is another one, even an empty one."""
        self._holding = True

    def write(self, data: Any) -> None:
        if self._holding:
            self._holding = False
            self._held = data
        elif self._held:
            head, self._held = self._held, b""
            self._inner.writelines((head, data))
        else:
            self._inner.write(data)

    def close(self) -> None:
        if self._held:
            self.write(b"")
        self._inner.close()


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.transport = cast("asyncio.Transport", HoldingTransport(self.transport))
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            if self.cycle.response_complete and self.timeout_keep_alive_task is None:
                # Bytes between two requests (blank lines, a discarded body) stop the idle timer.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head(b"431 Request Header Fields Too Large")
        elif self._head_timer is None:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[CONNECTION_KEY] = self

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises for a target that it cannot parse
        self._in_head = False
        if self._head_timer is not None:
            self._stop_head_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _watch_writing(self) -> None:
        waiting_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(
            WRITE_SECONDS_MAX, self._check_writing, waiting_bytes
        )

    def _check_writing(self, before_bytes: int) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size() >= before_bytes:
            self.transport.abort()
        else:
            self._watch_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse_head(b"408 Request Timeout")

    def send_400_response(self, msg: str) -> None:
        """What followed a request is none. A request before it that has come whole is carried out
        and answered, not refused, and nothing is written into the middle of its answer."""
        if self._is_between_answers():
            super().send_400_response(msg)

    def _is_between_answers(self) -> bool:
        """Whether an answer of our own may be written now. If not, the connection ends with the
        answer that is under way."""
        cycle: Any = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            return True
        if self.pipeline or (cycle.more_body and cycle.response_started):
            self.transport.abort()
            return False
        cycle.keep_alive = cycle.keep_alive and cycle.more_body
        return bool(cycle.more_body)

    def _refuse_head(self, status: bytes) -> None:
        if not self.transport.is_closing() and self._is_between_answers():
            answer = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status
            self.transport.write(answer)
            self.transport.close()
