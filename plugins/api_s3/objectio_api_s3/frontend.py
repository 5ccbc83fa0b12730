"""The S3 front end: classify, app, error. It holds no state of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final

from objectio.abc.api import Access, ApiContext, Mount, Receive, Request, Response, Scope, Send
from objectio.errors import (
    MethodNotAllowed,
    NotFound,
    NotModified,
    ObjectIOError,
    PayloadTooLarge,
    RangeNotSatisfiable,
)
from objectio.iam.sigv4 import collect_headers
from objectio_api_s3 import errors, router
from objectio_api_s3.config import S3Config
from objectio_api_s3.configuration import cors
from objectio_api_s3.headers import clean, version_header
from objectio_api_s3.request import Call, Operation, Reply, Stream
from objectio_api_s3.times import http_date
from objectio_api_s3.vhost import Hosts

_MOUNTS: Final = (Mount("/"),)
_RETRY_AFTER_SECONDS: Final = 1


class S3FrontEnd:
    def __init__(self, context: ApiContext, config: S3Config) -> None:
        self._context = context
        self._hosts = Hosts(config.domains, config.website_domains)
        # S3 tells with x-amz-id-2 which host answered; ours says which process.
        self._host_id = secrets.token_urlsafe(24)
        self._host_header = (b"x-amz-id-2", self._host_id.encode("ascii"))

    @property
    def mounts(self) -> Sequence[Mount]:
        return _MOUNTS

    def classify(self, scope: Scope) -> Access:
        return router.classify(scope, self._hosts.find(scope))

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope["objectio"]
        op: Operation = request.access.operation
        reply = await op.spec.handler(Call(self._context, request, op))
        headers = reply.headers
        if b"origin" in op.headers and op.method != "OPTIONS":
            headers += await cors.response_headers(
                self._context.objects, op.bucket, op.method, op.headers
            )
        headers.append((b"x-amz-request-id", request.request_id.encode("latin-1")))
        headers.append(self._host_header)
        start = {"type": "http.response.start", "status": reply.status, "headers": headers}
        if isinstance(reply, Reply):
            await send(start)
            await send({"type": "http.response.body", "body": reply.body})
        else:
            await self._send_stream(reply, start, send)

    async def _send_stream(self, reply: Stream, start: dict[str, object], send: Send) -> None:
        rest = reply.rest
        left = reply.length - len(memoryview(reply.first))
        try:
            await send(start)
            await send({"type": "http.response.body", "body": reply.first, "more_body": left > 0})
            while left > 0:
                piece = await anext(rest)
                left -= len(memoryview(piece))
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        finally:
            # What is prefetched is given up now, not when the garbage is collected.
            if isinstance(rest, AsyncGenerator):
                await rest.aclose()
            reply.reader.close()

    async def finish_error(self, response: Response, scope: Scope) -> Response:
        """Scripts may read an error only if it says that their origin may (`cors`). And who asks for
        a bucket by HEAD learns where it is, even who may do nothing else with it: AWS's tools ask so
        for a region. What is wrong with the request, or the store, may be in the way of that; the
        error that there is already is told in any case."""
        method, more = scope["method"], []
        asks_region = method == "HEAD" and response.status == 403
        with suppress(ObjectIOError):
            headers = collect_headers(scope["headers"])
            if method != "OPTIONS" and (b"origin" in headers or asks_region):
                bucket, key = router.find_target(scope, self._hosts.find(scope))
                objects = self._context.objects
                more = await cors.response_headers(objects, bucket, method, headers)
                if asks_region and bucket and not key:
                    info = await objects.get_bucket(bucket)
                    region = info.region or self._context.region
                    more.append((b"x-amz-bucket-region", clean(region)))
        return Response(response.status, [*response.headers, *more], response.body)

    def error(self, error: Exception, scope: Scope, request_id: str) -> Response:
        request: Request | None = scope.get("objectio")
        op = None if request is None else request.access.operation
        caller = ""
        if request is not None:
            caller = request.identity.canonical_id or request.identity.name
        answer = errors.explain(error, caller)
        if isinstance(error, PayloadTooLarge) and isinstance(op, Operation) and not op.spec.payload:
            answer = errors.explain(errors.Refusal("MaxMessageLengthExceeded"))
        headers = [
            (b"x-amz-request-id", request_id.encode("latin-1", "replace")),
            self._host_header,
            *_headers(error, answer),
        ]
        if isinstance(error, NotModified) or scope["method"] == "HEAD":
            return Response(answer.status, headers)
        body = errors.document(
            answer,
            (scope.get("raw_path") or b"").decode("latin-1"),
            request_id,
            self._host_id,
            _more(error, answer.code, op),
        )
        headers.append((b"content-type", b"application/xml"))
        headers.append((b"content-length", b"%d" % len(body)))
        return Response(answer.status, headers, body)


def _headers(error: Exception, answer: errors.Answer) -> list[tuple[bytes, bytes]]:
    if answer.status == 503:
        return [(b"retry-after", b"%d" % _RETRY_AFTER_SECONDS)]
    if isinstance(error, RangeNotSatisfiable):  # RFC 9110 §15.5.17
        return [(b"content-range", f"bytes */{error.fields.get('size', '*')}".encode())]
    if isinstance(error, MethodNotAllowed):  # RFC 9110 §15.5.6
        allowed = ["DELETE"] if "delete_marker" in error.fields else error.fields.get("allowed")
        found = [(b"allow", ", ".join(allowed).encode())] if isinstance(allowed, list) else []
        return found + _marker_headers(error)
    if isinstance(error, NotFound) and error.fields.get("kind") in ("object", "version"):
        return _marker_headers(error)
    return []


def _marker_headers(error: NotFound | MethodNotAllowed) -> list[tuple[bytes, bytes]]:
    """Whether a delete marker is what was found, and of it what may be known (S3 API reference,
    GetObject: x-amz-delete-marker)."""
    fields = error.fields
    marked = fields.get("delete_marker") is True
    found = [(b"x-amz-delete-marker", b"true" if marked else b"false")]
    version_id, modified_ms = fields.get("version_id"), fields.get("modified_ms")
    if marked and isinstance(version_id, str):
        found.append(version_header(version_id))
    if marked and isinstance(modified_ms, int):
        found.append((b"last-modified", http_date(modified_ms)))
    return found


def _more(error: Exception, code: str, op: object) -> list[tuple[str, str]]:
    """What AWS says beside code and message."""
    found = errors.elements(error)
    named = {name for name, _ in found}
    if isinstance(error, RangeNotSatisfiable):
        found.append(("RangeRequested", str(error.fields.get("range", ""))))
        found.append(("ActualObjectSize", str(error.fields.get("size", ""))))
    if isinstance(op, Operation) and op.source is None:  # else it may be about the source
        if code in ("NoSuchKey", "NoSuchVersion"):
            found.append(("Key", op.key.decode("utf-8", "replace")))
        about_bucket = ("NoSuchBucket", "BucketNotEmpty", "BucketAlreadyExists")
        if code in about_bucket and "BucketName" not in named:
            found.append(("BucketName", op.bucket))
    return found


class S3Factory:
    def __init__(self, config: S3Config | None = None) -> None:
        self._config = config or S3Config()

    def build(self, context: ApiContext) -> S3FrontEnd:
        return S3FrontEnd(context, self._config)
