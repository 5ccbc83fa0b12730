"""Copying the shards of blobs whose group moves to where they belong.

A copy is made from the shard at the former place, which is verified by being read; where that one is
gone, damaged or out of reach, it is made anew from the others. It is durable before it counts. What
the new place has already is left as it is, so a walk that begins anew only looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import Done, ShardCoordinates, ShardInfo, ShardStore, ShardWrite
from objectio.errors import (
    ChecksumMismatch,
    DeviceFailed,
    DeviceFull,
    InsufficientShards,
    NotFound,
    ObjectIOError,
)
from objectio.kv.store import KVStore
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey
from objectio.placement.groups import group_of
from objectio.store.answers import answered, submitted
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pools
from objectio.store.repair_rate import Backoff, MovingRate, TokenBucket
from objectio.store.verify import StripeChecks, is_damage

_log: Final = logging.getLogger("objectio.store")

_SHARDS_AT_ONCE: Final = 256
_BYTES_AT_ONCE: Final = 16 * MIB
"""Shards that are in memory at the same time."""
_TURN_SECONDS: Final = 0.25
"""So much of the rate is spent at once."""
_YIELD_SECONDS: Final = 0.1
_YIELD_SECONDS_MAX: Final = 30.0
"""How long repairs that cannot wait may hold up one batch of copies."""


class Place(NamedTuple):
    """A position of a group."""

    pool: int
    group: int
    position: int


class Shard(NamedTuple):
    """A shard that belongs on the OSD `target`, and may be on `source`."""

    ref: BlobRef
    key: ShardKey
    place: Place
    source: int
    target: int
    length: int
    coordinates: ShardCoordinates


class Copier:
    """`damaged` is told of shards that are lost; `urgent` says that repairs go first."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        *,
        damaged: Callable[[BlobRef, int], None],
        urgent: Callable[[], bool],
        bytes_per_second: float,
    ) -> None:
        self.copied_shards = 0
        self.copied_bytes = 0
        self.gone: frozenset[int] = frozenset()
        """OSDs that will not come back."""
        self.full: Backoff[int] = Backoff(first_seconds=60.0)
        """OSDs that had no room."""
        self.rate = MovingRate()
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._checks = checks
        self._damaged = damaged
        self._urgent = urgent
        self._bucket = TokenBucket(bytes_per_second)
        self._bytes_at_once = min(_BYTES_AT_ONCE, bytes_per_second * _TURN_SECONDS)

    async def copy(self, blobs: Sequence[tuple[BlobRef, Sequence[int]]]) -> set[Place]:
        """Bring the shards at some positions of each blob to where they belong. Returns where that
        failed, and must be tried again."""
        failed: set[Place] = set()
        chunk: list[Shard] = []
        for shard in self._shards(blobs):
            chunk.append(shard)
            if len(chunk) == _SHARDS_AT_ONCE:
                failed |= await self._copy_chunk(chunk)
                chunk = []
        if chunk:
            failed |= await self._copy_chunk(chunk)
        return failed

    async def sync(self, osd: int) -> bool:
        """Have an OSD finish what it was handed. Whether it could."""
        store = self._devices.stores.get(osd)
        if store is None:
            return False
        try:
            await _submit(store.submit_sync)
        except ObjectIOError:
            return False
        return True

    def _shards(self, blobs: Sequence[tuple[BlobRef, Sequence[int]]]) -> Iterator[Shard]:
        for ref, positions in blobs:
            pool = self._pools.get(ref.pool)
            members = pool.members(ref.blob)
            former = pool.former(ref.blob) or members
            group = group_of(ref.blob, len(pool.groups))
            for stripe in range(pool.stripes(ref.size)):
                size = pool.stripe_bytes(ref.size, stripe)
                for position in positions:
                    yield Shard(
                        ref,
                        ShardKey(BlobId(ref.blob), stripe, position),
                        Place(pool.id, group, position),
                        former[position],
                        members[position],
                        pool.code.shard_length(size),
                        ShardCoordinates(pool.family, pool.code.k, pool.code.m, size),
                    )

    async def _copy_chunk(self, chunk: Sequence[Shard]) -> set[Place]:
        there = await self._stat(chunk, lambda shard: shard.target)
        if there is None:
            return {shard.place for shard in chunk}
        origin = await self._stat(chunk, lambda shard: shard.source) or {}
        todo: list[tuple[Shard, int]] = []
        for shard in chunk:
            old, new = origin.get(shard), there.get(shard)
            generation = 0 if old is None else old.generation
            if new is None or new.length != shard.length or new.generation < generation:
                todo.append((shard, generation))
        failed: set[Place] = set()
        for batch in _batches(todo, self._bytes_at_once):
            await self._wait_for_turn()
            outcomes = await asyncio.gather(*(self._copy(*each) for each in batch))
            failed |= {
                shard.place for (shard, _), done in zip(batch, outcomes, strict=True) if not done
            }
        await self._forget_deleted([shard for shard, _ in todo])
        return failed

    async def _stat(
        self, shards: Sequence[Shard], osd_of: Callable[[Shard], int]
    ) -> dict[Shard, ShardInfo] | None:
        """What the OSDs say of the shards; None if one of them does not answer."""
        asked: dict[int, list[Shard]] = {}
        for shard in shards:
            asked.setdefault(osd_of(shard), []).append(shard)
        found: dict[Shard, ShardInfo] = {}
        complete = True
        for osd, wanted in asked.items():
            store = self._devices.stores.get(osd)
            if store is None:
                complete = False
                continue
            try:
                infos = await store.stat([shard.key for shard in wanted])
            except ObjectIOError:
                complete = False
                continue
            found.update(
                (shard, info) for shard, info in zip(wanted, infos, strict=True) if info is not None
            )
        return found if complete or osd_of(shards[0]) == shards[0].source else None

    async def _wait_for_turn(self) -> None:
        """Repairs that cannot wait go first, and the rate is kept."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _YIELD_SECONDS_MAX
        while self._urgent() and loop.time() < until:
            await asyncio.sleep(_YIELD_SECONDS)
        while wait := self._bucket.wait_seconds():
            await asyncio.sleep(wait)

    # One shard.

    async def _copy(self, shard: Shard, generation: int) -> bool:
        """Whether the shard needs nothing more."""
        target = self._devices.stores.get(shard.target)
        if target is None:
            return False
        try:
            payload, damaged = await self._read(shard)
            if payload is None:
                payload = await self._make(shard, damaged)
            if payload is None:
                return True
            coordinates = shard.coordinates._replace(generation=generation)
            await _submit(
                lambda done: target.submit(ShardWrite(shard.key, (payload,), coordinates), done)
            )
        except DeviceFull:
            self.full.refused(shard.target)
            return False
        except ObjectIOError as error:
            _log.debug("moving shard %s: %s", shard.key, error)
            return False
        self.copied_shards += 1
        self.copied_bytes += shard.length
        self._bucket.spend(shard.length)
        self.rate.add(shard.length)
        return True

    async def _read(self, shard: Shard) -> tuple[Buffer | None, bool]:
        """The shard from where it was; None if it cannot be had there, and whether it is damaged."""
        store = self._devices.stores.get(shard.source)
        if store is None or shard.source == shard.target:
            return None, False
        try:
            payload = await store.read(shard.key)
        except (NotFound, ChecksumMismatch, DeviceFailed) as error:
            return None, is_damage(error) and not isinstance(error, NotFound)
        fits = memoryview(payload).nbytes == shard.length
        return (payload, False) if fits else (None, True)

    async def _make(self, shard: Shard, damaged: bool) -> Buffer | None:
        """The shard made anew; None if it needs not be, or never can be for what is known. Raises
        `InsufficientShards` if it may be had later."""
        if await self._kv.aget(keys.blob(shard.ref.blob)) is None:
            return None  # deleted meanwhile
        ref, position = shard.ref, shard.key.position
        (survey,) = await self._checks.survey(ref, [shard.key.stripe])
        try:
            made = (await self._checks.rebuild(ref, survey, (position,), ())).shards
        except InsufficientShards:
            if survey.absent >> position & 1 or damaged or self._never(shard.source):
                # It is not where it was, and cannot be made now: that is for repair to see, and
                # no reason to stay.
                self._damaged(ref, 1 << position)
                return None
            raise
        return made[position]

    def _never(self, osd: int) -> bool:
        return osd < 0 or osd in self.gone

    async def _forget_deleted(self, shards: Sequence[Shard]) -> None:
        """What was deleted while it was copied: its collector may have been here before the copy."""
        blobs = list({shard.ref.blob for shard in shards})
        rows = await self._kv.aget_many([keys.blob(blob) for blob in blobs]) if blobs else []
        deleted = {blob for blob, row in zip(blobs, rows, strict=True) if row is None}
        by_osd: dict[int, list[ShardKey]] = {}
        for shard in shards:
            if shard.ref.blob in deleted:
                by_osd.setdefault(shard.target, []).append(shard.key)
        for osd, doomed in by_osd.items():
            store = self._devices.stores.get(osd)
            if store is not None:
                await _delete(store, doomed)


def _batches(
    todo: Sequence[tuple[Shard, int]], bytes_max: float
) -> Iterator[list[tuple[Shard, int]]]:
    batch: list[tuple[Shard, int]] = []
    size = 0
    for each in todo:
        if batch and size + each[0].length > bytes_max:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each[0].length
    if batch:
        yield batch


async def _submit(submit: Callable[[Done], None]) -> None:
    """Hand an item to a store and wait for its fate."""
    error = await answered(submitted(submit))
    if error is not None:
        raise error


async def _delete(store: ShardStore, doomed: Sequence[ShardKey]) -> None:
    try:
        await _submit(lambda done: store.submit_delete(doomed, done))
    except ObjectIOError as error:  # orphans for the sweep
        _log.debug("deleting copies: %s", error)
