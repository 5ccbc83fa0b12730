"""The asking end: a `Channel` to one node, with many calls in flight on one connection.

A channel connects in the background and again whenever the connection is lost, each time after a
longer pause. While there is no connection a call fails at once with `Unavailable`; a call that was
under way when the connection was lost fails likewise, and nobody knows whether it was done. Nothing
waits for longer than its timeout: a call, a handshake, or a peer that stopped answering pings.

What a call has under way is counted as the server counts it, and calls that would be too much wait
here, in order, client traffic before background work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    Unauthenticated,
    Unavailable,
)
from objectio.rpc.address import parse_address
from objectio.rpc.auth import Binding, ClientHandshake, Identity, Peer, goodbye
from objectio.rpc.budget import Recycler
from objectio.rpc.connection import Connection, Outgoing
from objectio.rpc.frames import (
    FLAG_BACKGROUND,
    HEAD_BYTES_MAX,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Frame,
    Header,
    Kind,
    encode,
)
from objectio.rpc.messages import unpack_error, unpack_goodbye
from objectio.rpc.priority import is_background
from objectio.rpc.refusals import Refusals

TIMEOUT_SECONDS: Final = 30.0
PING_SECONDS: Final = 2.0
DEAD_SECONDS: Final = 10.0
"""A connection on which nothing came for so long, not even the answer to a ping, is gone."""
CONNECT_SECONDS: Final = 5.0
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 5.0
HELD_CALLS_MAX: Final = 65_536
"""Calls that wait for others to be answered; beyond that they fail."""
_TICK_SECONDS: Final = 0.1
_TIMEOUT_MS_MAX: Final = 2**32 - 1

_log: Final = logging.getLogger("objectio.rpc")


class Reply(NamedTuple):
    head: bytes
    payload: bytes | memoryview


Done = Callable[[Reply | None, BaseException | None], None]
"""Called once on the loop, never within the call that starts it."""


class Call:
    """A call under way."""

    __slots__ = (
        "background",
        "call_id",
        "deadline",
        "done",
        "head",
        "into",
        "method",
        "out",
        "payload",
        "size_bytes",
    )

    def __init__(
        self,
        method: int,
        head: bytes,
        payload: Sequence[Buffer],
        done: Done,
        into: memoryview | None,
        background: bool,
        deadline: float,
    ) -> None:
        self.method = method
        self.head = head
        self.payload = payload
        self.done: Done | None = done
        """None once the caller knows."""
        self.into = into
        self.background = background
        self.deadline = deadline
        self.call_id = -1
        self.out: Outgoing | None = None
        self.size_bytes = HEADER_BYTES + len(head)
        for part in payload:
            self.size_bytes += memoryview(part).nbytes


class ClientConnection(Connection):
    """One connection; `Channel` makes another when it ends."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._handshaking: ClientHandshake | None = None
        self._calls: dict[int, Call] = {}
        self._calls_bytes = 0
        self._calls_max = 0
        self._bytes_max = 0
        self._foreground: deque[Call] = deque()
        self._background: deque[Call] = deque()
        self._next_id = 0
        self._memory = channel.memory
        self._tick: asyncio.TimerHandle | None = None
        self._beat_at = time.monotonic()
        self._draining = False
        self.settled: asyncio.Future[bool] = self.loop.create_future()
        """Whether the handshake was successful, once that is known."""
        self.unusable: asyncio.Future[None] = self.loop.create_future()
        """Done when it takes no more calls."""

    @property
    def calls(self) -> int:
        """Under way or waiting for their turn."""
        return len(self._calls) + len(self._foreground) + len(self._background)

    # Calling.

    def start(
        self,
        method: int,
        head: bytes,
        payload: Sequence[Buffer],
        done: Done,
        *,
        into: memoryview | None = None,
        background: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Call:
        """Begin a call. `payload` and `into` are lent until `done` is called. Raises `Unavailable`
        if there is no connection or too much waits, `LocalProtocolError` beyond the limits."""
        if not self.is_open or self._draining or self.peer is None:
            raise Unavailable("the connection is closed", reason="closed")
        deadline = time.monotonic() + timeout_seconds
        call = Call(method, head, payload, done, into, background, deadline)
        payload_bytes = call.size_bytes - HEADER_BYTES - len(head)
        if len(head) > HEAD_BYTES_MAX or payload_bytes > PAYLOAD_BYTES_MAX:
            raise LocalProtocolError(f"a call of {call.size_bytes} bytes is too large")
        if self._foreground or self._background or not self._has_room(call):
            if len(self._foreground) + len(self._background) >= HELD_CALLS_MAX:
                raise Unavailable("too many calls wait for this node", reason="limit")
            (self._background if background else self._foreground).append(call)
            self._send_held()
        else:
            self._send(call)
        if self._tick is None:
            self._tick = self.loop.call_later(_TICK_SECONDS, self._look_at_deadlines)
        return call

    def cancel(self, call: Call) -> None:
        """Nobody waits for the call any more. `done` is not called."""
        call.done = None
        self._abandon(call)

    def _has_room(self, call: Call) -> bool:
        return len(self._calls) < self._calls_max and (
            not self._calls_bytes or self._calls_bytes + call.size_bytes <= self._bytes_max
        )

    def _send(self, call: Call) -> None:
        call_id = self._next_id
        while call_id in self._calls:
            call_id = (call_id + 1) % 2**32
        self._next_id = (call_id + 1) % 2**32
        call.call_id = call_id
        left_ms = max(1, int((call.deadline - time.monotonic()) * 1000))
        header = Header(
            Kind.CALL,
            FLAG_BACKGROUND if call.background else 0,
            call.method,
            call_id,
            min(left_ms, _TIMEOUT_MS_MAX),
        )
        encoded = encode(header, call.head, call.payload)
        self._calls[call_id] = call
        self._calls_bytes += call.size_bytes
        call.out = self.sender.send(encoded, background=call.background)

    def _send_held(self) -> None:
        for queue in (self._foreground, self._background):
            while queue:
                if queue[0].done is None:
                    queue.popleft()
                elif self._has_room(queue[0]):
                    self._send(queue.popleft())
                else:
                    return

    def _forget(self, call: Call) -> None:
        if self._calls.pop(call.call_id, None) is not None:
            self._calls_bytes -= call.size_bytes
        if self._foreground or self._background:
            self._send_held()
        if self._draining and not self.calls:
            self.close()

    def _abandon(self, call: Call) -> None:
        """The caller has gone. The call keeps its place until the server has answered, for the
        server counts it until then."""
        if call.out is None:
            call.payload = ()
            return  # it waits for its turn, which will not come
        if self.sender.drop(call.out):
            self._forget(call)
            return
        if self.reader.redirect(call.call_id) is None:
            call.into = None
        self.sender.send(encode(Header(Kind.CANCEL, call_id=call.call_id)))
        if not self.sender.is_sent(call.out) and not all(type(p) is bytes for p in call.payload):
            # The memory is the caller's again, and the system would read it later on.
            self.abort(Unavailable("a payload was taken back while it was sent", reason="lent"))
        call.payload = ()

    def _look_at_deadlines(self) -> None:
        self._tick = None
        now = time.monotonic()
        late = [
            call
            for calls in (self._calls.values(), self._foreground, self._background)
            for call in calls
            if call.deadline <= now and call.done is not None
        ]
        for call in late:
            done, call.done = call.done, None
            self._abandon(call)
            if done is not None:
                self._tell(done, None, Unavailable("no answer in time", reason="timeout"))
        if self.calls and self.is_open:
            self._tick = self.loop.call_later(_TICK_SECONDS, self._look_at_deadlines)

    def _tell(self, done: Done, reply: Reply | None, error: BaseException | None) -> None:
        try:
            done(reply, error)
        except Exception as bug:
            self.loop.call_exception_handler(
                {"message": "the callback of a call raised", "exception": bug}
            )

    # Answers.

    def allocate(self, header: Header, head: bytes, payload_bytes: int) -> memoryview | None:
        call = self._calls.get(header.call_id)
        if header.kind != Kind.REPLY or call is None:
            raise RemoteProtocolError("a payload that nobody asked for", reason="malformed")
        if call.into is None:
            return self._memory.take(payload_bytes)
        if call.into.nbytes < payload_bytes:
            raise RemoteProtocolError("a longer answer than was asked for", reason="malformed")
        return call.into[:payload_bytes]

    def frame_received(self, frame: Frame) -> None:
        header = frame.header
        kind = header.kind
        if kind == Kind.REPLY or kind == Kind.ERROR:
            call = self._calls.get(header.call_id)
            if call is None:
                raise RemoteProtocolError("an answer to no call", reason="malformed")
            done, call.done = call.done, None
            self._forget(call)
            if done is None:
                return
            if kind == Kind.ERROR:
                self._tell(done, None, unpack_error(frame.head))
            else:
                self._tell(done, Reply(frame.head, _placed(frame.payload, call.into)), None)
        elif kind == Kind.GOAWAY:
            said = unpack_goodbye(frame.head)
            _log.info("%s says goodbye: %s", self._channel.address, said.message)
            self.drain()
        elif kind != Kind.PONG:
            raise RemoteProtocolError("a frame that does not belong here", reason="malformed")

    def drain(self) -> None:
        """Start nothing more; end when everything is answered."""
        self._draining = True
        if not self.unusable.done():
            self.unusable.set_result(None)
        self._channel.drained(self)
        if not self.calls:
            self.close()

    # Life.

    def make_handshake(self, binding: Binding) -> ClientHandshake:
        self._handshaking = self._channel.make_handshake(self, binding)
        self.sender.send(self._handshaking.begin())
        return self._handshaking

    def ready(self, peer: Peer) -> None:
        assert self._handshaking is not None
        self._calls_max = self._handshaking.calls_max
        self._bytes_max = self._handshaking.bytes_max
        self._beat_at = time.monotonic()
        self.loop.call_later(PING_SECONDS, self._beat)
        self.settled.set_result(True)
        self._channel.connected_by(self)

    def _beat(self) -> None:
        if not self.is_open:
            return
        now = time.monotonic()
        if now - self._beat_at > 2 * PING_SECONDS:
            self.received_at = now  # this loop stood still, and what came is not read yet
        self._beat_at = now
        if now - self.received_at > DEAD_SECONDS:
            self.abort(Unavailable("the peer does not answer", reason="dead"))
            return
        self.sender.send(encode(Header(Kind.PING)))
        self.loop.call_later(PING_SECONDS, self._beat)

    def ended(self, error: BaseException) -> None:
        if self._tick is not None:
            self._tick.cancel()
        calls = [*self._calls.values(), *self._foreground, *self._background]
        self._calls.clear()
        self._foreground.clear()
        self._background.clear()
        if not self.settled.done():
            self.settled.set_result(False)
        if not self.unusable.done():
            self.unusable.set_result(None)
        self._channel.lost(self, error)
        for call in calls:
            if (done := call.done) is not None:
                call.done = None
                self._tell(done, None, _lost(error))


def _lost(error: BaseException) -> Unavailable:
    lost = Unavailable(f"the connection was lost: {error}", reason="lost")
    lost.__cause__ = error
    return lost


def _placed(payload: bytes | memoryview, into: memoryview | None) -> bytes | memoryview:
    if into is None or isinstance(payload, memoryview):
        return payload
    into[: len(payload)] = payload
    return into[: len(payload)]


class Channel:
    """Calls to one node. `start` it, and `close` it."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        *,
        wanted_role: str,
        wanted_node: str = "",
        needs: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
        metrics: Metrics | None = None,
        backoff_seconds_max: float = BACKOFF_SECONDS_MAX,
    ) -> None:
        self.address = address
        self.connection: ClientConnection | None = None
        """The present one, if it can take calls."""
        self.failure: BaseException | None = None
        """Why the last attempt failed or the last connection ended."""
        self._where = parse_address(address)
        self._identity = identity
        self._wanted = (wanted_role, wanted_node, frozenset(needs))
        self._tls = tls
        self._tls_name = tls_name
        self._backoff_seconds_max = backoff_seconds_max
        self._refusals = Refusals(metrics or NullMetrics(), "client")
        self.memory = Recycler()
        self._connections: set[ClientConnection] = set()
        self._watch: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closing = False
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[BaseException], None]] = []

    @property
    def refused(self) -> dict[str, int]:
        return dict(self._refusals.counts)

    @property
    def peer(self) -> Peer | None:
        return None if self.connection is None else self.connection.peer

    # Calls.

    async def call(
        self,
        method: int,
        head: bytes = b"",
        payload: Sequence[Buffer] = (),
        *,
        into: memoryview | None = None,
        background: bool | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Reply:
        """`payload` and `into` are lent until it returns; a large payload of the answer is received
        straight into `into`, which must be long enough. Raises what the handler raised, and
        `Unavailable` if there is no answer."""
        connection = self.connection
        if connection is None:
            raise self.unavailable()
        future: asyncio.Future[Reply] = connection.loop.create_future()

        def done(reply: Reply | None, error: BaseException | None) -> None:
            if future.done():
                return
            if reply is not None:
                future.set_result(reply)
            else:
                assert error is not None
                future.set_exception(error)

        call = connection.start(
            method,
            head,
            payload,
            done,
            into=into,
            background=is_background() if background is None else background,
            timeout_seconds=timeout_seconds,
        )
        try:
            return await future
        except asyncio.CancelledError:
            connection.cancel(call)
            raise

    def unavailable(self) -> Unavailable:
        """What a call raises while there is no connection."""
        error = Unavailable(f"there is no connection to {self.address}", reason="disconnected")
        error.__cause__ = self.failure
        return error

    # Life.

    def start(self) -> None:
        """Connect in the background, now and whenever it is necessary."""
        if self._watch is None and not self._closing:
            self._watch = asyncio.get_running_loop().create_task(self._run())

    async def connect(self, timeout_seconds: float = CONNECT_SECONDS) -> Peer:
        """`start`, and wait until there is a connection. Raises `Unauthenticated` if one end was
        refused by the other, `Unavailable` if there is none in time."""
        self.start()
        deadline = time.monotonic() + timeout_seconds
        while (peer := self.peer) is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                raise self.unavailable() from self.failure
            if isinstance(self.failure, Unauthenticated) and self.connection is None:
                raise Unauthenticated(self.failure.message, **self.failure.fields)
        return peer

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Calls under way have `grace_seconds` to end."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        ends = [connection.closed for connection in self._connections]
        for connection in list(self._connections):
            if connection.peer is None:
                connection.close()
            else:
                connection.drain()
        if ends:
            await asyncio.wait(ends, timeout=grace_seconds)
        left = [connection for connection in self._connections if not connection.closed.done()]
        for connection in left:
            connection.sender.send(goodbye("closing", "the node is going down"))
            connection.close()
            connection.abort(Unavailable("the channel was closed", reason="closed"))
        if left:
            await asyncio.wait([connection.closed for connection in left], timeout=1.0)

    async def _run(self) -> None:
        pause = BACKOFF_SECONDS_MIN
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._open()
            except (OSError, TimeoutError) as error:
                self._failed(error)
            else:
                if await connection.settled:
                    pause = BACKOFF_SECONDS_MIN
                await connection.unusable
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._backoff_seconds_max)

    async def _open(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        name = self._tls_name if self._tls is not None else None
        if self._where.path:
            _, connection = await loop.create_unix_connection(
                lambda: ClientConnection(self),
                self._where.path,
                ssl=self._tls,
                server_hostname=name or ("" if self._tls is not None else None),
            )
        else:
            _, connection = await loop.create_connection(
                lambda: ClientConnection(self),
                self._where.host,
                self._where.port,
                ssl=self._tls,
                server_hostname=name,
            )
        return connection

    def _failed(self, error: BaseException) -> None:
        if not self._closing and str(error) != str(self.failure):
            _log.warning(
                "no connection to %s: %s", self.address, str(error) or type(error).__name__
            )
        self.failure = error
        self._changed.set()

    # What connections tell.

    def make_handshake(self, connection: ClientConnection, binding: Binding) -> ClientHandshake:
        self._connections.add(connection)
        return ClientHandshake(self._identity, binding, *self._wanted)

    def connected_by(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.failure = None
        self._changed.set()
        for told in self.on_up:
            told()

    def drained(self, connection: ClientConnection) -> None:
        """It takes no more calls."""
        self._leave(connection, Unavailable("the node is going down", reason="closing"))

    def lost(self, connection: ClientConnection, error: BaseException) -> None:
        self._connections.discard(connection)
        if connection.peer is None:
            if isinstance(error, Unauthenticated | RemoteProtocolError):
                self._refusals.count(self.address, error)
            self._failed(error)
        self._leave(connection, error)

    def _leave(self, connection: ClientConnection, error: BaseException) -> None:
        if connection is not self.connection:
            return
        self.connection = None
        self._failed(error)
        for told in self.on_down:
            told(error)
