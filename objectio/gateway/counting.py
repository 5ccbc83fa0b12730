"""Counters of one front end: requests by operation and status, durations by operation."""

from __future__ import annotations

from typing import Final

from objectio.abc.metrics import Counter, Histogram, Metrics

# From a small object out of the page cache to a large one over a slow line.
DURATION_BUCKETS_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
)
# A front end has tens of operations. What comes beyond this is counted as "other", so that no
# front end can grow the label set by what clients send.
OPERATIONS_MAX: Final = 256


class _Operation:
    __slots__ = ("by_status", "duration", "name", "received", "sent")

    def __init__(self, name: str, duration: Histogram, received: Counter, sent: Counter) -> None:
        self.name = name
        self.duration = duration
        self.received = received
        self.sent = sent
        self.by_status: dict[int, Counter] = {}


class FrontEndCounters:
    """objectio_<name>_requests_total{operation,status}, and of each operation
    objectio_<name>_request_duration_seconds, …_received_bytes_total and …_sent_bytes_total."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name.replace("-", "_")
        self._metrics = metrics
        self._operations: dict[str, _Operation] = {}

    def count(
        self, name: str, status: int, seconds: float, received: int = 0, sent: int = 0
    ) -> None:
        """`name` is that of an `Access` ("HeadObject"), or its action ("s3:GetObject"); "" if it is not
        known. `status` 0 means that nothing was answered, because the client went away first.
        `received` and `sent` are bytes."""
        operation = self._operations.get(name)
        if operation is None:
            operation = self._make_operation(name)
        counter = operation.by_status.get(status)
        if counter is None:
            counter = operation.by_status[status] = self._metrics.counter(
                f"objectio_{self._name}_requests_total",
                "Requests by operation and HTTP status; 0 is none.",
                operation=operation.name,
                status=str(status),
            )
        counter.inc()
        operation.duration.observe(seconds)
        if received:
            operation.received.inc(received)
        if sent:
            operation.sent.inc(sent)

    def _make_operation(self, key: str) -> _Operation:
        if len(self._operations) >= OPERATIONS_MAX:
            key = "other"
            if key in self._operations:
                return self._operations[key]
        name = key.rpartition(":")[2] or "unknown"
        duration = self._metrics.histogram(
            f"objectio_{self._name}_request_duration_seconds",
            "From the request's head to the end of the response.",
            DURATION_BUCKETS_SECONDS,
            operation=name,
        )
        received = self._metrics.counter(
            f"objectio_{self._name}_received_bytes_total",
            "Bodies of requests, as far as they were read.",
            operation=name,
        )
        sent = self._metrics.counter(
            f"objectio_{self._name}_sent_bytes_total",
            "Bodies of responses.",
            operation=name,
        )
        operation = self._operations[key] = _Operation(name, duration, received, sent)
        return operation
