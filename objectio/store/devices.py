"""The devices of the store: which OSD is up, and getting one back that went away.

A slot stands for an OSD; the device in it may fail, vanish, come back, or be replaced by a blank
one. Every few seconds each slot is looked at: a device that is gone is let go, one that answers
again is opened, and a blank one, where the configuration allows it, is prepared and announced for
refilling.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from objectio.abc.kv import Absent, Equals
from objectio.abc.shardstore import ShardStore, ShardStoreFactory, StoreState
from objectio.errors import ConfigError, DeviceFailed, ObjectIOError
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import OsdRecord, decode_osd, encode

_log: Final = logging.getLogger("objectio.store")


class Listener(Protocol):
    """Hears of slots; called on the event loop."""

    def up(self, osd: int, *, blank: bool) -> None: ...

    def down(self, osd: int, reason: str) -> None: ...


@dataclass(slots=True)
class Slot:
    """`replace_blank`: a blank device in place of a known one is taken into service by itself."""

    osd: int
    path: str
    size_bytes: int | None = None
    replace_blank: bool = False
    store: ShardStore | None = None
    reason: str = "not opened yet"


class Devices:
    """Opened shard stores by OSD id. `stores` maps only those that can be read."""

    def __init__(
        self,
        kv: KVStore,
        factory: ShardStoreFactory,
        slots: list[Slot],
        cluster_id: str,
        *,
        wrap: Callable[[int, ShardStore], ShardStore] | None = None,
        check_seconds: float = 2.0,
    ) -> None:
        self.slots = slots
        self.stores: dict[int, ShardStore] = {}
        self._kv = kv
        self._factory = factory
        self._cluster_id = cluster_id
        self._wrap = wrap
        self._check_seconds = check_seconds
        self._listeners: list[Listener] = []
        self._watch: asyncio.Task[None] | None = None

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        """Open what can be opened. A device that cannot is down, which is no error here."""
        await asyncio.gather(*(self._try_open(slot) for slot in self.slots))
        self._watch = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        stores = list(self.stores.values())
        self.stores.clear()
        await asyncio.gather(*(store.close() for store in stores))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            await self.look()

    async def look(self) -> None:
        """One look at every slot."""
        for slot in self.slots:
            try:
                await self._look_at(slot)
            except Exception:
                _log.exception("looking at OSD %d", slot.osd)

    async def _look_at(self, slot: Slot) -> None:
        store = slot.store
        if store is None:
            await self._try_open(slot)
            return
        try:
            await store.check()
        except DeviceFailed as error:
            if error.fields.get("gone"):
                await self._let_go(slot, error.message)
            return
        if store.state is StoreState.FAILED:  # and yet it answers again: open it anew
            await self._let_go(slot, str(store.failure))
            await self._try_open(slot)

    async def _let_go(self, slot: Slot, reason: str) -> None:
        store, slot.store, slot.reason = slot.store, None, reason
        self.stores.pop(slot.osd, None)
        _log.warning("OSD %d is down: %s", slot.osd, reason)
        for listener in self._listeners:
            listener.down(slot.osd, reason)
        if store is not None:
            await store.close()

    async def _try_open(self, slot: Slot) -> None:
        try:
            blank = await self._open(slot)
        except (ObjectIOError, OSError) as error:
            reason = getattr(error, "message", "") or str(error)
            if reason != slot.reason:
                _log.warning("OSD %d stays down: %s", slot.osd, reason)
            slot.reason = reason
            return
        assert slot.store is not None
        slot.reason = ""
        self.stores[slot.osd] = slot.store
        for listener in self._listeners:
            listener.up(slot.osd, blank=blank)

    async def _open(self, slot: Slot) -> bool:
        """Open the slot's device, prepared if need be. Returns whether it was blank."""
        found = await asyncio.to_thread(self._factory.probe, slot.path)
        row = keys.osd(slot.osd)
        raw = await self._kv.aget(row)
        blank = found is None
        if found is None:
            if raw is not None and not slot.replace_blank:
                raise ConfigError(
                    f"{slot.path} is blank, but OSD {slot.osd} has data in the cluster. If the disk "
                    "was replaced on purpose, set `replace_blank = true` for it; if a file system "
                    "is not mounted, mount it"
                )
            found = await asyncio.to_thread(
                lambda: self._factory.prepare(
                    slot.path, cluster_id=self._cluster_id, size_bytes=slot.size_bytes
                )
            )
            await self._take_in(slot.osd, found, raw)
        elif raw is None or decode_osd(raw).device_id != found:
            if await self._was_prepared(slot, found, raw):
                await self._take_in(slot.osd, found, raw)
                return await self._open(slot) or raw is not None
            known = "no device" if raw is None else f"device {decode_osd(raw).device_id}"
            raise ConfigError(
                f"{slot.path} holds device {found}, but the cluster has {known} as OSD {slot.osd}. "
                "Were disks swapped? Give each its own path again"
            )
        store = await self._factory.open(slot.path, cluster_id=self._cluster_id)
        if blank and raw is not None:
            await asyncio.to_thread(self._factory.forget, decode_osd(raw).device_id)
        slot.store = store if self._wrap is None else self._wrap(slot.osd, store)
        return blank and raw is not None

    async def _take_in(self, osd: int, device_id: str, raw: bytes | None) -> None:
        """Write down which device stands for the OSD from now on; one that takes another's place
        is to be refilled."""
        row = keys.osd(osd)
        check = Absent(row) if raw is None else Equals(row, raw)
        writes: list[tuple[bytes, bytes | None]] = [(row, encode(OsdRecord(device_id)))]
        if raw is not None:
            writes.append((keys.refill(osd), device_id.encode()))  # a walk of its own
        await self._kv.commit([check], writes)

    async def _was_prepared(self, slot: Slot, device_id: str, raw: bytes | None) -> bool:
        """Whether the device was prepared for this slot by a process that died before it could
        write that down: it is empty, of this cluster, no OSD's, and would have been prepared."""
        if raw is not None and not slot.replace_blank:
            return False
        rows = await self._kv.ascan_prefix(keys.OSDS)
        if any(decode_osd(each).device_id == device_id for _, each in rows):
            return False
        store = await self._factory.open(slot.path, cluster_id=self._cluster_id)
        try:
            return store.usage().shards == 0
        finally:
            await store.close()
