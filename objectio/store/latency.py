"""How long the devices take to answer reads, and which of them are slow.

A device is slow when a read of it takes longer than both the hedge delay and a few times what its
peers take, so that a load under which all devices take long makes none of them slow. It stays slow
for a while, the longer the sooner it relapses; then a read that is fast again makes it well. A slow
device is not a damaged one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Final

_PEER_FACTOR: Final = 4.0
"""A device may take so many times what half of the others stay below."""
_PATIENCE_SECONDS_MAX: Final = 1.0
"""Longer than that is slow even if the others have been, for a while, not much faster."""
_MEMORY_SECONDS: Final = 10.0
"""How fast a peak is forgotten: after that long a third of it is left."""
_LATE_IN_A_ROW: Final = 2
"""Of reads that came to an end. One may have met a busy processor."""
PROBATION_SECONDS: Final = 5.0
PROBATION_SECONDS_MAX: Final = 60.0


class DeviceTimes:
    """What is known of one device. `reading` has the reads under way, with the monotonic time of
    their begin; whoever reads, in any thread, puts them in and takes them out."""

    __slots__ = ("late", "peak_at", "peak_seconds", "probation_seconds", "reading", "retry_at")

    def __init__(self) -> None:
        self.reading: dict[Hashable, float] = {}
        self.peak_seconds = 0.0
        self.peak_at = 0.0
        self.late = 0
        self.retry_at = 0.0
        self.probation_seconds = 0.0

    def oldest_seconds(self, now: float) -> float:
        """For how long the oldest read has been under way."""
        begun = list(self.reading.values())  # one step for other threads
        return now - min(begun) if begun else 0.0

    def recent_seconds(self, now: float) -> float:
        """The longest that a read took or takes, as far as it is not forgotten."""
        return max(self._peak(now), self.oldest_seconds(now))

    def note(self, seconds: float, now: float) -> None:
        """A read has ended."""
        self.peak_seconds = max(self._peak(now), seconds)
        self.peak_at = now

    def _peak(self, now: float) -> float:
        return self.peak_seconds * math.exp(min(0.0, self.peak_at - now) / _MEMORY_SECONDS)


class ReadTimes:
    """Keeps the times of all devices. Call from the event loop; `of` and `overdue` from anywhere.

    hedge_seconds   the hedge delay; 0: no device is ever slow
    told            called when a device becomes slow
    slow            where the slow ones are kept, for others to see
    """

    def __init__(
        self,
        hedge_seconds: float,
        told: Callable[[int], None] | None = None,
        slow: set[int] | None = None,
    ) -> None:
        self.hedge_seconds = hedge_seconds
        self.slow = set() if slow is None else slow
        self._told = told
        self._devices: dict[int, DeviceTimes] = {}

    def of(self, osd: int) -> DeviceTimes:
        times = self._devices.get(osd)
        if times is None:
            times = self._devices.setdefault(osd, DeviceTimes())
        return times

    def forget(self, osd: int) -> None:
        """Another device stands for the OSD now."""
        self._devices.pop(osd, None)
        self.slow.discard(osd)

    def patience_seconds(self, osd: int, now: float) -> float:
        """For how long a read of the device may take without being called slow."""
        others = sorted(
            each.recent_seconds(now)
            for other, each in list(self._devices.items())
            if other != osd and other not in self.slow
        )
        typical = others[(len(others) - 1) // 2] if others else 0.0
        return max(self.hedge_seconds, min(_PEER_FACTOR * typical, _PATIENCE_SECONDS_MAX))

    def overdue(self, osd: int, now: float) -> bool:
        """Whether a read is under way that takes too long."""
        if not self.hedge_seconds:
            return False
        taken = self.of(osd).oldest_seconds(now)
        return taken > self.hedge_seconds and taken > self.patience_seconds(osd, now)

    def look(self, now: float) -> Iterator[int]:
        """The devices with a read that is overdue; they are slow from now on."""
        overdue = [osd for osd in list(self._devices) if self.overdue(osd, now)]
        for osd in overdue:
            self._mark(osd, now)
            yield osd

    def record(self, osd: int, times: DeviceTimes, seconds: float) -> None:
        """A read came to an end. `times` are those that it began with: if they are not the OSD's
        any more, the device has been replaced meanwhile."""
        if self._devices.get(osd) is not times:
            return
        if not self.hedge_seconds:
            return
        now = time.monotonic()
        times.note(seconds, now)
        if seconds > self.hedge_seconds and seconds > self.patience_seconds(osd, now):
            times.late += 1
            if times.late >= _LATE_IN_A_ROW or osd in self.slow:
                self._mark(osd, now)
            return
        times.late = 0
        if osd in self.slow and now >= times.retry_at and not self.overdue(osd, now):
            times.peak_seconds = seconds  # what it took while it was slow is no measure for others
            self.slow.discard(osd)

    def cure(self, osd: int) -> None:
        """The device has nothing by which it could show that it is well."""
        self.slow.discard(osd)

    def retry_at(self, osd: int) -> float | None:
        """From when on the slow device may show that it is well; None while a read of it is under
        way, which will show it by itself."""
        times = self.of(osd)
        return None if times.reading else times.retry_at

    def _mark(self, osd: int, now: float) -> None:
        times = self.of(osd)
        if osd in self.slow:
            times.retry_at = max(times.retry_at, now + times.probation_seconds)
            return
        relapsed = times.retry_at and now - times.retry_at < PROBATION_SECONDS_MAX
        doubled = min(2 * times.probation_seconds, PROBATION_SECONDS_MAX)
        times.probation_seconds = doubled if relapsed else PROBATION_SECONDS
        times.retry_at = now + times.probation_seconds
        self.slow.add(osd)
        if self._told is not None:
            self._told(osd)
