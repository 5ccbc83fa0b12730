"""Continuation tokens: where a listing goes on, in a form that clients can only pass back."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from objectio_api_s3.errors import refuse

_VERSION: Final = b"\x01"


def encode(position: bytes) -> str:
    return base64.urlsafe_b64encode(_VERSION + position).rstrip(b"=").decode("ascii")


def decode(token: bytes) -> bytes:
    """Raises InvalidArgument for what `encode` did not make."""
    padded = token + b"=" * (-len(token) % 4)
    try:
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if raw[:1] != _VERSION:
        refuse(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        )
    return raw[1:]
