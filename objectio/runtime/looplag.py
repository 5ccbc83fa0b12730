"""How late the event loop is: what every request of the process waits for, whatever it asks.

A timer that is due every so often is called late by as long as the loop was busy with something else.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from objectio.abc.metrics import Metrics

_PERIOD_SECONDS: Final = 0.25
_BUCKETS_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class LoopLag:
    """Measures from `start` to `stop`, on the loop that calls these."""

    def __init__(self, metrics: Metrics) -> None:
        self._lag = metrics.histogram(
            "objectio_event_loop_lag_seconds",
            "How late the event loop called a timer that is due four times a second.",
            _BUCKETS_SECONDS,
        )
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due = time.monotonic() + _PERIOD_SECONDS
        self._timer = loop.call_later(_PERIOD_SECONDS, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # Not the loop's own time: that stands still while what is called with it goes on.
        self._lag.observe(max(0.0, time.monotonic() - due))
        self._wait(loop)
