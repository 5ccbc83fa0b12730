"""Which shards form a local group, and what can be decoded in theory.

A stripe has k data shards, then l local parities, then g global parities. The data is cut into l
groups of shards that follow each other; where k is not a multiple of l the first groups have one
more. A *local group* here is such a run of data together with its local parity.

        data         |  0   1   2 |  3   4   5 |          6+2+2: k = 6, l = 2, g = 2
        local        |      6     |      7     |          {0, 1, 2, 6} and {3, 4, 5, 7}
        global       |      8           9      |

What any code of this shape can decode at best: a local parity gives back one shard of its group, a
global parity one shard anywhere. So if e_i shards of group i are lost, and e of the global
parities, then all can be had back only if Σ max(e_i - 1, 0) + e ≤ g. A code that decodes every
such pattern is *maximally recoverable* (Gopalan, Huang, Jenkins, Yekhanin: "Explicit Maximally
Recoverable Codes with Locality", 2014).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from objectio.abc.erasure import FAMILY_LRC_CAUCHY, CodecProfile
from objectio.erasure import matrix
from objectio.errors import ConfigError

LOCAL_GROUPS_MAX: Final = 16
FAMILIES: Final = {
    FAMILY_LRC_CAUCHY.format(local_groups=count): count for count in range(1, LOCAL_GROUPS_MAX + 1)
}
"""Family → the number of its local groups."""


@dataclass(frozen=True)
class Layout:
    """k data shards, l local groups, g global parities."""

    data_shards: int
    local_groups: int
    global_parities: int

    @classmethod
    def of(cls, profile: CodecProfile) -> Layout:
        """Raises `ConfigError` for a profile that is no locally repairable code."""
        matrix.check_profile(profile, frozenset(FAMILIES))
        local_groups = FAMILIES[profile.family]
        if not local_groups <= profile.data_shards:
            raise ConfigError(f"{profile}: {local_groups} local groups need as many data shards")
        if not local_groups <= profile.parity_shards:
            raise ConfigError(
                f"{profile}: {local_groups} local groups need as many parity shards: the local "
                "parities are the first of them, the global ones are the rest"
            )
        return cls(profile.data_shards, local_groups, profile.parity_shards - local_groups)

    @property
    def profile(self) -> CodecProfile:
        family = FAMILY_LRC_CAUCHY.format(local_groups=self.local_groups)
        return CodecProfile(family, self.data_shards, self.local_groups + self.global_parities)

    @property
    def width(self) -> int:
        return self.data_shards + self.local_groups + self.global_parities

    @cached_property
    def group_data(self) -> tuple[range, ...]:
        """The data shards of each local group."""
        small, more = divmod(self.data_shards, self.local_groups)
        sizes = [small + (group < more) for group in range(self.local_groups)]
        starts = [sum(sizes[:group]) for group in range(self.local_groups)]
        return tuple(range(a, a + size) for a, size in zip(starts, sizes, strict=True))

    @cached_property
    def groups(self) -> tuple[frozenset[int], ...]:
        """The shards of each local group, its parity among them."""
        return tuple(
            frozenset([*data, self.data_shards + group])
            for group, data in enumerate(self.group_data)
        )

    @cached_property
    def globals_(self) -> frozenset[int]:
        """The global parities."""
        return frozenset(range(self.data_shards + self.local_groups, self.width))

    def decodable_in_theory(self, lost: Collection[int]) -> bool:
        """Whether some code of this shape could give all of the lost shards back."""
        gone = frozenset(lost)
        excess = sum(max(len(gone & group) - 1, 0) for group in self.groups)
        return excess + len(gone & self.globals_) <= self.global_parities
