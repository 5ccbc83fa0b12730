"""Who may call what on the control plane: the one table. What is not in it nobody may call.

A process proves the secret of the cluster, and with it that it may speak for any role of a process. A
person proves the secret key of an access key of the cluster, which is the role admin.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

ADMIN: Final = "admin"
PROCESSES: Final = frozenset({"meta", "osd", "gateway"})
ANYBODY: Final = frozenset({"anybody"})
"""Also without a proof."""

_ALL: Final = PROCESSES | {ADMIN}
_OSD: Final = frozenset({"osd"})
_ADMIN: Final = frozenset({ADMIN})
_REFLECTION: Final = "ServerReflection/ServerReflectionInfo"

MAY_CALL: Final[Mapping[str, Set[str]]] = {
    "/objectio.v1.Access/Challenge": ANYBODY,
    f"/grpc.reflection.v1.{_REFLECTION}": ANYBODY,
    f"/grpc.reflection.v1alpha.{_REFLECTION}": ANYBODY,
    "/objectio.v1.Cluster/Status": _ALL,
    "/objectio.v1.Cluster/Map": _ALL,
    "/objectio.v1.Cluster/WatchMap": _ALL,
    "/objectio.v1.Cluster/Register": _OSD,
    "/objectio.v1.Cluster/Heartbeat": _OSD,
    "/objectio.v1.Admin/Disks": _ADMIN,
    "/objectio.v1.Admin/Replace": _ADMIN,
    "/objectio.v1.Admin/Drain": _ADMIN,
    "/objectio.v1.Admin/Undrain": _ADMIN,
    "/objectio.v1.Admin/Remove": _ADMIN,
    "/objectio.v1.Admin/Repair": _ADMIN,
    "/objectio.v1.Admin/Scrub": _ADMIN,
    "/objectio.v1.Admin/StartScrub": _ADMIN,
    "/objectio.v1.Admin/Rebalance": _ADMIN,
    "/objectio.v1.Admin/Journal": _ADMIN,
    "/objectio.v1.Admin/Doctor": _ADMIN,
}

ORDERS: Final[Mapping[str, str]] = {
    "/objectio.v1.Admin/Replace": "admin:ReplaceDisk",
    "/objectio.v1.Admin/Drain": "admin:DrainDisk",
    "/objectio.v1.Admin/Undrain": "admin:UndrainDisk",
    "/objectio.v1.Admin/Remove": "admin:RemoveDisk",
    "/objectio.v1.Admin/StartScrub": "admin:StartScrub",
}
"""What changes something, by the action that the operators' API knows it by: the audit log has it."""
