"""The devices of the store: which OSD is up, and getting one back that went away.

A slot stands for an OSD; the device in it may fail, vanish, come back, or be replaced by a blank
one. Every few seconds each slot is looked at: a device that is gone is let go, one that answers
again is opened, and a blank one, where the configuration or an operator allows it, is prepared and
announced for refilling.

Each device counts how often it was opened, and the metadata remembers the last count. The device
counts first, so a crash between the two leaves it ahead, never behind: one that is behind what is
remembered is an old copy, restored from an image. That is written down before it is opened, and it
counts on from what is remembered, so that the next one, or the disk itself, is behind it in turn. What
such a copy has is good, for shards never change and each verifies itself; but it lacks what was
written since, and has what was deleted since.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from objectio.abc.kv import Absent, Equals
from objectio.abc.shardstore import ShardStore, ShardStoreFactory, StoreState
from objectio.errors import (
    CommitConflict,
    ConfigError,
    DeviceFailed,
    InvalidRequest,
    NotFound,
    ObjectIOError,
)
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import OsdRecord, decode_osd, encode

_log: Final = logging.getLogger("objectio.store")


class Listener(Protocol):
    """Hears of slots; called on the event loop."""

    def up(self, osd: int, *, blank: bool) -> None: ...

    def down(self, osd: int, reason: str) -> None: ...


OldCopy = Callable[[int, int, int], None]
"""Told of an OSD, how often its device had been opened, and how often at least it should have been."""


def old_copy_mark(device_id: str, opens: int, expected: int) -> bytes:
    """The row by which an old copy is refilled; see `read_old_copy_mark`."""
    return f"{device_id} {expected} {opens}".encode()


def read_old_copy_mark(mark: bytes) -> tuple[int, int] | None:
    """How often it was opened, and how often at least it should have been; None if the row says
    something else."""
    words = mark.split()
    if mark.startswith(keys.BLOBS) or len(words) != 3:
        return None
    return int(words[2]), int(words[1])


@dataclass(slots=True)
class Slot:
    """`replace_blank`: a blank device in place of a known one is taken into service by itself."""

    osd: int
    path: str
    size_bytes: int | None = None
    replace_blank: bool = False
    store: ShardStore | None = None
    reason: str = "not opened yet"
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Held by whoever opens or lets go of the device."""


