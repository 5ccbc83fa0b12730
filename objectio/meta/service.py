"""The metadata role: opens the key-value store and knows which cluster this is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.kv import Absent
from objectio.abc.role import NodeParts, Service
from objectio.errors import CommitConflict
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


class MetaService:
    """Provides `kv` and `cluster`."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._kv: KVStore | None = None

    async def start(self) -> None:
        self._kv = self._parts.open_kv()
        self._parts.provide("kv", self._kv)
        self._parts.provide("cluster", await load_cluster(self._kv))

    async def stop(self) -> None:
        if self._kv is not None:
            await self._kv.close()

    def health(self) -> Mapping[str, Any]:
        return {"ok": self._kv is not None}


class MetaRole:
    after: tuple[str, ...] = ()

    def build(self, parts: NodeParts, context: Context) -> Service:
        return MetaService(parts)


DRIVER = Driver(
    name="meta",
    config=NoConfig,
    open=lambda config, context: MetaRole(),
    summary="Keeps the metadata",
)
