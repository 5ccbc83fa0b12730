"""Headers: what a request says about an object, and what a response says of one.

Header values are octets (RFC 9110 §5.5): they are kept as Latin-1, which gives back the very bytes
that came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio import limits
from objectio.abc.objects import NULL_VERSION, ObjectAttributes, ObjectInfo
from objectio.errors import OperationNotImplemented
from objectio.model.bucket import Acl
from objectio_api_s3 import checksums, locks, sse, tags
from objectio_api_s3.errors import refuse
from objectio_api_s3.times import http_date

Headers = list[tuple[bytes, bytes]]

_META: Final = b"x-amz-meta-"
_STORED: Final[Mapping[bytes, str]] = {
    name.encode(): name
    for name in (
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    )
}
_REDIRECT: Final = "x-amz-website-redirect-location"
_NAMES: Final[Mapping[str, bytes]] = {name: raw for raw, name in _STORED.items()}
_DEFAULT_TYPE: Final = (b"content-type", b"binary/octet-stream")
_RANGES: Final = (b"accept-ranges", b"bytes")
_STORAGE_CLASSES: Final = frozenset((b"STANDARD", b"REDUCED_REDUNDANCY"))

# Control characters never reach a header, whoever wrote the value.
_CONTROLS: Final = bytes((*range(9), *range(10, 32), 127))

_REFUSED_PREFIXES: Final = (
    b"x-amz-server-side-encryption",
    b"x-amz-copy-source-server-side-encryption",
    b"x-amz-object-lock-",
    b"x-amz-grant-",
)
_REFUSED: Final = frozenset(
    (
        b"x-amz-website-redirect-location",
        b"x-amz-write-offset-bytes",
        b"x-amz-if-match-last-modified-time",
        b"x-amz-if-match-size",
        b"x-amz-rename-source",
        b"x-amz-rename-source-if-match",
        b"x-amz-tagging",
    )
)
# Headers that are fine with these values, and not implemented with any other.
_ONLY: Final[Mapping[bytes, frozenset[bytes]]] = {
    b"x-amz-acl": frozenset((b"private", b"bucket-owner-full-control")),
    b"x-amz-object-ownership": frozenset((b"BucketOwnerEnforced",)),
    b"x-amz-bucket-object-lock-enabled": frozenset((b"false", b"False")),
    b"x-amz-storage-class": _STORAGE_CLASSES,
}


def refuse_unsupported(
    headers: Mapping[bytes, bytes], known: frozenset[bytes] = frozenset()
) -> None:
    """Raises for a header that would change what an operation means, in a way not built: to ignore
    it would be a lie (an object that was to be encrypted, locked or shared). `known` are those that
    the operation acts upon."""
    for name, value in headers.items():
        if not name.startswith(b"x-amz-") or name in known:
            continue
        if name in _ONLY:
            if value not in _ONLY[name]:
                if name == b"x-amz-storage-class":
                    refuse("InvalidStorageClass")
                raise OperationNotImplemented("header", header=name.decode("latin-1"))
        elif name in _REFUSED or name.startswith(_REFUSED_PREFIXES) or checksums.is_unknown(name):
            raise OperationNotImplemented("header", header=name.decode("latin-1"))


def parse_attributes(
    headers: Mapping[bytes, bytes], algorithm: str = "", kind: str = "", acl: Acl | None = None
) -> ObjectAttributes:
    """What the writer says about an object. A Content-Encoding of aws-chunked is how the body
    travelled, and no property of the object."""
    stored: dict[str, str] = {}
    metadata: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        if name.startswith(_META):
            metadata[name[len(_META) :].decode("latin-1")] = value.decode("latin-1")
            size += len(name) - len(_META) + len(value)
        elif name in _STORED:
            stored[_STORED[name]] = value.decode("latin-1")
    if size > limits.USER_METADATA_BYTES_MAX:
        refuse(
            "MetadataTooLarge",
            Size=str(size),
            MaxSizeAllowed=str(limits.USER_METADATA_BYTES_MAX),
        )
    if "content-encoding" in stored:
        _strip_framing(stored)
    redirect = headers.get(_REDIRECT.encode())
    if redirect is not None:
        stored[_REDIRECT] = _check_redirect(redirect)
    tagging = headers.get(b"x-amz-tagging")
    locked = not locks.HEADERS.isdisjoint(headers)
    retention, hold = locks.parse_headers(headers) if locked else (None, False)
    return ObjectAttributes(
        headers=stored,
        metadata=metadata,
        storage_class=headers.get(b"x-amz-storage-class", b"STANDARD").decode("latin-1"),
        checksum_algorithm=algorithm,
        checksum_type=kind,
        tags=tags.parse_header(tagging) if tagging else {},
        acl=acl,
        retention=retention,
        legal_hold=hold,
    )


def _strip_framing(stored: dict[str, str]) -> None:
    codings = [c.strip() for c in stored["content-encoding"].split(",")]
    kept = [c for c in codings if c and c.lower() != "aws-chunked"]
    if not kept:
        del stored["content-encoding"]
    elif len(kept) < len(codings):
        stored["content-encoding"] = ",".join(kept)


def _check_redirect(value: bytes) -> str:
    if not value.startswith((b"/", b"http://", b"https://")):
        refuse("InvalidRedirectLocation")
    return value.decode("latin-1")


def clean(value: str) -> bytes:
    return value.encode("latin-1", "replace").translate(None, _CONTROLS)


def etag_header(etag: str) -> tuple[bytes, bytes]:
    return (b"etag", b'"%b"' % clean(etag))


def parse_overrides(query: Mapping[str, bytes]) -> dict[str, bytes]:
    """The response-* parameters of GetObject: header name → value."""
    found = {}
    for name in _NAMES:
        value = query.get(f"response-{name}")
        if value is not None:
            if value.translate(None, _CONTROLS) != value:
                refuse("InvalidArgument", "A header value may not hold control characters.")
            found[name] = value
    return found


def object_headers(
    info: ObjectInfo, length: int, overrides: Mapping[str, bytes] | None = None
) -> Headers:
    """What GetObject and HeadObject say of a version, `length` bytes of which are sent."""
    attributes = info.attributes
    found: Headers = [
        (b"content-length", b"%d" % length),
        (b"etag", b'"%b"' % clean(info.etag)),
        (b"last-modified", http_date(info.modified_ms)),
        _RANGES,
    ]
    stored = attributes.headers
    if overrides:
        kept = {n: clean(v) for n, v in stored.items() if n in _NAMES}
        kept |= overrides
        found += [(_NAMES[name], value) for name, value in kept.items()]
        if "content-type" not in kept:
            found.append(_DEFAULT_TYPE)
    else:
        for name, value in stored.items():
            if name in _NAMES:
                found.append((_NAMES[name], clean(value)))
        if "content-type" not in stored:
            found.append(_DEFAULT_TYPE)
    for name, value in attributes.metadata.items():
        found.append((_META + clean(name), clean(value)))
    if attributes.storage_class != "STANDARD":
        found.append((b"x-amz-storage-class", clean(attributes.storage_class)))
    if _REDIRECT in stored:
        found.append((_REDIRECT.encode(), clean(stored[_REDIRECT])))
    if info.versioned:
        found.append(version_header(info.version_id))
    if info.encryption is not None:
        found += sse.response_headers(info.encryption)
    return found


def version_header(version_id: str) -> tuple[bytes, bytes]:
    return (b"x-amz-version-id", clean(version_id))


def new_version_header(info: ObjectInfo) -> Headers:
    """S3 does not say of a write that it made the version "null"."""
    if not info.versioned or info.version_id == NULL_VERSION:
        return []
    return [version_header(info.version_id)]


def written_headers(info: ObjectInfo) -> Headers:
    """What the answer to a write says of the new version."""
    found = [etag_header(info.etag)]
    if info.checksums:
        found += checksum_headers(info.checksums, info.attributes.checksum_type)
    found += new_version_header(info)
    if info.encryption is not None:
        found += sse.response_headers(info.encryption)
    return found


def checksum_headers(values: Mapping[str, str], kind: str) -> Headers:
    found = [
        (checksums.HEADERS[name], clean(value))
        for name, value in values.items()
        if name in checksums.HEADERS
    ]
    if found and kind:
        found.append((b"x-amz-checksum-type", clean(kind)))
    return found
