"""Listening at an address of ours, on TCP or a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable

from objectio.rpc.address import Address, parse_address
from objectio.rpc.connection import GOODBYE_SECONDS, HANDSHAKE_SECONDS


class Listeners:
    """Those of one server; `factory` makes a protocol for each connection."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []

    async def add(self, address: str, tls: ssl.SSLContext | None = None) -> str:
        """Returns the address with the port that was taken. A Unix socket is its owner's only."""
        where = parse_address(address)
        patience = HANDSHAKE_SECONDS if tls is not None else None
        if where.path:
            mask = os.umask(0o177)
            try:
                listener: asyncio.AbstractServer = await self._loop.create_unix_server(
                    self._factory, where.path, ssl=tls, ssl_handshake_timeout=patience
                )
            finally:
                os.umask(mask)
            self._paths.append(where.path)
        else:
            tcp = await self._loop.create_server(
                self._factory, where.host, where.port, ssl=tls, ssl_handshake_timeout=patience
            )
            where = Address(where.host, tcp.sockets[0].getsockname()[1])
            listener = tcp
        self._listeners.append(listener)
        return str(where)

    def close(self) -> None:
        """Take no more connections."""
        for listener in self._listeners:
            listener.close()

    async def wait_closed(self) -> None:
        """When all connections have ended, or soon after `close`."""
        for listener in self._listeners:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await listener.wait_closed()
        for path in self._paths:
            if os.path.exists(path):
                os.unlink(path)
