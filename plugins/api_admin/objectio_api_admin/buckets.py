"""Buckets, whoever owns them: what they hold, and what they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.abc.objects import BucketInfo, UploadInfo
from objectio.abc.quotas import QuotaStatus
from objectio.errors import NotFound
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID
from objectio_api_admin.shapes import Order, Route, canonical_id_of
from objectio_api_admin.values import AccountId, BucketName, CanonicalId, Milliseconds

_PAGE: Final = 1_000
_PAGES_COUNTED_MAX: Final = 100
_UNNAMED_REGION: Final = "us-east-1"
"""S3 has no name for it at a bucket."""


class NewBucket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`account` is its owner's. With `object_lock`, which stays, it keeps versions, and objects can be
    kept from being deleted."""

    name: BucketName
    account: AccountId = ROOT_ACCOUNT
    object_lock: bool = False


class BucketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`account` is empty where the owner's is not known. `versioning` is empty where it was never turned
    on."""

    name: str
    account: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^([0-9]{12})?$"})]
    owner: CanonicalId
    created_ms: Milliseconds
    region: str
    versioning: str
    object_lock: bool


class Bucket(BucketFacts, frozen=True, kw_only=True):
    """Bounds, of which 0 is none; and what it held at `counted_ms`, all versions and the parts of
    uploads: null where nobody counted."""

    bytes_max: int
    objects_max: int
    bytes: int | None
    objects: int | None
    counted_ms: Milliseconds | None


class BucketList(msgspec.Struct, frozen=True, kw_only=True):
    buckets: Sequence[Bucket]


async def list_buckets(context: ApiContext, order: Order) -> BucketList:
    shown: list[Bucket] = []
    after = ""
    while True:
        page = await context.objects.list_buckets(after=after, limit=_PAGE)
        for info in page:
            try:
                shown.append(await _shown(context, info))
            except NotFound:  # it was deleted since the page was read
                continue
        if len(page) < _PAGE:
            return BucketList(buckets=shown)
        after = page[-1].name


async def get_bucket(context: ApiContext, order: Order) -> Bucket:
    """What it holds is counted here if nobody else counts it, and it is not too much."""
    shown = await _shown(context, await context.objects.get_bucket(order.name))
    if shown.bytes is not None or (held := await _count(context, order.name)) is None:
        return shown
    counted_ms = int(time.time() * 1000)
    return msgspec.structs.replace(shown, bytes=held[0], objects=held[1], counted_ms=counted_ms)


async def _count(context: ApiContext, name: str) -> tuple[int, int] | None:
    """Bytes and objects, as quotas count them: all versions, and the parts of uploads. None: more pages
    than one request is to read."""
    held_bytes = held_objects = pages = 0
    after, version = b"", None
    while True:
        found = await context.objects.list_versions(
            name, after=after, after_version=version, limit=_PAGE
        )
        held_objects += sum(not each.is_delete_marker for each in found.objects)
        held_bytes += sum(each.size for each in found.objects)
        if found.next_after is None:
            break
        after, version = found.next_after, found.next_version
        if (pages := pages + 1) >= _PAGES_COUNTED_MAX:
            return None
        await asyncio.sleep(0)  # a page may come from memory: let others have their turn
    behind = (b"", "")
    while True:
        listing = await context.objects.list_uploads(name, after=behind, limit=_PAGE)
        for upload in listing.uploads:
            if (pages := pages + 1) >= _PAGES_COUNTED_MAX:
                return None
            held_bytes += await _count_parts(context, name, upload)
        if listing.next_after is None:
            return held_bytes, held_objects
        behind = listing.next_after


async def _count_parts(context: ApiContext, name: str, upload: UploadInfo) -> int:
    held, after = 0, 0
    while True:
        try:
            found = await context.objects.list_parts(
                name, upload.key, upload.upload_id, after=after, limit=_PAGE
            )
        except NotFound:  # it ended meanwhile
            return held
        held += sum(part.size for part in found.parts)
        if found.next_after is None:
            return held
        after = found.next_after


async def create_bucket(context: ApiContext, order: Order) -> Bucket:
    wanted: NewBucket = order.body
    owner = await canonical_id_of(context, wanted.account)
    region = "" if context.region == _UNNAMED_REGION else context.region
    made = await context.objects.create_bucket(
        wanted.name, owner=owner, region=region, object_lock=wanted.object_lock
    )
    return await _shown(context, made)


async def delete_bucket(context: ApiContext, order: Order) -> BucketFacts:
    info = await context.objects.get_bucket(order.name)
    await context.objects.delete_bucket(order.name)
    return BucketFacts(**_facts(context, info))


async def _shown(context: ApiContext, info: BucketInfo) -> Bucket:
    quota = QuotaStatus()
    if context.quotas is not None:
        quota = await context.quotas.bucket_quota(info.name)
    return Bucket(**_facts(context, info), **msgspec.structs.asdict(quota))


def _facts(context: ApiContext, info: BucketInfo) -> dict[str, Any]:
    account = ROOT_ACCOUNT if info.owner == ROOT_CANONICAL_ID else ""
    if not account and context.directory is not None:
        known = context.directory.by_canonical_id(info.owner)
        account = "" if known is None else known.id
    return {
        "name": info.name,
        "account": account,
        "owner": info.owner,
        "created_ms": info.created_ms,
        "region": info.region or context.region,
        "versioning": info.versioning,
        "object_lock": info.object_lock,
    }


ROUTES: Final = (
    Route(
        "GET",
        "/v1/buckets",
        "ListBuckets",
        "bucket/*",
        list_buckets,
        "context",
        returns=BucketList,
        summary="Lists the buckets of all accounts.",
    ),
    Route(
        "POST",
        "/v1/buckets",
        "CreateBucket",
        "bucket/*",
        create_bucket,
        "context",
        body=NewBucket,
        returns=Bucket,
        summary="Makes a bucket.",
    ),
    Route(
        "GET",
        "/v1/buckets/{name}",
        "GetBucket",
        "bucket/{name}",
        get_bucket,
        "context",
        returns=Bucket,
        summary="Shows a bucket. Without a quota, what it holds is counted for the answer, unless that "
        "is more than about 100,000 versions.",
    ),
    Route(
        "POST",
        "/v1/buckets/{name}/delete",
        "DeleteBucket",
        "bucket/{name}",
        delete_bucket,
        "context",
        returns=BucketFacts,
        summary="Deletes a bucket. Refused while it holds anything.",
    ),
)
