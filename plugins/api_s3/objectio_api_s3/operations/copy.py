"""CopyObject: from one key to another, inside the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from typing_extensions import Buffer

from objectio.abc.api import Wanted
from objectio.abc.objects import (
    Conditions,
    ObjectAttributes,
    ObjectInfo,
    ObjectReader,
    PayloadDigests,
)
from objectio.errors import CommitConflict, NotFound, PreconditionFailed
from objectio_api_s3 import checksums
from objectio_api_s3.conditions import not_modified, parse_conditions, write_conditions
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import parse_attributes
from objectio_api_s3.operations.object import hide
from objectio_api_s3.request import Call, Operation, Reply, arn, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, escape, optional

_BUCKET: Final = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_VERSION: Final = b"?versionId="


class Source(NamedTuple):
    bucket: str
    key: bytes
    version_id: str | None

    @property
    def access(self) -> Wanted:
        """What the caller must be allowed to do."""
        action = "s3:GetObject" if self.version_id is None else "s3:GetObjectVersion"
        return Wanted(action, arn(self.bucket, self.key), self.version_id)


def parse_source(value: bytes) -> Source:
    """x-amz-copy-source: [/]bucket/key[?versionId=id], percent-encoded."""
    path, _, version = value.partition(_VERSION)
    name, _, key = unquote_to_bytes(path.removeprefix(b"/")).partition(b"/")
    if _BUCKET.fullmatch(name) is None or not key:
        refuse(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
        )
    try:
        key.decode("utf-8")
        version_id = unquote_to_bytes(version).decode("utf-8")
    except UnicodeDecodeError:
        refuse("InvalidArgument", "Invalid copy source encoding", ArgumentName="x-amz-copy-source")
    if _VERSION in value and not version_id:
        refuse("InvalidArgument", "Version id cannot be the empty string")
    return Source(name.decode("ascii"), key, version_id or None)


async def copy_object(call: Call) -> Reply:
    op = call.op
    source = op.source
    assert isinstance(source, Source)
    await call.check_owner()
    await call.check_source_owner(source.bucket)
    replace = _replaces(op.headers)
    if not replace and (source.bucket, source.key) == (op.bucket, op.key):
        _refuse_idle_copy(op.headers)
    wanted = op.headers.get(b"x-amz-checksum-algorithm")
    algorithm = checksums.parse_algorithm(wanted) if wanted else None
    try:
        if algorithm is None and write_conditions(op.headers) is None:
            info = await _copy_inside(call, source, replace)
        else:
            info = await _copy_through(call, source, replace, algorithm)
    except NotFound as error:
        await hide(call, error, source.bucket)
    return _result(info)


def _replaces(headers: Mapping[bytes, bytes]) -> bool:
    directive = headers.get(b"x-amz-metadata-directive", b"COPY")
    if directive not in (b"COPY", b"REPLACE"):
        refuse(
            "InvalidArgument",
            "Unknown metadata directive.",
            ArgumentName="x-amz-metadata-directive",
        )
    return directive == b"REPLACE"


def _refuse_idle_copy(headers: Mapping[bytes, bytes]) -> None:
    if b"x-amz-storage-class" not in headers and b"x-amz-checksum-algorithm" not in headers:
        refuse(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )


async def _copy_inside(call: Call, source: Source, replace: bool) -> ObjectInfo:
    """The store copies the bytes, and the checksums with them."""
    op, objects = call.op, call.context.objects
    conditions = parse_conditions(op.headers, b"x-amz-copy-source-")
    attributes = None
    if replace or b"x-amz-storage-class" in op.headers:
        # The new attributes name the source's checksum, so the source must still be this one.
        info = await objects.head_object(source.bucket, source.key, version_id=source.version_id)
        _check_source(info, conditions)
        attributes = _attributes(op, info, replace)
        conditions = Conditions(if_match=(info.etag,))
    try:
        return await objects.copy_object(
            source.bucket,
            source.key,
            op.bucket,
            op.key,
            owner=call.owner,
            source_version_id=source.version_id,
            source_conditions=conditions,
            attributes=attributes,
        )
    except PreconditionFailed as error:
        if attributes is not None:
            raise CommitConflict("the source changed meanwhile") from error
        raise


def _check_source(info: ObjectInfo, conditions: Conditions | None) -> None:
    """Where a read would be answered 304, a copy fails."""
    if conditions is not None and not_modified(info, conditions):
        raise PreconditionFailed("the source is not modified")


def _attributes(
    op: Operation, info: ObjectInfo, replace: bool, checksum: tuple[str, str] | None = None
) -> ObjectAttributes:
    """Of the copy: the source's, or new ones. `checksum` is algorithm and type if they change."""
    old = info.attributes
    algorithm, kind = checksum or (old.checksum_algorithm, old.checksum_type)
    new = parse_attributes(op.headers, algorithm, kind)
    if replace:
        return new
    keeps_class = b"x-amz-storage-class" not in op.headers
    return ObjectAttributes(
        headers=old.headers,
        metadata=old.metadata,
        storage_class=old.storage_class if keeps_class else new.storage_class,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )


async def _copy_through(
    call: Call, source: Source, replace: bool, algorithm: checksums.Algorithm | None
) -> ObjectInfo:
    """By reading and writing, for what `copy_object` cannot do: another checksum, or conditions on
    the destination."""
    op, objects = call.op, call.context.objects
    reader = await objects.get_object(source.bucket, source.key, version_id=source.version_id)
    try:
        info = reader.info
        _check_source(info, parse_conditions(op.headers, b"x-amz-copy-source-"))
        if algorithm is None:
            algorithm = checksums.ALGORITHMS.get(info.attributes.checksum_algorithm)
        checksum = ("", "") if algorithm is None else (algorithm.name, checksums.FULL_OBJECT)
        return await objects.put_object(
            op.bucket,
            op.key,
            _ReaderPayload(reader, algorithm),
            _attributes(op, info, replace, checksum),
            owner=call.owner,
            conditions=write_conditions(op.headers),
        )
    finally:
        reader.close()


class _ReaderPayload:
    """What a reader reads, as the payload of a put."""

    def __init__(self, reader: ObjectReader, algorithm: checksums.Algorithm | None) -> None:
        self.size = reader.info.size
        self._pieces = reader.stream(0, self.size) if self.size else None
        self._digests = checksums.Digests(algorithm)

    async def read(self) -> bytes:
        if self._pieces is None:
            return b""
        return bytes(await anext(self._pieces, b""))

    def digest(self, data: Buffer) -> None:
        self._digests.update(data)

    def finish(self) -> PayloadDigests:
        return PayloadDigests(self._digests.etag(), self._digests.checksums())


def _result(info: ObjectInfo) -> Reply:
    shown = "".join(
        element(checksums.ALGORITHMS[name].element, value)
        for name, value in info.checksums.items()
        if name in checksums.ALGORITHMS
    )
    if shown:
        shown += optional("ChecksumType", info.attributes.checksum_type)
    quoted = escape(f'"{info.etag}"')
    return xml_reply(
        "CopyObjectResult",
        f"<LastModified>{iso8601(info.modified_ms)}</LastModified><ETag>{quoted}</ETag>{shown}",
    )
