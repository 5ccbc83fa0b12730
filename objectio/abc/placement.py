"""Placement: which OSDs hold a placement group.

`place` is a pure function of the group, the cluster map and the rule, so every process computes the
same answer without asking anyone, in every release. Three properties make it useful:

- spread: no two members of a group share a failure domain (rack, host or disk) while there are
  enough of them; with fewer domains than members the rule falls to the next smaller level and the
  answer says so;
- proportion: over many groups, an OSD gets a share that follows its weight;
- stability: adding or removing an OSD moves about its fair share of groups, and nothing else.

The position in the tuple is the shard index, so a stable answer also keeps positions. A position
that cannot be filled is None; the tuple never gets shorter.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from objectio.model.cluster import ClusterMap, FailureDomain, OsdId, PlacementRule


class Placed(NamedTuple):
    """`level` is the failure domain that the members are spread over in fact."""

    osds: tuple[OsdId | None, ...]
    level: FailureDomain

    def degraded(self, rule: PlacementRule) -> bool:
        """Whether the spread is narrower than the rule asks for."""
        return self.level is not rule.failure_domain or None in self.osds


class Placement(Protocol):
    def place(self, group: int, cluster: ClusterMap, rule: PlacementRule) -> Placed: ...
