"""The answering end: listens, asks for proofs, and hands calls to the dispatcher."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Final

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import LocalProtocolError, RemoteProtocolError, Unavailable
from objectio.rpc.auth import Binding, Identity, Peer, ServerHandshake, goodbye
from objectio.rpc.budget import CONNECTION_BYTES_MAX, PEER_BYTES_MAX, Budget, BufferPool, Lease
from objectio.rpc.connection import Connection
from objectio.rpc.dispatch import Dispatcher, Handler, Incoming
from objectio.rpc.frames import HEADER_BYTES, Frame, Header, Kind, encode
from objectio.rpc.listen import Listeners
from objectio.rpc.refusals import Refusals

CONNECTION_CALLS_MAX: Final = 4_096
"""Calls of one connection that are not answered."""
CONNECTIONS_MAX: Final = 1_024
STRANGERS_MAX: Final = 64
"""Connections that have not proved anything yet."""
IDLE_SECONDS: Final = 60.0
"""A connection from which nothing came for so long is gone: clients ping much more often."""
GRACE_SECONDS: Final = 10.0
"""Clients are given so long to finish what they have under way when a server closes."""
_LOOK_SECONDS: Final = 5.0

_log: Final = logging.getLogger("objectio.rpc")


class ServerConnection(Connection):
    """One client."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.dispatcher = server.dispatcher
        self.calls: dict[int, Incoming] = {}
        self.replies = Budget(CONNECTION_BYTES_MAX)
        """Answers that were not sent yet. A handler takes from it before it reads much, so that a
        client that does not read its answers has none made."""
        self.on_end: list[Callable[[], None]] = []
        """Called when the connection has ended: for what a service keeps of it."""
        self._calls_bytes = 0
        self._lease: Lease | None = None
        self._peer_budget = Budget(PEER_BYTES_MAX)

    def make_handshake(self, binding: Binding) -> ServerHandshake:
        self.server.arrived(self)
        return self.server.make_handshake(binding)

    def ready(self, peer: Peer) -> None:
        self._peer_budget = self.server.proved(self, peer)

    def allocate(self, header: Header, head: bytes, payload_bytes: int) -> memoryview | None:
        if header.kind != Kind.CALL:
            raise RemoteProtocolError("a payload where there is none", reason="malformed")
        self._check_room(HEADER_BYTES + len(head) + payload_bytes)
        lease = self.server.pool.lease(payload_bytes, self._peer_budget, self._wake)
        if lease is None:
            return None
        self._lease = lease
        return lease.view

    def _wake(self) -> None:
        self.loop.call_soon(self.resume)

    def _check_room(self, size_bytes: int) -> None:
        """The client counts in the same way, so it knows that this is too much."""
        if len(self.calls) >= CONNECTION_CALLS_MAX or (
            self._calls_bytes and self._calls_bytes + size_bytes > CONNECTION_BYTES_MAX
        ):
            raise RemoteProtocolError("more under way than was agreed", reason="limit")

    def frame_received(self, frame: Frame) -> None:
        kind = frame.header.kind
        if kind == Kind.CALL:
            lease, self._lease = self._lease, None
            call = Incoming(self, frame, lease)
            if lease is None:
                self._check_room(call.size_bytes)
            if call.call_id in self.calls:
                raise RemoteProtocolError("two calls of one number", reason="malformed")
            self.calls[call.call_id] = call
            self._calls_bytes += call.size_bytes
            self.dispatcher.add(call)
        elif kind == Kind.CANCEL:
            if (known := self.calls.get(frame.header.call_id)) is not None:
                self.dispatcher.cancel(known)
        elif kind == Kind.PING:
            self.sender.send(encode(Header(Kind.PONG, call_id=frame.header.call_id)))
        elif kind == Kind.GOAWAY:
            self.close()
        elif kind != Kind.PONG:
            raise RemoteProtocolError("a frame that does not belong here", reason="malformed")

    def answered(self, call: Incoming) -> bool:
        """Whether there is anybody to send the answer to."""
        if self.calls.pop(call.call_id, None) is not None:
            self._calls_bytes -= call.size_bytes
        return self._transport is not None

    def ended(self, error: BaseException) -> None:
        self.server.pool.forget(self._wake)
        if self._lease is not None:
            self._lease.give()
            self._lease = None
        for call in list(self.calls.values()):
            self.dispatcher.cancel(call)
        for told in self.on_end:
            told()
        self.server.left(self, error)


