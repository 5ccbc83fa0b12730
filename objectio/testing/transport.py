"""Conformance of a transport: calls and answers between two ends.

    class TestMine(TransportConformance):
        @pytest.fixture
        def transport(self, context):
            return DRIVER.open(Config(), context)

`address` is one at which a server may be started; override it where it is no host and port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from objectio.abc.context import Context
from objectio.abc.transport import Channel, Handler, Message, Server, Transport
from objectio.errors import Unavailable
from objectio.testing.context import make_context

SECONDS_MAX = 30.0


async def echo(message: Message) -> Message:
    return Message(f"re:{message.method}", message.body[::-1], bytes(message.payload)[::-1])


class TransportConformance:
    """Subclass, give the fixture `transport`; every test must pass."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return make_context(tmp_path, "transport")

    @pytest.fixture
    def transport(self, context: Context) -> Transport:
        raise NotImplementedError("give the fixture `transport`")

    @pytest.fixture
    def address(self) -> str:
        return "127.0.0.1:0"

    @asynccontextmanager
    async def pair(
        self, transport: Transport, address: str, handler: Handler = echo
    ) -> AsyncIterator[tuple[Server, Channel]]:
        async with asyncio.timeout(SECONDS_MAX):
            server = await transport.serve(address, handler)
            channel = await transport.connect(server.address)
            try:
                yield server, channel
            finally:
                await channel.close()
                await server.close()

    async def late(self, transport: Transport, address: str) -> None:
        """Who comes when the server has gone; the one or the other call says so."""
        channel = await transport.connect(address)
        await channel.call(Message("m", b""), deadline_seconds=1)

    async def call(self, channel: Channel, message: Message) -> tuple[str, bytes, bytes]:
        answer = await channel.call(message, deadline_seconds=SECONDS_MAX)
        return answer.method, answer.body, bytes(answer.payload)

    @pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
    async def test_there_and_back(self, transport: Transport, address: str, size: int) -> None:
        payload = bytes(range(256)) * (size // 256 + 1)
        async with self.pair(transport, address) as (_, channel):
            said = await self.call(channel, Message("put", b"a\0b", memoryview(payload)[:size]))
        assert said == ("re:put", b"b\0a", payload[:size][::-1])

    async def test_methods_are_text(self, transport: Transport, address: str) -> None:
        async with self.pair(transport, address) as (_, channel):
            assert (await self.call(channel, Message("größe/é", b"")))[0] == "re:größe/é"

    async def test_many_at_once_get_their_own_answers(
        self, transport: Transport, address: str
    ) -> None:
        async def slow_first(message: Message) -> Message:
            await asyncio.sleep(0.05 if message.body == b"0" else 0)
            return message

        async with self.pair(transport, address, slow_first) as (_, channel):
            messages = [Message("m", b"%d" % number) for number in range(50)]
            answers = await asyncio.gather(*(self.call(channel, each) for each in messages))
        assert [body for _, body, _ in answers] == [each.body for each in messages]

    async def test_several_channels(self, transport: Transport, address: str) -> None:
        async with self.pair(transport, address) as (server, first):
            second = await transport.connect(server.address)
            await first.close()
            assert (await self.call(second, Message("m", b"ab")))[1] == b"ba"
            await second.close()

    async def test_an_answer_that_does_not_come(self, transport: Transport, address: str) -> None:
        waiting = asyncio.Event()

        async def handler(message: Message) -> Message:
            if message.method == "wait":
                await waiting.wait()
            return message

        async with self.pair(transport, address, handler) as (_, channel):
            with pytest.raises(Unavailable):
                await channel.call(Message("wait", b""), deadline_seconds=0.1)
            assert (await self.call(channel, Message("go", b"on")))[1] == b"on"
            waiting.set()

    async def test_a_handler_that_fails_answers_nobody_else(
        self, transport: Transport, address: str
    ) -> None:
        async def handler(message: Message) -> Message:
            if message.method == "fail":
                raise RuntimeError("on purpose")
            return message

        async with self.pair(transport, address, handler) as (_, channel):
            with pytest.raises(Unavailable):
                await channel.call(Message("fail", b""), deadline_seconds=1)
            assert (await self.call(channel, Message("go", b"on")))[1] == b"on"

    async def test_nobody_there(self, transport: Transport, address: str) -> None:
        async with self.pair(transport, address) as (server, channel):
            await server.close()
            with pytest.raises(Unavailable):
                await channel.call(Message("m", b""), deadline_seconds=1)
            with pytest.raises(Unavailable):
                await self.late(transport, server.address)

    async def test_ends_may_be_closed_twice(self, transport: Transport, address: str) -> None:
        async with self.pair(transport, address) as (server, channel):
            await channel.close()
            await server.close()
