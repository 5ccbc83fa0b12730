"""What calls of the control plane do: messages to the contracts of `abc.cluster` and `abc.admin`, and
back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import betterproto2
import msgspec

from objectio.abc.admin import StorageAdmin
from objectio.abc.cluster import ControlPlane, NodeOffer, OsdReport
from objectio.errors import AccessDenied
from objectio.model.cluster import ClusterMap
from objectio.rpc.control.convert import parse, to_message, to_value
from objectio.rpc.control.pb import messages as pb
from objectio.rpc.control.proof import Caller

M = TypeVar("M", bound=betterproto2.Message)
Answer = Callable[[Caller, bytes], Awaitable[betterproto2.Message]]
Stream = Callable[[Caller, bytes], AsyncGenerator[betterproto2.Message, None]]


class WatchedPlane(ControlPlane, Protocol):
    def watch(self) -> AsyncGenerator[ClusterMap, None]:
        """The map now, and each later one."""
        ...


class ClusterHandlers:
    def __init__(self, plane: WatchedPlane) -> None:
        self._plane = plane

    def answers(self) -> Mapping[str, Answer]:
        return {
            "/objectio.v1.Cluster/Status": self._status,
            "/objectio.v1.Cluster/Map": self._map,
            "/objectio.v1.Cluster/Register": self._register,
            "/objectio.v1.Cluster/Heartbeat": self._heartbeat,
        }

    def streams(self) -> Mapping[str, Stream]:
        return {"/objectio.v1.Cluster/WatchMap": self._watch}

    async def _status(self, caller: Caller, raw: bytes) -> pb.ClusterStatus:
        return to_message(await self._plane.status(), pb.ClusterStatus)

    async def _map(self, caller: Caller, raw: bytes) -> pb.ClusterMap:
        return to_message(await self._plane.cluster_map(), pb.ClusterMap)

    async def _watch(self, caller: Caller, raw: bytes) -> AsyncGenerator[pb.ClusterMap, None]:
        async with contextlib.aclosing(self._plane.watch()) as maps:
            async for cluster in maps:
                yield to_message(cluster, pb.ClusterMap)

    async def _register(self, caller: Caller, raw: bytes) -> pb.Registration:
        offer = to_value(parse(pb.NodeOffer, raw), NodeOffer)
        _check_name(caller, offer.node)
        return to_message(await self._plane.register(offer), pb.Registration)

    async def _heartbeat(self, caller: Caller, raw: bytes) -> pb.HeartbeatReply:
        request = parse(pb.HeartbeatRequest, raw)
        _check_name(caller, request.node)
        reports = [to_value(each, OsdReport) for each in request.osds]
        return pb.HeartbeatReply(await self._plane.heartbeat(request.node, reports))


def _check_name(caller: Caller, node: str) -> None:
    if node != caller.name:
        raise AccessDenied(f"{caller.name} speaks for {node}", reason="name")


class AdminHandlers:
    def __init__(self, admin: StorageAdmin) -> None:
        self._admin = admin

    def answers(self) -> Mapping[str, Answer]:
        admin = self._admin
        return {
            "/objectio.v1.Admin/Disks": self._disks,
            "/objectio.v1.Admin/Replace": _of_osd(admin.replace),
            "/objectio.v1.Admin/Drain": _of_osd(admin.drain),
            "/objectio.v1.Admin/Undrain": _of_osd(admin.undrain),
            "/objectio.v1.Admin/Remove": _of_osd(admin.remove),
            "/objectio.v1.Admin/Repair": _asking(admin.repair, pb.RepairStatus),
            "/objectio.v1.Admin/Scrub": _asking(admin.scrub, pb.ScrubStatus),
            "/objectio.v1.Admin/StartScrub": _asking(admin.start_scrub, pb.ScrubStatus),
            "/objectio.v1.Admin/Rebalance": _asking(admin.rebalance, pb.RebalanceStatus),
            "/objectio.v1.Admin/Journal": _asking(admin.journal, pb.JournalStatus),
            "/objectio.v1.Admin/Doctor": self._doctor,
        }

    async def _disks(self, caller: Caller, raw: bytes) -> pb.DisksReply:
        return pb.DisksReply(_all(await self._admin.disks(), pb.DiskStatus))

    async def _doctor(self, caller: Caller, raw: bytes) -> pb.DoctorReply:
        return pb.DoctorReply(_all(await self._admin.doctor(), pb.Finding))


def _all(values: Sequence[msgspec.Struct], kind: type[M]) -> list[M]:
    return [to_message(value, kind) for value in values]


def _of_osd(order: Callable[[int], Awaitable[msgspec.Struct]]) -> Answer:
    async def answer(caller: Caller, raw: bytes) -> betterproto2.Message:
        return to_message(await order(parse(pb.OsdRequest, raw).osd), pb.DiskStatus)

    return answer


def _asking(
    ask: Callable[[], Awaitable[msgspec.Struct]], kind: type[betterproto2.Message]
) -> Answer:
    async def answer(caller: Caller, raw: bytes) -> betterproto2.Message:
        return to_message(await ask(), kind)

    return answer
