"""The maintenance role: whoever has the metadata keeps the store in order, for all processes.

With devices of its own it is up when its start returns. With those of other processes it cannot be: they
need the metadata to be served before they can come. So it starts in the background. It waits until there
are enough OSDs, says in its health what for, and takes sessions of gateways only then; OSDs that come
later are taken into the cluster map as they register.

A pool is written down, and its groups are placed, only once there are as many OSDs as a stripe has
shards. Before that there is no pool that anything could be written to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from objectio.abc.admin import Finding
from objectio.abc.cluster import ClusterState
from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.errors import ObjectIOError
from objectio.iam.credentials import CREDENTIALS_FILE
from objectio.maintenance.delivery import Delivery, DeliverySettings
from objectio.maintenance.waiting import Waiting
from objectio.meta import keys
from objectio.meta.records import PoolRecord, decode_pool
from objectio.model.cluster import Osd, OsdId
from objectio.store.admin import StoreAdmin
from objectio.store.clustermap import load_map, located
from objectio.store.doctor import Surroundings
from objectio.store.gauges import Gauges
from objectio.store.journal import Journal
from objectio.store.maintenance import Maintenance
from objectio.store.pools import Pools, check_shards_fit
from objectio.store.presence import BlobsInUse
from objectio.store.settings import settings_of

_log: Final = logging.getLogger("objectio.maintenance")

_LOOK_SECONDS: Final = 0.1
"""Between two looks at which OSDs are there, as long as they are waited for."""
_RETRY_SECONDS: Final = 5.0


class MaintenanceService:
    """Provides

    maintenance     this, for its `state`
    pools           the `Pools`; none is open while OSDs are waited for
    upkeep          the `Maintenance`
    in_use          the `BlobsInUse` of this process, unless somebody provided one
    slow            OSDs that are slow to read, as whoever reads in this process finds
    admin           the `StorageAdmin`
    devices         those of other processes, where this one has none
    """

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._kv = parts.part("kv")
        self._state: tuple[ClusterState, str] = ("waiting", "the store is starting")
        self._topology: Sequence[Osd] = ()
        self._gauges: Gauges | None = None
        self._remote: Any = None
        self._background: asyncio.Task[None] | None = None
        self._delivery: Delivery | None = None

    @property
    def state(self) -> tuple[ClusterState, str]:
        """Whether objects can be served, and if not what is waited for."""
        return self._state

    async def start(self) -> None:
        parts = self._parts
        self._wanted = await self._find_wanted()
        self._delivery = Delivery(
            self._kv,
            parts.open_sinks(),
            DeliverySettings(age_seconds_max=parts.config.sinks.event_age_seconds_max),
            parts.metrics,
        )
        if parts.has("devices"):
            self._topology = _configured(parts.config)
            self._build(parts.part("devices"))
            await self._load()
            await self._run()
            return
        from objectio.store.remote_devices import RemoteDevices

        self._remote = RemoteDevices(
            self._kv,
            parts.part("identity"),
            tls=parts.part("client_tls"),
            check_seconds=parts.config.osd.check_seconds,
            metrics=parts.metrics,
        )
        self._remote.listen(parts.events)
        self._remote.listen_for_old_copies(parts.events.old_copy)
        parts.provide("devices", self._remote)
        self._build(self._remote)
        await self._remote.start()
        self._background = asyncio.get_running_loop().create_task(self._come_up())

    def _build(self, devices: Any) -> None:
        parts, config = self._parts, self._parts.config
        self._devices = devices
        if not parts.has("in_use"):
            parts.provide("in_use", BlobsInUse())
        in_use = parts.part("in_use")
        slow: set[int] = set()
        self._pools = Pools(self._kv, parts.open_codecs(), parts.open_placement)
        self._journal = Journal(
            self._kv,
            devices,
            self._topology,
            straggler_seconds=config.store.write_straggler_seconds,
            metrics=parts.metrics,
        )
        self._upkeep = Maintenance(
            self._kv,
            devices,
            self._pools,
            settings_of(config.store),
            parts.metrics,
            presence=parts.part("presence") if parts.has("presence") else in_use,
            journal=self._journal,
            in_use=in_use,
            slow=slow,
        )
        self._admin = self._build_admin(slow)
        for name, part in (
            ("maintenance", self),
            ("pools", self._pools),
            ("upkeep", self._upkeep),
            ("slow", slow),
            ("admin", self._admin),
        ):
            parts.provide(name, part)

    def _build_admin(self, slow: set[int]) -> StoreAdmin:
        config, upkeep = self._parts.config, self._upkeep
        return StoreAdmin(
            self._kv,
            self._devices,
            self._pools,
            self._topology,
            repairer=upkeep.repairer,
            scrubber=upkeep.scrubber,
            rebalancer=upkeep.rebalancer,
            journal=upkeep.journal,
            slow=lambda: slow,
            surroundings=Surroundings(
                auth=config.gateway.auth,
                listen=config.gateway.listen,
                data_dir=str(config.data_dir),
                credentials_path=str(config.data_dir / CREDENTIALS_FILE),
                kv_driver=config.kv.driver or self._parts.best_name("kv"),
                scrub_interval_seconds=config.store.scrub_interval_seconds,
            ),
            findings=self._findings,
        )

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        if self._kv.place is not None:
            found += self._kv.place.findings()
        if self._parts.has("kms"):
            found += self._parts.part("kms").findings()
        return found

    # Up.

    async def _find_wanted(self) -> PoolRecord:
        """The pool for new objects: of the configuration, or the one that is in use already."""
        pool = self._parts.config.pool
        if self._parts.config.meta.keep_pool:
            current = await self._kv.aget(keys.CURRENT_POOL)
            raw = None if current is None else await self._kv.aget(keys.POOLS + current)
            if raw is not None:
                return decode_pool(raw)
        return PoolRecord(
            pool.family,
            pool.data_shards,
            pool.parity_shards,
            pool.stripe_size_bytes,
            pool.failure_domain,
            pool.placement_groups,
            pool.placement or self._parts.best_name("placement"),
        )

    async def _load(self) -> None:
        await self._journal.open(self._wanted.parity_shards)
        cluster = await load_map(self._kv, self._topology)
        await self._pools.load(self._wanted, cluster, self._parts.config.pool.codec)
        check_shards_fit(self._pools.current, self._devices.stores)

    async def _run(self) -> None:
        parts = self._parts
        await self._upkeep.start()
        if self._delivery is not None:
            self._delivery.start()
        most = max(pool.code.m for pool in self._pools.all())
        created_ms = parts.part("cluster").created_ms
        self._gauges = Gauges(self._admin, parts.metrics, most, created_ms)
        self._state = ("serving", "")
        if parts.has("sessions"):  # whoever survived the process before this one can answer now
            parts.part("sessions").serve(self._upkeep)

    # In the background, where the devices are of other processes.

    async def _come_up(self) -> None:
        while True:
            try:
                await self._wait_for_osds()
                self._journal.know(self._topology)
                await self._load()
                break
            except ObjectIOError as error:
                self._say(error.message, logging.ERROR)
            except Exception as error:
                _log.exception("starting to keep the store in order")
                self._say(str(error), logging.ERROR)
            await asyncio.sleep(_RETRY_SECONDS)
        try:
            await self._run()
        except Exception as error:
            _log.exception("the store cannot be kept in order: restart this process")
            self._say(str(error), logging.ERROR)
            return
        _log.info("the store is ready, on %d OSDs", len(self._devices.stores))
        await self._follow_topology()

    def _say(self, reason: str, level: int = logging.INFO) -> None:
        if self._state != ("waiting", reason):
            _log.log(level, "waiting: %s", reason)
        self._state = ("waiting", reason)

    async def _wait_for_osds(self) -> None:
        waiting = Waiting(self._kv, self._devices.stores, self._wanted)
        while True:
            self._topology = await located(self._kv)
            self._admin.know(self._topology)
            lacking = await waiting.lacking(self._topology, time.monotonic())
            if not lacking:
                return
            self._say(lacking)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _follow_topology(self) -> None:
        """OSDs that register later, or stand elsewhere now."""
        while True:
            try:
                async for _ in self._kv.watch(keys.LOCATIONS):
                    await self._look_at_topology()
            except Exception:
                _log.exception("following where OSDs are")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _look_at_topology(self) -> None:
        topology = await located(self._kv)
        if topology == self._topology:
            return
        self._journal.know(topology)
        self._admin.know(topology)
        await self._upkeep.rebalancer.reload_map(topology)
        self._topology = topology
        if self._gauges is not None:
            self._gauges.show_disks()

    # Down.

    async def stop(self) -> None:
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)
        if self._delivery is not None:
            await self._delivery.stop()
        if hasattr(self, "_upkeep"):
            await self._upkeep.stop()
        if self._remote is not None:
            await self._remote.stop()

    def health(self) -> Mapping[str, Any]:
        state, reason = self._state
        if state == "waiting":
            return {"ok": False, "waiting": reason}
        return self._upkeep.health()


def _configured(config: Any) -> tuple[Osd, ...]:
    disks = sorted(config.osd.disk, key=lambda disk: disk.id)
    return tuple(
        Osd(id=OsdId(disk.id), weight=disk.weight, host=disk.host, rack=disk.rack) for disk in disks
    )


class MaintenanceRole:
    after = ("meta", "osd", "control")

    def build(self, parts: NodeParts, context: Context) -> Service:
        return MaintenanceService(parts)


DRIVER = Driver(
    name="maintenance",
    config=NoConfig,
    open=lambda config, context: MaintenanceRole(),
    summary="Keeps the store in order: journal, garbage, repair, scrubbing, moves",
)
