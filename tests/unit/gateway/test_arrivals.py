"""Who is let in: counts by address, and what is said of those who are not."""

from __future__ import annotations

import pytest

from objectio.gateway import arrivals
from objectio.gateway.arrivals import REFUSED_MAX, Arrivals


def test_those_who_leave_make_room():
    counted = Arrivals(2)
    first, second = counted.enter("192.0.2.1"), counted.enter("192.0.2.2")
    assert None not in (first, second)
    assert counted.enter("192.0.2.3") is None
    counted.leave(None)  # a refused one: it has taken no place and leaves none
    assert counted.enter("192.0.2.3") is None
    counted.leave(first)
    assert counted.enter("192.0.2.3") is not None
    assert (counted.let_in, counted.refused) == (2, 1)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%lo", "fe80::2%lo", True),
    ],
)
def test_what_one_address_is(first, second, same):
    counted = Arrivals(100, 1)
    entered = counted.enter(first)
    assert entered is not None
    assert (counted.enter(second) is None) == same
    counted.leave(entered)
    assert counted.enter(first) is not None


@pytest.mark.parametrize("proxy", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"])
def test_proxies_that_are_trusted_may_have_as_many_as_there_may_be(proxy):
    counted = Arrivals(3, 1, ["192.0.2.0/28", "2001:db8::/64"])
    for _ in range(3):
        assert counted.enter(proxy) == ""
    assert counted.enter(proxy) is None
    for _ in range(3):
        counted.leave("")
    assert counted.enter("192.0.2.16") is not None
    assert counted.enter("192.0.2.16") is None


def test_nothing_is_kept_of_who_has_left():
    counted = Arrivals(10, 2)
    for number in range(100):
        counted.leave(counted.enter(f"192.0.2.{number}"))
    assert counted._by_address == {}
    assert counted.let_in == 0


def test_a_crowd_at_the_door_is_not_talked_to():
    counted = Arrivals(1)
    counted.enter("192.0.2.1")
    for _ in range(REFUSED_MAX):
        assert counted.enter("192.0.2.1") is None
    assert not counted.crowded
    assert counted.enter("192.0.2.1") is None
    assert counted.crowded
    counted.leave(None)
    assert not counted.crowded


def test_a_thousand_refusals_are_one_line(caplog, monkeypatch):
    counted = Arrivals(100, 1)
    counted.enter("192.0.2.1")
    for _ in range(1000):
        counted.enter("192.0.2.1")
    assert len(caplog.records) == 1
    assert "refused 1 connections, the last from 192.0.2.1: open from there: 1" in caplog.text
    monkeypatch.setattr(arrivals, "SAY_SECONDS", 0.0)
    counted._say_at = 0.0
    counted.enter("192.0.2.1")
    assert "refused 1000 connections" in caplog.text


def test_what_it_shows():
    shown = {}

    class Shown:
        def gauge_function(self, name, help, read):
            shown[name] = read

        counter_function = gauge_function

    arrivals = Arrivals(2)
    arrivals.show(Shown())
    entered = [arrivals.enter("192.0.2.1") for _ in range(5)]
    assert shown["objectio_gateway_connections"]() == 2
    assert shown["objectio_gateway_refused_connections_total"]() == 3
    for address in entered:
        arrivals.leave(address)
    assert shown["objectio_gateway_connections"]() == 0
    assert shown["objectio_gateway_refused_connections_total"]() == 3
