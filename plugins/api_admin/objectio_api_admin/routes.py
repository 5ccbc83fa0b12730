"""The routes: which method of which path means what. What is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from objectio.abc.admin import ClusterView, StorageAdmin
from objectio.errors import InvalidRequest, MethodNotAllowed, NotFound

PREFIX: Final = "/_admin"
ARN: Final = "arn:objectio:admin:::"
OSD: Final = "{osd}"

_OSD_DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is below the prefix and may have `{osd}` as a segment; `resource` is the end of the
    ARN, likewise. `answer` makes the value that is sent as JSON, out of what the context has by the
    name `asks`; the OSD is -1 where the path has none."""

    method: str
    path: str
    action: str
    resource: str
    answer: Callable[[Any, int], Awaitable[Any]]
    asks: Literal["admin", "cluster"] = "admin"


@dataclass(frozen=True, slots=True)
class Operation:
    route: Route
    osd: int


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
    osd = -1
    if len(segments) > 2 and segments[1] == "disks":
        osd = _osd(segments[2])
        segments[2] = OSD
    by_method = _BY_PATH.get(tuple(segments))
    if by_method is None:
        raise NotFound("there is no such thing to ask for", kind="path")
    route = by_method.get(method)
    if route is None:
        raise MethodNotAllowed("method", method=method, allowed=sorted(by_method))
    if query:
        raise MalformedRequest("a query string means nothing here")
    return Operation(route, osd)


def _osd(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > _OSD_DIGITS_MAX:
        raise NotFound("an OSD is named by its number", kind="osd")
    return int(text)