class DeviceSet(ABC):
    """Opened shard stores by OSD id, of this process or of others. `stores` maps only those that can
    be read."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.stores: dict[int, ShardStore] = {}
        self._listeners: list[Listener] = []
        self._on_old_copy: list[OldCopy] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def listen_for_old_copies(self, told: OldCopy) -> None:
        """`told` is called once the device is in service."""
        self._on_old_copy.append(told)

    def slot(self, osd: int) -> Slot:
        for slot in self.slots:
            if slot.osd == osd:
                return slot
        raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd", osd=osd)

    @abstractmethod
    async def start(self) -> None:
        """Open what can be opened. A device that cannot is down, which is no error here."""

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def look(self) -> None:
        """One look at every slot."""

    @abstractmethod
    async def replace(self, osd: int) -> None:
        """Take the blank device that is at the OSD's path now into service, in place of the one that
        stood for it. Raises `InvalidRequest` where that would not be right."""

    def _is_up(self, osd: int, *, blank: bool) -> None:
        for listener in self._listeners:
            listener.up(osd, blank=blank)

    def _is_down(self, osd: int, reason: str) -> None:
        _log.warning("OSD %d is down: %s", osd, reason)
        for listener in self._listeners:
            listener.down(osd, reason)

    def _is_old_copy(self, osd: int, opens: int, expected: int) -> None:
        _log.error(
            "OSD %d came back as an old copy of its device (opened %d times, which should be %d at "
            "least): was an image or a backup restored? What it lacks is made anew",
            osd,
            opens,
            expected,
        )
        for told in self._on_old_copy:
            told(osd, opens, expected)


class Devices(DeviceSet):
    """The devices of this process."""

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
        super().__init__()
        self.slots = slots
        self._kv = kv
        self._factory = factory
        self._cluster_id = cluster_id
        self._wrap = wrap
        self._check_seconds = check_seconds
        self._old_copies: dict[int, tuple[int, int]] = {}
        """Of devices that are about to be in service: opens, and how many at least there should be."""
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
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
        for slot in self.slots:
            try:
                async with slot.turn:
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

    async def replace(self, osd: int) -> None:
        slot = self.slot(osd)
        async with slot.turn:
            before = await self._kv.aget(keys.osd(osd))
            await self._look_at(slot)  # the old one may be gone without anybody having looked
            if slot.store is not None:
                if before and slot.store.device_id != decode_osd(before).device_id:
                    return  # the configuration allows it, so the look has done it
                raise InvalidRequest(
                    f"OSD {osd} is in service with device {slot.store.device_id}: there is nothing "
                    f"to replace. To take the disk out, drain it first: objectio disk drain {osd}"
                )
            if slot.size_bytes is None and not await asyncio.to_thread(Path(slot.path).exists):
                raise InvalidRequest(
                    f"there is nothing at {slot.path}: mount the file system of the new disk there, "
                    "or make the directory"
                )
            try:
                blank = await self._open(slot, replace=True)
            except (ObjectIOError, OSError) as error:
                reason = getattr(error, "message", "") or str(error)
                raise InvalidRequest(f"OSD {osd} was not replaced: {reason}") from error
            self._in_service(slot, blank=blank)
            if not blank:  # it came back in this very moment
                raise InvalidRequest(
                    f"{slot.path} holds the device that stands for OSD {osd} already: it is in "
                    "service again, with what it has"
                )

    async def _let_go(self, slot: Slot, reason: str) -> None:
        store, slot.store, slot.reason = slot.store, None, reason
        self.stores.pop(slot.osd, None)
        self._is_down(slot.osd, reason)
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
        self._in_service(slot, blank=blank)

    def _in_service(self, slot: Slot, *, blank: bool) -> None:
        assert slot.store is not None
        slot.reason = ""
        self.stores[slot.osd] = slot.store
        self._is_up(slot.osd, blank=blank)
        if slot.osd in self._old_copies:
            self._is_old_copy(slot.osd, *self._old_copies.pop(slot.osd))

    async def _open(self, slot: Slot, *, replace: bool = False) -> bool:
        """Open the slot's device, prepared if need be. Returns whether it was blank."""
        replace = replace or slot.replace_blank
        found = await asyncio.to_thread(self._factory.probe, slot.path)
        row = keys.osd(slot.osd)
        raw = await self._kv.aget(row)
        blank = found is None
        if found is None:
            if raw is not None and not replace:
                raise ConfigError(
                    f"{slot.path} is blank, but OSD {slot.osd} has data in the cluster. If a file "
                    "system is not mounted, mount it; if the disk was replaced on purpose, say so: "
                    f"objectio disk replace {slot.osd}"
                )
            found = await asyncio.to_thread(
                lambda: self._factory.prepare(
                    slot.path, cluster_id=self._cluster_id, size_bytes=slot.size_bytes
                )
            )
            await self._take_in(slot.osd, found, raw)
        elif raw is None or decode_osd(raw).device_id != found:
            if (raw is None or replace) and await self._was_prepared(slot, found):
                await self._take_in(slot.osd, found, raw)
                await self._open(slot)
                await self._forget(raw)
                return raw is not None
            known = "no device" if raw is None else f"device {decode_osd(raw).device_id}"
            raise ConfigError(
                f"{slot.path} holds device {found}, but the cluster has {known} as OSD {slot.osd}. "
                "Were disks swapped? Give each its own path again"
            )
        opens_min = await self._mark_old_copy(slot)
        store = await self._factory.open(
            slot.path, cluster_id=self._cluster_id, opens_min=opens_min
        )
        try:
            await self._count_opens(slot.osd, store)
        except BaseException:
            await store.close()
            raise
        if blank:
            await self._forget(raw)
        slot.store = store if self._wrap is None else self._wrap(slot.osd, store)
        return blank and raw is not None

    async def _forget(self, raw: bytes | None) -> None:
        """Let go of what this node keeps of the device that stood for the OSD before."""
        device_id = "" if raw is None else decode_osd(raw).device_id
        if device_id:  # else it was never in service
            await asyncio.to_thread(self._factory.forget, device_id)

    async def _take_in(self, osd: int, device_id: str, raw: bytes | None) -> None:
        """Write down which device stands for the OSD from now on; one that takes another's place
        is to be refilled."""
        row = keys.osd(osd)
        check = Absent(row) if raw is None else Equals(row, raw)
        record = OsdRecord(device_id)
        if raw is not None:
            record = OsdRecord(device_id, membership=decode_osd(raw).membership)
        writes: list[tuple[bytes, bytes | None]] = [(row, encode(record))]
        if raw is not None:
            writes.append((keys.refill(osd), device_id.encode()))  # a walk of its own
        await self._kv.commit([check], writes)

    async def _was_prepared(self, slot: Slot, device_id: str) -> bool:
        """Whether the device was prepared for this slot, by hand or by a process that died before
        it could write that down: it is empty, of this cluster, and no OSD's."""
        rows = await self._kv.ascan_prefix(keys.OSDS)
        if any(decode_osd(each).device_id == device_id for _, each in rows):
            return False
        store = await self._factory.open(slot.path, cluster_id=self._cluster_id)
        try:
            return store.usage().shards == 0
        finally:
            await store.close()

    async def _mark_old_copy(self, slot: Slot) -> int:
        """Before it is opened, which counts: an old copy gets a walk that finds what it lacks, and is
        counted on from what is remembered, so that it is behind nobody's, and the next one behind it."""
        row = keys.osd(slot.osd)
        seen = await asyncio.to_thread(self._factory.opens_of, slot.path)
        while True:
            raw = await self._kv.aget(row)
            assert raw is not None, "it was taken in"
            record = decode_osd(raw)
            if seen >= record.opens:
                return record.opens
            mark = old_copy_mark(record.device_id, seen + 1, record.opens + 1)
            try:
                await self._kv.commit([Equals(row, raw)], [(keys.refill(slot.osd), mark)])
            except CommitConflict:
                continue
            self._old_copies[slot.osd] = (seen + 1, record.opens + 1)
            return record.opens

    async def _count_opens(self, osd: int, store: ShardStore) -> None:
        """Remember how often the device was opened."""
        row, opens = keys.osd(osd), store.opens
        while opens:
            raw = await self._kv.aget(row)
            assert raw is not None, "it was taken in"
            record = decode_osd(raw)
            writes: list[tuple[bytes, bytes | None]] = [
                (row, encode(msgspec.structs.replace(record, opens=opens)))
            ]
            try:
                await self._kv.commit([Equals(row, raw)], writes)
            except CommitConflict:
                continue  # its membership changed meanwhile
            return
