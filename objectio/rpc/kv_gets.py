"""Rows that are asked for in one turn of the loop, as one call.

Requests that came in together read their rows together, and a call costs more than what it carries.
All of one call come from one snapshot, which is newer than each of the questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from objectio.errors import ObjectIOError, RemoteProtocolError
from objectio.rpc.client import Channel, Reply
from objectio.rpc.kv_messages import Get, Method, unpack_found, unpack_page, unpack_values
from objectio.rpc.messages import pack
from objectio.rpc.turn import Turn

KEYS_MAX: Final = 256
"""Of one call."""

Value = asyncio.Future[bytes | None]
_Asked = list[tuple[bytes, Value]]


class KVGets:
    """Those of one channel."""

    def __init__(self, channel: Channel, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._turn: Turn[bytes, bytes | None] = Turn(KEYS_MAX, self._ask)

    def get(self, key: bytes) -> Value:
        """Raises `Unavailable`."""
        return self._turn.ask(key)

    def _ask(self, asked: _Asked, background: bool) -> None:
        alone = len(asked) == 1

        def done(reply: Reply | None, error: BaseException | None) -> None:
            if reply is not None:
                try:
                    left = _one(reply, asked) if alone else _many(reply, asked)
                except RemoteProtocolError as malformed:
                    error, left = malformed, []
                if left:
                    self._ask(left, background)
            if error is not None:
                _fail(asked, error)

        method = Method.GET if alone else Method.GET_MANY
        head = pack(Get(asked[0][0])) if alone else b""
        payload = () if alone else (pack([key for key, _ in asked]),)
        connection = self._channel.connection
        try:
            if connection is None:
                raise self._channel.unavailable()
            connection.start(
                method,
                head,
                payload,
                done,
                background=background,
                timeout_seconds=self._timeout_seconds,
            )
        except ObjectIOError as error:
            _fail(asked, error)


def _one(reply: Reply, asked: _Asked) -> _Asked:
    is_there = unpack_found(reply.head).is_there
    _tell(asked[0][1], bytes(reply.payload) if is_there else None)
    return []


def _many(reply: Reply, asked: _Asked) -> _Asked:
    """Returns those that are still to be answered."""
    values: Sequence[bytes | None] = unpack_values(reply.payload)
    cut = unpack_page(reply.head).cut
    if not values or len(values) > len(asked) or cut != (len(values) < len(asked)):
        raise RemoteProtocolError(
            "other rows were answered than were asked for", reason="malformed"
        )
    for value, (_, future) in zip(values, asked, strict=False):
        _tell(future, value)
    return asked[len(values) :]


def _tell(future: Value, value: bytes | None) -> None:
    if not future.done():
        future.set_result(value)


def _fail(asked: _Asked, error: BaseException) -> None:
    for _, future in asked:
        if not future.done():
            future.set_exception(_another(error))


def _another(error: BaseException) -> BaseException:
    """Each waiter raises its own, for raising one adds to its traceback."""
    if not isinstance(error, ObjectIOError):
        return error
    another = type(error)(error.message, **error.fields)
    another.__cause__ = error
    return another
