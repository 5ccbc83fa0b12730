"""The ASGI application that hosts the front ends: mounts, the gate, limits, errors, counting.

Theory of operation of one request, see also `objectio.abc.api`:

    mount → classify → authenticate → authorize → open the body (and verify a small one)
          → the front end's app → one log line, one counter, one observation

Whatever raises before the first byte of the response is rendered by the front end's `error`; after
it, the connection is cut. An exception that is not ours is logged with its traceback and rendered as
an internal error without any detail.

Mounts are compared with the raw path, at segment boundaries: "/iceberg/v1" takes "/iceberg/v1" and
"/iceberg/v1/…", and neither "/iceberg/v1x" nor "/%69ceberg/v1".

`/health`, those of its variants that `objectio.gateway.health` lists, and `/metrics` are answered here,
but only to a GET or HEAD of exactly that path which has no query and no credentials: "health" and
"metrics" are legal names of S3 buckets, and signed requests for them go to S3.

This is the hot path, so it is written flat: some 20 µs for a signed GET, half of them the signature.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any, Final

from objectio.abc.api import (
    Access,
    FrontEnd,
    Mount,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    Wanted,
)
from objectio.abc.metrics import Exporter, Metrics, NullMetrics
from objectio.errors import AccessError, ObjectIOError, Unavailable
from objectio.gateway.audit import (
    DENIED,
    Audit,
    Recorded,
    claimed_key,
    code_of,
    describe,
    kind_of,
    recorded_of,
)
from objectio.gateway.body import Body, Pace, open_body, undeclared_body
from objectio.gateway.caller import Caller, Headers, trust_root
from objectio.gateway.counting import FrontEndCounters
from objectio.gateway.exchange import ClientDisconnected, Exchange
from objectio.gateway.gate import Authenticated, Gate
from objectio.gateway.health import PATHS as HEALTH_PATHS
from objectio.gateway.health import Health
from objectio.gateway.neighbours import Neighbours
from objectio.gateway.requestlog import Line
from objectio.iam.sigv4 import Signed, collect_headers
from objectio.limits import PUT_SIZE_BYTES_MAX

logger = logging.getLogger("objectio.gateway")
request_logger = logging.getLogger("objectio.gateway.request")

REQUESTS_IN_FLIGHT_MAX: Final = 4096
_REQUEST_ID_STEP: Final = 0x9E3779B97F4A7C15  # odd, so that all 2^64 ids come before one returns
_REQUEST_ID_MASK: Final = (1 << 64) - 1
_RESERVED: Final = HEALTH_PATHS | {b"/metrics"}
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_PASSED_ON: Final = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"))
_INTERNAL_ERROR: Final = "We encountered an internal error. Please try again."


class _Mounted:
    """A front end where it is mounted, with its attributes looked up once."""

    def __init__(self, name: str, mount: Mount, front_end: FrontEnd, metrics: Metrics) -> None:
        self.prefix = mount.prefix.rstrip("/").encode()
        self.below = self.prefix + b"/"
        self.method = mount.method
        self._content_type = mount.content_type.encode()
        self.classify = front_end.classify
        self.app = front_end.app
        self.error = front_end.error
        self.finish_error = getattr(front_end, "finish_error", None)
        self.counters = FrontEndCounters(name, metrics)

    def takes(self, scope: Scope) -> bool:
        """Where it is mounted for one method only: whether this is its request."""
        if scope["method"] != self.method:
            return False
        if not self._content_type:
            return True
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind: bytes = value.partition(b";")[0].strip().lower()
                return kind == self._content_type
        return False


class GatewayApp:
    """ASGI 3.

    front_ends      by name, which is also that of their metrics: objectio_<name>_requests_total
    health          what `/health` reports, and its variants
    exporter        what `/metrics` shows, if anything; to this machine only, unless `metrics_public`
    neighbours      other processes whose metrics are shown with those of this one, but to who asks
                    over a Unix socket: that is one of them
    audit           where changes and denials are written down
    log_requests    whether each gets a line, if the log takes it: false saves asking the log
    requests_max    more at once than this are refused, in the front end's own words
    """

    def __init__(
        self,
        front_ends: Mapping[str, FrontEnd],
        gate: Gate,
        *,
        metrics: Metrics | None = None,
        health: Health | None = None,
        exporter: Exporter | None = None,
        neighbours: Neighbours | None = None,
        audit: Audit | None = None,
        log_requests: bool = True,
        metrics_public: bool = False,
        requests_max: int = REQUESTS_IN_FLIGHT_MAX,
        payload_bytes_max: int = PUT_SIZE_BYTES_MAX,
        body_pace: Pace = Pace(),  # noqa: B008 - it cannot be changed
    ) -> None:
        metrics = NullMetrics() if metrics is None else metrics
        self._gate = gate
        self._health = Health() if health is None else health
        self._exporter = exporter
        self._neighbours = neighbours
        self._audit = audit
        self._log_requests = log_requests
        self._metrics_public = metrics_public
        self._requests_max = requests_max
        self._payload_bytes_max = payload_bytes_max
        self._body_pace = body_pace
        self._mounts, self._by_path = _order_mounts(front_ends, metrics)
        self._request_id = secrets.randbits(64)
        self.in_flight = 0
        metrics.gauge_function(
            "objectio_gateway_requests_in_flight",
            "Requests that are being answered.",
            lambda: self.in_flight,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _answer_other(scope, receive, send)
            return
        path = scope["raw_path"]
        if path in _RESERVED and await self._answer_reserved(scope, send):
            return
        started = perf_counter()
        self._request_id = number = (self._request_id + _REQUEST_ID_STEP) & _REQUEST_ID_MASK
        request_id = f"{number:016X}"
        exchange = Exchange(scope, receive, send)
        mounted = self._find_mount(path, scope)
        if mounted is None:
            exchange.body = undeclared_body(receive, scope["headers"])
            await _send_response(exchange, Response(404, [], b""))
            return
        self.in_flight += 1
        try:
            if self.in_flight > self._requests_max:
                raise Unavailable("Please reduce your request rate.", reason="SlowDown")
            exchange.access = access = mounted.classify(scope)
            body = await self._enter(scope, receive, exchange, access, request_id)
            await mounted.app(scope, body.receive, exchange.send)
            if not exchange.ended:
                raise RuntimeError("the front end returned without completing its response")
        except Exception as error:
            await self._fail(error, mounted, exchange, scope, receive, request_id)
        finally:
            self.in_flight -= 1
            # The server's objects refer to the scope and the request to them: without this, every
            # request would be garbage that only the cycle collector finds.
            request = scope.pop("objectio", None)
            if request is not None:
                exchange.identity = request.identity  # a form may have said who it is
                # A page for people says that something is denied, and raises nothing.
                said_so = exchange.status in DENIED and exchange.failure is None
                if request.denied is not None or said_so:
                    denied = request.denied or ()
                    self._deny(scope, exchange, request_id, exchange.status, None, denied)
            seconds = perf_counter() - started
            asked = exchange.access
            name = "" if asked is None else asked.name or asked.action
            received = 0 if exchange.body is None else exchange.body.bytes_in
            mounted.counters.count(name, exchange.status, seconds, received, exchange.bytes_out)
            if self._log_requests and request_logger.isEnabledFor(logging.INFO):
                source_ip, _ = self._gate.peer(scope, _headers_of(scope))
                _log_request(scope, exchange, request_id, seconds, source_ip)

    def _find_mount(self, path: bytes, scope: Scope) -> _Mounted | None:
        if path in self._by_path:
            for mounted in self._by_path[path]:
                if mounted.takes(scope):
                    return mounted
        for mounted in self._mounts:
            if path.startswith(mounted.below) or path == mounted.prefix:
                return mounted
        return None

    async def _enter(
        self, scope: Scope, receive: Receive, exchange: Exchange, access: Access, request_id: str
    ) -> Body:
        """Past the gate: the body, and the request in the scope."""
        gate = self._gate
        headers = collect_headers(scope["headers"])
        body = None
        if access.service == "s3":
            try:
                identity, signed = gate.authenticate(scope, access, headers)
            except (AccessError, Unavailable) as error:
                identity, signed = await gate.authenticate_again(
                    scope, access, headers, None, error
                )
        else:
            body = exchange.body = self._open_body(receive, headers, None, access)
            identity, signed = await _authenticate_whole(gate, scope, access, headers, body)
        exchange.identity = identity
        peer = gate.peer(scope, headers)
        trust, act_as, judged = trust_root, None, None
        method = scope["method"]
        if not identity.is_root or method == "POST":
            caller = Caller(gate, scope, headers, identity, signed, peer)
            await gate.admit(caller, access)
            trust, act_as, judged = caller.trust, caller.act_as, caller.judged
        if body is None:
            body = exchange.body = self._open_body(receive, headers, signed, access)
        if b"expect" in headers and headers.get(b"content-length") == b"0":
            # RFC 9110 §10.1.1 lets us leave the 100 out where no content comes, but botocore
            # then takes the next response on the connection for garbage and waits a minute.
            await receive()
        if body.must_be_read:
            await (body.settle() if access.payload else body.read_all())
        request = scope["objectio"] = Request(
            request_id, access, identity, body, trust, peer[0], peer[1], act_as, judged
        )
        if method != "GET" and (access.public or access.also or kind_of(access.action)):
            await self._watch(exchange, request, headers)
        return body

    async def _watch(self, exchange: Exchange, request: Request, headers: Headers) -> None:
        """What is done from here on stands in the audit log: at once, or when it is known what it is."""
        access = request.access
        action, resource = recorded_of(access)
        if not action and not access.public:
            return
        recorded = None if self._audit is None else Recorded(self._audit, exchange)
        if access.public:
            request.acts = partial(_act, recorded, request, headers)
        else:
            await _act(recorded, request, headers, action, resource)

    def _open_body(
        self, receive: Receive, headers: Headers, signed: Signed | None, access: Access
    ) -> Body:
        return open_body(
            receive,
            headers,
            signed,
            payload=access.payload,
            bytes_max=self._payload_bytes_max if access.payload else access.body_bytes_max,
            pace=self._body_pace,
        )

    async def _fail(
        self,
        error: Exception,
        mounted: _Mounted,
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
        request_id: str,
    ) -> None:
        """Renders `error`, or cuts the connection if a response has begun."""
        expected = isinstance(error, ObjectIOError)
        exchange.failure = error
        if isinstance(error, ClientDisconnected):
            logger.debug(Line({"request_id": request_id}, "the client has gone"))
        elif not expected:
            line = Line({"request_id": request_id}, "unexpected exception")
            logger.error(line, exc_info=error)
        if exchange.begun():
            if isinstance(error, AccessError):
                self._deny(scope, exchange, request_id, exchange.status, error)
            if expected:
                said = f"failed after the response had begun: {type(error).__name__}: {error}"
                logger.error(Line({"request_id": request_id}, said))
            if not exchange.ended and not exchange.abort():
                raise error
            return
        if exchange.body is None:
            exchange.body = undeclared_body(receive, scope["headers"])
        shown = error if expected else ObjectIOError(_INTERNAL_ERROR, reason="InternalError")
        try:
            response = mounted.error(shown, scope, request_id)
            if mounted.finish_error is not None:
                response = await mounted.finish_error(response, scope)
        except Exception:
            said = "the front end cannot render its error"
            logger.exception(Line({"request_id": request_id}, said))
            response = Response(500, [(b"content-type", b"text/plain")], b"Internal Server Error\n")
        if response.status >= 500 and expected:
            said = f"{type(error).__name__}: {error}"
            logger.error(Line({"request_id": request_id}, said))
        # Credentials that are malformed or have expired are 400 to S3.
        if response.status in DENIED or isinstance(error, AccessError):
            self._deny(scope, exchange, request_id, response.status, error)
        await _send_response(exchange, response)

    def _deny(
        self,
        scope: Scope,
        exchange: Exchange,
        request_id: str,
        status: int,
        error: Exception | None,
        denied: Sequence[Wanted] = (),
    ) -> None:
        """A line about a request that was denied, or a part of it."""
        if self._audit is None:
            return
        headers, access = _headers_of(scope), exchange.access
        request: Request | None = scope.get("objectio")
        identity = exchange.identity if request is None else request.identity
        action, resource, key, more = "", "", "", {}
        if access is not None:
            action, resource = access.action, access.resource
        if denied:
            action, resource, more = denied[0].action, denied[0].resource, {"count": len(denied)}
        elif isinstance(error, AccessError):
            # What is touched besides may be what is denied.
            action = str(error.fields.get("action") or action)
            resource = str(error.fields.get("resource") or resource)
            key = claimed_key(error)
        peer = self._gate.peer(scope, headers)
        facts = describe(request_id, action, resource, identity, peer, headers, key)
        self._audit.deny(facts, status, code_of(error) or "AccessDenied", **more)

    async def _answer_reserved(self, scope: Scope, send: Send) -> bool:
        """Whether it was one of ours and has been answered."""
        if scope["method"] not in ("GET", "HEAD") or scope["query_string"]:
            return False
        if any(name == b"authorization" for name, _ in scope["headers"]):
            return False
        path = scope["raw_path"]
        if path in HEALTH_PATHS:
            response = await self._health.answer(path, alone=_is_on_socket(scope))
            await _send_response(_plain(scope, send), response)
            return True
        if self._exporter is None or not (self._metrics_public or _is_near(scope)):
            return False
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        if self._neighbours is None or _is_on_socket(scope):
            content_type, text = self._exporter.render(accept.decode("latin-1"))
        else:
            content_type, text = await self._neighbours.metrics(self._exporter)
        headers = [(b"content-type", content_type.encode())]
        await _send_response(_plain(scope, send), Response(200, headers, text))
        return True


def _headers_of(scope: Scope) -> Headers:
    """Also of a request that was refused for them."""
    try:
        return collect_headers(scope["headers"])
    except AccessError:
        return dict(scope["headers"])


def _is_near(scope: Scope) -> bool:
    """Whether the client is on this machine, and no proxy that is there and asks for another."""
    client = scope.get("client")
    if client is None:
        return _is_on_socket(scope)
    passed_on = any(name in _PASSED_ON for name, _ in scope["headers"])
    return client[0] in _LOOPBACK and not passed_on


def _is_on_socket(scope: Scope) -> bool:
    """A Unix socket, whose address has no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _order_mounts(
    front_ends: Mapping[str, FrontEnd], metrics: Metrics
) -> tuple[list[_Mounted], dict[bytes, list[_Mounted]]]:
    """Those that take all below a prefix, the longest first; and those for one method of one path,
    by path."""
    found: dict[bytes, _Mounted] = {}
    by_path: dict[bytes, list[_Mounted]] = {}
    for name, front_end in front_ends.items():
        for mount in front_end.mounts:
            mounted = _Mounted(name, mount, front_end, metrics)
            if mount.method:
                by_path.setdefault(mount.prefix.encode(), []).append(mounted)
                continue
            if mounted.prefix in found:
                raise ValueError(f"two front ends are mounted at {mount.prefix!r}")
            found[mounted.prefix] = mounted
    return sorted(found.values(), key=lambda item: -len(item.prefix)), by_path


