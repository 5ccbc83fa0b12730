"""Verification of AWS Signature Version 4, in the Authorization header or in the query. No I/O.

Theory of operation. `SigV4Verifier.verify` answers who signed a request: a `Signed`, or None for a
request that carries no credentials at all. Whatever it carries that is not a valid signature of
this version raises; there is no third answer. Each error's `fields["reason"]` is the S3 error code.

What must hold, beyond the signature itself:
- credentials stand in the header or in the query, never in both;
- the scope's date is that of the timestamp, its region one of ours, its service the front end's;
- header form: the timestamp is within 15 minutes of our clock;
- query form: 1 … 604,800 seconds of validity, counted from a timestamp that is not in the future;
- `host` and every x-amz-* header that is present are signed (in header form content-md5 too), so
  that nobody can add an unsigned x-amz-copy-source to somebody's presigned URL;
- a session token, where there is one, is that of the access key; temporary keys mean nothing without
  theirs, and others take none.

Regions: the configured one, and those of `regions_also` (by default us-east-1 and "", for which
clients sign that were told no region). Any other is answered with the region to use, as AWS does, and
SDKs then sign again.

An unknown access key is checked against a secret that nobody has, with the same steps in the same
order, so that the time of the answer does not tell it from a wrong signature.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from objectio.errors import (
    AccessDenied,
    AccessError,
    ClockSkewed,
    CredentialsMalformed,
    RequestExpired,
    SignatureMismatch,
    Unauthenticated,
    UnknownAccessKey,
)
from objectio.iam import canonical
from objectio.iam.credentials import Credential, CredentialStore, invalid_token
from objectio.iam.timestamps import header_time, parse_timestamp

CLOCK_SKEW_SECONDS_MAX: Final = 15 * 60
PRESIGNED_SECONDS_MAX: Final = 7 * 24 * 3600
AUTHORIZATION_BYTES_MAX: Final = 8 * 1024
SIGNED_HEADERS_CACHED_MAX: Final = 512
REGIONS_ALSO: Final = ("us-east-1", "")

_HEADER_ERROR: Final = "AuthorizationHeaderMalformed"
_QUERY_ERROR: Final = "AuthorizationQueryParametersError"

# The form that every SDK writes. Anything else goes through `_parse_authorization`.
_AUTHORIZATION = re.compile(
    rb"AWS4-HMAC-SHA256 Credential=([^,\s/]+)/([0-9]{8}/([^,\s/]+)/([^,\s/]+)/aws4_request), ?"
    rb"SignedHeaders=([a-z0-9;_.-]+), ?Signature=([0-9a-f]{64})"
)
_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
_DATE = re.compile(rb"[0-9]{8}")
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2, lower case
_SECONDS = re.compile(rb"-?[0-9]{1,40}")

# Headers that mean nothing, or something dangerous, when they are sent twice.
_SINGLE = frozenset(
    {
        b"authorization",
        b"host",
        b"date",
        b"content-length",
        b"content-md5",
        b"transfer-encoding",
        b"x-amz-date",
        b"x-amz-content-sha256",
        b"x-amz-decoded-content-length",
        b"x-amz-security-token",
        b"x-amz-copy-source",
    }
)
_QUERY_CREDENTIALS = frozenset(
    {b"x-amz-algorithm", b"x-amz-credential", b"x-amz-signature", b"x-amz-signedheaders"}
)
_QUERY_REQUIRED = (
    b"x-amz-algorithm",
    b"x-amz-credential",
    b"x-amz-date",
    b"x-amz-expires",
    b"x-amz-signedheaders",
    b"x-amz-signature",
)
_QUERY_ONCE = frozenset({b"x-amz-content-sha256", b"x-amz-security-token"})
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
# Whoever guesses this gains nothing: its key answers UnknownAccessKey even when it matches.
NOBODYS_SECRET = secrets.token_hex(20)


class Signed(NamedTuple):
    """A verified signature, with what the chunk signatures of the body continue from."""

    credential: Credential
    content_sha256: bytes
    timestamp: bytes
    scope: bytes
    signature: bytes
    key: bytes
    presigned: bool


class _Claim(NamedTuple):
    """What a request says about its signature, parsed and checked for everything but the MAC."""

    access_key: bytes
    scope: bytes
    region: bytes
    service: bytes
    timestamp: bytes
    signed_headers: bytes
    signature: bytes
    content_sha256: bytes
    token: bytes = b""


def collect_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """ASGI headers (lower-case names) by name; repeated ones are joined, as SigV4 does."""
    pairs = headers if isinstance(headers, list) else list(headers)
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif name in _SINGLE:
            raise CredentialsMalformed(
                f"the header {name.decode('latin-1')} was sent twice", reason="InvalidRequest"
            )
        else:
            found[name] += b"," + value
    return found


class SigV4Verifier:
    """Verifies requests for one region against one credential store."""

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        region: str = "us-east-1",
        regions_also: Collection[str] = REGIONS_ALSO,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lookup = credentials.lookup
        self._session = credentials.session
        self._region = region
        self._regions = frozenset(item.encode() for item in (region, *regions_also))
        self._clock = clock

    def verify(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: Mapping[bytes, bytes],
        service: bytes = b"s3",
        content_sha256: bytes | None = None,
    ) -> Signed | None:
        """`raw_path` and `query` as they came over the wire; `headers` from `collect_headers`.
        `content_sha256` is that of a body which was read already, for services whose clients do not
        send it."""
        authorization = headers.get(b"authorization")
        pairs = canonical.split_query(query) if query else []
        names = _credential_names(query, pairs) if query else _NO_NAMES
        if names & _QUERY_CREDENTIALS or b"awsaccesskeyid" in names:
            if authorization is not None:
                raise CredentialsMalformed(
                    "Only one auth mechanism allowed: the query or the Authorization header",
                    reason="InvalidArgument",
                )
            if b"awsaccesskeyid" in names:
                _refuse_unsupported()
            return self._verify_query(method, raw_path, pairs, headers, service)
        if b"x-amz-security-token" in names:
            raise invalid_token()
        if authorization is None:
            if b"x-amz-security-token" in headers:
                raise invalid_token()
            return None
        claim = self._read_header(headers, authorization, service, content_sha256)
        return self._verify_claim(method, raw_path, pairs, headers, claim, False)

    def _read_header(
        self,
        headers: Mapping[bytes, bytes],
        authorization: bytes,
        wanted: bytes,
        content_sha256: bytes | None,
    ) -> _Claim:
        match = _AUTHORIZATION.fullmatch(authorization)
        groups = match.groups() if match else _parse_authorization(authorization)
        if content_sha256 is None:
            content_sha256 = _content_sha256(headers)
        access_key, scope, region, service, names, signature = groups
        timestamp, seconds = header_time(headers)
        self._check_scope(scope, region, service, wanted, timestamp, _HEADER_ERROR)
        now = self._clock()
        if not -CLOCK_SKEW_SECONDS_MAX <= now - seconds <= CLOCK_SKEW_SECONDS_MAX:
            raise ClockSkewed(
                "The difference between the request time and the current time is too large.",
                reason="RequestTimeTooSkewed",
                request_time=timestamp.decode(),
                server_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                skew_ms_max=CLOCK_SKEW_SECONDS_MAX * 1000,
            )
        token = headers.get(b"x-amz-security-token", b"")
        return _Claim(
            access_key, scope, region, service, timestamp, names, signature, content_sha256, token
        )

    def _verify_query(
        self,
        method: str,
        raw_path: bytes,
        pairs: list[tuple[bytes, bytes]],
        headers: Mapping[bytes, bytes],
        wanted: bytes,
    ) -> Signed:
        values = _query_values(pairs, headers)
        credential = values[b"x-amz-credential"].rsplit(b"/", 4)
        if len(credential) != 5 or not credential[0]:
            raise CredentialsMalformed(
                "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; "
                'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
                reason=_QUERY_ERROR,
            )
        access_key, date, region, service, terminator = credential
        scope = b"/".join((date, region, service, terminator))
        timestamp = values[b"x-amz-date"]
        seconds = parse_timestamp(timestamp)
        if seconds is None:
            raise CredentialsMalformed(
                "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
                reason=_QUERY_ERROR,
            )
        _check_terminator(terminator, date, _QUERY_ERROR)
        self._check_scope(scope, region, service, wanted, timestamp, _QUERY_ERROR)
        self._check_validity(values[b"x-amz-expires"], seconds)
        if not _SIGNATURE.fullmatch(values[b"x-amz-signature"]):
            raise CredentialsMalformed(
                "X-Amz-Signature must be 64 lower-case hexadecimal digits", reason=_QUERY_ERROR
            )
        claim = _Claim(
            access_key,
            scope,
            region,
            service,
            timestamp,
            values[b"x-amz-signedheaders"],
            values[b"x-amz-signature"],
            _query_content_sha256(values, headers),
            values.get(b"x-amz-security-token") or headers.get(b"x-amz-security-token", b""),
        )
        signed_pairs = [pair for pair in pairs if pair[0].lower() != b"x-amz-signature"]
        return self._verify_claim(method, raw_path, signed_pairs, headers, claim, True)

    def _check_scope(
        self,
        scope: bytes,
        region: bytes,
        service: bytes,
        wanted: bytes,
        timestamp: bytes,
        reason: str,
    ) -> None:
        if region not in self._regions:
            raise CredentialsMalformed(
                f"The authorization header is malformed; the region '{_show(region)}' is wrong; "
                f"expecting '{self._region}'",
                reason=reason,
                region=self._region,
            )
        if service != wanted:
            raise CredentialsMalformed(
                f"The credential is mal-formed; incorrect service '{_show(service)}'. "
                f"This endpoint belongs to '{wanted.decode()}'.",
                reason=reason,
            )
        if scope[:8] != timestamp[:8]:
            raise CredentialsMalformed(
                f'Invalid credential date "{_show(scope[:8])}". This date is not the same as '
                f'X-Amz-Date: "{_show(timestamp[:8])}".',
                reason=reason,
            )

    def _check_validity(self, expires: bytes, issued_seconds: int) -> None:
        if not _SECONDS.fullmatch(expires):
            raise CredentialsMalformed("X-Amz-Expires should be a number", reason=_QUERY_ERROR)
        validity_seconds = int(expires)
        if not 1 <= validity_seconds <= PRESIGNED_SECONDS_MAX:
            # AWS answers 400 for some of these; clients look for what an old URL gets, a 403.
            raise RequestExpired(
                f"X-Amz-Expires must be between 1 and {PRESIGNED_SECONDS_MAX} seconds",
                reason="AccessDenied",
            )
        now = self._clock()
        if issued_seconds > now + CLOCK_SKEW_SECONDS_MAX:
            raise RequestExpired("Request is not yet valid", reason="AccessDenied")
        if now > issued_seconds + validity_seconds:
            raise RequestExpired(
                "Request has expired",
                reason="AccessDenied",
                expires=issued_seconds + validity_seconds,
            )

    def _verify_claim(
        self,
        method: str,
        raw_path: bytes,
        pairs: list[tuple[bytes, bytes]],
        headers: Mapping[bytes, bytes],
        claim: _Claim,
        presigned: bool,
    ) -> Signed:
        reason = _QUERY_ERROR if presigned else _HEADER_ERROR
        names, name_set, names_line = _signed_names(claim.signed_headers, reason)
        _check_all_signed(name_set, headers, presigned)
        try:
            block = canonical.canonical_headers(names, headers)
        except KeyError as missing:
            raise SignatureMismatch(
                f"the header {_show(missing.args[0])} is signed but was not sent",
                reason="SignatureDoesNotMatch",
            ) from None
        refused: AccessError | None = None
        if claim.token:
            credential, refused = self._find_session(claim.access_key, claim.token)
        else:
            credential = self._lookup(claim.access_key.decode("latin-1"))
        key = canonical.signing_key(
            NOBODYS_SECRET if credential is None else credential.secret_key,
            claim.scope[:8],
            claim.region,
            claim.service,
        )
        verb = method.encode("latin-1")
        query = canonical.canonical_query(pairs) if pairs else b""
        request = b"\n".join((verb, raw_path, query, block, names_line, claim.content_sha256))
        text = canonical.string_to_sign(claim.timestamp, claim.scope, request)
        matches = hmac.compare_digest(canonical.signature(key, text), claim.signature)
        if not matches:
            matches = _matches_strictly(verb, raw_path, pairs, block, names_line, claim, key)
        if credential is None:
            raise refused or unknown_access_key(claim.access_key)
        if not matches:
            raise SignatureMismatch(
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
                reason="SignatureDoesNotMatch",
                access_key=credential.access_key,
                string_to_sign=_show(text),
                canonical_request=_show(request),
            )
        return Signed(
            credential,
            claim.content_sha256,
            claim.timestamp,
            claim.scope,
            claim.signature,
            key,
            presigned,
        )

    def _find_session(
        self, access_key: bytes, token: bytes
    ) -> tuple[Credential | None, AccessError | None]:
        """Where there are no such credentials, what is to be answered at the end."""
        try:
            return self._session(access_key.decode("latin-1"), token.decode("latin-1")), None
        except CredentialsMalformed as error:
            return None, error


def unknown_access_key(access_key: bytes) -> UnknownAccessKey:
    return UnknownAccessKey(
        "The AWS Access Key Id you provided does not exist in our records.",
        reason="InvalidAccessKeyId",
        access_key=_show(access_key),
    )


def _matches_strictly(
    verb: bytes,
    raw_path: bytes,
    pairs: list[tuple[bytes, bytes]],
    block: bytes,
    names_line: bytes,
    claim: _Claim,
    key: bytes,
) -> bool:
    """Whether the strictly encoded form of the same request was signed (see `canonical`)."""
    request = b"\n".join(
        (
            verb,
            canonical.strict_path(raw_path),
            canonical.strict_query(pairs),
            block,
            names_line,
            claim.content_sha256,
        )
    )
    text = canonical.string_to_sign(claim.timestamp, claim.scope, request)
    return hmac.compare_digest(canonical.signature(key, text), claim.signature)


def _show(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _refuse_unsupported() -> NoReturn:
    raise Unauthenticated(
        "The authorization mechanism you have provided is not supported. "
        "Please use AWS4-HMAC-SHA256.",
        reason="InvalidRequest",
    )


def _content_sha256(headers: Mapping[bytes, bytes]) -> bytes:
    try:
        return headers[b"x-amz-content-sha256"]
    except KeyError:
        raise CredentialsMalformed(
            "Missing required header for this request: x-amz-content-sha256",
            reason="InvalidRequest",
            header="x-amz-content-sha256",
        ) from None


def _credential_names(query: bytes, pairs: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The lower-case parameter names of a query, if it may hold any that concern us."""
    lowered = query.lower()
    if b"x-amz-" not in lowered and b"awsaccesskeyid" not in lowered:
        return _NO_NAMES
    return frozenset([name.lower() for name, _ in pairs])


