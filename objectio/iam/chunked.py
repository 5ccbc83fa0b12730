"""The aws-chunked content encoding of S3 uploads. No I/O: bytes in, bytes out.

Three forms, named by x-amz-content-sha256 (S3 API reference, "Signature calculations: transferring
payload in multiple chunks" and "including trailing headers"):

    STREAMING-AWS4-HMAC-SHA256-PAYLOAD            signed chunks
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER    signed chunks, then signed trailers
    STREAMING-UNSIGNED-PAYLOAD-TRAILER            bare chunks, then trailers

    body     = *( size [ ";chunk-signature=" 64HEX ] CRLF data CRLF )
               "0" [ ";chunk-signature=" 64HEX ] CRLF *( trailer CRLF ) CRLF

Theory of operation. `ChunkedDecoder` knows framing alone: it takes the stream in whatever pieces it
comes and gives the data. Its states are HEADER → DATA → DATA_END → HEADER … and, after the chunk of
size 0, TRAILER → DONE. Everything is checked against x-amz-decoded-content-length as it comes, so a
chunk that promises more is refused at its header. What it keeps between calls is bounded by
`LINE_BYTES_MAX` or `TRAILER_BYTES_MAX`. `ChunkSignatures` knows the chain of signatures alone: the
decoder announces each chunk by size and signature, and the data is hashed where it suits the
caller, which is the worker thread that computes all other digests of the payload too.
"""

from __future__ import annotations

import hmac
import re
from collections import deque
from collections.abc import Collection
from enum import Enum, auto
from hashlib import sha256
from typing import Final

from typing_extensions import Buffer

from objectio.errors import (
    LocalProtocolError,
    PayloadDigestMismatch,
    PayloadIncomplete,
    PayloadMalformed,
)
from objectio.iam import canonical

LINE_BYTES_MAX: Final = 256  # 16 hex digits, the extension's name and 64 hex digits are 97
TRAILER_BYTES_MAX: Final = 8 * 1024
TRAILERS_MAX: Final = 16
TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"

_SIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_BARE_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})()")
_TRAILER_NAME = re.compile(rb"[A-Za-z0-9-]{1,128}")
_TRAILER_VALUE = re.compile(rb"[\x20-\x7e]+")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


