"""What signs a form upload: fields of the form, over the policy document that is one of them.

S3 API reference, "Browser-based uploads using POST (AWS signature version 4)": the signature is that
of the policy in base64, as it was sent. What the policy says (until when it holds, what may be in the
form) is not looked at here. The older form, which has an access key and an HMAC-SHA1 of the policy in
base64, is taken too: forms are written by hand, and clients still have it.

As with requests, an unknown access key takes the same steps as a wrong signature.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Callable, Collection
from typing import Final

from objectio.abc.api import FormCredentials
from objectio.errors import (
    AccessError,
    CredentialsMalformed,
    RequestExpired,
    SignatureMismatch,
)
from objectio.iam import canonical
from objectio.iam.credentials import Credential, CredentialStore
from objectio.iam.sigv4 import (
    CLOCK_SKEW_SECONDS_MAX,
    NOBODYS_SECRET,
    PRESIGNED_SECONDS_MAX,
    REGIONS_ALSO,
    unknown_access_key,
)
from objectio.iam.timestamps import parse_timestamp

OLD_ALGORITHM: Final = "HMAC-SHA1"
"""Of `FormCredentials` whose `credential` is an access key, and `signature` in base64."""

_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_SHA1_BYTES: Final = 20


class FormVerifier:
    """Verifies form credentials for one region against one credential store."""

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        region: str = "us-east-1",
        regions_also: Collection[str] = REGIONS_ALSO,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._regions = frozenset((region, *regions_also))
        self._clock = clock

    def verify(self, form: FormCredentials) -> Credential:
        """Raises `AccessError`."""
        if form.algorithm == OLD_ALGORITHM:
            return self._verify_old(form)
        if form.algorithm != canonical.ALGORITHM.decode():
            raise _malformed("X-Amz-Algorithm only supports AWS4-HMAC-SHA256")
        parts = form.credential.rsplit("/", 4)
        if len(parts) != 5 or not parts[0]:
            raise _malformed(
                'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/s3/'
                'aws4_request"'
            )
        access_key, date, region, service, terminator = parts
        if region not in self._regions:
            raise _malformed(f"the region '{region}' is wrong")
        if service != "s3" or terminator != canonical.TERMINATOR.decode():
            raise _malformed("the Credential is not for s3 and aws4_request")
        self._check_date(form.date, date)
        if not _SIGNATURE.fullmatch(form.signature):
            raise _malformed("X-Amz-Signature must be 64 lower-case hexadecimal digits")
        credential, refused = self._find(access_key, form.security_token)
        secret = NOBODYS_SECRET if credential is None else credential.secret_key
        key = canonical.signing_key(secret, date.encode(), region.encode(), b"s3")
        expected = canonical.signature(key, form.policy)
        return _answer(credential, refused, expected, form.signature.encode(), access_key)

    def _verify_old(self, form: FormCredentials) -> Credential:
        try:
            given = base64.b64decode(form.signature.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            given = b""
        if len(given) != _SHA1_BYTES:
            given = b""  # as wrong as any other
        credential, refused = self._find(form.credential, form.security_token)
        secret = NOBODYS_SECRET if credential is None else credential.secret_key
        expected = hmac.digest(secret.encode(), form.policy, "sha1")
        return _answer(credential, refused, expected, given, form.credential)

    def _check_date(self, text: str, date: str) -> None:
        seconds = parse_timestamp(text.encode("latin-1", "replace"))
        if seconds is None or text[:8] != date:
            raise _malformed("X-Amz-Date must be a time of the day that the Credential names")
        age = self._clock() - seconds
        if not -CLOCK_SKEW_SECONDS_MAX <= age <= PRESIGNED_SECONDS_MAX:
            raise RequestExpired(
                "Invalid according to Policy: Policy expired.", reason="AccessDenied"
            )

    def _find(self, access_key: str, token: str) -> tuple[Credential | None, AccessError]:
        unknown = unknown_access_key(access_key.encode("latin-1", "replace"))
        if not token:
            return self._credentials.lookup(access_key), unknown
        try:
            return self._credentials.session(access_key, token), unknown
        except CredentialsMalformed as error:
            return None, error


def _answer(
    credential: Credential | None,
    refused: AccessError,
    expected: bytes,
    given: bytes,
    access_key: str,
) -> Credential:
    matches = hmac.compare_digest(expected, given)
    if credential is None:
        raise refused
    if not matches:
        raise SignatureMismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            reason="SignatureDoesNotMatch",
            access_key=access_key,
        )
    return credential


def _malformed(message: str) -> CredentialsMalformed:
    return CredentialsMalformed(message, reason="InvalidArgument")
