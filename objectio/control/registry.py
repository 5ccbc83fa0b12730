"""Who is in the cluster: numbers for OSDs, where each of them is, and who was heard of.

What lasts stands in rows: `c/location/` says where an OSD is, `c/nextosd` which number comes next. A
number means one device, or what replaced it at its place, and is never given to another one. Who is
alive is known to this process only: after a restart it asks everybody to register again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from objectio.abc.cluster import (
    ClusterState,
    ClusterStatus,
    DiskOffer,
    NodeOffer,
    NodeStatus,
    OsdReport,
    Registration,
)
from objectio.abc.kv import Absent, Check, Equals
from objectio.control.numbering import Census, Holding, Known, number_disks
from objectio.errors import CommitConflict, ConfigError, NotFound
from objectio.kv.keys import decode_uint, encode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import (
    LocationRecord,
    decode_groups,
    decode_location,
    decode_map,
    decode_move,
    decode_osd,
    encode,
)
from objectio.model.cluster import ClusterMap

HEARTBEATS_PER_LEASE: Final = 3

State = tuple[ClusterState, str]
Nodes = Callable[[], Iterable[NodeStatus]]

_log: Final = logging.getLogger("objectio.control")


@dataclass(slots=True)
class _Node:
    """A process with devices that registered with this one."""

    offer: NodeOffer
    osds: tuple[int, ...]
    heard_at: float = field(default_factory=lambda: time.monotonic())
    reports: dict[int, OsdReport] = field(default_factory=dict)


class Registry:
    """Implements `abc.cluster.ControlPlane`.

    state    whether objects can be served, and if not what is waited for
    pool     the pool that takes new objects, for people
    others   the nodes without devices: gateways, and the process with the metadata
    """

    def __init__(
        self,
        kv: KVStore,
        cluster_id: str,
        *,
        lease_seconds: float,
        state: Callable[[], State] = lambda: ("waiting", "nothing keeps objects here"),
        pool: Callable[[], str] = lambda: "",
        others: Nodes = lambda: (),
    ) -> None:
        self._kv = kv
        self._cluster_id = cluster_id
        self._lease_seconds = lease_seconds
        self._state = state
        self._pool = pool
        self._others = others
        self._nodes: dict[str, _Node] = {}
        self._turn = asyncio.Lock()

    async def register(self, offer: NodeOffer) -> Registration:
        _check_offer(offer, self._cluster_id)
        async with self._turn:  # others may commit beside us, but two registrations need not race
            self._check_name(offer)
            while True:
                try:
                    osds = await self._try_register(offer)
                    break
                except CommitConflict:
                    continue
            self._nodes[offer.node] = _Node(offer, osds)
            self._forget_moved(offer.node, osds)
        return Registration(
            cluster_id=self._cluster_id,
            epoch=(await self.cluster_map()).epoch,
            osds=osds,
            heartbeat_seconds=self._lease_seconds / HEARTBEATS_PER_LEASE,
        )

    async def heartbeat(self, node: str, osds: Sequence[OsdReport]) -> int:
        known = self._nodes.get(node)
        if known is None:
            raise NotFound(f"node {node} is not registered here", kind="node", node=node)
        known.heard_at = time.monotonic()
        known.reports = {report.osd: report for report in osds if report.osd in known.osds}
        return (await self.cluster_map()).epoch

    async def status(self) -> ClusterStatus:
        state, reason = self._state()
        nodes = [*self._others(), *await self._osd_nodes()]
        return ClusterStatus(
            cluster_id=self._cluster_id,
            epoch=(await self.cluster_map()).epoch,
            state=state,
            reason=reason,
            pool=self._pool(),
            nodes=tuple(nodes),
        )

    async def cluster_map(self) -> ClusterMap:
        raw = await self._kv.aget(keys.MAP)
        return ClusterMap(epoch=0) if raw is None else decode_map(raw)

    async def watch(self) -> AsyncGenerator[ClusterMap, None]:
        """The map now, and each later one."""
        epoch = -1
        async with contextlib.aclosing(self._kv.watch(keys.MAP)) as changes:  # type: ignore[type-var]
            async for _ in changes:
                cluster = await self.cluster_map()
                if cluster.epoch > epoch:
                    epoch = cluster.epoch
                    yield cluster

    # Registering.

    async def _try_register(self, offer: NodeOffer) -> tuple[int, ...]:
        census, raw_next = await self._census(), await self._kv.aget(keys.OSD_NEXT)
        osds, following = number_disks(offer, census, self._holds)
        checks: list[Check] = [_unchanged(keys.OSD_NEXT, raw_next)]
        writes: list[tuple[bytes, bytes | None]] = []
        if raw_next is None or following != decode_uint(raw_next, 0, 8):
            writes.append((keys.OSD_NEXT, encode_uint(following, 8)))
        for osd, disk in zip(osds, offer.disks, strict=True):
            row, fresh = keys.location(osd), encode(_location(offer, disk))
            raw = census.raw_locations.get(osd)
            if raw != fresh:
                writes.append((row, fresh))
            checks += [_unchanged(row, raw), _unchanged(keys.osd(osd), census.raw_osds.get(osd))]
        if len(writes) > 0:
            await self._kv.commit(checks, writes)
            _log.info("node %s at %s has OSDs %s", offer.node, offer.address, list(osds))
        return osds

    async def _census(self) -> Census:
        """All that is known of numbers."""
        locations = {
            decode_uint(row, len(keys.LOCATIONS), 4): raw
            for row, raw in await self._kv.ascan_prefix(keys.LOCATIONS)
        }
        osds = {
            decode_uint(row, len(keys.OSDS), 4): raw
            for row, raw in await self._kv.ascan_prefix(keys.OSDS)
        }
        used = {int(osd.id) for osd in (await self.cluster_map()).osds}
        for _, raw in await self._kv.ascan_prefix(keys.GROUPS):
            used.update(osd for members in decode_groups(raw) for osd in members)
        for _, raw in await self._kv.ascan_prefix(keys.MOVES):
            used.update(decode_move(raw).former)
        raw_next = await self._kv.aget(keys.OSD_NEXT)
        known: dict[int, Known] = {}
        for osd in locations.keys() | osds.keys():
            location = locations.get(osd)
            device = osds.get(osd)
            known[osd] = Known(
                None if location is None else decode_location(location),
                "" if device is None else decode_osd(device).device_id,
            )
        following = max([0 if raw_next is None else decode_uint(raw_next, 0, 8) - 1, *known, *used])
        first = following + 1 if known or used or raw_next is not None else 0
        return Census(known, first, locations, osds)

    def _check_name(self, offer: NodeOffer) -> None:
        """Two processes of one name would take each other's place for ever. One that was started
        again may have another port, on the same host and for the same disks."""
        known = self._nodes.get(offer.node)
        if known is None or known.offer.address == offer.address or not self._is_alive(known):
            return
        paths = {disk.path for disk in known.offer.disks}
        if known.offer.host != offer.host or paths.isdisjoint(disk.path for disk in offer.disks):
            raise ConfigError(
                f"another node is called {offer.node} and is alive at {known.offer.address}: each "
                "needs a name of its own (node.name)"
            )

    def _is_alive(self, node: _Node) -> bool:
        return time.monotonic() - node.heard_at < self._lease_seconds

    def _holds(self, name: str, osd: int) -> Holding:
        node = self._nodes.get(name)
        if node is None or not self._is_alive(node) or osd not in node.osds:
            return "no"
        report = node.reports.get(osd)
        return "serving" if report is not None and report.state != "down" else "listed"

    def _forget_moved(self, name: str, osds: tuple[int, ...]) -> None:
        for other, node in self._nodes.items():
            if other != name:
                node.osds = tuple(osd for osd in node.osds if osd not in osds)
                for osd in osds:
                    node.reports.pop(osd, None)

    # Status.

    async def _osd_nodes(self) -> list[NodeStatus]:
        """Those that are alive, and those that rows know."""
        by_node: dict[str, dict[int, LocationRecord]] = {
            name: {} for name, node in self._nodes.items() if self._is_alive(node)
        }
        for row, raw in await self._kv.ascan_prefix(keys.LOCATIONS):
            location = decode_location(raw)
            osd = decode_uint(row, len(keys.LOCATIONS), 4)
            by_node.setdefault(location.node, {})[osd] = location
        return [self._node_status(name, locations) for name, locations in sorted(by_node.items())]

    def _node_status(self, name: str, locations: dict[int, LocationRecord]) -> NodeStatus:
        node = self._nodes.get(name)
        alive = node is not None and self._is_alive(node)
        reports = {} if node is None else node.reports
        address = next((location.address for location in locations.values()), "")
        unheard = "nothing was heard of it yet" if alive else "its node is down"
        return NodeStatus(
            node=name,
            role="osd",
            address=address if node is None else node.offer.address,
            alive=alive,
            seen_ms=0 if node is None else _wall_ms(node.heard_at),
            osds=tuple(
                reports[osd]
                if alive and osd in reports
                else OsdReport(osd=osd, state="down", reason=unheard)
                for osd in sorted(locations)
            ),
        )


def _check_offer(offer: NodeOffer, cluster_id: str) -> None:
    if not (offer.node and offer.address and offer.host and offer.rack):
        raise ConfigError("a node has a name and an address, and stands in a host and a rack")
    for what in ("path", "device_id", "osd"):
        values = [getattr(disk, what) for disk in offer.disks]
        given = [value for value in values if value not in ("", None)]
        if len(set(given)) < len(given):
            raise ConfigError(f"two disks of {offer.node} have one {what}")
    for disk in offer.disks:
        if not disk.path or not 0 <= disk.weight < math.inf:
            raise ConfigError(f"{disk.path!r} of {offer.node}: a disk has a path and a weight")
        if disk.cluster_id and disk.cluster_id != cluster_id:
            raise ConfigError(
                f"{disk.path} of {offer.node} belongs to cluster {disk.cluster_id}, and this is "
                f"{cluster_id}: to use it here, wipe it first"
            )


def _location(offer: NodeOffer, disk: DiskOffer) -> LocationRecord:
    return LocationRecord(offer.node, offer.address, disk.path, offer.host, offer.rack, disk.weight)


def _unchanged(row: bytes, raw: bytes | None) -> Check:
    return Absent(row) if raw is None else Equals(row, raw)


def _wall_ms(monotonic: float) -> int:
    return int((time.time() - (time.monotonic() - monotonic)) * 1000)
