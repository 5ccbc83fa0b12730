"""Virtual hosts: which bucket the name says by which a client reached this server (S3 user guide,
"Virtual hosting of general purpose buckets").

Only what stands in the path of the URL is changed by it; the signature is over the request as it
was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from objectio.abc.api import Scope


class Host(NamedTuple):
    """`bucket` "" where the path says it; `site` for the bucket as a website."""

    bucket: str = ""
    site: bool = False


PATH_STYLE: Final = Host()


class Hosts:
    def __init__(self, domains: Sequence[str], website_domains: Sequence[str]) -> None:
        both = [(name, False) for name in domains] + [(name, True) for name in website_domains]
        # The longest first: one may be below the other.
        self._suffixes = sorted(
            ((f".{name}".encode("ascii"), site) for name, site in both),
            key=lambda one: -len(one[0]),
        )

    def find(self, scope: Scope) -> Host:
        if not self._suffixes:
            return PATH_STYLE
        for name, value in scope["headers"]:
            if name == b"host":
                return self._match(value)
        return PATH_STYLE

    def _match(self, value: bytes) -> Host:
        host = value.lower()
        name, colon, port = host.rpartition(b":")
        if colon and port.isdigit():
            host = name
        for suffix, site in self._suffixes:
            if host.endswith(suffix) and len(host) > len(suffix):
                return Host(host[: -len(suffix)].decode("latin-1"), site)
            if host == suffix[1:]:
                return PATH_STYLE
        return PATH_STYLE
