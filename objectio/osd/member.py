"""The devices of a process whose metadata is in another: offered to the cluster, and served to it.

The process with the metadata says which numbers the disks have; then they are opened as devices of
any process are, over its key-value store. It may be away at any time: what is open goes on being
served, what is not waits, and a process that it does not know any more offers its disks again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from objectio.abc.cluster import DiskOffer, NodeOffer, OsdReport, Registration
from objectio.abc.role import NodeParts
from objectio.abc.shardstore import StoreState
from objectio.config.schema import NUMBER_UNKNOWN, DiskSection
from objectio.errors import ConfigError, NotFound, ObjectIOError
from objectio.kv.keys import decode_uint
from objectio.meta import keys
from objectio.meta.records import decode_location, decode_osd
from objectio.rpc.address import parse_address
from objectio.rpc.server import Server
from objectio.rpc.shards_service import ShardService
from objectio.store.device_service import DeviceService
from objectio.store.devices import Devices, Slot

START_SECONDS: Final = 10.0
"""How long a start waits for the cluster; after that the process runs, and goes on trying."""
_ASK_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0
_PAUSE_SECONDS_MIN: Final = 0.1
_PAUSE_SECONDS_MAX: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 10.0
"""How often a disk is looked at that cannot be offered."""
_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - to be refused
_ROLES: Final = ("gateway", "meta")
"""Who may read and write shards."""

_log: Final = logging.getLogger("objectio.osd")


class _Offered(NamedTuple):
    disk: DiskSection
    offer: DiskOffer


class Member:
    """One process with devices. `start` returns when they are served, or after some seconds."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._config = parts.config
        self._node: str = parts.config.node.name
        self._link = parts.part("link")
        self._cluster_id: str = parts.part("cluster").cluster_id
        self._factory = parts.open_shardstores()
        self.devices = Devices(
            parts.part("kv"),
            self._factory,
            [],
            self._cluster_id,
            wrap=parts.wrap_shardstore,
            check_seconds=parts.config.osd.check_seconds,
        )
        self.devices.listen(self)
        self.address = ""
        """What others connect to."""
        self.registered = False
        self._left_out: dict[str, str] = {}
        """Paths of disks that cannot be offered, and why."""
        self._server: Server | None = None
        self._changed = asyncio.Event()
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # Life.

    async def start(self) -> None:
        await self._listen()
        self._task = asyncio.get_running_loop().create_task(self._run())
        joined = asyncio.ensure_future(self._joined.wait())
        await asyncio.wait(
            [joined, self._task], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        joined.cancel()
        if self._task.done():
            self._task.result()  # it ends only by an error
        if not self._joined.is_set():
            _log.warning("the disks are not in the cluster yet; this goes on in the background")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        await self.devices.stop()
        if self.registered:  # nobody need wait until it was not heard of for long
            gone = [
                OsdReport(osd=slot.osd, state="down", reason="its process was stopped")
                for slot in self.devices.slots
            ]
            with suppress(ObjectIOError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._link.heartbeat(self._node, gone)

    async def _listen(self) -> None:
        section = self._config.osd
        if not section.listen:
            raise ConfigError(
                f"{self._config.origin}: set osd.listen: the other processes of the cluster must "
                "reach these disks"
            )
        wanted = parse_address(section.listen)
        if wanted.host in _ANYWHERE and not section.address:
            raise ConfigError(
                f"{self._config.origin}: osd.listen = {section.listen!r} is no address to connect "
                "to: set osd.address to what others reach this machine by"
            )
        identity = self._parts.part("identity")
        self._server = Server(identity, roles=_ROLES, metrics=self._parts.metrics)
        ShardService(self._server, self.devices.stores)
        DeviceService(self._server, self.devices)
        tls = None if wanted.path else self._parts.part("server_tls")
        taken = await self._server.listen(section.listen, tls)
        if wanted.path:  # others may be in another directory
            taken = f"unix:{Path(wanted.path).absolute()}"
        self.address = section.address or taken

    # Being a part of the cluster.

    async def _run(self) -> None:
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                registration = await self._register()
                pause = _PAUSE_SECONDS_MIN
                self.registered = True
                self._joined.set()
                await self._beat(registration.heartbeat_seconds)
                await asyncio.sleep(pause)
                continue
            except ConfigError as error:
                if not self._joined.is_set():
                    raise
                _log.error("the disks are not in the cluster any more: %s", error)
            except (ObjectIOError, TimeoutError, OSError) as error:
                _log.info("offering the disks: %s", str(error) or type(error).__name__)
            except Exception:
                _log.exception("offering the disks")
            self.registered = False
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    async def _register(self) -> Registration:
        offered = await self._probe()
        osd = self._config.osd
        offer = NodeOffer(
            node=self._node,
            address=self.address,
            host=osd.host or socket.gethostname(),
            rack=osd.rack,
            disks=tuple(each.offer for each in offered),
        )
        async with asyncio.timeout(_ASK_SECONDS):
            registration: Registration = await self._link.register(offer)
        if registration.cluster_id != self._cluster_id:
            raise ConfigError(
                f"the metadata are those of cluster {registration.cluster_id} by now, and this "
                f"process is a part of cluster {self._cluster_id}"
            )
        await self._take(offered, registration.osds)
        return registration

    async def _take(self, offered: list[_Offered], osds: tuple[int, ...]) -> None:
        """The disks have these numbers: open those that are not open yet."""
        known = {slot.path: slot for slot in self.devices.slots}
        first = not known
        for each, osd in zip(offered, osds, strict=True):
            slot = known.get(each.offer.path)
            if slot is None:
                size_bytes = each.disk.size_bytes or None
                slot = Slot(osd, each.offer.path, size_bytes, each.disk.replace_blank)
                self.devices.slots.append(slot)
            elif slot.osd != osd:
                raise ConfigError(f"{slot.path} is OSD {slot.osd}, and OSD {osd} for the cluster")
        if first:
            await self.devices.start()
        else:
            await self.devices.look()

    async def _beat(self, seconds: float) -> None:
        """Say every now and then, and when anything changes, how the disks are. Returns when they
        are to be offered again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LOOK_AGAIN_SECONDS
        while not self._left_out or loop.time() < until:
            self._changed.clear()
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    await self._link.heartbeat(self._node, self._reports())
            except NotFound:
                self.registered = False
                return
            except (ObjectIOError, TimeoutError) as error:
                _log.debug("saying how the disks are: %s", error)
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def up(self, osd: int, *, blank: bool) -> None:
        self._changed.set()

    def down(self, osd: int, reason: str) -> None:
        self._changed.set()

    def _reports(self) -> list[OsdReport]:
        return [_report(slot) for slot in self.devices.slots]

    # Which disks there are.

    async def _probe(self) -> list[_Offered]:
        """The disks that can be offered. Raises `ConfigError` if there is none."""
        known, numbers = await self._known_paths(), await self._numbers()
        open_ = {slot.path: slot.store for slot in self.devices.slots if slot.store is not None}
        offered: list[_Offered] = []
        left_out: dict[str, str] = {}
        for disk in self._config.osd.disk:
            path = str(self._config.disk_path(disk))
            try:
                if (store := open_.get(path)) is not None:
                    device_id = store.device_id
                else:
                    device_id = await asyncio.to_thread(self._look_at, path)
            except (ObjectIOError, OSError) as error:
                if disk.id == NUMBER_UNKNOWN and path not in known:
                    # It would get a number, and perhaps has one.
                    left_out[path] = str(error)
                    continue
                device_id = ""
            if disk.id not in (NUMBER_UNKNOWN, numbers.get(device_id, disk.id)):
                # Swapped: it is opened by its own number, refused then, and stays down with a reason.
                device_id = ""
            offer = DiskOffer(
                path=path,
                device_id=device_id,
                cluster_id=self._cluster_id if device_id else "",
                osd=None if disk.id == NUMBER_UNKNOWN else disk.id,
                weight=disk.weight,
            )
            offered.append(_Offered(disk, offer))
        for path, reason in left_out.items():
            if reason != self._left_out.get(path):
                _log.error("the disk %s is left out: %s", path, reason)
        self._left_out = left_out
        if not offered:
            reasons = "; ".join(left_out.values()) or "there is no [[osd.disk]]"
            raise ConfigError(f"{self._config.origin}: no disk to offer: {reasons}")
        return offered

    def _look_at(self, path: str) -> str:
        """The id of the device, empty for a blank disk. Blocking."""
        device_id = self._factory.probe(path)
        if device_id is None:
            return ""
        cluster_id = self._factory.cluster_of(path)
        if cluster_id != self._cluster_id:
            raise ConfigError(
                f"{path} is a device of cluster {cluster_id}, and this is cluster "
                f"{self._cluster_id}; it is left alone"
            )
        return device_id

    async def _known_paths(self) -> set[str]:
        """Those of this process at which the cluster has OSDs."""
        rows = await self._parts.part("kv").ascan_prefix(keys.LOCATIONS)
        places = [decode_location(raw) for _, raw in rows]
        return {place.path for place in places if place.node == self._node}

    async def _numbers(self) -> dict[str, int]:
        """Of the OSDs, by the devices that stand for them."""
        rows = await self._parts.part("kv").ascan_prefix(keys.OSDS)
        return {decode_osd(raw).device_id: decode_uint(row, len(keys.OSDS), 4) for row, raw in rows}

    def health(self) -> Mapping[str, Any]:
        slots = self.devices.slots
        down = {str(slot.osd): slot.reason for slot in slots if slot.store is None}
        return {
            "ok": len(down) < len(slots),
            "degraded": bool(down or self._left_out or not self.registered),
            "registered": self.registered,
            "address": self.address,
            "down": down,
            "left_out": dict(self._left_out),
        }


def _report(slot: Slot) -> OsdReport:
    store = slot.store
    if store is None or store.state is StoreState.CLOSED:
        return OsdReport(osd=slot.osd, state="down", reason=slot.reason)
    usage = store.usage()
    return OsdReport(
        osd=slot.osd,
        state=store.state.value,
        reason="" if store.failure is None else str(store.failure),
        device_id=store.device_id,
        capacity_bytes=usage.capacity_bytes,
        used_bytes=usage.used_bytes,
    )
