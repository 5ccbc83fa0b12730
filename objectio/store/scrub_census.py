"""The census that a scrub pass takes: of one blob, and of one device.

Blobs are looked at by their rows: every shard on every device that is up is read, and the shards of
a stripe are compared with each other. Devices are looked at by their indexes, for what no blob
accounts for: shards of no blob, shards that another OSD should have, and what the store keeps for
itself. Nothing is called healthy that was not read.

What looks wrong is looked at twice, since repair, moves and deletes go on meanwhile; and what was
deleted meanwhile is not damaged.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from objectio.abc.shardstore import ShardCoordinates, ShardInfo, ShardStore, ShardWrite
from objectio.errors import StorageError
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, decode_blob_row
from objectio.model.stripe import ShardKey, is_reserved
from objectio.store.answers import answered, submitted
from objectio.store.devices import DeviceSet
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pools
from objectio.store.verify import Examined, StripeChecks, is_damage, positions_of

_log: Final = logging.getLogger("objectio.store")

_KEYS: Final = 500
_BAD_SECTORS_MAX: Final = 1000
"""Shards of an OSD, in one pass."""

Counts = Counter[str]
"""By the names of `ScrubReport`'s fields."""


class Damaged(Protocol):
    """Repair, as scrubbing knows it."""

    def __call__(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None: ...


class Sweeper(Protocol):
    """The collector, as scrubbing knows it."""

    async def orphaned(self, store: ShardStore, infos: Sequence[ShardInfo]) -> list[ShardKey]: ...

    async def misplaced(self, osd: int, infos: Sequence[ShardInfo]) -> list[ShardKey]: ...

    async def sweep(self, osd: int) -> int: ...


class Page(NamedTuple):
    """A look at some shards of a device: where it ended, None at the end, and whether shards that
    the store keeps for itself were damaged."""

    counts: Counts
    after: ShardKey | None
    own_damaged: bool


class Census:
    """`read` is awaited with the bytes of each read before it is made: it keeps to the rate."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        budget: ByteBudget,
        collector: Sweeper,
        *,
        damaged: Damaged,
        read: Callable[[int], Awaitable[None]],
    ) -> None:
        self._kv = kv
        self._stores = devices.stores
        self._pools = pools
        self._checks = checks
        self._budget = budget
        self._collector = collector
        self._damaged = damaged
        self._read = read
        self._bad_sectors: Counter[int] = Counter()

    def begin(self) -> None:
        """Another pass."""
        self._bad_sectors.clear()

    # Blobs.

    async def blob(self, ref: BlobRef) -> Counts:
        """Look at all of a blob; tells repair what it finds."""
        stripes = range(self._pools.get(ref.pool).stripes(ref.size))
        counts: Counts = Counter(blobs=1)
        mask, whole, unread, examine = 0, True, False, False
        hopeless: list[Examined] = []
        for stripe in stripes:
            found = await self._stripe(ref, stripe)
            whole = whole and found.whole
            unread = unread or bool(found.down) or found.survey.doubtful
            _count(counts, found)
            if not found.located and not found.down:
                hopeless.append(found)
            beyond = self._beyond_repair(found)
            unread = unread or bool(beyond)
            mask |= found.to_repair & ~beyond
            examine = examine or not found.fits
        counts["healthy"] += whole
        counts["unread"] += unread
        counts["unrepairable"] += len(hopeless)
        if not whole and await self._kv.aget(keys.blob(ref.blob)) is None:
            return Counter()
        for found in hopeless:
            what = "has too few shards" if found.fits else "does not fit together"
            text = "stripe %d of blob %s %s, and cannot be repaired"
            _log.error(text, found.survey.stripe, ref.blob.hex(), what)
        if mask:
            self._damaged(ref, mask, examine=examine)
        return counts

    def _beyond_repair(self, found: Examined) -> int:
        """The mask of shards in bad sectors of disks that have too many of them: to write all of a
        disk anew on itself helps nobody."""
        beyond = 0
        for position in positions_of(found.bad_sector):
            osd = found.survey.osds[position]
            self._bad_sectors[osd] += 1
            if self._bad_sectors[osd] > _BAD_SECTORS_MAX:
                beyond |= 1 << position
            if self._bad_sectors[osd] == _BAD_SECTORS_MAX:
                text = "OSD %d has bad sectors under %d shards: replace it. No more of them are made anew"
                _log.error(text, osd, _BAD_SECTORS_MAX)
        return beyond

    async def _stripe(self, ref: BlobRef, stripe: int) -> Examined:
        found = await self._examine(ref, stripe)
        return found if found.whole else await self._examine(ref, stripe)

    async def _examine(self, ref: BlobRef, stripe: int) -> Examined:
        (survey,) = await self._checks.survey(ref, [stripe])
        size = survey.shard_bytes * len(survey.held)
        await self._read(size)
        await self._budget.acquire(2 * size)  # what was read, and what is made to compare
        try:
            found, _ = await self._checks.examine(ref, survey)
        finally:
            self._budget.release(2 * size)
        return found

    # Devices.

    async def device_page(self, osd: int, after: ShardKey | None) -> Page:
        """Look at the next shards of an OSD for what no look at a blob sees. The sweep that comes
        afterwards deletes what should not be there."""
        store = self._stores.get(osd)
        if store is None:
            return Page(Counter(), None, False)
        page = await store.scan(after, _KEYS)
        counts: Counts = Counter()
        own_damaged = False
        rows = await self._rows(page)
        for info in page:
            if is_reserved(info.key.blob):
                own_damaged |= await self._verify(store, info, counts)
            elif (ref := rows.get(info.key.blob)) is None:
                continue
            elif not self._names_a_shard(ref, info.key):
                counts["misplaced"] += 1
                await answered(submitted(partial(store.submit_delete, [info.key])))
            else:
                await self._look_at_former(osd, store, info, ref, counts)
        counts["orphaned"] += len(await self._collector.orphaned(store, page))
        infos = {info.key: info for info in page}
        for key in await self._collector.misplaced(osd, page):
            ref = rows.get(key.blob)
            if ref is not None and self._names_a_shard(ref, key):
                counts["misplaced"] += 1
                await self._bring_home(store, infos[key], ref)
        return Page(counts, page[-1].key if len(page) == _KEYS else None, own_damaged)

    def _names_a_shard(self, ref: BlobRef, key: ShardKey) -> bool:
        pool = self._pools.get(ref.pool)
        return key.position < pool.code.width and key.stripe < pool.stripes(ref.size)

    async def _rows(self, page: Sequence[ShardInfo]) -> dict[bytes, BlobRef]:
        blobs = list({info.key.blob for info in page if not is_reserved(info.key.blob)})
        rows = await self._kv.aget_many([keys.blob(blob) for blob in blobs])
        return {
            blob: decode_blob_row(raw).ref
            for blob, raw in zip(blobs, rows, strict=True)
            if raw is not None
        }

    async def _verify(self, store: ShardStore, info: ShardInfo, counts: Counts) -> bool:
        """Read a shard that no look at a blob reads. Whether it is damaged."""
        await self._read(info.length)
        try:
            await store.read(info.key)
        except StorageError as error:
            # Gone meanwhile is not damaged.
            damage = is_damage(error) and (await store.stat([info.key]))[0] is not None
            counts["corrupt"] += damage
            return damage
        counts["shards"] += 1
        counts["bytes"] += info.length
        return False

    async def _look_at_former(
        self, osd: int, store: ShardStore, info: ShardInfo, ref: BlobRef, counts: Counts
    ) -> None:
        """While a group moves a shard may be at two places; the look at the blob read one."""
        pool = self._pools.get(ref.pool)
        former = pool.former(ref.blob)
        position = info.key.position
        if former is not None and osd == former[position] != pool.members(ref.blob)[position]:
            await self._verify(store, info, counts)

    async def _bring_home(self, store: ShardStore, info: ShardInfo, ref: BlobRef) -> None:
        """Copy a shard from an OSD that should not have it to the one that should, and lacks it."""
        pool = self._pools.get(ref.pool)
        position = info.key.position
        (survey,) = await self._checks.survey(ref, [info.key.stripe])
        home = self._stores.get(pool.members(ref.blob)[position])
        fits = (info.length, info.generation) == (survey.shard_bytes, survey.generation)
        if position in survey.held or survey.doubtful or home is None or not fits:
            return
        await self._read(info.length)
        try:
            payload = await store.read(info.key)
        except StorageError:
            return
        code, size = pool.code, survey.stripe_bytes
        coordinates = ShardCoordinates(pool.family, code.k, code.m, size, info.generation)
        write = ShardWrite(info.key, (payload,), coordinates)
        error = await answered(submitted(partial(home.submit, write)))
        if error is not None:
            _log.warning("a misplaced shard of blob %s stays: %s", ref.blob.hex(), error)


def _count(counts: Counts, found: Examined) -> None:
    counts["shards"] += found.shards
    counts["bytes"] += found.bytes
    counts["missing"] += found.missing.bit_count()
    counts["corrupt"] += found.corrupt.bit_count()
    counts["stale"] += found.stale.bit_count()
    counts["inconsistent"] += not found.fits