class ChunkSignatures:
    """Verifies the chain in which each chunk's signature covers the one before it.

    `announce` is called by the decoder, `digest` for the data in order, `finish` at the end. The
    first two may run in different threads: a chunk is announced before its data is handed out.
    """

    def __init__(self, key: bytes, timestamp: bytes, scope: bytes, seed: bytes) -> None:
        self._key = key
        self._prefix = timestamp + b"\n" + scope + b"\n"
        self._previous = seed
        self._announced: deque[tuple[int, bytes]] = deque()
        self._left = 0
        self._expected = b""
        self._hash = sha256()
        self._failed = False

    def announce(self, size: int, signature: bytes) -> None:
        self._announced.append((size, signature))

    def digest(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        position = 0
        while position < view.nbytes:
            if not self._left:
                if not self._announced:
                    raise LocalProtocolError("more data than chunks were announced")
                self._left, self._expected = self._announced.popleft()
                self._hash = sha256()
            piece = view[position : position + self._left]
            self._hash.update(piece)
            position += piece.nbytes
            self._left -= piece.nbytes
            if not self._left:
                self._close(self._hash.hexdigest().encode(), self._expected)

    def _close(self, digest: bytes, expected: bytes) -> None:
        text = canonical.chunk_string_to_sign(self._prefix, self._previous, digest)
        self._previous = canonical.signature(self._key, text)
        if not hmac.compare_digest(self._previous, expected):
            self._failed = True

    def finish(self, trailers: list[tuple[bytes, bytes]] | None, trailer_signature: bytes) -> None:
        """Checks the last chunk (of size 0) and the trailers, if the form has them."""
        if self._left or len(self._announced) != 1 or self._announced[0][0] != 0:
            raise LocalProtocolError("finish was called before all data was digested")
        self._close(canonical.EMPTY_SHA256, self._announced.popleft()[1])
        if trailers is not None and not self._failed:
            # As sent, or sorted by name: clients differ where there are several.
            self._failed = not any(
                hmac.compare_digest(self._trailer_signature(order), trailer_signature)
                for order in (trailers, sorted(trailers))
            )
        if self._failed:
            raise PayloadDigestMismatch(
                "The chunk signature we calculated does not match the signature you provided.",
                digest="chunk-signature",
                reason="SignatureDoesNotMatch",
            )

    def _trailer_signature(self, trailers: list[tuple[bytes, bytes]]) -> bytes:
        block = b"".join(name + b":" + value + b"\n" for name, value in trailers)
        digest = sha256(block).hexdigest().encode()
        text = canonical.trailer_string_to_sign(self._prefix, self._previous, digest)
        return canonical.signature(self._key, text)


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()


def _malformed(message: str, reason: str = "InvalidRequest") -> PayloadMalformed:
    return PayloadMalformed(message, reason=reason)


class ChunkedDecoder:
    """Framing. `feed` answers the data in what it was given; `finish` when no more will come."""

    def __init__(
        self,
        decoded_size: int,
        *,
        signed: bool,
        with_trailer: bool,
        declared_trailers: Collection[str] = (),
        signatures: ChunkSignatures | None = None,
    ) -> None:
        self._header = _SIGNED_HEADER if signed else _BARE_HEADER
        self._signed = signed
        self._with_trailer = with_trailer
        self._declared = frozenset(declared_trailers)
        self._signatures = signatures
        self._state = _State.HEADER
        self._pending = b""  # the beginning of a line
        self._left_total = decoded_size
        self._left = 0
        self._trailer_bytes = 0
        self._trailers: dict[str, str] = {}
        self._trailer_signature = ""

    @property
    def done(self) -> bool:
        """The last chunk and everything behind it has been seen."""
        return self._state is _State.DONE

    @property
    def trailers(self) -> dict[str, str]:
        """By lower-case name; complete when `done`."""
        return self._trailers

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes that `data` brings. Raises `PayloadMalformed`."""
        if self._pending:
            data, self._pending = self._pending + data, b""
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            state = self._state
            if state is _State.DATA:
                end = min(position + self._left, size)
                piece = data[position:end]
                pieces.append(piece)
                position = end
                self._left -= len(piece)
                if not self._left:
                    self._state = _State.DATA_END
            elif state is _State.DATA_END:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise _malformed("a chunk's data is not followed by CRLF")
                if size - position < 2:
                    break
                position += 2
                self._state = _State.HEADER
            elif state is _State.DONE:
                raise _malformed("bytes follow the last chunk")
            else:
                end = self._line_end(data, position)
                if end < 0:
                    break
                self._take_line(data[position:end])
                position = end + 1
        self._pending = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """The stream has ended. Raises `PayloadIncomplete` if that was too early."""
        if self._state is not _State.DONE:
            raise PayloadIncomplete(
                "The request body terminated unexpectedly", reason="IncompleteBody"
            )

    def verify(self) -> None:
        """After `finish` and the last `ChunkSignatures.digest`: the chain, if there is one."""
        if self._signatures is not None:
            trailers = [(k.encode(), v.encode()) for k, v in self._trailers.items()]
            self._signatures.finish(
                trailers if self._with_trailer else None, self._trailer_signature.encode()
            )

    def _line_end(self, data: bytes, position: int) -> int:
        """Where the newline is, -1 if it has not come yet."""
        if self._state is _State.HEADER:
            limit = LINE_BYTES_MAX
        else:
            limit = TRAILER_BYTES_MAX - self._trailer_bytes
        end = data.find(b"\n", position, position + limit)
        if end < 0 and len(data) - position >= limit:
            raise _malformed("a chunk header or trailer is too long")
        return end

    def _take_line(self, line: bytes) -> None:
        if self._state is _State.HEADER:
            self._take_header(line)
            return
        self._trailer_bytes += len(line) + 1
        line = line.removesuffix(b"\r")
        if line:
            self._take_trailer(line)
        elif not self._is_blank_before_signature():
            self._end()

    def _is_blank_before_signature(self) -> bool:
        """minio-go puts an empty line between the trailers and their signature."""
        return self._signed and self._with_trailer and not self._trailer_signature

    def _take_header(self, line: bytes) -> None:
        match = self._header.fullmatch(line[:-1]) if line.endswith(b"\r") else None
        if match is None:
            raise _malformed("a chunk header is malformed")
        size = int(match[1], 16)
        if size > self._left_total:
            raise _malformed("the chunks hold more than x-amz-decoded-content-length")
        if not size and self._left_total:
            raise PayloadIncomplete(
                "the chunks hold less than x-amz-decoded-content-length", reason="IncompleteBody"
            )
        if self._signatures is not None:
            self._signatures.announce(size, match[2])
        self._left_total -= size
        self._left = size
        self._state = _State.DATA if size else _State.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        raw_name, _, raw_value = line.partition(b":")
        raw_value = raw_value.strip()
        if not (
            self._with_trailer
            and _TRAILER_NAME.fullmatch(raw_name)
            and _TRAILER_VALUE.fullmatch(raw_value)
        ):
            raise _malformed("The trailer is malformed", "MalformedTrailerError")
        name, value = raw_name.decode().lower(), raw_value.decode()
        if self._trailer_signature:
            raise _malformed("a trailer follows its signature", "MalformedTrailerError")
        if name == TRAILER_SIGNATURE and self._signed:
            if not _SIGNATURE.fullmatch(value):
                raise _malformed("The trailer signature is malformed", "MalformedTrailerError")
            self._trailer_signature = value
        elif name not in self._declared or name in self._trailers:
            raise _malformed(
                f"the trailer {name} was not declared in x-amz-trailer, or came twice",
                "MalformedTrailerError",
            )
        else:
            self._trailers[name] = value

    def _end(self) -> None:
        missing = self._declared - self._trailers.keys()
        if missing:
            raise _malformed(
                f"the declared trailer {min(missing)} was not sent", "MalformedTrailerError"
            )
        self._state = _State.DONE
