"""Connections that were refused: counted by reason, and a line in the log for each."""

from __future__ import annotations

import logging
from typing import Final

from objectio.abc.metrics import Metrics
from objectio.errors import ObjectIOError

_REASONS: Final = frozenset(
    {
        *("version", "method", "proof", "role", "wanted", "capability"),
        *("malformed", "head", "checksum", "handshake", "timeout", "tls"),
        *("strangers", "connections", "closing"),
    }
)
"""A label has few values; a peer could send any word."""

_log: Final = logging.getLogger("objectio.rpc")


class Refusals:
    """Of one end; `side` is server or client."""

    def __init__(self, metrics: Metrics, side: str) -> None:
        self.counts: dict[str, int] = {}
        self._metrics = metrics
        self._side = side

    def count(self, address: str, error: BaseException) -> None:
        fields = error.fields if isinstance(error, ObjectIOError) else {}
        reason = str(fields.get("reason"))
        if reason not in _REASONS:
            reason = "other"
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self._metrics.counter(
            "objectio_rpc_refused_total",
            "Connections that were refused before or in their handshake.",
            side=self._side,
            reason=reason,
        ).inc()
        _log.warning("refused %s (%s): %s", address, reason, error)
