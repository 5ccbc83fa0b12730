"""The routes: which method of which path means what. What is not in the table does not exist."""

from __future__ import annotations

from typing import Any, Final

from objectio.abc.admin import ClusterView, StorageAdmin
from objectio.errors import MethodNotAllowed, NotFound
from objectio_api_admin import accounts, buckets, identities, policies, quotas
from objectio_api_admin.shapes import OSD, PARAMETERS, MalformedRequest, Operation, Route

PREFIX: Final = "/_admin"
ARN: Final = "arn:objectio:admin:::"
BODY_BYTES_MAX: Final = 64 * 1024


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


_STORAGE: Final = (
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
)

_ACCOUNTS: Final = (
    Route("GET", "/v1/accounts", "ListAccounts", "account/*", accounts.list_accounts, "context"),
    Route(
        "POST",
        "/v1/accounts",
        "CreateAccount",
        "account/*",
        accounts.create_account,
        "context",
        body=accounts.NewAccount,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/delete",
        "DeleteAccount",
        "account/{name}",
        accounts.delete_account,
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
)

_IDENTITIES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/users",
        "ListUsers",
        "account/{name}/user/*",
        identities.list_users,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users",
        "CreateUser",
        "account/{name}/user/*",
        identities.create_user,
        "context",
        body=identities.NewUser,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}",
        "GetUser",
        "account/{name}/user/{user}",
        identities.get_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/update",
        "UpdateUser",
        "account/{name}/user/{user}",
        identities.update_user,
        "context",
        body=identities.ChangedUser,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/delete",
        "DeleteUser",
        "account/{name}/user/{user}",
        identities.delete_user,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/groups",
        "ListGroupsForUser",
        "account/{name}/user/{user}",
        identities.groups_of_user,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/keys",
        "ListAccessKeys",
        "account/{name}/user/{user}",
        identities.list_keys,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys",
        "CreateAccessKey",
        "account/{name}/user/{user}",
        identities.create_key,
        "context",
        body=identities.NewKey,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/enable",
        "EnableAccessKey",
        "account/{name}/user/{user}",
        identities.enable_key,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/disable",
        "DisableAccessKey",
        "account/{name}/user/{user}",
        identities.disable_key,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/delete",
        "DeleteAccessKey",
        "account/{name}/user/{user}",
        identities.delete_key,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/groups",
        "ListGroups",
        "account/{name}/group/*",
        identities.list_groups,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups",
        "CreateGroup",
        "account/{name}/group/*",
        identities.create_group,
        "context",
        body=identities.NewGroup,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/groups/{group}",
        "GetGroup",
        "account/{name}/group/{group}",
        identities.get_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/delete",
        "DeleteGroup",
        "account/{name}/group/{group}",
        identities.delete_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/add",
        "AddUserToGroup",
        "account/{name}/group/{group}",
        identities.add_to_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/remove",
        "RemoveUserFromGroup",
        "account/{name}/group/{group}",
        identities.remove_from_group,
        "context",
    ),
)

_POLICIES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/policies",
        "ListPolicies",
        "account/{name}/policy/*",
        policies.list_policies,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies",
        "CreatePolicy",
        "account/{name}/policy/*",
        policies.create_policy,
        "context",
        body=policies.NewPolicy,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/policies/{policy}",
        "GetPolicy",
        "account/{name}/policy/{policy}",
        policies.get_policy,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies/{policy}/delete",
        "DeletePolicy",
        "account/{name}/policy/{policy}",
        policies.delete_policy,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/attach",
        "AttachUserPolicy",
        "account/{name}/user/{user}",
        policies.attach_to_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/detach",
        "DetachUserPolicy",
        "account/{name}/user/{user}",
        policies.detach_from_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/attach",
        "AttachGroupPolicy",
        "account/{name}/group/{group}",
        policies.attach_to_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/detach",
        "DetachGroupPolicy",
        "account/{name}/group/{group}",
        policies.detach_from_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/simulate",
        "SimulatePolicy",
        "account/{name}/policy/*",
        policies.simulate_policy,
        "context",
        body=policies.Simulation,
    ),
)

_BUCKETS: Final = (
    Route(
        "GET",
        "/v1/buckets",
        "ListBuckets",
        "bucket/*",
        buckets.list_buckets,
        "context",
    ),
    Route(
        "POST",
        "/v1/buckets",
        "CreateBucket",
        "bucket/*",
        buckets.create_bucket,
        "context",
        body=buckets.NewBucket,
    ),
    Route(
        "GET",
        "/v1/buckets/{name}",
        "GetBucket",
        "bucket/{name}",
        buckets.get_bucket,
        "context",
    ),
    Route(
        "POST",
        "/v1/buckets/{name}/delete",
        "DeleteBucket",
        "bucket/{name}",
        buckets.delete_bucket,
        "context",
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

ROUTES: Final = (*_STORAGE, *_ACCOUNTS, *_IDENTITIES, *_POLICIES, *_BUCKETS)

_Template = tuple[str, ...]
_BY_LENGTH: Final[dict[int, dict[_Template, dict[str, Route]]]] = {}
for _route in ROUTES:
    _template = tuple(_route.path.split("/")[1:])
    _BY_LENGTH.setdefault(len(_template), {}).setdefault(_template, {})[_route.method] = _route


def find(method: str, path: bytes, query: bytes) -> Operation:
    """`path` is raw: a name is escaped where it must be, and nothing else may be."""
    try:
        segments = path.decode("ascii").removeprefix(PREFIX).split("/")[1:]
    except UnicodeDecodeError:
        segments = []
    template, by_method = _match(segments)
    try:
        read = {
            word: PARAMETERS[word](segment)
            for word, segment in zip(template, segments, strict=True)
            if word in PARAMETERS
        }
    except UnicodeDecodeError:
        raise NotFound("this is no name", kind="path") from None
    route = by_method.get(method)
    if route is None:
        raise MethodNotAllowed("method", method=method, allowed=sorted(by_method))
    if query:
        raise MalformedRequest("a query string means nothing here")
    words = route.resource.split("/")
    resource = "/".join(read[word][1] if word in read else word for word in words)
    osd = int(read[OSD][0]) if OSD in read else -1
    return Operation(route, resource, osd, {word[1:-1]: name for word, (name, _) in read.items()})


def _match(segments: list[str]) -> tuple[_Template, dict[str, Route]]:
    for template, by_method in _BY_LENGTH.get(len(segments), {}).items():
        if all(
            word in PARAMETERS or word == segment
            for word, segment in zip(template, segments, strict=True)
        ):
            return template, by_method
    raise NotFound("there is no such thing to ask for", kind="path")
