"""What other processes may ask of the process that has the devices, beside shards: which OSDs it has
and why some are down, and that a blank device be taken into service."""

from __future__ import annotations

from typing import Final

from objectio.errors import AccessDenied
from objectio.rpc.client import Channel
from objectio.rpc.dispatch import Incoming
from objectio.rpc.messages import pack
from objectio.rpc.server import Server
from objectio.rpc.shards_messages import FarSlot, Method, Replace, unpack_replace, unpack_slots
from objectio.store.devices import Devices

REPLACE_SECONDS: Final = 120.0
"""A large disk that was written to before is looked through first."""


class DeviceService:
    """Adds its methods to the server."""

    def __init__(self, server: Server, devices: Devices) -> None:
        self._devices = devices
        server.add(Method.SLOTS, self._slots)
        server.add(Method.REPLACE, self._replace)

    def _slots(self, call: Incoming) -> None:
        slots = [
            FarSlot(slot.osd, "" if slot.store is None else slot.store.device_id, slot.reason)
            for slot in self._devices.slots
        ]
        call.reply(b"", [pack(slots)])

    async def _replace(self, call: Incoming) -> None:
        """Only at the word of the process that keeps the store in order."""
        if call.peer.role != "meta":
            raise AccessDenied(f"a {call.peer.role} does not replace devices")
        await self._devices.replace(unpack_replace(call.head).osd)
        call.reply()


async def ask_slots(channel: Channel) -> dict[int, FarSlot]:
    """The OSDs of the process at the end of a channel."""
    reply = await channel.call(Method.SLOTS)
    found: list[FarSlot] = unpack_slots(reply.payload)
    return {slot.osd: slot for slot in found}


async def ask_replace(channel: Channel, osd: int) -> None:
    """As `DeviceSet.replace`."""
    await channel.call(Method.REPLACE, pack(Replace(osd)), timeout_seconds=REPLACE_SECONDS)
