"""Pools and placement groups: how a blob is cut, and which OSDs hold its shards.

A pool is written down when it is first used and never changes; another configuration makes another
pool for new objects, and the old ones stay readable. The members of each placement group are
written down too: they follow from the cluster map at the time, and only a deliberate move of data
changes them, so a disk more or less never hides what is stored.

While a group moves it has two sets of members, and a row of its own: what is written goes to the new
ones; what was there before is at the old ones until the last shard is copied. Both sets change in one
commit, and the rows are always ahead of what this process believes, never behind.

One process decides: it makes pools, places and moves groups, and writes down which pool is the current
one (`load`). All others `follow`: they open what is written down and change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from objectio.abc.erasure import CodecProfile
from objectio.abc.kv import Absent, Check, Equals
from objectio.abc.placement import Placement
from objectio.abc.shardstore import ShardStore
from objectio.erasure.code import ErasureCode, ErasureCodes
from objectio.errors import CommitConflict, ConfigError, NotFound, Unavailable
from objectio.kv.keys import decode_uint, encode_uint, prefix_end
from objectio.kv.store import KVStore
from objectio.limits import KV_SCAN_ROWS_MAX, MIB
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

_PIECE_BYTES: Final = 8 * MIB
"""A longer answer may come from another process in several pieces."""


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
    """All pools of the cluster. `current` takes new writes; `cluster` is the map, which only the process
    that decides knows."""

    def __init__(
        self, kv: KVStore, codes: ErasureCodes, placements: Callable[[str], Placement]
    ) -> None:
        self.cluster = ClusterMap(epoch=0)
        self.changed: dict[tuple[int, int], tuple[int, ...]] = {}
        """Positions that are being moved, by pool and group."""
        self._kv = kv
        self._codes = codes
        self._placements = placements
        self._current: Pool | None = None
        self._pools: dict[int, Pool] = {}
        self._opened: dict[int, Pool] = {}
        """Pools whose groups are still to be shown."""
        self._records: dict[int, PoolRecord] = {}
        self._rows: dict[bytes, bytes] = {}
        """Rows of groups and moves, and of the current pool, as they are written."""
        self._groups: dict[int, tuple[bytes, tuple[Members, ...]]] = {}
        """By pool: a row of groups, and what it says."""
        self._prefer_codec: str | None = None
        """Only where another process decides."""
        self._turn = asyncio.Lock()
        """Held from a look at the rows, or a change of them, until it is believed: what was read
        earlier is never believed later."""

    @property
    def current(self) -> Pool:
        if self._current is None:
            raise Unavailable(
                "the cluster has no pool yet: too few OSDs are there", reason="starting"
            )
        return self._current

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
        """Open every pool that is written down, and the wanted one, new if need be, which is the
        current one from now on."""
        self.cluster = cluster
        rows = await self._kv.ascan_prefix(keys.POOLS)
        found = {decode_uint(key, len(keys.POOLS), 4): decode_pool(raw) for key, raw in rows}
        for pool_id, record in found.items():
            await self._place(pool_id, record, cluster)
            self._open(pool_id, record, prefer_codec)
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
            await self._place(pool_id, wanted, cluster)
            self._open(pool_id, wanted, prefer_codec)
        # Last of all: who reads it finds everything else of that pool.
        if await self._kv.aget(keys.CURRENT_POOL) != encode_uint(pool_id, 4):
            await self._kv.commit([], [(keys.CURRENT_POOL, encode_uint(pool_id, 4))])
        await self.refresh()

    async def follow(self, prefer_codec: str) -> None:
        """Open the pools that another process has made, now, and with each `refresh` what is new.
        Raises `Unavailable` while none is the current one."""
        self._prefer_codec = prefer_codec
        await self.refresh()
        if self._current is None:
            raise Unavailable("the cluster has no pool yet", reason="starting")

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

    def _open(self, pool_id: int, record: PoolRecord, prefer_codec: str) -> None:
        code = self._codes.get(_profile(record), prefer_codec)
        self._records[pool_id] = record
        self._opened[pool_id] = Pool(pool_id, code, record.stripe_size_bytes, (), record.family)

    async def _place(self, pool_id: int, record: PoolRecord, cluster: ClusterMap) -> None:
        """Write down the members of a new pool's groups: those that the placement chooses, evened
        out, so that what moves later is what changes then and no more."""
        row = keys.groups(pool_id)
        if await self._kv.aget(row) is not None:
            return
        prefer = self._preference_of(record, cluster)
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
        return self._preference_of(self._records[pool_id], cluster)

    def _preference_of(self, record: PoolRecord, cluster: ClusterMap) -> Preference:
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
        async with self._turn:
            await self._move(moves)

    async def _move(self, moves: Sequence[GroupMove]) -> None:
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
        """Read the rows anew. Requests that run see either all of what was before or all of what is
        now, and a pool that they have goes on being as it was."""
        async with self._turn:
            rows = await self._read()
            if self._prefer_codec is not None:
                await self._open_new(rows, self._prefer_codec)
            if rows != self._rows or self._current is None:
                self._rows = rows
                self._show()

    async def _read(self) -> dict[bytes, bytes]:
        """All as it was at one moment: of a group and its move, one must not be older than the other.
        The rows are neighbours, so one scan has them; if they are too many for that, the same is read
        until nothing has changed."""
        before: dict[bytes, bytes] | None = None
        while True:
            rows, whole = await self._scan()
            if whole or rows == before:
                return rows
            before = rows

    async def _scan(self) -> tuple[dict[bytes, bytes], bool]:
        found: dict[bytes, bytes] = {}
        start, stop = keys.CURRENT_POOL, prefix_end(keys.MOVES)
        size = pages = 0
        while True:
            page = await self._kv.ascan(start, stop, limit=KV_SCAN_ROWS_MAX)
            pages += 1
            size += sum(len(row) + len(raw) for row, raw in page)
            found.update(each for each in page if each[0].startswith(_BELIEVED))
            if len(page) < KV_SCAN_ROWS_MAX:
                return found, pages == 1 and size < _PIECE_BYTES
            start = page[-1][0] + b"\0"

    async def _open_new(self, rows: Mapping[bytes, bytes], prefer_codec: str) -> None:
        """Pools that have groups and are not known yet. A pool's own row was there before its groups
        were, and never changes."""
        groups = [row for row in rows if row.startswith(keys.GROUPS)]
        new = {decode_uint(row, len(keys.GROUPS), 4) for row in groups} - self._pools.keys()
        records = await self._kv.aget_many([keys.pool(each) for each in new]) if new else []
        for pool_id, raw in zip(new, records, strict=True):
            if raw is not None:
                self._open(pool_id, decode_pool(raw), prefer_codec)

    def _show(self) -> None:
        """Bring what this process believes in line with the rows. In one turn of the loop."""
        moving: dict[int, dict[int, Members]] = {}
        self.changed = {}
        for row, raw in self._rows.items():
            if row.startswith(keys.MOVES):
                pool_id = decode_uint(row, len(keys.MOVES), 4)
                group = decode_uint(row, len(keys.MOVES) + 4, 4)
                record = decode_move(raw)
                moving.setdefault(pool_id, {})[group] = tuple(record.former)
                self.changed[pool_id, group] = tuple(record.changed)
        self._pools |= self._opened
        self._opened.clear()
        for pool_id, pool in self._pools.items():
            self._pools[pool_id] = pool._replace(
                groups=self._members(pool_id), moving=moving.get(pool_id, {})
            )
        current = self._rows.get(keys.CURRENT_POOL)
        if current is not None and self._pools:
            self._current = self._pools[decode_uint(current, 0, 4)]

    def _members(self, pool_id: int) -> tuple[Members, ...]:
        """There may be a great many groups, and most refreshes change none."""
        raw = self._rows[keys.groups(pool_id)]
        known = self._groups.get(pool_id)
        if known is None or known[0] != raw:
            known = raw, tuple(tuple(each) for each in decode_groups(raw))
            self._groups[pool_id] = known
        return known[1]


_BELIEVED: Final = (keys.GROUPS, keys.MOVES, keys.CURRENT_POOL)


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
