"""Checking stripes: which shards are there, whether they are whole, and whether they belong together.

Three looks at a stripe, each deeper than the one before:

- `survey` asks the indexes of the devices and reads nothing. It tells what is missing, and what is of
  an older generation than the stripe: the newest generation that has enough shards is the stripe's.
- `rebuild` reads the fewest shards that the codec needs and makes others from them: repair.
- `examine` reads every shard and compares: scrubbing. Checksums say that a device gives back what it
  was given. That the shards of a stripe fit together they do not say: a shard written under a wrong
  name, or a parity that was computed wrongly, is intact for itself. So parity is made anew and
  compared. If it differs, the wrong shard is the one without which all others agree, where there is
  exactly one answer and enough redundancy for it to be no accident. Else nobody knows, and nothing
  is changed on a guess.

While a placement group moves, a shard may be at its old place, and then counts as there.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import ShardInfo, ShardStore
from objectio.erasure.code import ErasureCode
from objectio.errors import (
    ChecksumMismatch,
    DeviceFailed,
    InsufficientShards,
    NotFound,
    StorageError,
)
from objectio.meta.records import BlobRef
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pool, Pools
from objectio.store.stripes import COST_SLOW

_EVIDENCE_BYTES_MIN: Final = 8
"""Which shard is wrong is believed if it would be an accident of less than 2^-64 otherwise."""

_BAD_SECTOR: Final = frozenset((errno.EIO, errno.ENODATA, errno.EILSEQ))

Read = Callable[[], Buffer]


def mask_of(positions: Iterable[int]) -> int:
    return sum(1 << position for position in positions)


def positions_of(mask: int) -> list[int]:
    return [position for position in range(mask.bit_length()) if mask >> position & 1]


def decodable(code: ErasureCode, positions: Collection[int]) -> bool:
    """Whether all data can be had from the shards at these positions."""
    if len(positions) < code.k:
        return False
    if len(positions) == code.width:
        return True
    try:
        code.minimum_to_decode(range(code.k), dict.fromkeys(positions, 1.0))
    except InsufficientShards:
        return False
    return True


@dataclass(slots=True)
class Survey:
    """What the indexes say of one stripe; all but `held` are masks of positions.

    held        where each shard is that has the stripe's generation and the right length
    osds        which OSD that is
    missing     the device is up and has no such shard
    stale       it has one of another generation
    misshapen   it has one that is too long or too short
    down        nobody knows, for a device is down
    doubtful    the stripe's generation is not known: of the newest there are too few shards now, and
                those on devices that are down could make it enough
    """

    stripe: int
    stripe_bytes: int
    shard_bytes: int
    generation: int
    held: dict[int, ShardStore]
    osds: dict[int, int] = field(default_factory=dict)
    missing: int = 0
    stale: int = 0
    misshapen: int = 0
    down: int = 0
    doubtful: bool = False

    @property
    def absent(self) -> int:
        """What repair has to make, as far as an index can tell."""
        return self.missing | self.stale | self.misshapen


@dataclass(slots=True)
class Examined:
    """What reading all of a stripe told; masks of positions, besides those of the survey.

    corrupt     failed their checksums, have a wrong length, or stand in a bad sector
    bad_sector  those of them in a bad sector
    wrong       intact, and yet not what belongs there
    fits        False if the shards that were read do not belong together
    located     False if they do not and nobody can tell which is wrong, or if too few are left to
                read the stripe
    """

    survey: Survey
    corrupt: int = 0
    bad_sector: int = 0
    wrong: int = 0
    fits: bool = True
    located: bool = True
    shards: int = 0
    bytes: int = 0

    @property
    def missing(self) -> int:
        return self.survey.missing

    @property
    def stale(self) -> int:
        return self.survey.stale

    @property
    def down(self) -> int:
        return self.survey.down

    @property
    def to_repair(self) -> int:
        return self.survey.absent | self.corrupt | self.wrong

    @property
    def whole(self) -> bool:
        return not self.to_repair and not self.down and self.fits and not self.survey.doubtful


class Rebuilt(NamedTuple):
    """Shards made anew by position, the mask of those that were found damaged on the way, and that of
    suspects that are suspects still, for nobody could read them."""

    shards: dict[int, Buffer]
    damaged: int
    unread: int = 0


class _Seen(NamedTuple):
    info: ShardInfo
    osd: int
    store: ShardStore


@dataclass(slots=True)
class _Stats:
    """What each device's index said: by OSD and shard; None for an OSD that did not answer."""

    found: dict[int, dict[tuple[int, int], ShardInfo | None] | None] = field(default_factory=dict)


