"""Bad connections: a relay between clients and a server that cuts them off, or stalls."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Literal, Protocol

_SEEN_BYTES: Final = 4096
MIB: Final = 1 << 20

Way = Literal["up", "down"]


class HasAddress(Protocol):
    @property
    def address(self) -> tuple[str, int]: ...


class Relay:
    """Passes bytes between clients and the server, but of each of its first `failing` connections no
    more than so many up or down: then it ends them, or, if it `stalls`, goes quiet. `said` has the
    beginning of what clients sent, of each connection."""

    def __init__(
        self,
        server: HasAddress,
        *,
        up: int | None = None,
        down: int | None = None,
        failing: int = 1,
        stalls: bool = False,
    ) -> None:
        self._to = server.address
        self._limits: dict[Way, int | None] = {"up": up, "down": down}
        self._failing = failing
        self._stalls = stalls
        self.said: list[bytearray] = []
        self.since = 0
        self.stalled = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.endpoint = f"http://{host}:{port}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def mend(self) -> None:
        """From now on it passes on everything."""
        self._failing = 0
        self.since = len(self.said)

    def cut(self) -> None:
        """End what has stalled."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def puts(self) -> list[str]:
        """The targets of PUT requests since it was mended."""
        said = [bytes(each) for each in self.said[self.since :]]
        return [each.split()[1].decode() for each in said if each.startswith(b"PUT")]

    def _limit(self, way: Way, number: int) -> int | None:
        return self._limits[way] if number < self._failing else None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._to)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            number, said = len(self.said), bytearray()
            self.said.append(said)
            self._start(client, server, self._limit("up", number), said)
            self._start(server, client, self._limit("down", number), bytearray())

    def _start(
        self, source: socket.socket, to: socket.socket, left: int | None, seen: bytearray
    ) -> None:
        thread = threading.Thread(target=self._pump, args=(source, to, left, seen))
        self._threads.append(thread)
        thread.start()

    def _pump(
        self, source: socket.socket, to: socket.socket, left: int | None, seen: bytearray
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                seen += piece[: max(0, _SEEN_BYTES - len(seen))]
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                to.sendall(piece)
                if left == 0 and self._stalls:
                    self.stalled.set()
                    return
                if left == 0:
                    break
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            if left == 0:
                # With a full window, who still sends would never hear of a mere shutdown.
                each.close()


class CutOff(Relay):
    """Lets so many connections be, and ends each later one as soon as it has brought 3 MiB, or
    stalls."""

    def __init__(
        self,
        server: HasAddress,
        after: int,
        *,
        up: int | None = 3 * MIB,
        down: int | None = None,
        stalls: bool = False,
    ) -> None:
        super().__init__(server, up=up, down=down, failing=10**6, stalls=stalls)
        self._whole = after

    def _limit(self, way: Way, number: int) -> int | None:
        return None if number < self._whole else super()._limit(way, number)
