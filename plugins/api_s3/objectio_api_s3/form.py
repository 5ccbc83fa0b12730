"""A form with a file in it (multipart/form-data, RFC 7578), read as it comes.

The fields in front of the file are kept, up to a bound; the file is a payload that is read piece by
piece. It is the last field that counts (S3 API reference, "POST Object"): what follows is dropped.

A payload must know its size before it is read, and forms do not say that of a file. So the end of a
form that is short enough to keep is read first. Of a longer one the size follows from what must be
behind the file, which is the last boundary as every client writes it; if something else is there, the
upload fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from typing_extensions import Buffer

from objectio.abc.api import RequestBody
from objectio.abc.objects import PayloadDigests
from objectio.errors import PayloadMalformed
from objectio_api_s3 import checksums
from objectio_api_s3.errors import refuse

FIELDS_BYTES_MAX: Final = 20_000  # S3 API reference, MaxPostPreDataLengthExceeded
KEPT_BYTES_MAX: Final = 1 << 20
_BOUNDARY_CHARS_MAX: Final = 200  # RFC 2046 §5.1.1 has 70
_FIELDS_MAX: Final = 100
_END_OF_HEADERS: Final = b"\r\n\r\n"


class Form:
    """`fields` by name in lower case; `file` has its name, type and bytes."""

    def __init__(self, fields: Mapping[str, str], file: FilePayload) -> None:
        self.fields = fields
        self.file = file


def parse_boundary(content_type: bytes) -> bytes:
    kind, options = parse_options_header(content_type.decode("latin-1"))
    boundary = str(options.get("boundary", ""))
    if kind != "multipart/form-data":
        refuse(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            Condition="Bucket POST must be of the enclosure-type multipart/form-data",
        )
    if not 1 <= len(boundary) <= _BOUNDARY_CHARS_MAX or "\n" in boundary:
        _refuse_malformed()
    return boundary.encode("latin-1")


def _refuse_malformed() -> NoReturn:
    refuse("MalformedPOSTRequest")


async def read_form(body: RequestBody, boundary: bytes) -> Form:
    """Up to where the file begins. Raises a `Refusal`, `PayloadError`."""
    return await _Reader(body, boundary).read()


class _Reader:
    """Feeds the parser up to the end of each part's headers, so that it is known where in the body
    the file begins."""

    def __init__(self, body: RequestBody, boundary: bytes) -> None:
        self._body = body
        self._parser = PushMultipartParser(
            boundary, max_segment_count=_FIELDS_MAX, max_header_count=8
        )
        self._tail_bytes = len(b"\r\n--") + len(boundary) + len(b"--\r\n")
        self._fields: dict[str, str] = {}
        self._name = ""
        self._value = b""
        self._file: MultipartSegment | None = None

    async def read(self) -> Form:
        begin, unfed = 0, b""
        while (segment := self._file) is None:
            data = await self._body.read()
            if not data:
                self._feed(unfed)
                refuse("InvalidArgument", "POST requires exactly one file upload per request.")
            self._body.digest(data)
            fed, unfed = self._feed_headers(unfed + data)
            begin += fed
            if begin + (0 if self._file else len(unfed)) > FIELDS_BYTES_MAX:
                refuse("MaxPostPreDataLengthExceeded")
        file = FilePayload(self._body, self._parser, unfed, segment.filename or "")
        left = self._body.size - begin
        if left <= KEPT_BYTES_MAX:
            await file.keep()
        else:
            file.size = left - self._tail_bytes
        return Form(self._fields, file)

    def _feed_headers(self, data: bytes) -> tuple[int, bytes]:
        """How many bytes were fed, and what is left: what is not known to be a field's."""
        fed = 0
        while self._file is None:
            end = data.find(_END_OF_HEADERS, fed)
            if end < 0:
                break
            end += len(_END_OF_HEADERS)
            self._feed(data[fed:end])
            fed = end
        return fed, data[fed:]

    def _feed(self, data: bytes) -> None:
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                self._take(event)
        except MultipartError:
            _refuse_malformed()

    def _take(self, event: MultipartSegment | bytearray | bytes | None) -> None:
        if isinstance(event, MultipartSegment):
            name = (event.name or "").lower()
            if not name or name in self._fields:
                _refuse_malformed()
            if name == "file":
                self._file = event
            self._name, self._value = name, b""
        elif event is not None:
            self._value += event
        elif self._name:
            try:
                self._fields[self._name] = self._value.decode("utf-8")
            except UnicodeDecodeError:
                refuse("InvalidArgument", "A field is not UTF-8.", ArgumentName=self._name)


class FilePayload:
    """The bytes of the file. `size` is set by whoever made it; that it was right is checked at the
    end, as is all that the body as a whole promised."""

    def __init__(
        self, body: RequestBody, parser: PushMultipartParser, first: bytes, name: str
    ) -> None:
        self.size = 0
        self.name = name
        self._body = body
        self._parser = parser
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._handed_out = 0
        self._digests = checksums.Digests(None)
        self._check: Callable[[Mapping[str, str]], None] | None = None
        self._feed(first)

    def expect(self, declared: checksums.Declared | None) -> None:
        """Before the first byte: the checksum that a field announced."""
        if declared is not None:
            self._digests = checksums.Digests(declared.algorithm)
            self._check = self._digests.check(declared)

    async def keep(self) -> None:
        """Read all of it now, so that its size is known."""
        while not self._ended:
            await self._more()
        await self._drain()
        self.size = sum(map(len, self._pieces))

    async def read(self) -> bytes:
        """The last bytes are handed out only when all that is behind them has come, too."""
        while not self._pieces:
            if self._ended:
                return b""
            await self._more()
        piece = self._pieces.popleft()
        self._handed_out += len(piece)
        if self._handed_out >= self.size:
            while not self._ended:
                await self._more()
            await self._drain()
        if self._handed_out + sum(map(len, self._pieces)) != self.size and self._ended:
            raise PayloadMalformed(
                "The form has more behind its file than a last boundary.",
                reason="MalformedPOSTRequest",
            )
        return piece

    def digest(self, data: Buffer) -> None:
        self._digests.update(data)

    def finish(self) -> PayloadDigests:
        self._body.finish()
        if self._check is not None:
            self._check({})
        return PayloadDigests(self._digests.etag(), self._digests.checksums())

    async def _more(self) -> None:
        data = await self._body.read()
        if not data:
            raise PayloadMalformed("The form has no end.", reason="MalformedPOSTRequest")
        self._body.digest(data)
        self._feed(data)

    async def _drain(self) -> None:
        """What is behind the file: nobody asks for it, but the body is verified as a whole."""
        while data := await self._body.read():
            self._body.digest(data)

    def _feed(self, data: bytes) -> None:
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if event is None:
                    self._ended = True
                elif not self._ended and not isinstance(event, MultipartSegment):
                    self._pieces.append(bytes(event))
        except MultipartError as error:
            if not self._ended:
                raise PayloadMalformed(
                    "The body of your POST request is not well-formed multipart/form-data.",
                    reason="MalformedPOSTRequest",
                ) from error
