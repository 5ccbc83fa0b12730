"""Fetching documents of issuers. Their URLs are chosen by accounts, so none may lead inside.

Only https at public addresses is asked, unless the operator trusts the issuer by name. The address
that was checked is the one that is connected to: a second look-up could answer another. Redirects are
not followed, and what comes is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from objectio_api_iam.errors import Refusal

DOCUMENT_BYTES_MAX: Final = 256 * 1024
FETCHES_AT_ONCE_MAX: Final = 4
_PORTS: Final = {"http": 80, "https": 443}
# RFC 6052 §2.1, RFC 8215: another network's IPv4 addresses, whichever they are.
_TRANSLATED: Final = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48")
)


def _unreachable(host: str) -> Refusal:
    return Refusal("IDPCommunicationError", f"The identity provider at {host} cannot be reached.")


class Fetcher:
    """`trusted` issuers may be asked over plain http and at private addresses."""

    def __init__(self, trusted: Sequence[str], timeout_seconds: float) -> None:
        self._trusted = frozenset(_origin(urlsplit(url)) for url in trusted)
        self._timeout_seconds = timeout_seconds
        self._tls = ssl.create_default_context()
        self._turns = asyncio.Semaphore(FETCHES_AT_ONCE_MAX)

    async def fetch(self, url: str, issuer: str) -> dict[str, Any]:
        """The JSON object at `url`, which belongs to `issuer`. Raises `Refusal`."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = parts.port
        except ValueError:
            raise _unreachable("a URL that is none") from None
        trusted = {_origin(parts), _origin(urlsplit(issuer))} <= self._trusted
        schemes = ("http", "https") if trusted else ("https",)
        if parts.scheme not in schemes or not host or port == 0:
            raise _unreachable(host)
        connection = _Pinned(parts, trusted, self._timeout_seconds, self._tls)
        try:
            async with asyncio.timeout(self._timeout_seconds), self._turns:
                body = await asyncio.to_thread(_get, connection, parts)
            document = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            raise _unreachable(host) from None
        finally:
            connection.abort()
        if not isinstance(document, dict):
            raise _unreachable(host)
        return document


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    try:
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", None, None


def _resolve(host: str, port: int, trusted: bool) -> str:
    """All addresses must be fit, or none is used: who answers with one of each has a reason."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(sockaddr[0]) for *_, sockaddr in found]
    if not addresses or not (trusted or all(is_public(address) for address in addresses)):
        raise OSError("no public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is of the internet at large (RFC 6890)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if any(found in network for network in _TRANSLATED):
            return False
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is not None and not is_public(str(inner)):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that it checked, by TLS if the URL says so."""

    def __init__(
        self, parts: SplitResult, trusted: bool, timeout_seconds: float, tls: ssl.SSLContext
    ) -> None:
        self.default_port = _PORTS[parts.scheme]
        super().__init__(parts.hostname or "", parts.port, timeout=timeout_seconds)
        self._trusted = trusted
        self._tls = tls if parts.scheme == "https" else None

    def connect(self) -> None:
        address = _resolve(self.host, self.port, self._trusted)
        self.sock = socket.create_connection((address, self.port), self.timeout)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """Ends what a thread still waits for: whoever drips bytes keeps no thread."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def _get(connection: _Pinned, parts: SplitResult) -> bytes:
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path or "/", headers={"Accept": "application/json"})
        # One that ends with its connection holds the socket, and is not closed with that.
        with connection.getresponse() as response:
            if response.status != 200:
                raise OSError(f"status {response.status}")
            body = response.read(DOCUMENT_BYTES_MAX + 1)
    finally:
        connection.close()
    if len(body) > DOCUMENT_BYTES_MAX:
        raise OSError("the document is too large")
    return body
