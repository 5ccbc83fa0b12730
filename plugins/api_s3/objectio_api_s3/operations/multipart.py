"""Uploads in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from objectio import limits
from objectio.abc.api import Directory
from objectio.abc.objects import (
    CompletePart,
    ObjectAttributes,
    ObjectInfo,
    PartInfo,
    PayloadDigests,
    UploadInfo,
    UploadListing,
)
from objectio.errors import NotFound, PayloadTooLarge
from objectio_api_s3 import acl, checksums, expiry, sse
from objectio_api_s3.checksums import Algorithm
from objectio_api_s3.conditions import write_conditions
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import (
    checksum_headers,
    etag_header,
    new_version_header,
    parse_attributes,
)
from objectio_api_s3.operations.listing import common_prefixes, parse_query
from objectio_api_s3.operations.part import parse_number, upload_id
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, encode_plain, escape, optional

_ELEMENTS: Final = {algorithm.element: name for name, algorithm in checksums.ALGORITHMS.items()}


async def create_upload(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    algorithm, kind = _parse_checksum(op.headers)
    name = "" if algorithm is None else algorithm.name
    owner, granted = await acl.place(call)
    upload = await call.context.objects.create_upload(
        op.bucket,
        op.key,
        parse_attributes(op.headers, name, kind, granted),
        owner=owner,
        initiator=call.request.identity.arn,
        encryption=sse.parse_write(op.headers),
    )
    headers = sse.response_headers(upload.encryption)
    headers += await expiry.of_upload(call.context.objects, op.bucket, upload)
    if algorithm is not None:
        headers.append((b"x-amz-checksum-algorithm", name.encode("ascii")))
        headers.append((b"x-amz-checksum-type", kind.encode("ascii")))
    return xml_reply(
        "InitiateMultipartUploadResult",
        f"<Bucket>{op.bucket}</Bucket><Key>{encode_plain(op.key)}</Key>"
        f"{element('UploadId', upload.upload_id)}",
        headers=headers,
    )


def _parse_checksum(headers: Mapping[bytes, bytes]) -> tuple[Algorithm | None, str]:
    """Algorithm and type of an upload; S3 has a default type for each algorithm, and not every
    pair (S3 user guide, "Checking object integrity")."""
    wanted = headers.get(b"x-amz-checksum-algorithm")
    kind = headers.get(b"x-amz-checksum-type", b"").decode("latin-1").upper()
    if wanted is None:
        if kind:
            refuse(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header.",
            )
        return None, ""
    algorithm = checksums.parse_algorithm(wanted)
    kind = kind or algorithm.types[0]
    if kind not in algorithm.types:
        refuse(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.name.lower()} checksum "
            "algorithm.",
        )
    return algorithm, kind


async def upload_part(call: Call) -> Reply:
    op, objects = call.op, call.context.objects
    body = call.request.body
    number = parse_number(op)
    if body.size > limits.PART_SIZE_BYTES_MAX:
        raise PayloadTooLarge("Your proposed upload exceeds the maximum allowed size")
    await call.check_owner()
    declared = checksums.parse_declared(op.headers, body.declared_trailers)
    upload = await objects.get_upload(op.bucket, op.key, upload_id(op))
    algorithm = checksums.ALGORITHMS.get(upload.attributes.checksum_algorithm)
    if declared is not None and algorithm is not None and declared.algorithm is not algorithm:
        refuse(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.name.lower()}, "
            f"actual checksum Type: {declared.algorithm.name.lower()}",
        )
    checksums.watch(body, op.headers, declared, algorithm)
    part = await objects.put_part(
        op.bucket,
        op.key,
        upload_id(op),
        number,
        body,
        customer_key=sse.parse_customer_key(op.headers),
    )
    headers = [etag_header(part.etag), *checksum_headers(part.checksums, "")]
    return empty_reply(200, headers + sse.response_headers(upload.encryption))


async def complete_upload(call: Call) -> Reply:
    op, objects = call.op, call.context.objects
    body = await call.request.body.read_all()  # checksum headers here are those of the object
    await call.check_owner()
    parts = _parse_parts(body)
    try:
        upload = await objects.get_upload(op.bucket, op.key, upload_id(op))
        info = await objects.complete_upload(
            op.bucket,
            op.key,
            upload.upload_id,
            parts,
            conditions=write_conditions(op.headers),
            check=_Check(op.headers, upload.attributes),
            customer_key=sse.parse_customer_key(op.headers),
            origin=call.origin("ObjectCreated:CompleteMultipartUpload"),
        )
    except NotFound as error:
        info = await _find_completed(call, parts, error)
    headers = sse.response_headers(info.encryption)
    headers += await expiry.of_object(objects, info)
    headers += new_version_header(info)
    host = op.host or "localhost"
    shown = "".join(
        element(checksums.ALGORITHMS[name].element, value)
        for name, value in info.checksums.items()
        if name in checksums.ALGORITHMS
    )
    if shown:
        shown += optional("ChecksumType", info.attributes.checksum_type)
    return xml_reply(
        "CompleteMultipartUploadResult",
        f"{element('Location', f'http://{host}/{op.bucket}/{quote(op.key)}')}"
        f"<Bucket>{op.bucket}</Bucket><Key>{encode_plain(op.key)}</Key>"
        f"<ETag>&quot;{escape(info.etag)}&quot;</ETag>{shown}",
        headers=headers,
    )


async def _find_completed(call: Call, parts: Sequence[CompletePart], error: NotFound) -> ObjectInfo:
    """A client that did not get the answer asks again, and the upload has ended: it is told of the
    object if that is of the very parts that it names (S3 API reference, CompleteMultipartUpload: to
    complete again is no error). Raises `error` if it is not."""
    op = call.op
    if error.fields.get("kind") != "upload":
        raise error
    try:
        etag = checksums.etag_of_parts([part.etag for part in parts])
        info = await call.context.objects.head_object(op.bucket, op.key, check_key=False)
    except (ValueError, NotFound):
        raise error from None
    if info.etag != etag or len(info.part_sizes) != len(parts):
        raise error
    return info


class _Check:
    """What the whole must be: sees the parts before they become an object."""

    def __init__(self, headers: Mapping[bytes, bytes], attributes: ObjectAttributes) -> None:
        self._algorithm = checksums.ALGORITHMS.get(attributes.checksum_algorithm)
        self._kind = attributes.checksum_type
        self._size = _parse_size(headers)
        self._declared = self._parse_whole(headers)
        kind = headers.get(b"x-amz-checksum-type", b"").decode("latin-1").upper()
        if kind and self._algorithm is not None and kind != self._kind:
            refuse(
                "InvalidRequest",
                f"The upload was created using the {self._kind} checksum mode. The complete "
                "request must use the same checksum mode.",
            )

    def _parse_whole(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The checksum of the whole in a header; a COMPOSITE one ends in "-" and a count."""
        if self._algorithm is None:
            return None
        value = headers.get(self._algorithm.header)
        if value is None:
            return None
        return value.decode("latin-1")  # what cannot be one differs from the one computed

    def __call__(self, parts: Sequence[PartInfo]) -> PayloadDigests:
        if self._size is not None and self._size != sum(part.size for part in parts):
            refuse(
                "InvalidRequest",
                "The provided 'x-amz-mp-object-size' header does not match what was computed.",
            )
        if sum(part.size for part in parts) > limits.OBJECT_SIZE_BYTES_MAX:
            raise PayloadTooLarge("Your proposed upload exceeds the maximum allowed size")
        return checksums.multipart_digests(parts, self._algorithm, self._kind, self._declared)


