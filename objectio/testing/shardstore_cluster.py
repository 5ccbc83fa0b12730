"""Shard stores as `RemoteDevices` opens them, for the conformance suite: `ClusterFactory`.

As `objectio.testing.shardstore_remote`, and what the caller gets is the store that a process of a
cluster finds in its `stores`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.abc.shardstore import ShardStore
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import LocationRecord, encode
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.rpc.auth import Identity
from objectio.rpc.server import Server
from objectio.rpc.shards_service import ShardService
from objectio.store.device_service import DeviceService
from objectio.store.devices import Devices, Slot
from objectio.store.remote_devices import RemoteDevices
from objectio.testing.context import make_context
from objectio.testing.shardstore_remote import OSD, SECRET, RemoteFactory


class _Served:
    """A store that takes its cluster with it when it is closed."""

    def __init__(
        self, devices: RemoteDevices, local: ShardStore, server: Server, kv: KVStore
    ) -> None:
        self._store = devices.stores[OSD]
        self._devices = devices
        self._local = local
        self._server = server
        self._kv = kv

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def close(self) -> None:
        await self._store.close()
        await self._devices.stop()
        await self._server.close(0)
        await self._local.close()
        await self._kv.close()


class ClusterFactory(RemoteFactory):
    async def open(self, path: str, *, cluster_id: str, opens_min: int = 0) -> ShardStore:
        local = await self._inner.open(path, cluster_id=cluster_id, opens_min=opens_min)
        kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
        server = Server(Identity(secret=SECRET, role="osd", node="far"), roles=["gateway"])
        slot = Slot(OSD, path, store=local, reason="")
        far = Devices(kv, self._inner, [slot], cluster_id)
        far.stores[OSD] = local
        ShardService(server, far.stores, usage_seconds=0)
        DeviceService(server, far)
        where = LocationRecord("far", await self._listen(server), path, "h", "r", 1.0)
        await kv.commit([], [(keys.location(OSD), encode(where))])
        near = Identity(secret=SECRET, role="gateway", node="near")
        devices = RemoteDevices(kv, near)
        await devices.start()
        return cast(ShardStore, _Served(devices, local, server, kv))


def make_cluster_log_store(data_dir: Path) -> ClusterFactory:
    """For the processes that the suite starts and kills."""
    return ClusterFactory(LogStoreFactory(LogStoreConfig(), make_context(data_dir)))
