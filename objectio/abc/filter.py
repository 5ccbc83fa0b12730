"""Filters: wrappers that have the interface of what they wrap.

Read-only, retry, throttle, trace, fault injection: a filter takes a KV driver, a shard store or a
volume and gives back the same kind of thing. Filters are named in the configuration of the thing
they wrap, outermost first, so that a fault can be injected into a running system as a feature.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from objectio.abc.context import Context
from objectio.abc.driver import API_VERSION


class FilterKind(enum.Enum):
    KV = "kv"
    SHARDSTORE = "shardstore"
    VOLUME = "volume"


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterDriver:
    """`open(config, context, inner)` returns the same kind of thing as `inner`."""

    name: str
    wraps: FilterKind
    config: type[msgspec.Struct]
    open: Callable[[Any, Context, Any], Any]
    summary: str = ""
    api: int = API_VERSION
