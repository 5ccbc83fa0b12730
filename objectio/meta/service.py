"""The metadata role: opens the key-value store and knows which cluster this is."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.kms import KeyManager
from objectio.abc.kv import CAP_DURABLE, Absent
from objectio.abc.role import NodeParts, Service
from objectio.errors import CommitConflict, ConfigError, ObjectIOError
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import ClusterRecord, decode_cluster, encode


async def load_cluster(kv: KVStore) -> ClusterRecord:
    """The cluster that this metadata belongs to; a new one where there is none yet."""
    while True:
        raw = await kv.aget(keys.CLUSTER)
        if raw is not None:
            return decode_cluster(raw)
        record = ClusterRecord(str(uuid.uuid4()), int(time.time() * 1000))
        try:
            await kv.commit([Absent(keys.CLUSTER)], [(keys.CLUSTER, encode(record))])
        except CommitConflict:
            continue


async def start_keys(kv: KVStore, kms: KeyManager) -> None:
    """Hold the key manager to the set of keys that this cluster began with."""
    raw = await kv.aget(keys.KEY_SET)
    key_set = await kms.start(None if raw is None else raw.decode())
    if raw is None:
        await kv.commit([Absent(keys.KEY_SET)], [(keys.KEY_SET, key_set.encode())])


_LOST: Final = (
    "the metadata directory is lost, or not mounted. To make it anew from the disks: "
    "objectio meta rebuild. For a new cluster, take blank disks"
)
_NEVER_KEPT: Final = (
    "this engine keeps metadata in memory only, and they went with the process that wrote it. For a "
    "new cluster, take blank disks, or another `data_dir`"
)


class MetaService:
    """Provides `kv` and `cluster`."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._kv: KVStore | None = None

    async def start(self) -> None:
        self._kv = self._parts.open_kv()
        self._parts.provide("kv", self._kv)
        if await self._kv.aget(keys.CLUSTER) is None:
            await asyncio.to_thread(self._expect_blank_disks)
        self._parts.provide("cluster", await load_cluster(self._kv))
        if self._parts.has("kms"):
            await start_keys(self._kv, self._parts.part("kms"))

    def _expect_blank_disks(self) -> None:
        """A new cluster must not begin beside the data of one whose metadata are gone. Blocking."""
        config, factory = self._parts.config, None
        for disk in config.osd.disk:
            path = str(config.disk_path(disk))
            factory = factory or self._parts.open_shardstores()
            try:
                cluster = factory.cluster_of(path)
            except ObjectIOError:
                continue  # whoever opens it says so
            if cluster is not None:
                assert self._kv is not None
                raise ConfigError(
                    f"there is no metadata, but {path} holds data of cluster {cluster}: "
                    + (_LOST if CAP_DURABLE in self._kv.capabilities else _NEVER_KEPT)
                )

    async def stop(self) -> None:
        if self._kv is not None:
            await self._kv.close()

    def health(self) -> Mapping[str, Any]:
        return {"ok": self._kv is not None}


class MetaRole:
    after: tuple[str, ...] = ()

    def brings(self, config: Any) -> tuple[str, ...]:
        """Whoever has the metadata of devices, of its own or of other processes, keeps the store in
        order; and lets those processes in."""
        if config.meta.listen:
            return ("control", "maintenance")
        return ("maintenance",) if "osd" in config.node.roles else ()

    def build(self, parts: NodeParts, context: Context) -> Service:
        return MetaService(parts)


DRIVER = Driver(
    name="meta",
    config=NoConfig,
    open=lambda config, context: MetaRole(),
    summary="Keeps the metadata",
)
