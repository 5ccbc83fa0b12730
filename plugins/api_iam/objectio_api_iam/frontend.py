"""The front end: classify, app, error.

Both services are asked by POST at "/", with the action in the body. So the gate authenticates whoever
signed before the body is read, and what is asked for is authorized here, in `app`, before any operation
is called: each route says what it is about, or is one of the few of STS that decide themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

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
from objectio.errors import (
    CredentialsMalformed,
    MethodNotAllowed,
    OperationNotImplemented,
    Unauthenticated,
)
from objectio_api_iam import errors, xml
from objectio_api_iam.call import Call, Route, Service, conditions
from objectio_api_iam.config import IamConfig
from objectio_api_iam.errors import Refusal
from objectio_api_iam.fetch import Fetcher
from objectio_api_iam.form import BODY_BYTES_MAX, parse_form
from objectio_api_iam.oidc import TokenVerifier
from objectio_api_iam.routes import ROUTES

_MOUNTS: Final = (Mount("/", method="POST", content_type="application/x-www-form-urlencoded"),)
_NAMESPACES: Final[dict[Service, str]] = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}
_SCOPE: Final = re.compile(rb"Credential=[^/,\s]+/[^/,\s]*/[^/,\s]*/(iam|sts)/")
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_RETRY_AFTER_SECONDS: Final = 1


class IamFrontEnd:
    def __init__(self, context: ApiContext, config: IamConfig) -> None:
        self._context = context
        self._verifier = TokenVerifier(
            Fetcher(config.trusted_issuers, config.issuer_timeout_seconds)
        )

    @property
    def mounts(self) -> Sequence[Mount]:
        return _MOUNTS

    def classify(self, scope: Scope) -> Access:
        if scope["method"] != "POST" or scope["raw_path"] not in (b"/", b""):
            raise MethodNotAllowed("IAM and STS are asked with POST at /", allowed=["POST"])
        if scope["query_string"]:
            # Neither parameters nor credentials are there: a URL would be a credential for any body.
            raise Refusal("MalformedQueryString", "Parameters stand in the body, not in the query.")
        if any(
            name == b"x-amz-content-sha256" and not _HEX.fullmatch(value)
            for name, value in scope["headers"]
        ):
            raise CredentialsMalformed("The signature must cover the body.")
        service = _find_service(scope)
        return Access(
            action=f"{service}:Request",
            resource="arn:aws:iam:::*",
            operation=service,
            # One action of STS needs no signature, and which one is meant stands in the body.
            public=True,
            body_bytes_max=BODY_BYTES_MAX,
            service=service,
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope["objectio"]
        if self._context.identities is None:
            raise OperationNotImplemented("identities are not managed from this node")
        form = parse_form(await request.body.read_all())
        action = form.get("Action")
        route = ROUTES.get(action)
        if route is None:
            raise Refusal("InvalidAction", "The action is not known here.")
        call = Call(self._context, self._context.identities, self._verifier, request, form, action)
        resource = await _authorize(call, route)
        if request.acts is not None:
            await request.acts(f"{route.service}:{action}", resource)
        result = await route.answer(call)
        body = xml.answer(action, _NAMESPACES[route.service], result, request.request_id)
        headers = _headers(request.request_id, body)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def error(self, error: Exception, scope: Scope, request_id: str) -> Response:
        answer = errors.explain(error)
        body = errors.document(answer, _NAMESPACES[_find_service(scope)], request_id)
        if scope["method"] == "HEAD":
            body = b""
        headers = _headers(request_id, body)
        if answer.status == 503:
            headers.append((b"retry-after", b"%d" % _RETRY_AFTER_SECONDS))
        if answer.status == 405:
            headers.append((b"allow", b"POST"))
        return Response(answer.status, headers, body)


def _find_service(scope: Scope) -> Service:
    """Which service the request was signed for; the gate verifies the signature for it."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            match = _SCOPE.search(value)
            return "iam" if match is not None and match[1] == b"iam" else "sts"
    return "sts"


async def _authorize(call: Call, route: Route) -> str:
    """Before anything of a request is done or looked up. Returns what it is about."""
    if route.anonymous:
        return call.form.get("RoleArn")
    if not call.identity.account:
        raise Unauthenticated("Request is missing Authentication Token")
    if call.identity.access_key and call.request.access.service != route.service:
        raise Refusal(
            "SignatureDoesNotMatch",
            f"Credential should be scoped to correct service: {route.service}",
        )
    if route.resource is None:
        return call.form.get("RoleArn") or call.identity.arn
    resource = await route.resource(call)
    values = await conditions(call, resource)
    await call.request.trust(
        Wanted(f"{route.service}:{call.action}", resource, None, lambda: values)
    )
    return resource


def _headers(request_id: str, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"text/xml"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-amzn-requestid", request_id.encode("latin-1", "replace")),
    ]


class IamFactory:
    def __init__(self, config: IamConfig) -> None:
        self._config = config

    def build(self, context: ApiContext) -> Any:
        return IamFrontEnd(context, self._config)
