"""The devices of the whole cluster, as a process sees them that has none of them, or only some.

Rows say at which process each OSD is (`c/location/`); there is one connection to each process. When
it is lost, all OSDs there are down at that moment: whatever reads or writes goes round them, and
nobody waits for an answer that will not come. When it is back, they are opened again.

An OSD is opened anew when its handle has ended: the device failed and was opened anew over there, or
an item was not answered in time. While the device is a failed one, its old handle goes on reading.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from objectio.abc.metrics import Metrics
from objectio.errors import DeviceFailed, ObjectIOError, Unavailable
from objectio.kv.keys import decode_uint
from objectio.meta import keys
from objectio.meta.records import LocationRecord, decode_location
from objectio.rpc import capabilities
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.shards import RemoteShards, RemoteShardStore
from objectio.rpc.shards_messages import FarSlot
from objectio.store.device_service import ask_replace, ask_slots
from objectio.store.devices import Devices, DeviceSet, Slot, read_old_copy_mark

_RECONNECT_SECONDS_MAX: Final = 0.8
"""The longest pause between two tries to reach a process: it is back about a second after it can be."""
_FIRST_LOOK_SECONDS: Final = 1.0
"""How long a start waits for processes that do not answer."""
_PAUSE_SECONDS_MIN: Final = 0.05
_ASK_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5

_log: Final = logging.getLogger("objectio.store")


class WatchedKV(Protocol):
    """What is needed of a `KVStore` or a `RemoteKV`."""

    async def aget_many(self, keys: list[bytes], /) -> list[bytes | None]: ...

    async def ascan_prefix(self, prefix: bytes, /) -> list[tuple[bytes, bytes]]: ...

    def watch(self, prefix: bytes, /) -> AsyncIterator[Any]: ...


@dataclass(slots=True, kw_only=True)
class RemoteSlot(Slot):
    """A slot of another process. `device_id` is what stood for the OSD when it was last opened here,
    `mark` the row of its refill that was last seen."""

    location: LocationRecord
    device_id: str = ""
    mark: bytes = b""


class _Process:
    """The OSDs of one process, and the connection to it."""

    def __init__(self, devices: RemoteDevices, node: str, address: str) -> None:
        self.slots: dict[int, RemoteSlot] = {}
        self.looked = asyncio.Event()
        """The first try is over."""
        self._devices = devices
        self._name = node
        self.channel = devices.make_channel(node, address)
        self._shards = RemoteShards(self.channel)
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.channel.on_up.append(self._wake.set)
        self.channel.on_down.append(self._down)
        self._shards.on_failed.append(lambda store: self._wake.set())
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._wake.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for slot in self.slots.values():
            store, slot.store = slot.store, None
            self._devices.stores.pop(slot.osd, None)
            if store is not None:
                self._close_soon(store)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._shards.close()
        await self.channel.close()

    async def _run(self) -> None:
        with suppress(ObjectIOError):
            await self.channel.connect(_FIRST_LOOK_SECONDS)
        pause = _PAUSE_SECONDS_MIN
        while True:
            self._wake.clear()
            try:
                all_up = await self.look()
            except Exception:
                _log.exception("looking at the OSDs of %s", self._name)
                all_up = False
            self.looked.set()
            pause = self._devices.check_seconds if all_up else min(2 * pause, _RETRY_SECONDS)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
                pause = _PAUSE_SECONDS_MIN
            except TimeoutError:
                pass

    async def look(self) -> bool:
        """Open what can be opened. Returns whether all of it takes writes."""
        async with self._looking:
            slots = list(self.slots.values())
            if any(slot.store is not None and slot.store.failure is not None for slot in slots):
                with suppress(ObjectIOError):
                    await self._shards.refresh()
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    told = await ask_slots(self.channel)
            except (ObjectIOError, TimeoutError) as error:
                for slot in slots:
                    if slot.store is None:
                        slot.reason = _reason(error)
                return False
            looks = (self._look_at(slot, told.get(slot.osd)) for slot in slots)
            return all(await asyncio.gather(*looks))

    async def _look_at(self, slot: RemoteSlot, there: FarSlot | None) -> bool:
        if there is None:
            there = FarSlot(slot.osd, "", f"{self._name} does not have it")
        store = slot.store
        if store is not None:
            assert isinstance(store, RemoteShardStore)
            if store.device_id == there.device_id and not store.has_ended:
                return store.failure is None
            why = there.reason or str(store.failure or "another device stands for it")
            self._let_go(slot, why)
        if not there.device_id:
            slot.reason = there.reason
            return False
        try:
            return await self._open(slot)
        except ObjectIOError as error:
            slot.reason = _reason(error)
            return False

    async def _open(self, slot: RemoteSlot) -> bool:
        store = await self._shards.open(slot.osd)
        try:
            mark = await self._devices.read_mark(slot)
        except BaseException:
            self._close_soon(store)
            raise
        # What was lost or taken away meanwhile would never be let go of.
        if store.connection is not self.channel.connection or self.slots.get(slot.osd) is not slot:
            self._close_soon(store)
            raise DeviceFailed(f"OSD {slot.osd}: the connection was lost")
        self._devices.take(slot, store, mark)
        return store.failure is None

    def forget(self, slot: RemoteSlot, reason: str) -> None:
        """The OSD is elsewhere from now on, or nowhere."""
        del self.slots[slot.osd]
        if slot.store is not None:
            self._let_go(slot, reason)

    def _down(self, error: BaseException) -> None:
        for slot in list(self.slots.values()):
            if slot.store is not None:
                self._let_go(slot, f"no connection to {self._name}: {error}")

    def _let_go(self, slot: RemoteSlot, reason: str) -> None:
        store = slot.store
        self._devices.let_go(slot, reason)
        if store is not None:
            self._close_soon(store)

    def _close_soon(self, store: Any) -> None:
        """What it was given is still to be answered, or to fail."""
        task = asyncio.get_running_loop().create_task(store.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class RemoteDevices(DeviceSet):
    """Follows the rows that say where OSDs are, in a `KVStore` or a `RemoteKV`.

    `local` are devices of this process, which it starts and stops itself: they stand among the
    others, without a connection.
    """

    def __init__(
        self,
        kv: WatchedKV,
        identity: Identity,
        *,
        tls: ssl.SSLContext | None = None,
        check_seconds: float = 2.0,
        local: Devices | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__()
        self.check_seconds = check_seconds
        self._kv = kv
        self._identity = identity
        self._tls = tls
        self._local = local
        self._metrics = metrics
        self._remote: dict[int, RemoteSlot] = {}
        self._processes: dict[tuple[str, str], _Process] = {}
        """By node and address."""
        self._ending: set[asyncio.Task[None]] = set()
        self._follower: asyncio.Task[None] | None = None
        if local is not None:
            local.listen(self)
            local.listen_for_old_copies(self._is_old_copy)

    # Life.

    async def start(self) -> None:
        """Returns when each process has answered, or did not for a second."""
        if self._local is not None:
            self.stores.update(self._local.stores)
        self._list_slots()
        await self._try_to_read_locations()
        self._follower = asyncio.get_running_loop().create_task(self._follow())
        first = [process.looked.wait() for process in self._processes.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _FIRST_LOOK_SECONDS):
                await asyncio.gather(*first)

    async def stop(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        processes = list(self._processes.values())
        self._processes.clear()
        await asyncio.gather(*(process.close() for process in processes), *self._ending)
        self.stores.clear()

    async def look(self) -> None:
        looks = [process.look() for process in self._processes.values()]
        if self._local is not None:
            await self._local.look()
        await asyncio.gather(*looks)

    async def replace(self, osd: int) -> None:
        """As `Devices.replace`, at the process that has the OSD. Raises `Unavailable` where that
        cannot be reached."""
        slot = self.slot(osd)
        if not isinstance(slot, RemoteSlot):
            assert self._local is not None
            await self._local.replace(osd)
            return
        process = self._processes[slot.location.node, slot.location.address]
        await ask_replace(process.channel, osd)
        await process.look()

    # Where they are.

    async def _follow(self) -> None:
        async for _ in self._kv.watch(keys.LOCATIONS):
            while not await self._try_to_read_locations():
                await asyncio.sleep(_RETRY_SECONDS)

    async def _try_to_read_locations(self) -> bool:
        try:
            await self._read_locations()
        except Unavailable as error:
            _log.info("asking where OSDs are: %s", error)
        except Exception:
            _log.exception("asking where OSDs are")
        else:
            return True
        return False

    async def _read_locations(self) -> None:
        rows = await self._kv.ascan_prefix(keys.LOCATIONS)
        here = set() if self._local is None else {slot.osd for slot in self._local.slots}
        found = {
            osd: decode_location(raw)
            for row, raw in rows
            for osd in (decode_uint(row, len(keys.LOCATIONS), 4),)
            if osd not in here
        }
        for osd in self._remote.keys() - found.keys():
            self._forget(self._remote.pop(osd), "it is not in the cluster any more")
        for osd, location in found.items():
            self._place(osd, location)
        self._end(
            self._processes.pop(where)
            for where, process in list(self._processes.items())
            if not process.slots
        )
        self._list_slots()

    def _place(self, osd: int, location: LocationRecord) -> None:
        slot, where = self._remote.get(osd), (location.node, location.address)
        if slot is not None and where == (slot.location.node, slot.location.address):
            slot.location, slot.path = location, location.path
            return
        if slot is None:
            slot = RemoteSlot(osd, location.path, location=location)
            self._remote[osd] = slot
        else:
            self._forget(slot, f"it is at {location.address} now")
            slot.location, slot.path = location, location.path
        process = self._processes.get(where)
        if process is None:
            process = self._processes[where] = _Process(self, *where)
        process.slots[osd] = slot
        process.wake()

    def _forget(self, slot: RemoteSlot, reason: str) -> None:
        process = self._processes[slot.location.node, slot.location.address]
        process.forget(slot, reason)
        slot.reason = reason

    def _end(self, processes: Iterable[_Process]) -> None:
        for process in processes:
            task = asyncio.get_running_loop().create_task(process.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _list_slots(self) -> None:
        slots: list[Slot] = [] if self._local is None else list(self._local.slots)
        slots += self._remote.values()
        self.slots[:] = sorted(slots, key=lambda slot: slot.osd)

    # For processes.

    def make_channel(self, node: str, address: str) -> Channel:
        return Channel(
            address,
            self._identity,
            wanted_role="osd",
            wanted_node=node,
            needs=[capabilities.SHARDS],
            tls=None if address.startswith("unix:") else self._tls,
            metrics=self._metrics,
            backoff_seconds_max=_RECONNECT_SECONDS_MAX,
        )

    async def read_mark(self, slot: RemoteSlot) -> bytes:
        """The row by which the OSD is refilled, empty if there is none. Where the metadata cannot be
        reached it is taken to be as it was."""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                [mark] = await self._kv.aget_many([keys.refill(slot.osd)])
        except (Unavailable, TimeoutError):
            return slot.mark
        return mark or b""

    def take(self, slot: RemoteSlot, store: RemoteShardStore, mark: bytes) -> None:
        """The OSD is in service."""
        is_new = mark != slot.mark and not mark.startswith(keys.BLOBS)  # else it only went on
        other = slot.device_id not in ("", store.device_id)
        slot.device_id, slot.mark = store.device_id, mark
        slot.store, slot.reason = store, ""
        self.stores[slot.osd] = store
        self._is_up(slot.osd, blank=other or (is_new and bool(mark)))
        if is_new and (old_copy := read_old_copy_mark(mark)) is not None:
            self._is_old_copy(slot.osd, *old_copy)

    def let_go(self, slot: RemoteSlot, reason: str) -> None:
        slot.store, slot.reason = None, reason
        self.stores.pop(slot.osd, None)
        self._is_down(slot.osd, reason)

    # Of local devices.

    def up(self, osd: int, *, blank: bool) -> None:
        assert self._local is not None
        self.stores[osd] = self._local.stores[osd]
        self._is_up(osd, blank=blank)

    def down(self, osd: int, reason: str) -> None:
        self.stores.pop(osd, None)
        for listener in self._listeners:  # it is in the log already
            listener.down(osd, reason)


def _reason(error: BaseException) -> str:
    words = str(error) or type(error).__name__
    return f"{words}: {error.__cause__}" if error.__cause__ is not None else words
