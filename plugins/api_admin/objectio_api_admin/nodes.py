"""Nodes, which are the processes of a cluster, and the topology: racks, their hosts, their disks.

A node is drained by draining its disks, all or none: when one of them may not be, those before it are
taken back. An order that was cut off half way is given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from objectio.abc.admin import DiskStatus, StorageAdmin
from objectio.abc.api import ApiContext
from objectio.abc.cluster import ClusterStatus, NodeStatus
from objectio.errors import InvalidRequest, NotFound, OperationNotImplemented
from objectio_api_admin.shapes import ELSEWHERE, Order, Route

NodeMembership = Literal["in", "draining", "out", "mixed", ""]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the cluster, with the numbers of its OSDs. `roles` may have several words ("meta,
    osd, gateway"). `alive`: heard of within its lease; `seen_ms` is when, 0 if never. `membership` is
    that of all its disks, "mixed" where they differ, and empty without any. `disks_up` of them are up.
    Bytes are those of the disks that are not down."""

    node: str
    roles: str
    address: str
    alive: bool
    seen_ms: int
    hosts: Sequence[str]
    osds: Sequence[int]
    membership: NodeMembership
    disks_up: int
    capacity_bytes: int
    used_bytes: int


class NodeDetail(Node, frozen=True, kw_only=True):
    """With all that is known of its disks."""

    disks: Sequence[DiskStatus]


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    nodes: Sequence[Node]


class TopologyDisk(msgspec.Struct, frozen=True, kw_only=True):
    """`node` is the process that has it, empty where none was heard of. Bytes are null while it is
    down."""

    osd: int
    node: str
    path: str
    state: str
    membership: str
    weight: float
    capacity_bytes: int | None
    used_bytes: int | None


