"""How fast, how long, and when to try again: the arithmetic of background work.

Nothing here waits. Time comes from a clock that is handed in, and answers are seconds to wait.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Clock = Callable[[], float]

_BURST_SECONDS: Final = 0.25
_WINDOW_SECONDS: Final = 30.0
_REMEMBERED_MAX: Final = 10_000


class TokenBucket:
    """A rate in bytes per second. What is spent may be more than there is, since a stripe is not
    cut; whoever comes next waits until the debt is paid."""

    def __init__(self, bytes_per_second: float, clock: Clock = time.monotonic) -> None:
        self._rate = bytes_per_second
        self._burst = bytes_per_second * _BURST_SECONDS
        self._clock = clock
        self._tokens = self._burst
        self._at = clock()

    def spend(self, count: int) -> None:
        self._refill()
        self._tokens -= count

    def wait_seconds(self) -> float:
        """How long until the debt is paid; 0 if there is none."""
        self._refill()
        return max(0.0, -self._tokens / self._rate)

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class MovingRate:
    """Bytes per second over the last half minute, or since work began if that is shorter."""

    def __init__(
        self, clock: Clock = time.monotonic, *, window_seconds: float = _WINDOW_SECONDS
    ) -> None:
        self._clock = clock
        self._window = window_seconds
        self._samples: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._begun = clock()

    def begin(self) -> None:
        """Work begins after a rest: the rest does not count."""
        now = self._clock()
        self._drop(now)
        if not self._samples and now - self._begun > self._window:
            self._begun = now

    def add(self, count: int) -> None:
        self.begin()
        now = self._clock()
        if self._samples and now - self._samples[-1][0] < self._window / 100:
            at, before = self._samples[-1]
            self._samples[-1] = (at, before + count)
        else:
            self._samples.append((now, count))
        self._sum += count
        self._drop(now)

    def bytes_per_second(self) -> float:
        now = self._clock()
        self._drop(now)
        if not self._samples:
            return 0.0
        span = min(self._window, now - self._begun)
        return self._sum / max(span, self._window / 100)

    def seconds_left(self, bytes_left: int) -> float | None:
        """None if nothing can be said."""
        if bytes_left <= 0:
            return 0.0
        rate = self.bytes_per_second()
        return bytes_left / rate if rate else None

    def _drop(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - self._window:
            self._sum -= self._samples.popleft()[1]


K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Who refused, each left alone for twice as long as the time before, within bounds. Remembers so
    many; beyond that it forgets all, and they are tried again."""

    def __init__(
        self,
        clock: Clock = time.monotonic,
        *,
        first_seconds: float = 1.0,
        seconds_max: float = 300.0,
    ) -> None:
        self._clock = clock
        self._first = first_seconds
        self._max = seconds_max
        self._delays: dict[K, float] = {}
        self._until: dict[K, float] = {}

    def refused(self, who: K) -> None:
        """Several refusals within one pause are one."""
        if self.waits(who):
            return
        delay = min(self._max, self._delays[who] * 2) if who in self._delays else self._first
        if len(self._delays) >= _REMEMBERED_MAX:
            self.clear()
        self._delays[who] = delay
        self._until[who] = self._clock() + delay

    def accepted(self, who: K) -> None:
        self._delays.pop(who, None)
        self._until.pop(who, None)

    def clear(self) -> None:
        self._delays.clear()
        self._until.clear()

    def waits(self, who: K) -> bool:
        until = self._until.get(who)
        return until is not None and until > self._clock()

    @property
    def waiting(self) -> dict[K, float]:
        """Seconds that each is still left alone."""
        now = self._clock()
        return {who: until - now for who, until in self._until.items() if until > now}
