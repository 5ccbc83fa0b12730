"""Digests of bodies: S3's ETag, and the x-amz-checksum family.

A checksum comes in a header, or in a trailer behind the body. It is computed while the body
passes, compared before the object service commits, stored, and returned on demand. That of a
multipart object is either COMPOSITE, a checksum of the parts' checksums, or FULL_OBJECT, that of
all bytes, which a CRC allows to be put together from those of the parts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from awscrt import checksums as crt

from objectio.abc.api import RequestBody
from objectio.abc.objects import PartInfo, PayloadDigests
from objectio.errors import PayloadDigestMismatch
from objectio_api_s3.errors import refuse

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"

_PREFIX: Final = b"x-amz-checksum-"
_NO_CHECKSUMS: Final[Mapping[str, str]] = {}


class _Digest(Protocol):
    def update(self, data: Any, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_function", "_size_bytes", "_value")

    def __init__(self, function: Callable[[Any, int], int], size_bytes: int) -> None:
        self._function = function
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: Any) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


class Algorithm(NamedTuple):
    """`combine(crc of a, crc of b, length of b)` is the CRC of a + b; None for a hash."""

    name: str
    size_bytes: int
    new: Callable[[], _Digest]
    combine: Callable[[int, int, int], int] | None
    types: tuple[str, ...]  # what a multipart object may have; the first is the default

    @property
    def header(self) -> bytes:
        return _PREFIX + self.name.lower().encode("ascii")

    @property
    def element(self) -> str:
        return f"Checksum{self.name}"


_EITHER: Final = (COMPOSITE, FULL_OBJECT)

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("CRC32", 4, lambda: _Crc(crt.crc32, 4), crt.combine_crc32, _EITHER),
        Algorithm("CRC32C", 4, lambda: _Crc(crt.crc32c, 4), crt.combine_crc32c, _EITHER),
        Algorithm(
            *("CRC64NVME", 8, lambda: _Crc(crt.crc64nvme, 8)),
            crt.combine_crc64nvme,
            (FULL_OBJECT,),
        ),
        Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False), None, (COMPOSITE,)),
        Algorithm("SHA256", 32, hashlib.sha256, None, (COMPOSITE,)),
    )
}
_BY_HEADER: Final = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}
HEADERS: Final = {algorithm.name: algorithm.header for algorithm in ALGORITHMS.values()}
_SETTINGS: Final = frozenset((_PREFIX + b"algorithm", _PREFIX + b"mode", _PREFIX + b"type"))


class Declared(NamedTuple):
    """A checksum that the client announced: its value, or None if it comes as a trailer."""

    algorithm: Algorithm
    value: str | None


def parse_algorithm(name: bytes) -> Algorithm:
    algorithm = ALGORITHMS.get(name.decode("latin-1").upper())
    if algorithm is None:
        refuse(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            "types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    return algorithm


def is_unknown(header: bytes) -> bool:
    """Whether the name of a header or trailer is that of a checksum that is not known here."""
    return header.startswith(_PREFIX) and header not in _BY_HEADER and header not in _SETTINGS


def parse_value(algorithm: Algorithm, value: bytes) -> str:
    """The checksum in a header, which must be base64 of the right length."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != algorithm.size_bytes:
        name = algorithm.header.decode()
        refuse("BadDigest", f"Value for {name} header is invalid.")
    return value.decode("ascii")


