"""Shard stores behind a socket of this process, for the conformance suite: `RemoteFactory`.

Devices are prepared and found by a real factory; one that is opened is served over the wire, and what
the caller gets is the far side of it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from objectio.abc.shardstore import ShardStore, ShardStoreFactory
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.server import Server
from objectio.rpc.shards import RemoteShards, RemoteShardStore
from objectio.rpc.shards_service import ShardService
from objectio.testing.context import make_context

OSD = 7
SECRET = bytes(range(32))


class _Served:
    """A remote store that takes its server with it when it is closed."""

    def __init__(
        self, store: RemoteShardStore, shards: RemoteShards, local: ShardStore, server: Server
    ) -> None:
        self._store = store
        self._shards = shards
        self._local = local
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def close(self) -> None:
        await self._store.close()
        await self._shards.close()
        await self._shards.channel.close()
        await self._server.close(0)
        await self._local.close()


class RemoteFactory:
    """`kind` of the socket: tcp or unix."""

    def __init__(self, inner: ShardStoreFactory, kind: str = "tcp") -> None:
        self._inner = inner
        self._kind = kind
        self._directories: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Preparing and finding devices is local."""
        return getattr(self._inner, name)

    async def open(self, path: str, *, cluster_id: str, opens_min: int = 0) -> ShardStore:
        local = await self._inner.open(path, cluster_id=cluster_id, opens_min=opens_min)
        server = Server(Identity(secret=SECRET, role="osd", node="far"), roles=["gateway"])
        ShardService(server, {OSD: local}, usage_seconds=0)
        address = await self._listen(server)
        near = Identity(secret=SECRET, role="gateway", node="near")
        channel = Channel(address, near, wanted_role="osd", wanted_node="far")
        await channel.connect()
        shards = RemoteShards(channel)
        return cast(ShardStore, _Served(await shards.open(OSD), shards, local, server))

    async def _listen(self, server: Server) -> str:
        if self._kind == "tcp":
            return await server.listen("127.0.0.1:0")
        where = tempfile.mkdtemp(prefix="objectio-")  # short: a socket's path has 107 bytes
        self._directories.append(where)
        return await server.listen(f"unix:{where}/socket")

    def clean(self) -> None:
        """Remove the directories of sockets."""
        while self._directories:
            shutil.rmtree(self._directories.pop(), ignore_errors=True)


def make_remote_log_store(data_dir: Path) -> RemoteFactory:
    """For the processes that the suite starts and kills."""
    return RemoteFactory(LogStoreFactory(LogStoreConfig(), make_context(data_dir)))
