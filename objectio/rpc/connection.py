"""One connection on asyncio or uvloop: bytes to frames and frames to bytes, with a bound on both.

`Sender` holds what is to be sent in two queues, client traffic before background work, and hands it
to the transport only as fast as the transport takes it. All frames of one turn of the loop go out in
one write. `Connection` receives through a `FrameReader`, runs a handshake, and leaves the frames that
follow to the subclass: `client.ClientConnection` or `server.ServerConnection`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

from typing_extensions import Buffer

from objectio.errors import LocalProtocolError, ObjectIOError, RemoteProtocolError, Unavailable
from objectio.limits import KIB, MIB
from objectio.rpc.auth import NO_TLS, Binding, Peer, goodbye
from objectio.rpc.frames import FRAME_BYTES_MAX, Encoded, Frame, FrameReader, Header

HANDSHAKE_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 1.0
WRITE_HIGH_BYTES: Final = 1 * MIB
WRITE_LOW_BYTES: Final = 256 * KIB
WRITE_BATCH_BYTES: Final = 256 * KIB
SOCKET_BUFFER_BYTES: Final = 1 * MIB
"""Of Unix sockets, whose buffers do not grow by themselves; the system may allow less."""
_JOIN_BYTES_MAX: Final = 16 * KIB

_log: Final = logging.getLogger("objectio.rpc")


class Outgoing:
    """A frame on its way out."""

    __slots__ = ("end", "on_handed", "parts", "size_bytes")

    def __init__(self, encoded: Encoded, on_handed: Callable[[int], None] | None) -> None:
        self.parts: list[Buffer] | None = encoded.parts
        """None once it was handed over, or dropped before that."""
        self.size_bytes = encoded.size_bytes
        self.on_handed = on_handed
        self.end = -1
        """Where it ends in all that was ever handed over; -1 while it waits here."""


class Sender:
    """Frames in two queues, and the transport's flow control."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._foreground: deque[Outgoing] = deque()
        self._background: deque[Outgoing] = deque()
        self._scheduled = False
        self._paused = False
        self._handed_bytes = 0

    def attach(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        self._transport = transport

    def detach(self) -> None:
        """The connection has ended: what waits here is never sent."""
        self._transport = None
        for queue in (self._foreground, self._background):
            while queue:
                out = queue.popleft()
                out.parts = None
                if out.on_handed is not None:
                    out.on_handed(out.size_bytes)

    def pause(self) -> None:
        self._paused = True

    def unpause(self) -> None:
        self._paused = False
        self.flush()

    def send(
        self,
        encoded: Encoded,
        *,
        background: bool = False,
        on_handed: Callable[[int], None] | None = None,
    ) -> Outgoing:
        """Send it at the end of this turn of the loop, or when its turn comes. `on_handed` is told
        its size once it does not wait here any more."""
        out = Outgoing(encoded, on_handed)
        (self._background if background else self._foreground).append(out)
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self.flush)
        return out

    def drop(self, out: Outgoing) -> bool:
        """Do not send it after all. False if its turn has come already."""
        if out.end < 0 and out.parts is not None:
            out.parts = None
            return True
        return False

    def is_sent(self, out: Outgoing) -> bool:
        """Whether its buffers are the caller's again: the system has all of it."""
        transport = self._transport
        return transport is None or (
            0 <= out.end <= self._handed_bytes - transport.get_write_buffer_size()
        )

    def flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        batch: list[Buffer] = []
        size = 0
        while not self._paused and transport is not None:
            queue = self._foreground or self._background
            if not queue:
                break
            out = queue.popleft()
            parts, out.parts = out.parts, None
            if out.on_handed is not None:
                out.on_handed(out.size_bytes)
            if parts is None:
                continue
            self._handed_bytes += out.size_bytes
            out.end = self._handed_bytes
            batch += parts
            size += out.size_bytes
            if size >= WRITE_BATCH_BYTES:
                _write(transport, batch)
                batch, size = [], 0
        if batch and transport is not None:
            _write(transport, batch)


def _write(transport: asyncio.Transport, parts: list[Buffer]) -> None:
    """Small neighbours joined, large buffers as they are: uvloop sends those without a copy."""
    if len(parts) == 1:
        transport.write(parts[0])  # type: ignore[arg-type]
        return
    small: list[Buffer] = []
    joined: list[Buffer] = []
    for part in parts:
        if len(part) <= _JOIN_BYTES_MAX:  # type: ignore[arg-type]
            small.append(part)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(part)
    if small:
        joined.append(b"".join(small))
    for part in joined:
        transport.write(part)  # type: ignore[arg-type]