def _parse_authorization(authorization: bytes) -> tuple[bytes, ...]:
    """The slow path: the unusual but legal order and spacing, and a precise error for the rest.
    Answers the same groups as `_AUTHORIZATION`."""
    scheme, _, rest = authorization.strip().partition(b" ")
    if not scheme:
        raise Unauthenticated("Access Denied", reason="AccessDenied")
    if scheme != canonical.ALGORITHM:
        _refuse_unsupported()
    if len(authorization) > AUTHORIZATION_BYTES_MAX:
        raise CredentialsMalformed("the Authorization header is too long", reason=_HEADER_ERROR)
    fields: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name not in (b"Credential", b"SignedHeaders", b"Signature") or name in fields:
            raise CredentialsMalformed(
                "The authorization header is malformed; expecting one each of Credential, "
                "SignedHeaders and Signature.",
                reason=_HEADER_ERROR,
            )
        fields[name] = value
    for wanted in (b"Credential", b"SignedHeaders", b"Signature"):
        if not fields.get(wanted):
            raise CredentialsMalformed(
                f"The authorization header is malformed; missing {wanted.decode()}.",
                reason=_HEADER_ERROR,
            )
    credential = fields[b"Credential"].rsplit(b"/", 4)
    if len(credential) != 5 or not credential[0]:
        raise CredentialsMalformed(
            "The authorization header is malformed; the Credential is mal-formed; "
            'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            reason=_HEADER_ERROR,
        )
    access_key, date, region, service, terminator = credential
    _check_terminator(terminator, date, _HEADER_ERROR)
    if not _SIGNATURE.fullmatch(fields[b"Signature"]):
        raise CredentialsMalformed(
            "The authorization header is malformed; "
            "the Signature must be 64 lower-case hexadecimal digits.",
            reason=_HEADER_ERROR,
        )
    scope = b"/".join((date, region, service, terminator))
    return access_key, scope, region, service, fields[b"SignedHeaders"], fields[b"Signature"]


