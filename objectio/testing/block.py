"""Conformance of a block target: a protocol that never sees a socket.

    class TestMine(TargetConformance):
        @pytest.fixture
        def target(self, context):
            return DRIVER.open(Config(), context)

        def conversation(self):
            return [(b"bytes of a client", [Read(..., "disk", 0, 512)]), …]

        def garbage(self):
            return [b"bytes that no client says", …]

`conversation` opens a connection and makes at least one read, one write and one flush of the export
"disk", which has 1 MiB in blocks of 512 bytes. Of each step it gives what the client says and the
requests that this makes; tags are the protocol's own and are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from objectio.abc.block import (
    BlockProtocol,
    BlockRequest,
    BlockTarget,
    ExportInfo,
    Flush,
    Read,
    Write,
)
from objectio.abc.context import Context
from objectio.errors import DeviceFailed, RemoteProtocolError
from objectio.limits import MIB
from objectio.testing.context import make_context

EXPORTS = {"disk": ExportInfo("disk", MIB, 512, False)}

Step = tuple[bytes, Sequence[BlockRequest]]


def without_tag(request: BlockRequest) -> BlockRequest:
    request = request._replace(tag=None)
    return request._replace(data=bytes(request.data)) if isinstance(request, Write) else request


def sent(protocol: BlockProtocol) -> bytes:
    return b"".join(bytes(memoryview(piece)) for piece in protocol.data_to_send())


class TargetConformance:
    """Subclass, give the fixture `target` and the methods; every test must pass."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return make_context(tmp_path, "target")

    @pytest.fixture
    def target(self, context: Context) -> BlockTarget:
        raise NotImplementedError("give the fixture `target`")

    def conversation(self) -> Sequence[Step]:
        raise NotImplementedError("give the method `conversation`")

    def garbage(self) -> Sequence[bytes]:
        raise NotImplementedError("give the method `garbage`")

    def run(self, protocol: BlockProtocol, piece_bytes: int, result: Any = None) -> list[Any]:
        """The whole conversation; what was asked for and what was answered."""
        seen: list[Any] = []
        for said, wanted in self.conversation():
            requests: list[BlockRequest] = []
            for at in range(0, len(said), piece_bytes):
                piece = bytearray(said[at : at + piece_bytes])
                protocol.receive_data(memoryview(piece))
                requests += protocol.requests()
                piece[:] = b"\xee" * len(piece)  # the buffer is the loop's: it was lent
            assert [without_tag(each) for each in requests] == [without_tag(e) for e in wanted]
            for request in requests:
                protocol.complete(request, result or self.result_of(request))
            seen.append(sent(protocol))
        return seen

    def result_of(self, request: BlockRequest) -> bytes | None:
        if isinstance(request, Read):
            return bytes((request.offset + at) % 251 for at in range(request.length))
        return None

    def test_it_has_a_port(self, target: BlockTarget) -> None:
        assert 0 < target.default_port < 65_536

    def test_the_conversation_has_the_main_requests(self) -> None:
        kinds = {type(each) for _, requests in self.conversation() for each in requests}
        assert {Read, Write, Flush} <= kinds

    @pytest.mark.parametrize("piece_bytes", [1, 2, 7, 64, MIB])
    def test_pieces_mean_nothing(self, target: BlockTarget, piece_bytes: int) -> None:
        """However the network cuts it, it is the same conversation."""
        whole = self.run(target.connect(EXPORTS), 1 << 30)
        assert any(whole)
        assert self.run(target.connect(EXPORTS), piece_bytes) == whole

    def test_data_that_is_read_is_sent(self, target: BlockTarget) -> None:
        answers = b"".join(self.run(target.connect(EXPORTS), 1 << 30))
        for _, requests in self.conversation():
            for request in requests:
                assert (self.result_of(request) or b"") in answers

    def test_nothing_is_said_twice(self, target: BlockTarget) -> None:
        protocol = target.connect(EXPORTS)
        self.run(protocol, 1 << 30)
        assert sent(protocol) == b""
        assert list(protocol.requests()) == []

    def test_requests_are_completed_in_any_order(self, target: BlockTarget) -> None:
        requests: list[BlockRequest] = []
        protocol = target.connect(EXPORTS)
        for said, _ in self.conversation():
            protocol.receive_data(memoryview(said))
            requests += protocol.requests()
        for request in reversed(requests):
            protocol.complete(request, self.result_of(request))
        forward = b"".join(self.run(target.connect(EXPORTS), 1 << 30))
        assert sorted(sent(protocol)) == sorted(forward)

    def test_an_error_is_answered_and_the_connection_goes_on(self, target: BlockTarget) -> None:
        well = target.connect(EXPORTS)
        self.run(well, 1 << 30)
        protocol = target.connect(EXPORTS)
        said = self.run(protocol, 1 << 30, DeviceFailed("/var/lib/canary7f3a91"))
        assert any(said)
        assert protocol.closing == well.closing
        assert b"canary7f3a91" not in b"".join(said)

    def test_garbage_ends_the_connection(self, target: BlockTarget) -> None:
        assert self.garbage()
        for said in self.garbage():
            protocol = target.connect(EXPORTS)
            try:
                protocol.receive_data(memoryview(said))
            except RemoteProtocolError:
                continue
            assert protocol.closing, said
            assert list(protocol.requests()) == [], said

    def test_a_client_that_goes_away(self, target: BlockTarget) -> None:
        whole = b"".join(said for said, _ in self.conversation())
        for length in range(0, len(whole), max(1, len(whole) // 50)):
            protocol = target.connect(EXPORTS)
            protocol.receive_data(memoryview(whole[:length]))
            requests = list(protocol.requests())
            protocol.receive_eof()
            for request in requests:  # they were under way
                protocol.complete(request, self.result_of(request))
            assert list(protocol.requests()) == []

    def test_connections_know_nothing_of_each_other(self, target: BlockTarget) -> None:
        first, second = target.connect(EXPORTS), target.connect(EXPORTS)
        said = self.conversation()[0][0]
        first.receive_data(memoryview(said[: len(said) // 2]))
        assert self.run(second, 1 << 30) == self.run(target.connect(EXPORTS), 1 << 30)
