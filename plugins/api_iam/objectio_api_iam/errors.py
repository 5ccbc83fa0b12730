"""What goes wrong, in the words of IAM and STS (API references, "Common errors")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from objectio import errors
from objectio_api_iam.xml import element, escape


class Refusal(errors.ObjectIOError):
    """A code of AWS, with what is to be said."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message, reason=code)
        self.code = code


class Answer(NamedTuple):
    code: str
    status: int
    message: str


# By code: the status, and what is said if the error has nothing to say to the caller.
_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "AccessDenied": (403, "User is not authorized to perform this operation."),
    "ConcurrentModification": (409, "The resource is being changed. Please try again."),
    "DeleteConflict": (409, "Cannot delete entity, must remove its dependents first."),
    "EntityAlreadyExists": (409, "The entity already exists."),
    "ExpiredToken": (400, "The security token included in the request is expired"),
    "ExpiredTokenException": (400, "The web identity token that was passed is expired."),
    "IDPCommunicationError": (400, "The identity provider could not be reached."),
    "IncompleteSignature": (400, "The request signature does not conform to AWS standards."),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "InvalidAction": (400, "The action is not known here."),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "InvalidIdentityToken": (400, "The web identity token that was passed could not be validated."),
    "InvalidInput": (400, "The input is invalid."),
    "LimitExceeded": (409, "The request would exceed a limit."),
    "MalformedPolicyDocument": (400, "The policy document is malformed."),
    "MalformedQueryString": (400, "The body is not a form."),
    "MethodNotAllowed": (405, "This is asked with POST."),
    "MissingAuthenticationToken": (403, "Request is missing Authentication Token"),
    "MissingParameter": (400, "A parameter that is required is missing."),
    "NoSuchEntity": (404, "The entity cannot be found."),
    "NotImplemented": (501, "Identities are not managed from this node."),
    "PackedPolicyTooLarge": (400, "The policies and tags of the session are too large."),
    "RequestEntityTooLarge": (413, "The request is too large."),
    "RequestExpired": (400, "The request has expired."),
    "RequestTimeout": (408, "The body did not come in time."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided.",
    ),
    "Throttling": (400, "Rate exceeded"),
    "ValidationError": (400, "The input fails to satisfy the constraints of the service."),
}

_BY_TYPE: Final[Mapping[type[Exception], str]] = {
    errors.NotFound: "NoSuchEntity",
    errors.AlreadyExists: "EntityAlreadyExists",
    errors.NotEmpty: "DeleteConflict",
    errors.InvalidRequest: "ValidationError",
    errors.CommitConflict: "ServiceUnavailable",
    errors.Unavailable: "ServiceUnavailable",
    errors.InsufficientShards: "ServiceUnavailable",
    errors.WriteQuorumFailed: "ServiceUnavailable",
    errors.PayloadTooLarge: "RequestEntityTooLarge",
    errors.PayloadTimeout: "RequestTimeout",
    errors.PayloadDigestMismatch: "SignatureDoesNotMatch",
    errors.PayloadError: "MalformedQueryString",
    errors.Unauthenticated: "MissingAuthenticationToken",
    errors.CredentialsMalformed: "IncompleteSignature",
    errors.UnknownAccessKey: "InvalidClientTokenId",
    errors.SignatureMismatch: "SignatureDoesNotMatch",
    errors.RequestExpired: "RequestExpired",
    errors.ClockSkewed: "SignatureDoesNotMatch",
    errors.AccessError: "AccessDenied",
    errors.OperationNotImplemented: "NotImplemented",
    errors.MethodNotAllowed: "MethodNotAllowed",
}

# What the kernel's errors say in `reason`, where it is more than their type does.
_BY_REASON: Final[Mapping[str, str]] = {
    "ExpiredToken": "ExpiredToken",
    "InvalidToken": "InvalidClientTokenId",
    "LimitExceeded": "LimitExceeded",
    "MalformedPolicy": "MalformedPolicyDocument",
    "MalformedPolicyDocument": "MalformedPolicyDocument",
    "PackedPolicyTooLarge": "PackedPolicyTooLarge",
}

# Whose own text is written for callers.
_TOLD: Final = (errors.InvalidRequest, errors.NotFound, errors.AlreadyExists, errors.NotEmpty)


def explain(error: Exception) -> Answer:
    code = _find_code(error)
    status, message = _CODES[code]
    if isinstance(error, (Refusal, *_TOLD)):
        message = str(error) or message
    return Answer(code, status, message)


def _find_code(error: Exception) -> str:
    if isinstance(error, Refusal) and error.code in _CODES:
        return error.code
    if isinstance(error, (errors.AccessError, errors.InvalidRequest)):
        code = _BY_REASON.get(str(error.fields.get("reason")))
        if code is not None:
            return code
    for kind in type(error).__mro__:
        if kind in _BY_TYPE:
            return _BY_TYPE[kind]
    return "InternalFailure"


def document(answer: Answer, namespace: str, request_id: str) -> bytes:
    kind = "Sender" if answer.status < 500 else "Receiver"
    inner = (
        element("Type", kind) + element("Code", answer.code) + element("Message", answer.message)
    )
    return (
        f'<ErrorResponse xmlns="{escape(namespace)}"><Error>{inner}</Error>'
        f"{element('RequestId', request_id)}</ErrorResponse>"
    ).encode()
