"""Frames: what the wire is made of, as bytes to frames and back, without any I/O.

A frame is a fixed header, a *head* (a MessagePack value, small) and a *payload* (raw bytes, maybe
large). `docs/explanation/wire.md` gives the layout. One XXH3-64 covers everything after itself, from
the sender's buffers to the receiver's, so that a payload which arrives is the payload that was sent;
it is no protection against people, which is what TLS is for.

`FrameReader` is written for `asyncio.BufferedProtocol`: it hands out the memory that the socket
receives into. Small frames come many to a read, in a buffer that is used again; what of a large
payload has not come yet is received straight into the memory where it is needed, which its owner
allocates when the head of the frame is known.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from typing_extensions import Buffer
from xxhash import xxh3_64, xxh3_64_intdigest

from objectio.errors import LocalProtocolError, RemoteProtocolError
from objectio.limits import KIB, MIB, SHARD_SIZE_BYTES_MAX

PROTOCOL_VERSION: Final = 1

_HEADER: Final = struct.Struct("<QIBBHIII")
_FIELDS: Final = struct.Struct("<IBBHIII")
_CHECKSUM: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size

HEAD_BYTES_MAX: Final = 32 * KIB
"""A head is parsed as a whole out of the receive buffer; what may be longer goes in the payload."""
PAYLOAD_BYTES_MAX: Final = SHARD_SIZE_BYTES_MAX
FRAME_BYTES_MAX: Final = HEADER_BYTES + HEAD_BYTES_MAX + PAYLOAD_BYTES_MAX
HANDSHAKE_FRAME_BYTES_MAX: Final = 4 * KIB
"""Whoever has not yet proved who they are may not have more allocated for them."""
RECEIVE_BUFFER_BYTES: Final = 64 * KIB
"""At most this much of a large payload is copied once more; and it holds hundreds of small frames."""
DIRECT_BYTES_MIN: Final = 16 * KIB
"""Payloads from this length on get memory of their own."""
JOINED_BYTES_MAX: Final = 4 * KIB
"""Payloads up to this length are copied behind their head: cheaper than one more buffer to send."""
_COMPACT_BYTES: Final = RECEIVE_BUFFER_BYTES // 2

assert HEADER_BYTES + HEAD_BYTES_MAX + DIRECT_BYTES_MIN <= RECEIVE_BUFFER_BYTES <= MIB

FLAG_BACKGROUND: Final = 1
"""Repair, scrub and their like: served when nobody else waits."""
_FLAGS_KNOWN: Final = FLAG_BACKGROUND


class Kind(enum.IntEnum):
    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    READY = 4
    CALL = 5
    REPLY = 6
    ERROR = 7
    CANCEL = 8
    PING = 9
    PONG = 10
    GOAWAY = 11


_KIND_MAX: Final = max(Kind)


class Header(NamedTuple):
    """The header of a frame, without its lengths and checksum."""

    kind: int
    flags: int = 0
    method: int = 0
    call_id: int = 0
    timeout_ms: int = 0


class Frame(NamedTuple):
    header: Header
    head: bytes
    payload: bytes | memoryview
    """`bytes`, or the memory that the receiver allocated."""


class Encoded(NamedTuple):
    """A frame to send: its buffers in order. Large ones are the caller's own."""

    parts: list[Buffer]
    size_bytes: int


def encode(header: Header, head: bytes = b"", payload: Sequence[Buffer] = ()) -> Encoded:
    """The bytes of a frame. A payload that is not small is not copied: it must not change until it
    has been sent. Raises `LocalProtocolError` for what is beyond the limits."""
    head_bytes = len(head)
    payload_bytes = 0
    for part in payload:
        payload_bytes += memoryview(part).nbytes
    if head_bytes > HEAD_BYTES_MAX or payload_bytes > PAYLOAD_BYTES_MAX:
        raise LocalProtocolError(
            f"a frame holds {HEAD_BYTES_MAX} and {PAYLOAD_BYTES_MAX} bytes at most, "
            f"not {head_bytes} and {payload_bytes}"
        )
    size_bytes = HEADER_BYTES + head_bytes + payload_bytes
    kind, flags, method, call_id, timeout_ms = header
    fields = _FIELDS.pack(size_bytes, kind, flags, method, call_id, head_bytes, timeout_ms)
    if payload_bytes <= JOINED_BYTES_MAX:
        body = b"".join((fields, head, *payload))
        return Encoded([_CHECKSUM.pack(xxh3_64_intdigest(body)) + body], size_bytes)
    start = fields + head
    digest = xxh3_64(start)
    parts: list[Buffer] = [b""]
    for part in payload:
        view = memoryview(part).cast("B")
        if view.nbytes:
            digest.update(view)
            parts.append(view)
    parts[0] = _CHECKSUM.pack(digest.intdigest()) + start
    return Encoded(parts, size_bytes)


class Allocator(Protocol):
    """Where large payloads go."""

    def allocate(self, header: Header, head: bytes, payload_bytes: int) -> memoryview | None:
        """Memory for exactly so many bytes, or None if there is none now: the reader is then
        `blocked`. Raises `RemoteProtocolError` where nobody wants the frame."""
        ...


