"""The gRPC server of the control plane: grpclib behind the gate, for connections that somebody else
has accepted.

What a stranger can make it hold is bounded: requests in size and time, connections in number, and
one that proves nothing is closed after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import grpclib.server
import h2.exceptions
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Route

from objectio.abc.admin import StorageAdmin
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.orders import OrderLog
from objectio.errors import (
    ObjectIOError,
    OperationNotImplemented,
    PayloadMalformed,
    PayloadTimeout,
    PayloadTooLarge,
)
from objectio.limits import KIB, MIB
from objectio.rpc.connection import binding_of, name_of
from objectio.rpc.control.convert import parse
from objectio.rpc.control.failures import metadata_of, status_of
from objectio.rpc.control.gate import CHALLENGE_SECONDS, AccessKeys, Gate, Visitor
from objectio.rpc.control.handlers import (
    AdminHandlers,
    Answer,
    ClusterHandlers,
    Stream,
    WatchedPlane,
)
from objectio.rpc.control.pb import messages as pb
from objectio.rpc.control.pb.reflection import ServerReflectionRequest
from objectio.rpc.control.proof import ANSWER_HEADER, METHOD, Caller
from objectio.rpc.control.raw import RawCodec
from objectio.rpc.control.reflection import answer as reflect
from objectio.rpc.control.roles import MAY_CALL, ORDERS

REQUEST_BYTES_MAX: Final = 1 * MIB
REQUEST_SECONDS: Final = 10.0
"""From the head of a request to its end."""
STRANGER_SECONDS: Final = 30.0
"""A connection on which nobody proved anything is closed then."""
STRANGER_BYTES_MAX: Final = REQUEST_BYTES_MAX + 256 * KIB
"""Of a connection until somebody proved something on it: h2 holds what a frame says it will have."""
STRANGERS_MAX: Final = 64
CONNECTIONS_MAX: Final = 1_024
UNREAD_BYTES_MAX: Final = 2 * MIB
"""Of what a connection was sent and does not take."""
MESSAGE_CHARS_MAX: Final = 1_000
_CHALLENGE: Final = "/objectio.v1.Access/Challenge"

_SETTINGS: Final = Configuration(
    http2_connection_window_size=1 * MIB,
    http2_stream_window_size=64 * KIB,
    _keepalive_time=15.0,
    _keepalive_timeout=15.0,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=10.0,
)

_log: Final = logging.getLogger("objectio.control")

GrpcStream = grpclib.server.Stream[bytes, bytes]
Call = Callable[[GrpcStream], Awaitable[None]]


class ControlServer:
    """`access_keys` gives the secret key of an access key that may administer the cluster, `orders` the
    audit log, if one is kept; it raises `Unavailable` as long as that is not known."""

    def __init__(
        self,
        secret: bytes,
        plane: WatchedPlane,
        admin: StorageAdmin,
        *,
        access_keys: AccessKeys,
        metrics: Metrics | None = None,
        orders: Callable[[], OrderLog | None] = lambda: None,
    ) -> None:
        metrics = metrics or NullMetrics()
        self._orders = orders
        logging.getLogger("grpclib").setLevel(logging.WARNING)  # a line for all who hang up
        self._gate = Gate(secret, access_keys, metrics, orders)
        cluster = ClusterHandlers(plane)
        self.answers: Mapping[str, Answer] = {
            **cluster.answers(),
            **AdminHandlers(admin).answers(),
        }
        self.streams: Mapping[str, Stream] = cluster.streams()
        self._connections: set[GrpcConnection] = set()
        self.under_way: set[asyncio.Task[Any]] = set()
        """What was ordered goes on when the caller goes away."""
        metrics.gauge_function(
            "objectio_control_connections",
            "Connections of the control plane.",
            lambda: len(self._connections),
        )

    @property
    def refused(self) -> dict[str, int]:
        """How many calls were refused, by reason."""
        return dict(self._gate.refused)

    def protocol(self) -> asyncio.Protocol:
        """For a connection that was accepted, and that speaks HTTP/2."""
        return GrpcConnection(self)

    async def close(self) -> None:
        ends = [connection.closed for connection in self._connections]
        for connection in list(self._connections):
            connection.close()
        for task in self.under_way:
            task.cancel()
        if waiting := [*ends, *self.under_way]:
            await asyncio.wait(waiting, timeout=1.0)
        for connection in list(self._connections):
            connection.abort()

    async def carry_out(
        self, path: str, handler: Answer, caller: Caller, raw: bytes, source: str
    ) -> bytes:
        log = self._orders() if path in ORDERS else None
        if log is None:
            return bytes(await handler(caller, raw))
        ended = await log.begin_order(ORDERS[path], _resource(path, raw), caller.name, source)
        try:
            answer = bytes(await handler(caller, raw))
        except ObjectIOError as error:
            await ended(
                status_of(error).name, str(error.fields.get("reason") or type(error).__name__)
            )
            raise
        except BaseException:
            await ended(Status.UNKNOWN.name, "InternalError")
            raise
        await ended(Status.OK.name, "")
        return answer

    # What connections tell.

    def visitor(self, address: str, transport: asyncio.Transport) -> Visitor:
        return Visitor(self._gate, address, binding_of(transport))

    def arrived(self, connection: GrpcConnection) -> bool:
        """Whether there is room for it."""
        self._connections.add(connection)
        strangers = sum(not each.proved for each in self._connections)
        return strangers <= STRANGERS_MAX and len(self._connections) <= CONNECTIONS_MAX

    def left(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)


class GrpcConnection(asyncio.Protocol):
    """One connection: grpclib's protocol, with routes that know the visitor."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._visitor: Visitor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def proved(self) -> bool:
        return self._visitor is not None and self._visitor.proved

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = name_of(transport.get_extra_info("peername"))
        if not self._server.arrived(self):
            _log.warning("closed %s: too many connections", address)
            self.close()
            return
        self._visitor = self._server.visitor(address, self._transport)
        routes = Routes(self._server, self._visitor)
        grpc = grpclib.server.Server([routes], codec=RawCodec(), config=_SETTINGS)
        self._inner = grpc._protocol_factory()
        handler = cast(grpclib.server.Handler, self._inner.handler)
        handler.mapping = OrUnknown(handler.mapping)
        self._inner.connection_made(transport)
        self._timer = self._loop.call_later(STRANGER_SECONDS, self._still_a_stranger)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if self._inner is None or transport is None:
            return
        self._received_bytes += len(data)
        if self._received_bytes > STRANGER_BYTES_MAX and not self.proved:
            transport.abort()
            return
        try:
            self._inner.data_received(data)
        except Exception as error:  # frames that grpclib does not know, for one
            _log.warning("closed a connection of the control plane: %r", error)
            transport.abort()
            return
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            transport.abort()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.connection_lost(exc)
        self._server.left(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def _still_a_stranger(self) -> None:
        if not self.proved:
            self.close()


class OrUnknown(dict[str, Route]):
    """grpclib answers calls of other methods without a content type, which clients do not take."""

    def get(self, path: str, default: Any = None) -> Route:
        return super().get(path) or Route(
            partial(_guarded, _unknown), Cardinality.UNARY_UNARY, bytes, bytes
        )


async def _unknown(stream: GrpcStream) -> None:
    raise OperationNotImplemented("there is no such method", reason="method")


class Routes:
    """The methods, for one connection."""

    def __init__(self, server: ControlServer, visitor: Visitor) -> None:
        self._server = server
        self._visitor = visitor

    def __mapping__(self) -> dict[str, Route]:
        routes = {}
        for path in MAY_CALL:
            if path == _CHALLENGE:
                call: Call = self._challenge
                kind = Cardinality.UNARY_UNARY
            elif path in self._server.answers:
                call = partial(self._answer, path, self._server.answers[path])
                kind = Cardinality.UNARY_UNARY
            elif path in self._server.streams:
                call = partial(self._stream, path, self._server.streams[path])
                kind = Cardinality.UNARY_STREAM
            else:
                call, kind = self._reflect, Cardinality.STREAM_STREAM
            routes[path] = Route(partial(_guarded, call), kind, bytes, bytes)
        return routes

    async def _challenge(self, stream: GrpcStream) -> None:
        request = parse(pb.ChallengeRequest, await receive(stream) or b"")
        given = self._visitor.challenge(request.role, request.name)
        reply = pb.ChallengeReply(given.nonce, METHOD, CHALLENGE_SECONDS)
        await stream.send_message(bytes(reply))

    async def _reflect(self, stream: GrpcStream) -> None:
        while (raw := await receive(stream, STRANGER_SECONDS)) is not None:
            await stream.send_message(bytes(reflect(parse(ServerReflectionRequest, raw))))

    async def _answer(self, path: str, handler: Answer, stream: GrpcStream) -> None:
        raw = await receive(stream) or b""
        admitted = self._visitor.admit(path, stream.metadata or {}, raw)
        server, source = self._server, self._visitor.address
        task = asyncio.ensure_future(server.carry_out(path, handler, admitted.caller, raw, source))
        self._server.under_way.add(task)
        task.add_done_callback(self._server.under_way.discard)
        answer = await asyncio.shield(task)
        await stream.send_message(answer)
        proof = admitted.answer_proof(answer)
        await stream.send_trailing_metadata(metadata={ANSWER_HEADER: proof})

    async def _stream(self, path: str, handler: Stream, stream: GrpcStream) -> None:
        raw = await receive(stream) or b""
        admitted = self._visitor.admit(path, stream.metadata or {}, raw)
        async with contextlib.aclosing(handler(admitted.caller, raw)) as answers:
            async for message in answers:
                await stream.send_message(bytes(message))


def _resource(path: str, raw: bytes) -> str:
    if path.endswith("/StartScrub"):
        return "arn:objectio:admin:::scrub"
    return f"arn:objectio:admin:::disk/{parse(pb.OsdRequest, raw).osd}"


async def receive(stream: GrpcStream, seconds: float = REQUEST_SECONDS) -> bytes | None:
    """The next message, as it is; None if there is no further one. grpclib's own way has no bound."""
    body = stream._stream
    try:
        async with asyncio.timeout(seconds):
            head = await body.recv_data(5)
            if not head:
                return None
            if head[0]:
                raise PayloadMalformed("compressed messages are not taken", reason="compressed")
            size_bytes = int.from_bytes(head[1:], "big")
            if size_bytes > REQUEST_BYTES_MAX:
                raise PayloadTooLarge(f"a message has at most {REQUEST_BYTES_MAX} bytes")
            return await body.recv_data(size_bytes)
    except TimeoutError:
        raise PayloadTimeout("the request did not come in time") from None
    except AssertionError:
        raise PayloadMalformed("the request ended early", reason="early") from None


async def _guarded(call: Call, stream: GrpcStream) -> None:
    """Errors become statuses; whoever has gone is told nothing."""
    try:
        try:
            await call(stream)
        except ObjectIOError as error:
            await stream.send_trailing_metadata(
                status=status_of(error),
                status_message=str(error)[:MESSAGE_CHARS_MAX],
                metadata=metadata_of(error),
            )
        except h2.exceptions.ProtocolError:
            raise
        except Exception:
            _log.exception("a call of the control plane failed")
            await stream.send_trailing_metadata(
                status=Status.INTERNAL, status_message="it failed; see the log of the server"
            )
    except h2.exceptions.ProtocolError as error:
        _log.debug("a caller of the control plane went away: %r", error)
