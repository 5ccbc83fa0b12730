"""Bearer tokens: what stands in place of a signature for a while (RFC 6750).

Like session tokens they are sealed and self-contained, by a key of their own: no row is written. A token
says which access key stands behind it, and gives what that key gives at the moment when it is shown. It
has a proof of the key's secret, so a key whose secret was changed, or that was deleted and made anew, is
not the one that it was issued for. It is good for one audience only: who takes tokens says which.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

import msgspec

from objectio.errors import InvalidRequest
from objectio.iam.credentials import Credential, invalid_token
from objectio.iam.vault import Seal

PURPOSE: Final = "bearer"
SECONDS_MIN: Final = 60
SECONDS_MAX: Final = 3_600
TOKEN_CHARS_MAX: Final = 14 * 1024
"""One with the largest session token fits."""
AUDIENCE_CHARS_MAX: Final = 64

_NAME: Final = "token"
_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class Bearer(msgspec.Struct, frozen=True, array_like=True):
    """`session_token` is that of the access key, if it is one of a session, not in base64."""

    access_key: str
    audience: str
    expires_ms: int
    proof: bytes
    session_token: bytes = b""

    def __repr__(self) -> str:
        return f"Bearer({self.access_key})"

    @property
    def session(self) -> str:
        """The session token as clients send it; "" if there is none."""
        return base64.b64encode(self.session_token).decode()

    def is_of(self, credential: Credential) -> bool:
        expected = _prove(credential.secret_key, self.access_key, self.audience, self.expires_ms)
        return hmac.compare_digest(expected, self.proof)


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Bearer).decode


def make_bearer(
    credential: Credential, audience: str, expires_ms: int, session_token: str
) -> Bearer:
    """`session_token` has been verified."""
    proof = _prove(credential.secret_key, credential.access_key, audience, expires_ms)
    raw = base64.b64decode(session_token)
    return Bearer(credential.access_key, audience, expires_ms, proof, raw)


def seal_bearer(seal: Seal, bearer: Bearer) -> str:
    sealed = seal.close(_encode(bearer), _NAME)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def open_bearer(seal: Seal, token: str) -> Bearer:
    """Raises `CredentialsMalformed` (reason InvalidToken) for whatever was not made here. That it has
    expired, and for whom it is, is for the caller to see."""
    try:
        raw = token.encode("ascii")
        if len(raw) > TOKEN_CHARS_MAX or not _ALPHABET.issuperset(raw):
            raise InvalidRequest("no token")
        padded = raw + b"=" * (-len(raw) % 4)
        return _decode(seal.open(base64.urlsafe_b64decode(padded), _NAME))
    except (UnicodeEncodeError, binascii.Error, InvalidRequest, msgspec.MsgspecError):
        raise invalid_token() from None


def _prove(secret_key: str, access_key: str, audience: str, expires_ms: int) -> bytes:
    said = "\0".join((PURPOSE, access_key, audience, str(expires_ms)))
    return hmac.digest(secret_key.encode(), said.encode(), "sha256")
