"""The object store as it serves: everything of `objectio.abc.objects.ObjectService`, put together.

What keeps it in order is `objectio.store.maintenance`, in this process or in another. The two know of
each other what `objectio.store.presence` says, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.objects import (
    NULL_VERSION,
    BucketInfo,
    CompletePart,
    Conditions,
    Deleted,
    DeleteTarget,
    Encryption,
    Listing,
    ObjectAttributes,
    ObjectInfo,
    Origin,
    PartInfo,
    PartListing,
    Payload,
    PayloadDigests,
    UploadInfo,
    UploadListing,
)
from objectio.errors import Unavailable
from objectio.kv.store import KVStore
from objectio.meta.buckets import Buckets
from objectio.meta.listing import Listings
from objectio.meta.version_listing import VersionListings
from objectio.model.bucket import Versioning
from objectio.store.datakeys import DataKeys
from objectio.store.devices import DeviceSet
from objectio.store.documents import Documents
from objectio.store.memory import ByteBudget
from objectio.store.objects import Objects, OpenObject
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse, Upkeep
from objectio.store.quota import QuotaKeeper
from objectio.store.read import BlobReads
from objectio.store.readers import Readers
from objectio.store.sealing import Sealing
from objectio.store.settings import StoreSettings
from objectio.store.stripes import Stripes
from objectio.store.uploads import Uploads
from objectio.store.versions import Versions
from objectio.store.write import BlobWriter


class ObjectStore:
    """Buckets, objects, listings and uploads over a KV store and devices, of this process or of others.

    in_use      what this process uses, for whoever answers as its `Presence`
    upkeep      who is told what must be seen to
    slow        where the OSDs are kept that are slow to read, for others to see
    keys        where data keys come from; without any only customers have keys
    """

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        settings: StoreSettings,
        metrics: Metrics | None = None,
        *,
        in_use: BlobsInUse,
        upkeep: Upkeep,
        slow: set[int] | None = None,
        keys: DataKeys | None = None,
    ) -> None:
        self.devices = devices
        self.pools = pools
        self.in_use = in_use
        self.upkeep = upkeep
        self._executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="store")
        # Apart: a copy waits for memory to write to while it holds what it reads, and so does
        # everybody else while clients are slow to take what was read for them.
        self._write_budget = ByteBudget(settings.memory_bytes_max // 2)
        self._read_budget = ByteBudget(settings.memory_bytes_max // 2)
        self.readers = Readers(
            devices.stores,
            hedge_seconds=settings.read_hedge_seconds,
            threads=settings.threads,
            slow=slow,
        )
        self.writer = BlobWriter(
            devices,
            self._executor,
            self._write_budget,
            straggler_seconds=settings.write_straggler_seconds,
            in_use=in_use,
            upkeep=upkeep,
        )
        self.reads = BlobReads(
            Stripes(pools, self.readers, self._executor), self._read_budget, upkeep.damaged
        )
        self._buckets = Buckets(kv)
        self._documents = Documents(kv, self._buckets)
        self._listings = Listings(kv)
        self._version_listings = VersionListings(kv)
        self.quotas = QuotaKeeper(kv, self._buckets, self._documents)
        self.versions = Versions(kv, self._buckets, self._documents, upkeep)
        self._sealing_budget = ByteBudget(settings.memory_bytes_max // 8)
        sealing = Sealing(
            DataKeys(None) if keys is None else keys,
            self._documents,
            self.reads,
            self._executor,
            self._sealing_budget,
        )
        self._objects = Objects(
            kv, self._buckets, self.versions, pools, self.writer, sealing, in_use
        )
        self._uploads = Uploads(
            kv,
            self._buckets,
            pools,
            self.writer,
            upkeep,
            self.versions,
            sealing,
            settings.part_size_bytes_min,
        )
        devices.listen(self.readers)
        self._show(NullMetrics() if metrics is None else metrics)

    def _show(self, metrics: Metrics) -> None:
        gauge = metrics.gauge_function
        budgets = (self._write_budget, self._read_budget, self._sealing_budget)
        gauge("objectio_store_osds_up", "Devices in service.", lambda: len(self.devices.stores))
        gauge(
            "objectio_store_slow_osds",
            "Devices that take much longer than the others; reads are made up for.",
            lambda: len(self.reads.slow),
        )
        metrics.counter_function(
            "objectio_store_hedged_reads_total",
            "Stripes that were read without waiting for a slow device.",
            lambda: self.reads.stripes.hedged,
        )
        metrics.counter_function(
            "objectio_store_degraded_reads_total",
            "Stripes that were read without a shard that is lost or damaged.",
            lambda: self.reads.stripes.degraded,
        )
        gauge(
            "objectio_store_memory_bytes",
            "Memory lent to stripes under way.",
            lambda: sum(budget.used_bytes for budget in budgets),
        )
        gauge(
            "objectio_store_memory_waiting",
            "Stripes that wait for memory.",
            lambda: sum(budget.waiting for budget in budgets),
        )
        gauge(
            "objectio_store_ended_uploads",
            "Uploads that ended here and whose rows are being dropped.",
            lambda: self._uploads.cleaning,
        )

    @property
    def cleaning(self) -> int:
        """Uploads that ended here and whose rows are being dropped."""
        return self._uploads.cleaning

    async def stop(self) -> None:
        await self._uploads.stop()
        await self.readers.stop()
        self._executor.shutdown(wait=True)

    def health(self) -> Mapping[str, Any]:
        """`ok` while reads can be served."""
        down = {slot.osd: slot.reason for slot in self.devices.slots if slot.store is None}
        health = {
            "ok": False,
            "osds_up": len(self.devices.stores),
            "osds_down": {str(osd): reason for osd, reason in down.items()},
        }
        try:
            pool = self.pools.current
        except Unavailable as error:
            return health | {"waiting": error.message}
        ok = len(self.devices.stores) >= pool.read_quorum
        return health | {"ok": ok, "pool": str(pool.code.profile)}

    # Buckets.

    async def create_bucket(
        self,
        name: str,
        *,
        owner: str,
        region: str = "",
        object_lock: bool = False,
        documents: Mapping[str, bytes] = {},
    ) -> BucketInfo:
        return await self._buckets.create(
            name, owner, region, object_lock=object_lock, documents=documents
        )

    async def delete_bucket(self, name: str) -> None:
        await self._buckets.delete(name)

    async def get_bucket(self, name: str) -> BucketInfo:
        return (await self._buckets.find(name)).record.info()

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 10_000, owner: str | None = None
    ) -> Sequence[BucketInfo]:
        return await self._buckets.list(prefix, after, limit, owner)

    async def set_versioning(self, name: str, status: Versioning) -> None:
        await self._buckets.set_versioning(name, status)

    async def get_documents(self, bucket: BucketInfo) -> Mapping[str, bytes]:
        return await self._documents.get(bucket)

    async def put_document(
        self, bucket: str, name: str, value: bytes | None, *, judged: BucketInfo | None = None
    ) -> None:
        await self._documents.put(bucket, name, value, judged)

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
        encryption: Encryption | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        return await self._objects.put(
            bucket, key, payload, attributes, owner, conditions, encryption, origin
        )

    async def get_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
    ) -> OpenObject:
        return await self._objects.get(bucket, key, version_id, customer_key)

    async def head_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
        check_key: bool = True,
    ) -> ObjectInfo:
        return await self._objects.head(bucket, key, version_id, customer_key, check_key)

    async def update_object(
        self,
        bucket: str,
        key: bytes,
        change: Callable[[ObjectInfo], ObjectAttributes],
        *,
        version_id: str | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        return await self._objects.update(bucket, key, change, version_id, origin)

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        conditions: Conditions | None = None,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Deleted:
        target = DeleteTarget(key, version_id, conditions)
        return await self._objects.delete(bucket, target, bypass_governance, origin)

    async def delete_objects(
        self,
        bucket: str,
        targets: Sequence[DeleteTarget],
        *,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Sequence[Deleted | Exception]:
        return await self._objects.delete_many(bucket, targets, bypass_governance, origin)

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
        conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
        origin: Origin | None = None,
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
            conditions,
            encryption,
            source_customer_key,
            origin,
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
        found = await self._buckets.find(bucket)
        if found.record.versioning:
            return await self._version_listings.page(
                found.id, prefix, delimiter, after, after_version, limit
            )
        page = await self._listings.objects(found.id, prefix, delimiter, after, limit)
        cut_at_object = page.objects and page.objects[-1].key == page.next_after
        return page._replace(next_version=NULL_VERSION if cut_at_object else None)

    # Multipart uploads.

    async def create_upload(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        *,
        owner: str,
        initiator: str = "",
        encryption: Encryption | None = None,
    ) -> UploadInfo:
        return await self._uploads.create(bucket, key, attributes, owner, initiator, encryption)

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo:
        return await self._uploads.get(bucket, key, upload_id)

    async def put_part(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        number: int,
        payload: Payload,
        *,
        customer_key: bytes | None = None,
    ) -> PartInfo:
        return await self._uploads.put_part(bucket, key, upload_id, number, payload, customer_key)

    async def complete_upload(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        parts: Sequence[CompletePart],
        *,
        conditions: Conditions | None = None,
        check: Callable[[Sequence[PartInfo]], PayloadDigests] | None = None,
        customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        return await self._uploads.complete(
            bucket, key, upload_id, parts, conditions, check, customer_key, origin
        )

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
