"""Buckets, whoever owns them: what they hold, and what they may."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.abc.objects import BucketInfo
from objectio.abc.quotas import QuotaStatus
from objectio.errors import NotFound
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID
from objectio_api_admin.shapes import Order, canonical_id_of

_PAGE: Final = 1_000
_UNNAMED_REGION: Final = "us-east-1"
"""S3 has no name for it at a bucket."""


class NewBucket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`account` is the id of its owner's."""

    name: str
    account: str = ROOT_ACCOUNT
    object_lock: bool = False


async def list_buckets(context: ApiContext, order: Order) -> Any:
    shown: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await context.objects.list_buckets(after=after, limit=_PAGE)
        for info in page:
            try:
                shown.append(await _shown(context, info))
            except NotFound:  # it was deleted since the page was read
                continue
        if len(page) < _PAGE:
            return {"buckets": shown}
        after = page[-1].name


async def get_bucket(context: ApiContext, order: Order) -> Any:
    return await _shown(context, await context.objects.get_bucket(order.name))


async def create_bucket(context: ApiContext, order: Order) -> Any:
    wanted: NewBucket = order.body
    owner = await canonical_id_of(context, wanted.account)
    region = "" if context.region == _UNNAMED_REGION else context.region
    made = await context.objects.create_bucket(
        wanted.name, owner=owner, region=region, object_lock=wanted.object_lock
    )
    return await _shown(context, made)


async def delete_bucket(context: ApiContext, order: Order) -> Any:
    info = await context.objects.get_bucket(order.name)
    await context.objects.delete_bucket(order.name)
    return _plain(context, info)


async def _shown(context: ApiContext, info: BucketInfo) -> dict[str, Any]:
    quota = QuotaStatus()
    if context.quotas is not None:
        quota = await context.quotas.bucket_quota(info.name)
    return {**_plain(context, info), **msgspec.structs.asdict(quota)}


def _plain(context: ApiContext, info: BucketInfo) -> dict[str, Any]:
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