class Handshake(Protocol):
    peer: Peer | None

    def receive(self, frame: Frame) -> list[Encoded]: ...


class Connection(asyncio.BufferedProtocol):
    """What both ends have in common. A subclass gives the handshake, and takes what follows it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = FrameReader(self)
        self.sender = Sender(self.loop)
        self.peer: Peer | None = None
        self.closed: asyncio.Future[None] = self.loop.create_future()
        """Done when the connection has ended, for whatever reason."""
        self.failure: BaseException | None = None
        """Why it ended, if it did not simply close."""
        self.received_at = time.monotonic()
        self.last_address = ""
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        self._handshake_timer: asyncio.TimerHandle | None = None

    # For subclasses.

    def make_handshake(self, binding: Binding) -> Handshake:
        raise NotImplementedError

    def ready(self, peer: Peer) -> None:
        """The handshake is through."""

    def frame_received(self, frame: Frame) -> None:
        raise NotImplementedError

    def allocate(self, header: Header, head: bytes, payload_bytes: int) -> memoryview | None:
        raise NotImplementedError

    def ended(self, error: BaseException) -> None:
        """The connection is gone. Called once."""

    # Ending it.

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Send what is queued in the transport, then end."""
        if self._transport is not None:
            self.sender.flush()
            self._transport.close()

    def abort(self, error: BaseException) -> None:
        """End it now. The peer gets a word if the line is free."""
        if self.failure is None:
            self.failure = error
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()
            return
        fields = getattr(error, "fields", {})
        told = goodbye(str(fields.get("reason", "failed")), str(error)[:500])
        transport.write(b"".join(told.parts))
        transport.close()
        self.loop.call_later(GOODBYE_SECONDS, transport.abort)

    # The protocol of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._transport = transport
        self.last_address = name_of(transport.get_extra_info("peername"))
        self.sender.attach(transport)
        _tune(transport.get_extra_info("socket"))
        self._handshake_timer = self.loop.call_later(HANDSHAKE_SECONDS, self._handshake_late)
        self._handshake = self.make_handshake(binding_of(transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.received_at = time.monotonic()
        self._take(self.reader.received(nbytes))

    def resume(self) -> None:
        """There may be memory now for what the reader waits for."""
        if self.reader.blocked and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._take(self.reader.resume())

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.sender.pause()

    def resume_writing(self) -> None:
        self.sender.unpause()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        self.sender.detach()
        error = self.failure or exc or Unavailable("the connection was closed", reason="closed")
        self.failure = error
        self.ended(error)
        if not self.closed.done():
            self.closed.set_result(None)

    # The rest.

    def _take(self, frames: Iterator[Frame]) -> None:
        try:
            for frame in frames:
                if self.peer is not None:
                    self.frame_received(frame)
                else:
                    self._shake(frame)
                if self.failure is not None:
                    return
        except ObjectIOError as error:
            self.abort(error)
            return
        except Exception as error:
            _log.exception("a frame from %s", self.last_address)
            self.abort(LocalProtocolError(f"a bug: {error!r}", reason="bug"))
            return
        if self.reader.blocked and self._transport is not None:
            self._transport.pause_reading()

    def _shake(self, frame: Frame) -> None:
        assert self._handshake is not None
        for answer in self._handshake.receive(frame):
            self.sender.send(answer)
        if (peer := self._handshake.peer) is not None:
            self.peer = peer
            self.reader.frame_bytes_max = FRAME_BYTES_MAX
            if self._handshake_timer is not None:
                self._handshake_timer.cancel()
            self.ready(peer)

    def _handshake_late(self) -> None:
        self.abort(RemoteProtocolError("no handshake in time", reason="timeout"))


def binding_of(transport: asyncio.Transport) -> Binding:
    """The client's Finished message of the TLS session: what RFC 5929 §3 calls tls-unique. RFC 8446
    leaves that undefined for TLS 1.3, where the message is an HMAC over the whole handshake with a
    key of this session, which is what a binding has to be."""
    session = transport.get_extra_info("ssl_object")
    if session is None:
        return NO_TLS
    data = cast(ssl.SSLObject, session).get_channel_binding("tls-unique")
    if not data:
        raise LocalProtocolError("a TLS session without a channel binding", reason="tls")
    return Binding("tls-unique", data)


def _tune(raw: socket.socket | None) -> None:
    if raw is not None and raw.family == socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)


def name_of(peername: object) -> str:
    if isinstance(peername, tuple):
        return ":".join(map(str, peername[:2]))
    return str(peername or "a Unix socket")