class _Large:
    """A frame whose payload has memory of its own and is not complete yet."""

    __slots__ = ("checksum", "digest", "filled", "head", "header", "target")

    def __init__(
        self, header: Header, head: bytes, checksum: int, digest: xxh3_64, target: memoryview
    ) -> None:
        self.header = header
        self.head = head
        self.checksum = checksum
        self.digest = digest
        self.target = target
        self.filled = 0

    def add(self, count: int) -> bool:
        """So many bytes more are in the target. Whether it is complete."""
        self.digest.update(self.target[self.filled : self.filled + count])
        self.filled += count
        return self.filled == self.target.nbytes

    def frame(self) -> Frame:
        if self.digest.intdigest() != self.checksum:
            raise _damaged()
        return Frame(self.header, self.head, self.target)


class FrameReader:
    """Received bytes in, frames out. An error ends it: what follows cannot be told apart."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._memory = bytearray(RECEIVE_BUFFER_BYTES)
        self._view = memoryview(self._memory)
        self._start = 0
        self._end = 0
        self._large: _Large | None = None
        self.frame_bytes_max = HANDSHAKE_FRAME_BYTES_MAX
        """Raised to `FRAME_BYTES_MAX` once the peer is known."""
        self.blocked = False
        """Waits for memory: receive nothing more, and call `resume` when there is some."""

    def get_buffer(self) -> memoryview:
        """Where to receive to, never empty."""
        if (large := self._large) is not None:
            return large.target[large.filled :]
        start, end = self._start, self._end
        if start == end:
            self._start = self._end = 0
            return self._view
        if start and RECEIVE_BUFFER_BYTES - end < _COMPACT_BYTES:
            self._memory[: end - start] = self._memory[start:end]
            self._start, self._end = 0, end - start
        if self._end == RECEIVE_BUFFER_BYTES:
            raise LocalProtocolError("received more while there was no memory for it")
        return self._view[self._end :]

    def received(self, count: int) -> Iterator[Frame]:
        """The frames that `count` more bytes complete. Exhaust it before the next `get_buffer`."""
        if (large := self._large) is not None:
            if large.add(count):
                self._large = None
                yield large.frame()
            return
        self._end += count
        yield from self.resume()

    def resume(self) -> Iterator[Frame]:
        """The frames in what was received already; more than none only if it was `blocked`."""
        view = self._view
        self.blocked = False
        while (held := self._end - (start := self._start)) >= HEADER_BYTES:
            checksum, length, kind, flags, method, call_id, head_bytes, timeout_ms = (
                _HEADER.unpack_from(view, start)
            )
            header_end = start + HEADER_BYTES
            payload_bytes = length - HEADER_BYTES - head_bytes
            if (
                head_bytes > HEAD_BYTES_MAX
                or length > self.frame_bytes_max
                or not 0 <= payload_bytes <= PAYLOAD_BYTES_MAX
                or not 0 < kind <= _KIND_MAX
                or flags & ~_FLAGS_KNOWN
            ):
                raise _malformed(length, kind, flags, head_bytes)
            if payload_bytes >= DIRECT_BYTES_MIN:
                if held < HEADER_BYTES + head_bytes:
                    return
                head = bytes(view[header_end : header_end + head_bytes])
                header = Header(kind, flags, method, call_id, timeout_ms)
                frame = self._begin_large(header, head, checksum, payload_bytes)
                if frame is None:
                    return
                yield frame
                continue
            if held < length:
                return
            self._start = stop = start + length
            if xxh3_64_intdigest(view[start + 8 : stop]) != checksum:
                raise _damaged()
            head_end = header_end + head_bytes
            yield Frame(
                Header(kind, flags, method, call_id, timeout_ms),
                bytes(view[header_end:head_end]),
                bytes(view[head_end:stop]) if payload_bytes else b"",
            )

    def _begin_large(
        self, header: Header, head: bytes, checksum: int, payload_bytes: int
    ) -> Frame | None:
        """Move what has come of a large payload to its place; the frame if that is all of it."""
        target = self._allocator.allocate(header, head, payload_bytes)
        if target is None:
            self.blocked = True
            return None
        if target.nbytes != payload_bytes:
            raise LocalProtocolError("memory for a payload that is not of its length")
        body = self._start + 8
        at = self._start + HEADER_BYTES + len(head)
        large = _Large(header, head, checksum, xxh3_64(self._view[body:at]), target)
        count = min(payload_bytes, self._end - at)
        target[:count] = self._view[at : at + count]
        self._start = at + count
        if large.add(count):
            return large.frame()
        self._large = large
        return None

    def redirect(self, call_id: int) -> memoryview | None:
        """If the payload of this call is being received, receive the rest of it elsewhere: its
        owner has gone. Returns the memory that is free then."""
        large = self._large
        if large is None or large.header.call_id != call_id:
            return None
        left, large.target = large.target, memoryview(bytearray(large.target.nbytes))
        return left


def _malformed(length: int, kind: int, flags: int, head_bytes: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"no frame of this protocol: {length} bytes with a head of {head_bytes}, kind {kind}, "
        f"flags {flags:#x}",
        reason="malformed",
    )


def _damaged() -> RemoteProtocolError:
    return RemoteProtocolError(
        "a frame arrived with other bytes than it was sent with", reason="checksum"
    )
