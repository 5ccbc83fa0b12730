"""Bearer tokens: what a client that cannot sign shows in place of a signature, for some minutes.

    POST /v1/tokens  {"seconds": 900}  →  {"token": "…", "expires_ms": 1790000000000, …}
    GET  /v1/disks   Authorization: Bearer …

A token is got by a signed request only, never by another token, or one would last for ever. Whoever
shows it is who signs with the same access key at that moment: it ends with the key.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio_api_admin.shapes import Order, Route, identities_of

AUDIENCE: Final = "admin"
"""Of the tokens that this API takes: they are good for nothing else."""

TOKEN_SECONDS_MIN: Final = 60
TOKEN_SECONDS_MAX: Final = 3_600

Seconds = Annotated[
    int,
    msgspec.Meta(
        ge=TOKEN_SECONDS_MIN, le=TOKEN_SECONDS_MAX, description="How long the token is good."
    ),
]


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: Seconds = 900


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """`token` goes into the header, `Authorization: Bearer <token>`, until `expires_ms`."""

    token: str
    expires_ms: int
    access_key: str


async def create_token(context: ApiContext, order: Order) -> Token:
    """The only answer that has the token."""
    wanted: NewToken = order.body
    made = await identities_of(context).issue_bearer(
        order.identity, AUDIENCE, seconds=wanted.seconds, session_token=order.session_token
    )
    return Token(token=made.token, expires_ms=made.expires_ms, access_key=order.identity.access_key)


ROUTES: Final = (
    Route(
        "POST",
        "/v1/tokens",
        "CreateToken",
        "token",
        create_token,
        "context",
        body=NewToken,
        returns=Token,
        summary="Makes a bearer token for who signed the request; it is shown this once.",
        bearer=False,
    ),
)
