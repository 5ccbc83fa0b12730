"""What a registration hook returns: a frozen description of a driver that can be opened later.

Describing and opening are two steps, because a node lists every installed plugin but opens only
those that its configuration names. A plugin's module is imported at discovery; the C library
behind a driver is imported inside `Driver.open`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from objectio.abc.context import Context

API_VERSION = 1
"""The version of the contracts in `objectio.abc`. A driver says which one it was written for."""

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)
T_co = TypeVar("T_co", covariant=True)


class ThreadModel(enum.Enum):
    """How the kernel may call one opened driver from several threads (after nbdkit)."""

    SERIALIZE_ALL = "serialize_all"
    """One call at a time over all handles of the driver: for libraries with global state."""
    SERIALIZE_HANDLE = "serialize_handle"
    """One call at a time on one handle."""
    PARALLEL = "parallel"
    """Any calls at once. Such a driver should release the GIL in its long calls."""


class NoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For drivers without settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver(Generic[ConfigT, T_co]):
    """One driver of one kind.

    name          what the configuration says, e.g. "isal"; unique within its kind
    config        a frozen msgspec Struct: the schema of the driver's own configuration section. A field
                  that must not be shown says so: Meta(extra={"secret": True}), see config.shown
    open          `open(config, context)`: builds the object that implements the kind's contract;
                  may import C libraries; raises `DriverUnavailable` with what to install
    summary       one line for `objectio plugin list`
    rank          where the configuration names no driver, the installed one of highest rank is
                  taken (the kernel names no plugin): reference drivers 0, good choices 50, best 100
    api           the contract version that the driver was written for
    capabilities  words that the kind's contract defines
    threads       how it may be called
    """

    name: str
    config: type[ConfigT]
    open: Callable[[ConfigT, Context], T_co]
    summary: str = ""
    rank: int = 0
    api: int = API_VERSION
    capabilities: frozenset[str] = field(default_factory=frozenset)
    threads: ThreadModel = ThreadModel.SERIALIZE_ALL


AnyDriver = Driver[Any, Any]
