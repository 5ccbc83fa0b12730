"""The cluster of one process: what `abc.cluster.ControlPlane` says where everything is in one."""

from __future__ import annotations

import time

from objectio.abc.admin import DiskStatus, StorageAdmin
from objectio.abc.cluster import ClusterStatus, NodeStatus, OsdReport
from objectio.model.cluster import ClusterMap, Osd, OsdId


class Standalone:
    """What people ask; nobody registers with it."""

    def __init__(self, admin: StorageAdmin, cluster_id: str, node: str, pool: str) -> None:
        self._admin = admin
        self._cluster_id = cluster_id
        self._node = node
        self._pool = pool

    async def status(self) -> ClusterStatus:
        disks = await self._admin.disks()
        node = NodeStatus(
            node=self._node,
            role="meta, osd, gateway",
            address="",
            alive=True,
            seen_ms=int(time.time() * 1000),
            osds=tuple(_report(disk) for disk in disks),
        )
        return ClusterStatus(
            cluster_id=self._cluster_id,
            epoch=(await self._admin.rebalance()).epoch,
            state="serving",
            reason="",
            pool=self._pool,
            nodes=(node,),
        )

    async def cluster_map(self) -> ClusterMap:
        disks = await self._admin.disks()
        epoch = (await self._admin.rebalance()).epoch
        return ClusterMap(epoch=epoch, osds=tuple(_entry(disk) for disk in disks))


def _report(disk: DiskStatus) -> OsdReport:
    return OsdReport(
        osd=disk.osd,
        state=disk.state,
        reason=disk.reason,
        device_id=disk.device_id,
        capacity_bytes=disk.capacity_bytes or 0,
        used_bytes=disk.used_bytes or 0,
    )


def _entry(disk: DiskStatus) -> Osd:
    return Osd(
        id=OsdId(disk.osd),
        weight=disk.weight,
        host=disk.host,
        rack=disk.rack,
        in_=disk.membership == "in",
    )