async def _act(
    recorded: Recorded | None, request: Request, headers: Headers, action: str, resource: str
) -> None:
    access = request.access
    access.action, access.resource = action, resource
    kind = kind_of(action)
    if recorded is not None and kind:
        peer = request.source_ip, request.secure
        await recorded.begin(
            kind, describe(request.request_id, action, resource, request.identity, peer, headers)
        )


async def _authenticate_whole(
    gate: Gate, scope: Scope, access: Access, headers: Headers, body: Body
) -> Authenticated:
    """Clients of the other services do not send the hash of the body that they sign: the body, which
    is small, is read first."""
    content_sha256 = headers.get(b"x-amz-content-sha256")
    if content_sha256 is None:
        content_sha256 = sha256(await body.read_all()).hexdigest().encode()
    try:
        return gate.authenticate(scope, access, headers, content_sha256)
    except (AccessError, Unavailable) as error:
        return await gate.authenticate_again(scope, access, headers, content_sha256, error)


def _plain(scope: Scope, send: Send) -> Exchange:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    return Exchange(scope, receive, send)


async def _send_response(exchange: Exchange, response: Response) -> None:
    headers = list(response.headers)
    if not any(name.lower() == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(response.body)))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await exchange.send(start)
    await exchange.send({"type": "http.response.body", "body": response.body})


async def _answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
    else:
        raise RuntimeError(f"unknown ASGI scope {scope['type']!r}")


def _log_request(
    scope: Scope, exchange: Exchange, request_id: str, seconds: float, source_ip: str
) -> None:
    """The query is left out: a presigned URL is a credential."""
    body, access, identity = exchange.body, exchange.access, exchange.identity
    facts = {
        "request_id": request_id,
        "remote": source_ip,
        "method": scope["method"],
        "path": scope["raw_path"].decode("ascii", "backslashreplace"),
        "status": exchange.status,
        "action": access.action if access is not None else None,
        "identity": identity.name,
        "access_key": identity.access_key or None,
        "bytes_in": body.bytes_in if body is not None else 0,
        "bytes_out": exchange.bytes_out,
        "ms": round(seconds * 1000, 3),
    }
    request_logger.info(Line(facts))
