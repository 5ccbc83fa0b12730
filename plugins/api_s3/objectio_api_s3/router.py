"""From method, path and query to one operation, or to a refusal.

S3 names most of its operations by a query parameter, a *sub-resource*: DELETE of `/bucket` and of
`/bucket?policy` have nothing in common. So every parameter that S3 gives a meaning to is known
here, and an operation is found only by the exact set of sub-resources of a request. What is left
over is refused: a request for something not built never becomes another operation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from functools import partial
from typing import Final, NoReturn
from urllib.parse import quote, unquote_to_bytes

from objectio import limits
from objectio.abc.api import Access, Scope
from objectio.errors import MethodNotAllowed, OperationNotImplemented
from objectio.iam.sigv4 import collect_headers
from objectio_api_s3 import copy_source, permissions, routes_bucket, routes_object
from objectio_api_s3.errors import Refusal, refuse
from objectio_api_s3.headers import refuse_unsupported
from objectio_api_s3.request import ARN, Operation, Spec
from objectio_api_s3.routes import BUCKET, OBJECT, SERVICE, SUBRESOURCES, Table
from objectio_api_s3.vhost import PATH_STYLE, Host

_BUCKET_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_HEADER_NAME: Final = re.compile(r"[a-z0-9._-]+")
_CONTROLS: Final = bytes((*range(32), 127))

# What signs a request in its query (SigV4), for the gate alone.
_SIGNING: Final = frozenset(
    (
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires"),
        *("x-amz-security-token", "x-amz-signature", "x-amz-signedheaders"),
    )
)

_TABLE: Final[Table] = {**routes_bucket.TABLE, **routes_object.TABLE}

_PLAIN: Final = {(method, level): spec for (method, level, sub), spec in _TABLE.items() if not sub}

OPERATIONS: Final = frozenset(
    spec.name
    for spec in (
        *_TABLE.values(),
        *(routes_bucket.LIST_V2, routes_bucket.PREFLIGHT, routes_bucket.SITE),
        *(routes_object.COPY, routes_object.COPY_PART),
    )
)
IMPLEMENTED: Final = frozenset(_TABLE)
"""(method, level, set of sub-resources) of everything that is built."""

# What becomes a copy by x-amz-copy-source; with any other operation the header means nothing.
_COPYING: Final = {"PutObject": routes_object.COPY, "UploadPart": routes_object.COPY_PART}

_NO_QUERY: Final[dict[str, bytes]] = {}
_READS: Final = frozenset(("GET", "HEAD"))
_METHODS: Final = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"))


def classify(scope: Scope, host: Host = PATH_STYLE) -> Access:
    """What a request means. Raises for whatever is not exactly understood."""
    headers = collect_headers(scope["headers"])  # as the signature is verified over them
    if scope["method"] == "OPTIONS":
        return _preflight_access(scope, host, headers)
    if host.site:
        return _site_access(scope, host, headers)
    query = _parse_query(scope["query_string"], headers) if scope["query_string"] else _NO_QUERY
    bucket_name, key, text = _split(scope, host.bucket)
    level = OBJECT if key else BUCKET if bucket_name else SERVICE
    method = scope["method"]
    spec = _find(method, level, query) if query else _PLAIN.get((method, level))
    if spec is None:
        _refuse(method, level)
    if copy_source.HEADER in headers:
        spec = _COPYING.get(spec.name, spec)
    refuse_unsupported(headers, spec.headers)
    op = Operation(spec, method, bucket_name, key, query, headers)
    return _access(op, text)


def _access(op: Operation, key_text: str) -> Access:
    spec = op.spec
    op.host = op.headers.get(b"host", b"").decode("latin-1")
    if op.key:
        resource = f"{ARN}{op.bucket}/{key_text}"
    else:
        resource = ARN + (op.bucket or "*")
    if spec.copies:
        return _copy_access(op, resource)
    versioned = "versionId" in op.query
    return Access(
        spec.version_action if spec.version_action and versioned else spec.action,
        resource,
        op,
        also=permissions.also(op, resource),
        public=spec.public or spec.late,
        payload=spec.payload,
        body_bytes_max=spec.body_bytes_max,
        version_id=op.version_id if versioned else None,
        conditions=partial(permissions.conditions, op),
        name=spec.name,
    )


def _preflight_access(scope: Scope, host: Host, headers: dict[bytes, bytes]) -> Access:
    """A preflight is about the request that may follow, whose query (a presigned URL's, even) it
    has: nothing of that is looked at."""
    bucket_name, key, text = _split(scope, host.bucket)
    if not bucket_name:
        _refuse("OPTIONS", SERVICE)
    op = Operation(routes_bucket.PREFLIGHT, "OPTIONS", bucket_name, key, _NO_QUERY, headers)
    resource = f"{ARN}{bucket_name}/{text}" if key else ARN + bucket_name
    return Access(op.spec.action, resource, op, public=True, name=op.spec.name)


def _site_access(scope: Scope, host: Host, headers: dict[bytes, bytes]) -> Access:
    """A page: which object it is and whether it may be read, the handler finds out. The query is the
    page's own."""
    method = scope["method"]
    if method not in _READS:
        raise MethodNotAllowed("method", method=method, allowed=sorted(_READS))
    bucket_name, key, text = _split(scope, host.bucket)
    op = Operation(routes_bucket.SITE, method, bucket_name, key, _NO_QUERY, headers)
    op.host = headers.get(b"host", b"").decode("latin-1")
    resource = f"{ARN}{bucket_name}/{text}" if key else ARN + bucket_name
    return Access(op.spec.action, resource, op, public=True, name=op.spec.name)


def _copy_access(op: Operation, resource: str) -> Access:
    """A write whose bytes come from another object, which must be readable."""
    source = copy_source.parse_source(op.headers[copy_source.HEADER])
    op.source = source
    return Access(
        op.spec.action,
        resource,
        op,
        also=[source.access, *permissions.also(op, resource)],
        conditions=partial(permissions.conditions, op),
        name=op.spec.name,
    )


def _split(scope: Scope, bucket: str = "") -> tuple[str, bytes, str]:
    """Bucket, key, and the key as text; the path is all key if the host says which `bucket`. It is
    percent-decoded once and not normalised: `..`, `//` and `%2F` are parts of keys like any
    other."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    if raw == b"/" and not bucket:
        return "", b"", ""
    if raw[:1] != b"/":
        refuse("InvalidURI")
    if bucket:
        name, key = bucket.encode("latin-1"), raw[1:]
    else:
        name, _, key = raw[1:].partition(b"/")
    if b"%" in raw:
        if _BAD_PERCENT.search(raw) is not None:
            refuse("InvalidURI")
        name, key = name if bucket else unquote_to_bytes(name), unquote_to_bytes(key)
    if _BUCKET_NAME.fullmatch(name) is None:
        refuse("InvalidBucketName", BucketName=name.decode("utf-8", "replace"))
    if len(key) > limits.OBJECT_KEY_BYTES_MAX:
        refuse(
            "KeyTooLongError",
            Size=str(len(key)),
            MaxSizeAllowed=str(limits.OBJECT_KEY_BYTES_MAX),
        )
    try:
        return name.decode("ascii"), key, key.decode("utf-8")
    except UnicodeDecodeError:
        refuse("InvalidURI", "The key is not valid UTF-8.")


def find_target(scope: Scope, host: Host) -> tuple[str, bytes]:
    """The bucket and key that a request is about, even one that is refused; empty for none."""
    try:
        return _split(scope, host.bucket)[:2]
    except Refusal:
        return "", b""


def _parse_query(raw: bytes, headers: dict[bytes, bytes]) -> dict[str, bytes]:
    """Parameters by name. Those that stand for x-amz-* headers, as in presigned URLs of some SDKs,
    join `headers`; those that only sign are left out."""
    query: dict[str, bytes] = {}
    for pair in raw.split(b"&"):
        if not pair:
            continue
        name_raw, _, value = pair.partition(b"=")
        name, signs = _parse_name(name_raw)
        if signs:
            continue
        if b"%" in value or b"+" in value:
            value = unquote_to_bytes(value.replace(b"+", b" "))
        if name[:2] in ("x-", "X-"):
            _add_header(name.lower(), value, headers)
        elif name in query:
            refuse("InvalidArgument", "A query parameter is repeated.", ArgumentName=name)
        else:
            query[name] = value
    return query


@functools.lru_cache(maxsize=512)
def _parse_name(raw: bytes) -> tuple[str, bool]:
    """A parameter's name, and whether it only signs. The same few names come again and again."""
    name = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "replace")
    lower = name.lower()
    return name, lower in _SIGNING or (lower[:2] == "x-" and not lower.startswith("x-amz-"))


