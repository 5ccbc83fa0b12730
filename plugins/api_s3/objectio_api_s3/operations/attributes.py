"""GetObjectAttributes: chosen properties of an object in one document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio import limits
from objectio.abc.objects import ObjectInfo
from objectio.errors import NotFound
from objectio_api_s3 import checksums, sse
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import Headers, version_header
from objectio_api_s3.operations.object import hide
from objectio_api_s3.request import Call, Operation, Reply, xml_reply
from objectio_api_s3.times import http_date
from objectio_api_s3.xml import element, optional

_HEADER: Final = b"x-amz-object-attributes"
_KNOWN: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


async def get_object_attributes(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    wanted = _parse_wanted(op)
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
    headers: Headers = [(b"last-modified", http_date(info.modified_ms))]
    if info.versioned:
        headers.append(version_header(info.version_id))
    shown = "".join(_show(op, info, name) for name in _KNOWN if name in wanted)
    return xml_reply("GetObjectAttributesResponse", shown, headers=headers)


def _parse_wanted(op: Operation) -> frozenset[str]:
    value = op.headers.get(_HEADER, b"").decode("latin-1")
    wanted = frozenset(name.strip() for name in value.split(",") if name.strip())
    if not wanted or not wanted.issubset(_KNOWN):
        refuse(
            "InvalidArgument",
            "Invalid attribute name specified.",
            ArgumentName=_HEADER.decode(),
            ArgumentValue=value,
        )
    return wanted


def _show(op: Operation, info: ObjectInfo, name: str) -> str:
    match name:
        case "ETag":
            return element("ETag", info.etag)
        case "Checksum":
            found = _checksums(info.checksums)
            kind = optional("ChecksumType", info.attributes.checksum_type)
            return f"<Checksum>{found}{kind}</Checksum>" if found else ""
        case "ObjectParts":
            return _show_parts(op, info)
        case "StorageClass":
            return element("StorageClass", info.attributes.storage_class)
        case _:
            return element("ObjectSize", str(info.size))


def _checksums(found: Mapping[str, str]) -> str:
    return "".join(
        element(checksums.ALGORITHMS[name].element, value)
        for name, value in found.items()
        if name in checksums.ALGORITHMS
    )


def _number(op: Operation, name: str, default: int) -> int:
    value = op.headers.get(name.encode(), b"")
    if not value:
        return default
    if not value.isdigit() or len(value) > 9:
        refuse("InvalidArgument", ArgumentName=name, ArgumentValue=value.decode("latin-1"))
    return int(value)


def _show_parts(op: Operation, info: ObjectInfo) -> str:
    """One page of the parts that the object was put together from; nothing if it came as a whole."""
    if not info.part_sizes:
        return ""
    limit = min(_number(op, "x-amz-max-parts", limits.LIST_KEYS_MAX), limits.LIST_KEYS_MAX)
    marker = _number(op, "x-amz-part-number-marker", 0)
    numbers = info.part_numbers or range(1, len(info.part_sizes) + 1)
    found = info.part_checksums or [{}] * len(info.part_sizes)
    behind = [
        part for part in zip(numbers, info.part_sizes, found, strict=True) if part[0] > marker
    ]
    page = behind[:limit]
    shown = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size>{_checksums(values)}</Part>"
        for number, size, values in page
    )
    last = page[-1][0] if page else marker
    truncated = "true" if len(behind) > len(page) else "false"
    return (
        f"<ObjectParts><PartsCount>{len(info.part_sizes)}</PartsCount>"
        f"<PartNumberMarker>{marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{limit}</MaxParts>"
        f"<IsTruncated>{truncated}</IsTruncated>{shown}</ObjectParts>"
    )
