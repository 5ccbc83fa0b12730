"""The HTTP server: uvicorn, embedded in the event loop that the node already runs.

uvicorn's own `serve` installs signal handlers and exits the process when a port is taken. Here the
node decides about both: `start` raises OSError, `stop` is called by whoever shuts the node down.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, Final

import uvicorn

from objectio.abc.api import ASGIApp
from objectio.gateway.protocol import GatewayProtocol

logger = logging.getLogger("objectio.gateway")

CONNECTIONS_MAX: Final = 8192
KEEP_ALIVE_SECONDS: Final = 75  # SDKs keep idle connections for 60 s; the client should close first
BACKLOG: Final = 2048


class HttpServer:
    """Serves `app` on one address. `port` 0 takes any free one; `port` tells which after `start`.

    connections_max         further connections are answered 503 by the server itself
    keep_alive_seconds      how long an idle connection is kept
    tls                     a server-side SSLContext, or None for plain http
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 9000,
        *,
        connections_max: int = CONNECTIONS_MAX,
        keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
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
            limit_concurrency=connections_max,
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

    async def start(self) -> None:
        """Listens when it returns. Raises OSError if the address cannot be had."""
        server, config = self._server, self._server.config
        try:
            listener = _listen(self.host, self.port)
        except OSError as error:
            where = self.endpoint.rpartition("/")[2]
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
        try:
            config.load()
            server.lifespan = config.lifespan_class(config)
            # The first tick makes the Date header; without it the first answers would have none.
            await server.on_tick(0)
            await server.startup(sockets=[listener])
        except BaseException:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._ticker = asyncio.create_task(server.main_loop(), name="http-server-ticker")

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
            for task in tasks:
                task.cancel()
            for connection in list(connections):
                _abort(connection)
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)


def _abort(connection: Any) -> None:
    transport = connection.transport
    if transport is not None:
        transport.abort()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. The backlog is set by the server."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener
