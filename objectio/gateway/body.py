"""The body of one request, with its authentication wired in: what front ends get as `RequestBody`.

Theory of operation. The gate decides from the signed x-amz-content-sha256 what the sender promised
(`PayloadMode`), and the declared size is known before the first byte. `read` takes bytes from the
server, strips the framing of aws-chunked if there is one, and counts. `digest` is called by whoever
consumes the bytes, in a worker thread for large buffers, and feeds every digest that the body needs:
SHA-256 for a literal hash, the chain of chunk signatures, MD5, whatever the front end added. It only
records; `finish` compares. Nothing that was read may be trusted before `finish` has returned.

MD5 is computed once, for Content-MD5 and for the ETag: whoever wants it takes `md5`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from typing_extensions import Buffer

from objectio.abc.objects import PayloadDigests
from objectio.errors import (
    CredentialsMalformed,
    LocalProtocolError,
    OperationNotImplemented,
    PayloadDigestMismatch,
    PayloadIncomplete,
    PayloadMalformed,
    PayloadTimeout,
    PayloadTooLarge,
)
from objectio.iam import canonical
from objectio.iam.chunked import TRAILERS_MAX, ChunkedDecoder, ChunkSignatures
from objectio.limits import PUT_SIZE_BYTES_MAX

if TYPE_CHECKING:
    from hashlib import _Hash

    from objectio.abc.api import Receive
    from objectio.iam.sigv4 import Signed

BODY_IDLE_SECONDS_MAX: Final = 60.0  # a sender that is silent for so long has gone
UNSIZED_BYTES_MAX: Final = 1024 * 1024
"""How much of object data is kept whose size nobody declared: it must be known before it is written,
so it is read first. Longer ones must be declared, as S3 has it for all."""


class Pace(NamedTuple):
    """What is asked of a sender, while it is waited for: it must not be silent for `idle_seconds`, and
    over as long must send so many bytes per second (0: any number)."""

    idle_seconds: float = BODY_IDLE_SECONDS_MAX
    bytes_per_second_min: float = 0.0


_PACE: Final = Pace()
_SIZE = re.compile(rb"[0-9]{1,18}")
_HEX_SHA256 = re.compile(rb"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class _Framing:
    signed: bool
    with_trailer: bool


_FRAMINGS = {
    canonical.STREAMING_SIGNED: _Framing(signed=True, with_trailer=False),
    canonical.STREAMING_SIGNED_TRAILER: _Framing(signed=True, with_trailer=True),
    canonical.STREAMING_UNSIGNED_TRAILER: _Framing(signed=False, with_trailer=True),
}


# What may stand for the payload's hash when there is nothing to check; b"" is no header at all.
_COVERS_NOTHING = frozenset({b"", canonical.UNSIGNED_PAYLOAD})
_NEEDS_NO_BODY = frozenset({b"", canonical.UNSIGNED_PAYLOAD, canonical.EMPTY_SHA256})
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"content-md5"})


def _no_checksums() -> Mapping[str, str]:
    return {}


class Body:
    """Implements `objectio.abc.api.RequestBody` over an ASGI `receive`. Made by `open_body`."""

    # What most bodies do not have is left in the class: a GET pays for two attributes.
    size: int = 0
    declared_trailers: Sequence[str] = ()
    _wire_size: int | None = 0
    _wire_received = 0
    _wire_ended = False
    _decoder: ChunkedDecoder | None = None
    _received = 0
    _digested = 0
    _updates: tuple[Callable[[Any], None], ...] = ()
    _checks: tuple[Callable[[Mapping[str, str]], None], ...] = ()
    _sha256: _Hash | None = None
    _expected_sha256 = b""
    _md5: _Hash | None = None
    _expected_md5 = b""
    _etag: Callable[[], str] | None = None
    _checksums: Callable[[], Mapping[str, str]] = staticmethod(_no_checksums)
    _verified = False
    _received_by_asgi = False
    _whole: bytes | None = None
    _unsized = False
    _kept: bytes | None = None
    _pace = _PACE
    _deadline: _Deadline | None = None

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    # -- reading

    @property
    def unread(self) -> int | None:
        """How many bytes are still to come over the wire; None if nobody knows."""
        if self._wire_ended:
            return 0
        return None if self._wire_size is None else self._wire_size - self._wire_received

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. The last ones are handed out only when everything behind
        them (the framing's end, the trailers) has come as well."""
        if self._received == self.size and (self._decoder is None or self._decoder.done):
            return b""
        if self._kept is not None:
            self._received = self.size
            return self._kept
        data = await self._read_some()
        if self._received == self.size and self._decoder is not None:
            while not self._decoder.done:
                data += await self._read_some()
            if self._wire_size is not None and not self._wire_ended:
                raise PayloadMalformed("bytes follow the last chunk", reason="InvalidRequest")
        return data

    async def _read_some(self) -> bytes:
        """At least one byte, or the end of the framing. Raises if the sender stops before."""
        while True:
            data = await self._read_wire()
            if self._decoder is not None:
                ended = self._wire_ended
                data = self._decoder.feed(data)
                if ended:
                    self._decoder.finish()
                if not data and self._decoder.done:
                    return b""
            if data:
                self._received += len(data)
                if self._received > self.size:
                    raise PayloadMalformed(
                        "the body is longer than declared", reason="InvalidRequest"
                    )
                if self._wire_ended and self._received < self.size:
                    _raise_incomplete()
                return data
            if self._wire_ended:
                _raise_incomplete()

    async def _read_wire(self) -> bytes:
        if self._wire_ended:
            return b""
        if self._deadline is None:
            self._deadline = _Deadline(self._pace)
        try:
            message = await self._deadline.guard(self._receive)
        except PayloadTimeout:
            self._wire_size = None  # of which nobody waits for the rest
            raise
        if message["type"] == "http.disconnect":
            self._wire_ended = True
            _raise_incomplete()
        data: bytes = message.get("body", b"")
        self._wire_received += len(data)
        self._deadline.received_bytes += len(data)
        if not message.get("more_body", False) or self._wire_received == self._wire_size:
            self._wire_ended = True
        return data

    async def read_all(self) -> bytes:
        """All of a small body, verified to the end. May be called again."""
        if self._whole is None:
            pieces = []
            while data := await self.read():
                self.digest(data)
                pieces.append(data)
            self.finish()
            self._whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        elif self._checks:
            self._run_checks()
        return self._whole

    @property
    def is_unsized(self) -> bool:
        """Whether its size is not known before `settle`."""
        return self._unsized

    @property
    def bytes_in(self) -> int:
        """What came over the wire so far, framing included."""
        return self._wire_received

    @property
    def must_be_read(self) -> bool:
        """There are bytes, or framing around none, or a promise about them to check."""
        return self.size > 0 or self._decoder is not None or bool(self._updates) or self._unsized

    async def settle(self) -> None:
        """Reads the framing around a body of no bytes, since nobody else would; and what nobody
        declared the size of."""
        if self._unsized:
            await self._keep()
        if not self.size and self._decoder is not None:
            await self.read()

    async def _keep(self) -> None:
        pieces = []
        while not self._wire_ended:
            pieces.append(await self._read_wire())
            if self._wire_received > UNSIZED_BYTES_MAX:
                _refuse_unknown_size()
        self._kept = b"".join(pieces)
        self.size, self._unsized = len(self._kept), False

    async def receive(self) -> dict[str, Any]:
        """The ASGI `receive` that a front end is given: a body that is verified already. Object
        data comes by `read`, so that nobody streams it past its verification."""
        if self._whole is None and self.must_be_read:
            raise LocalProtocolError("object data is read from scope['objectio'].body")
        if not self._received_by_asgi:
            self._received_by_asgi = True
            return {"type": "http.request", "body": self._whole or b"", "more_body": False}
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return dict(message)

    # -- digests

    @property
    def md5(self) -> _Hash:
        """The running MD5 of the body: ask before the first byte is digested, read it after the
        last. It is the same one that Content-MD5 is checked with."""
        if self._md5 is None:
            self._md5 = hashlib.md5(usedforsecurity=False)
            self.add_digest("md5", self._md5.update)
        return self._md5

    def add_digest(self, name: str, update: Callable[[Any], None]) -> None:
        if self._whole is not None:
            update(self._whole)
        elif self._digested:
            raise LocalProtocolError(f"the digest {name} was added after the first byte")
        else:
            self._updates += (update,)

    def add_check(self, check: Callable[[Mapping[str, str]], None]) -> None:
        self._checks += (check,)

    def set_etag(self, etag: Callable[[], str], checksums: Callable[[], Mapping[str, str]]) -> None:
        self._etag = etag
        self._checksums = checksums

    def digest(self, data: Buffer) -> None:
        self._digested += len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        for update in self._updates:
            update(data)

    def finish(self) -> PayloadDigests:
        """Compares all that was promised. The ETag is the MD5 if nobody set another."""
        if not self._verified:
            self._verify()
            self._verified = True
        self._run_checks()
        if self._etag is not None:
            etag = self._etag()
        else:
            etag = self._md5.hexdigest() if self._md5 is not None else ""
        return PayloadDigests(etag, self._checksums())

    def _verify(self) -> None:
        if self._received != self.size:
            _raise_incomplete()
        if self._digested != self.size:
            raise LocalProtocolError(
                f"{self._digested} of {self.size} bytes were digested: they cannot be verified"
            )
        if self._decoder is not None:
            self._decoder.finish()
            self._decoder.verify()
        if self._sha256 is not None and not hmac.compare_digest(
            self._sha256.hexdigest().encode(), self._expected_sha256
        ):
            raise PayloadDigestMismatch(
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
                digest="sha256-header",
                reason="XAmzContentSHA256Mismatch",
                client=self._expected_sha256.decode(),
                server=self._sha256.hexdigest(),
            )
        if self._expected_md5 and self.md5.digest() != self._expected_md5:
            raise PayloadDigestMismatch(
                "The Content-MD5 you specified did not match what we received.",
                digest="md5",
                reason="BadDigest",
                expected=self._expected_md5.hex(),
                calculated=self.md5.hexdigest(),
            )

    def _run_checks(self) -> None:
        trailers = {} if self._decoder is None else self._decoder.trailers
        checks, self._checks = self._checks, ()
        for check in checks:
            check(trailers)

    # -- set up, by open_body

    def expect_size(self, size: int, wire_size: int | None) -> None:
        self.size, self._wire_size = size, wire_size

    def expect_any_size(self) -> None:
        self._wire_size, self._unsized = None, True

    def expect_sha256(self, expected: bytes) -> None:
        self._expected_sha256 = expected.lower()
        self._sha256 = hashlib.sha256()
        self._updates += (self._sha256.update,)

    def expect_md5(self, expected: bytes) -> None:
        self._expected_md5 = expected
        _ = self.md5

    def expect_chunks(
        self, framing: _Framing, trailers: Sequence[str], signatures: ChunkSignatures | None
    ) -> None:
        self.declared_trailers = trailers
        self._decoder = ChunkedDecoder(
            self.size,
            signed=framing.signed,
            with_trailer=framing.with_trailer,
            declared_trailers=trailers,
            signatures=signatures,
        )
        if signatures is not None:
            self._updates += (signatures.digest,)


class _Deadline:
    """Ends a wait that takes too long. No timer of its own: most waits are over at once, and a
    watch over all of them costs less than a timer for each."""

    __slots__ = (
        "_bytes_per_second_min",
        "_waited_seconds",
        "_watch",
        "expired",
        "received_bytes",
        "seconds",
        "since",
        "task",
    )

    def __init__(self, pace: Pace) -> None:
        self._watch = _watch_of_loop()
        self.seconds, self._bytes_per_second_min = pace
        self.since = 0.0
        self.task: asyncio.Task[Any] | None = None
        self.expired = False
        # Since the pace was looked at last. Time in which nobody waited is not the sender's.
        self._waited_seconds = 0.0
        self.received_bytes = 0

    async def guard(self, receive: Receive) -> Any:
        self.task = task = asyncio.current_task()
        self._watch.add(self)
        try:
            return await receive()
        except asyncio.CancelledError:
            # As in asyncio.timeout: a cancellation from elsewhere at the same time goes on.
            if self.expired and task is not None and task.uncancel() <= 0:
                raise PayloadTimeout(
                    "Your socket connection to the server was not read from or written to "
                    "within the timeout period.",
                    reason="RequestTimeout",
                ) from None
            raise
        finally:
            self._watch.waiting.pop(self, None)
            self._waited_seconds += self._watch.loop.time() - self.since

    def is_late(self, now: float) -> bool:
        """Asked while it is waited for."""
        silent_seconds = now - self.since
        if silent_seconds >= self.seconds:
            return True
        waited_seconds = self._waited_seconds + silent_seconds
        if waited_seconds < self.seconds:
            return False
        if self.received_bytes < self._bytes_per_second_min * waited_seconds:
            return True
        self._waited_seconds, self.received_bytes = -silent_seconds, 0
        return False


