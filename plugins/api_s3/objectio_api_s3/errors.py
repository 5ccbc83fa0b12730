"""From an error of ObjectIO to S3's: code, status, message and the XML that says so.

What the client may read is written here. The text of an exception is shown only where it is about
what the client sent: that of a `Refusal`, and of errors about credentials and bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn

from objectio import errors
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


_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is invalid."),
    "AuthorizationQueryParametersError": (400, "The authorization query parameters are invalid."),
    "BadDigest": (400, "The digest that you specified did not match what we received."),
    "BucketAlreadyExists": (409, "The requested bucket name is not available."),
    "BucketAlreadyOwnedByYou": (
        409,
        "The bucket that you tried to create already exists, and you own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size."),
    "IncompleteBody": (
        400,
        "You did not provide the number of bytes specified by the Content-Length header.",
    ),
    "InsufficientStorage": (507, "There is no space left for this request."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (
        403,
        "The AWS access key ID that you provided does not exist in our records.",
    ),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 or checksum value that you specified is not valid."),
    "InvalidLocationConstraint": (400, "The specified location constraint is not valid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable."),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable."),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "KeyTooLongError": (400, "Your key is too long."),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published "
        "schema.",
    ),
    "MalformedTrailerError": (
        400,
        "The request contained trailing data that was not well-formed or did not conform to our "
        "published schema.",
    ),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size."),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified multipart upload does not exist. The upload ID may be invalid, or the "
        "upload may have been aborted or completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NotImplemented": (
        501,
        "A header or query you provided implies functionality that is not implemented.",
    ),
    "NotModified": (304, "Not Modified"),
    "PreconditionFailed": (
        412,
        "At least one of the preconditions that you specified did not hold.",
    ),
    "QuotaExceeded": (403, "The quota does not allow this request."),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the server's time is too large.",
    ),
    "RequestTimeout": (
        400,
        "Your socket connection to the server was not read from or written to within the timeout "
        "period.",
    ),
    "ServiceUnavailable": (503, "Service is unable to handle the request. Please try again."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature that we calculated does not match the signature that you provided. "
        "Check your AWS secret access key and signing method.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}

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
        if isinstance(reason, str) and reason in _CODES:
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
    status, message = _CODES[code]
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
    return [(_ELEMENTS[name], str(value)) for name, value in named if name in _ELEMENTS]


def document(
    answer: Answer, resource: str, request_id: str, host_id: str, more: list[tuple[str, str]]
) -> bytes:
    """The error document, as in the S3 API reference, "Error responses"."""
    fields = [("Code", answer.code), ("Message", answer.message), *more]
    fields += [("Resource", resource), ("RequestId", request_id), ("HostId", host_id)]
    inner = "".join(f"<{name}>{escape_strictly(value)}</{name}>" for name, value in fields)
    return f"{PROLOG}<Error>{inner}</Error>".encode()
