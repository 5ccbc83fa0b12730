"""What operators see of the store and order of it: `objectio.abc.admin.StorageAdmin`.

Every component says how it is by itself; here the answers are gathered, and joined per OSD.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
)
from objectio.abc.shardstore import StoreState
from objectio.errors import NotFound
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import OsdRecord, decode_osd
from objectio.model.cluster import Osd, OsdId
from objectio.store.devices import DeviceSet, Slot
from objectio.store.doctor import Facts, PoolFacts, Surroundings, diagnose
from objectio.store.pools import HOLE, Pool, Pools
from objectio.store.repair_margin import Margins


class Repairs(Protocol):
    def status(self) -> RepairStatus: ...


class Scrubs(Protocol):
    def status(self) -> ScrubStatus: ...

    def start_now(self) -> None: ...


class Moves(Protocol):
    def status(self) -> RebalanceStatus: ...

    async def drain(self, osd: int) -> None: ...

    async def undrain(self, osd: int) -> None: ...

    async def remove(self, osd: int) -> None: ...


class Journals(Protocol):
    def status(self) -> JournalStatus: ...


_NO_JOURNAL: Final = JournalStatus(
    enabled=False,
    copies_wanted=0,
    osds=(),
    sequence=0,
    checkpoint_sequence=0,
    waiting=0,
    bytes_since_checkpoint=0,
    reason="there is no journal",
)


class StoreAdmin:
    """`topology` are the OSDs of the configuration; `slow` says which of them are slow to read;
    `journal` is None where the metadata is not journaled to the devices; `findings` are what others
    have to tell the doctor. It may read files."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        topology: Sequence[Osd],
        *,
        repairer: Repairs,
        scrubber: Scrubs,
        rebalancer: Moves,
        journal: Journals | None,
        slow: Callable[[], Collection[int]],
        surroundings: Surroundings,
        findings: Callable[[], Sequence[Finding]] = lambda: (),
    ) -> None:
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._topology = {int(osd.id): osd for osd in topology}
        self._repairer = repairer
        self._scrubber = scrubber
        self._rebalancer = rebalancer
        self._journal = journal
        self._slow = slow
        self._margins = Margins(devices, pools)
        self._counted: dict[int, tuple[object, Counter[int]]] = {}
        """By pool: its groups, and how many of them each OSD has. There may be many of them."""
        self._surroundings = surroundings
        self._findings = findings

    def know(self, topology: Sequence[Osd]) -> None:
        """Where OSDs stand, as far as that has changed."""
        self._topology = {int(osd.id): osd for osd in topology}

    # Disks.

    async def disks(self) -> Sequence[DiskStatus]:
        """Those of the configuration, and those that are not in it any more and yet have groups."""
        rows = await self._kv.ascan_prefix(keys.OSDS)
        return self._disks(
            {decode_uint(row, len(keys.OSDS), 4): decode_osd(raw) for row, raw in rows}
        )

    def disks_now(self) -> Sequence[DiskStatus]:
        """As `disks`, without what only the metadata knows: for counting."""
        return self._disks({})

    def _disks(self, records: Mapping[int, OsdRecord]) -> list[DiskStatus]:
        groups = self._positions()
        refilling = frozenset(self._repairer.status().refilling)
        journal = frozenset(self._journal_now().osds)
        slow = self._slow()
        slots = {slot.osd: slot for slot in self._devices.slots}
        return [
            _disk(
                slots.get(osd) or Slot(osd, "", reason="not in the configuration any more"),
                self._topology.get(osd) or Osd(id=OsdId(osd), weight=0, host="", rack=""),
                records.get(osd, OsdRecord("")),
                refilling=osd in refilling,
                journal=osd in journal,
                groups=groups[osd],
                slow=osd in slow,
            )
            for osd in sorted(slots.keys() | groups.keys())
        ]

    def _positions(self) -> Counter[int]:
        """How many positions of groups each OSD has, also of those that are on their way off it."""
        found: Counter[int] = Counter()
        for pool in self._pools.all():
            counted = self._counted.get(pool.id)
            if counted is None or counted[0] is not pool.groups:
                members = itertools.chain.from_iterable(pool.groups)
                counted = self._counted[pool.id] = pool.groups, Counter(members)
            found += counted[1]
            for number, former in pool.moving.items():
                found.update(set(former).difference(pool.groups[number]))
        del found[HOLE]
        return found

    async def disk(self, osd: int) -> DiskStatus:
        for disk in await self.disks():
            if disk.osd == osd:
                return disk
        raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd", osd=osd)

    async def replace(self, osd: int) -> DiskStatus:
        await self._devices.replace(osd)
        return await self.disk(osd)

    async def drain(self, osd: int) -> DiskStatus:
        await self.disk(osd)  # raises if there is none
        await self._rebalancer.drain(osd)
        return await self.disk(osd)

    async def undrain(self, osd: int) -> DiskStatus:
        await self.disk(osd)
        await self._rebalancer.undrain(osd)
        return await self.disk(osd)

    async def remove(self, osd: int) -> DiskStatus:
        await self.disk(osd)
        await self._rebalancer.remove(osd)
        return await self.disk(osd)

    # What runs in the background.

    async def repair(self) -> RepairStatus:
        return self._repairer.status()

    async def scrub(self) -> ScrubStatus:
        return self._scrubber.status()

    async def start_scrub(self) -> ScrubStatus:
        self._scrubber.start_now()
        return self._scrubber.status()

    async def rebalance(self) -> RebalanceStatus:
        return self._rebalancer.status()

    async def journal(self) -> JournalStatus:
        return self._journal_now()

    def _journal_now(self) -> JournalStatus:
        return _NO_JOURNAL if self._journal is None else self._journal.status()

    def parts_now(self) -> tuple[RepairStatus, ScrubStatus, RebalanceStatus, JournalStatus]:
        return (
            self._repairer.status(),
            self._scrubber.status(),
            self._rebalancer.status(),
            self._journal_now(),
        )

    # The doctor.

    async def doctor(self) -> Sequence[Finding]:
        disks, surroundings = await self.disks(), self._surroundings
        repair, scrub, rebalance, journal = self.parts_now()
        return diagnose(
            Facts(
                now_ms=int(time.time() * 1000),
                disks=disks,
                pools=list(self._pool_facts(disks)),
                repair=repair,
                scrub=scrub,
                rebalance=rebalance,
                journal=journal,
                surroundings=surroundings,
                credentials_mode=await asyncio.to_thread(_mode, surroundings.credentials_path),
                others=await asyncio.to_thread(self._findings),
                replace_blank=[
                    slot.osd
                    for slot in self._devices.slots
                    if slot.replace_blank
                    and not Path(slot.path).is_relative_to(surroundings.data_dir)
                ],
            )
        )

    def _pool_facts(self, disks: Sequence[DiskStatus]) -> Iterator[PoolFacts]:
        readable = {disk.osd for disk in disks if disk.state != "down"}
        whole = {disk.osd for disk in disks if disk.state != "down" and not disk.refilling}
        writable = {disk.osd for disk in disks if disk.state == StoreState.UP.value}
        for pool in self._pools.all():
            spans = [
                (members, pool.moving.get(number, members))
                for number, members in enumerate(pool.groups)
            ]
            yield PoolFacts(
                pool=pool.id,
                profile=str(pool.code.profile),
                parity_shards=pool.code.m,
                current=pool.id == self._pools.current.id,
                margin=self._margin(pool, spans, whole),
                margin_of_readable=self._margin(pool, spans, readable),
                groups=len(spans),
                groups_unwritable=sum(
                    len(writable.intersection(members)) < pool.write_quorum for members, _ in spans
                ),
            )

    def _margin(
        self, pool: Pool, spans: Sequence[tuple[Sequence[int], Sequence[int]]], present: set[int]
    ) -> int:
        """How many more shards may be lost of the group that is worst off; negative if it cannot be
        read."""
        return min(
            self._margins.without(pool.code, missing)
            for missing in {_missing(members, former, present) for members, former in spans}
        )


