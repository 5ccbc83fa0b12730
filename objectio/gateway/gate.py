"""The one gate: who calls, and whether they may. Every request of every front end comes through.

What it does not know is denied: an unknown kind of credentials, an action that nothing allows. The
only rule so far is that the root identity may do anything and nobody else may do anything; policies
will be asked in `authorize`, which is where every front end and every handler already comes.

With authentication disabled (`--no-auth`) every caller is the root. Credentials that are sent
anyway are not looked at, so that clients which always sign keep working; aws-chunked bodies are
decoded and plain content hashes are checked, since those protect the data and not the door, and
chunk signatures are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from objectio.abc.api import ANONYMOUS, Access, Identity, Scope, Wanted
from objectio.errors import AccessDenied, Unauthenticated
from objectio.iam import canonical
from objectio.iam.credentials import CredentialStore, root_identity
from objectio.iam.sigv4 import Signed, SigV4Verifier, collect_headers

ROOT = root_identity("")


class Authenticated(NamedTuple):
    """`signed` is what the body is verified against; None when nobody signed."""

    identity: Identity
    signed: Signed | None


_AS_ROOT = Authenticated(ROOT, None)
_AS_ANONYMOUS = Authenticated(ANONYMOUS, None)


class Gate:
    """Authenticates and authorizes.

    regions_also                 regions to accept in a signature besides `region`
    unsigned_payload_over_http   whether a body that nothing covers (UNSIGNED-PAYLOAD and the
                                 unsigned trailer form) is taken over plain http. On by default:
                                 presigned uploads are of this kind, and TLS often ends in front of
                                 us
    """

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        region: str = "us-east-1",
        regions_also: Collection[str] = ("us-east-1",),
        auth_enabled: bool = True,
        unsigned_payload_over_http: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.auth_enabled = auth_enabled
        self._verify = SigV4Verifier(
            credentials, region=region, regions_also=regions_also, clock=clock
        ).verify
        self._unsigned_payload_over_http = unsigned_payload_over_http

    def authenticate(
        self, scope: Scope, access: Access, headers: Mapping[bytes, bytes] | None = None
    ) -> Authenticated:
        """`headers` as `collect_headers` gives them, if the caller has them already."""
        if not self.auth_enabled:
            return _AS_ROOT
        if headers is None:
            headers = collect_headers(scope["headers"])
        signed = self._verify(scope["method"], scope["raw_path"], scope["query_string"], headers)
        if signed is None:
            if access.public:
                return _AS_ANONYMOUS
            raise Unauthenticated("Access Denied", reason="AccessDenied")
        if not self._unsigned_payload_over_http:
            self._check_covered(scope, access, signed)
        return Authenticated(signed.credential.identity, signed)

    def authorize(self, identity: Identity, action: str, resource: str) -> None:
        """Raises `AccessDenied` unless something allows it."""
        if identity.is_root:
            return
        raise AccessDenied("Access Denied", reason="AccessDenied", action=action, resource=resource)

    def admit(self, identity: Identity, access: Access) -> None:
        """Authorizes all that a request asks for."""
        if not access.public:
            self.authorize(identity, access.action, access.resource)
        for wanted in access.also:
            self.authorize(identity, wanted.action, wanted.resource)

    async def trust(self, identity: Identity, wanted: Wanted) -> None:
        """What a handler found out later that it wants."""
        self.authorize(identity, wanted.action, wanted.resource)

    def _check_covered(self, scope: Scope, access: Access, signed: Signed) -> None:
        uncovered = signed.content_sha256 in (
            canonical.UNSIGNED_PAYLOAD,
            canonical.STREAMING_UNSIGNED_TRAILER,
        )
        takes_body = access.payload or access.body_bytes_max > 0
        if uncovered and takes_body and scope["scheme"] != "https":
            raise AccessDenied(
                "An unsigned payload is not accepted over plain http", reason="AccessDenied"
            )
