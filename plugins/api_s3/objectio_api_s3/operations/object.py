"""One object: put, get, head.

This is the hot path: a small object costs a few header look-ups, one list of response headers and
two sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple, NoReturn

from objectio import limits
from objectio.abc.api import ANONYMOUS, Wanted
from objectio.abc.objects import ObjectInfo
from objectio.errors import NotFound, PayloadTooLarge, RangeNotSatisfiable
from objectio_api_s3 import acl, checksums, expiry, locks, permissions, sse
from objectio_api_s3.conditions import (
    READ_HEADERS,
    not_modified,
    parse_conditions,
    range_counts,
    write_conditions,
)
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import (
    Headers,
    checksum_headers,
    etag_header,
    object_headers,
    parse_attributes,
    parse_overrides,
    written_headers,
)
from objectio_api_s3.ranges import parse_range
from objectio_api_s3.request import Call, Operation, Reply, Stream, arn, empty_reply
from objectio_api_s3.times import http_date

# Without one of these, all of the object is sent, unconditionally.
_SELECTING: Final = READ_HEADERS | {b"range", b"x-amz-checksum-mode"}


class _Selection(NamedTuple):
    """What of an object is sent, and how that is said."""

    status: int
    headers: Headers
    start: int
    length: int


async def put_object(call: Call) -> Reply:
    op, context = call.op, call.context
    headers, body = op.headers, call.request.body
    if body.size > limits.PUT_SIZE_BYTES_MAX:
        raise PayloadTooLarge("Your proposed upload exceeds the maximum allowed size")
    await call.check_owner()
    declared = checksums.parse_declared(headers, body.declared_trailers)
    owner, granted = await acl.place(call)
    if declared is None:
        attributes = parse_attributes(headers, acl=granted)
    else:
        name = declared.algorithm.name
        attributes = parse_attributes(headers, name, checksums.FULL_OBJECT, granted)
    checksums.watch(body, headers, declared)
    info = await context.objects.put_object(
        op.bucket,
        op.key,
        body,
        attributes,
        owner=owner,
        conditions=write_conditions(headers),
        encryption=sse.parse_write(headers),
        origin=call.origin("ObjectCreated:Put"),
    )
    answered = written_headers(info)
    if info.bucket is not None:
        answered += await expiry.of_object(context.objects, info)
    return empty_reply(200, answered)


async def get_object(call: Call) -> Reply | Stream:
    op = call.op
    await call.check_owner()
    sse.refuse_method(op.headers)
    customer_key = sse.parse_customer_key(op.headers)
    objects = call.context.objects
    try:
        if customer_key is None and "partNumber" in op.query:
            # A part that is not there is none, also to who would need a key to read it.
            info = await objects.head_object(
                op.bucket, op.key, version_id=op.version_id, check_key=False
            )
            _select(call, info)
        reader = await objects.get_object(
            op.bucket, op.key, version_id=op.version_id, customer_key=customer_key
        )
    except NotFound as error:
        await hide(call, error, op.bucket)
    try:
        call.check_judged(reader.info, op.bucket, op.key, op.version_id)
        status, headers, start, length = _select(call, reader.info)
        await tell_more(call, reader.info, headers)
        if status == 304:
            reader.close()
            return Reply(status, headers)
        piece = reader.read_now(start, length) if length else b""
        if piece is not None:
            reader.close()
            return Reply(status, headers, piece)
        rest = reader.stream(start, length)
        first = await anext(rest)
    except BaseException:
        reader.close()
        raise
    return Stream(status, headers, length, first, rest, reader)


async def get_object_torrent(call: Call) -> Reply:
    """There is none of any object: S3 itself makes no more of them."""
    await call.check_owner()
    raise NotFound("there are no torrents", kind="object")


async def head_object(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    sse.refuse_method(op.headers)
    try:
        info = await call.context.objects.head_object(
            op.bucket,
            op.key,
            version_id=op.version_id,
            customer_key=sse.parse_customer_key(op.headers),
        )
    except NotFound as error:
        await hide(call, error, op.bucket)
    call.check_judged(info, op.bucket, op.key, op.version_id)
    status, headers, _, _ = _select(call, info)
    await tell_more(call, info, headers)
    return Reply(status, headers)


async def tell_more(call: Call, info: ObjectInfo, headers: Headers) -> None:
    """When it expires, and what only those are told who might ask for it by itself: locks, and how
    many tags."""
    if info.bucket is not None:
        headers += await expiry.of_object(call.context.objects, info)
    attributes = info.attributes
    if attributes.retention is None and not attributes.legal_hold and not attributes.tags:
        return
    op = call.op
    where, version_id = arn(op.bucket, op.key), op.version_id
    wants = partial(permissions.conditions, op)
    if attributes.retention is not None:
        wanted = Wanted("s3:GetObjectRetention", where, version_id, wants)
        if await call.may(wanted):
            headers += locks.retention_headers(attributes.retention)
    if attributes.legal_hold and await call.may(
        Wanted("s3:GetObjectLegalHold", where, version_id, wants)
    ):
        headers.append((locks.HOLD, b"ON"))
    action = "s3:GetObjectTagging" if version_id is None else "s3:GetObjectVersionTagging"
    if attributes.tags and await call.may(Wanted(action, where, version_id, wants)):
        headers.append((b"x-amz-tagging-count", b"%d" % len(attributes.tags)))


async def hide(call: Call, error: NotFound, bucket: str) -> NoReturn:
    """Who may not list a bucket may not find out by reading which keys are in it (S3 API
    reference, GetObject, "Permissions"). Raises AccessDenied for them, else `error`."""
    if error.fields.get("kind") in ("object", "version"):
        await call.request.trust(Wanted("s3:ListBucket", arn(bucket)))
    raise error


def _select(call: Call, info: ObjectInfo) -> _Selection:
    op = call.op
    query = op.query
    if not query and _SELECTING.isdisjoint(op.headers):
        return _Selection(200, object_headers(info, info.size), 0, info.size)
    overrides = parse_overrides(query) if query else None
    if overrides and call.request.identity == ANONYMOUS:
        refuse(
            "InvalidRequest",
            "Request specific response headers cannot be used for anonymous GET requests.",
        )
    conditions = parse_conditions(op.headers)
    if conditions is not None and not_modified(info, conditions):
        return _Selection(304, _unmodified_headers(info), 0, 0)
    part = query.get("partNumber")
    if part is not None:
        return _select_part(op, info, overrides)
    selected = _range(op.headers, info)
    if selected is not None:
        start, length = selected
        found = object_headers(info, length, overrides)
        found.append(_content_range(start, length, info.size))
        return _Selection(206, found, start, length)
    found = object_headers(info, info.size, overrides)
    if _wants_checksum(op.headers):
        found += checksum_headers(info.checksums, info.attributes.checksum_type)
    return _Selection(200, found, 0, info.size)


def _wants_checksum(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"x-amz-checksum-mode", b"").upper() == b"ENABLED"


def _range(headers: Mapping[bytes, bytes], info: ObjectInfo) -> tuple[int, int] | None:
    value = headers.get(b"range")
    if value is None:
        return None
    if_range = headers.get(b"if-range")
    if if_range is not None and not range_counts(if_range, info):
        return None
    try:
        return parse_range(value, info.size)
    except RangeNotSatisfiable as error:
        error.fields["range"] = value.decode("latin-1")
        raise


def _content_range(start: int, length: int, size: int) -> tuple[bytes, bytes]:
    return (b"content-range", b"bytes %d-%d/%d" % (start, start + length - 1, size))


def _unmodified_headers(info: ObjectInfo) -> Headers:
    """RFC 9110 §15.4.5: those that a 200 would have had and that caches need."""
    found = [etag_header(info.etag), (b"last-modified", http_date(info.modified_ms))]
    kept = ("cache-control", "expires")
    wanted = {name.encode() for name in kept if name in info.attributes.headers}
    if wanted:
        found += [pair for pair in object_headers(info, 0) if pair[0] in wanted]
    return found


def _select_part(
    op: Operation, info: ObjectInfo, overrides: Mapping[str, bytes] | None
) -> _Selection:
    """One part of what was uploaded in parts; an object that was not has part 1 alone."""
    number = op.count("partNumber", 0)
    if not 1 <= number <= limits.PART_NUMBER_MAX:
        refuse(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {limits.PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
        )
    if b"range" in op.headers:
        refuse("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    sizes = info.part_sizes or (info.size,)
    numbers = info.part_numbers or range(1, len(sizes) + 1)
    if number not in numbers:
        refuse(
            "InvalidPart",
            "The requested partnumber is not satisfiable.",
            ActualPartCount=str(len(sizes)),
            PartNumberRequested=str(number),
        )
    at = numbers.index(number)
    start, length = sum(sizes[:at]), sizes[at]
    found = object_headers(info, length, overrides)
    if info.part_sizes:
        found.append((b"x-amz-mp-parts-count", b"%d" % len(sizes)))
    if _wants_checksum(op.headers):
        values = info.part_checksums[at] if info.part_checksums else info.checksums
        found += checksum_headers(values, info.attributes.checksum_type)
    if length == 0:
        return _Selection(200, found, start, 0)  # Content-Range cannot say an empty range
    found.append(_content_range(start, length, info.size))
    return _Selection(206, found, start, length)
