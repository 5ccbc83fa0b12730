"""Who is in the cluster."""

from __future__ import annotations

from typing import Any, Final

from objectio.abc.admin import ClusterView
from objectio_api_admin.shapes import Route


async def _cluster(cluster: ClusterView, osd: int) -> Any:
    return await cluster.status()


async def _cluster_map(cluster: ClusterView, osd: int) -> Any:
    return await cluster.cluster_map()


ROUTES: Final = (
    Route("GET", "/v1/cluster", "GetCluster", "cluster", _cluster, "cluster"),
    Route("GET", "/v1/cluster/map", "GetClusterMap", "cluster", _cluster_map, "cluster"),
)
