"""Buckets: create, delete, look, list."""

from __future__ import annotations

import re
from typing import Final

from objectio import limits
from objectio_api_s3 import tokens
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, escape, optional, owner

_LIST_BUCKETS_MAX: Final = 10_000

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
        or ".." in name
        or _IPV4.fullmatch(name) is not None
        or name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
    ):
        refuse("InvalidBucketName", BucketName=name)


def _constraint(root: Node) -> str:
    for child in root.children:
        if child.name not in ("LocationConstraint", "Tags") or child.children:
            # Bucket, Location (directory buckets), Tags: another kind of bucket than ours.
            refuse("InvalidRequest", "This bucket configuration is not supported.")
    return root.value("LocationConstraint")


async def create_bucket(call: Call) -> Reply:
    op, context = call.op, call.context
    check_name(op.bucket)
    body = await call.read_document()
    if body:
        wanted = _constraint(parse(body, "CreateBucketConfiguration"))
        if wanted and wanted != context.region:
            refuse("InvalidLocationConstraint", LocationConstraint=wanted)
    await context.objects.create_bucket(op.bucket, owner=call.owner, region=context.region)
    return empty_reply(200, [(b"location", b"/" + op.bucket.encode("ascii"))])


async def delete_bucket(call: Call) -> Reply:
    await call.check_owner()
    await call.context.objects.delete_bucket(call.op.bucket)
    return empty_reply(204)


async def head_bucket(call: Call) -> Reply:
    await call.check_owner()
    info = await call.context.objects.get_bucket(call.op.bucket)
    region = (info.region or call.context.region).encode("latin-1", "replace")
    return empty_reply(200, [(b"x-amz-bucket-region", region)])


async def get_bucket_location(call: Call) -> Reply:
    """us-east-1 is answered as no location at all (S3 API reference, GetBucketLocation)."""
    await call.check_owner()
    info = await call.context.objects.get_bucket(call.op.bucket)
    region = info.region or call.context.region
    return xml_reply("LocationConstraint", "" if region == "us-east-1" else escape(region))


async def get_bucket_versioning(call: Call) -> Reply:
    """A bucket whose versioning was never set has an empty configuration, and so have all here."""
    await call.check_owner()
    await call.context.objects.get_bucket(call.op.bucket)
    return xml_reply("VersioningConfiguration", "")


async def list_buckets(call: Call) -> Reply:
    op, context = call.op, call.context
    prefix = op.text("prefix")
    limit = op.count("max-buckets", _LIST_BUCKETS_MAX, low=1, high=_LIST_BUCKETS_MAX)
    token = op.query.get("continuation-token")
    after = tokens.decode(token).decode("utf-8", "replace") if token else ""
    found = await context.objects.list_buckets(prefix=prefix, after=after, limit=limit + 1)
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
        f"{owner(call.owner)}<Buckets>{shown}</Buckets>"
        f"{optional('ContinuationToken', following)}{optional('Prefix', prefix)}",
    )
