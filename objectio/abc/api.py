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
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from objectio.abc.admin import ClusterView, StorageAdmin
from objectio.abc.metrics import Metrics
from objectio.abc.objects import ObjectInfo, ObjectService, Payload
from objectio.abc.quotas import QuotaAdmin
from objectio.model.bucket import ObjectOwnership

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Mount(NamedTuple):
    """Where a front end answers: paths that start with `prefix` ("/" takes all that is left). With a
    `method`, requests of that method for exactly `prefix` whose body is of `content_type`, before
    any other front end is asked."""

    prefix: str
    method: str = ""
    content_type: str = ""


class KeyLimits(NamedTuple):
    """What an access key gives less than whose it is: that of a service account, or one for a time.

    access_key   the key
    mark         tells it from one that is made anew by the same name
    policy       a compiled `objectio.iam.policy.Policy` that must allow whatever is to be allowed; None:
                 the key is not narrowed down
    expires_ms   until when it is good; 0: it lasts
    """

    access_key: str
    mark: bytes
    policy: Any = None
    expires_ms: int = 0


class Identity(NamedTuple):
    """Who calls.

    name             of the user, or of the session
    arn              names the principal
    access_key       that the request was signed with
    is_root          the root of the cluster, who may do anything
    account          12 digits; "" for nobody
    canonical_id     of the account, as ACLs and owners name it
    display_name     of the account, for people
    user_id          what policies know as aws:userid
    policies         compiled `objectio.iam.policy.Policy`s of the user or role
    session_policies those that a session was narrowed down to; None if it was not
    session          whether the credentials are temporary
    expires_ms       until when the credentials are good; 0: they last
    tags             of the principal
    role_arn         of the role that a session is of; policies may name the role or the session
    keys             condition keys that the session brings ("aws:FederatedProvider")
    limits           those of the access key, or of the one that the session was begun with; None: it
                     gives all that its user has
    """

    name: str
    arn: str
    access_key: str
    is_root: bool = False
    account: str = ""
    canonical_id: str = ""
    display_name: str = ""
    user_id: str = ""
    policies: Sequence[Any] = ()
    session_policies: Sequence[Any] | None = None
    session: bool = False
    expires_ms: int = 0
    tags: Mapping[str, str] = MappingProxyType({})
    role_arn: str = ""
    keys: Mapping[str, Sequence[str]] = MappingProxyType({})
    limits: KeyLimits | None = None

    @property
    def is_account_root(self) -> bool:
        """May do anything within the account, as far as no policy denies it."""
        return bool(self.account) and self.arn == f"arn:aws:iam::{self.account}:root"


ANONYMOUS = Identity("anonymous", "*", "")


class Account(NamedTuple):
    """What others may know of an account."""

    id: str
    canonical_id: str
    display_name: str
    email: str = ""


class Directory(Protocol):
    """Who there is, as far as front ends must know. Answers at once, from memory."""

    def by_canonical_id(self, canonical_id: str) -> Account | None: ...

    def by_email(self, email: str) -> Account | None: ...

    def by_account(self, account: str) -> Account | None: ...


class Wanted(NamedTuple):
    """Something that must be allowed too. `version_id` where an object's version is meant.

    `policy` is a compiled `objectio.iam.policy.Policy` of what is in no bucket: a role's trust. `writing`:
    it goes with the writing of an object, whose ACL there is none of yet: that of the bucket decides.
    """

    action: str
    resource: str
    version_id: str | None = None
    conditions: Callable[[], Mapping[str, Sequence[str]]] | None = None
    policy: Any = None
    writing: bool = False


