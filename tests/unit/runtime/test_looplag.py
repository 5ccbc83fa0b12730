"""The lag of the event loop."""

from __future__ import annotations

import asyncio
import time

from objectio.runtime import looplag


class Lags(list):
    def histogram(self, name, help, buckets):
        assert name == "objectio_event_loop_lag_seconds"
        return self

    def observe(self, value):
        self.append(value)


async def test_it_is_as_long_as_the_loop_was_busy(monkeypatch):
    monkeypatch.setattr(looplag, "_PERIOD_SECONDS", 0.01)
    lags = Lags()
    lag = looplag.LoopLag(lags)
    lag.start()
    async with asyncio.timeout(30):
        while len(lags) < 3:
            await asyncio.sleep(0.001)
    time.sleep(0.3)  # what keeps the loop busy
    seen = len(lags)
    async with asyncio.timeout(30):
        while len(lags) == seen:
            await asyncio.sleep(0.001)
    lag.stop()
    assert min(lags) >= 0
    assert max(lags) > 0.2
    seen = len(lags)
    await asyncio.sleep(0.05)
    assert len(lags) == seen
