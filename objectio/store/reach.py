"""Whether everything that is stored can be read, and everything new can be written, right now.

It is asked by whoever may reach the port, so the answer is kept until an OSD or a group changes: to
look at all groups of all pools takes a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from objectio.abc.shardstore import StoreState
from objectio.errors import Unavailable
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pool, Pools
from objectio.store.repair_margin import LOST, Margins


class Reach(NamedTuple):
    """`osds_up` of the `osds` answer. Stripes of `groups_unreadable` placement groups, of all pools,
    have too few shards that can be read; in `groups_unwritable` of the pool for new objects too few
    OSDs take writes. `serving`: there is a pool for new objects."""

    serving: bool
    osds: int
    osds_up: int
    groups: int
    groups_unreadable: int
    groups_unwritable: int

    @property
    def whole(self) -> bool:
        return self.serving and not self.groups_unreadable and not self.groups_unwritable


class ReachOfStripes:
    """Of what the pools say is stored on the devices, as this process sees both."""

    def __init__(self, pools: Pools, devices: DeviceSet) -> None:
        self._pools = pools
        self._devices = devices
        self._margins = Margins(devices, pools)
        self._known: tuple[Sequence[Pool], frozenset[int], frozenset[int], Reach] | None = None

    def now(self) -> Reach:
        states = {osd: store.state for osd, store in self._devices.stores.items()}
        readable = frozenset(osd for osd, state in states.items() if state is not StoreState.CLOSED)
        writable = frozenset(osd for osd, state in states.items() if state is StoreState.UP)
        pools = self._pools.all()
        known = self._known
        if known is None or not _same(known[0], pools) or known[1:3] != (readable, writable):
            reach = self._find(pools, readable, writable)
            known = self._known = pools, readable, writable, reach
        return known[3]._replace(
            osds=len(self._devices.slots), osds_up=len(readable), serving=self._serving()
        )

    def _serving(self) -> bool:
        try:
            return bool(self._pools.current)
        except Unavailable:
            return False

    def _find(
        self, pools: Sequence[Pool], readable: frozenset[int], writable: frozenset[int]
    ) -> Reach:
        groups = unreadable = unwritable = 0
        current = self._pools.current.id if self._serving() else 0
        for pool in pools:
            groups += len(pool.groups)
            for number, members in enumerate(pool.groups):
                former = pool.moving.get(number, members)
                missing = frozenset(
                    position
                    for position, (osd, other) in enumerate(zip(members, former, strict=True))
                    if osd not in readable and other not in readable
                )
                unreadable += self._margins.without(pool.code, missing) == LOST
                if pool.id == current:
                    unwritable += len(writable.intersection(members)) < pool.write_quorum
        return Reach(True, 0, 0, groups, unreadable, unwritable)


def _same(before: Sequence[Pool], now: Sequence[Pool]) -> bool:
    """A pool that changes is another object."""
    return len(before) == len(now) and all(map(_is, before, now))


def _is(one: Pool, other: Pool) -> bool:
    return one is other