def _parse_size(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"x-amz-mp-object-size")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 20:
        refuse("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
    return int(value)


def _parse_parts(body: bytes) -> Sequence[CompletePart]:
    nodes = parse(body, "CompleteMultipartUpload").all("Part")
    if not 1 <= len(nodes) <= limits.PART_NUMBER_MAX:
        refuse("MalformedXML")
    return [_parse_part(node) for node in nodes]


def _parse_part(node: Node) -> CompletePart:
    number = node.value("PartNumber").strip()
    etag = node.value("ETag").strip()
    if not number.isascii() or not number.isdigit() or len(number) > 9 or not etag:
        refuse("MalformedXML")
    if not 1 <= int(number) <= limits.PART_NUMBER_MAX:
        refuse(
            "InvalidArgument",
            f"PartNumber must be an integer between 1 and {limits.PART_NUMBER_MAX}",
            ArgumentName="partNumber",
        )
    found = {
        _ELEMENTS[child.name]: child.text.strip()
        for child in node.children
        if child.name in _ELEMENTS and child.text.strip()
    }
    return CompletePart(int(number), etag.strip('"'), found)


async def abort_upload(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    await call.context.objects.abort_upload(op.bucket, op.key, upload_id(op))
    return empty_reply(204)


def _initiator(upload: UploadInfo, directory: Directory | None) -> str:
    """An account by its canonical id, a user or session by its ARN (S3 API reference, Initiator)."""
    arn = upload.initiator
    if not arn.startswith("arn:"):
        return acl.show_owner(upload.owner, directory, "Initiator")
    account, _, name = arn.split(":", 4)[-1].partition(":")
    if name == "root":
        found = None if directory is None else directory.by_account(account)
        if found is not None:
            return acl.show_owner(found.canonical_id, directory, "Initiator")
        return acl.show_owner(upload.owner, directory, "Initiator")
    shown = element("ID", arn) + element("DisplayName", name.rpartition("/")[2])
    return f"<Initiator>{shown}</Initiator>"


def _shown_checksum(attributes: ObjectAttributes) -> str:
    return optional("ChecksumAlgorithm", attributes.checksum_algorithm) + optional(
        "ChecksumType", attributes.checksum_type
    )


def _shown_part(part: PartInfo) -> str:
    found = "".join(
        element(checksums.ALGORITHMS[name].element, value)
        for name, value in part.checksums.items()
        if name in checksums.ALGORITHMS
    )
    return (
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{iso8601(part.modified_ms)}</LastModified>"
        f"<ETag>&quot;{escape(part.etag)}&quot;</ETag><Size>{part.size}</Size>{found}</Part>"
    )


async def list_parts(call: Call) -> Reply:
    op, objects = call.op, call.context.objects
    await call.check_owner()
    limit = op.count("max-parts", limits.LIST_KEYS_MAX, high=limits.LIST_KEYS_MAX)
    marker = op.count("part-number-marker", 0)
    page = await objects.list_parts(
        op.bucket, op.key, upload_id(op), after=marker, limit=max(limit, 1)
    )
    upload, directory = page.upload, call.context.directory
    parts = page.parts if limit else ()
    following = page.next_after if limit else None
    last = parts[-1].number if parts else marker
    return xml_reply(
        "ListPartsResult",
        f"<Bucket>{op.bucket}</Bucket><Key>{encode_plain(op.key)}</Key>"
        f"{element('UploadId', upload.upload_id)}{_initiator(upload, directory)}"
        f"{acl.show_owner(upload.owner, directory)}"
        f"{element('StorageClass', upload.attributes.storage_class)}"
        f"<PartNumberMarker>{marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker>"
        f"<MaxParts>{limit}</MaxParts>"
        f"<IsTruncated>{'false' if following is None else 'true'}</IsTruncated>"
        f"{_shown_checksum(upload.attributes)}{''.join(map(_shown_part, parts))}",
        headers=await expiry.of_upload(objects, op.bucket, upload),
    )


async def list_uploads(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    query = parse_query(op, "max-uploads")
    encode = query.encode
    key_marker = op.query.get("key-marker", b"")
    # S3 ignores the second marker without the first.
    id_marker = op.text("upload-id-marker") if key_marker else ""
    page = UploadListing((), (), None)
    if query.limit == 0:
        await call.context.objects.get_bucket(op.bucket)
    else:
        page = await call.context.objects.list_uploads(
            op.bucket,
            prefix=query.prefix,
            delimiter=query.delimiter,
            after=(key_marker, id_marker),
            limit=query.limit,
        )
    following = ""
    if page.next_after is not None:
        next_key, next_id = page.next_after
        following = (
            f"<NextKeyMarker>{encode(next_key)}</NextKeyMarker>"
            f"{element('NextUploadIdMarker', next_id)}"
        )
    directory = call.context.directory
    uploads = "".join(
        _shown_upload(upload, encode(upload.key), directory) for upload in page.uploads
    )
    return xml_reply(
        "ListMultipartUploadsResult",
        f"<Bucket>{op.bucket}</Bucket>{query.shown('MaxUploads')}"
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>{element('UploadIdMarker', id_marker)}"
        f"{following}<IsTruncated>{'true' if following else 'false'}</IsTruncated>{uploads}"
        f"{common_prefixes(page.common_prefixes, encode)}",
    )


def _shown_upload(upload: UploadInfo, key: str, directory: Directory | None) -> str:
    return (
        f"<Upload><Key>{key}</Key>{element('UploadId', upload.upload_id)}"
        f"{_initiator(upload, directory)}{acl.show_owner(upload.owner, directory)}"
        f"{element('StorageClass', upload.attributes.storage_class)}"
        f"<Initiated>{iso8601(upload.initiated_ms)}</Initiated>"
        f"{_shown_checksum(upload.attributes)}</Upload>"
    )
