"""One response on its way out: what was sent, and what to do with a body that nobody read.

After an early answer to a request whose body is still coming there are three ways to go on. A small
rest is left to the server, which discards it and keeps the connection. Otherwise the connection is
closed; but closing a socket with unread data resets it, and the client may never see the answer. So
the answer is sent in full with `connection: close`, a bounded amount is read and dropped, and only
then does the response end, upon which the server closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Final

from objectio.abc.api import ANONYMOUS, Access, Identity, Receive, Scope, Send
from objectio.gateway.body import Body
from objectio.gateway.whole import write_whole
from objectio.limits import MIB

# A rest up to this is cheaper to discard than a new connection.
UNREAD_DISCARDED_BYTES_MAX: Final = 1 * MIB
# How long and how far a doomed connection is read, so that the client gets to see the answer.
LINGER_BYTES_MAX: Final = 16 * MIB
LINGER_SECONDS_MAX: Final = 2.0
# A client that asked "100-continue" and was told no has most likely nothing on the way.
LINGER_EXPECTING_SECONDS_MAX: Final = 0.2

CONNECTION_KEY: Final = "objectio.connection"  # in the scope: our server's protocol object


class _Done:
    """To be awaited where there is nothing to wait for."""

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]  # an empty iterator is as good, and cheaper


_DONE: Final = _Done()


class ClientDisconnected(ConnectionError):
    """Nobody listens any more (ASGI 2.4: `send` raises OSError). Ends a long response early."""


class Exchange:
    """Wraps `send` for one request."""

    status = 0
    bytes_out = 0
    ended = False
    body: Body | None = None
    access: Access | None = None
    identity: Identity = ANONYMOUS
    failure: Exception | None = None
    _linger_seconds = 0.0
    _start: Any = None  # the head, while it waits for the body

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    def send(self, message: Any) -> Awaitable[None]:
        """Not a coroutine itself: on the hot path that would be one more frame per message.

        With our own server, the head waits for the first of the body, and the two go out as one.
        """
        if message["type"] == "http.response.body":
            return self._send_body(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.body is not None and self.body.unread != 0:
                message = self._prepare_unread(message, self.body)
            if CONNECTION_KEY in self._scope:
                self._start = message
                return _DONE
        return self._send(message)

    def _send_body(self, message: Any) -> Awaitable[None]:
        body = message.get("body", b"")
        self.bytes_out += len(body)
        more = message.get("more_body", False)
        if more and self.client_is_gone():
            raise ClientDisconnected
        start, self._start = self._start, None
        if not more:
            self.ended = True
            if start is not None and not self._linger_seconds:
                cycle = getattr(self._send, "__self__", None)
                if cycle is not None and write_whole(cycle, start, body):
                    return _DONE
        if start is not None:
            return self._send_both(start, message)
        if self.ended and self._linger_seconds:
            return self._end_lingering(message)
        return self._send(message)

    async def _send_both(self, start: Any, message: Any) -> None:
        connection = self._scope.get(CONNECTION_KEY)
        if connection is not None and self._scope["method"] != "HEAD":
            connection.transport.hold()
        await self._send(start)
        if self.ended and self._linger_seconds:
            await self._end_lingering(message)
        else:
            await self._send(message)

    def begun(self) -> bool:
        """Whether anything of a response has left. If not, another one may be given."""
        if self._start is not None:
            self._start = None
            self.status = 0
        return self.status != 0

    def client_is_gone(self) -> bool:
        connection = self._scope.get(CONNECTION_KEY)
        return connection is not None and connection.transport.is_closing()

    def abort(self) -> bool:
        """Cuts the connection, so that a truncated response cannot pass for a whole one. False if
        the server gives no way to do it."""
        connection = self._scope.get(CONNECTION_KEY)
        if connection is None:
            return False
        connection.transport.abort()
        return True

    def _prepare_unread(self, message: Any, body: Body) -> Any:
        unread = body.unread
        # A client that waits for "100 Continue" may now send the body or not (RFC 9110 §10.1.1).
        unsure = any(name == b"expect" for name, _ in self._scope["headers"])
        if unread is not None and unread <= UNREAD_DISCARDED_BYTES_MAX and not unsure:
            return message
        asked_first = unsure and not body.bytes_in
        self._linger_seconds = LINGER_EXPECTING_SECONDS_MAX if asked_first else LINGER_SECONDS_MAX
        return {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}

    async def _end_lingering(self, message: Any) -> None:
        await self._send({**message, "more_body": True})
        dropped = 0
        try:
            async with asyncio.timeout(self._linger_seconds):
                while dropped < LINGER_BYTES_MAX:
                    received = await self._receive()
                    dropped += len(received.get("body", b""))
                    if not received.get("more_body", False):
                        break
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
