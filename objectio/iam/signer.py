"""Signing requests with AWS Signature Version 4: what a client does. Pure; used by our own clients,
the benchmarks and the tests, and cross-checked there against botocore.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from objectio.iam import canonical
from objectio.iam.credentials import Credential

# What proxies and HTTP libraries change on the way is not signed.
_NEVER_SIGNED = frozenset(
    {b"authorization", b"connection", b"expect", b"transfer-encoding", b"user-agent"}
)


def timestamp_of(now: float | None = None) -> bytes:
    """Unix seconds (default: the clock) as ISO 8601 basic."""
    now = time.time() if now is None else now
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)).encode()


def _canonical(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[list[bytes], dict[bytes, bytes]]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _NEVER_SIGNED:
            continue
        trimmed = b" ".join(value.split())
        found[lowered] = found[lowered] + b"," + trimmed if lowered in found else trimmed
    return sorted(found), found


def sign_request(
    credential: Credential,
    method: str,
    raw_path: bytes,
    query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    content_sha256: bytes = canonical.EMPTY_SHA256,
    region: str = "us-east-1",
    service: str = "s3",
    now: float | None = None,
) -> list[tuple[bytes, bytes]]:
    """`headers` (which must include host) with x-amz-date, x-amz-content-sha256 and authorization.

    `raw_path` and `query` must be percent-encoded already, exactly as they will be sent.
    """
    timestamp = timestamp_of(now)
    signed = [
        *headers,
        (b"x-amz-content-sha256", content_sha256),
        (b"x-amz-date", timestamp),
    ]
    names, by_name = _canonical(signed)
    names_line = b";".join(names)
    scope = b"/".join((timestamp[:8], region.encode(), service.encode(), canonical.TERMINATOR))
    request = canonical.canonical_request(
        method.encode(),
        raw_path,
        canonical.canonical_query(canonical.split_query(query)),
        canonical.canonical_headers(names, by_name),
        names_line,
        content_sha256,
    )
    key = canonical.signing_key(
        credential.secret_key, timestamp[:8], region.encode(), service.encode()
    )
    signature = canonical.signature(key, canonical.string_to_sign(timestamp, scope, request))
    authorization = b"AWS4-HMAC-SHA256 Credential=%b/%b, SignedHeaders=%b, Signature=%b" % (
        credential.access_key.encode(),
        scope,
        names_line,
        signature,
    )
    return [*signed, (b"authorization", authorization)]


def presign(
    credential: Credential,
    method: str,
    raw_path: bytes,
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    expires_seconds: int = 3600,
    content_sha256: bytes = canonical.UNSIGNED_PAYLOAD,
    region: str = "us-east-1",
    service: str = "s3",
    now: float | None = None,
) -> bytes:
    """The query string of a presigned URL. Whoever uses it must send `headers` (host among them)
    unchanged; `content_sha256` other than UNSIGNED-PAYLOAD must be among them too."""
    timestamp = timestamp_of(now)
    names, by_name = _canonical(headers)
    scope = b"/".join((timestamp[:8], region.encode(), service.encode(), canonical.TERMINATOR))
    names_line = b";".join(names)
    pairs = canonical.split_query(query)
    for name, value in (
        (b"X-Amz-Algorithm", canonical.ALGORITHM),
        (b"X-Amz-Credential", credential.access_key.encode() + b"/" + scope),
        (b"X-Amz-Date", timestamp),
        (b"X-Amz-Expires", b"%d" % expires_seconds),
        (b"X-Amz-SignedHeaders", names_line),
    ):
        pairs.append((name, canonical.percent_encode(value)))
    request = canonical.canonical_request(
        method.encode(),
        raw_path,
        canonical.canonical_query(pairs),
        canonical.canonical_headers(names, by_name),
        names_line,
        content_sha256,
    )
    key = canonical.signing_key(
        credential.secret_key, timestamp[:8], region.encode(), service.encode()
    )
    signature = canonical.signature(key, canonical.string_to_sign(timestamp, scope, request))
    sent = b"&".join(name + b"=" + value for name, value in pairs)
    return sent + b"&X-Amz-Signature=" + signature


class ChunkSigner:
    """Encodes a body as aws-chunked, signed from the `authorization` header of its request on."""

    def __init__(self, credential: Credential, headers: Iterable[tuple[bytes, bytes]]) -> None:
        by_name = dict(headers)
        authorization = by_name[b"authorization"]
        scope = authorization.partition(b"Credential=")[2].partition(b",")[0].split(b"/", 1)[1]
        date, region, service, _ = scope.split(b"/")
        self._key = canonical.signing_key(credential.secret_key, date, region, service)
        self._prefix = by_name[b"x-amz-date"] + b"\n" + scope + b"\n"
        self.signature = authorization.rpartition(b"Signature=")[2]

    def chunk(self, data: bytes) -> bytes:
        """One framed chunk; b"" makes the header line of the last one."""
        digest = sha256(data).hexdigest().encode()
        text = canonical.chunk_string_to_sign(self._prefix, self.signature, digest)
        self.signature = canonical.signature(self._key, text)
        header = b"%x;chunk-signature=%b\r\n" % (len(data), self.signature)
        return header + data + b"\r\n" if data else header

    def trailers(self, trailers: Sequence[tuple[bytes, bytes]]) -> bytes:
        block = b"".join(name + b":" + value + b"\n" for name, value in trailers)
        digest = sha256(block).hexdigest().encode()
        text = canonical.trailer_string_to_sign(self._prefix, self.signature, digest)
        self.signature = canonical.signature(self._key, text)
        lines = b"".join(name + b":" + value + b"\r\n" for name, value in trailers)
        return lines + b"x-amz-trailer-signature:" + self.signature + b"\r\n\r\n"

    def encode(
        self,
        data: bytes,
        chunk_bytes: int,
        trailers: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> Iterator[bytes]:
        """The whole body; `trailers` None for the form without a trailer."""
        for start in range(0, len(data), chunk_bytes):
            yield self.chunk(data[start : start + chunk_bytes])
        yield self.chunk(b"")
        yield b"\r\n" if trailers is None else self.trailers(trailers)


def encode_unsigned_chunks(
    data: bytes, chunk_bytes: int, trailers: Sequence[tuple[bytes, bytes]] = ()
) -> Iterator[bytes]:
    """The body of STREAMING-UNSIGNED-PAYLOAD-TRAILER."""
    for start in range(0, len(data), chunk_bytes):
        piece = data[start : start + chunk_bytes]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in trailers) + b"\r\n"