def _add_header(name: str, value: bytes, headers: dict[bytes, bytes]) -> None:
    if not _HEADER_NAME.fullmatch(name) or value.translate(None, _CONTROLS) != value:
        refuse("InvalidArgument", "A header in the query is not valid.")
    headers.setdefault(name.encode("ascii"), value)


def _find(method: str, level: int, query: Mapping[str, bytes]) -> Spec | None:
    if "AWSAccessKeyId" in query:
        refuse(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use "
            "AWS4-HMAC-SHA256.",
        )
    subresources = SUBRESOURCES.intersection(query)
    spec = _TABLE.get((method, level, subresources))
    if spec is None:
        if subresources:
            raise OperationNotImplemented("sub-resource", names=sorted(subresources))
        return None
    if spec.name == "ListObjects" and "list-type" in query:
        if query["list-type"] != b"2":
            refuse("InvalidArgument", "Invalid List Type", ArgumentName="list-type")
        spec = routes_bucket.LIST_V2
    for name in query.keys() - spec.parameters - subresources:
        # A bare name may be a sub-resource that came after this code; and a change must not be
        # made if a part of what was asked for is unknown.
        if method not in _READS or not query[name]:
            raise OperationNotImplemented("query parameter", name=name)
    return spec


def _refuse(method: str, level: int) -> NoReturn:
    allowed = sorted(m for m in _METHODS if (m, level) in _PLAIN)
    raise MethodNotAllowed("method", method=method, allowed=allowed)
