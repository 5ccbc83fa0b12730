"""Data keys: which one a version is encrypted with, who wraps it, and who may have it unwrapped.

What a writer asks for, or the bucket's default where it asks for nothing, decides who wraps the fresh
key of each version: a key of the key manager (SSE-S3, SSE-KMS), or the key that the customer sends
with every request (SSE-C), of which nothing is kept but what S3 tells of it, its MD5. The wrapped key
is bound to the bucket and the key of the object, so it opens nothing in another place.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from objectio.abc.kms import KeyManager
from objectio.abc.objects import Encryption
from objectio.errors import AccessDenied, InvalidRequest, NotFound, Unavailable
from objectio.meta.records import EncryptionRecord
from objectio.model.bucket import ENCRYPTION, DefaultEncryption, decode_document
from objectio.store.encryption import KEY_BYTES, DataCipher

SSE_S3: Final = "AES256"
SSE_KMS: Final = "aws:kms"
SSE_KMS_TWICE: Final = "aws:kms:dsse"
SSE_C: Final = "SSE-C"

_BY_KMS: Final = frozenset({SSE_S3, SSE_KMS, SSE_KMS_TWICE})
_OURS: Final = "objectio:"
"""Names in the context that are bound by us; nobody else's may begin so."""
_SALT_BYTES: Final = 32
_CUSTOMER_LABEL: Final = b"objectio customer key v1\0"
_NONCE: Final = bytes(12)  # the wrapping key is fresh, so the nonce need not be


class DataKeys:
    """`kms` None: there is no key manager, and only customers' keys are to be had.
    `require_key_id`: who asks for SSE-KMS must say which key."""

    def __init__(self, kms: KeyManager | None, *, require_key_id: bool = False) -> None:
        self._kms = kms
        self._require_key_id = require_key_id

    async def make(
        self, wanted: Encryption, bucket_id: bytes, key: bytes
    ) -> tuple[EncryptionRecord, DataCipher]:
        """A new data key: what to keep of it, and what to encrypt with now."""
        if wanted.method == SSE_C:
            plain = os.urandom(KEY_BYTES)
            wrapped = _wrap(_checked(wanted.customer_key), plain, _place(bucket_id, key))
            record = EncryptionRecord(
                SSE_C, "", wrapped, customer_key_md5=key_md5(wanted.customer_key)
            )
            return record, _cipher(record, plain)
        if wanted.method not in _BY_KMS:
            raise InvalidRequest(
                f"{wanted.method!r} is no method of encryption", reason="InvalidArgument"
            )
        key_id = self._key_id(wanted)
        context = dict(wanted.context)
        if any(name.startswith(_OURS) for name in context):
            raise InvalidRequest(
                f"names in an encryption context do not begin with {_OURS}",
                reason="InvalidArgument",
            )
        try:
            made = await self._manager.generate(key_id, {**context, **_place(bucket_id, key)})
        except NotFound as error:
            raise InvalidRequest(
                f"Key {key_id!r} does not exist", reason="KMS.NotFoundException"
            ) from error
        record = EncryptionRecord(
            wanted.method, made.key_id, made.wrapped, context, bucket_key=wanted.bucket_key
        )
        return record, _cipher(record, made.plain)

    def _key_id(self, wanted: Encryption) -> str:
        if wanted.method == SSE_S3:
            return self._manager.default_key
        if not wanted.key_id and self._require_key_id:
            raise InvalidRequest(
                "Server Side Encryption with KMS managed key requires HTTP header "
                "x-amz-server-side-encryption-aws-kms-key-id",
                reason="InvalidArgument",
            )
        return wanted.key_id or self._manager.default_key

    async def open(
        self,
        record: EncryptionRecord,
        bucket_id: bytes,
        key: bytes,
        customer_key: bytes | None,
    ) -> DataCipher:
        """The cipher of what `make` gave the record of. Raises `InvalidRequest` (reason
        InvalidRequest) where the customer's key is missing, not wanted or another."""
        place = _place(bucket_id, key)
        if record.method == SSE_C:
            return _cipher(record, _unwrap(_wanted(customer_key), record, place))
        check_not_wanted(customer_key)
        plain = await self._manager.unwrap(
            record.key_id, record.wrapped, {**record.context, **place}
        )
        return _cipher(record, plain)

    def check(
        self,
        record: EncryptionRecord | None,
        bucket_id: bytes,
        key: bytes,
        customer_key: bytes | None,
    ) -> None:
        """Raises what `open` would of the customer's key, for who wants no bytes."""
        if record is not None and record.method == SSE_C:
            _unwrap(_wanted(customer_key), record, _place(bucket_id, key))
        else:
            check_not_wanted(customer_key)

    @property
    def _manager(self) -> KeyManager:
        if self._kms is None:
            raise Unavailable("there is no key manager in this process")
        return self._kms


def default_encryption(documents: Mapping[str, bytes]) -> Encryption | None:
    """What a write into the bucket gets that asks for nothing."""
    raw = documents.get(ENCRYPTION)
    if raw is None:
        return None
    default = decode_document(raw, DefaultEncryption)
    return Encryption(method=default.method, key_id=default.key_id, bucket_key=default.bucket_key)


def key_md5(customer_key: bytes) -> str:
    """As S3 says it: base64."""
    return base64.b64encode(hashlib.md5(customer_key, usedforsecurity=False).digest()).decode()


def check_not_wanted(customer_key: bytes | None) -> None:
    if customer_key is not None:
        raise InvalidRequest(
            "The encryption parameters are not applicable to this object.", reason="InvalidRequest"
        )


def _wanted(customer_key: bytes | None) -> bytes:
    if customer_key is None:
        raise InvalidRequest(
            "The object was stored using a form of Server Side Encryption. The correct parameters "
            "must be provided to retrieve the object.",
            reason="InvalidRequest",
        )
    return _checked(customer_key)


def _checked(customer_key: bytes) -> bytes:
    if len(customer_key) != KEY_BYTES:
        raise InvalidRequest(
            "The secret key was invalid for the specified algorithm.", reason="InvalidArgument"
        )
    return customer_key


def _place(bucket_id: bytes, key: bytes) -> dict[str, str]:
    return {f"{_OURS}bucket": bucket_id.hex(), f"{_OURS}key": base64.b64encode(key).decode()}


def _cipher(record: EncryptionRecord, plain: bytes) -> DataCipher:
    return DataCipher(plain, 2 if record.method == SSE_KMS_TWICE else 1)


# Wrapping by the customer's key, each time under a key of its own that is derived from it.


def _wrap(customer_key: bytes, plain: bytes, place: Mapping[str, str]) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    return salt + _wrapping(customer_key, salt).encrypt(_NONCE, plain, _bound(place))


def _unwrap(customer_key: bytes, record: EncryptionRecord, place: Mapping[str, str]) -> bytes:
    salt, sealed = record.wrapped[:_SALT_BYTES], record.wrapped[_SALT_BYTES:]
    try:
        return _wrapping(customer_key, salt).decrypt(_NONCE, sealed, _bound(place))
    except InvalidTag:
        if hmac.compare_digest(key_md5(customer_key), record.customer_key_md5):
            raise AccessDenied("the data key was wrapped for another object") from None
        raise InvalidRequest(
            "The provided encryption parameters did not match the ones used originally.",
            reason="InvalidRequest",
        ) from None


def _wrapping(customer_key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(customer_key, _CUSTOMER_LABEL + salt, hashlib.sha256))


def _bound(place: Mapping[str, str]) -> bytes:
    return "\0".join(f"{name}={value}" for name, value in sorted(place.items())).encode()
