"""Making one blob whole: stripe by stripe, with as few reads as the codec allows.

The indexes of the devices are asked first, so nothing is read from a blank disk, and nothing at all
where nothing is missing. All shards that a stripe lacks are made from one reading of its sources. A
repaired shard is written with its stripe's generation, not synced; when the last stripe is written
each device that took part is synced once, and only then is the blob called whole. That sync also
covers shards which an earlier try wrote and did not get to sync.

A device that fails on the way loses its part in this blob and takes nothing from the others. What was
found of a device says nothing of another one that took its place meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import ShardCoordinates, ShardStore, ShardWrite, StoreState
from objectio.errors import (
    DeviceFull,
    InsufficientShards,
    ObjectIOError,
)
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.answers import Answer, answered, submitted
from objectio.store.devices import DeviceSet
from objectio.store.memory import ByteBudget
from objectio.store.pools import Pool, Pools
from objectio.store.verify import Rebuilt, StripeChecks, Survey, mask_of, positions_of

_log: Final = logging.getLogger("objectio.store")

_SURVEY_STRIPES: Final = 64
_AT_ONCE: Final = 4
"""Stripes of one blob; other blobs are under way at the same time."""


class Mended(NamedTuple):
    """`whole` is the mask of positions that are durable now; `accepted` are OSDs that took shards,
    `refused` those that had no room; `gone` says that the blob was deleted meanwhile; `hopeless`
    that it cannot be read as things are; `reason` why not all is whole."""

    whole: int
    accepted: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    gone: bool = False
    hopeless: bool = False
    reason: str = ""


@dataclass(slots=True)
class _Work:
    """One blob under repair. `targets` are the devices that take its shards, by position; one that
    fails is left out from then on. `unmade` is the mask of what could not be made, `unknown` of what no
    index told."""

    ref: BlobRef
    pool: Pool
    margin: Callable[[], int]
    suspects: set[int]
    examine: bool
    targets: dict[int, ShardStore]
    written: set[int] = field(default_factory=set)
    unmade: int = 0
    unknown: int = 0
    refused: set[int] = field(default_factory=set)
    reason: str = ""

    def give_up(self, position: int, error: BaseException) -> None:
        self.reason = str(error)
        self.targets.pop(position, None)
        if isinstance(error, DeviceFull):
            self.refused.add(self.pool.members(self.ref.blob)[position])


class Mender:
    """`pace` is awaited before each stripe, with what tells the blob's margin at that time; `wrote` is
    told the bytes and the margin of each shard; `refuses` says of an OSD that it has no room now."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        budget: ByteBudget,
        *,
        pace: Callable[[Callable[[], int]], Awaitable[None]],
        wrote: Callable[[int, int], None],
        refuses: Callable[[int], bool],
    ) -> None:
        self._kv = kv
        self._stores = devices.stores
        self._pools = pools
        self._checks = checks
        self._budget = budget
        self._pace = pace
        self._wrote = wrote
        self._refuses = refuses

    def targets(self, ref: BlobRef) -> dict[int, ShardStore]:
        """Where the blob's shards can be written now, by position."""
        found = {}
        for position, osd in enumerate(self._pools.get(ref.pool).members(ref.blob)):
            store = self._stores.get(osd)
            if store is None or self._refuses(osd):
                continue
            if store.state in (StoreState.UP, StoreState.FULL):
                found[position] = store
        return found

    async def mend(
        self, ref: BlobRef, suspects: int, *, examine: bool, margin: Callable[[], int]
    ) -> Mended:
        """Make what is missing on devices that are up; look at `suspects` closely."""
        pool = self._pools.get(ref.pool)
        members = pool.members(ref.blob)
        work = _Work(ref, pool, margin, set(positions_of(suspects)), examine, self.targets(ref))
        await self._mend_stripes(work)
        await self._sync(work)
        refused = frozenset(work.refused)
        accepted = frozenset(members[each] for each in work.written & work.targets.keys())
        if await self._kv.aget(keys.blob(ref.blob)) is None:
            await self._remove(work)
            return Mended(0, gone=True)
        if self._pools.get(ref.pool).members(ref.blob) != members:
            reason = "the placement group was moved meanwhile"
            return Mended(0, accepted, refused, reason=reason)
        # Awaits nothing from here on: who took a device's place by now has none of it.
        still = {each for each, store in work.targets.items() if self._is(members[each], store)}
        whole = mask_of(still) & ~(work.unmade | work.unknown)
        reason = work.reason
        if not reason and whole != mask_of(work.targets):
            reason = "a device went meanwhile"
        return Mended(whole, accepted, refused, hopeless=bool(work.unmade), reason=reason)

    def _is(self, osd: int, store: ShardStore) -> bool:
        return self._stores.get(osd) is store

    async def _mend_stripes(self, work: _Work) -> None:
        stripes = range(work.pool.stripes(work.ref.size))
        for start in range(0, len(stripes), _SURVEY_STRIPES):
            if not work.targets:
                return
            surveys = await self._checks.survey(work.ref, stripes[start : start + _SURVEY_STRIPES])
            for survey in surveys:
                work.unknown |= ~(mask_of(survey.held) | survey.absent)
            todo = [survey for survey in surveys if work.examine or self._wanted(work, survey)]
            for at in range(0, len(todo), _AT_ONCE):
                answers = await asyncio.gather(
                    *(self._mend_stripe(work, each) for each in todo[at : at + _AT_ONCE]),
                    return_exceptions=True,
                )
                for answer in answers:
                    if answer is not None:
                        raise answer

    @staticmethod
    def _wanted(work: _Work, survey: Survey) -> set[int]:
        """Positions to make or to look at."""
        absent = set(positions_of(survey.absent))
        return (absent | work.suspects | _away(work, survey)) & work.targets.keys()

    async def _mend_stripe(self, work: _Work, survey: Survey) -> None:
        await self._pace(work.margin)
        size = survey.shard_bytes * work.pool.code.width * (2 if work.examine else 1)
        await self._budget.acquire(size)
        try:
            made = await self._make(work, survey)
            if made:
                await self._write(work, survey, made)
        finally:
            self._budget.release(size)

    async def _make(self, work: _Work, survey: Survey) -> dict[int, Buffer]:
        suspects = {each for each in work.suspects if each in survey.held} - _away(work, survey)
        want = self._wanted(work, survey) - suspects
        try:
            if work.examine:
                found, made = await self._checks.examine(work.ref, survey)
                work.unknown |= (found.down & mask_of(work.suspects)) | mask_of(_away(work, survey))
                if not found.located:
                    work.unmade |= mask_of(work.suspects | want)
                    work.reason = "the shards do not fit together, and which is wrong is unknown"
            else:
                rebuilt = await self._rebuild(work, survey, want, suspects)
                made = rebuilt.shards
                work.unknown |= rebuilt.unread
        except InsufficientShards as error:
            work.unmade |= mask_of(work.suspects | want)
            work.reason = error.message
            return {}
        except ObjectIOError as error:
            work.unmade |= mask_of(work.targets)
            work.reason = str(error)
            return {}
        return {position: shard for position, shard in made.items() if position in work.targets}

    async def _rebuild(
        self, work: _Work, survey: Survey, want: set[int], suspects: set[int]
    ) -> Rebuilt:
        """What is only at its former place is made anew at home; where that leaves too few others, it
        is a source, and comes home with the move of its group."""
        away = want & _away(work, survey)
        try:
            return await self._checks.rebuild(work.ref, survey, want, suspects)
        except InsufficientShards:
            if not away:
                raise
        work.unknown |= mask_of(away)
        work.reason = "a shard is still where it was before its group moved"
        return await self._checks.rebuild(work.ref, survey, want - away, suspects)

    async def _write(self, work: _Work, survey: Survey, made: dict[int, Buffer]) -> None:
        code = work.pool.code
        coordinates = ShardCoordinates(
            work.pool.family, code.k, code.m, survey.stripe_bytes, survey.generation
        )
        waits: dict[int, Answer] = {}
        for position, shard in made.items():
            store = work.targets.get(position)
            if store is None:
                continue
            key = ShardKey(BlobId(work.ref.blob), survey.stripe, position)
            write = ShardWrite(key, (shard,), coordinates, sync=False)
            waits[position] = submitted(partial(store.submit, write))
            work.written.add(position)
        for position, wait in waits.items():
            error = await answered(wait)
            if error is None:
                self._wrote(survey.shard_bytes, work.margin())
            else:
                work.give_up(position, error)

    async def _sync(self, work: _Work) -> None:
        waits = {
            position: submitted(store.submit_sync)
            for position, store in work.targets.items()
            if position in work.written or position in work.suspects
        }
        for position, wait in waits.items():
            error = await answered(wait)
            if error is not None:
                work.give_up(position, error)

    async def _remove(self, work: _Work) -> None:
        """The blob was deleted while we were at it, and the collector may be done with it."""
        stripes: Sequence[int] = range(work.pool.stripes(work.ref.size))
        for position in work.written:
            store = work.targets.get(position)
            if store is not None:
                names = [ShardKey(BlobId(work.ref.blob), each, position) for each in stripes]
                await answered(submitted(partial(store.submit_delete, names)))


def _away(work: _Work, survey: Survey) -> set[int]:
    """Positions that are only where they were before their group moved. The move may be past the blob,
    or end before anybody looks again."""
    members = work.pool.members(work.ref.blob)
    return {position for position, osd in survey.osds.items() if osd != members[position]}