class StripeChecks:
    """Looks at stripes of all pools. `threads` make the blocking reads and the arithmetic; they are
    not those that serve clients. OSDs that are `slow` are spared as sources where they can be, and
    are read by a thread of their own, so that they hold nobody up who reads from others."""

    def __init__(
        self,
        devices: DeviceSet,
        pools: Pools,
        slow: Collection[int] = frozenset(),
        *,
        threads: int = 2,
    ) -> None:
        self._stores = devices.stores
        self._pools = pools
        self._slow = slow
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="upkeep")
        self._apart: dict[int, ThreadPoolExecutor] = {}

    def close(self) -> None:
        for executor in (self._executor, *self._apart.values()):
            executor.shutdown(wait=True)

    def _threads_of(self, osd: int) -> ThreadPoolExecutor:
        if osd not in self._slow:
            return self._executor
        if osd not in self._apart:
            self._apart[osd] = ThreadPoolExecutor(1, thread_name_prefix=f"upkeep-osd{osd}")
        return self._apart[osd]

    # Asking indexes.

    async def survey(self, ref: BlobRef, stripes: Sequence[int]) -> list[Survey]:
        pool = self._pools.get(ref.pool)
        homes = pool.members(ref.blob)
        places = [homes]
        former = pool.former(ref.blob)
        if former is not None:
            places.append(former)
        positions: dict[int, list[int]] = {}
        for members in places:
            for position, osd in enumerate(members):
                held = positions.setdefault(osd, [])
                if position not in held:
                    held.append(position)
        asked = await asyncio.gather(
            *(self._stat(osd, ref, stripes, each) for osd, each in positions.items())
        )
        stats = _Stats(dict(zip(positions, asked, strict=True)))
        return [self._judge(pool, ref, stripe, places, stats) for stripe in stripes]

    async def _stat(
        self, osd: int, ref: BlobRef, stripes: Sequence[int], positions: Sequence[int]
    ) -> dict[tuple[int, int], ShardInfo | None] | None:
        store = self._stores.get(osd)
        if store is None:
            return None
        names = [(stripe, position) for stripe in stripes for position in positions]
        try:
            found = await store.stat([ShardKey(BlobId(ref.blob), *name) for name in names])
        except DeviceFailed:
            return None
        return dict(zip(names, found, strict=True))

    def _judge(
        self,
        pool: Pool,
        ref: BlobRef,
        stripe: int,
        places: Sequence[Sequence[int]],
        stats: _Stats,
    ) -> Survey:
        size = pool.stripe_bytes(ref.size, stripe)
        survey = Survey(stripe, size, pool.code.shard_length(size), 0, {})
        seen: dict[int, list[_Seen]] = {}
        unknown: set[int] = set()
        for position in range(pool.code.width):
            here = seen.setdefault(position, [])
            for osd in dict.fromkeys(members[position] for members in places):
                answers = stats.found.get(osd)
                store = self._stores.get(osd)
                if answers is None or store is None:
                    unknown.add(position)
                elif (info := answers[stripe, position]) is not None:
                    here.append(_Seen(info, osd, store))
        self._choose_generation(survey, pool.code, seen, unknown)
        for position, here in seen.items():
            bit = 1 << position
            for info, osd, store in here:
                right = (info.generation, info.length) == (survey.generation, survey.shard_bytes)
                if right and position not in survey.held:
                    survey.held[position], survey.osds[position] = store, osd
            if position in survey.held:
                continue
            if position in unknown:
                survey.down |= bit
            elif not here:
                survey.missing |= bit
            elif any(each.info.generation == survey.generation for each in here):
                survey.misshapen |= bit
            elif not survey.doubtful:
                survey.stale |= bit
        return survey

    @staticmethod
    def _choose_generation(
        survey: Survey,
        code: ErasureCode,
        seen: Mapping[int, Sequence[_Seen]],
        unknown: set[int],
    ) -> None:
        by_generation: dict[int, set[int]] = {}
        for position, here in seen.items():
            for each in here:
                by_generation.setdefault(each.info.generation, set()).add(position)
        newest_first = sorted(by_generation, reverse=True)
        if len(newest_first) < 2:
            survey.generation = newest_first[0] if newest_first else 0
            return
        for generation in newest_first:
            if decodable(code, by_generation[generation]):
                survey.generation = generation
                return
            if decodable(code, by_generation[generation] | unknown):
                break  # it may be the one, once devices are back
        survey.generation = newest_first[0]
        survey.doubtful = True

    # Reading.

    async def read(
        self, ref: BlobRef, survey: Survey, positions: Iterable[int]
    ) -> dict[int, Buffer | StorageError]:
        """The shards at positions that are held, or why each cannot be had. Those on this machine
        are read by one worker thread in one go, remote ones at the same time."""
        answers: dict[int, Buffer | StorageError] = {}
        local: dict[ThreadPoolExecutor, dict[int, Read]] = {}
        remote: dict[int, asyncio.Future[Buffer]] = {}
        for position in positions:
            key = ShardKey(BlobId(ref.blob), survey.stripe, position)
            store = survey.held[position]
            try:
                plan = store.plan_read(key)
            except StorageError as error:
                answers[position] = error
                continue
            if plan is not None:
                threads = self._threads_of(survey.osds[position])
                local.setdefault(threads, {})[position] = plan
            else:
                remote[position] = asyncio.ensure_future(store.read(key))
        results: dict[int, Buffer | BaseException] = {}
        loop = asyncio.get_running_loop()
        for made in await asyncio.gather(
            *(loop.run_in_executor(threads, _run_all, plans) for threads, plans in local.items())
        ):
            results.update(made)
        if remote:
            read = await asyncio.gather(*remote.values(), return_exceptions=True)
            results.update(zip(remote, read, strict=True))
        for position, result in results.items():
            if isinstance(result, StorageError):
                answers[position] = result
            elif isinstance(result, BaseException):
                raise result
            elif memoryview(result).nbytes != survey.shard_bytes:
                answers[position] = ChecksumMismatch("a shard has a wrong length")
            else:
                answers[position] = result
        return answers

    async def rebuild(
        self, ref: BlobRef, survey: Survey, want: Collection[int], suspects: Collection[int]
    ) -> Rebuilt:
        """Make the shards of `want`, and those of `suspects` that turn out to be damaged, from as
        few others as the codec needs. A suspect that reads well is none any more, and a source. A
        source that turns out to be damaged is made anew as well, but one in a bad sector is left to
        scrubs, which see whether the disk has too many. Raises `InsufficientShards`."""
        code = self._pools.get(ref.pool).code
        if survey.doubtful:
            raise InsufficientShards(
                "the newest generation has too few shards while devices are down",
                blob=ref.blob.hex(),
                stripe=survey.stripe,
            )
        wanted = set(want)
        lost = set(range(code.width)) - survey.held.keys() | wanted
        have: dict[int, Buffer] = {}
        damaged = unknown = 0
        unread: Collection[int] = [each for each in suspects if each not in lost]
        while True:
            if unread:
                for position, answer in (await self.read(ref, survey, unread)).items():
                    if not isinstance(answer, StorageError):
                        have[position] = answer
                        continue
                    lost.add(position)
                    if is_damage(answer) and (position in suspects or not is_bad_sector(answer)):
                        damaged |= 1 << position
                        wanted.add(position)
                    elif position in suspects:
                        unknown |= 1 << position
            if not wanted:
                return Rebuilt({}, damaged, unknown)
            slow = [self._stores.get(osd) for osd in self._slow]
            cost = {
                position: 0.0 if position in have else COST_SLOW if held in slow else 1.0
                for position, held in survey.held.items()
                if position not in lost
            }
            try:
                needed = code.minimum_to_decode(frozenset(wanted), cost)
            except InsufficientShards as error:
                raise InsufficientShards(
                    f"{len(cost)} of {code.width} shards can be read, {code.k} are needed",
                    blob=ref.blob.hex(),
                    stripe=survey.stripe,
                ) from error
            unread = needed - have.keys()
            if not unread:
                break
        sources = {position: have[position] for position in needed}
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(
            self._executor, code.reconstruct, sources, list(wanted), survey.stripe_bytes
        )
        return Rebuilt(dict(made), damaged, unknown)

    async def examine(self, ref: BlobRef, survey: Survey) -> tuple[Examined, dict[int, Buffer]]:
        """Read and compare every shard. Also returns the right contents of those that are to be
        repaired and whose device is up, if the stripe can be read and it is known what is right."""
        code = self._pools.get(ref.pool).code
        found = Examined(survey)
        have: dict[int, Buffer] = {}
        for position, answer in (await self.read(ref, survey, list(survey.held))).items():
            if not isinstance(answer, StorageError):
                have[position] = answer
                found.shards += 1
                found.bytes += survey.shard_bytes
            elif isinstance(answer, NotFound):  # went since the survey, as when it is deleted
                survey.missing |= 1 << position
            elif is_damage(answer):
                found.corrupt |= 1 << position
                found.bad_sector |= is_bad_sector(answer) << position
            else:
                survey.down |= 1 << position
        found.corrupt |= survey.misshapen
        if survey.doubtful or not decodable(code, have.keys()):
            found.located = False
            return found, {}
        loop = asyncio.get_running_loop()
        fits, wrong, right = await loop.run_in_executor(
            self._executor, _compare, code, have, survey.stripe_bytes
        )
        found.fits, found.wrong = fits, mask_of(wrong)
        found.located = right is not None
        if right is None:
            return found, {}
        made: dict[int, Buffer] = {each: right[each] for each in positions_of(found.to_repair)}
        return found, made