def _disk(
    slot: Slot,
    osd: Osd,
    record: OsdRecord,
    *,
    refilling: bool,
    journal: bool,
    groups: int,
    slow: bool,
) -> DiskStatus:
    status = DiskStatus(
        osd=slot.osd,
        path=slot.path,
        host=osd.host,
        rack=osd.rack,
        weight=osd.weight,
        state="down",
        reason=slot.reason,
        membership=record.membership,
        device_id=record.device_id,
        refilling=refilling,
        journal=journal,
        groups=groups,
        slow=slow,
    )
    store = slot.store
    if store is None or store.state is StoreState.CLOSED:
        return status
    usage, failure = store.usage(), store.failure
    return msgspec.structs.replace(
        status,
        state=store.state.value,
        reason="" if failure is None else str(failure),
        device_id=store.device_id,
        capacity_bytes=usage.capacity_bytes,
        used_bytes=usage.used_bytes,
        live_bytes=usage.live_bytes,
        shards=usage.shards,
        cache_bytes=usage.cache_bytes,
        cache_hits=usage.cache_hits,
        cache_misses=usage.cache_misses,
    )


def _missing(members: Sequence[int], former: Sequence[int], present: set[int]) -> frozenset[int]:
    """The positions of a group whose shards are on none of the OSDs that are `present`."""
    return frozenset(
        position
        for position, (osd, other) in enumerate(zip(members, former, strict=True))
        if osd not in present and other not in present
    )


def _mode(path: str) -> int | None:
    """The permission bits of a file; None if there is none."""
    try:
        return Path(path).stat().st_mode & 0o777
    except OSError:
        return None
