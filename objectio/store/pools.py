"""Pools and placement groups: how a blob is cut, and which OSDs hold its shards.

A pool is written down when it is first used and never changes; another configuration makes another
pool for new objects, and the old ones stay readable. The members of each placement group are
written down too: they follow from the cluster map at the time, and only a deliberate move of data
changes them, so a disk more or less never hides what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from objectio.abc.erasure import CodecProfile
from objectio.abc.kv import Absent, Equals
from objectio.abc.placement import Placement
from objectio.erasure.code import ErasureCode, ErasureCodes
from objectio.errors import CommitConflict, ConfigError, NotFound
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import PoolRecord, decode_groups, decode_pool, encode
from objectio.model.cluster import ClusterMap, FailureDomain, PlacementRule
from objectio.placement.groups import group_of

HOLE = -1
"""A position of a group that no OSD fills."""


class Pool(NamedTuple):
    """A pool, ready for use. `groups` are the members by group and position. While a group moves,
    they are those that it moves to, and `moving` has those that it comes from."""

    id: int
    code: ErasureCode
    stripe_size_bytes: int
    groups: tuple[tuple[int, ...], ...]
    family: str
    moving: Mapping[int, tuple[int, ...]] = {}

    def members(self, blob: bytes) -> tuple[int, ...]:
        """The OSD of each position of the blob's shards; `HOLE` where there is none. New shards go
        there, and so do repaired ones."""
        return self.groups[group_of(blob, len(self.groups))]

    def former(self, blob: bytes) -> tuple[int, ...] | None:
        """Where the blob's shards may still be instead, position by position, while its group
        moves; None where it does not."""
        if not self.moving:
            return None
        return self.moving.get(group_of(blob, len(self.groups)))

    def stripes(self, size: int) -> int:
        return -(-size // self.stripe_size_bytes)

    def stripe_bytes(self, size: int, stripe: int) -> int:
        """How many bytes of a blob of `size` the stripe holds."""
        return min(self.stripe_size_bytes, size - stripe * self.stripe_size_bytes)

    @property
    def write_quorum(self) -> int:
        """Shards that must be durable before a write is acknowledged: so many that
        any of them give it back, and one more, so that any one device may be lost right after. Where
        only one loss is survived at all, the one more is not asked for, so that a mirror of two
        still takes writes when one disk is gone."""
        return self.read_quorum + (1 if self.code.guaranteed_losses >= 2 else 0)

    @property
    def read_quorum(self) -> int:
        """Any so many shards of a stripe give it back: k, or more of a locally repairable code."""
        return self.code.width - self.code.guaranteed_losses


class Pools:
    """All pools of the cluster. `current` takes new writes."""

    current: Pool

    def __init__(
        self, kv: KVStore, codes: ErasureCodes, placements: Callable[[str], Placement]
    ) -> None:
        self._kv = kv
        self._codes = codes
        self._placements = placements
        self._pools: dict[int, Pool] = {}

    def get(self, pool_id: int) -> Pool:
        try:
            return self._pools[pool_id]
        except KeyError:
            raise NotFound(f"there is no pool {pool_id}", kind="pool") from None

    def all(self) -> Sequence[Pool]:
        """Every pool, also those that take no new objects."""
        return [pool for _, pool in sorted(self._pools.items())]

    async def load(self, wanted: PoolRecord, cluster: ClusterMap, prefer_codec: str) -> None:
        """Open every pool that is written down, and the wanted one, new if need be."""
        rows = await self._kv.ascan_prefix(keys.POOLS)
        found = {decode_uint(key, len(keys.POOLS), 4): decode_pool(raw) for key, raw in rows}
        for pool_id, record in found.items():
            await self._open(pool_id, record, cluster, prefer_codec)
        matches = [pool_id for pool_id, record in found.items() if record == wanted]
        if matches:
            self.current = self._pools[max(matches)]
            return
        pool_id = max(found, default=0) + 1
        row = keys.pool(pool_id)
        # What cannot be opened must not be written down: every later start would fail at it.
        self._check_spread(wanted, cluster)
        self._codes.get(_profile(wanted), prefer_codec)
        self._placements(wanted.placement)
        await self._kv.commit([Absent(row)], [(row, encode(wanted))])
        await self._open(pool_id, wanted, cluster, prefer_codec)
        self.current = self._pools[pool_id]

    @staticmethod
    def _check_spread(wanted: PoolRecord, cluster: ClusterMap) -> None:
        disks = sum(1 for osd in cluster.osds if osd.weight > 0 and osd.in_)
        width = wanted.data_shards + wanted.parity_shards
        if disks < width:
            raise ConfigError(
                f"the pool needs {width} disks for {wanted.data_shards}+{wanted.parity_shards}, the "
                f"configuration has {disks}: add disks, or set smaller [pool] data_shards and "
                "parity_shards"
            )

    async def _open(
        self, pool_id: int, record: PoolRecord, cluster: ClusterMap, prefer_codec: str
    ) -> None:
        self._pools[pool_id] = Pool(
            pool_id,
            self._codes.get(_profile(record), prefer_codec),
            record.stripe_size_bytes,
            await self._groups(pool_id, record, cluster),
            record.family,
        )

    async def _groups(
        self, pool_id: int, record: PoolRecord, cluster: ClusterMap
    ) -> tuple[tuple[int, ...], ...]:
        """The written members; where there are none, or a position was never filled, placed now."""
        row = keys.groups(pool_id)
        while True:
            raw = await self._kv.aget(row)
            groups = [] if raw is None else decode_groups(raw)
            if groups and not any(HOLE in members for members in groups):
                return tuple(tuple(members) for members in groups)
            filled = self._fill(groups, record, cluster)
            if filled == groups:
                return tuple(tuple(members) for members in groups)
            check = Absent(row) if raw is None else Equals(row, raw)
            try:
                await self._kv.commit([check], [(row, encode(filled))])
            except CommitConflict:
                continue

    def _fill(
        self, groups: list[list[int]], record: PoolRecord, cluster: ClusterMap
    ) -> list[list[int]]:
        rule = PlacementRule(
            width=record.data_shards + record.parity_shards,
            failure_domain=FailureDomain(record.failure_domain),
        )
        placement = self._placements(record.placement)
        filled = []
        for group in range(record.groups):
            placed = [
                HOLE if osd is None else osd for osd in placement.place(group, cluster, rule).osds
            ]
            old = groups[group] if groups else [HOLE] * rule.width
            kept = set(old)
            filled.append(
                [
                    now if was == HOLE and now not in kept else was
                    for was, now in zip(old, placed, strict=True)
                ]
            )
        return filled


def _profile(record: PoolRecord) -> CodecProfile:
    return CodecProfile(record.family, record.data_shards, record.parity_shards)
