"""The OSD role: the devices of this node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.config.schema import NUMBER_UNKNOWN
from objectio.errors import ConfigError
from objectio.store.devices import Devices, Slot


class OsdService:
    """Provides `devices`."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._devices: Devices | None = None

    async def start(self) -> None:
        parts, config = self._parts, self._parts.config
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
        self._devices.listen(parts.events)
        self._devices.listen_for_old_copies(parts.events.old_copy)
        await self._devices.start()
        parts.provide("devices", self._devices)

    async def stop(self) -> None:
        if self._devices is not None:
            await self._devices.stop()

    def health(self) -> Mapping[str, Any]:
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
