"""The object store: everything of `objectio.abc.objects.ObjectService`, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.objects import (
    NULL_VERSION,
    BucketInfo,
    CompletePart,
    Conditions,
    Listing,
    ObjectAttributes,
    ObjectInfo,
    PartInfo,
    PartListing,
    Payload,
    PayloadDigests,
    UploadInfo,
    UploadListing,
)
from objectio.kv.store import KVStore
from objectio.limits import MIB, PART_SIZE_BYTES_MIN
from objectio.meta.buckets import Buckets
from objectio.meta.listing import Listings
from objectio.store.devices import Devices
from objectio.store.garbage import Collector
from objectio.store.journal import Journal
from objectio.store.memory import ByteBudget
from objectio.store.objects import Objects, OpenObject
from objectio.store.pools import Pools
from objectio.store.read import BlobReads
from objectio.store.readers import Readers
from objectio.store.rebalance import Rebalancer
from objectio.store.repair import Repairer, RepairSettings
from objectio.store.scrub import Scrubber, ScrubSettings
from objectio.store.stripes import Stripes
from objectio.store.uploads import Uploads
from objectio.store.verify import StripeChecks
from objectio.store.write import BlobWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """See `[store]` in the configuration."""

    memory_bytes_max: int = 128 * MIB
    write_straggler_seconds: float = 1.0
    gc_grace_seconds: float = 0.0
    part_size_bytes_min: int = PART_SIZE_BYTES_MIN
    repair_interval_seconds: float = 60.0
    repair_bytes_per_second: float = 256.0 * MIB
    rebalance_bytes_per_second: float = 128.0 * MIB
    read_hedge_seconds: float = 0.02
    scrub_interval_seconds: float = 0.0
    scrub_bytes_per_second: float = 32.0 * MIB
    threads: int = 4

    @property
    def repair(self) -> RepairSettings:
        return RepairSettings(
            interval_seconds=self.repair_interval_seconds,
            bytes_per_second=self.repair_bytes_per_second,
            memory_bytes=self.memory_bytes_max // 4,
        )

    @property
    def scrub(self) -> ScrubSettings:
        return ScrubSettings(
            interval_seconds=self.scrub_interval_seconds,
            bytes_per_second=self.scrub_bytes_per_second,
            memory_bytes=self.memory_bytes_max // 8,
        )


class ObjectStore:
    """Buckets, objects, listings and uploads over a KV store and devices. Call `start` first."""

    def __init__(
        self,
        kv: KVStore,
        devices: Devices,
        pools: Pools,
        settings: StoreSettings,
        metrics: Metrics | None = None,
        *,
        journal: Journal | None = None,
    ) -> None:
        self.journal = Journal(kv, devices) if journal is None else journal
        self.devices = devices
        self.pools = pools
        self._executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="store")
        # Apart: a copy waits for memory to write to while it holds what it reads, and so does
        # everybody else while clients are slow to take what was read for them.
        self._write_budget = ByteBudget(settings.memory_bytes_max // 2)
        self._read_budget = ByteBudget(settings.memory_bytes_max // 2)
        self.readers = Readers(
            devices.stores, hedge_seconds=settings.read_hedge_seconds, threads=settings.threads
        )
        # What reads for repair and scrubbing does not stand in the way of what reads for clients.
        self._checks = checks = StripeChecks(devices, pools, self.readers.times.slow)
        self.repairer = Repairer(kv, devices, pools, checks, settings.repair)
        self.writer = BlobWriter(
            devices,
            self._executor,
            self._write_budget,
            straggler_seconds=settings.write_straggler_seconds,
            abandoned=lambda ref: self.collector.abandon(ref),
        )
        self.collector = Collector(
            kv, devices, pools, self.writer.active, settings.gc_grace_seconds
        )
        self.reads = BlobReads(
            Stripes(pools, self.readers, self._executor), self._read_budget, self.repairer.damaged
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
        self.scrubber.own_damaged = self.journal.damaged
        self._build_objects(kv, settings)
        self.rebalancer = Rebalancer(
            kv,
            devices,
            pools,
            checks,
            self.collector,
            active=self.writer.active,
            damaged=self.repairer.damaged,
            urgent=lambda: self.repairer.urgent,
            bytes_per_second=settings.rebalance_bytes_per_second,
        )
        for listener in (self.repairer, self.readers, self.collector, self.rebalancer):
            devices.listen(listener)
        self._show(NullMetrics() if metrics is None else metrics)

    def _build_objects(self, kv: KVStore, settings: StoreSettings) -> None:
        self._buckets = Buckets(kv)
        self._listings = Listings(kv)
        self._objects = Objects(
            kv, self._buckets, self.pools, self.writer, self.reads, self.collector, self.repairer
        )
        self._uploads = Uploads(
            kv,
            self._buckets,
            self.pools,
            self.writer,
            self.collector,
            self.repairer,
            self._objects,
            settings.part_size_bytes_min,
        )

    def _show(self, metrics: Metrics) -> None:
        gauge = metrics.gauge_function
        gauge("objectio_store_osds_up", "Devices in service.", lambda: len(self.devices.stores))
        gauge(
            "objectio_store_slow_osds",
            "Devices that take much longer than the others; reads are made up for.",
            lambda: len(self.reads.slow),
        )
        gauge(
            "objectio_store_hedged_reads_total",
            "Stripes that were read without waiting for a slow device, since the start.",
            lambda: self.reads.stripes.hedged,
        )
        gauge(
            "objectio_store_memory_bytes",
            "Memory lent to stripes under way.",
            lambda: self._write_budget.used_bytes + self._read_budget.used_bytes,
        )
        gauge(
            "objectio_store_repair_backlog",
            "Blobs to repair and devices to refill; 0 when nothing is left to do.",
            lambda: self.repairer.backlog,
        )
        gauge(
            "objectio_store_scrub_passes",
            "Times that everything stored was read and verified since the start.",
            lambda: self.scrubber.finished,
        )
        gauge(
            "objectio_store_scrub_damaged_blobs",
            "Blobs that scrubbing found damaged since the start.",
            lambda: self.scrubber.damaged_blobs,
        )
        gauge(
            "objectio_store_garbage_backlog",
            "Garbage to take off the devices, in rows; 0 when nothing is left to do.",
            lambda: self.collector.backlog + self._uploads.cleaning,
        )
        gauge(
            "objectio_store_rebalance_backlog",
            "Placement groups that move or are to; 0 when all are where they belong.",
            lambda: self.rebalancer.backlog,
        )
        gauge(
            "objectio_store_repaired_shards",
            "Shards that were made anew since the start.",
            lambda: self.repairer.repaired_shards,
        )

    async def start(self) -> None:
        await self.journal.attach()
        await self._uploads.start()
        self.collector.start()
        self.repairer.start()
        await self.rebalancer.start()
        self.scrubber.start()

    async def stop(self) -> None:
        await self._uploads.stop()
        await self.scrubber.stop()
        await self.rebalancer.stop()
        await self.repairer.stop()
        await self.collector.stop()
        await self.journal.stop()
        await self.readers.stop()
        self._executor.shutdown(wait=True)
        self._checks.close()

    def health(self) -> Mapping[str, Any]:
        """`ok` while reads can be served; `degraded` while any device is down that is to have data,
        or shards of a stripe share a failure domain that the pool's rule does not let them share.
        `spread` says so in sentences."""
        slots, outside = self.devices.slots, self.rebalancer.outside
        down = {slot.osd: slot.reason for slot in slots if slot.store is None}
        missed = {osd: reason for osd, reason in down.items() if osd not in outside}
        missed |= dict.fromkeys(self.rebalancer.absent, "not in the configuration")
        pool = self.pools.current
        up = len(slots) - len(down)
        spread = self.rebalancer.degraded_spread
        return {
            "ok": up >= pool.read_quorum,
            "degraded": bool(missed or spread),
            "osds_up": up,
            "osds_down": {str(osd): reason for osd, reason in (down | missed).items()},
            "pool": str(pool.code.profile),
            "spread": list(spread),
        }

    # Buckets.

    async def create_bucket(self, name: str, *, owner: str, region: str = "") -> BucketInfo:
        return await self._buckets.create(name, owner, region)

    async def delete_bucket(self, name: str) -> None:
        await self._buckets.delete(name)

    async def get_bucket(self, name: str) -> BucketInfo:
        return (await self._buckets.find(name)).record.info()

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 10_000
    ) -> Sequence[BucketInfo]:
        return await self._buckets.list(prefix, after, limit)

    # Objects.

    async def put_object(
        self,
        bucket: str,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        *,
        owner: str,
        conditions: Conditions | None = None,
    ) -> ObjectInfo:
        return await self._objects.put(bucket, key, payload, attributes, owner, conditions)

    async def get_object(
        self, bucket: str, key: bytes, *, version_id: str | None = None
    ) -> OpenObject:
        return await self._objects.get(bucket, key, version_id)

    async def head_object(
        self, bucket: str, key: bytes, *, version_id: str | None = None
    ) -> ObjectInfo:
        return await self._objects.head(bucket, key, version_id)

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        conditions: Conditions | None = None,
    ) -> ObjectInfo | None:
        return await self._objects.delete(bucket, key, version_id, conditions)

    async def delete_objects(
        self, bucket: str, keys: Sequence[tuple[bytes, str | None]]
    ) -> Sequence[Exception | None]:
        return await self._objects.delete_many(bucket, keys)

    async def copy_object(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        *,
        owner: str,
        source_version_id: str | None = None,
        source_conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> ObjectInfo:
        return await self._objects.copy(
            source_bucket,
            source_key,
            bucket,
            key,
            owner,
            source_version_id,
            source_conditions,
            attributes,
        )

    # Listings.

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        found = await self._buckets.find(bucket)
        return await self._listings.objects(found.id, prefix, delimiter, after, limit)

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        after_version: str | None = None,
        limit: int = 1000,
    ) -> Listing:
        """Every object has one version, "null", for no bucket was ever versioned."""
        page = await self.list_objects(
            bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        cut_at_object = page.objects and page.objects[-1].key == page.next_after
        return page._replace(next_version=NULL_VERSION if cut_at_object else None)

    # Multipart uploads.

    async def create_upload(
        self, bucket: str, key: bytes, attributes: ObjectAttributes, *, owner: str
    ) -> UploadInfo:
        return await self._uploads.create(bucket, key, attributes, owner)

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo:
        return await self._uploads.get(bucket, key, upload_id)

    async def put_part(
        self, bucket: str, key: bytes, upload_id: str, number: int, payload: Payload
    ) -> PartInfo:
        return await self._uploads.put_part(bucket, key, upload_id, number, payload)

    async def complete_upload(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        parts: Sequence[CompletePart],
        *,
        conditions: Conditions | None = None,
        check: Callable[[Sequence[PartInfo]], PayloadDigests] | None = None,
    ) -> ObjectInfo:
        return await self._uploads.complete(bucket, key, upload_id, parts, conditions, check)

    async def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> None:
        await self._uploads.abort(bucket, key, upload_id)

    async def list_parts(
        self, bucket: str, key: bytes, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartListing:
        return await self._uploads.list_parts(bucket, key, upload_id, after, limit)

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: tuple[bytes, str] = (b"", ""),
        limit: int = 1000,
    ) -> UploadListing:
        found = await self._buckets.find(bucket)
        return await self._listings.uploads(found.id, prefix, delimiter, after, limit)
