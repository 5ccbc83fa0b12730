"""Everything a plugin can hook into: one module per kind, in life-cycle order.

Registration hooks return frozen `Driver` descriptors and are called once, at start. One hook hears
events. Nothing here is ever called for a request, a stripe or a shard.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from objectio.hookspecs import (
    api,
    block,
    erasure,
    filters,
    kms,
    kv,
    lifecycle,
    metrics,
    placement,
    role,
    shardstore,
    sinks,
    transport,
)

ALL: Final[tuple[ModuleType, ...]] = (
    metrics,
    filters,
    erasure,
    kv,
    kms,
    placement,
    shardstore,
    transport,
    sinks,
    api,
    block,
    role,
    lifecycle,
)
