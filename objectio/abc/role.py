"""Roles: what a node does. Gateway, metadata, OSD, block; each is a service with a life-cycle.

The runtime builds the services that `node.roles` names in dependency order, starts them, waits, and
stops them in reverse. A co-located role is handed to the next one as an object; a remote one is
reached over a transport and looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from objectio.abc.context import Context


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
    """What the runtime has built so far on this node; a role takes what it needs from it."""

    @property
    def config(self) -> Any: ...

    def part(self, name: str) -> Any:
        """An earlier part by name (kv, shardstores, objects, …). Raises `ConfigError`."""
        ...

    def provide(self, name: str, part: Any) -> None: ...


class RoleFactory(Protocol):
    """What `Driver.open` of a role returns."""

    @property
    def after(self) -> tuple[str, ...]:
        """Names of roles that must be built before this one, if they run on this node."""
        ...

    def build(self, parts: NodeParts, context: Context) -> Service: ...
