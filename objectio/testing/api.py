"""Testing API front ends: calling one through the real gate, and what every one must hold to.

`call` sends one request through `GatewayApp`, without a socket and without signatures: the caller
is who the test says. A front end's suite subclasses `FrontEndConformance` and provides the
`front_end` over `objects`, and sample requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio import errors
from objectio.abc.api import ANONYMOUS, Access, FrontEnd, Identity, Scope, Wanted
from objectio.gateway.app import GatewayApp
from objectio.gateway.caller import Caller
from objectio.gateway.gate import ROOT, Authenticated, Gate
from objectio.gateway.server import HttpServer
from objectio.iam.credentials import Credential, StaticCredentials
from objectio.limits import KIB
from objectio.testing.objects import MemoryObjects

NOBODY: Final = Identity("nobody", "arn:aws:iam::000000000000:user/nobody", "NOBODYACCESSKEY")

Pairs = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Answer:
    """`headers` by name; `raw_headers` as they were sent; `pieces` is the number of body
    messages."""

    status: int
    raw_headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    pieces: int

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.raw_headers}

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


@dataclass(frozen=True, slots=True)
class Sample:
    """A request. `path` is percent-encoded and may have a query. `public` as in `Access`."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    public: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class CallerGate(Gate):
    """Believes who calls, and allows what `allows(action, resource)` says; the rest is the real
    gate's."""

    def __init__(
        self, identity: Identity, allows: Callable[[str, str], bool] | None = None
    ) -> None:
        super().__init__(StaticCredentials([]))
        self._identity = identity if allows is None else identity._replace(is_root=False)
        self._allows = allows

    def authenticate(
        self,
        scope: Scope,
        access: Access,
        headers: Mapping[bytes, bytes] | None = None,
        content_sha256: bytes | None = None,
    ) -> Authenticated:
        return Authenticated(self._identity, None)

    async def judge(self, caller: Caller, wanted: Wanted, *, creating: bool = False) -> None:
        if self._allows is None:
            await super().judge(caller, wanted, creating=creating)
        elif not self._allows(wanted.action, wanted.resource):
            raise errors.AccessDenied(
                "Access Denied", action=wanted.action, resource=wanted.resource
            )


def make_scope(
    method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = (), scheme: str = "http"
) -> dict[str, Any]:
    """As a server would make it. `path` is percent-encoded and may have a query."""
    raw_path, _, query = path.encode("latin-1").partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 9000),
    }


def encode_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[Any]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


async def call(
    front_end: FrontEnd,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    identity: Identity = ROOT,
    allows: Callable[[str, str], bool] | None = None,
    piece_size_bytes: int = 64 * KIB,
) -> Answer:
    """One request through the gateway. Content-Length is added if it is missing. Without `allows`,
    the root may do anything and nobody else may."""
    sent = encode_headers(headers)
    if (body or method in ("PUT", "POST")) and not any(n == b"content-length" for n, _ in sent):
        sent.append((b"content-length", b"%d" % len(body)))
    if not any(name == b"host" for name, _ in sent):
        sent.append((b"host", b"localhost:9000"))
    app = GatewayApp({"tested": front_end}, CallerGate(identity, allows))
    return await _exchange(app, make_scope(method, path, sent), body, piece_size_bytes)


def server_of(front_end: FrontEnd, credential: Credential) -> HttpServer:
    """The front end at a free port of this machine, behind the real gate, for who signs with
    `credential`; to be started, and stopped."""
    gate = Gate(StaticCredentials([credential]))
    return HttpServer(GatewayApp({"tested": front_end}, gate), "127.0.0.1", 0)


async def _exchange(app: Any, scope: Scope, body: bytes, piece_size_bytes: int) -> Answer:
    pieces = [body[at : at + piece_size_bytes] for at in range(0, len(body), piece_size_bytes)]
    incoming = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1}
        for at, piece in enumerate(pieces or [b""])
    ][::-1]
    outgoing: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        outgoing.append(message)

    await app(scope, receive, send)
    return check_messages(outgoing, scope["method"])


