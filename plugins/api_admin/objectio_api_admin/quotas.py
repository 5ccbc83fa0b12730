"""Quotas of buckets and accounts: what an operator asks and sets."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.abc.quotas import QuotaAdmin, QuotaStatus
from objectio.errors import OperationNotImplemented
from objectio_api_admin.shapes import ELSEWHERE, Order, Route, canonical_id_of

_BOUND_MAX: Final = (1 << 63) - 1

Bound = Annotated[int, msgspec.Meta(ge=0, le=_BOUND_MAX)]


class NewQuota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`bytes_max` and `objects_max` together end the quota where both are 0: no bound."""

    bytes_max: Bound = 0
    objects_max: Bound = 0


async def bucket_quota(context: ApiContext, order: Order) -> QuotaStatus:
    return await _quotas(context).bucket_quota(order.name)


async def set_bucket_quota(context: ApiContext, order: Order) -> QuotaStatus:
    wanted: NewQuota = order.body
    quotas = _quotas(context)
    await quotas.set_bucket_quota(order.name, wanted.bytes_max, wanted.objects_max)
    return await quotas.bucket_quota(order.name)


async def account_quota(context: ApiContext, order: Order) -> QuotaStatus:
    return await _quotas(context).account_quota(await canonical_id_of(context, order.name))


async def set_account_quota(context: ApiContext, order: Order) -> QuotaStatus:
    wanted: NewQuota = order.body
    quotas, owner = _quotas(context), await canonical_id_of(context, order.name)
    await quotas.set_account_quota(owner, wanted.bytes_max, wanted.objects_max)
    return await quotas.account_quota(owner)


def _quotas(context: ApiContext) -> QuotaAdmin:
    if context.quotas is None:
        raise OperationNotImplemented(
            "this process knows no quotas: ask a gateway", reason=ELSEWHERE
        )
    return context.quotas


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/quota",
        "GetAccountQuota",
        "account/{name}",
        account_quota,
        "context",
        returns=QuotaStatus,
        summary="Shows what the buckets of an account may hold together, and what they hold.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/quota",
        "SetAccountQuota",
        "account/{name}",
        set_account_quota,
        "context",
        body=NewQuota,
        returns=QuotaStatus,
        summary="Sets what the buckets of an account may hold together.",
    ),
    Route(
        "GET",
        "/v1/buckets/{name}/quota",
        "GetBucketQuota",
        "bucket/{name}",
        bucket_quota,
        "context",
        returns=QuotaStatus,
        summary="Shows what a bucket may hold, and what it holds.",
    ),
    Route(
        "POST",
        "/v1/buckets/{name}/quota",
        "SetBucketQuota",
        "bucket/{name}",
        set_bucket_quota,
        "context",
        body=NewQuota,
        returns=QuotaStatus,
        summary="Sets what a bucket may hold.",
    ),
)
