"""The cluster as its processes and its operators see it: the control plane.

The process with the metadata answers; processes with devices register and say that they are alive, and
anybody with the right to may ask what there is. Times are Unix milliseconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from objectio.model.cluster import ClusterMap

ClusterState = Literal["waiting", "serving"]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    pass


class DiskOffer(_Value, frozen=True, kw_only=True):
    """A disk of a node. `osd` is the number that its configuration gives it, None to be given one;
    `device_id`, and the cluster that the device belongs to, are empty for a blank disk."""

    path: str
    device_id: str = ""
    cluster_id: str = ""
    osd: int | None = None
    weight: float = 1.0


class NodeOffer(_Value, frozen=True, kw_only=True):
    """A process that has devices, and the address at which others reach it."""

    node: str
    address: str
    host: str
    rack: str
    disks: tuple[DiskOffer, ...]


class Registration(_Value, frozen=True, kw_only=True):
    """`osds` are the numbers of the disks that were offered, in their order."""

    cluster_id: str
    epoch: int
    osds: tuple[int, ...]
    heartbeat_seconds: float


class OsdReport(_Value, frozen=True, kw_only=True):
    """`state`: up, full, failed, down; `reason` says why it is not up."""

    osd: int
    state: str
    reason: str = ""
    device_id: str = ""
    capacity_bytes: int = 0
    used_bytes: int = 0


class NodeStatus(_Value, frozen=True, kw_only=True):
    """`role`: meta, osd, gateway. `alive`: heard of within its lease."""

    node: str
    role: str
    address: str
    alive: bool
    seen_ms: int
    osds: tuple[OsdReport, ...] = ()


class ClusterStatus(_Value, frozen=True, kw_only=True):
    """`state` waiting: objects cannot be served yet, and `reason` says what is waited for."""

    cluster_id: str
    epoch: int
    state: ClusterState
    reason: str
    pool: str
    nodes: tuple[NodeStatus, ...]


class ControlPlane(Protocol):
    async def register(self, offer: NodeOffer) -> Registration:
        """Take a node with its disks into the cluster, or take notice that it moved. Doing it again
        changes nothing. Raises `ConfigError` for disks that belong elsewhere."""
        ...

    async def heartbeat(self, node: str, osds: Sequence[OsdReport]) -> int:
        """Returns the epoch. Raises `NotFound` (kind node) for one that must register anew."""
        ...

    async def status(self) -> ClusterStatus: ...

    async def cluster_map(self) -> ClusterMap: ...