def check_messages(messages: Sequence[MutableMapping[str, Any]], method: str) -> Answer:
    """What was sent must be one whole response (ASGI, HTTP connection scope)."""
    assert [message["type"] for message in messages[:1]] == ["http.response.start"]
    start, bodies = messages[0], messages[1:]
    assert bodies
    assert all(message["type"] == "http.response.body" for message in bodies)
    assert [bool(message.get("more_body")) for message in bodies] == [True] * (len(bodies) - 1) + [
        False
    ]
    headers = list(start.get("headers", ()))
    for name, value in headers:
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        assert name == name.lower()
        assert not set(value) & {0, 10, 13}, f"{name!r} can break the framing"
    body = b"".join(bytes(message.get("body", b"")) for message in bodies)
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    assert len(lengths) <= 1
    if method == "HEAD" or start["status"] in (204, 304):
        assert body == b""
    elif lengths:
        assert lengths == [len(body)]
    return Answer(start["status"], headers, body, len(bodies))


_CANARY: Final = "canary7f3a91"

_INTERNAL: Final = (
    errors.StorageError,
    errors.CommitConflict,
    errors.InsufficientShards,
    errors.ChecksumMismatch,
    errors.DeviceFull,
    errors.DeviceFailed,
    errors.WriteQuorumFailed,
    errors.Unavailable,
    errors.QuotaExceeded,
    errors.OperationNotImplemented,
    errors.ConfigError,
    errors.PluginError,
    errors.LocalProtocolError,
    errors.RemoteProtocolError,
    errors.ObjectIOError,
)


