"""The section [api.iam]."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

IssuerUrl = Annotated[str, Meta(pattern=r"^https?://[^\s?#]+$")]


class IamConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The IAM and STS APIs."""

    trusted_issuers: Annotated[
        tuple[IssuerUrl, ...],
        Meta(
            description="Issuers of web identities (OpenID Connect) whose keys may be fetched over "
            "plain http and from private addresses, as URLs. All others, which accounts register for "
            "themselves, are asked over https at public addresses only."
        ),
    ] = ()
    issuer_timeout_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long an issuer may take to show its keys.")
    ] = 5.0
