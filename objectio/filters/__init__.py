"""Wrappers around drivers. `DRIVERS` describes all of them."""

from __future__ import annotations

from objectio.abc.filter import FilterDriver
from objectio.filters import fault, readonly, retry, throttle, trace

DRIVERS: list[FilterDriver] = [
    *readonly.DRIVERS,
    *retry.DRIVERS,
    *throttle.DRIVERS,
    *trace.DRIVERS,
    *fault.DRIVERS,
]
