"""The gateway role: the object store and the API front ends, behind the one gate.

What it needs of the store stands beside it in this process, or else is at the end of connections: then
the gateway keeps nothing, and comes up whether or not the others are there. What cannot be served
without them is answered so at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from objectio.abc.api import ApiContext
from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.errors import Unavailable
from objectio.gateway.host import HttpHost, cluster_view
from objectio.gateway.identities import Callers
from objectio.store.datakeys import DataKeys
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse
from objectio.store.service import ObjectStore
from objectio.store.settings import settings_of

_log: Final = logging.getLogger("objectio.gateway")

_START_SECONDS: Final = 5.0
"""How long a start waits for the others, so that whoever waits for it finds it ready."""


class GatewayService:
    """Provides `objects`, and what `Callers` and `HttpHost` do."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._store: ObjectStore | None = None
        self._session: Any = None
        self._devices: Any = None
        self._callers: Callers | None = None
        self._host: HttpHost | None = None

    async def start(self) -> None:
        parts, config = self._parts, self._parts.config
        if parts.has("upkeep"):
            self._build_store(parts.part("devices"), parts.part("pools"), parts.part("upkeep"))
        else:
            await self._join()
        assert self._store is not None
        parts.provide("objects", self._store)
        callers = self._callers = Callers(parts)
        await callers.start()
        context = ApiContext(
            self._store,
            parts.metrics,
            config.gateway.region,
            admin=parts.part("admin"),
            cluster=cluster_view(parts, str(self._store.health().get("pool", ""))),
            directory=callers.directory,
            identities=callers.identities,
            quotas=self._store.quotas,
            object_ownership=config.gateway.object_ownership,
            configuration=parts.shown_config(),
        )
        front_ends = {name: factory.build(context) for name, factory in parts.open_apis().items()}
        if not front_ends:
            _log.warning("no API front end is installed: only /health is served")
        self._host = HttpHost(parts, front_ends, callers, config.gateway.listen)
        await self._host.start()

    def _build_store(self, devices: Any, pools: Pools, upkeep: Any) -> None:
        parts = self._parts
        self._store = ObjectStore(
            parts.part("kv"),
            devices,
            pools,
            settings_of(parts.config.store),
            parts.metrics,
            in_use=parts.part("in_use"),
            upkeep=upkeep,
            slow=parts.part("slow") if parts.has("slow") else None,
            keys=DataKeys(
                parts.part("kms") if parts.has("kms") else None,
                require_key_id=parts.config.kms.require_key_id,
            ),
        )

    async def _join(self) -> None:
        """Metadata, devices and upkeep of other processes."""
        from objectio.store.remote_admin import RemoteAdmin
        from objectio.store.remote_devices import RemoteDevices
        from objectio.store.sessions import Session

        parts, config = self._parts, self._parts.config
        kv, channel = parts.part("kv"), parts.part("link").channel
        in_use = BlobsInUse()
        parts.provide("in_use", in_use)
        parts.provide("admin", RemoteAdmin(channel))
        pools = Pools(kv, parts.open_codecs(), parts.open_placement)
        self._devices = RemoteDevices(
            kv,
            parts.part("identity"),
            tls=parts.part("client_tls"),
            check_seconds=config.osd.check_seconds,
            metrics=parts.metrics,
        )
        self._session = Session(channel, kv, config.node.name, pools, in_use)
        self._build_store(self._devices, pools, self._session)
        await self._devices.start()
        with suppress(Unavailable):  # then the session reads them, as soon as there are any
            await pools.follow(config.pool.codec)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._session.open()

    async def stop(self) -> None:
        if self._host is not None:
            await self._host.stop()
        if self._callers is not None:
            await self._callers.stop()
        if self._store is not None:
            await self._store.stop()
        if self._session is not None:
            await self._session.close()
        if self._devices is not None:
            await self._devices.stop()

    def health(self) -> Mapping[str, Any]:
        if self._store is None:
            return {"ok": False}
        health = self._store.health()
        if self._session is None:
            return health
        if self._parts.part("link").channel.connection is None:
            return {**health, "ok": False, "waiting": "there is no connection to the metadata"}
        if not self._session.is_open:
            return {**health, "ok": False, "waiting": "there is no session with the metadata"}
        return health


class GatewayRole:
    after = ("meta", "osd", "control", "maintenance")

    def build(self, parts: NodeParts, context: Context) -> Service:
        return GatewayService(parts)


DRIVER = Driver(
    name="gateway",
    config=NoConfig,
    open=lambda config, context: GatewayRole(),
    summary="Serves the APIs over HTTP",
)
