"""A tiny front end, an ASGI client without a server, and a real server for the gateway's tests."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from objectio.abc.api import Access, Identity, Mount, Response, Wanted
from objectio.errors import (
    AccessError,
    NotFound,
    OperationNotImplemented,
    PayloadError,
    Unavailable,
)
from objectio.gateway.app import GatewayApp
from objectio.gateway.gate import Gate
from objectio.gateway.server import HttpServer
from objectio.iam import signer
from objectio.iam.credentials import Credential, StaticCredentials, root_credential

ROOT = root_credential("AKIAROOT", "canary-root-secret-6a1f")
BOB = Credential("AKIABOB", "canary-bob-secret-77c0", Identity("bob", "arn:bob", "AKIABOB"))
CANARY = "canary"
BODY_BYTES_MAX = 1 << 16


class EchoFrontEnd:
    """GET answers, PUT takes object data, POST a small body, PATCH a public operation.

    `handled` counts what got past the gate; `app` may be replaced by a test.
    """

    def __init__(self, prefix="/"):
        self.mounts = [Mount(prefix)]
        self.prefix = prefix
        self.handled = []
        self.responses = {}

    def classify(self, scope):
        method = scope["method"]
        if method not in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
            raise OperationNotImplemented("no such operation", reason="NotImplemented")
        also = ()
        for name, value in scope["headers"]:
            if name == b"x-amz-copy-source":
                also = [Wanted("s3:GetObject", value.decode())]
        return Access(
            f"s3:{method.title()}Object",
            scope["raw_path"].decode(),
            operation=method,
            also=also,
            public=method == "PATCH",
            payload=method == "PUT",
            body_bytes_max=BODY_BYTES_MAX if method == "POST" else 0,
        )

    async def app(self, scope, receive, send):
        request = scope["objectio"]
        self.handled.append(request)
        path = scope["raw_path"]
        if path in self.responses:
            await self.responses[path](scope, receive, send)
            return
        if request.access.payload:
            md5 = request.body.md5
            size = 0
            while data := await request.body.read():
                size += len(data)
                request.body.digest(data)
            digests = request.body.finish()
            assert digests.etag == md5.hexdigest()
            text = f'<put size="{size}" etag="{digests.etag}"/>'.encode()
        else:
            text = await request.body.read_all() or b"hello"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-length", b"%d" % len(text)),
                    (b"x-caller", request.identity.name.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": text})

    def error(self, error, scope, request_id):
        status = 500
        for kind, code in (
            (AccessError, 403),
            (PayloadError, 400),
            (NotFound, 404),
            (Unavailable, 503),
            (OperationNotImplemented, 501),
        ):
            if isinstance(error, kind):
                status = code
        text = f"{error.fields.get('reason')} {error} {request_id}".encode()
        return Response(status, [(b"x-reason", str(error.fields.get("reason")).encode())], text)


def make_message_source(messages):
    iterator = iter(messages)

    async def receive():
        return next(iterator, {"type": "http.disconnect"})

    return receive


class Client:
    """Drives an ASGI app directly. `call` signs as `by` unless that is None."""

    def __init__(self, app):
        self.app = app
        self.host = (b"host", b"localhost:9000")

    async def call(
        self,
        method="GET",
        path=b"/b/k",
        query=b"",
        headers=(),
        body=b"",
        by=ROOT,
        pieces=None,
        **sign,
    ):
        headers = [self.host, *headers]
        names = {name for name, _ in headers}
        if (body or method in ("PUT", "POST")) and not names & {
            b"content-length",
            b"transfer-encoding",
        }:
            headers.append((b"content-length", b"%d" % len(body)))
        if by is not None:
            headers = signer.sign_request(by, method, path, query, headers, **sign)
        return await self.send(method, path, query, headers, [body] if pieces is None else pieces)

    async def send(self, method, path, query, headers, pieces, **extra):
        last = len(pieces) - 1
        receive = make_message_source(
            {"type": "http.request", "body": piece, "more_body": i < last}
            for i, piece in enumerate(pieces)
        )
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "scheme": "http",
            "client": ("127.0.0.1", 4000),
            **extra,
        }
        await self.app(scope, receive, send)
        start = sent[0] if sent else {"status": 0, "headers": []}
        return SimpleNamespace(
            status=start["status"],
            headers=dict(start["headers"]),
            reason=dict(start["headers"]).get(b"x-reason", b"").decode(),
            body=b"".join(message.get("body", b"") for message in sent[1:]),
            sent=sent,
        )


@pytest.fixture
def world():
    """What tests need of this module: they cannot import it."""
    return SimpleNamespace(
        root=ROOT,
        bob=BOB,
        canary=CANARY,
        store=StaticCredentials([ROOT, BOB]),
        EchoFrontEnd=EchoFrontEnd,
        Client=Client,
        body_bytes_max=BODY_BYTES_MAX,
    )


@pytest.fixture
def front_end():
    return EchoFrontEnd()


@pytest.fixture
def make_client(front_end):
    def make(gate=None, **settings):
        gate = Gate(StaticCredentials([ROOT, BOB])) if gate is None else gate
        return Client(GatewayApp({"s3": front_end}, gate, **settings))

    return make


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def serve():
    """`async with serve(app) as server`."""

    @contextlib.asynccontextmanager
    async def run(app, **settings):
        server = HttpServer(app, port=0, **settings)
        await server.start()
        try:
            yield server
        finally:
            await server.stop(5)

    return run
