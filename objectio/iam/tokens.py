"""Session tokens: what makes temporary credentials, sealed and self-contained.

Whoever takes on a role is given an access key ("ASIA…"), a secret and a token, and no row is written:
the token holds all of it, sealed by a key that only the gateways of the cluster have, which is used
for nothing else. Such an access key means nothing without its token. A role or user that is deleted
takes its sessions along, since the principal is looked up with each use.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import zlib
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from objectio.errors import CredentialsMalformed, InvalidRequest
from objectio.iam.credentials import invalid_token
from objectio.iam.vault import Seal

PURPOSE: Final = "sessions"
ACCESS_KEY_PREFIX: Final = "ASIA"
TOKEN_CHARS_MAX: Final = 12 * 1024
"""With this a presigned URL still fits into a request's head."""

_NAME: Final = "token"
_KEY_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

Holder = Literal["root", "user", "role"]


class Session(msgspec.Struct, frozen=True, array_like=True):
    """Who the credentials are of: `holder` with `id`, in `account`; that of a root tells the account from
    one that is made anew by the same name. `policies` are documents that narrow it down, `tags` and `keys`
    what it adds to each request. `begun_by` is the access key that it was begun with, and `begun_by_mark`
    its mark, where that key has limits: they hold here too, and the session ends with it."""

    access_key: str
    secret_key: str
    account: str
    holder: Holder
    id: str
    name: str
    expires_ms: int
    policies: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}
    keys: Mapping[str, tuple[str, ...]] = {}
    begun_by: str = ""
    begun_by_mark: bytes = b""

    def __repr__(self) -> str:
        return f"Session({self.access_key})"


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Session).decode


def make_access_key(prefix: str = "AKIA") -> str:
    """20 characters, as AWS makes them."""
    return prefix + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))


def make_secret_key() -> str:
    """40 characters, 240 bits."""
    return base64.b64encode(secrets.token_bytes(30)).decode()


def seal_session(seal: Seal, session: Session) -> str:
    """Raises `InvalidRequest` (reason PackedPolicyTooLarge)."""
    token = base64.b64encode(seal.close(zlib.compress(_encode(session)), _NAME)).decode()
    if len(token) > TOKEN_CHARS_MAX:
        raise InvalidRequest(
            "The session's policies and tags are too large.", reason="PackedPolicyTooLarge"
        )
    return token


def open_session(seal: Seal, token: str) -> Session:
    """Raises `CredentialsMalformed` (reason InvalidToken) for whatever was not made here. That it
    has expired is for the caller to see."""
    try:
        if len(token) > TOKEN_CHARS_MAX:
            raise InvalidRequest("too long")
        opened = seal.open(base64.b64decode(token.encode("ascii"), validate=True), _NAME)
        return _decode(zlib.decompress(opened))
    except (UnicodeEncodeError, binascii.Error, InvalidRequest, zlib.error, msgspec.MsgspecError):
        raise invalid_token() from None


def expired_token() -> CredentialsMalformed:
    return CredentialsMalformed("The provided token has expired.", reason="ExpiredToken")
