"""uvicorn's HTTP/1.1 protocol with what a server on an open network needs besides.

uvicorn with httptools reads a request head of any size, for any time. Here both are bounded: what
has come of a head that is not complete may be `HEAD_BYTES_MAX` long and `head_seconds_max` old. A
connection that sends nothing at all after it was opened is closed by the same clock. A client that
takes nothing of its response for `write_seconds_max` is cut. Who may connect at all is asked once for
each connection. In the common case, a head that arrives in one piece, all this costs a few attribute
accesses.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from objectio.gateway.arrivals import Arrivals, refuse
from objectio.gateway.exchange import CONNECTION_KEY
from objectio.limits import KIB

# S3 takes 8 KiB of headers, 2 KiB of them metadata; a presigned URL with a long key adds a few.
HEAD_BYTES_MAX: Final = 64 * KIB
HEAD_SECONDS_MAX: Final = 20.0
WRITE_SECONDS_MAX: Final = 60.0
REFUSED_SECONDS_MAX: Final = 2.0
"""A connection that is refused has so long to send the head of a request, which is answered so."""
_TAKEN_AT: Final = 120  # struct tcp_info: u64 tcpi_bytes_acked, Linux 4.1
_TAKEN: Final = struct.Struct("=Q")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger


class Patience(NamedTuple):
    """How long clients may take: see `[gateway]`."""

    head_seconds_max: float = HEAD_SECONDS_MAX
    write_seconds_max: float = WRITE_SECONDS_MAX


class HoldingTransport:
    """A transport whose next write can be held back until the one after it, to go out as one.

    uvicorn writes a response's head and its body separately, and each write is a system call that
    wakes the client: for a small object that costs more than everything else about it.
    """

    __slots__ = (
        "_held",
        "_holding",
        "_inner",
        "_watch",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, inner: asyncio.Transport, watch: Callable[[], None]) -> None:
        """`watch` is called when it closes with something that the client has not taken yet."""
        self._inner = inner
        self._watch = watch
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
        first = not self._inner.is_closing()
        self._inner.close()
        if first and self._inner.get_write_buffer_size():
            self._watch()


class GatewayProtocol(HttpToolsProtocol):
    """One connection. Those of Unix sockets are of processes of ours, and always let in."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _counted_as: str | None = ""
    _taken_bytes = -1
    _taken_at = 0.0
    _idle_after: Any = None
    _idle_until = 0.0

    def __init__(self, *, patience: Patience, arrivals: Arrivals, **options: Any) -> None:
        super().__init__(**options)
        self._head_seconds_max, self._write_seconds_max = patience
        self._arrivals = arrivals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.transport = cast(
            "asyncio.Transport", HoldingTransport(self.transport, self._watch_writing)
        )
        if self.client is not None:
            self._counted_as = self._arrivals.enter(self.client[0])
            if self._counted_as is None:
                self._head_seconds_max = min(self._head_seconds_max, REFUSED_SECONDS_MAX)
                self.app = refuse
                if self._arrivals.crowded:
                    self.transport.abort()
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self._arrivals.leave(self._counted_as)
        self._stop_head_timer()
        super().connection_lost(exc)
        self._stop_write_timer()  # after that, which may close the transport

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            if self.cycle.response_complete and self.timeout_keep_alive_task is None:
                # Bytes between two requests (blank lines, a discarded body) stop the idle timer.
                if self._idle_after is not self.cycle:
                    self._idle_after = self.cycle
                    self._idle_until = self.loop.time() + self.timeout_keep_alive
                self.timeout_keep_alive_task = self.loop.call_at(
                    self._idle_until, self.timeout_keep_alive_handler
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
        self._stop_write_timer()
        self._watch_writing()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():  # else the rest must be taken, too
            self._stop_write_timer()
        super().resume_writing()

    def _watch_writing(self) -> None:
        """Look now and then whether the client takes anything: most do, and are not looked at."""
        if self._write_timer is None:
            self._taken_bytes = -1
            self._look_later()

    def _look_later(self) -> None:
        self._write_timer = self.loop.call_later(self._write_seconds_max / 4, self._check_writing)

    def _check_writing(self) -> None:
        self._write_timer = None
        taken_bytes, now = taken_bytes_of(self.transport), self.loop.time()
        if taken_bytes != self._taken_bytes:
            self._taken_bytes, self._taken_at = taken_bytes, now
        elif now - self._taken_at >= self._write_seconds_max:
            _drop_unsent(self.transport)
            self.transport.abort()
            return
        self._look_later()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._head_seconds_max, self._head_is_late)

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


def _drop_unsent(transport: asyncio.Transport) -> None:
    """Else the kernel would keep megabytes for a client that takes none of them."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def taken_bytes_of(transport: asyncio.Transport) -> int:
    """A number that changes when the other end takes something: what its kernel has acknowledged, for
    under TLS the buffers that can be asked do not shrink while a large one below them does."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX and hasattr(socket, "TCP_INFO"):
        with suppress(OSError):
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TAKEN_AT + _TAKEN.size)
            if len(info) == _TAKEN_AT + _TAKEN.size:
                return int(_TAKEN.unpack_from(info, _TAKEN_AT)[0])
    return transport.get_write_buffer_size()
