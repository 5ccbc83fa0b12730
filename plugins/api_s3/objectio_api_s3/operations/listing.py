"""Listings: objects in S3's two versions of the call, and versions.

One page may hold a thousand keys, so that what is done for each key is the cost of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from objectio import limits
from objectio.abc.api import Directory
from objectio.abc.objects import ListedObject, Listing
from objectio_api_s3 import tokens
from objectio_api_s3.acl import show_owner
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Operation, Reply, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import Encoder, encode_plain, encode_shown, encode_url, escape, optional

_EMPTY: Final = Listing((), (), None)


@dataclass(slots=True)
class Query:
    """The parameters that all listings share."""

    prefix: bytes
    delimiter: bytes
    limit: int
    encode: Encoder

    def shown(self, limit_name: str, encode_prefix: Encoder | None = None) -> str:
        """How they come back in the answer. S3 leaves out an empty delimiter."""
        return (
            f"<Prefix>{(encode_prefix or self.encode)(self.prefix)}</Prefix>"
            f"<{limit_name}>{self.limit}</{limit_name}>{self._shown_delimiter()}"
            f"{'<EncodingType>url</EncodingType>' if self.encode is encode_url else ''}"
        )

    def _shown_delimiter(self) -> str:
        return f"<Delimiter>{self.encode(self.delimiter)}</Delimiter>" if self.delimiter else ""


def parse_query(op: Operation, limit_name: str = "max-keys") -> Query:
    encoding = op.query.get("encoding-type", b"")
    if encoding not in (b"", b"url"):
        refuse(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=encoding.decode("utf-8", "replace"),
        )
    if op.query.get("allow-unordered") == b"true" and op.query.get("delimiter"):
        # Of other servers: keys come in order here anyway, but what is no question is no question.
        refuse(
            "InvalidArgument",
            "Unordered listings have no delimiter",
            ArgumentName="allow-unordered",
            ArgumentValue="true",
        )
    return Query(
        op.query.get("prefix", b""),
        op.query.get("delimiter", b""),
        op.count(limit_name, limits.LIST_KEYS_MAX, high=limits.LIST_KEYS_MAX),
        encode_url if encoding else encode_plain,
    )


async def list_objects(call: Call) -> Reply:
    """The first version: continues behind a key. NextMarker is given only with a delimiter (S3 API
    reference, ListObjects); without one it is the last key."""
    op = call.op
    await call.check_owner()
    query = parse_query(op)
    marker = op.query.get("marker", b"")
    page = await _page(call, query, marker)
    encode = query.encode
    following = ""
    if page.next_after is not None and query.delimiter:
        following = f"<NextMarker>{encode(page.next_after)}</NextMarker>"
    return xml_reply(
        "ListBucketResult",
        f"<Name>{op.bucket}</Name>{query.shown('MaxKeys', encode_shown)}"
        f"<Marker>{encode(marker)}</Marker>"
        f"{following}{_truncated(page)}{_contents(page.objects, encode, call.context.directory, True)}"
        f"{common_prefixes(page.common_prefixes, encode)}",
    )


async def list_objects_v2(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    query = parse_query(op)
    encode = query.encode
    start_after = op.query.get("start-after", b"")
    token = op.query.get("continuation-token")
    page = await _page(call, query, tokens.decode(token) if token else start_after)
    shown = [f"<Name>{op.bucket}</Name>{query.shown('MaxKeys')}"]
    if token is not None:
        shown.append(
            f"<ContinuationToken>{escape(token.decode('utf-8', 'replace'))}</ContinuationToken>"
        )
    if start_after:
        shown.append(f"<StartAfter>{encode(start_after)}</StartAfter>")
    if page.next_after is not None:
        following = tokens.encode(page.next_after)
        shown.append(f"<NextContinuationToken>{following}</NextContinuationToken>")
    shown.append(f"<KeyCount>{len(page.objects) + len(page.common_prefixes)}</KeyCount>")
    shown.append(_truncated(page))
    owners = op.query.get("fetch-owner") == b"true"
    shown.append(_contents(page.objects, encode, call.context.directory, owners))
    shown.append(common_prefixes(page.common_prefixes, encode))
    return xml_reply("ListBucketResult", "".join(shown))


async def list_object_versions(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    query = parse_query(op)
    encode = query.encode
    key_marker = op.query.get("key-marker", b"")
    version_marker = op.text("version-id-marker")
    if version_marker and not key_marker:
        refuse(
            "InvalidArgument",
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
        )
    page = _EMPTY
    if query.limit == 0:
        await call.context.objects.get_bucket(op.bucket)
    else:
        page = await call.context.objects.list_versions(
            op.bucket,
            prefix=query.prefix,
            delimiter=query.delimiter,
            after=key_marker,
            after_version=version_marker or None,
            limit=query.limit,
        )
    following = ""
    if page.next_after is not None:
        following = f"<NextKeyMarker>{encode(page.next_after)}</NextKeyMarker>" + optional(
            "NextVersionIdMarker", page.next_version
        )
    return xml_reply(
        "ListVersionsResult",
        f"<Name>{op.bucket}</Name>{query.shown('MaxKeys')}"
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>"
        f"<VersionIdMarker>{escape(version_marker)}</VersionIdMarker>"
        f"{following}{_truncated(page)}{_versions(page.objects, encode, call.context.directory)}"
        f"{common_prefixes(page.common_prefixes, encode)}",
    )


async def _page(call: Call, query: Query, after: bytes) -> Listing:
    objects = call.context.objects
    if query.limit == 0:  # nothing is asked for, but of a bucket that must exist
        await objects.get_bucket(call.op.bucket)
        return _EMPTY
    return await objects.list_objects(
        call.op.bucket,
        prefix=query.prefix,
        delimiter=query.delimiter,
        after=after,
        limit=query.limit,
    )


def _truncated(page: Listing) -> str:
    return f"<IsTruncated>{'false' if page.next_after is None else 'true'}</IsTruncated>"


def common_prefixes(prefixes: Iterable[bytes], encode: Encoder) -> str:
    return "".join(
        f"<CommonPrefixes><Prefix>{encode(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes
    )


def _owner_of(directory: Directory | None) -> Callable[[str], str]:
    """`acl.show_owner`, remembered for one page: there are few owners in one."""
    known: dict[str, str] = {}

    def shown(name: str) -> str:
        found = known.get(name)
        if found is None:
            found = known[name] = show_owner(name, directory)
        return found

    return shown


def _checksum(algorithm: str, kind: str) -> str:
    return optional("ChecksumAlgorithm", algorithm) + optional("ChecksumType", kind)


def _contents(
    objects: Sequence[ListedObject], encode: Encoder, directory: Directory | None, owners: bool
) -> str:
    owner_of = _owner_of(directory)
    return "".join(
        [
            f"<Contents><Key>{encode(key)}</Key><LastModified>{iso8601(modified_ms)}"
            f"</LastModified><ETag>&quot;{etag}&quot;</ETag>"
            f"{_checksum(algorithm, kind) if algorithm else ''}"
            f"<Size>{size}</Size><StorageClass>{storage_class}</StorageClass>"
            f"{owner_of(name) if owners else ''}</Contents>"
            for (
                key,
                size,
                etag,
                modified_ms,
                storage_class,
                name,
                _,
                _,
                _,
                algorithm,
                kind,
            ) in objects
        ]
    )


def _versions(objects: Sequence[ListedObject], encode: Encoder, directory: Directory | None) -> str:
    owner_of = _owner_of(directory)
    shown = []
    for item in objects:
        common = (
            f"<Key>{encode(item.key)}</Key><VersionId>{escape(item.version_id)}</VersionId>"
            f"<IsLatest>{'true' if item.is_latest else 'false'}</IsLatest>"
            f"<LastModified>{iso8601(item.modified_ms)}</LastModified>{owner_of(item.owner)}"
        )
        if item.is_delete_marker:
            shown.append(f"<DeleteMarker>{common}</DeleteMarker>")
            continue
        shown.append(
            f"<Version>{common}<ETag>&quot;{escape(item.etag)}&quot;</ETag>"
            f"{_checksum(item.checksum_algorithm, item.checksum_type)}<Size>{item.size}</Size>"
            f"<StorageClass>{escape(item.storage_class)}</StorageClass></Version>"
        )
    return "".join(shown)
