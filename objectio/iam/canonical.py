"""The canonical forms of AWS Signature Version 4, shared by the verifier and the signer. Pure.

Everything is bytes, as it stands on the wire. Two forms of a path or a query are in use: clients
that percent-encode before they sign send exactly what they sign (`canonical_query`); clients that
let their HTTP library encode sign the strictly encoded form of what they send (`strict_path`,
`strict_query`). Both decode to the same bytes, so it makes no difference to the meaning of a
request which of the two its signature covers.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"
EMPTY_SHA256 = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"
STREAMING_SIGNED = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"

SIGNING_KEYS_CACHED_MAX = 4096

# RFC 3986 §2.3, with "/" kept in paths.
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ENCODED = tuple(bytes([i]) if i in _UNRESERVED else b"%%%02X" % i for i in range(256))
_TRIPLET_OR_BYTE = re.compile(rb"%[0-9A-Fa-f]{2}|.", re.DOTALL)


@lru_cache(maxsize=SIGNING_KEYS_CACHED_MAX)
def signing_key(secret_key: str, date: bytes, region: bytes, service: bytes) -> bytes:
    """The key of one day. Cached by the secret itself, so that a rotated secret takes effect at
    once and an old key is never found."""
    key = hmac.digest(b"AWS4" + secret_key.encode(), date, "sha256")
    key = hmac.digest(key, region, "sha256")
    key = hmac.digest(key, service, "sha256")
    return hmac.digest(key, TERMINATOR, "sha256")


def percent_encode(text: bytes, safe: bytes = b"") -> bytes:
    """UriEncode of the SigV4 specification; `safe` bytes stay as they are."""
    return b"".join(bytes([i]) if i in safe else _ENCODED[i] for i in text)


def _strict(match: re.Match[bytes]) -> bytes:
    text = match.group()
    if len(text) == 1:
        return _ENCODED[text[0]]
    # "%2F" stays an escape: a key's encoded slash and a separator must not become one.
    return _ENCODED[int(text[1:], 16)]


def strict_path(raw_path: bytes) -> bytes:
    """`raw_path` with every byte encoded that must be, and no other. Slashes and dots are kept."""
    return b"/".join(_TRIPLET_OR_BYTE.sub(_strict, part) for part in raw_path.split(b"/"))


def canonical_query(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """(name, value) pairs in their encoded form → sorted by name, then value."""
    return b"&".join([name + b"=" + value for name, value in sorted(pairs)])


def strict_query(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Likewise, strictly encoded; "+" means a space, as it does to whoever decodes a query."""
    return canonical_query(
        [(_strict_query_part(name), _strict_query_part(value)) for name, value in pairs]
    )


def _strict_query_part(text: bytes) -> bytes:
    return _TRIPLET_OR_BYTE.sub(_strict, text.replace(b"+", b"%20"))


def split_query(query: bytes) -> list[tuple[bytes, bytes]]:
    """Encoded (name, value) pairs in the order sent; a name alone has an empty value."""
    pairs = []
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            pairs.append((name, value))
    return pairs


def canonical_headers(names: Sequence[bytes], headers: Mapping[bytes, bytes]) -> bytes:
    """One "name:value\\n" for each of `names`. Raises KeyError for a name that was not sent."""
    block = b"".join([name + b":" + headers[name] + b"\n" for name in names])
    # Servers strip values already; the rare value that has inner runs of blanks takes the long way.
    if b"  " in block or b"\t" in block or b" \n" in block or b": " in block:
        block = b"".join([name + b":" + b" ".join(headers[name].split()) + b"\n" for name in names])
    return block


def canonical_request(
    method: bytes,
    path: bytes,
    query: bytes,
    header_block: bytes,
    signed_headers: bytes,
    content_sha256: bytes,
) -> bytes:
    return b"\n".join((method, path, query, header_block, signed_headers, content_sha256))


def string_to_sign(timestamp: bytes, scope: bytes, request: bytes) -> bytes:
    """`scope` is date/region/service/terminator."""
    digest = sha256(request).hexdigest().encode()
    return b"AWS4-HMAC-SHA256\n" + timestamp + b"\n" + scope + b"\n" + digest


def signature(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256").hex().encode()


def chunk_string_to_sign(prefix: bytes, previous: bytes, digest: bytes) -> bytes:
    """`prefix` is the timestamp, the scope and their newlines; `digest` the hex of the chunk."""
    return b"".join(
        (b"AWS4-HMAC-SHA256-PAYLOAD\n", prefix, previous, b"\n", EMPTY_SHA256, b"\n", digest)
    )


def trailer_string_to_sign(prefix: bytes, previous: bytes, digest: bytes) -> bytes:
    """`digest` is the hex of the lines "name:value\\n"."""
    return b"".join((b"AWS4-HMAC-SHA256-TRAILER\n", prefix, previous, b"\n", digest))