def _check_terminator(terminator: bytes, date: bytes, reason: str) -> None:
    if terminator != canonical.TERMINATOR:
        raise CredentialsMalformed(
            f'The credential is mal-formed; incorrect terminal "{_show(terminator)}". '
            'This endpoint uses "aws4_request".',
            reason=reason,
        )
    if not _DATE.fullmatch(date):
        raise CredentialsMalformed(
            f'The credential is mal-formed; incorrect date format "{_show(date)}". '
            'This date in the credential must be in the format "yyyyMMdd".',
            reason=reason,
        )


@lru_cache(maxsize=SIGNED_HEADERS_CACHED_MAX)
def _signed_names(text: bytes, reason: str) -> tuple[tuple[bytes, ...], frozenset[bytes], bytes]:
    """SignedHeaders → (sorted names, the same as a set, the canonical line)."""
    names = tuple(sorted(text.split(b";")))
    name_set = frozenset(names)
    if (
        len(text) > AUTHORIZATION_BYTES_MAX
        or len(name_set) != len(names)
        or not all(_HEADER_NAME.fullmatch(name) for name in names)
    ):
        raise CredentialsMalformed(
            "SignedHeaders must be distinct lower-case header names", reason=reason
        )
    if b"host" not in name_set:
        raise CredentialsMalformed("SignedHeaders must contain host", reason=reason)
    return names, name_set, b";".join(names)


