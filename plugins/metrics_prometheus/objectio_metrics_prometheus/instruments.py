"""Instruments: plain numbers behind a lock, a third of the cost of the client library's own.

They are updated for each request, from the event loop and from worker threads; the library turns
them into text, which happens once per scrape.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class PrometheusCounter:
    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        if amount < 0:
            raise ValueError(f"a counter only grows, not by {amount}")
        with self._lock:
            self.value += amount


class PrometheusGauge:
    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0.0

    def set(self, value: float) -> None:
        with self._lock:
            self.value = value

    def inc(self, amount: float = 1) -> None:
        with self._lock:
            self.value += amount

    def dec(self, amount: float = 1) -> None:
        with self._lock:
            self.value -= amount


class PrometheusHistogram:
    __slots__ = ("_counts", "_lock", "_sum", "_upper_bounds")

    def __init__(self, upper_bounds: Sequence[float]) -> None:
        self._lock = threading.Lock()
        self._upper_bounds = tuple(upper_bounds)
        self._counts = [0] * (len(self._upper_bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        index = bisect_left(self._upper_bounds, value)
        with self._lock:
            self._counts[index] += 1
            self._sum += value

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets as (upper bound, count), "+Inf" last; and the sum."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        names = [*(repr(float(bound)) for bound in self._upper_bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(counts)), strict=True)), total