class TopologyHost(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes are those of the disks that are not down."""

    host: str
    disks_up: int
    capacity_bytes: int
    used_bytes: int
    disks: Sequence[TopologyDisk]


class TopologyRack(msgspec.Struct, frozen=True, kw_only=True):
    rack: str
    disks_up: int
    capacity_bytes: int
    used_bytes: int
    hosts: Sequence[TopologyHost]


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything stands, under the cluster map of `epoch`."""

    cluster_id: str
    epoch: int
    disks_up: int
    capacity_bytes: int
    used_bytes: int
    racks: Sequence[TopologyRack]


# Nodes.


async def list_nodes(context: ApiContext, order: Order) -> NodeList:
    cluster, disks = await _look(context)
    return NodeList(nodes=[_node(node, _disks_of([node], disks)) for node in cluster.nodes])


async def get_node(context: ApiContext, order: Order) -> NodeDetail:
    return await _find(context, order.names["node"])


async def drain_node(context: ApiContext, order: Order) -> NodeDetail:
    node, admin = await _with_disks(context, order.names["node"])
    drained: list[int] = []
    for disk in node.disks:
        if disk.membership != "in":
            continue
        try:
            await admin.drain(disk.osd)
        except InvalidRequest as error:
            for osd in drained:
                await admin.undrain(osd)
            raise InvalidRequest(
                f"node {node.node} is not drained, and all its disks are as they were: "
                f"{error.message}"
            ) from None
        drained.append(disk.osd)
    return await _find(context, node.node)


async def undrain_node(context: ApiContext, order: Order) -> NodeDetail:
    node, admin = await _with_disks(context, order.names["node"])
    for disk in node.disks:
        if disk.membership != "in":
            await admin.undrain(disk.osd)
    return await _find(context, node.node)


async def _with_disks(context: ApiContext, name: str) -> tuple[NodeDetail, StorageAdmin]:
    node = await _find(context, name)
    if not node.disks:
        raise InvalidRequest(f"node {name} has no disks: there is nothing to drain")
    return node, _admin_of(context)


async def _find(context: ApiContext, name: str) -> NodeDetail:
    """Processes may share a name, if at most one of them has disks."""
    cluster, disks = await _look(context)
    named = [node for node in cluster.nodes if node.node == name]
    if not named:
        raise NotFound(f"there is no node {name}", kind="node")
    named.sort(key=lambda node: not node.osds)
    own = _disks_of(named, disks)
    return NodeDetail(**msgspec.structs.asdict(_node(named[0], own)), disks=own)


def _disks_of(nodes: Sequence[NodeStatus], disks: Sequence[DiskStatus]) -> list[DiskStatus]:
    osds = {report.osd for node in nodes for report in node.osds}
    return [disk for disk in disks if disk.osd in osds]


def _node(node: NodeStatus, disks: Sequence[DiskStatus]) -> Node:
    up, capacity_bytes, used_bytes = _sums(disks)
    return Node(
        node=node.node,
        roles=node.role,
        address=node.address,
        alive=node.alive,
        seen_ms=node.seen_ms,
        hosts=sorted({disk.host for disk in disks}),
        osds=[disk.osd for disk in disks],
        membership=_membership(disks),
        disks_up=up,
        capacity_bytes=capacity_bytes,
        used_bytes=used_bytes,
    )


def _membership(disks: Iterable[DiskStatus]) -> NodeMembership:
    found = {disk.membership for disk in disks}
    for one in ("in", "draining", "out"):
        if found == {one}:
            return one
    return "mixed" if found else ""


# Topology.


async def get_topology(context: ApiContext, order: Order) -> Topology:
    cluster, disks = await _look(context)
    nodes = {report.osd: node.node for node in cluster.nodes for report in node.osds}
    up, capacity_bytes, used_bytes = _sums(disks)
    return Topology(
        cluster_id=cluster.cluster_id,
        epoch=cluster.epoch,
        disks_up=up,
        capacity_bytes=capacity_bytes,
        used_bytes=used_bytes,
        racks=[
            _rack(rack, [disk for disk in disks if disk.rack == rack], nodes)
            for rack in sorted({disk.rack for disk in disks})
        ],
    )


def _rack(rack: str, disks: Sequence[DiskStatus], nodes: dict[int, str]) -> TopologyRack:
    up, capacity_bytes, used_bytes = _sums(disks)
    return TopologyRack(
        rack=rack,
        disks_up=up,
        capacity_bytes=capacity_bytes,
        used_bytes=used_bytes,
        hosts=[
            _host(host, [disk for disk in disks if disk.host == host], nodes)
            for host in sorted({disk.host for disk in disks})
        ],
    )


def _host(host: str, disks: Sequence[DiskStatus], nodes: dict[int, str]) -> TopologyHost:
    up, capacity_bytes, used_bytes = _sums(disks)
    return TopologyHost(
        host=host,
        disks_up=up,
        capacity_bytes=capacity_bytes,
        used_bytes=used_bytes,
        disks=[
            TopologyDisk(
                osd=disk.osd,
                node=nodes.get(disk.osd, ""),
                path=disk.path,
                state=disk.state,
                membership=disk.membership,
                weight=disk.weight,
                capacity_bytes=disk.capacity_bytes,
                used_bytes=disk.used_bytes,
            )
            for disk in disks
        ],
    )


def _sums(disks: Iterable[DiskStatus]) -> tuple[int, int, int]:
    """How many are up, and the bytes that they have and that are used."""
    up = capacity_bytes = used_bytes = 0
    for disk in disks:
        up += disk.state == "up"
        capacity_bytes += disk.capacity_bytes or 0
        used_bytes += disk.used_bytes or 0
    return up, capacity_bytes, used_bytes


async def _look(context: ApiContext) -> tuple[ClusterStatus, Sequence[DiskStatus]]:
    if context.cluster is None:
        raise OperationNotImplemented("nobody here knows who is in the cluster", reason=ELSEWHERE)
    return await context.cluster.status(), await _admin_of(context).disks()


def _admin_of(context: ApiContext) -> StorageAdmin:
    if context.admin is None:
        raise OperationNotImplemented("no part of this node manages storage", reason=ELSEWHERE)
    return context.admin


ROUTES: Final = (
    Route(
        "GET",
        "/v1/nodes",
        "ListNodes",
        "node/*",
        list_nodes,
        "context",
        returns=NodeList,
        summary="Lists the processes of the cluster.",
    ),
    Route(
        "GET",
        "/v1/nodes/{node}",
        "GetNode",
        "node/{node}",
        get_node,
        "context",
        returns=NodeDetail,
        summary="Shows a process of the cluster with its disks.",
    ),
    Route(
        "POST",
        "/v1/nodes/{node}/drain",
        "DrainNode",
        "node/{node}",
        drain_node,
        "context",
        returns=NodeDetail,
        summary="Moves everything off all disks of a node, or off none if one of them may not go.",
    ),
    Route(
        "POST",
        "/v1/nodes/{node}/undrain",
        "UndrainNode",
        "node/{node}",
        undrain_node,
        "context",
        returns=NodeDetail,
        summary="Has all disks of a node take shards again.",
    ),
    Route(
        "GET",
        "/v1/cluster/topology",
        "GetClusterTopology",
        "cluster",
        get_topology,
        "context",
        returns=Topology,
        summary="Shows the racks, their hosts and their disks, with what they hold.",
    ),
)
