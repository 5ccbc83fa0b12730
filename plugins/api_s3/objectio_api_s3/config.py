"""Settings of the S3 API."""

from __future__ import annotations

from typing import Annotated

import msgspec

Domain = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
]


class S3Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's own section.

    domains           names of this server below which each bucket has a name of its own: with
                      "s3.example.org", `bucket.s3.example.org` is the bucket (virtual-host style).
                      By any other name, and by these themselves, paths begin with the bucket
    website_domains   the same for buckets as websites, which answer browsers there: pages, redirects
                      and errors in HTML
    """

    domains: tuple[Domain, ...] = ()
    website_domains: tuple[Domain, ...] = ()
