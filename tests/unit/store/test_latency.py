"""Which devices count as slow."""

from __future__ import annotations

import time

import pytest

from objectio.store import latency
from objectio.store.latency import ReadTimes

HEDGE = 0.02


@pytest.fixture
def times():
    made = ReadTimes(HEDGE)
    for osd in range(6):
        made.of(osd)
    return made


def begin(times, osd, seconds_ago, read="read"):
    times.of(osd).reading[read] = time.monotonic() - seconds_ago


def end(times, osd, seconds, read="read"):
    times.of(osd).reading.pop(read, None)
    times.record(osd, times.of(osd), seconds)


def look(times):
    return set(times.look(time.monotonic()))


def test_a_read_that_takes_long_makes_its_device_slow_and_no_other(times):
    begin(times, 2, 0.03)
    begin(times, 3, 0.001)
    assert look(times) == {2} == times.slow


def test_a_read_below_the_hedge_delay_makes_nobody_slow(times):
    begin(times, 2, HEDGE / 2)
    assert not look(times)
    end(times, 2, HEDGE / 2)
    end(times, 2, HEDGE / 2)
    assert not times.slow


def test_what_takes_long_everywhere_is_not_slow(times):
    for osd in range(6):
        end(times, osd, 0.2)
    begin(times, 2, 0.5)
    assert not look(times)
    begin(times, 2, 0.9)
    assert look(times) == {2}


def test_a_moment_in_which_all_stand_still_makes_nobody_slow(times):
    for osd in range(4):
        begin(times, osd, 0.1)
    assert not look(times)


def test_half_of_the_devices_may_be_slow(times):
    for osd in range(3):
        begin(times, osd, 0.1)
    assert look(times) == {0, 1, 2}


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_few_devices(devices):
    times = ReadTimes(HEDGE)
    for osd in range(devices):
        times.of(osd)
    begin(times, 0, 0.1)
    assert look(times) == {0}


def test_nothing_is_waited_for_longer_than_the_patience(times):
    for osd in range(6):
        end(times, osd, 50.0)
    times.slow.clear()
    begin(times, 1, 1.1)
    assert look(times) == {1}


def test_peaks_are_forgotten(times, monkeypatch):
    for osd in range(6):
        end(times, osd, 0.2)
    later = time.monotonic() + 60
    assert times.patience_seconds(2, later) == pytest.approx(HEDGE, rel=0.01)


def test_one_late_read_may_have_met_a_busy_processor(times):
    end(times, 2, 0.1)
    assert not times.slow
    end(times, 2, 0.001)
    end(times, 2, 0.1)
    assert not times.slow
    end(times, 2, 0.1)
    assert times.slow == {2}


def test_a_fast_read_makes_it_well_after_the_probation(times, monkeypatch):
    begin(times, 2, 0.1)
    look(times)
    end(times, 2, 0.1)
    end(times, 2, 0.001)
    assert times.slow == {2}, "too early"
    times.of(2).retry_at = time.monotonic() - 0.001
    begin(times, 2, 0.1, "another")
    end(times, 2, 0.001)
    assert times.slow == {2}, "another read is stuck"
    end(times, 2, 0.1, "another")
    times.of(2).retry_at = time.monotonic() - 0.001
    end(times, 2, 0.001)
    assert not times.slow


def test_who_relapses_waits_twice_as_long(times):
    waits = []
    for _ in range(6):
        begin(times, 2, 0.1)
        look(times)
        end(times, 2, 0.1)
        waits.append(times.of(2).probation_seconds)
        times.of(2).retry_at = time.monotonic() - 0.001
        end(times, 2, 0.001)
        assert not times.slow
    first = latency.PROBATION_SECONDS
    assert waits == [min(first * 2**n, latency.PROBATION_SECONDS_MAX) for n in range(6)]
    times.of(2).retry_at = time.monotonic() - latency.PROBATION_SECONDS_MAX - 1
    begin(times, 2, 0.1)
    look(times)
    assert times.of(2).probation_seconds == first


def test_who_hears_of_it():
    heard = []
    times = ReadTimes(HEDGE, heard.append)
    for _ in range(3):
        begin(times, 0, 0.1)
        look(times)
    assert heard == [0]


def test_another_device_begins_anew(times):
    old = times.of(2)
    begin(times, 2, 0.1)
    look(times)
    times.forget(2)
    assert not times.slow
    times.record(2, old, 5.0)
    times.record(2, old, 5.0)
    assert not times.slow
    assert not look(times)


def test_without_a_hedge_delay_nobody_is_slow():
    times = ReadTimes(0.0)
    begin(times, 0, 100)
    assert not look(times)
    assert not times.overdue(0, time.monotonic())
    end(times, 0, 100)
    end(times, 0, 100)
    assert not times.slow