def is_damage(error: StorageError) -> bool:
    """Whether the device answered, and does not have the shard as it was written."""
    return isinstance(error, NotFound | ChecksumMismatch) or is_bad_sector(error)


def is_bad_sector(error: StorageError) -> bool:
    """Whether the disk says that it cannot read this place; others it may well read."""
    return isinstance(error, DeviceFailed) and error.fields.get("errno") in _BAD_SECTOR


def _run_all(reads: Mapping[int, Read]) -> dict[int, Buffer | BaseException]:
    results: dict[int, Buffer | BaseException] = {}
    for position, read in reads.items():
        try:
            results[position] = read()
        except Exception as error:
            results[position] = error
    return results


def _compare(
    code: ErasureCode, have: Mapping[int, Buffer], stripe_bytes: int
) -> tuple[bool, Sequence[int], Sequence[Buffer] | None]:
    """Whether the shards fit together; the positions of those that do not belong; and all shards as
    they should be, or None if nobody can tell."""
    right = _stripe_of(code, have, stripe_bytes)
    if _agree(have, right):
        return True, (), right
    redundancy = len(have) - code.k
    if code.shard_length(stripe_bytes) < _EVIDENCE_BYTES_MIN:
        return False, (), None
    for count in range(1, redundancy // 2 + 1):
        answers = []
        for leave_out in itertools.combinations(sorted(have), count):
            rest = {position: have[position] for position in have if position not in leave_out}
            if not _all_checked(code, rest.keys()):
                continue
            candidate = _stripe_of(code, rest, stripe_bytes)
            if _agree(rest, candidate):
                answers.append((leave_out, candidate))
        if len(answers) == 1:
            return False, *answers[0]
        if answers:
            break
    return False, (), None


def _all_checked(code: ErasureCode, positions: Collection[int]) -> bool:
    """Whether each of these shards follows from the others, so that agreement says something of it."""
    return all(
        decodable(code, [other for other in positions if other != position])
        for position in positions
    )


def _stripe_of(
    code: ErasureCode, have: Mapping[int, Buffer], stripe_bytes: int
) -> Sequence[Buffer]:
    """All shards of the stripe, as they follow from some of those given."""
    chosen = code.minimum_to_decode(range(code.k), dict.fromkeys(have, 1.0))
    data = code.decode_stripe({position: have[position] for position in chosen}, stripe_bytes)
    length = code.shard_length(stripe_bytes)
    buffer = memoryview(bytearray(length * code.k))
    for index, shard in enumerate(data):
        buffer[index * length : (index + 1) * length] = shard
    return code.encode_stripe(buffer, stripe_bytes)


def _agree(have: Mapping[int, Buffer], right: Sequence[Buffer]) -> bool:
    # Of all buffers bytearrays alone are compared as memory; views go item by item.
    return all(bytearray(right[position]) == shard for position, shard in have.items())
