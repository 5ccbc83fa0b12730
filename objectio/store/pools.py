"""Pools and placement groups: how a blob is cut, and which OSDs hold its shards.

A pool is written down when it is first used and never changes; another configuration makes another
pool for new objects, and the old ones stay readable. The members of each placement group are
written down too: they follow from the cluster map at the time, and only a deliberate move of data
changes them, so a disk more or less never hides what is stored.

While a group moves it has two sets of members, and a row of its own: what is written goes to the new
ones; what was there before is at the old ones until the last shard is copied. Both sets change in one
commit, and the rows are always ahead of what this process believes, never behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from objectio.abc.erasure import CodecProfile
from objectio.abc.kv import Absent, Check, Equals
from objectio.abc.placement import Placement
from objectio.abc.shardstore import ShardStore
from objectio.erasure.code import ErasureCode, ErasureCodes
from objectio.errors import CommitConflict, ConfigError, NotFound
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import (
    MoveRecord,
    PoolRecord,
    decode_groups,
    decode_move,
    decode_pool,
    encode,
)
from objectio.model.cluster import ClusterMap, FailureDomain, PlacementRule
from objectio.placement.balance import Members, Preference, balance
from objectio.placement.groups import group_of

HOLE = -1
"""A position of a group that no OSD fills."""

_PAGE: Final = 5000


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


class GroupMove(NamedTuple):
    """What the rows are to say of a group. `former` None: its move is over. `changed` are the
    positions that are to be looked at before it can be."""

    pool: int
    group: int
    members: Members
    former: Members | None = None
    changed: tuple[int, ...] = ()


class Pools:
    """All pools of the cluster. `current` takes new writes; `cluster` is the map."""

    current: Pool
    cluster: ClusterMap

    def __init__(
        self, kv: KVStore, codes: ErasureCodes, placements: Callable[[str], Placement]
    ) -> None:
        self.changed: dict[tuple[int, int], tuple[int, ...]] = {}
        """Positions that are being moved, by pool and group."""
        self._kv = kv
        self._codes = codes
        self._placements = placements
        self._pools: dict[int, Pool] = {}
        self._records: dict[int, PoolRecord] = {}
        self._rows: dict[bytes, bytes] = {}
        """Rows of groups and moves as they are written."""

    def get(self, pool_id: int) -> Pool:
        try:
            return self._pools[pool_id]
        except KeyError:
            raise NotFound(f"there is no pool {pool_id}", kind="pool") from None

    def all(self) -> Sequence[Pool]:
        """Every pool, also those that take no new objects."""
        return [pool for _, pool in sorted(self._pools.items())]

    def rule(self, pool_id: int) -> PlacementRule:
        return _rule(self._records[pool_id])

    async def load(self, wanted: PoolRecord, cluster: ClusterMap, prefer_codec: str) -> None:
        """Open every pool that is written down, and the wanted one, new if need be."""
        self.cluster = cluster
        rows = await self._kv.ascan_prefix(keys.POOLS)
        found = {decode_uint(key, len(keys.POOLS), 4): decode_pool(raw) for key, raw in rows}
        for pool_id, record in found.items():
            await self._open(pool_id, record, cluster, prefer_codec)
        matches = [pool_id for pool_id, record in found.items() if record == wanted]
        pool_id = max(matches, default=0)
        if not pool_id:
            pool_id = max(found, default=0) + 1
            row = keys.pool(pool_id)
            # What cannot be opened must not be written down: every later start would fail at it.
            self._check_spread(wanted, cluster)
            self._codes.get(_profile(wanted), prefer_codec)
            self._placements(wanted.placement)
            await self._kv.commit([Absent(row)], [(row, encode(wanted))])
            await self._open(pool_id, wanted, cluster, prefer_codec)
        self.current = self._pools[pool_id]
        await self.refresh()

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
        self._records[pool_id] = record
        await self._place(pool_id, record, cluster)
        self._pools[pool_id] = Pool(
            pool_id,
            self._codes.get(_profile(record), prefer_codec),
            record.stripe_size_bytes,
            (),
            record.family,
        )

    async def _place(self, pool_id: int, record: PoolRecord, cluster: ClusterMap) -> None:
        """Write down the members of a new pool's groups: those that the placement chooses, evened
        out, so that what moves later is what changes then and no more."""
        row = keys.groups(pool_id)
        if await self._kv.aget(row) is not None:
            return
        prefer = self._preference(pool_id, cluster)
        placed = [
            tuple(HOLE if osd is None else osd for osd in prefer(group))
            for group in range(record.groups)
        ]
        even = balance(placed, cluster, _rule(record), prefer, slack=0)
        try:
            await self._kv.commit([Absent(row)], [(row, encode(even))])
        except CommitConflict:
            return  # somebody else was faster; what is written counts

    def _preference(self, pool_id: int, cluster: ClusterMap) -> Preference:
        record = self._records[pool_id]
        placement, rule = self._placements(record.placement), _rule(record)
        return lambda group: placement.place(group, cluster, rule).osds

    # Moves.

    def plan(self, pool_id: int, cluster: ClusterMap, receivers: Collection[int]) -> list[Members]:
        """The members that each group ought to have under the map; only `receivers` get anything
        that they do not have. Takes its time: for a worker thread."""
        return balance(
            self._pools[pool_id].groups,
            cluster,
            self.rule(pool_id),
            self._preference(pool_id, cluster),
            receivers=receivers,
        )

    async def move(self, moves: Sequence[GroupMove]) -> None:
        """Begin, redirect and end moves of groups, all in one commit. If it fails, nobody knows
        whether it went through: `refresh` before anything else."""
        checks: list[Check] = []
        writes: list[tuple[bytes, bytes | None]] = []
        for pool_id in {each.pool for each in moves}:
            rows = [list(members) for members in self._pools[pool_id].groups]
            for each in moves:
                if each.pool == pool_id:
                    rows[each.group] = list(each.members)
            self._write(checks, writes, keys.groups(pool_id), encode(rows))
        for each in moves:
            record = None
            if each.former is not None:
                record = encode(MoveRecord(list(each.former), list(each.changed)))
            self._write(checks, writes, keys.move(each.pool, each.group), record)
        await self._kv.commit(checks, writes)
        for row, value in writes:
            if value is None:
                self._rows.pop(row, None)
            else:
                self._rows[row] = value
        self._show()

    def _write(
        self,
        checks: list[Check],
        writes: list[tuple[bytes, bytes | None]],
        row: bytes,
        value: bytes | None,
    ) -> None:
        raw = self._rows.get(row)
        checks.append(Absent(row) if raw is None else Equals(row, raw))
        writes.append((row, value))

    async def refresh(self) -> None:
        """Read the rows anew."""
        groups = await self._kv.ascan_prefix(keys.GROUPS)
        moves: list[tuple[bytes, bytes]] = []
        while page := await self._kv.ascan_prefix(
            keys.MOVES, after=moves[-1][0] if moves else b"", limit=_PAGE
        ):
            moves += page
        self._rows = dict([*groups, *moves])
        self._show()

    def _show(self) -> None:
        """Bring what this process believes in line with the rows."""
        moving: dict[int, dict[int, Members]] = {}
        self.changed = {}
        for row, raw in self._rows.items():
            if row.startswith(keys.MOVES):
                pool_id = decode_uint(row, len(keys.MOVES), 4)
                group = decode_uint(row, len(keys.MOVES) + 4, 4)
                record = decode_move(raw)
                moving.setdefault(pool_id, {})[group] = tuple(record.former)
                self.changed[pool_id, group] = tuple(record.changed)
        for pool_id, pool in self._pools.items():
            members = decode_groups(self._rows[keys.groups(pool_id)])
            self._pools[pool_id] = pool._replace(
                groups=tuple(tuple(each) for each in members), moving=moving.get(pool_id, {})
            )
        self.current = self._pools[self.current.id]


def check_shards_fit(pool: Pool, stores: Mapping[int, ShardStore]) -> None:
    """Raises `ConfigError` where a full stripe's shards are larger than what too many devices can
    store as one: every large write would be refused."""
    shard_bytes = pool.code.shard_length(pool.stripe_size_bytes)
    largest = {osd: store.usage().shard_bytes_max for osd, store in stores.items()}
    too_small = sorted(osd for osd, most in largest.items() if 0 < most < shard_bytes)
    if too_small and len(stores) - len(too_small) < pool.write_quorum:
        raise ConfigError(
            f"shards of {shard_bytes} bytes do not fit into the log segments of OSDs "
            f"{', '.join(map(str, too_small))}, which take {largest[too_small[0]]} bytes: set a "
            "smaller [pool] stripe_size_bytes, or prepare larger devices"
        )


def _profile(record: PoolRecord) -> CodecProfile:
    return CodecProfile(record.family, record.data_shards, record.parity_shards)


def _rule(record: PoolRecord) -> PlacementRule:
    return PlacementRule(
        width=record.data_shards + record.parity_shards,
        failure_domain=FailureDomain(record.failure_domain),
    )
