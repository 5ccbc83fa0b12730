"""Secrets at rest: sealed by keys that the KMS has wrapped.

Each purpose has a key of its own, made when it is first asked for and kept, wrapped, in a row. The
KMS is asked once in the life of a process. What is sealed is bound to its purpose and to a name, so
that one secret cannot be put in place of another by who can write rows.

A sealed secret is a version (one byte, 1), a random nonce of 12 bytes, and what AES-256-GCM gives.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, Protocol

from objectio.abc.kms import KeyManager
from objectio.abc.kv import Absent
from objectio.errors import CommitConflict, InvalidRequest, Unavailable
from objectio.iam import rows
from objectio.kv.keys import prefix_end

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_OVERHEAD_BYTES: Final = 1 + _NONCE_BYTES + 16

Row = tuple[bytes, bytes]


class IdentityKV(Protocol):
    """What identities need of the key-value store, here or at the end of a connection."""

    async def aget(self, key: bytes, /) -> bytes | None: ...

    async def aget_many(self, keys: Sequence[bytes], /) -> list[bytes | None]: ...

    def arows(self, start: bytes, stop: bytes, /) -> Any:
        """Every row of a range (an async iterator)."""
        ...

    async def commit(self, checks: Sequence[Any], writes: Sequence[Any], /) -> None: ...

    def watch(self, prefix: bytes, /) -> Any:
        """Changes (an async iterator)."""
        ...


async def rows_of(kv: IdentityKV, prefix: bytes) -> list[Row]:
    return [row async for row in kv.arows(prefix, prefix_end(prefix))]


class Seal:
    """Seals and opens. Its key is never shown."""

    def __init__(self, purpose: str, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self._purpose = purpose.encode() + b"\0"

    def close(self, secret: bytes, name: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound = self._purpose + name.encode()
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, bound)

    def open(self, sealed: bytes, name: str) -> bytes:
        """Raises `InvalidRequest` for anything but what was sealed under this name."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < _OVERHEAD_BYTES or sealed[:1] != _VERSION:
            raise InvalidRequest("this is not a sealed secret", reason="seal")
        nonce = sealed[1 : 1 + _NONCE_BYTES]
        try:
            return self._cipher.decrypt(
                nonce, sealed[1 + _NONCE_BYTES :], self._purpose + name.encode()
            )
        except InvalidTag:
            raise InvalidRequest("a sealed secret does not open", reason="seal") from None


class Vault:
    """`kms` None: nothing can be sealed here."""

    def __init__(self, kv: IdentityKV, kms: KeyManager | None) -> None:
        self._kv = kv
        self._kms = kms
        self._seals: dict[str, Seal] = {}

    def opened(self, purpose: str) -> Seal:
        """Raises `Unavailable` before `open` has been successful."""
        try:
            return self._seals[purpose]
        except KeyError:
            raise Unavailable("the key management has not been reached", reason="kms") from None

    async def open(self, purpose: str, *, create: bool = True) -> Seal | None:
        """None only if there is no such key yet and none is to be made. Raises `Unavailable`, or
        what the KMS does."""
        if purpose in self._seals:
            return self._seals[purpose]
        row, context = rows.seal(purpose), {"objectio:identities": purpose}
        while (raw := await self._kv.aget(row)) is None:
            if not create:
                return None
            kms = self._manager()
            made = await kms.generate(kms.default_key, context)
            record = rows.encode(rows.SealRow(made.key_id, made.wrapped))
            try:
                await self._kv.commit([Absent(row)], [(row, record)])
            except CommitConflict:
                continue
        found = rows.decode_seal(raw)
        key = await self._manager().unwrap(found.key_id, found.wrapped, context)
        return self._seals.setdefault(purpose, Seal(purpose, key))

    def _manager(self) -> KeyManager:
        if self._kms is None:
            raise Unavailable("no key management is configured", reason="kms")
        return self._kms
