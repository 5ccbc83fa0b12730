"""CopyObject and UploadPartCopy: from one key to another, or to a part, inside the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from objectio import limits
from objectio.abc.api import Wanted
from objectio.abc.objects import (
    NULL_VERSION,
    Conditions,
    ObjectAttributes,
    ObjectInfo,
    PartInfo,
)
from objectio.errors import CommitConflict, NotFound, PreconditionFailed
from objectio.model.bucket import Acl
from objectio_api_s3 import acl, checksums, copy_source, permissions, sse
from objectio_api_s3.conditions import parse_conditions, write_conditions
from objectio_api_s3.copy_source import CONDITIONS, RANGE, ReaderPayload, Source
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import Headers, clean, parse_attributes, version_header
from objectio_api_s3.operations.object import hide
from objectio_api_s3.operations.part import parse_number, upload_id
from objectio_api_s3.request import Call, Operation, Reply, arn, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, escape, optional

# What makes a copy of an object onto itself a change.
_CHANGING: Final = frozenset(
    (
        b"x-amz-storage-class",
        b"x-amz-checksum-algorithm",
        b"x-amz-website-redirect-location",
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-customer-algorithm",
    )
)


# A source that is written to all the time may change while it is copied.
_TRIES: Final = 5


@dataclass(slots=True)
class _Plan:
    """What is copied, and how the copy differs. `info` is the source as it was found."""

    source: Source
    info: ObjectInfo
    owner: str
    granted: Acl | None
    replace_metadata: bool
    replace_tags: bool
    algorithm: checksums.Algorithm | None

    @property
    def pinned(self) -> str | None:
        """The version that `info` is of, so that no other is copied."""
        versioned = self.info.versioned and self.info.version_id != NULL_VERSION
        return self.info.version_id if versioned else self.source.version_id


async def copy_object(call: Call) -> Reply:
    op = call.op
    assert isinstance(op.source, Source)
    await call.check_owner()
    await call.check_source_owner(op.source.bucket)
    for left in reversed(range(_TRIES)):
        plan = await _plan(call, op.source)
        try:
            if plan.algorithm is None and write_conditions(op.headers) is None:
                info = await _copy_inside(call, plan)
            else:
                info = await _copy_through(call, plan)
            break
        except CommitConflict:
            if not left:
                raise
    headers = _source_headers(plan.info) + sse.response_headers(info.encryption)
    if info.versioned:
        headers.append(version_header(info.version_id))
    return _result(info, headers)


async def _plan(call: Call, source: Source) -> _Plan:
    op = call.op
    replace_metadata = _replaces(op.headers, b"x-amz-metadata-directive")
    replace_tags = _replaces(op.headers, b"x-amz-tagging-directive")
    wanted = op.headers.get(b"x-amz-checksum-algorithm")
    algorithm = checksums.parse_algorithm(wanted) if wanted else None
    info = await _look(call, source)
    owner, granted = await acl.place(call)
    same = (source.bucket, source.key) == (op.bucket, op.key) and info.is_latest
    if same and not (replace_metadata or replace_tags) and _CHANGING.isdisjoint(op.headers):
        refuse(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    if info.attributes.tags and not replace_tags and not call.request.identity.is_root:
        # S3 API reference, CopyObject, "Permissions": tags are read and written like any others.
        await call.request.trust(source.tagging)
        await call.request.trust(
            Wanted(
                "s3:PutObjectTagging",
                arn(op.bucket, op.key),
                None,
                partial(permissions.request_tags, info.attributes.tags),
            )
        )
    return _Plan(source, info, owner, granted, replace_metadata, replace_tags, algorithm)


async def _look(call: Call, source: Source) -> ObjectInfo:
    conditions = parse_conditions(call.op.headers, CONDITIONS)
    try:
        info = await call.context.objects.head_object(
            source.bucket,
            source.key,
            version_id=source.version_id,
            customer_key=sse.parse_source_key(call.op.headers),
        )
    except NotFound as error:
        await hide(call, error, source.bucket)
    call.check_judged(info, *source)
    copy_source.check(info, conditions)
    return info


def _replaces(headers: Mapping[bytes, bytes], name: bytes) -> bool:
    directive = headers.get(name, b"COPY")
    if directive not in (b"COPY", b"REPLACE"):
        what = "metadata" if b"metadata" in name else "tagging"
        refuse("InvalidArgument", f"Unknown {what} directive.", ArgumentName=name.decode())
    return directive == b"REPLACE"


async def _copy_inside(call: Call, plan: _Plan) -> ObjectInfo:
    """The store copies the bytes, and the checksums with them. The attributes were made of what
    the source was, so it must still be this one."""
    op, source = call.op, plan.source
    try:
        return await call.context.objects.copy_object(
            source.bucket,
            source.key,
            op.bucket,
            op.key,
            owner=plan.owner,
            source_version_id=plan.pinned,
            source_conditions=Conditions(if_match=(plan.info.etag,)),
            attributes=_attributes(op, plan),
            encryption=sse.parse_write(op.headers),
            source_customer_key=sse.parse_source_key(op.headers),
            origin=call.origin("ObjectCreated:Copy"),
        )
    except PreconditionFailed as error:
        raise CommitConflict("the source changed meanwhile") from error


def _attributes(
    op: Operation, plan: _Plan, checksum: tuple[str, str] | None = None
) -> ObjectAttributes:
    """Of the copy: the source's, or new ones. `checksum` is algorithm and type if they change. ACL,
    retention and legal hold are never copied."""
    old = plan.info.attributes
    algorithm, kind = checksum or (old.checksum_algorithm, old.checksum_type)
    new = parse_attributes(op.headers, algorithm, kind, plan.granted)
    tags = new.tags if plan.replace_tags else old.tags
    if plan.replace_metadata:
        return replace(new, tags=tags)
    keeps_class = b"x-amz-storage-class" not in op.headers
    return replace(
        new,
        headers=_kept_headers(old.headers, new.headers),
        metadata=old.metadata,
        storage_class=old.storage_class if keeps_class else new.storage_class,
        tags=tags,
    )


def _kept_headers(old: Mapping[str, str], new: Mapping[str, str]) -> Mapping[str, str]:
    """A redirect is no metadata: it is that of the request, or none (S3 API reference, CopyObject)."""
    name = "x-amz-website-redirect-location"
    if name not in old and name not in new:
        return old
    kept = {key: value for key, value in old.items() if key != name}
    if name in new:
        kept[name] = new[name]
    return kept


async def _copy_through(call: Call, plan: _Plan) -> ObjectInfo:
    """By reading and writing, for what `copy_object` cannot do: another checksum, or conditions on
    the destination."""
    op, objects, source = call.op, call.context.objects, plan.source
    reader = await objects.get_object(
        source.bucket,
        source.key,
        version_id=plan.pinned,
        customer_key=sse.parse_source_key(op.headers),
    )
    try:
        plan.info = info = reader.info
        call.check_judged(info, *source)
        copy_source.check(info, parse_conditions(op.headers, CONDITIONS))
        algorithm = plan.algorithm or checksums.ALGORITHMS.get(info.attributes.checksum_algorithm)
        checksum = ("", "") if algorithm is None else (algorithm.name, checksums.FULL_OBJECT)
        return await objects.put_object(
            op.bucket,
            op.key,
            ReaderPayload(reader, 0, info.size, algorithm),
            _attributes(op, plan, checksum),
            owner=plan.owner,
            conditions=write_conditions(op.headers),
            encryption=sse.parse_write(op.headers),
            origin=call.origin("ObjectCreated:Copy"),
        )
    finally:
        reader.close()


def _source_headers(info: ObjectInfo) -> Headers:
    if not info.versioned:
        return []
    return [(b"x-amz-copy-source-version-id", clean(info.version_id))]


def _result(info: ObjectInfo, headers: Headers) -> Reply:
    shown = _shown_checksums(info.checksums)
    if shown:
        shown += optional("ChecksumType", info.attributes.checksum_type)
    quoted = escape(f'"{info.etag}"')
    return xml_reply(
        "CopyObjectResult",
        f"<LastModified>{iso8601(info.modified_ms)}</LastModified><ETag>{quoted}</ETag>{shown}",
        headers=headers,
    )


def _shown_checksums(values: Mapping[str, str]) -> str:
    return "".join(
        element(checksums.ALGORITHMS[name].element, value)
        for name, value in values.items()
        if name in checksums.ALGORITHMS
    )


async def copy_part(call: Call) -> Reply:
    """A range of an object, or all of it, as a part."""
    op, objects = call.op, call.context.objects
    source = op.source
    assert isinstance(source, Source)
    number = parse_number(op)
    await call.check_owner()
    await call.check_source_owner(source.bucket)
    upload = await objects.get_upload(op.bucket, op.key, upload_id(op))
    algorithm = checksums.ALGORITHMS.get(upload.attributes.checksum_algorithm)
    try:
        reader = await objects.get_object(
            source.bucket,
            source.key,
            version_id=source.version_id,
            customer_key=sse.parse_source_key(op.headers),
        )
    except NotFound as error:
        await hide(call, error, source.bucket)
    try:
        info = reader.info
        call.check_judged(info, *source)
        copy_source.check(info, parse_conditions(op.headers, CONDITIONS))
        start, size = copy_source.parse_range(op.headers.get(RANGE), info.size)
        if size > limits.PART_SIZE_BYTES_MAX:
            refuse(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy "
                f"source: {limits.PART_SIZE_BYTES_MAX}",
            )
        payload = ReaderPayload(reader, start, size, algorithm)
        part = await objects.put_part(
            op.bucket,
            op.key,
            upload.upload_id,
            number,
            payload,
            customer_key=sse.parse_customer_key(op.headers),
        )
    finally:
        reader.close()
    return _part_result(part, _source_headers(info) + sse.response_headers(upload.encryption))


def _part_result(part: PartInfo, headers: Headers) -> Reply:
    quoted = escape(f'"{part.etag}"')
    return xml_reply(
        "CopyPartResult",
        f"<LastModified>{iso8601(part.modified_ms)}</LastModified><ETag>{quoted}</ETag>"
        f"{_shown_checksums(part.checksums)}",
        headers=headers,
    )
