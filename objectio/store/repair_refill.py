"""Refilling: making anew what an OSD should have and does not, all of it.

A device that takes another's place is blank; one that was restored from an old copy lacks what was
written since. Either way a row says so, and all blobs are walked through. What the index of the
device has is passed over, so a walk costs little where nothing is missing.

Several OSDs are refilled by one walk, which makes all shards that a stripe lacks from one reading.
Blobs that have the least left come first: if there are several margins among the blobs, each margin
but the largest has a pass of its own before the pass over all. Those passes begin anew when a device
goes or comes, since that changes the margins; they too pass over what is there by then. How far the
last pass is stands in the OSDs' rows, so a restart goes on there.

A write may have had its answer from the old device, and be committed when the walk is past its place:
its process was held up, say. So before the last pass there is a survey of who writes; when the pass is
over, what was being written then is looked at as it ends. Until then an OSD is not refilled, and its
row stays before those blobs. A write that begins after the survey has only the new device.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from objectio.abc.kv import Equals
from objectio.abc.shardstore import StoreState
from objectio.errors import CommitConflict
from objectio.kv.keys import decode_uint, prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, decode_blob_row
from objectio.store.answers import answered, submitted
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pool, Pools
from objectio.store.presence import Presence
from objectio.store.repair_blob import Mended
from objectio.store.repair_margin import Margins
from objectio.store.repair_rate import Backoff

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500
_IDLE_SECONDS: Final = 2.0
"""So often it is looked whether an OSD that cannot be refilled was removed."""
_FOLLOW_SECONDS: Final = 0.2
"""So often it is looked whether writes have ended."""
_STOP: Final = prefix_end(keys.BLOBS)

Submit = Callable[[BlobRef, int], "asyncio.Future[Mended]"]
"""Have a blob made whole; takes its margin."""


def shard_bytes(pool: Pool, size: int) -> int:
    """What one position of a blob of `size` takes on a device, in all its stripes."""
    whole, rest = divmod(size, pool.stripe_size_bytes)
    last = pool.code.shard_length(rest) if rest else 0
    return whole * pool.code.shard_length(pool.stripe_size_bytes) + last


@dataclass(slots=True)
class _Walked:
    """An OSD that is being refilled: its row, the row's value, and from where on blobs are left."""

    osd: int
    row: bytes
    raw: bytes

    @property
    def cursor(self) -> bytes:
        # Anything else but a place among the blobs is the beginning: a row is written with what
        # tells its device from others, so that a walk for the device before does not go on with it.
        return self.raw if self.raw.startswith(keys.BLOBS) else keys.BLOBS


@dataclass(slots=True)
class Outlook:
    """What a walk has still to look at, by margin; blobs that turn out whole are counted, too."""

    blobs: Counter[int] = field(default_factory=Counter)
    bytes: Counter[int] = field(default_factory=Counter)

    def done(self, margin: int, size: int) -> None:
        self.blobs[margin] = max(0, self.blobs[margin] - 1)
        self.bytes[margin] = max(0, self.bytes[margin] - size)


class _Lacking(NamedTuple):
    """A blob of which OSDs that are refilled have positions: OSD → position."""

    ref: BlobRef
    margin: int
    positions: dict[int, int]
    bytes: int