@dataclass(slots=True)
class Access:
    """What a request asks for. `operation` is the front end's own parsed form, passed back to it.

    action       e.g. "s3:GetObject"
    resource     e.g. "arn:aws:s3:::bucket/key"
    version_id   of the object, if one is named
    conditions   the values of the condition keys that this request has ("s3:prefix" → ("a/",)); asked
                 for only if a policy may want them. Those that every request has are the gate's
    also         what must be allowed too, e.g. to read a copy's source
    public       True for the rare operation that needs no credentials at all (health), and for one
                 whose handler asks by `Request.trust`, since what it touches stands in the body
    service      which the signature must be for
    name         what it is called in metrics ("HeadObject"), if not as its action ("s3:GetObject")
    bearer       the audience of the bearer tokens (RFC 6750) that may stand in place of a signature;
                 "": none may
    payload      True if the body is object data, to be streamed; else the gate verifies the
                 whole body (up to `body_bytes_max`) before the handler runs
    """

    action: str
    resource: str
    operation: Any = None
    also: Sequence[Wanted] = ()
    public: bool = False
    payload: bool = False
    body_bytes_max: int = 0
    version_id: str | None = None
    conditions: Callable[[], Mapping[str, Sequence[str]]] | None = None
    service: str = "s3"
    bearer: str = ""
    name: str = ""


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
    a DeleteObjects): it raises `AccessDenied`. `act_as` puts another identity, whose credentials the
    handler found in the body, through the gate (a form upload, which carries its signature there).

    `judged` are the objects whose tags, ACL or owner decided what is allowed, by resource and version
    id, as they were then; None: there was none. Whoever hands one out sees that it is still this one.

    `acts` is for a public operation whose action stands in the body: once it is allowed, and before
    anything of it is done, the handler awaits `acts(action, resource)`. It may raise `Unavailable`. A
    handler that asks itself may await it too, for what the audit log is to have of data.
    `denied` is what was denied of an operation that goes on with the rest, put there by the handler.
    """

    request_id: str
    access: Access
    identity: Identity
    body: RequestBody
    trust: Callable[[Wanted], Awaitable[None]]
    source_ip: str = ""
    secure: bool = False
    act_as: Callable[[FormCredentials], Awaitable[None]] | None = None
    judged: Mapping[tuple[str, str | None], ObjectInfo | None] | None = None
    acts: Callable[[str, str], Awaitable[None]] | None = None
    denied: list[Wanted] | None = None


class FormCredentials(NamedTuple):
    """What signs a form upload (S3 API reference, "Browser-based uploads using POST"): the policy in
    base64 as it was sent, and the fields x-amz-credential, x-amz-date, x-amz-signature and
    x-amz-security-token. With `algorithm` "HMAC-SHA1" it is the older form: `credential` is the field
    AWSAccessKeyId, `signature` the field signature, and there is no date. `act_as` verifies them, and
    replaces `Request.identity`."""

    policy: bytes
    credential: str
    date: str
    signature: str
    algorithm: str = "AWS4-HMAC-SHA256"
    security_token: str = ""


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
    directory: Directory | None = None
    identities: Any = None
    """`objectio.iam.admin.IdentityAdmin`: who manages users, keys, roles and sessions."""
    object_ownership: ObjectOwnership = "BucketOwnerEnforced"
    """Of new buckets, where who makes one says nothing."""
    quotas: QuotaAdmin | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """Of this process, without its secrets: `node` is its name, `source` the file, and `config` has the
    sections with the tables of drivers. Empty where it is not told."""


class FrontEnd(Protocol):
    """May also have ``async def finish_error(response, scope) -> Response``, which is given what
    `error` made, for what has to be looked up first (CORS headers). What it raises is logged, and
    answered without any detail. And ``def stop() -> None``, which is called before the server waits for
    the requests under way: responses that would go on for ever end then."""

    @property
    def mounts(self) -> Sequence[Mount]: ...

    def classify(self, scope: Scope) -> Access: ...

    @property
    def app(self) -> ASGIApp: ...

    def error(self, error: Exception, scope: Scope, request_id: str) -> Response: ...


class FrontEndFactory(Protocol):
    """What `Driver.open` of an API returns."""

    def build(self, context: ApiContext) -> FrontEnd: ...
