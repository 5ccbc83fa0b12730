"""Small reads of one turn of the loop as one call.

A call costs each end some twenty microseconds of its processor, whatever it carries, and a small GET
reads as many shards as the code has data shards, often from devices of one process; so do the other
GETs of the moment. What the far side has in its memory or page cache comes with the answer; what
it would have to wait for is asked for again, alone.
"""

from __future__ import annotations

import asyncio

from objectio.errors import ObjectIOError, RemoteProtocolError, Unavailable
from objectio.rpc.client import Channel, Reply
from objectio.rpc.messages import pack
from objectio.rpc.shards_messages import READS_MAX, SMALL_BYTES_MAX, Method, Read, unpack_lengths
from objectio.rpc.turn import Turn

Found = asyncio.Future[memoryview | None]


class SmallReads:
    """Those of one channel."""

    def __init__(self, channel: Channel, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._turn: Turn[Read, memoryview | None] = Turn(READS_MAX, self._send)

    def takes(self, length: int | None) -> bool:
        return length is not None and length <= SMALL_BYTES_MAX

    def read(self, read: Read) -> Found:
        """None if it must be asked for alone. Raises `Unavailable`."""
        return self._turn.ask(read)

    def _send(self, reads: list[tuple[Read, Found]], background: bool) -> None:
        if len(reads) < 2:
            reads[0][1].set_result(None)
            return

        def done(reply: Reply | None, error: BaseException | None) -> None:
            if reply is not None:
                try:
                    _share(reply, reads)
                    return
                except RemoteProtocolError as malformed:
                    error = malformed
            for _, found in reads:
                if not found.done():
                    assert error is not None
                    found.set_exception(error)

        connection = self._channel.connection
        try:
            if connection is None:
                raise Unavailable("there is no connection", reason="disconnected")
            connection.start(
                Method.READ_MANY,
                b"",
                (pack([read for read, _ in reads]),),
                done,
                background=background,
                timeout_seconds=self._timeout_seconds,
            )
        except ObjectIOError as error:
            done(None, error)


def _share(reply: Reply, reads: list[tuple[Read, Found]]) -> None:
    lengths, payload = unpack_lengths(reply.head), memoryview(reply.payload)
    if len(lengths) != len(reads) or sum(each or 0 for each in lengths) != len(payload):
        raise RemoteProtocolError(
            "other reads were answered than were asked for", reason="malformed"
        )
    at = 0
    for length, (_, found) in zip(lengths, reads, strict=True):
        piece = None if length is None else payload[at : at + length]
        at += length or 0
        if not found.done():
            found.set_result(piece)