def _check_all_signed(
    signed: frozenset[bytes], headers: Mapping[bytes, bytes], presigned: bool
) -> None:
    unsigned = headers.keys() - signed
    bad = [name for name in unsigned if name[:6] == b"x-amz-"]
    if not presigned and b"content-md5" in unsigned:
        bad.append(b"content-md5")
    if bad:
        raise AccessDenied(
            "There were headers present in the request which were not signed",
            reason="AccessDenied",
            headers_not_signed=", ".join(sorted(_show(name) for name in bad)),
        )


def _query_values(
    pairs: list[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """The x-amz-* parameters of a presigned URL, decoded, by lower-case name."""
    values: dict[bytes, bytes] = {}
    for name, value in pairs:
        lowered = name.lower()
        if lowered[:6] != b"x-amz-":
            continue
        if lowered in values and (lowered in _QUERY_REQUIRED or lowered in _QUERY_ONCE):
            raise CredentialsMalformed(
                f"the query parameter {_show(name)} was sent twice", reason=_QUERY_ERROR
            )
        if b"%" in value:
            value = value.replace(b"%2F", b"/").replace(b"%3B", b";")
            if b"%" in value:
                value = unquote_to_bytes(value)
        values[lowered] = value
    if b"x-amz-security-token" in values and b"x-amz-security-token" in headers:
        raise invalid_token()
    for required in _QUERY_REQUIRED:
        if not values.get(required):
            raise CredentialsMalformed(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, "
                "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
                "X-Amz-Expires parameters.",
                reason=_QUERY_ERROR,
            )
    if values[b"x-amz-algorithm"] != canonical.ALGORITHM:
        raise CredentialsMalformed(
            'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"', reason=_QUERY_ERROR
        )
    return values


def _query_content_sha256(values: Mapping[bytes, bytes], headers: Mapping[bytes, bytes]) -> bytes:
    """A presigned URL covers any payload unless its signer said otherwise."""
    in_header = headers.get(b"x-amz-content-sha256")
    in_query = values.get(b"x-amz-content-sha256")
    if in_header is not None and in_query is not None and in_header != in_query:
        raise CredentialsMalformed(
            "X-Amz-Content-Sha256 in the query is not that of the header", reason=_QUERY_ERROR
        )
    return in_header or in_query or canonical.UNSIGNED_PAYLOAD
