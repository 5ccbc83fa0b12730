"""Counting: instruments that the code updates, and exporters that show them.

The kernel asks `Metrics` for an instrument once, at start-up, and keeps it; updating one is a
method call with plain numbers and must be cheap (under a microsecond), since it happens for each
request. Names follow Prometheus' conventions: `objectio_<part>_<what>_<unit>[_total]`.

An exporter plugin provides the `Metrics` (so that updates go straight into its own client
library) and, if it is pulled, an ASGI application that the gateway mounts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Counter(Protocol):
    def inc(self, amount: float = 1) -> None: ...


class Gauge(Protocol):
    def set(self, value: float) -> None: ...

    def inc(self, amount: float = 1) -> None: ...

    def dec(self, amount: float = 1) -> None: ...


class Histogram(Protocol):
    def observe(self, value: float) -> None: ...


class Metrics(Protocol):
    """A factory of instruments. Asking twice for one name and labels gives the same instrument.

    `labels` are fixed pairs: a caller that counts by operation asks once per operation.
    """

    def counter(self, name: str, help: str, **labels: str) -> Counter: ...

    def gauge(self, name: str, help: str, **labels: str) -> Gauge: ...

    def gauge_function(
        self, name: str, help: str, read: Callable[[], float], **labels: str
    ) -> None:
        """A gauge whose value is asked for at each scrape."""
        ...

    def counter_function(
        self, name: str, help: str, read: Callable[[], float], **labels: str
    ) -> None:
        """A counter whose value is asked for at each scrape: what somebody counts anyway. It only
        grows, and starts from 0 with its process."""
        ...

    def histogram(
        self, name: str, help: str, buckets: Sequence[float] = (), **labels: str
    ) -> Histogram: ...


class Exporter(Protocol):
    """Shows what was counted. `render` returns (content type, body) for one scrape."""

    @property
    def metrics(self) -> Metrics: ...

    def render(self, accept: str = "") -> tuple[str, bytes]: ...


class _Null:
    def inc(self, amount: float = 1) -> None: ...

    def dec(self, amount: float = 1) -> None: ...

    def set(self, value: float) -> None: ...

    def observe(self, value: float) -> None: ...


_NULL = _Null()


class NullMetrics:
    """Counts nothing: the default where no exporter is configured."""

    def counter(self, name: str, help: str, **labels: str) -> Counter:
        return _NULL

    def gauge(self, name: str, help: str, **labels: str) -> Gauge:
        return _NULL

    def gauge_function(
        self, name: str, help: str, read: Callable[[], float], **labels: str
    ) -> None:
        return None

    def counter_function(
        self, name: str, help: str, read: Callable[[], float], **labels: str
    ) -> None:
        return None

    def histogram(
        self, name: str, help: str, buckets: Sequence[float] = (), **labels: str
    ) -> Histogram:
        return _NULL