class Server:
    """Serves methods to the nodes of the cluster whose role is one of `roles`."""

    def __init__(
        self,
        identity: Identity,
        *,
        roles: Iterable[str],
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or NullMetrics()
        self._identity = identity
        self._roles = frozenset(roles)
        self._loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(self._loop)
        self.pool = BufferPool()
        self.on_close: list[Callable[[], None]] = []
        """Called when it begins to close: for calls that wait for what may not happen for long."""
        self._refusals = Refusals(metrics, "server")
        self._connections: set[ServerConnection] = set()
        self._strangers = 0
        self._peers: dict[str, tuple[Budget, int]] = {}
        self._listeners = Listeners(self.protocol)
        self._closing = False
        self._watch = self._loop.create_task(self._look())
        metrics.gauge_function(
            "objectio_rpc_connections", "Connections served.", lambda: len(self._connections)
        )
        metrics.gauge_function(
            "objectio_rpc_calls", "Calls in their handlers.", lambda: self.dispatcher.running
        )
        metrics.gauge_function(
            "objectio_rpc_payload_bytes",
            "Payloads of calls that are not answered.",
            lambda: self.pool.used_bytes,
        )

    @property
    def refused(self) -> dict[str, int]:
        """How many connections were refused, by reason."""
        return dict(self._refusals.counts)

    def add(self, method: int, handler: Handler) -> None:
        if method in self.dispatcher.handlers:
            raise LocalProtocolError(f"two handlers of method {method:#x}")
        self.dispatcher.handlers[method] = handler

    async def listen(self, address: str, tls: ssl.SSLContext | None = None) -> str:
        """Returns the address with the port that was taken. A Unix socket is its owner's only."""
        return await self._listeners.add(address, tls)

    def protocol(self) -> asyncio.BufferedProtocol:
        """For a connection that somebody else has accepted."""
        return ServerConnection(self)

    async def close(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Take no more calls, let clients finish, end."""
        self._closing = True
        self._watch.cancel()
        self._listeners.close()
        for connection in self._connections:
            if connection.peer is None:
                connection.close()
            else:
                connection.sender.send(goodbye("closing", "the node is going down"))
        for told in self.on_close:
            told()
        ends = [connection.closed for connection in self._connections]
        if ends:
            await asyncio.wait(ends, timeout=grace_seconds)
        left = list(self._connections)
        for connection in left:
            connection.abort(Unavailable("the node is going down", reason="closing"))
        if left:
            await asyncio.wait([connection.closed for connection in left], timeout=1.0)
        await self._listeners.wait_closed()

    # What connections tell.

    def make_handshake(self, binding: Binding) -> ServerHandshake:
        return ServerHandshake(
            self._identity,
            binding,
            roles=self._roles,
            calls_max=CONNECTION_CALLS_MAX,
            bytes_max=CONNECTION_BYTES_MAX,
        )

    def arrived(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        self._strangers += 1
        if self._closing or self._strangers > STRANGERS_MAX:
            connection.abort(RemoteProtocolError("too many strangers", reason="strangers"))
        elif len(self._connections) > CONNECTIONS_MAX:
            connection.abort(RemoteProtocolError("too many connections", reason="connections"))

    def proved(self, connection: ServerConnection, peer: Peer) -> Budget:
        """What all connections of that node may take together."""
        self._strangers -= 1
        budget, count = self._peers.get(peer.node, (Budget(PEER_BYTES_MAX), 0))
        self._peers[peer.node] = (budget, count + 1)
        return budget

    def left(self, connection: ServerConnection, error: BaseException) -> None:
        self._connections.discard(connection)
        peer = connection.peer
        if peer is None:
            self._strangers -= 1
            self._refusals.count(connection.last_address, error)
            return
        budget, count = self._peers[peer.node]
        if count > 1:
            self._peers[peer.node] = (budget, count - 1)
        else:
            del self._peers[peer.node]
        if isinstance(error, RemoteProtocolError):
            _log.warning("%s %s broke the protocol: %s", peer.role, peer.node, error)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            silent = time.monotonic() - IDLE_SECONDS
            for connection in list(self._connections):
                if connection.received_at < silent and not connection.calls:
                    connection.abort(RemoteProtocolError("nothing came for long", reason="idle"))
