"""Who is in the cluster."""

from __future__ import annotations

from typing import Final

from objectio.abc.admin import ClusterView
from objectio.abc.cluster import ClusterStatus
from objectio.model.cluster import ClusterMap
from objectio_api_admin.shapes import Route


async def _cluster(cluster: ClusterView, osd: int) -> ClusterStatus:
    return await cluster.status()


async def _cluster_map(cluster: ClusterView, osd: int) -> ClusterMap:
    return await cluster.cluster_map()


ROUTES: Final = (
    Route(
        "GET",
        "/v1/cluster",
        "GetCluster",
        "cluster",
        _cluster,
        "cluster",
        returns=ClusterStatus,
        summary="Shows whether the cluster serves, and the processes that are in it.",
    ),
    Route(
        "GET",
        "/v1/cluster/map",
        "GetClusterMap",
        "cluster",
        _cluster_map,
        "cluster",
        returns=ClusterMap,
        summary="Shows the map by which objects are placed.",
    ),
)
