"""Buckets: create, delete, look, list.

Their sub-resources are in `objectio_api_s3.configuration`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from objectio import limits
from objectio.abc.api import ANONYMOUS, Wanted
from objectio.abc.objects import ObjectService
from objectio.errors import AlreadyExists, NotEmpty, NotFound
from objectio.model.bucket import ACL, OWNERSHIP, TAGS, Ownership, Tags, encode_document
from objectio_api_s3 import acl, tokens
from objectio_api_s3.configuration import ownership, schema, tagging
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import ARN, Call, Reply, empty_reply, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, escape, optional

LOCK_HEADER: Final = b"x-amz-bucket-object-lock-enabled"

_LIST_BUCKETS_MAX: Final = 10_000
# The region that S3 once was, whose buckets say that they are in none.
_UNNAMED_REGION: Final = "us-east-1"

# S3 user guide, "General purpose bucket naming rules".
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_IPV4: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_name(name: str) -> None:
    """Raises InvalidBucketName for what S3 would not let anyone create."""
    if (
        not limits.BUCKET_NAME_CHARS_MIN <= len(name) <= limits.BUCKET_NAME_CHARS_MAX
        or _NAME.fullmatch(name) is None
        or any(pair in name for pair in ("..", ".-", "-."))
        or _IPV4.fullmatch(name) is not None
        or name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
    ):
        refuse("InvalidBucketName", BucketName=name)


def _parse_configuration(root: Node, region: str) -> tuple[str, Tags | None]:
    """The region that is asked for, and the tags."""
    for child in root.children:
        if child.name not in ("LocationConstraint", "Tags"):
            # Bucket, Location (directory buckets): another kind of bucket than ours.
            refuse("InvalidRequest", "This bucket configuration is not supported.")
    wanted = schema.text(root, "LocationConstraint")
    if wanted and wanted != region:
        refuse("InvalidLocationConstraint", LocationConstraint=wanted)
    tags = root.child("Tags")
    return wanted, None if tags is None else tagging.parse_tags(tags)


def _parse_documents(call: Call) -> dict[str, bytes]:
    """What the headers say about ownership and ACL, as documents of the new bucket."""
    headers, context = call.op.headers, call.context
    named = headers.get(ownership.HEADER)
    rule = context.object_ownership if named is None else ownership.parse_header(named)
    grants = acl.parse_headers(headers, call.owner, call.owner, context.directory)
    found: dict[str, bytes] = {}
    if grants is not None and grants != acl.private(call.owner):
        if rule == "BucketOwnerEnforced":
            refuse("InvalidBucketAclWithObjectOwnership")
        found[ACL] = encode_document(grants)
    if named is not None or rule != "ObjectWriter":  # which is what AWS has without any
        found[OWNERSHIP] = encode_document(Ownership(rule=rule))
    return found


def _wants_lock(headers: Mapping[bytes, bytes]) -> bool:
    value = headers.get(LOCK_HEADER, b"false").lower()
    if value not in (b"true", b"false"):
        refuse("InvalidArgument", ArgumentName=LOCK_HEADER.decode("ascii"))
    return value == b"true"


async def create_bucket(call: Call) -> Reply:
    op, context = call.op, call.context
    check_name(op.bucket)
    body = await call.read_document()
    wanted, tags = "", None
    if body:
        root = parse(body, "CreateBucketConfiguration")
        wanted, tags = _parse_configuration(root, context.region)
    documents = _parse_documents(call)
    lock = _wants_lock(op.headers)
    if tags is not None and tags.tags:
        documents[TAGS] = encode_document(tags)
    region = context.region if wanted or context.region != _UNNAMED_REGION else ""
    try:
        await context.objects.create_bucket(
            op.bucket, owner=call.owner, region=region, object_lock=lock, documents=documents
        )
    except AlreadyExists as error:
        await _recreate(call, error, documents, lock)
    return empty_reply(200, [(b"location", b"/" + op.bucket.encode("ascii"))])


async def _recreate(
    call: Call, error: AlreadyExists, documents: Mapping[str, bytes], lock: bool
) -> None:
    """In us-east-1 alone, S3 answers the owner who makes the same bucket again with success. AWS
    resets its ACL then; here it must be as it is, because a bucket that was private on purpose would
    be open afterwards, or the other way round."""
    if error.fields.get("owner") != call.owner or call.context.region != _UNNAMED_REGION:
        raise error
    bucket = await call.context.objects.get_bucket(call.op.bucket)
    held = await call.context.objects.get_documents(bucket)
    if held.get(ACL) != documents.get(ACL) or bucket.object_lock != lock:
        refuse("BucketAlreadyExists", BucketName=bucket.name)


async def delete_bucket(call: Call) -> Reply:
    await call.check_owner()
    name, objects = call.op.bucket, call.context.objects
    try:
        await objects.delete_bucket(name)
    except NotEmpty:
        if (await objects.list_versions(name, limit=1)).objects:
            raise
        await _abort_uploads(objects, name)
        await objects.delete_bucket(name)
    return empty_reply(204)


async def _abort_uploads(objects: ObjectService, name: str) -> None:
    """Uploads that nobody completed do not keep a bucket: S3 asks for no more than that its objects
    are gone (S3 API reference, DeleteBucket)."""
    after: tuple[bytes, str] | None = (b"", "")
    while after is not None:
        page = await objects.list_uploads(name, after=after)
        for upload in page.uploads:
            with suppress(NotFound):  # completed or aborted meanwhile
                await objects.abort_upload(name, upload.key, upload.upload_id)
        after = page.next_after


async def head_bucket(call: Call) -> Reply:
    await call.check_owner()
    info = await call.context.objects.get_bucket(call.op.bucket)
    region = (info.region or call.context.region).encode("latin-1", "replace")
    return empty_reply(200, [(b"x-amz-bucket-region", region)])


async def get_bucket_location(call: Call) -> Reply:
    """us-east-1 is answered as no location at all (S3 API reference, GetBucketLocation), unless it
    was named when the bucket was made, which AWS would not have let pass."""
    await call.check_owner()
    info = await call.context.objects.get_bucket(call.op.bucket)
    region = info.region or call.context.region
    unnamed = not info.region and region == _UNNAMED_REGION
    return xml_reply("LocationConstraint", "" if unnamed else escape(region))


async def list_buckets(call: Call) -> Reply:
    """Those of the caller's account. Nobody has none, which is no secret."""
    op, context = call.op, call.context
    if call.request.identity == ANONYMOUS:
        return xml_reply("ListAllMyBucketsResult", f"{acl.show_owner('', None)}<Buckets/>")
    await call.request.trust(Wanted("s3:ListAllMyBuckets", f"{ARN}*"))
    prefix = op.text("prefix")
    limit = op.count("max-buckets", _LIST_BUCKETS_MAX, low=1, high=_LIST_BUCKETS_MAX)
    token = op.query.get("continuation-token")
    after = tokens.decode(token).decode("utf-8", "replace") if token else ""
    found = await context.objects.list_buckets(
        prefix=prefix,
        after=after,
        limit=limit + 1,
        owner=None if call.request.identity.is_root else call.owner,
    )
    page = found[:limit]
    region = op.text("bucket-region")
    shown = "".join(
        f"<Bucket><Name>{escape(info.name)}</Name>"
        f"<CreationDate>{iso8601(info.created_ms)}</CreationDate>"
        f"{element('BucketRegion', info.region or context.region)}</Bucket>"
        for info in page
        if not region or region == (info.region or context.region)
    )
    following = tokens.encode(page[-1].name.encode()) if len(found) > limit else ""
    return xml_reply(
        "ListAllMyBucketsResult",
        f"{acl.show_owner(call.owner, context.directory)}<Buckets>{shown}</Buckets>"
        f"{optional('ContinuationToken', following)}{optional('Prefix', prefix)}",
    )
