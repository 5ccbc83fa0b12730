"""The OSD role: the devices of this process, for itself or for the processes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.config.schema import NUMBER_UNKNOWN
from objectio.errors import ConfigError
from objectio.osd.member import Member
from objectio.store.devices import Devices, Slot


class OsdService:
    """Provides `devices`. Where the metadata is another process', they are served to others."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._devices: Devices | None = None
        self._member: Member | None = None

    async def start(self) -> None:
        parts = self._parts
        if parts.has("link"):
            self._member = Member(parts)
            self._announce(self._member.devices)
            await self._member.start()
            return
        config = parts.config
        if config.osd.listen:
            raise ConfigError(
                f"{config.origin}: osd.listen is set, but the disks of a process that has the metadata "
                "are for itself only: run `objectio osd` for disks that others use, or leave it empty"
            )
        if any(disk.id == NUMBER_UNKNOWN for disk in config.osd.disk):
            raise ConfigError(
                f"{config.origin}: every [[osd.disk]] needs an id, which is its number in the "
                "cluster: 0, 1, 2, …"
            )
        slots = [
            Slot(
                disk.id,
                str(config.disk_path(disk)),
                disk.size_bytes or None,
                disk.replace_blank,
            )
            for disk in config.osd.disk
        ]
        self._devices = Devices(
            parts.part("kv"),
            parts.open_shardstores(),
            slots,
            parts.part("cluster").cluster_id,
            wrap=parts.wrap_shardstore,
            check_seconds=config.osd.check_seconds,
        )
        self._announce(self._devices)
        await self._devices.start()

    def _announce(self, devices: Devices) -> None:
        devices.listen(self._parts.events)
        devices.listen_for_old_copies(self._parts.events.old_copy)
        self._parts.provide("devices", devices)

    async def stop(self) -> None:
        if self._member is not None:
            await self._member.stop()
        if self._devices is not None:
            await self._devices.stop()

    def health(self) -> Mapping[str, Any]:
        if self._member is not None:
            return self._member.health()
        slots = [] if self._devices is None else self._devices.slots
        down = {str(slot.osd): slot.reason for slot in slots if slot.store is None}
        return {"ok": len(down) < len(slots), "down": down}


class OsdRole:
    after = ("meta",)

    def build(self, parts: NodeParts, context: Context) -> Service:
        return OsdService(parts)


DRIVER = Driver(
    name="osd",
    config=NoConfig,
    open=lambda config, context: OsdRole(),
    summary="Keeps shards on devices",
)
