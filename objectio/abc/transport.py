"""Transports: how roles in different processes reach each other's shard stores and KV.

A transport is a pair: `serve` answers calls from other nodes by a handler, `connect` makes a
channel to one. Messages are bytes with a payload beside them that is never copied or inspected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from typing_extensions import Buffer


class Message(NamedTuple):
    method: str
    body: bytes
    payload: Buffer = b""


Handler = Callable[[Message], Awaitable[Message]]


class Channel(Protocol):
    async def call(self, message: Message, *, deadline_seconds: float) -> Message:
        """Raises `Unavailable` when the peer cannot be reached or does not answer in time."""
        ...

    async def close(self) -> None: ...


class Server(Protocol):
    @property
    def address(self) -> str: ...

    async def close(self) -> None: ...


class Transport(Protocol):
    async def serve(self, address: str, handler: Handler) -> Server: ...

    async def connect(self, address: str) -> Channel: ...
