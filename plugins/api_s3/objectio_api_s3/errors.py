"""From an error of ObjectIO to S3's: code, status, message and the XML that says so.

What the client may read is written here. The text of an exception is shown only where it is about
what the client sent: that of a `Refusal`, and of errors about credentials and bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn

from objectio import errors
from objectio_api_s3.codes import CODES
from objectio_api_s3.xml import PROLOG, escape_strictly


class Refusal(errors.InvalidRequest):
    """A request that S3 itself refuses. `details` become elements of the error document."""

    def __init__(self, code: str, message: str = "", **details: str) -> None:
        super().__init__(message, reason=code)
        self.details = details


def refuse(code: str, message: str = "", **details: str) -> NoReturn:
    raise Refusal(code, message, **details)


class Answer(NamedTuple):
    """What is told about an error."""

    code: str
    status: int
    message: str


_BY_CLASS: Final[Mapping[type[Exception], str]] = {
    errors.InvalidRequest: "InvalidRequest",
    errors.NotEmpty: "BucketNotEmpty",
    errors.PreconditionFailed: "PreconditionFailed",
    errors.NotModified: "NotModified",
    errors.RangeNotSatisfiable: "InvalidRange",
    errors.CommitConflict: "SlowDown",
    errors.InsufficientShards: "SlowDown",
    errors.WriteQuorumFailed: "ServiceUnavailable",
    errors.Unavailable: "ServiceUnavailable",
    errors.DeviceFailed: "ServiceUnavailable",
    errors.DeviceFull: "InsufficientStorage",
    errors.QuotaExceeded: "QuotaExceeded",
    errors.PayloadIncomplete: "IncompleteBody",
    errors.PayloadTooLarge: "EntityTooLarge",
    errors.PayloadMalformed: "InvalidRequest",
    errors.PayloadTimeout: "RequestTimeout",
    errors.Unauthenticated: "AccessDenied",
    errors.CredentialsMalformed: "AuthorizationHeaderMalformed",
    errors.UnknownAccessKey: "InvalidAccessKeyId",
    errors.SignatureMismatch: "SignatureDoesNotMatch",
    errors.RequestExpired: "AccessDenied",
    errors.ClockSkewed: "RequestTimeTooSkewed",
    errors.AccessDenied: "AccessDenied",
    errors.OperationNotImplemented: "NotImplemented",
    errors.MethodNotAllowed: "MethodNotAllowed",
}

_MISSING: Final[Mapping[str, str]] = {
    "bucket": "NoSuchBucket",
    "object": "NoSuchKey",
    "version": "NoSuchVersion",
    "upload": "NoSuchUpload",
    "part": "InvalidPart",
}

# Fields of errors that clients may see, and the elements that AWS puts them in.
_ELEMENTS: Final[Mapping[str, str]] = {
    "bucket": "BucketName",
    "upload_id": "UploadId",
    "version_id": "VersionId",
    "part_number": "PartNumber",
    "etag": "ETag",
    "size_min": "MinSizeAllowed",
    "condition": "Condition",
}


# The gate and the reader of bodies say in `reason` which of S3's codes is meant, and write their
# messages for the client: they are about what it sent.
_TOLD: Final = (Refusal, errors.AccessError, errors.PayloadError)
_REASONED: Final = (
    errors.InvalidRequest,
    errors.AccessError,
    errors.PayloadError,
    errors.Unavailable,
)


def _code(error: Exception) -> str:
    if isinstance(error, _REASONED):
        reason = error.fields.get("reason")
        if isinstance(reason, str) and reason in CODES:
            return reason
    if isinstance(error, errors.NotFound):
        return _MISSING.get(str(error.fields.get("kind", "")), "InternalError")
    if isinstance(error, errors.PayloadDigestMismatch):
        digest = error.fields.get("digest")
        if digest == "sha256-header":
            return "XAmzContentSHA256Mismatch"
        signed = digest in ("chunk-signature", "trailer-signature")
        return "SignatureDoesNotMatch" if signed else "BadDigest"
    for kind in type(error).__mro__:
        if kind in _BY_CLASS:
            return _BY_CLASS[kind]
    return "InternalError"


def explain(error: Exception, caller: str = "") -> Answer:
    """The code, status and message of an error. `caller` is who asked, for whose bucket it is."""
    if isinstance(error, errors.AlreadyExists):
        owned = bool(caller) and error.fields.get("owner") == caller
        code = "BucketAlreadyOwnedByYou" if owned else "BucketAlreadyExists"
    else:
        code = _code(error)
    status, message = CODES[code]
    if isinstance(error, _TOLD) and error.message:
        message = error.message
    return Answer(code, status, message)


def elements(error: Exception) -> list[tuple[str, str]]:
    """What else is said about an error, as pairs for `document`."""
    if isinstance(error, Refusal):
        return list(error.details.items())
    if not isinstance(error, (errors.StorageError, errors.PayloadError)):
        return []
    named = error.fields.items()
    return [
        (_ELEMENTS[name], str(value))
        for name, value in named
        if name in _ELEMENTS and value is not None
    ]


def document(
    answer: Answer, resource: str, request_id: str, host_id: str, more: list[tuple[str, str]]
) -> bytes:
    """The error document, as in the S3 API reference, "Error responses"."""
    fields = [("Code", answer.code), ("Message", answer.message), *more]
    fields += [("Resource", resource), ("RequestId", request_id), ("HostId", host_id)]
    inner = "".join(f"<{name}>{escape_strictly(value)}</{name}>" for name, value in fields)
    return f"{PROLOG}<Error>{inner}</Error>".encode()
