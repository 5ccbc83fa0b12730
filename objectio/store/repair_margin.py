"""Margins: how many more shards a blob may lose before it is lost.

What is repaired first is decided by this number alone. A shard counts as missing while its device is
down or is being refilled, so the margins of all blobs change with each device that goes or comes.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from objectio.abc.erasure import (
    FAMILY_REPLICATE,
    FAMILY_RS_CAUCHY,
    FAMILY_RS_VANDERMONDE,
    CodecProfile,
)
from objectio.erasure.code import ErasureCode
from objectio.meta.records import BlobRef
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pools
from objectio.store.verify import decodable

LOST: Final = -1
"""The margin of what cannot be read now."""

_SEPARABLE: Final = {FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE, FAMILY_REPLICATE}
"""Families of which any k shards are enough."""
_TRIES_MAX: Final = 5000
_KEPT_MAX: Final = 10_000


class Margins:
    """Answers for the devices as they are now."""

    def __init__(self, devices: DeviceSet, pools: Pools) -> None:
        self.refilling: set[int] = set()
        """OSDs whose share is being made anew."""
        self._stores = devices.stores
        self._pools = pools
        self._known: dict[tuple[CodecProfile, frozenset[int]], int] = {}

    def of(self, ref: BlobRef, mask: int = 0) -> int:
        """The margin of a blob; `mask` has further positions that are known to be missing."""
        pool = self._pools.get(ref.pool)
        former = pool.former(ref.blob)
        missing = []
        for position, osd in enumerate(pool.members(ref.blob)):
            there = self._has(osd) or (former is not None and self._has(former[position]))
            if mask >> position & 1 or not there:
                missing.append(position)
        return self.without(pool.code, frozenset(missing))

    def _has(self, osd: int) -> bool:
        return osd in self._stores and osd not in self.refilling

    def without(self, code: ErasureCode, missing: frozenset[int]) -> int:
        if code.profile.family in _SEPARABLE:
            return max(code.m - len(missing), LOST)
        key = (code.profile, missing)
        margin = self._known.get(key)
        if margin is None:
            if len(self._known) >= _KEPT_MAX:
                self._known.clear()
            margin = self._known[key] = tolerance(code, missing)
        return margin


def tolerance(code: ErasureCode, missing: frozenset[int]) -> int:
    """How many more shards may be lost, whichever they are. Tries all that may be, up to a bound;
    beyond it says less than is true."""
    left = [position for position in range(code.width) if position not in missing]
    if not decodable(code, left):
        return LOST
    tries = 0
    for count in range(1, len(left)):
        tries += math.comb(len(left), count)
        if tries > _TRIES_MAX:
            return count - 1
        for lost in itertools.combinations(left, count):
            if not decodable(code, [position for position in left if position not in lost]):
                return count - 1
    return len(left) - 1
