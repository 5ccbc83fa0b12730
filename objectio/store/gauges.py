"""The numbers of the operators' view, as metrics: one snapshot for all that one scrape asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from objectio.abc.admin import (
    DiskStatus,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
)
from objectio.abc.metrics import Metrics
from objectio.store.admin import StoreAdmin

SNAPSHOT_SECONDS: Final = 0.25
"""One scrape takes less; the next one comes later."""

SCRUB_KINDS: Final = (
    "healthy",
    "unread",
    "missing",
    "corrupt",
    "stale",
    "misplaced",
    "orphaned",
    "inconsistent",
    "unrepairable",
)


class Snapshot(NamedTuple):
    disks: dict[int, DiskStatus]
    repair: RepairStatus
    scrub: ScrubStatus
    moves: RebalanceStatus
    journal: JournalStatus


Pick = Callable[[Snapshot], float | None]
"""The number that a gauge shows; None where it is not known, which is shown as NaN."""

_DISK: Final[tuple[tuple[str, str, Callable[[DiskStatus], float | None]], ...]] = (
    ("up", "Whether the device can be read.", lambda disk: disk.state != "down"),
    ("writable", "Whether the device takes writes.", lambda disk: disk.state == "up"),
    ("refilling", "Whether its shards are being made anew.", lambda disk: disk.refilling),
    ("slow", "Whether reads are made up for from other devices.", lambda disk: disk.slow),
    ("groups", "Positions of placement groups on it.", lambda disk: disk.groups),
    ("capacity_bytes", "Size of the device.", lambda disk: disk.capacity_bytes),
    ("used_bytes", "Segments that hold anything.", lambda disk: disk.used_bytes),
    ("live_bytes", "Shards that can be read, with their headers.", lambda disk: disk.live_bytes),
    ("shards", "Shards on the device.", lambda disk: disk.shards),
    ("cache_bytes", "Memory of its read cache.", lambda disk: disk.cache_bytes),
)

_PARTS: Final[tuple[tuple[str, str, Pick], ...]] = (
    ("repair_blocked_blobs", "Blobs that cannot be repaired now.", lambda now: now.repair.blocked),
    ("repair_bytes_left", "What repair still has to write.", lambda now: now.repair.bytes_left),
    ("rebalance_epoch", "Epoch of the cluster map.", lambda now: now.moves.epoch),
    ("rebalance_groups_moving", "Groups being moved.", lambda now: now.moves.groups_moving),
    ("rebalance_groups_waiting", "Groups to be moved.", lambda now: now.moves.groups_waiting),
    ("rebalance_bytes_left", "Bytes still to be moved.", lambda now: now.moves.bytes_left),
    (
        "rebalance_degraded_pools",
        "Pools that are not spread as their rule asks.",
        lambda now: len(now.moves.degraded_spread),
    ),
    ("journal_copies", "Devices with the metadata journal.", lambda now: len(now.journal.osds)),
    (
        "journal_copies_wanted",
        "Devices that should have it.",
        lambda now: now.journal.copies_wanted,
    ),
    ("journal_waiting", "Batches not yet on enough devices.", lambda now: now.journal.waiting),
    (
        "journal_bytes",
        "Journal since the last checkpoint.",
        lambda now: now.journal.bytes_since_checkpoint,
    ),
    (
        "scrub_progress",
        "Progress of the scrub that runs, 0 to 1.",
        lambda now: now.scrub.progress if now.scrub.running else None,
    ),
    (
        "scrub_read_bytes",
        "What the last finished scrub had read.",
        lambda now: None if now.scrub.last is None else now.scrub.last.bytes,
    ),
)


_COUNTS: Final[tuple[tuple[str, str, Pick], ...]] = (
    ("repair_bytes_total", "What repair wrote.", lambda now: now.repair.repaired_bytes),
)


class Gauges:
    """Registers everything once; disks that come later when `show_disks` is called."""

    def __init__(
        self, admin: StoreAdmin, metrics: Metrics, parity_shards_max: int, created_ms: int
    ) -> None:
        """`created_ms`: since when there is a store, which no scrub may have read yet."""
        self._admin = admin
        self._metrics = metrics
        self._taken = -math.inf
        self._snapshot: Snapshot
        self._shown: set[int] = set()
        self._devices: set[tuple[int, str]] = set()
        self.show_disks()
        for name, help_, choose in _PARTS:
            self._show(name, help_, choose)
        for name, help_, choose in _COUNTS:
            metrics.counter_function(f"objectio_{name}", help_, self._now(choose))
        for margin in range(parity_shards_max + 1):
            self._show(
                "repair_waiting_blobs",
                "Blobs to repair, by how many more shards they may lose (0: none).",
                _waiting(margin),
                margin=str(margin),
            )
        self._show(
            "scrub_age_seconds",
            "Time since the last scrub finished; since the store was made, if none has.",
            _age_of_scrub(created_ms),
        )
        for kind in SCRUB_KINDS:
            self._show(
                "scrub_found",
                "What the last finished scrub counted: blobs healthy and unread, and findings.",
                _found(kind),
                kind=kind,
            )

    def show_disks(self) -> None:
        self._taken = -math.inf
        new = self._look().disks.keys() - self._shown
        for osd in sorted(new):
            for name, help_, pick in _DISK:
                self._show(f"osd_{name}", help_, _of_disk(osd, pick), osd=str(osd))
        self._shown |= new

    def _look(self) -> Snapshot:
        now = time.monotonic()
        if now - self._taken > SNAPSHOT_SECONDS:
            self._taken = now
            disks = {disk.osd: disk for disk in self._admin.disks_now()}
            self._snapshot = Snapshot(disks, *self._admin.parts_now())
            for disk in disks.values():
                self._show_device(disk)
        return self._snapshot

    def _show_device(self, disk: DiskStatus) -> None:
        """Which device it is, which others say who do not know its number: `objectio.osd.meter`."""
        pair = disk.osd, disk.device_id
        if disk.device_id and pair not in self._devices:
            self._devices.add(pair)
            self._show(
                "osd_device",
                "1 for the device that stands for the OSD; 0 for one that did before.",
                _stands_for(*pair),
                osd=str(disk.osd),
                device=disk.device_id,
            )

    def _show(self, name: str, help_: str, pick: Pick, **labels: str) -> None:
        self._metrics.gauge_function(f"objectio_{name}", help_, self._now(pick), **labels)

    def _now(self, pick: Pick) -> Callable[[], float]:
        def read() -> float:
            value = pick(self._look())
            return math.nan if value is None else float(value)

        return read


def _of_disk(osd: int, pick: Callable[[DiskStatus], float | None]) -> Pick:
    def of(now: Snapshot) -> float | None:
        disk = now.disks.get(osd)
        return None if disk is None else pick(disk)

    return of


def _stands_for(osd: int, device_id: str) -> Pick:
    def of(now: Snapshot) -> float:
        disk = now.disks.get(osd)
        return disk is not None and disk.device_id == device_id

    return of


def _waiting(margin: int) -> Pick:
    """Blobs that cannot be read at all are among those with no shard to spare."""
    return lambda now: sum(
        blobs for spare, blobs in now.repair.waiting.items() if max(spare, 0) == margin
    )


def _found(kind: str) -> Pick:
    return lambda now: None if now.scrub.last is None else getattr(now.scrub.last, kind)


def _age_of_scrub(created_ms: int) -> Pick:
    def of(now: Snapshot) -> float:
        last = now.scrub.last
        return time.time() - (created_ms if last is None else last.finished_ms) / 1000

    return of
