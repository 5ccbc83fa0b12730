"""A request as the router understood it, and what handlers answer it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import Buffer

from objectio.abc.api import ANONYMOUS, ApiContext, Request, Wanted
from objectio.abc.objects import ObjectInfo, ObjectReader, Origin
from objectio.errors import AccessDenied, Unavailable
from objectio_api_s3 import checksums
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import Headers
from objectio_api_s3.xml import document

ARN: Final = "arn:aws:s3:::"
NOBODYS_ID: Final = "65a011a29cdf8ec533ec3d1ccaae921c"
"""What S3 has as the owner of what was written without credentials: no account has it."""
_XML: Final = (b"content-type", b"application/xml")


@dataclass(slots=True)
class Reply:
    """A whole response. `headers` belong to the reply; those of every response are added to
    them."""

    status: int
    headers: Headers = field(default_factory=list)
    body: Buffer = b""


@dataclass(slots=True)
class Stream:
    """A response whose body comes in pieces: `first`, then those of `rest`, `length` bytes in all.
    Whoever sends it closes `reader`."""

    status: int
    headers: Headers
    length: int
    first: Buffer
    rest: AsyncIterator[Buffer]
    reader: ObjectReader


Handler = Callable[["Call"], Awaitable["Reply | Stream"]]


@dataclass(frozen=True, slots=True)
class Spec:
    """An operation of S3.

    action           the IAM action; `version_action` is that of a request with a versionId
    parameters       the query parameters that it knows
    payload          whether the body is object data
    body_bytes_max   of a body that is not
    headers          what it acts upon of the x-amz-* headers that others must refuse
    public           whether it needs no credentials
    also             another action that must be allowed too, and the same for a version
    copies           whether the bytes come from another object
    late             whether the handler asks itself who may, by `Call.require`: what is touched stands
                     in the body. The gate only authenticates
    bypass           whether x-amz-bypass-governance-retention means something
    """

    name: str
    handler: Handler
    action: str
    version_action: str = ""
    parameters: frozenset[str] = frozenset()
    payload: bool = False
    body_bytes_max: int = 0
    headers: frozenset[bytes] = frozenset()
    public: bool = False
    also: str = ""
    version_also: str = ""
    copies: bool = False
    late: bool = False
    bypass: bool = False


@dataclass(slots=True)
class Operation:
    """`bucket` "" and `key` b"" where there are none. Header names are in lower case."""

    spec: Spec
    method: str
    bucket: str
    key: bytes
    query: Mapping[str, bytes]
    headers: Mapping[bytes, bytes]
    host: str = ""
    source: object = None  # a copy's, as parsed

    @property
    def version_id(self) -> str | None:
        value = self.query.get("versionId")
        if value is None:
            return None
        if not value:
            refuse("InvalidArgument", "Version id cannot be the empty string")
        return value.decode("utf-8", "replace")

    def text(self, name: str, default: str = "") -> str:
        value = self.query.get(name)
        if value is None:
            return default
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            refuse("InvalidArgument", ArgumentName=name)

    def count(self, name: str, default: int, *, low: int = 0, high: int | None = None) -> int:
        """A number in the query, cut at `high`. An empty value is none."""
        value = self.query.get(name)
        if not value:
            return default
        if not value.isdigit() or len(value) > 10 or not low <= int(value) <= 0x7FFFFFFF:
            refuse(
                "InvalidArgument",
                f"Provided {name} not an integer or within integer range",
                ArgumentName=name,
                ArgumentValue=value.decode("utf-8", "replace"),
            )
        return int(value) if high is None else min(int(value), high)


class Call:
    """All that a handler needs: where it is, who calls, what for."""

    __slots__ = ("context", "op", "request")

    def __init__(self, context: ApiContext, request: Request, op: Operation) -> None:
        self.context = context
        self.request = request
        self.op = op

    async def check_owner(self) -> None:
        """x-amz-expected-bucket-owner: the caller's guard against another one's bucket."""
        await self._check_owner(b"x-amz-expected-bucket-owner", self.op.bucket)

    async def check_source_owner(self, bucket: str) -> None:
        await self._check_owner(b"x-amz-source-expected-bucket-owner", bucket)

    async def _check_owner(self, header: bytes, bucket: str) -> None:
        expected = self.op.headers.get(header)
        if expected is None:
            return
        info = await self.context.objects.get_bucket(bucket)
        if expected.decode("latin-1") not in self._names(info.owner):
            raise AccessDenied("the bucket has another owner", reason="AccessDenied")

    def _names(self, owner: str) -> tuple[str, ...]:
        """By what an account may be named: its canonical id, or as AWS has it its 12 digits."""
        directory = self.context.directory
        account = None if directory is None else directory.by_canonical_id(owner)
        return (owner,) if account is None else (owner, account.id)

    @property
    def owner(self) -> str:
        """The canonical id of the caller's account: who owns what the caller makes."""
        identity = self.request.identity
        if identity.canonical_id:
            return identity.canonical_id
        return NOBODYS_ID if identity == ANONYMOUS else identity.name

    def origin(self, event: str) -> Origin:
        """For notifications: who changes something, by which event."""
        request = self.request
        identity = request.identity
        return Origin(
            event, identity.user_id or identity.name, request.source_ip, request.request_id
        )

    async def require(
        self,
        action: str,
        conditions: Callable[[], Mapping[str, Sequence[str]]] | None = None,
        *,
        key: bytes | None = None,
        version_id: str | None = None,
    ) -> None:
        """Raises `AccessDenied` unless the caller may do `action` to a key of the bucket, that of the
        request unless another is named."""
        where = arn(self.op.bucket, self.op.key if key is None else key)
        await self.request.trust(Wanted(action, where, version_id, conditions))

    def check_judged(
        self, info: ObjectInfo, bucket: str, key: bytes, version_id: str | None
    ) -> None:
        """That an object is the one whose tags or ACL said that it may be read: another may have
        taken its place. Raises `Unavailable`."""
        judged, where = self.request.judged, (arn(bucket, key), version_id)
        if not judged or where not in judged:
            return
        before = judged[where]
        if before is None or _protection(before) != _protection(info):
            raise Unavailable("The object was changed meanwhile. Please try again.")

    async def may(self, wanted: Wanted) -> bool:
        """Whether the caller may do something that decides only how much is told."""
        if self.request.identity.is_root:
            return True
        try:
            await self.request.trust(wanted)
        except AccessDenied:
            return False
        return True

    async def acts(self, action: str) -> None:
        """Before it does something that the audit log is to have, though its operation need not be there.
        Raises `Unavailable`: then it may not be done."""
        if self.request.acts is not None:
            await self.request.acts(action, arn(self.op.bucket, self.op.key or None))

    async def read_document(self) -> bytes:
        """The XML that was sent, compared with its checksum if it has one. Content-MD5 or a
        checksum is nowhere demanded: SDKs differ in which they send."""
        body = self.request.body
        checksums.watch_document(body, self.op.headers)
        return await body.read_all()


def _protection(info: ObjectInfo) -> tuple[object, ...]:
    """Which object it is, and what of it decides who may read it."""
    said = info.attributes
    return info.version_id, info.etag, info.modified_ms, info.owner, said.tags, said.acl


def arn(bucket: str, key: bytes | None = None) -> str:
    """Keys that reach this point are UTF-8."""
    return ARN + bucket if key is None else f"{ARN}{bucket}/{key.decode('utf-8')}"


def xml_reply(root: str, inner: str, status: int = 200, headers: Headers | None = None) -> Reply:
    body = document(root, inner)
    found = headers if headers is not None else []
    found += (_XML, (b"content-length", b"%d" % len(body)))
    return Reply(status, found, body)


def empty_reply(status: int = 200, headers: Headers | None = None) -> Reply:
    found = headers if headers is not None else []
    if status != 204:  # RFC 9110 §8.6: a 204 has no Content-Length
        found.append((b"content-length", b"0"))
    return Reply(status, found)
