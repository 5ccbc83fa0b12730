"""The one gate: who calls, and whether they may. Every request of every front end comes through.

What it does not know is denied: an unknown kind of credentials, an action that nothing allows. The
root identity may do anything; for everyone else, nobody at all (`ANONYMOUS`) among them, the guard
decides. An operation that says it is public is let in without being asked about, and asks itself, by
`Request.trust`, for what it does.

A bearer token stands in place of a signature only where the operation says so (`Access.bearer`), and
only one for that audience. Anywhere else it is malformed, as all credentials that are not known.

With authentication disabled (`--no-auth`) every caller is the root. Credentials that are sent
anyway are not looked at, so that clients which always sign keep working; aws-chunked bodies are
decoded and plain content hashes are checked, since those protect the data and not the door, and
chunk signatures are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from ipaddress import ip_network
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from objectio.abc.api import ANONYMOUS, Access, FormCredentials, Identity, Scope, Wanted
from objectio.errors import (
    AccessDenied,
    AccessError,
    CredentialsMalformed,
    SignatureMismatch,
    Unauthenticated,
    Unavailable,
    UnknownAccessKey,
)
from objectio.gateway.caller import Caller, Headers, find_peer
from objectio.gateway.guard import Guard
from objectio.iam import canonical
from objectio.iam.credentials import CredentialStore, root_identity
from objectio.iam.directory import IdentityDirectory
from objectio.iam.forms import FormVerifier
from objectio.iam.sigv4 import REGIONS_ALSO, Signed, SigV4Verifier, collect_headers

ROOT = root_identity("")
_S3: Final = b"s3"
_TOKEN: Final = b"x-amz-security-token"
_BEARER: Final = b"bearer "


class Authenticated(NamedTuple):
    """`signed` is what the body is verified against; None when nobody signed."""

    identity: Identity
    signed: Signed | None


_AS_ROOT = Authenticated(ROOT, None)
_AS_ANONYMOUS = Authenticated(ANONYMOUS, None)


class Gate:
    """Authenticates and authorizes.

    guard                        who decides about everyone but the root; None: they may do nothing
    regions_also                 regions to accept in a signature besides `region`
    unsigned_payload_over_http   whether a body that nothing covers (UNSIGNED-PAYLOAD and the
                                 unsigned trailer form) is taken over plain http. On by default:
                                 presigned uploads are of this kind, and TLS often ends in front of
                                 us
    trusted_proxies              networks of proxies whose X-Forwarded-For and -Proto are believed
    """

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        guard: Guard | None = None,
        region: str = "us-east-1",
        regions_also: Collection[str] = REGIONS_ALSO,
        auth_enabled: bool = True,
        unsigned_payload_over_http: bool = True,
        trusted_proxies: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.auth_enabled = auth_enabled
        self.region = region
        self.clock = clock
        self._guard = Guard(None, None) if guard is None else guard
        self._credentials = credentials
        self._directory = credentials if isinstance(credentials, IdentityDirectory) else None
        self._verify = SigV4Verifier(
            credentials, region=region, regions_also=regions_also, clock=clock
        ).verify
        self._verify_form = FormVerifier(
            credentials, region=region, regions_also=regions_also, clock=clock
        ).verify
        self._unsigned_payload_over_http = unsigned_payload_over_http
        self._proxies = [ip_network(each, strict=False) for each in trusted_proxies]

    # Who calls.

    def authenticate(
        self,
        scope: Scope,
        access: Access,
        headers: Headers | None = None,
        content_sha256: bytes | None = None,
    ) -> Authenticated:
        """`headers` as `collect_headers` gives them, if the caller has them already;
        `content_sha256` if the body was read."""
        if not self.auth_enabled:
            return _AS_ROOT
        if access.public and scope["method"] == "OPTIONS":
            # A preflight has no credentials: those in its query are of the request that it asks
            # about (WHATWG Fetch, "CORS-preflight fetch").
            return _AS_ANONYMOUS
        if headers is None:
            headers = collect_headers(scope["headers"])
        if access.bearer and (token := _bearer_of(headers)):
            _check_alone(scope, headers)
            return Authenticated(self._credentials.bearer(token, access.bearer).identity, None)
        service = _S3 if access.service == "s3" else access.service.encode()
        signed = self._verify(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            headers,
            service,
            content_sha256,
        )
        if signed is None:
            return _AS_ANONYMOUS
        if not self._unsigned_payload_over_http:
            self._check_covered(scope, access, headers, signed)
        return Authenticated(signed.credential.identity, signed)

    async def authenticate_again(
        self,
        scope: Scope,
        access: Access,
        headers: Headers,
        content_sha256: bytes | None,
        refused: AccessError | Unavailable,
    ) -> Authenticated:
        """A key may have been made or changed elsewhere a moment ago: ask once more."""
        token = headers.get(_TOKEN) or _token_of(scope["query_string"])
        bearer = _bearer_of(headers) if access.bearer else ""
        if not await self._refresh(refused, token.decode("latin-1"), bearer):
            raise refused
        return self.authenticate(scope, access, headers, content_sha256)

    async def authenticate_form(self, form: FormCredentials) -> Identity:
        """Raises `AccessError`."""
        if not self.auth_enabled:
            return ROOT
        try:
            return self._verify_form(form).identity
        except (AccessError, Unavailable) as error:
            if not await self._refresh(error, form.security_token):
                raise
        return self._verify_form(form).identity

    async def _refresh(
        self, refused: AccessError | Unavailable, token: str, bearer: str = ""
    ) -> bool:
        """Both for an unknown key and a wrong signature, so that they take the same time."""
        directory = self._directory
        if directory is None or not directory.may_be_old or not _may_be_old(refused):
            return False
        if bearer:
            await directory.refresh_bearer(bearer)
            return True
        await directory.refresh(str(refused.fields.get("access_key", "")), token)
        return True

    def peer(self, scope: Scope, headers: Headers) -> tuple[str, bool]:
        """A `Peer`, as a plain tuple where that is all there is to it: each request has one."""
        if self._proxies:
            return find_peer(scope, headers, self._proxies)
        client = scope.get("client")
        return client[0] if client else "", scope["scheme"] == "https"

    # Whether they may.

    async def admit(self, caller: Caller, access: Access) -> None:
        """Authorizes all that a request asks for. Raises `AccessDenied`, or `Unauthenticated` for who
        is nobody."""
        try:
            if not access.public:
                await self.judge(
                    caller,
                    Wanted(access.action, access.resource, access.version_id, access.conditions),
                )
            creating = access.action == "s3:CreateBucket"
            for wanted in access.also:
                await self.judge(caller, wanted, creating=creating)
        except AccessDenied as error:
            if caller.identity is ANONYMOUS:
                raise Unauthenticated(error.message, **error.fields) from None
            raise

    async def judge(self, caller: Caller, wanted: Wanted, *, creating: bool = False) -> None:
        """Raises `AccessDenied` unless something allows it."""
        await self._guard.judge(
            caller.identity, wanted, caller.values, creating=creating, judged=caller.judged
        )

    def _check_covered(
        self, scope: Scope, access: Access, headers: Headers, signed: Signed
    ) -> None:
        uncovered = signed.content_sha256 in (
            canonical.UNSIGNED_PAYLOAD,
            canonical.STREAMING_UNSIGNED_TRAILER,
        )
        takes_body = access.payload or access.body_bytes_max > 0
        if uncovered and takes_body and not self.peer(scope, headers)[1]:
            raise AccessDenied(
                "An unsigned payload is not accepted over plain http", reason="AccessDenied"
            )


def _may_be_old(refused: AccessError | Unavailable) -> bool:
    """Whether it was refused for something that is kept in rows."""
    if isinstance(refused, CredentialsMalformed):
        return refused.fields.get("reason") == "InvalidToken"
    return isinstance(refused, UnknownAccessKey | SignatureMismatch | Unavailable)


def _bearer_of(headers: Headers) -> str:
    """RFC 6750 §2.1; "" if there is none. The scheme has no case (RFC 9110 §11.1)."""
    given = headers.get(b"authorization", b"")
    if given[: len(_BEARER)].lower() != _BEARER:
        return ""
    return given[len(_BEARER) :].strip(b" ").decode("latin-1") or "-"


def _check_alone(scope: Scope, headers: Headers) -> None:
    names = (name.lower() for name, _ in canonical.split_query(scope["query_string"]))
    if _TOKEN in headers or any(name.startswith(b"x-amz-") for name in names):
        raise CredentialsMalformed(
            "Only one auth mechanism allowed: a bearer token stands alone", reason="InvalidArgument"
        )


def _token_of(query: bytes) -> bytes:
    for name, value in canonical.split_query(query):
        if name.lower() == _TOKEN:
            return unquote_to_bytes(value)
    return b""
