"""Everything that keeps the store in order: journal, garbage, repair, scrubbing, moves, ended
uploads, lifecycle, counts for quotas.

It runs in one process, the one with the metadata, over devices of this process or of others, and for
all processes that serve objects. What they use it learns from a `Presence`; what they notice they tell
it: it is their `Upkeep`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import Unavailable
from objectio.kv.store import KVStore
from objectio.meta.buckets import Buckets
from objectio.meta.records import BlobRef
from objectio.rpc.priority import background
from objectio.store.devices import DeviceSet
from objectio.store.documents import Documents
from objectio.store.ended import EndedUploads
from objectio.store.garbage import Collector
from objectio.store.journal import Journal
from objectio.store.lifecycle import LifecycleWorker
from objectio.store.pool_usage import PoolUsage
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse, Presence
from objectio.store.rebalance import Rebalancer
from objectio.store.repair import Repairer
from objectio.store.scrub import Scrubber
from objectio.store.settings import StoreSettings
from objectio.store.usage_count import UsageCounter
from objectio.store.verify import StripeChecks
from objectio.store.versions import Versions


class Maintenance:
    """Call `start` once the journal is open and the pools are loaded.

    presence    answers for all processes that serve objects
    in_use      what this process uses, if it serves, too
    slow        OSDs that are slow to read, as far as is known in this process
    """

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        settings: StoreSettings,
        metrics: Metrics | None = None,
        *,
        presence: Presence,
        journal: Journal,
        in_use: BlobsInUse | None = None,
        slow: Collection[int] = frozenset(),
    ) -> None:
        self.journal = journal
        self._devices = devices
        self._pools = pools
        # What reads for repair and scrubbing does not stand in the way of what reads for clients.
        self._checks = checks = StripeChecks(devices, pools, slow)
        self.repairer = Repairer(
            kv, devices, pools, checks, settings.repair, presence, removed=self._removed
        )
        self.collector = Collector(
            kv,
            devices,
            pools,
            presence,
            settings.gc_grace_seconds,
            in_use=in_use,
            sure=lambda: journal.knows_all,
            removed=self._removed,
        )
        self.scrubber = Scrubber(
            kv,
            devices,
            pools,
            checks,
            self.collector,
            settings.scrub,
            damaged=self.repairer.damaged,
        )
        self.scrubber.own_damaged = journal.damaged
        self.rebalancer = Rebalancer(
            kv,
            devices,
            pools,
            checks,
            self.collector,
            presence=presence,
            damaged=self.repairer.damaged,
            urgent=lambda: self.repairer.urgent,
            bytes_per_second=settings.rebalance_bytes_per_second,
        )
        self.ended = EndedUploads(kv, self)
        buckets = Buckets(kv)
        versions = Versions(kv, buckets, Documents(kv, buckets), self)
        self.lifecycle = LifecycleWorker(kv, versions, self, settings.lifecycle, metrics)
        self.usage = UsageCounter(kv, settings.quota_interval_seconds)
        metrics = NullMetrics() if metrics is None else metrics
        self.pool_usage = PoolUsage(kv, pools, metrics)
        for listener in (self.repairer, self.collector, self.rebalancer):
            devices.listen(listener)
        self._show(metrics)

    def _removed(self) -> frozenset[int]:
        return self.rebalancer.outside - self._devices.stores.keys()

    def _show(self, metrics: Metrics) -> None:
        gauge = metrics.gauge_function
        gauge(
            "objectio_store_repair_backlog",
            "Blobs to repair and devices to refill; 0 when nothing is left to do.",
            lambda: self.repairer.backlog,
        )
        metrics.counter_function(
            "objectio_store_scrub_passes_total",
            "Times that everything stored was read and verified.",
            lambda: self.scrubber.finished,
        )
        metrics.counter_function(
            "objectio_store_scrub_damaged_blobs_total",
            "Blobs that scrubbing found damaged.",
            lambda: self.scrubber.damaged_blobs,
        )
        gauge(
            "objectio_store_garbage_backlog",
            "Garbage to take off the devices, in rows; 0 when nothing is left to do.",
            lambda: self.collector.backlog + self.ended.backlog,
        )
        gauge(
            "objectio_store_rebalance_backlog",
            "Placement groups that move or are to; 0 when all are where they belong.",
            lambda: self.rebalancer.backlog,
        )
        metrics.counter_function(
            "objectio_store_repaired_shards_total",
            "Shards that were made anew.",
            lambda: self.repairer.repaired_shards,
        )

    # Life. Nothing here waits for a survey: other processes answer one only after the start.

    async def start(self) -> None:
        await self.journal.attach()
        with background():  # devices of other processes take clients' calls first
            self.ended.start()
            self.collector.start()
            self.repairer.start()
            await self.rebalancer.start()
            self.scrubber.start()
            self.lifecycle.start()
            self.usage.start()
            self.pool_usage.start()

    async def stop(self) -> None:
        await self.pool_usage.stop()
        await self.usage.stop()
        await self.lifecycle.stop()
        await self.scrubber.stop()
        await self.rebalancer.stop()
        await self.repairer.stop()
        await self.ended.stop()
        await self.collector.stop()
        await self.journal.stop()
        self._checks.close()

    # What serving tells: `objectio.store.presence.Upkeep`.

    def abandon(self, ref: BlobRef) -> None:
        self.collector.abandon(ref)

    def damaged(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None:
        self.repairer.damaged(ref, mask, examine=examine)

    def garbage(self) -> None:
        self.collector.wake()

    def repairs(self) -> None:
        self.repairer.wake()

    # How it is.

    def health(self) -> Mapping[str, Any]:
        """`ok` while reads can be served; `degraded` while any device is down that is to have data,
        or shards of a stripe share a failure domain that the pool's rule does not let them share.
        `spread` says so in sentences."""
        slots, outside = self._devices.slots, self.rebalancer.outside
        down = {slot.osd: slot.reason for slot in slots if slot.store is None}
        missed = {osd: reason for osd, reason in down.items() if osd not in outside}
        missed |= dict.fromkeys(self.rebalancer.absent, "not in the configuration")
        up = len(slots) - len(down)
        spread = self.rebalancer.degraded_spread
        health = {
            "ok": False,
            "degraded": bool(missed or spread),
            "osds_up": up,
            "osds_down": {str(osd): reason for osd, reason in (down | missed).items()},
            "spread": list(spread),
        }
        try:
            pool = self._pools.current
        except Unavailable as error:
            return health | {"waiting": error.message}
        return health | {"ok": up >= pool.read_quorum, "pool": str(pool.code.profile)}
