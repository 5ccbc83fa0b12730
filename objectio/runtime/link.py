"""The way from a process without metadata to the one that has it.

A process with devices or a gateway needs the metadata before it can do anything, and processes are
started in any order: so it waits, and says once in a while for what. Once it is there the link holds
for ever: when the other end goes down calls fail with `Unavailable` at once, and the channel connects
anew by itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from objectio.abc.cluster import ClusterStatus, NodeOffer, OsdReport, Registration
from objectio.abc.metrics import Metrics
from objectio.errors import ConfigError, Unavailable
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import ClusterRecord, decode_cluster
from objectio.model.cluster import ClusterMap
from objectio.rpc import capabilities
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.near_kv import NearKV
from objectio.runtime.identity import SAY_SECONDS

BACKOFF_SECONDS_MAX: Final = 1.0
"""A process with metadata that was restarted is found again within this."""
_CONNECT_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.2

_log: Final = logging.getLogger("objectio.runtime")


class MetaLink:
    """Provided as the part `link`; its fields are the parts `kv`, `cluster` and `identity` too. It
    implements `objectio.abc.cluster.ControlPlane`, by asking the other end.

    endpoint    as `cluster.meta_endpoint` says it
    channel     calls on the wire
    tls         for connections to any process of the cluster; None: no TLS
    near        opens the metadata's own files, where this process may read them
    """

    def __init__(
        self,
        endpoint: str,
        identity: Identity,
        *,
        tls: ssl.SSLContext | None,
        metrics: Metrics,
        near: Callable[[], KVStore] | None = None,
    ) -> None:
        # What it is made of takes a while to import, and a process with metadata has no use for it.
        from objectio.rpc.control.client import ControlClient, parse_endpoint

        self.endpoint = endpoint
        self.identity = identity
        address, secure = parse_endpoint(endpoint)
        if secure and tls is None:
            raise ConfigError(f"{endpoint} asks for TLS: set cluster.tls_ca_file")
        self.tls = tls
        self._control = ControlClient(endpoint, identity, tls=tls)
        self.channel = Channel(
            str(address),
            identity,
            wanted_role="meta",
            needs=[capabilities.KV, capabilities.SESSIONS, capabilities.ADMIN],
            tls=tls if secure else None,
            metrics=metrics,
            backoff_seconds_max=BACKOFF_SECONDS_MAX,
        )
        self.kv = RemoteKV(self.channel) if near is None else NearKV(self.channel, near)
        self.cluster = ClusterRecord("", 0)

    async def start(self) -> None:
        """Returns once the metadata answers. Raises `Unauthenticated` where one end refuses the
        other: a wrong secret, or another role that has this address."""
        say_at = time.monotonic() + 1.0
        while True:
            try:
                await self.channel.connect(_CONNECT_SECONDS)
                raw = await self.kv.aget(keys.CLUSTER)
            except Unavailable as error:
                if time.monotonic() >= say_at:
                    say_at = time.monotonic() + SAY_SECONDS
                    _log.warning("waiting for the metadata at %s: %s", self.endpoint, error)
            else:
                if raw is not None:
                    self.cluster = decode_cluster(raw)
                    return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        await self._control.close()
        await self.channel.close()

    # The control plane.

    async def register(self, offer: NodeOffer) -> Registration:
        return await self._control.register(offer)

    async def heartbeat(self, node: str, osds: Sequence[OsdReport]) -> int:
        return await self._control.heartbeat(node, osds)

    async def status(self) -> ClusterStatus:
        return await self._control.status()

    async def cluster_map(self) -> ClusterMap:
        return await self._control.cluster_map()

    def health(self) -> Mapping[str, Any]:
        connected = self.channel.connection is not None
        return {"ok": True, "degraded": not connected, "meta": self.endpoint}
