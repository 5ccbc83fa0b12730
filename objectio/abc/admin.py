"""Administration of the storage: what an operator may ask and order.

The answers are plain values, made where the knowledge is: a front end shows them over HTTP, the
command line as tables, the exporter as metrics. Sizes are bytes, times are Unix milliseconds,
rates are bytes per second. What is not known is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from objectio.abc.cluster import ClusterStatus
from objectio.model.cluster import ClusterMap

Severity = Literal["critical", "warning", "info"]


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    pass


class DiskStatus(_Status, frozen=True, kw_only=True):
    """One OSD and the device that stands for it.

    `state`: up, full (takes deletions only), failed (reads only), down. `reason` says why it is not
    up. `membership`: in, draining, out. `refilling`: its share of shards is being made anew.
    `groups` counts the placement groups' positions that it has. `journal`: it has a copy of the
    metadata journal. `cache_hits` and `cache_misses` count reads since the start; both are 0 where
    the page cache does the work. Numbers of a device that is down are None.
    """

    osd: int
    path: str
    host: str
    rack: str
    weight: float
    state: str
    reason: str = ""
    membership: str = "in"
    device_id: str = ""
    refilling: bool = False
    journal: bool = False
    groups: int = 0
    slow: bool = False
    capacity_bytes: int | None = None
    used_bytes: int | None = None
    live_bytes: int | None = None
    shards: int | None = None
    cache_bytes: int | None = None
    cache_hits: int | None = None
    cache_misses: int | None = None


class RepairStatus(_Status, frozen=True, kw_only=True):
    """`waiting` are blobs with shards to make anew, by how many more shards they may lose before
    they are lost: 0 comes first. `blocked` of them wait for a device that is down or for shards
    that cannot be read. `bytes_left` is an estimate from what the walk has seen. `waiting_for` says of
    OSDs that are up why they take no shards now."""

    active: bool
    waiting: dict[int, int]
    blocked: int
    refilling: Sequence[int]
    repaired_shards: int
    repaired_bytes: int
    bytes_left: int
    bytes_per_second: float
    seconds_left: float | None
    waiting_for: dict[int, str] = {}


class ScrubReport(_Status, frozen=True, kw_only=True):
    """One pass over everything stored: a census. Only what was read is counted as healthy.

    `blobs` were looked at; `healthy` of them had every shard, read and verified, and parity that
    fits the data; `unread` had shards on devices that are down. The others are counts of shards:
    `missing` from a device that is up; `corrupt`, failed their checksums; `stale`, of an older
    generation than their stripe; `misplaced`, on a device that should not have them; `orphaned`, of
    no blob; `inconsistent` counts stripes whose shards are intact and yet do not fit together.
    `unrepairable` are stripes with too few shards left, or whose wrong shards cannot be told.
    """

    begun_ms: int
    finished_ms: int = 0
    blobs: int = 0
    healthy: int = 0
    unread: int = 0
    shards: int = 0
    bytes: int = 0
    missing: int = 0
    corrupt: int = 0
    stale: int = 0
    misplaced: int = 0
    orphaned: int = 0
    inconsistent: int = 0
    unrepairable: int = 0

    @property
    def findings(self) -> int:
        return (
            self.missing
            + self.corrupt
            + self.stale
            + self.misplaced
            + self.orphaned
            + self.inconsistent
        )


class ScrubStatus(_Status, frozen=True, kw_only=True):
    """`progress` of the running pass, 0 … 1, by the share of blob ids that it is past."""

    running: bool
    progress: float
    current: ScrubReport | None
    last: ScrubReport | None
    next_ms: int | None


class RebalanceStatus(_Status, frozen=True, kw_only=True):
    """`degraded_spread` has a sentence for each pool whose shards cannot be spread as its rule
    asks, for want of racks, hosts or disks."""

    epoch: int
    groups: int
    groups_moving: int
    groups_waiting: int
    moved_shards: int
    moved_bytes: int
    bytes_left: int
    bytes_per_second: float
    seconds_left: float | None
    degraded_spread: Sequence[str]


class JournalStatus(_Status, frozen=True, kw_only=True):
    """The metadata journal on the devices. `waiting` are batches of commits that stand in the
    metadata but not yet on `copies_wanted` devices; `osds` have a copy now. `reason` says why there
    is none, or fewer copies than wanted."""

    enabled: bool
    copies_wanted: int
    osds: Sequence[int]
    sequence: int
    checkpoint_sequence: int
    waiting: int
    bytes_since_checkpoint: int
    reason: str = ""


class Finding(_Status, frozen=True, kw_only=True):
    """One line of the doctor's page: what is wrong, what it means, what to do."""

    severity: Severity
    what: str
    meaning: str
    action: str


class StorageAdmin(Protocol):
    """What the store offers to operators. Raises `NotFound` (kind osd) for an OSD that is not
    configured, and `InvalidRequest` with a sentence for what cannot be done now."""

    async def disks(self) -> Sequence[DiskStatus]: ...

    async def replace(self, osd: int) -> DiskStatus:
        """Take the blank device that is now at the OSD's path into service in place of the one that
        stood for it, and refill it."""
        ...

    async def drain(self, osd: int) -> DiskStatus:
        """Move everything off the OSD; it stays readable until that is done."""
        ...

    async def undrain(self, osd: int) -> DiskStatus: ...

    async def remove(self, osd: int) -> DiskStatus:
        """Declare a device that will not come back as gone: its shards are made anew elsewhere.
        Raises `InvalidRequest` while it is up (drain it instead)."""
        ...

    async def repair(self) -> RepairStatus: ...

    async def scrub(self) -> ScrubStatus: ...

    async def start_scrub(self) -> ScrubStatus:
        """Begin a pass now; one that runs goes on."""
        ...

    async def rebalance(self) -> RebalanceStatus: ...

    async def journal(self) -> JournalStatus: ...

    async def doctor(self) -> Sequence[Finding]:
        """Everything that is wrong, worst first; empty if nothing is."""
        ...


class ClusterView(Protocol):
    """What an operator may ask about the cluster: the asking half of `abc.cluster.ControlPlane`."""

    async def status(self) -> ClusterStatus: ...

    async def cluster_map(self) -> ClusterMap: ...
