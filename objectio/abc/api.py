"""API front ends: wire formats over HTTP, as ASGI applications that the gateway hosts.

The gateway owns the sockets and the one gate. For each request it

1. finds the front end by its mounts (the longest matching path prefix wins),
2. asks `classify` what the request means: an action and a resource. A front end raises here for
   whatever it does not recognise, so nothing unknown ever reaches a handler,
3. authenticates the credentials that the request carries and authorizes action and resource,
4. calls `app` with the answers in ``scope["objectio"]`` (a `Request`).

If 2 or 3 raises, or `app` does before it has sent anything, `error` renders it in the front end's
own format. So a front end contains no authentication, and cannot forget it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from objectio.abc.admin import ClusterView, StorageAdmin
from objectio.abc.metrics import Metrics
from objectio.abc.objects import ObjectService, Payload

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Mount(NamedTuple):
    """Where a front end answers: paths that start with `prefix` ("/" takes all that is left)."""

    prefix: str


class Identity(NamedTuple):
    """Who calls. `arn` names the principal; `is_root` may do anything."""

    name: str
    arn: str
    access_key: str
    is_root: bool = False


ANONYMOUS = Identity("anonymous", "*", "")


@dataclass(slots=True)
class Access:
    """What a request asks for. `operation` is the front end's own parsed form, passed back to it.

    action       e.g. "s3:GetObject"
    resource     e.g. "arn:aws:s3:::bucket/key"
    also         further (action, resource) pairs that must be allowed too, e.g. a copy's source
    public       True for the rare operation that needs no credentials at all (health)
    payload      True if the body is object data, to be streamed; else the gate verifies the
                 whole body (up to `body_bytes_max`) before the handler runs
    """

    action: str
    resource: str
    operation: Any = None
    also: Sequence[tuple[str, str]] = ()
    public: bool = False
    payload: bool = False
    body_bytes_max: int = 0


class RequestBody(Payload, Protocol):
    """A body whose authentication (content hash, chunk signatures) is already wired in."""

    async def read_all(self) -> bytes:
        """All of a small body, verified to the end."""
        ...

    def add_digest(self, name: str, update: Callable[[Any], None]) -> None:
        """Have `digest` feed one more function."""
        ...

    def add_check(self, check: Callable[[Mapping[str, str]], None]) -> None:
        """Have `finish` call `check(trailers)` (lower-case names); it raises on a mismatch."""
        ...

    def set_etag(self, etag: Callable[[], str], checksums: Callable[[], Mapping[str, str]]) -> None:
        """What `finish` answers."""
        ...

    @property
    def md5(self) -> Any:
        """The body's running MD5, a hashlib object that `digest` feeds. Content-MD5 (which the
        gateway checks in `finish`) and the ETag share it, so it is computed once. Ask for it before
        the first byte is read; without `set_etag`, its hex digest is the ETag."""
        ...

    @property
    def declared_trailers(self) -> Sequence[str]:
        """The names in the x-amz-trailer header, lower-case."""
        ...


@dataclass(slots=True)
class Request:
    """What the gate knows when it calls the application: ``scope["objectio"]``.

    `trust` may be called again by a handler that finds out later what else is touched (each key of
    a DeleteObjects): it raises `AccessDenied`.
    """

    request_id: str
    access: Access
    identity: Identity
    body: RequestBody
    trust: Callable[[str, str], None]


class Response(NamedTuple):
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What a front end gets when it is built. `admin` is None where the storage is not managed from
    this node, `cluster` where nobody can be asked who is in it."""

    objects: ObjectService
    metrics: Metrics
    region: str = "us-east-1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    admin: StorageAdmin | None = None
    cluster: ClusterView | None = None


class FrontEnd(Protocol):
    @property
    def mounts(self) -> Sequence[Mount]: ...

    def classify(self, scope: Scope) -> Access: ...

    @property
    def app(self) -> ASGIApp: ...

    def error(self, error: Exception, scope: Scope, request_id: str) -> Response: ...


class FrontEndFactory(Protocol):
    """What `Driver.open` of an API returns."""

    def build(self, context: ApiContext) -> FrontEnd: ...
