"""The cluster map: which OSDs exist, where they stand, how much they hold.

A map is immutable and has an epoch; a change makes a new map with the next epoch.
"""

from __future__ import annotations

import enum
from typing import NewType

import msgspec

OsdId = NewType("OsdId", int)


class FailureDomain(enum.Enum):
    """The levels of the topology, from large to small."""

    RACK = "rack"
    HOST = "host"
    DISK = "disk"

    @property
    def next_smaller(self) -> FailureDomain | None:
        levels = list(FailureDomain)
        at = levels.index(self) + 1
        return levels[at] if at < len(levels) else None


class Osd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One OSD. `weight` is relative capacity; 0 takes no groups. `in_` is False once it is out for
    good and its groups must go elsewhere; a passing absence is not part of the map."""

    id: OsdId
    weight: float = 1.0
    host: str = "localhost"
    rack: str = "default"
    in_: bool = True

    def domain(self, level: FailureDomain) -> str:
        """The name of the domain of that level in which this OSD stands; unique in the map."""
        if level is FailureDomain.RACK:
            return self.rack
        if level is FailureDomain.HOST:
            return f"{self.rack}/{self.host}"
        return f"{self.rack}/{self.host}/{self.id}"


class ClusterMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All OSDs at one epoch, ascending by id."""

    epoch: int
    osds: tuple[Osd, ...] = ()


class PlacementRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`width` members (k + m), no two in one `failure_domain`."""

    width: int
    failure_domain: FailureDomain = FailureDomain.HOST
