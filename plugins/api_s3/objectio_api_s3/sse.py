"""Server-side encryption as S3 says it: request headers to what the store is asked for, and back.

A write says how it is to be encrypted (`parse_write`). A read, and a part of an upload, bring the
customer's key where there is one (`parse_customer_key`), and a copy that of its source besides
(`parse_source_key`). Answers say how a version is encrypted (`response_headers`). Nothing here shows
a customer's key: not in an error either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Final, NoReturn

from objectio.abc.objects import Encryption, EncryptionInfo
from objectio_api_s3.errors import refuse

_PREFIX: Final = b"x-amz-server-side-encryption"
_METHOD: Final = _PREFIX
_KEY_ID: Final = _PREFIX + b"-aws-kms-key-id"
_CONTEXT: Final = _PREFIX + b"-context"
_BUCKET_KEY: Final = _PREFIX + b"-bucket-key-enabled"
_CUSTOMER: Final = _PREFIX + b"-customer-"
_SOURCE: Final = b"x-amz-copy-source-server-side-encryption-customer-"

_METHODS: Final = ("AES256", "aws:kms", "aws:kms:dsse")
_CUSTOMER_METHOD: Final = "SSE-C"
_CUSTOMER_ALGORITHM: Final = b"AES256"
_CUSTOMER_KEY_BYTES: Final = 32
_CONTEXT_BYTES_MAX: Final = 8 * 1024
_CONTROLS: Final = bytes((*range(32), 127))  # never reach a header, whoever wrote the value


def _customer(prefix: bytes) -> frozenset[bytes]:
    return frozenset(prefix + name for name in (b"algorithm", b"key", b"key-md5"))


CUSTOMER_HEADERS: Final = _customer(_CUSTOMER)
"""What reads, and parts of uploads, act upon."""
WRITE_HEADERS: Final = frozenset({_METHOD, _KEY_ID, _CONTEXT, _BUCKET_KEY}) | CUSTOMER_HEADERS
"""What writes act upon."""
SOURCE_HEADERS: Final = _customer(_SOURCE)
"""What copies act upon besides."""

Headers = list[tuple[bytes, bytes]]


def parse_write(headers: Mapping[bytes, bytes]) -> Encryption | None:
    """How an object is to be encrypted; None: the request says nothing. Raises `Refusal`."""
    customer_key = parse_customer_key(headers)
    method = headers.get(_METHOD)
    if customer_key is not None:
        if not headers.keys().isdisjoint(WRITE_HEADERS - CUSTOMER_HEADERS):
            refuse(
                "InvalidArgument",
                "Server Side Encryption with Customer provided key is incompatible with the "
                "encryption method specified",
                ArgumentName=_METHOD.decode(),
                ArgumentValue=_text(method or b""),
            )
        return Encryption(method=_CUSTOMER_METHOD, customer_key=customer_key)
    if method is None:
        for name in (_KEY_ID, _CONTEXT):
            if name in headers:
                refuse(
                    "InvalidArgument",
                    f"The header {name.decode()} needs {_METHOD.decode()}: aws:kms",
                    ArgumentName=name.decode(),
                )
        return None
    if _text(method) not in _METHODS:
        refuse(
            "InvalidArgument",
            "The encryption method specified is not supported",
            ArgumentName=_METHOD.decode(),
            ArgumentValue=_text(method),
        )
    if method == b"AES256":
        for name in (_KEY_ID, _CONTEXT):
            if name in headers:
                refuse(
                    "InvalidArgument",
                    f"{name.decode()} is not applicable to the encryption method AES256",
                    ArgumentName=name.decode(),
                )
    return Encryption(
        method=_text(method),
        key_id=_text(headers.get(_KEY_ID, b"")),
        context=_parse_context(headers.get(_CONTEXT)),
        bucket_key=_parse_bucket_key(headers.get(_BUCKET_KEY)),
    )


def parse_customer_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The customer's key for the object of the request, if there is one. Raises `Refusal`."""
    return _parse_key(headers, _CUSTOMER)


