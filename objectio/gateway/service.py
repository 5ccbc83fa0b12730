"""The gateway role: the object store and the API front ends, behind the one gate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from objectio.abc.api import ApiContext
from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.gateway.host import HttpHost, cluster_view
from objectio.iam.credentials import CREDENTIALS_FILE
from objectio.meta.records import PoolRecord
from objectio.model.cluster import Osd, OsdId
from objectio.store.admin import StoreAdmin
from objectio.store.clustermap import load_map
from objectio.store.doctor import Surroundings
from objectio.store.gauges import Gauges
from objectio.store.journal import Journal
from objectio.store.pools import Pools, check_shards_fit
from objectio.store.service import ObjectStore, StoreSettings

_log: Final = logging.getLogger("objectio.gateway")


class GatewayService:
    """Provides `objects`, and what `HttpHost` does."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._store: ObjectStore | None = None
        self._host: HttpHost | None = None

    async def start(self) -> None:
        parts, config = self._parts, self._parts.config
        self._store = await self._build_store()
        parts.provide("objects", self._store)
        admin = self._build_admin(self._store)
        Gauges(admin, parts.metrics, max(pool.code.m for pool in self._store.pools.all()))
        parts.provide("admin", admin)
        context = ApiContext(
            self._store,
            parts.metrics,
            config.gateway.region,
            admin=admin,
            cluster=cluster_view(parts, str(self._store.health().get("pool", ""))),
        )
        front_ends = {name: factory.build(context) for name, factory in parts.open_apis().items()}
        if not front_ends:
            _log.warning("no API front end is installed: only /health is served")
        self._host = HttpHost(parts, front_ends, config.gateway.listen)
        await self._host.start()

    async def _build_store(self) -> ObjectStore:
        parts, config = self._parts, self._parts.config
        kv = parts.part("kv")
        pools = Pools(kv, parts.open_codecs(), parts.open_placement)
        pool = config.pool
        record = PoolRecord(
            pool.family,
            pool.data_shards,
            pool.parity_shards,
            pool.stripe_size_bytes,
            pool.failure_domain,
            pool.placement_groups,
            pool.placement or parts.best_name("placement"),
        )
        devices, topology = parts.part("devices"), self._topology()
        journal = Journal(
            kv,
            devices,
            topology,
            straggler_seconds=config.store.write_straggler_seconds,
            metrics=parts.metrics,
        )
        await journal.open(pool.parity_shards)
        await pools.load(record, await load_map(kv, topology), pool.codec)
        check_shards_fit(pools.current, devices.stores)
        settings = config.store
        store = ObjectStore(
            kv,
            devices,
            pools,
            StoreSettings(
                memory_bytes_max=settings.memory_bytes_max,
                write_straggler_seconds=settings.write_straggler_seconds,
                gc_grace_seconds=settings.gc_grace_seconds,
                part_size_bytes_min=settings.part_size_bytes_min,
                repair_interval_seconds=settings.repair_interval_seconds,
                repair_bytes_per_second=settings.repair_bytes_per_second,
                rebalance_bytes_per_second=settings.rebalance_bytes_per_second,
                read_hedge_seconds=settings.read_hedge_seconds,
                scrub_interval_seconds=settings.scrub_interval_seconds,
                scrub_bytes_per_second=settings.scrub_bytes_per_second,
            ),
            parts.metrics,
            journal=journal,
        )
        self._store = store  # to be stopped even if it fails to start
        await store.start()
        return store

    def _topology(self) -> tuple[Osd, ...]:
        disks = sorted(self._parts.config.osd.disk, key=lambda disk: disk.id)
        return tuple(
            Osd(id=OsdId(disk.id), weight=disk.weight, host=disk.host, rack=disk.rack)
            for disk in disks
        )

    def _build_admin(self, store: ObjectStore) -> StoreAdmin:
        config = self._parts.config
        return StoreAdmin(
            self._parts.part("kv"),
            store.devices,
            store.pools,
            self._topology(),
            repairer=store.repairer,
            scrubber=store.scrubber,
            rebalancer=store.rebalancer,
            journal=store.journal,
            slow=lambda: store.reads.slow,
            surroundings=Surroundings(
                auth=config.gateway.auth,
                listen=config.gateway.listen,
                data_dir=str(config.data_dir),
                credentials_path=str(config.data_dir / CREDENTIALS_FILE),
                kv_driver=config.kv.driver or self._parts.best_name("kv"),
                scrub_interval_seconds=config.store.scrub_interval_seconds,
            ),
        )

    async def stop(self) -> None:
        if self._host is not None:
            await self._host.stop()
        if self._store is not None:
            await self._store.stop()

    def health(self) -> Mapping[str, Any]:
        if self._store is None:
            return {"ok": False}
        return self._store.health()


class GatewayRole:
    after = ("meta", "osd")

    def build(self, parts: NodeParts, context: Context) -> Service:
        return GatewayService(parts)


DRIVER = Driver(
    name="gateway",
    config=NoConfig,
    open=lambda config, context: GatewayRole(),
    summary="Serves the APIs over HTTP",
)
