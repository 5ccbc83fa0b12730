"""How many connections there are, in all and from one address, and who may still come.

Whoever comes when there are too many is answered 503 and leaves; those who are there go on being
served. Only connections that were let in are counted, so that those which are refused keep nobody
else out. Over IPv6 a host has a whole network of addresses: its first 64 bits count as one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from objectio.abc.metrics import Metrics

CONNECTIONS_MAX: Final = 8192
REFUSED_MAX: Final = 256
"""So many may stay until they have been told that they are refused; more are cut at once."""
SAY_SECONDS: Final = 10.0
_HOST_BITS: Final = 64

logger = logging.getLogger("objectio.gateway")


class Arrivals:
    """Of one server. `per_address_max` 0: no bound; proxies that are trusted are never bound by it."""

    def __init__(
        self,
        connections_max: int = CONNECTIONS_MAX,
        per_address_max: int = 0,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._proxies: list[IPv4Network | IPv6Network] = [
            ip_network(proxy, strict=False) for proxy in trusted_proxies
        ]
        self.let_in = 0
        self.refused = 0
        """That have not left yet."""
        self._by_address: dict[str, int] = {}
        self._refused_ever = 0
        self._unsaid = 0
        self._say_at = 0.0

    def show(self, metrics: Metrics) -> None:
        metrics.gauge_function(
            "objectio_gateway_connections",
            "Connections of clients that are open.",
            lambda: self.let_in,
        )
        metrics.counter_function(
            "objectio_gateway_refused_connections_total",
            "Connections that were refused: there were too many, in all or from one address.",
            lambda: self._refused_ever,
        )

    def enter(self, host: str) -> str | None:
        """What to give to `leave` when a connection from `host` ends; None: it is refused."""
        address = self._address(host) if self._per_address_max else ""
        count = self._by_address.get(address, 0)
        if self.let_in >= self._connections_max:
            self._refuse(host, f"open in all: {self.let_in}")
            return None
        if address:
            if count >= self._per_address_max:
                self._refuse(host, f"open from there: {count}")
                return None
            self._by_address[address] = count + 1
        self.let_in += 1
        return address

    def leave(self, address: str | None) -> None:
        if address is None:
            self.refused -= 1
            return
        self.let_in -= 1
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    @property
    def crowded(self) -> bool:
        """Whether there is no time to tell whoever is refused."""
        return self.refused > REFUSED_MAX

    def _address(self, host: str) -> str:
        """What it is counted as; nothing for a proxy that is trusted."""
        address = ip_address(host)
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is None:
                network = IPv6Network((int(address), _HOST_BITS), strict=False)
                return "" if any(address in proxy for proxy in self._proxies) else str(network)
            address = address.ipv4_mapped
        return "" if any(address in proxy for proxy in self._proxies) else str(address)

    def _refuse(self, host: str, why: str) -> None:
        self.refused += 1
        self._refused_ever += 1
        self._unsaid += 1
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + SAY_SECONDS
            logger.warning("refused %d connections, the last from %s: %s", self._unsaid, host, why)
            self._unsaid = 0


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application of those who are refused."""
    text = b"There are too many connections. Try again later.\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": text})