def parse_source_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """That of a copy's source."""
    return _parse_key(headers, _SOURCE)


def refuse_method(headers: Mapping[bytes, bytes]) -> None:
    """Reads do not say how an object is encrypted, even if they know (S3 user guide, "Specifying
    server-side encryption"): a client that does is told of its mistake."""
    if not headers.keys().isdisjoint((_METHOD, _KEY_ID, _CONTEXT, _BUCKET_KEY)):
        refuse(
            "InvalidArgument",
            f"{_METHOD.decode()} header is not supported for this operation.",
            ArgumentName=_METHOD.decode(),
            ArgumentValue=_text(headers.get(_METHOD, b"")),
        )


def response_headers(info: EncryptionInfo | None) -> Headers:
    """What every answer about a version, a part or an upload says of its encryption."""
    if info is None:
        return []
    if info.method == _CUSTOMER_METHOD:
        return [
            (_CUSTOMER + b"algorithm", _CUSTOMER_ALGORITHM),
            (_CUSTOMER + b"key-md5", info.customer_key_md5.encode("latin-1")),
        ]
    found: Headers = [(_METHOD, info.method.encode("latin-1"))]
    if info.method != "AES256":
        key_id = info.key_id.encode("latin-1", "replace")
        found.append((_KEY_ID, key_id.translate(None, _CONTROLS)))
    if info.bucket_key:
        found.append((_BUCKET_KEY, b"true"))
    return found


def _parse_key(headers: Mapping[bytes, bytes], prefix: bytes) -> bytes | None:
    algorithm = headers.get(prefix + b"algorithm")
    encoded = headers.get(prefix + b"key")
    digest = headers.get(prefix + b"key-md5")
    if algorithm is None and encoded is None and digest is None:
        return None
    name = (prefix + b"algorithm").decode()
    if algorithm is None:
        _refuse_customer("must provide a valid encryption algorithm.", name)
    if algorithm != _CUSTOMER_ALGORITHM:
        refuse("InvalidEncryptionAlgorithmError", ArgumentName=name, ArgumentValue=_text(algorithm))
    name = (prefix + b"key").decode()
    if encoded is None:
        _refuse_customer("must provide an appropriate secret key.", name)
    key = _decode(encoded)
    if key is None or len(key) != _CUSTOMER_KEY_BYTES:
        refuse(
            "InvalidArgument",
            "The secret key was invalid for the specified algorithm.",
            ArgumentName=name,
        )
    name = (prefix + b"key-md5").decode()
    if digest is None:
        _refuse_customer("must provide the client calculated MD5 of the secret key.", name)
    found = hashlib.md5(key, usedforsecurity=False).digest()
    if not hmac.compare_digest(_decode(digest) or b"", found):
        refuse(
            "InvalidArgument",
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            ArgumentName=name,
        )
    return key


def _refuse_customer(what: str, name: str) -> NoReturn:
    refuse(
        "InvalidArgument",
        f"Requests specifying Server Side Encryption with Customer provided keys {what}",
        ArgumentName=name,
    )


def _decode(encoded: bytes) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def _parse_context(encoded: bytes | None) -> dict[str, str]:
    """Base64 of a flat JSON object of strings (S3 API reference, PutObject)."""
    if encoded is None:
        return {}
    raw = _decode(encoded)
    try:
        context = json.loads(raw) if raw and len(raw) <= _CONTEXT_BYTES_MAX else None
    except (ValueError, RecursionError):
        context = None
    if not isinstance(context, dict) or not all(isinstance(v, str) for v in context.values()):
        refuse(
            "InvalidArgument",
            "The encryption context must be base64-encoded JSON with pairs of strings.",
            ArgumentName=_CONTEXT.decode(),
        )
    return context


def _parse_bucket_key(value: bytes | None) -> bool:
    if value is None or value.lower() == b"false":
        return False
    if value.lower() != b"true":
        refuse("InvalidArgument", ArgumentName=_BUCKET_KEY.decode(), ArgumentValue=_text(value))
    return True


def _text(value: bytes) -> str:
    return value.decode("latin-1")
