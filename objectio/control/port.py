"""One port for everything that others want of the process with the metadata.

The first bytes of a connection tell what it speaks: frames of our wire, HTTP/2 (gRPC), or HTTP/1.1.
Whoever says nothing, or something else, is sent away. With TLS the same is done inside of it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final, cast

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.rpc.connection import name_of
from objectio.rpc.listen import Listeners

DECIDING_BYTES: Final = 14
"""As long as `GET / HTTP/1.1`; our first frame and HTTP/2's preface are longer."""
SILENT_SECONDS: Final = 5.0
UNDECIDED_MAX: Final = 64

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 §3.4."""

Factory = Callable[[], asyncio.BaseProtocol]
MaybeFactory = Callable[[], asyncio.BaseProtocol | None]

_log: Final = logging.getLogger("objectio.control")


def spoken(first: bytes) -> str:
    """frames, grpc, http, or nothing that is known here. At least `DECIDING_BYTES`.

    A frame begins with eight bytes of checksum, so it is told by what follows them: a length below
    64 KiB, the kind HELLO, no flags. A request of HTTP/1.1 begins with printable characters, the
    first ones a method, which is in capitals (RFC 9110 §9.1).
    """
    if first.startswith(_PREFACE[:DECIDING_BYTES]):
        return "grpc"
    if first[10:DECIDING_BYTES] == b"\0\0\x01\0":
        return "frames"
    head = first[:DECIDING_BYTES]
    if b"A" <= head[:1] <= b"Z" and all(0x20 <= byte < 0x7F for byte in head):
        return "http"
    return ""


class Port:
    """`frames`, `grpc` and `http` make protocols for connections; None from `http`: not served."""

    def __init__(
        self,
        *,
        frames: Factory,
        grpc: Factory,
        http: MaybeFactory,
        metrics: Metrics | None = None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self.silent_seconds = silent_seconds
        self.undecided: set[FirstBytes] = set()
        self.refused: dict[str, int] = {}
        """Connections that were closed before it was known what they speak, by reason: silent,
        unknown, strangers, http (which nobody serves here), closing."""
        self._factories: dict[str, MaybeFactory] = {"frames": frames, "grpc": grpc, "http": http}
        self._metrics = metrics or NullMetrics()
        self._listeners = Listeners(lambda: FirstBytes(self))
        self._closing = False

    async def listen(self, address: str, tls: ssl.SSLContext | None = None) -> str:
        """Returns the address with the port that was taken."""
        return await self._listeners.add(address, tls)

    def close(self) -> None:
        """Take no more connections. Those that were handed on belong to who has them."""
        self._closing = True
        self._listeners.close()
        for connection in list(self.undecided):
            connection.refuse("closing")

    async def wait_closed(self) -> None:
        await self._listeners.wait_closed()

    # What connections tell.

    def is_full(self) -> bool:
        return self._closing or len(self.undecided) > UNDECIDED_MAX

    def make(self, what: str) -> asyncio.BaseProtocol | None:
        return self._factories[what]()

    def count(self, address: str, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self._metrics.counter(
            "objectio_port_refused_total",
            "Connections to the port of the metadata that were closed before they said anything.",
            reason=reason,
        ).inc()
        _log.info("closed a connection from %s: %s", address, reason)


class FirstBytes(asyncio.Protocol):
    """A connection until it is known what it speaks."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        port = self._port
        port.undecided.add(self)
        if port.is_full():
            self.refuse("strangers")
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(port.silent_seconds, self.refuse, "silent")

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._received += data
        if len(self._received) < DECIDING_BYTES:
            return
        what = spoken(self._received)
        if not what:
            self.refuse("unknown")
        elif (protocol := self._port.make(what)) is None:
            self.refuse(what)
        else:
            self._hand_on(protocol)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end()

    def refuse(self, reason: str) -> None:
        transport = self._transport
        if transport is not None:
            self._port.count(name_of(transport.get_extra_info("peername")), reason)
            transport.abort()
        self._end()

    def _end(self) -> None:
        self._port.undecided.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _hand_on(self, protocol: asyncio.BaseProtocol) -> None:
        """The transport is told while it does not read: how it reads depends on the protocol."""
        transport, received = self._transport, self._received
        assert transport is not None
        self._transport, self._received = None, b""
        self._end()
        transport.pause_reading()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_closing():
            transport.resume_reading()
            _feed(protocol, received, transport)


def _feed(protocol: asyncio.BaseProtocol, data: bytes, transport: asyncio.Transport) -> None:
    """What came by now, as if the transport had received it."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast(asyncio.Protocol, protocol).data_received(data)
        return
    while data and not transport.is_closing():
        into = memoryview(protocol.get_buffer(len(data)))
        count = min(len(into), len(data))
        into[:count] = data[:count]
        data = data[count:]
        protocol.buffer_updated(count)
