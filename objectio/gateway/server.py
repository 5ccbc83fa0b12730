"""The HTTP server: uvicorn, embedded in the event loop that the node already runs.

uvicorn's own `serve` installs signal handlers and exits the process when a port is taken. Here the
node decides about both: `start` raises OSError, `stop` is called by whoever shuts the node down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from typing import Any, Final

import uvicorn

from objectio.abc.api import ASGIApp
from objectio.gateway.arrivals import CONNECTIONS_MAX, Arrivals
from objectio.gateway.protocol import GatewayProtocol, Patience
from objectio.rpc.address import Address, parse_address

logger = logging.getLogger("objectio.gateway")

KEEP_ALIVE_SECONDS: Final = 75  # SDKs keep idle connections for 60 s; the client should close first
BACKLOG: Final = 2048
CUT_SECONDS: Final = 1.0
"""Requests that are cut have so long to notice, and as long again once they are cancelled."""


class HttpServer:
    """Serves `app` on one address. `port` 0 takes any free one; `port` tells which after `start`.

    host                    "" listens nowhere: connections come by `make_protocol` only
    listener                a socket that is bound already, perhaps beside those of other processes
    also                    further addresses, HOST:PORT or unix:PATH, or sockets
    connections_max         further connections are answered 503 by the server itself
    arrivals                says so in place of `connections_max`
    keep_alive_seconds      how long an idle connection is kept
    patience                how long clients may take
    tls                     a server-side SSLContext, or None for plain http
    also_tls                the same for those of `also` that are no Unix sockets
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 9000,
        *,
        listener: socket.socket | None = None,
        also: Sequence[str | socket.socket] = (),
        connections_max: int = CONNECTIONS_MAX,
        arrivals: Arrivals | None = None,
        keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
        patience: Patience = Patience(),  # noqa: B008 - it cannot be changed
        tls: ssl.SSLContext | None = None,
        also_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self._given = listener
        self._also = list(also)
        self._also_tls = also_tls
        self._patience = patience
        self.arrivals = arrivals or Arrivals(connections_max)
        self._also_at: list[Address] = []
        self._paths: list[str] = []
        config = uvicorn.Config(
            app,
            http=GatewayProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # Its own lines are of no use to an operator below this, and at its trace level they
            # would show presigned URLs.
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=keep_alive_seconds,
            backlog=BACKLOG,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
        self._server = uvicorn.Server(config)
        self._ticker: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    @property
    def also(self) -> list[str]:
        """The further addresses, with the ports that were taken."""
        return [str(address) for address in self._also_at]

    def make_protocol(self) -> asyncio.Protocol:
        """For a connection that somebody else has accepted."""
        return GatewayProtocol(
            config=self._server.config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
            patience=self._patience,
            arrivals=self.arrivals,
        )

    async def start(self) -> None:
        """Listens when it returns. Raises OSError if an address cannot be had."""
        server, config = self._server, self._server.config
        listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        try:
            if self._given is not None:
                listeners.append((self._given, self.tls))
            elif self.host:
                listeners.append((listen(self.host, self.port), self.tls))
            if listeners:
                self.port = listeners[0][0].getsockname()[1]
            also_tls = self._also_tls
            listeners.extend((self._listen_also(wanted), also_tls) for wanted in self._also)
            config.load()
            server.lifespan = config.lifespan_class(config)
            # The first tick makes the Date header; without it the first answers would have none.
            await server.on_tick(0)
            server.servers = []
            for listener, tls in listeners:
                server.servers.append(await self._accept_from(listener, tls))
        except BaseException:
            for listener, _ in listeners:
                listener.close()
            raise
        server.started = True
        self._ticker = asyncio.create_task(server.main_loop(), name="http-server-ticker")

    def _listen_also(self, wanted: str | socket.socket) -> socket.socket:
        if isinstance(wanted, str):
            address = parse_address(wanted)
            if address.path:
                self._paths.append(address.path)
                self._also_at.append(address)
                return _listen_at_path(address.path)
            wanted = listen(address.host, address.port)
        self._also_at.append(Address(*wanted.getsockname()[:2]))
        return wanted

    async def _accept_from(
        self, listener: socket.socket, tls: ssl.SSLContext | None
    ) -> asyncio.Server:
        loop, backlog = asyncio.get_running_loop(), self._server.config.backlog
        try:
            listener.listen(backlog)  # uvloop does it too, but tells nobody when it fails
        except OSError as error:
            name = listener.getsockname()
            where = f"unix:{name}" if isinstance(name, str) else str(Address(*name[:2]))
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
        if listener.family == socket.AF_UNIX:
            return await loop.create_unix_server(self.make_protocol, sock=listener, backlog=backlog)
        return await loop.create_server(
            self.make_protocol,
            sock=listener,
            ssl=tls,
            backlog=backlog,
            ssl_handshake_timeout=None if tls is None else self._patience.head_seconds_max,
        )

    async def stop(self, deadline_seconds: float = 10.0) -> None:
        """Stops listening, lets requests finish until the deadline, then cuts what is left."""
        if self._ticker is None:
            return
        server = self._server
        server.should_exit = True
        await self._ticker
        self._ticker = None
        connections = server.server_state.connections
        try:
            async with asyncio.timeout(deadline_seconds):
                await server.shutdown()
        except TimeoutError:
            tasks = list(server.server_state.tasks)
            logger.warning("cutting %d connections that did not finish in time", len(connections))
            for connection in list(connections):
                _abort(connection)
            await _end(tasks)
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Requests whose clients have gone. Most see to it themselves; what is cancelled passes for a failure."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=CUT_SECONDS)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CUT_SECONDS)


def _abort(connection: Any) -> None:
    transport = connection.transport
    if transport is not None:
        transport.abort()


def listen(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A socket that is bound. The backlog is set by whoever accepts from it. `share`: others of the
    same user may listen there too, and the kernel deals connections out evenly. Raises OSError with
    the address."""
    try:
        return _bind(host, port, share)
    except OSError as error:
        where = Address(host, port)
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error


def _bind(host: str, port: int, share: bool) -> socket.socket:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_at_path(path: str) -> socket.socket:
    """For the owner of this process alone. What a process that was killed left there is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.setblocking(False)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return listener