class Refill:
    """`submit` and `report` are repair's: the one queues a blob, the other writes down what could not
    be made; `refilling` is called when the set of OSDs changes; `removed` tells those that were taken
    out, have nothing and are down: there is nothing to refill."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        margins: Margins,
        backoff: Backoff[int],
        presence: Presence,
        *,
        submit: Submit,
        report: Callable[[Sequence[tuple[BlobRef, int]]], Awaitable[None]],
        refilling: Callable[[frozenset[int]], None],
        removed: Callable[[], Collection[int]],
    ) -> None:
        self.osds: frozenset[int] = frozenset()
        """Those that have a row, up or not."""
        self.outlook = Outlook()
        self.looking = True
        """Not yet known what there is to do, or something is being done."""
        self._kv = kv
        self._stores = devices.stores
        self._pools = pools
        self._margins = margins
        self._backoff = backoff
        self._presence = presence
        self._submit = submit
        self._report = report
        self._refilling = refilling
        self._removed = removed
        self._writing: set[bytes] = set()
        """Blobs that were being written when the last pass began, and perhaps still are."""
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """A device went or came, or has room again: what is walked, and in which order, is anew."""
        self.looking = True
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            self.looking = True
            try:
                active = await self._read_rows()
                if active:
                    await self._walk(active)
                    continue
            except Exception:
                _log.exception("refilling")
                await asyncio.sleep(1)
                continue
            self.outlook = Outlook()
            self.looking = self._changed.is_set()
            await self._changes(self._pause_seconds())

    def _pause_seconds(self) -> float | None:
        """Until an OSD may have room again, or it is time to see whether one was removed."""
        waiting = [wait for osd, wait in self._backoff.waiting.items() if osd in self.osds]
        return min([_IDLE_SECONDS, *waiting]) if self.osds else None

    async def _read_rows(self) -> dict[int, _Walked]:
        """The OSDs that can be refilled now."""
        rows = await self._kv.ascan_prefix(keys.REFILLS)
        found = {
            osd: _Walked(osd, row, raw)
            for row, raw in rows
            for osd in (decode_uint(row, len(keys.REFILLS), 4),)
        }
        for osd in found.keys() & self._removed():
            await self._kv.commit(
                [Equals(found[osd].row, found[osd].raw)], [(found.pop(osd).row, None)]
            )
        if found.keys() != self.osds:
            for osd in found.keys() - self.osds:
                _log.info("refilling OSD %d", osd)
            self.osds = frozenset(found)
            self._refilling(self.osds)
        return {osd: walked for osd, walked in found.items() if self._takes_shards(osd)}

    def _takes_shards(self, osd: int) -> bool:
        store = self._stores.get(osd)
        if store is None or self._backoff.waits(osd):
            return False
        return store.state in (StoreState.UP, StoreState.FULL)

    async def _walk(self, active: dict[int, _Walked]) -> None:
        """Until the OSDs are refilled, or something changed."""
        if not await self._look_ahead(active):
            return
        margins = sorted(self.outlook.blobs)
        for margin in margins[:-1]:
            if not await self._pass(active, only=margin):
                return
        last = margins[-1] if margins else 0
        self._writing = set((await self._presence.survey()).active)
        if await self._pass(active, only=None, counted=last) and await self._follow(active):
            for walked in active.values():
                if not self._changed.is_set() and await self._advance(walked, None):
                    _log.info("OSD %d is refilled", walked.osd)

    async def _look_ahead(self, active: dict[int, _Walked]) -> bool:
        outlook = Outlook()
        start = min(walked.cursor for walked in active.values())
        while rows := await self._kv.ascan(start, _STOP, limit=_PAGE):
            for lacking in self._lacking(rows, active):
                outlook.blobs[lacking.margin] += 1
                outlook.bytes[lacking.margin] += lacking.bytes
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(0)
            if self._changed.is_set():
                return False
        self.outlook = outlook
        return True

    def _lacking(
        self, rows: Sequence[tuple[bytes, bytes]], active: dict[int, _Walked]
    ) -> list[_Lacking]:
        found = []
        for key, raw in rows:
            ref = decode_blob_row(raw).ref
            pool = self._pools.get(ref.pool)
            places = pool.members(ref.blob)
            former = pool.former(ref.blob)
            positions = {
                osd: position
                for members in ((places,) if former is None else (former, places))
                for position, osd in enumerate(members)
                if osd in active and key >= active[osd].cursor
            }
            if positions:
                size = len(positions) * shard_bytes(pool, ref.size)
                found.append(_Lacking(ref, self._margins.of(ref), positions, size))
        return found

    async def _pass(
        self, active: dict[int, _Walked], *, only: int | None, counted: int | None = None
    ) -> bool:
        """Through all blobs, or through those of one margin. False if something changed."""
        counted = only if counted is None else counted
        if not active:
            return False
        start = min(walked.cursor for walked in active.values())
        while rows := await self._kv.ascan(start, _STOP, limit=_PAGE):
            todo = self._lacking(rows, active)
            if only is not None:
                todo = [lacking for lacking in todo if lacking.margin == only]
            if not await self._mend(todo, counted, active):
                return False
            start = rows[-1][0] + b"\0"
            if only is None and not await self._write_down(active, start):
                return False
            await asyncio.sleep(0)
        return not self._changed.is_set()

    async def _follow(self, active: dict[int, _Walked]) -> bool:
        """Look at what was being written, as it ends: it has its row by then, or will have none.
        False if something changed."""
        told = False
        while self._writing:
            still = (await self._presence.survey()).active
            ended = [keys.blob(blob) for blob in self._writing if blob not in still]
            self._writing.intersection_update(still)
            raws = await self._kv.aget_many(ended)
            rows = [(key, raw) for key, raw in zip(ended, raws, strict=True) if raw is not None]
            if not await self._mend(self._lacking(rows, active), None, active):
                return False
            if self._writing and not told:
                _log.info("refilling waits for %d writes that began before", len(self._writing))
                told = True
            if self._writing and await self._changes(_FOLLOW_SECONDS):
                return False
        return not self._changed.is_set()

    async def _changes(self, seconds: float | None) -> bool:
        """Whether something changes before so much time has gone by; None: however long that takes."""
        try:
            async with asyncio.timeout(seconds):
                return await self._changed.wait()
        except TimeoutError:
            return False

    async def _mend(
        self, todo: Sequence[_Lacking], counted: int | None, active: dict[int, _Walked]
    ) -> bool:
        """Have these blobs made whole. False if something changed before all were. An OSD that has no
        room is `active` no more: its row stays where it is, and has a walk of its own later."""
        answers = [self._submit(lacking.ref, lacking.margin) for lacking in todo]
        if not await self._all(answers):
            for answer in answers:
                answer.cancel()
            return False
        unmade: list[tuple[BlobRef, int]] = []
        for lacking, answer in zip(todo, answers, strict=True):
            mended = answer.result()
            if lacking.margin == counted:
                self.outlook.done(lacking.margin, lacking.bytes)
            if mended.gone:
                continue
            for osd, position in lacking.positions.items():
                if mended.whole >> position & 1 or osd not in active:
                    continue
                if self._backoff.waits(osd):
                    del active[osd]
                    if not active:
                        return False
                    continue
                if not self._takes_shards(osd):
                    self.changed()  # the walk goes on from here when it is back
                    return False
                unmade.append((lacking.ref, 1 << position))
        await self._report(unmade)
        return not self._changed.is_set()

    async def _all(self, answers: Sequence[asyncio.Future[Mended]]) -> bool:
        """Wait for all, but no longer than until something changes."""
        if not answers:
            return True
        change = asyncio.ensure_future(self._changed.wait())
        everything = asyncio.gather(*answers, return_exceptions=True)
        either: set[asyncio.Future[Any]] = {change, everything}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return everything.done() and not any(answer.cancelled() for answer in answers)
        finally:
            change.cancel()
            everything.cancel()
            await asyncio.gather(change, everything, return_exceptions=True)

    async def _write_down(self, active: dict[int, _Walked], cursor: bytes) -> bool:
        if self._writing:
            cursor = min(cursor, keys.blob(min(self._writing)))
        for walked in active.values():
            if walked.cursor < cursor and not await self._advance(walked, cursor):
                return False
        return True

    async def _advance(self, walked: _Walked, new: bytes | None) -> bool:
        """Write down how far the OSD is; None: to the end. False if it was replaced again meanwhile:
        then its row is as new, and its walk begins anew."""
        # What the index has may stem from a try that did not get to sync.
        store = self._stores.get(walked.osd)
        if store is None or await answered(submitted(store.submit_sync)) is not None:
            self.changed()
            return False
        if self._stores.get(walked.osd) is not store:
            self.changed()
            return False
        try:
            await self._kv.commit([Equals(walked.row, walked.raw)], [(walked.row, new)])
        except CommitConflict:
            self.changed()
            return False
        if new is not None:
            walked.raw = new
        return True
