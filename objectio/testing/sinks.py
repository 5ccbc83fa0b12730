"""Conformance of a sink for events.

class TestMine(SinkConformance):
    @pytest.fixture
    async def sink(self):
        return MySink(...)  # closed by the kit

    def arrived(self):
        return [...]  # the records that the receiver has, each as the bytes that were sent

    def refuse(self): ...  # from now on the receiver does not want what it is sent

    def vanish(self): ...  # from now on nobody can be reached

    def recover(self): ...  # all is well again
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from objectio.abc.sinks import EventMessage, EventSink
from objectio.errors import InvalidRequest, Unavailable

_SECONDS_MAX = 30.0


def message(number: int) -> EventMessage:
    record = {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": f"k{number}/é%2F"}}}
    return EventMessage(f"{number:016x}", b"bucket/k%d/\xff" % number, json.dumps(record).encode())


class SinkConformance:
    """Subclass, give the fixture `sink` and the methods; every test must pass."""

    @pytest.fixture
    async def sink(self) -> EventSink:
        raise NotImplementedError("give the fixture `sink`")

    def arrived(self) -> Sequence[bytes]:
        raise NotImplementedError("give the method `arrived`")

    def refuse(self) -> None:
        raise NotImplementedError("give the method `refuse`")

    def vanish(self) -> None:
        raise NotImplementedError("give the method `vanish`")

    def recover(self) -> None:
        raise NotImplementedError("give the method `recover`")

    @pytest.fixture(autouse=True)
    async def close(self, sink: EventSink) -> AsyncIterator[None]:
        yield
        async with asyncio.timeout(_SECONDS_MAX):
            await sink.close()

    async def send(self, sink: EventSink, *numbers: int, target: str = "") -> None:
        async with asyncio.timeout(_SECONDS_MAX):
            await sink.send(target or next(iter(sink.targets)), [message(each) for each in numbers])

    def check(self, *numbers: int) -> None:
        """These have arrived at least once, and no others."""
        got = [json.loads(each) for each in self.arrived()]
        wanted = [json.loads(message(each).record) for each in numbers]
        assert all(each in got for each in wanted), got
        assert all(each in wanted for each in got), got

    async def test_targets_are_arns(self, sink: EventSink) -> None:
        assert sink.targets
        for target in sink.targets:
            assert target.startswith("arn:")
            assert target.count(":") >= 5
            assert sink.messages_max(target) >= 1

    async def test_each_target_takes_events(self, sink: EventSink) -> None:
        for number, target in enumerate(sorted(sink.targets)):
            await self.send(sink, number, target=target)
        self.check(*range(len(sink.targets)))

    async def test_it_has_arrived_when_send_returns(self, sink: EventSink) -> None:
        for number in range(20):
            await self.send(sink, number)
            self.check(*range(number + 1))

    async def test_as_many_as_it_says(self, sink: EventSink) -> None:
        numbers = range(sink.messages_max(next(iter(sink.targets))))
        await self.send(sink, *numbers)
        self.check(*numbers)

    async def test_nobody_there(self, sink: EventSink) -> None:
        await self.send(sink, 1)
        self.vanish()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await self.send(sink, 2)
        self.check(1)
        self.recover()
        await self.send(sink, 2)
        self.check(1, 2)

    async def test_what_is_refused(self, sink: EventSink) -> None:
        self.refuse()
        with pytest.raises((InvalidRequest, Unavailable)):
            await self.send(sink, 1)
        self.check()
        self.recover()
        await self.send(sink, 2)
        self.check(2)

    async def test_the_same_event_twice(self, sink: EventSink) -> None:
        await self.send(sink, 1)
        await self.send(sink, 1)
        self.check(1)

    async def test_the_loop_goes_on_while_it_sends(self, sink: EventSink) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        for number in range(5):
            await self.send(sink, number)
        ticking.cancel()
        assert ticks > 5