def parse_declared(headers: Mapping[bytes, bytes], trailers: Sequence[str] = ()) -> Declared | None:
    """What the client announced. More than one checksum is refused, as S3 does."""
    found: list[Declared] = []
    for name, algorithm in _BY_HEADER.items():
        if name in headers:
            found.append(Declared(algorithm, parse_value(algorithm, headers[name])))
    for trailer in trailers:
        name = trailer.encode("latin-1")
        if name in _BY_HEADER:
            found.append(Declared(_BY_HEADER[name], None))
        elif name.startswith(_PREFIX):
            refuse(
                "InvalidRequest", "The value specified in the x-amz-trailer header is not supported"
            )
    if len(found) > 1:
        refuse(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    wanted = headers.get(b"x-amz-sdk-checksum-algorithm")
    if wanted and (not found or found[0].algorithm is not parse_algorithm(wanted)):
        refuse(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    return found[0] if found else None


class Digests:
    """The digests of one body while it passes."""

    __slots__ = ("_algorithm", "_md5", "_running")

    def __init__(self, algorithm: Algorithm | None) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._algorithm = algorithm
        self._running = None if algorithm is None else algorithm.new()

    def update(self, data: Any) -> None:
        self._md5.update(data)
        if self._running is not None:
            self._running.update(data)

    def check(self, declared: Declared) -> Callable[[Mapping[str, str]], None]:
        """What compares, at the end, with what was announced."""
        assert self._running is not None
        return _check(declared, self._running)

    def etag(self) -> str:
        return self._md5.hexdigest()

    def checksums(self) -> Mapping[str, str]:
        if self._algorithm is None or self._running is None:
            return _NO_CHECKSUMS
        return {self._algorithm.name: _text(self._running)}


def watch(
    body: RequestBody,
    headers: Mapping[bytes, bytes],
    declared: Declared | None,
    algorithm: Algorithm | None = None,
) -> None:
    """Have `body` compute the ETag and a checksum while it is read, and compare the checksum with
    what the client announced. `algorithm` is computed if none was announced."""
    md5 = body.md5
    if declared is not None:
        algorithm = declared.algorithm
    if algorithm is None:
        body.set_etag(md5.hexdigest, _no_checksums)
        return
    name, running = algorithm.name, algorithm.new()
    body.add_digest(name, running.update)
    body.set_etag(md5.hexdigest, lambda: {name: _text(running)})
    if declared is not None:
        body.add_check(_check(declared, running))


def watch_document(body: RequestBody, headers: Mapping[bytes, bytes]) -> None:
    """The same for a body that is no object: there is only something to compare."""
    declared = parse_declared(headers, body.declared_trailers)
    if declared is not None:
        running = declared.algorithm.new()
        body.add_digest(declared.algorithm.name, running.update)
        body.add_check(_check(declared, running))


def _no_checksums() -> Mapping[str, str]:
    return _NO_CHECKSUMS


def _text(running: _Digest) -> str:
    return base64.b64encode(running.digest()).decode("ascii")


def _check(declared: Declared, running: _Digest) -> Callable[[Mapping[str, str]], None]:
    algorithm, value = declared

    def check(trailers: Mapping[str, str]) -> None:
        expected = value
        if expected is None:
            sent = trailers.get(algorithm.header.decode("ascii"))
            if sent is None:
                refuse("MalformedTrailerError")
            expected = parse_value(algorithm, sent.strip().encode("latin-1"))
        if _text(running) != expected:
            _raise_mismatch(algorithm)

    return check


def _raise_mismatch(algorithm: Algorithm) -> NoReturn:
    raise PayloadDigestMismatch(
        f"The {algorithm.name} you specified did not match the calculated checksum.",
        digest=algorithm.name.lower(),
    )


def multipart_etag(parts: Sequence[PartInfo]) -> str:
    return etag_of_parts([part.etag for part in parts])


def etag_of_parts(parts: Sequence[str]) -> str:
    """Raises ValueError for what no part has as its ETag."""
    joined = b"".join(map(bytes.fromhex, parts))
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _combined(algorithm: Algorithm, kind: str, parts: Sequence[PartInfo]) -> str:
    raw = [base64.b64decode(part.checksums[algorithm.name]) for part in parts]
    if kind == COMPOSITE or algorithm.combine is None:
        running = algorithm.new()
        running.update(b"".join(raw))
        return f"{_text(running)}-{len(parts)}"
    total = 0
    for part, checksum in zip(parts, raw, strict=True):
        total = algorithm.combine(total, int.from_bytes(checksum, "big"), part.size)
    return base64.b64encode(total.to_bytes(algorithm.size_bytes, "big")).decode("ascii")


def multipart_digests(
    parts: Sequence[PartInfo], algorithm: Algorithm | None, kind: str, declared: str | None
) -> PayloadDigests:
    """Of a completed upload. `declared` is the checksum that the client expects, if it says so;
    for a COMPOSITE one it may leave out the count behind the hyphen."""
    etag = multipart_etag(parts)
    if algorithm is None:
        return PayloadDigests(etag)
    for part in parts:
        if algorithm.name not in part.checksums:
            refuse(
                "InvalidRequest",
                f"The upload was created using the {algorithm.name} checksum, and part "
                f"{part.number} was uploaded without it.",
            )
    value = _combined(algorithm, kind, parts)
    if declared is not None and declared not in (value, value.partition("-")[0]):
        _raise_mismatch(algorithm)
    return PayloadDigests(etag, {algorithm.name: value})