class _Watch:
    """Looks at all waits of a loop now and then; a wait is ended at most a quarter late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: dict[_Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: _Deadline) -> None:
        deadline.since = self.loop.time()
        self.waiting[deadline] = None
        if self._timer is None:
            self._timer = self.loop.call_later(deadline.seconds / 4, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        for deadline in list(self.waiting):
            if deadline.task is not None and deadline.is_late(now):
                del self.waiting[deadline]
                deadline.expired = True
                deadline.task.cancel()
        if self.waiting:
            pause = min(deadline.seconds for deadline in self.waiting) / 4
            self._timer = self.loop.call_later(pause, self._look)


_watch: _Watch | None = None


def _watch_of_loop() -> _Watch:
    global _watch
    loop = asyncio.get_running_loop()
    if _watch is None or _watch.loop is not loop:
        _watch = _Watch(loop)
    return _watch


def _raise_incomplete() -> NoReturn:
    raise PayloadIncomplete(
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        reason="IncompleteBody",
    )


def open_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    signed: Signed | None,
    *,
    payload: bool,
    bytes_max: int = PUT_SIZE_BYTES_MAX,
    pace: Pace = _PACE,
) -> Body:
    """The body that the headers declare. `signed` None: nobody vouches for it (no-auth mode), so
    framing and plain hashes are honoured and chunk signatures are not.

    `payload` says that it is object data, whose size must be declared.
    """
    body = Body(receive)
    mode = headers.get(b"x-amz-content-sha256", b"") if signed is None else signed.content_sha256
    if not payload and mode in _NEEDS_NO_BODY and _BODY_HEADERS.isdisjoint(headers):
        return body  # nearly every GET
    framing = None
    if mode not in _COVERS_NOTHING:
        framing = _FRAMINGS.get(mode)
        if framing is None and not _HEX_SHA256.fullmatch(mode):
            _refuse_mode(mode)
    length = headers.get(b"content-length")
    if framing is None and length is None and b"transfer-encoding" not in headers and not payload:
        length = b"0"
    _declare_size(body, headers, length, framing, payload)
    if body.size > bytes_max:
        raise PayloadTooLarge(
            "Your proposed upload exceeds the maximum allowed size",
            reason="EntityTooLarge" if payload else "MaxMessageLengthExceeded",
            size=body.size,
            bytes_max=bytes_max,
        )
    body._pace = pace
    if framing is not None:
        _expect_chunks(body, headers, framing, signed)
    elif mode not in _COVERS_NOTHING and (
        body.size or body.is_unsized or mode.lower() != canonical.EMPTY_SHA256
    ):
        body.expect_sha256(mode)
    if b"content-md5" in headers:
        body.expect_md5(_parse_md5(headers[b"content-md5"]))
    return body


def _declare_size(
    body: Body,
    headers: Mapping[bytes, bytes],
    length: bytes | None,
    framing: _Framing | None,
    payload: bool,
) -> None:
    wire_size = None if length is None else _parse_size(length, "Content-Length")
    if framing is None:
        if wire_size is None and payload and b"transfer-encoding" in headers:
            body.expect_any_size()
            return
        if wire_size is None:
            _refuse_unknown_size()
        body.expect_size(wire_size, wire_size)
        return
    decoded = headers.get(b"x-amz-decoded-content-length")
    if decoded is None:
        _refuse_unknown_size()
    body.expect_size(_parse_size(decoded, "x-amz-decoded-content-length"), wire_size)


def _expect_chunks(
    body: Body, headers: Mapping[bytes, bytes], framing: _Framing, signed: Signed | None
) -> None:
    declared = headers.get(b"x-amz-trailer", b"").decode("latin-1").lower()
    trailers = tuple(name for part in declared.split(",") if (name := part.strip()))
    if len(trailers) > TRAILERS_MAX or (trailers and not framing.with_trailer):
        raise PayloadMalformed(
            "The value specified in the x-amz-trailer header is not supported",
            reason="InvalidRequest",
        )
    signatures = None
    if framing.signed and signed is not None:
        signatures = ChunkSignatures(signed.key, signed.timestamp, signed.scope, signed.signature)
    body.expect_chunks(framing, trailers, signatures)


def _refuse_mode(mode: bytes) -> NoReturn:
    if mode.startswith(b"STREAMING-"):
        raise OperationNotImplemented(
            f"x-amz-content-sha256 {mode.decode('latin-1')} is not supported",
            reason="NotImplemented",
        )
    raise CredentialsMalformed(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER "
        "or a valid sha256 value.",
        reason="InvalidArgument",
    )


def _refuse_unknown_size() -> NoReturn:
    raise PayloadMalformed(
        "You must provide the Content-Length HTTP header.", reason="MissingContentLength"
    )


def _parse_size(text: bytes, name: str) -> int:
    if not _SIZE.fullmatch(text):
        raise PayloadMalformed(f"{name} must be a number of bytes", reason="InvalidArgument")
    return int(text)


def _parse_md5(text: bytes) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise PayloadMalformed(
            "The Content-MD5 you specified was invalid.", reason="InvalidDigest", digest="md5"
        )
    return digest


def undeclared_body(receive: Receive, headers: Iterable[tuple[bytes, bytes]]) -> Body:
    """For a request that was refused before its body was understood: only good for `unread`."""
    body = Body(receive)
    for name, value in headers:
        if name == b"content-length":
            body.expect_size(0, int(value) if _SIZE.fullmatch(value) else None)
        elif name == b"transfer-encoding":
            body.expect_size(0, None)
    return body