class FrontEndConformance:
    """What every front end must hold to. `samples` has a request for each operation; `unknown`
    requests that it must refuse although they look like its own."""

    @pytest.fixture
    def objects(self) -> MemoryObjects:
        return MemoryObjects()

    @pytest.fixture
    def front_end(self, objects: MemoryObjects) -> FrontEnd:
        raise NotImplementedError

    @pytest.fixture
    def samples(self) -> Sequence[Sample]:
        raise NotImplementedError

    @pytest.fixture
    def unknown(self) -> Sequence[Sample]:
        raise NotImplementedError

    async def send(self, front_end: FrontEnd, sample: Sample, **more: Any) -> Answer:
        return await call(
            front_end,
            sample.method,
            sample.path,
            headers=sample.headers,
            body=sample.body,
            **more,
        )

    def classified(self, front_end: FrontEnd, sample: Sample) -> Access:
        return front_end.classify(
            make_scope(sample.method, sample.path, encode_headers(sample.headers))
        )

    def test_it_is_mounted_somewhere(self, front_end: FrontEnd) -> None:
        assert front_end.mounts
        assert all(mount.prefix.startswith("/") for mount in front_end.mounts)

    def test_samples_are_classified(self, front_end: FrontEnd, samples: Sequence[Sample]) -> None:
        for sample in samples:
            access = self.classified(front_end, sample)
            service, colon, verb = access.action.partition(":")
            assert service, sample
            assert colon, sample
            assert verb, sample
            assert access.resource, sample
            assert access.public == sample.public, sample
            assert access.operation is not None, sample

    async def test_the_unknown_is_refused(
        self, front_end: FrontEnd, objects: MemoryObjects, unknown: Sequence[Sample]
    ) -> None:
        before = objects.snapshot()
        for sample in unknown:
            with pytest.raises(errors.ObjectIOError):
                self.classified(front_end, sample)
            answer = await self.send(front_end, sample)
            assert answer.status >= 400, sample
            assert answer.status != 500, sample
        assert objects.snapshot() == before

    async def test_strangers_are_refused(
        self, front_end: FrontEnd, objects: MemoryObjects, samples: Sequence[Sample]
    ) -> None:
        before = objects.snapshot()
        for sample in samples:
            if sample.public:
                continue
            for identity in (ANONYMOUS, NOBODY):
                answer = await self.send(front_end, sample, identity=identity)
                assert answer.status in (401, 403), (sample, identity)
        assert objects.snapshot() == before

    async def test_all_that_is_touched_is_authorized(
        self, front_end: FrontEnd, objects: MemoryObjects, samples: Sequence[Sample]
    ) -> None:
        """Whoever may do everything but one of the things a request needs, may not do it."""
        before = objects.snapshot()
        for sample in samples:
            access = self.classified(front_end, sample)
            wanted = [(access.action, access.resource), *(one[:2] for one in access.also)]
            for denied in () if sample.public else wanted:
                answer = await self.send(
                    front_end,
                    sample,
                    identity=NOBODY,
                    allows=lambda action, resource, denied=denied: (action, resource) != denied,
                )
                assert answer.status in (401, 403), (sample, denied)
        assert objects.snapshot() == before

    async def test_samples_are_answered(
        self, front_end: FrontEnd, samples: Sequence[Sample]
    ) -> None:
        """In order, by whole responses, none of which is a failure of ours."""
        for sample in samples:
            answer = await self.send(front_end, sample)
            assert answer.status < 500, (sample, answer)

    @pytest.mark.parametrize("kind", _INTERNAL)
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_errors_tell_no_internals(
        self, front_end: FrontEnd, kind: type[errors.ObjectIOError], method: str
    ) -> None:
        error = kind(
            f"/var/lib/{_CANARY} on osd 3", path=_CANARY, osd=_CANARY, reason=_CANARY, kind=_CANARY
        )
        self.check_error(front_end, error, method)

    @pytest.mark.parametrize("error", [KeyError(_CANARY), OSError(5, _CANARY), ValueError(_CANARY)])
    def test_bugs_tell_no_internals(self, front_end: FrontEnd, error: Exception) -> None:
        response = self.check_error(front_end, error, "GET")
        assert response.status == 500

    def check_error(self, front_end: FrontEnd, error: Exception, method: str) -> Any:
        response = front_end.error(error, make_scope(method, "/some/thing"), "REQUEST0001")
        assert 400 <= response.status < 600
        whole = repr(response.headers) + response.body.decode("utf-8")
        assert _CANARY not in whole
        assert "REQUEST0001" in whole
        assert method != "HEAD" or response.body == b""
        return response

    @pytest.mark.parametrize("kind", [errors.InsufficientShards, errors.Unavailable])
    def test_what_may_succeed_later_says_so(
        self, front_end: FrontEnd, kind: type[errors.ObjectIOError]
    ) -> None:
        response = front_end.error(kind("later"), make_scope("GET", "/some/thing"), "R")
        assert response.status in (429, 503)

    async def test_too_large_a_document_is_refused(
        self, front_end: FrontEnd, samples: Sequence[Sample]
    ) -> None:
        for sample in samples:
            access = self.classified(front_end, sample)
            if access.payload or not access.body_bytes_max:
                continue
            headers = {**sample.headers, "content-length": str(access.body_bytes_max + 1)}
            answer = await call(front_end, sample.method, sample.path, headers=headers)
            assert 400 <= answer.status < 500, sample

    async def test_huge_headers(self, front_end: FrontEnd, samples: Sequence[Sample]) -> None:
        many = {f"x-header-{number}": "v" * 64 for number in range(2000)}
        for sample in samples:
            for more in (many, {"x-big": "v" * 256 * KIB}, {"x-odd": "\xff\xfe\t"}):
                answer = await self.send(
                    front_end,
                    Sample(sample.method, sample.path, {**sample.headers, **more}, sample.body),
                )
                assert answer.status < 500, sample

    def test_no_request_confuses_it(self, front_end: FrontEnd) -> None:
        @settings(max_examples=300, deadline=None)
        @given(
            method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "X"]),
            path=st.binary(max_size=60),
            query=st.binary(max_size=60),
            headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=8),
        )
        def check(
            method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]
        ) -> None:
            scope = make_scope(method, "/", [(name.lower(), value) for name, value in headers])
            scope["raw_path"], scope["query_string"] = b"/" + path, query
            try:
                access = front_end.classify(scope)
            except errors.ObjectIOError as error:
                response = front_end.error(error, scope, "R")
                assert 400 <= response.status < 600
                assert response.status != 500
            else:
                assert access.action
                assert access.resource

        check()
