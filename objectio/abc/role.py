"""Roles: what a node does. Gateway, metadata, OSD, block; each is a service with a life-cycle.

The runtime builds the services that `node.roles` names in dependency order, starts them, waits, and
stops them in reverse. A co-located role is handed to the next one as an object; a remote one is
reached over a transport and looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from objectio.abc.api import FrontEndFactory
from objectio.abc.context import Context
from objectio.abc.metrics import Exporter, Metrics
from objectio.abc.placement import Placement
from objectio.abc.shardstore import ShardStore, ShardStoreFactory
from objectio.abc.sinks import EventSink


class Service(Protocol):
    async def start(self) -> None:
        """Ready when it returns. Raises if it cannot be."""
        ...

    async def stop(self) -> None:
        """Finish what is under way, release everything. Called once, also after a failed start."""
        ...

    def health(self) -> Mapping[str, Any]:
        """`{"ok": bool, …}`: what the health endpoint shows of this role."""
        ...


class NodeParts(Protocol):
    """What the runtime gives a role: the configuration, drivers opened as it says, and the parts
    that other roles of the node have provided. Opening raises `ConfigError` or a `PluginError`."""

    @property
    def config(self) -> Any:
        """The node's whole configuration, an `objectio.config.Config`."""
        ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def exporter(self) -> Exporter | None: ...

    @property
    def events(self) -> Any:
        """Where OSDs going up and down are announced to plugins."""
        ...

    def part(self, name: str) -> Any:
        """A part of an earlier role by name (kv, cluster, devices, objects, …). Raises
        `ConfigError` where there is none."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a part by now."""
        ...

    def provide(self, name: str, part: Any) -> None: ...

    def open_kv(self) -> Any:
        """The configured `objectio.kv.store.KVStore`, in its filters."""
        ...

    def open_shardstores(self) -> ShardStoreFactory: ...

    def wrap_shardstore(self, osd: int, store: ShardStore) -> ShardStore:
        """An opened device in the configured filters."""
        ...

    def open_codecs(self) -> Any:
        """All installed codecs, as `objectio.erasure.ErasureCodes`."""
        ...

    def open_placement(self, name: str) -> Placement: ...

    def best_name(self, kind: str) -> str:
        """The name of the driver that is taken where the configuration names none."""
        ...

    def open_sinks(self) -> Mapping[str, EventSink]:
        """All that the configuration has a table for, by name."""
        ...

    def open_apis(self) -> Mapping[str, FrontEndFactory]:
        """The front ends to serve, by name."""
        ...

    def shown_config(self) -> Mapping[str, Any]:
        """The configuration for operators, without its secrets: see `ApiContext.configuration`."""
        ...

    def health(self) -> Mapping[str, Any]:
        """The health of all roles of this node."""
        ...


class RoleFactory(Protocol):
    """What `Driver.open` of a role returns. It may have a method `brings(config)` besides: the names
    of further roles that run wherever this one does."""

    @property
    def after(self) -> tuple[str, ...]:
        """Names of roles that must be built before this one, if they run on this node."""
        ...

    def build(self, parts: NodeParts, context: Context) -> Service: ...
