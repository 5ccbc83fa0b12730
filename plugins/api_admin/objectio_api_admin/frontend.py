"""The front end: classify, app, error. It knows no operation but those of the table of routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from objectio import errors
from objectio.abc.api import (
    Access,
    ApiContext,
    Mount,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    Wanted,
)
from objectio_api_admin.routes import BODY_BYTES_MAX, find
from objectio_api_admin.shapes import (
    ARN,
    ELSEWHERE,
    POLICY_ARN,
    PREFIX,
    MalformedRequest,
    Operation,
    Order,
)
from objectio_api_admin.tokens import AUDIENCE
from objectio_api_admin.values import Error, ErrorAnswer
from objectio_api_admin.watch import Watch, send_events

_MOUNTS: Final = (Mount(PREFIX),)
_RETRY_AFTER_SECONDS: Final = 1
# Of requests that no state of the store would make right either.
_WRONG: Final = frozenset({"ValidationError", "MalformedPolicyDocument", "InvalidBucketName"})
_TOLD: Final = (errors.InvalidRequest, errors.NotFound, errors.AlreadyExists, errors.NotEmpty)
_TOLD_REASONS: Final = frozenset({"audit", ELSEWHERE})
_T = TypeVar("_T")
_encode: Final = msgspec.json.Encoder().encode

_STATUSES: Final[Mapping[type[Exception], int]] = {
    MalformedRequest: 400,
    errors.InvalidRequest: 409,  # the request is right, the state of the store is not
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.NotEmpty: 409,
    errors.CommitConflict: 503,
    errors.InsufficientShards: 503,
    errors.WriteQuorumFailed: 503,
    errors.DeviceFailed: 503,
    errors.DeviceFull: 507,
    errors.Unavailable: 503,
    errors.PayloadTooLarge: 413,
    errors.PayloadTimeout: 408,
    errors.PayloadError: 400,
    errors.AccessError: 403,
    errors.OperationNotImplemented: 501,
    errors.MethodNotAllowed: 405,
}

# What is said of errors whose own text may tell more than the caller is to know.
_MESSAGES: Final[Mapping[type[Exception], str]] = {
    errors.PayloadTooLarge: "The operation takes no body, or none of this size.",
    errors.PayloadError: "The body is not as its headers say.",
    errors.UnknownAccessKey: "There is no such access key.",
    errors.SignatureMismatch: "The signature does not fit: is the secret key right?",
    errors.ClockSkewed: "The clocks of client and server differ by too much.",
    errors.RequestExpired: "The request has expired.",
    errors.CredentialsMalformed: "The credentials are malformed.",
    errors.Unauthenticated: "The request must be signed (AWS Signature Version 4).",
    errors.AccessError: "This identity may not do that.",
    errors.OperationNotImplemented: "The storage is not managed from this node.",
    errors.MethodNotAllowed: "This cannot be done here.",
    errors.Unavailable: "Try again in a moment.",
}


class AdminFrontEnd:
    def __init__(self, context: ApiContext) -> None:
        self.watch = Watch(context)
        self._asked = {
            "admin": context.admin,
            "cluster": context.cluster,
            "context": context,
            "watch": self.watch,
        }

    @property
    def mounts(self) -> Sequence[Mount]:
        return _MOUNTS

    def classify(self, scope: Scope) -> Access:
        operation = find(scope["method"], scope["raw_path"], scope["query_string"])
        route = operation.route
        return Access(
            action=f"admin:{route.action}",
            resource=ARN + operation.resource,
            operation=operation,
            body_bytes_max=BODY_BYTES_MAX if route.body is not None else 0,
            bearer=AUDIENCE if route.bearer else "",
            conditions=_conditions(operation),
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope["objectio"]
        operation: Operation = request.access.operation
        asked = self._asked[operation.route.asks]
        if asked is None:
            raise errors.OperationNotImplemented(
                "no part of this node manages storage", reason=ELSEWHERE
            )
        route = operation.route
        said: int | Order = operation.osd
        if route.asks in ("context", "watch"):
            said = Order(
                operation.names,
                await _read(request, route.body),
                request.identity,
                _session_token(scope, request),
                request.trust,
                Wanted(request.access.action, request.access.resource),
            )
        answer = await route.answer(asked, said)
        if route.streams:
            await send_events(answer, request.request_id, receive, send)
            return
        body = _encode(answer)
        headers = _headers(request.request_id, body)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def stop(self) -> None:
        self.watch.stop()

    def error(self, error: Exception, scope: Scope, request_id: str) -> Response:
        status = _find(_STATUSES, error) or 500
        if isinstance(error, errors.InvalidRequest) and error.fields.get("reason") in _WRONG:
            status = 400
        code = "InternalError" if status == 500 else type(error).__name__
        body = _encode(ErrorAnswer(Error(code, _message(error))))
        if scope["method"] == "HEAD":
            body = b""
        headers = _headers(request_id, body)
        if status == 503:
            headers.append((b"retry-after", b"%d" % _RETRY_AFTER_SECONDS))
        allowed = (
            error.fields.get("allowed") if isinstance(error, errors.MethodNotAllowed) else None
        )
        if isinstance(allowed, list):  # RFC 9110 §15.5.6
            headers.append((b"allow", ", ".join(allowed).encode()))
        return Response(status, headers, body)


def _conditions(operation: Operation) -> Callable[[], Mapping[str, Sequence[str]]] | None:
    """Which policy it is about, if its ARN is given. What a name stands for, its handler finds out."""
    policy = operation.names.get("policy", "")
    return (lambda: {POLICY_ARN: (policy,)}) if policy.startswith("arn:") else None


def _session_token(scope: Scope, request: Request) -> str:
    """Of who asks by temporary credentials: the gate has verified it."""
    if not request.identity.session:
        return ""
    found: bytes = dict(scope["headers"]).get(b"x-amz-security-token", b"")
    return found.decode("latin-1")


async def _read(request: Request, kind: type[msgspec.Struct] | None) -> msgspec.Struct | None:
    if kind is None:
        return None
    try:
        return msgspec.json.decode(await request.body.read_all(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        # The body may hold a secret: only what was expected is said.
        what = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
        raise MalformedRequest(f"the body cannot be read: {what}") from None


def _message(error: Exception) -> str:
    """The text of an error is shown where it was written for operators: what cannot be done now,
    what does not exist, and what is there already; why nothing is changed now, and who else can."""
    if isinstance(error, _TOLD) and error.message:
        return error.message
    if isinstance(error, errors.ObjectIOError) and error.fields.get("reason") in _TOLD_REASONS:
        return error.message
    if (
        isinstance(error, errors.AccessDenied) and "action" in error.fields
    ):  # it was asked for by them
        lacking = f"{error.fields['action']} of {error.fields['resource']}"
        return f"This identity may not do that: it takes {lacking}."
    return _find(_MESSAGES, error) or "Something went wrong; the server's log says what."


def _find(table: Mapping[type[Exception], _T], error: Exception) -> _T | None:
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return None


def _headers(request_id: str, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-objectio-request-id", request_id.encode("latin-1", "replace")),
    ]


class AdminFactory:
    def build(self, context: ApiContext) -> AdminFrontEnd:
        return AdminFrontEnd(context)
