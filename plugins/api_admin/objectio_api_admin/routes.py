"""The routes: which method of which path means what. What is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from objectio.abc.admin import ClusterView, StorageAdmin
from objectio.abc.api import Account, ApiContext
from objectio.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotEmpty,
    NotFound,
    OperationNotImplemented,
)
from objectio.iam.admin import IdentityAdmin
from objectio_api_admin import quotas

PREFIX: Final = "/_admin"
ARN: Final = "arn:objectio:admin:::"
OSD: Final = "{osd}"
NAME: Final = "{name}"
BODY_BYTES_MAX: Final = 64 * 1024

_OSD_DIGITS_MAX: Final = 9
_NAMED: Final = frozenset({"accounts", "buckets"})
"""What a name follows in a path."""


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is below the prefix and may have `{osd}` or `{name}` as a segment; `resource` is the end
    of the ARN, likewise. `answer` makes the value that is sent as JSON, out of what the context has
    by the name `asks`, and of the OSD, which is -1 where the path has none. One that asks for the
    whole `context` is given the `Order` in place of the OSD. `body` is what it takes as JSON."""

    method: str
    path: str
    action: str
    resource: str
    answer: Callable[[Any, Any], Awaitable[Any]]
    asks: Literal["admin", "cluster", "context"] = "admin"
    body: type[msgspec.Struct] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    route: Route
    osd: int = -1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """The name in the path, and the body as the route says its type."""

    name: str
    body: Any


class MalformedRequest(InvalidRequest):
    """A request that no state of the store would make right."""


async def _disks(admin: StorageAdmin, osd: int) -> Any:
    return {"disks": await admin.disks()}


async def _disk(admin: StorageAdmin, osd: int) -> Any:
    for disk in await admin.disks():
        if disk.osd == osd:
            return disk
    raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd")


async def _findings(admin: StorageAdmin, osd: int) -> Any:
    return {"findings": await admin.doctor()}


async def _cluster(cluster: ClusterView, osd: int) -> Any:
    return await cluster.status()


async def _cluster_map(cluster: ClusterView, osd: int) -> Any:
    return await cluster.cluster_map()


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out is made."""

    display_name: str
    id: str = ""
    canonical_id: str = ""
    email: str = ""
    access_key: str = ""
    secret_key: str = ""


async def _accounts(context: ApiContext, order: Order) -> Any:
    return {"accounts": [_shown(each) for each in await _identities(context).list_accounts()]}


async def _create_account(context: ApiContext, order: Order) -> Any:
    wanted: NewAccount = order.body
    account, key = await _identities(context).create_account(
        wanted.display_name,
        account=wanted.id,
        canonical_id=wanted.canonical_id,
        email=wanted.email,
        access_key=wanted.access_key,
        secret_key=wanted.secret_key,
    )
    return {**_shown(account), "access_key": key.key.access_key, "secret_key": key.secret_key}


async def _delete_account(context: ApiContext, order: Order) -> Any:
    identities = _identities(context)
    for account in await identities.list_accounts():
        if account.id == order.name:
            owned = await context.objects.list_buckets(owner=account.canonical_id, limit=1)
            if owned:
                raise NotEmpty(f"account {account.id} owns buckets: {owned[0].name}")
            await identities.delete_account(account.id)
            return _shown(account)
    raise NotFound(f"there is no account {order.name}", kind="account")


def _identities(context: ApiContext) -> IdentityAdmin:
    if context.identities is None:
        raise OperationNotImplemented("no identities are managed from this node")
    found: IdentityAdmin = context.identities
    return found


def _shown(account: Account) -> dict[str, str]:
    return account._asdict()


ROUTES: Final = (
    Route("GET", "/v1/disks", "ListDisks", "disk/*", _disks),
    Route("GET", "/v1/disks/{osd}", "GetDisk", "disk/{osd}", _disk),
    Route(
        "POST",
        "/v1/disks/{osd}/replace",
        "ReplaceDisk",
        "disk/{osd}",
        lambda admin, osd: admin.replace(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/drain",
        "DrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.drain(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/undrain",
        "UndrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.undrain(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/remove",
        "RemoveDisk",
        "disk/{osd}",
        lambda admin, osd: admin.remove(osd),
    ),
    Route("GET", "/v1/repair", "GetRepair", "repair", lambda admin, _: admin.repair()),
    Route("GET", "/v1/scrub", "GetScrub", "scrub", lambda admin, _: admin.scrub()),
    Route("POST", "/v1/scrub", "StartScrub", "scrub", lambda admin, _: admin.start_scrub()),
    Route("GET", "/v1/rebalance", "GetRebalance", "rebalance", lambda admin, _: admin.rebalance()),
    Route("GET", "/v1/journal", "GetJournal", "journal", lambda admin, _: admin.journal()),
    Route("GET", "/v1/doctor", "Diagnose", "doctor", _findings),
    Route("GET", "/v1/cluster", "GetCluster", "cluster", _cluster, "cluster"),
    Route("GET", "/v1/cluster/map", "GetClusterMap", "cluster", _cluster_map, "cluster"),
    Route("GET", "/v1/accounts", "ListAccounts", "account/*", _accounts, "context"),
    Route(
        "POST",
        "/v1/accounts",
        "CreateAccount",
        "account/*",
        _create_account,
        "context",
        body=NewAccount,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/delete",
        "DeleteAccount",
        "account/{name}",
        _delete_account,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/quota",
        "GetAccountQuota",
        "account/{name}",
        quotas.account_quota,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/quota",
        "SetAccountQuota",
        "account/{name}",
        quotas.set_account_quota,
        "context",
        body=quotas.NewQuota,
    ),
    Route(
        "GET",
        "/v1/buckets/{name}/quota",
        "GetBucketQuota",
        "bucket/{name}",
        quotas.bucket_quota,
        "context",
    ),
    Route(
        "POST",
        "/v1/buckets/{name}/quota",
        "SetBucketQuota",
        "bucket/{name}",
        quotas.set_bucket_quota,
        "context",
        body=quotas.NewQuota,
    ),
)

_BY_PATH: Final[dict[tuple[str, ...], dict[str, Route]]] = {}
for _route in ROUTES:
    _BY_PATH.setdefault(tuple(_route.path.split("/")[1:]), {})[_route.method] = _route


def find(method: str, path: bytes, query: bytes) -> Operation:
    """`path` is raw: nothing that an operator may name needs an escape, so none is taken."""
    try:
        segments = path.decode("ascii").removeprefix(PREFIX).split("/")[1:]
    except UnicodeDecodeError:
        segments = []
    osd, name = -1, ""
    if len(segments) > 2 and segments[1] == "disks":
        osd = _osd(segments[2])
        segments[2] = OSD
    elif len(segments) > 2 and segments[1] in _NAMED:
        name = _name(segments[2])
        segments[2] = NAME
    by_method = _BY_PATH.get(tuple(segments))
    if by_method is None:
        raise NotFound("there is no such thing to ask for", kind="path")
    route = by_method.get(method)
    if route is None:
        raise MethodNotAllowed("method", method=method, allowed=sorted(by_method))
    if query:
        raise MalformedRequest("a query string means nothing here")
    return Operation(route, osd, name)


def _osd(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > _OSD_DIGITS_MAX:
        raise NotFound("an OSD is named by its number", kind="osd")
    return int(text)


def _name(text: str) -> str:
    if not text or not text.isprintable() or "%" in text:
        raise NotFound("this is no name", kind="path")
    return text
