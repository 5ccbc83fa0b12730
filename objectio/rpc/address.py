"""Addresses: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""

from __future__ import annotations

from typing import NamedTuple

from objectio.errors import ConfigError

UNIX_PATH_BYTES_MAX = 107
"""sockaddr_un(7)."""


class Address(NamedTuple):
    """Of a Unix socket if `path` is not empty."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not 0 < len(path.encode()) <= UNIX_PATH_BYTES_MAX:
            raise ConfigError(f"the path of a Unix socket has 1 to {UNIX_PATH_BYTES_MAX} bytes")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{text!r} is no address: HOST:PORT or unix:PATH")
    return Address(bare, int(port))
