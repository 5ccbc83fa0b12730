"""Garbage: taking the shards of blobs that nothing refers to off the devices.

Three ways lead here. The commit that makes a blob unreachable (a delete, an overwrite, an abort)
writes a garbage row in the same stroke. A write that never got as far as its commit, because the
process or the client died, leaves orphans: shards whose blob has no row at all. And a group that has
moved leaves its shards where they were. A sweep over the devices finds these two.

A blob that is being read is left alone until its last reader is done. Which those are, and which
blobs are on their way to a commit, in whichever process, a `Presence` tells (`objectio.store.presence`);
each place that asks says why what it finds out then is still right afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

from objectio.abc.shardstore import ShardInfo, ShardStore
from objectio.kv.keys import encode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, decode_blob_row, decode_blobs, encode
from objectio.model.stripe import BlobId, ShardKey, is_reserved
from objectio.placement.groups import group_of
from objectio.store.answers import answered, submitted
from objectio.store.devices import DeviceSet
from objectio.store.pools import Pool, Pools
from objectio.store.presence import BlobsInUse, Presence

_log: Final = logging.getLogger("objectio.store")

_ROWS: Final = 256
_WRITES: Final = 5000
_IDLE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.25
"""Garbage is cheaper by the hundred: one sync of each device for all of it."""
_SWEEP_SECONDS: Final = 3600.0
_SWEEP_AGAIN_SECONDS: Final = 1.0
"""When somebody still read what should have gone."""
_STUCK_SECONDS: Final = 300.0
"""When the only copy was at the wrong place, or nobody could tell."""
_SWEEP_PAGE: Final = 1000
_DELETE_AT_ONCE: Final = 5000
"""Shards of one device in one item: what comes behind it waits for so many tombstones at most."""
Write = tuple[bytes, bytes | None]


def garbage_row(refs: Sequence[BlobRef]) -> Write:
    """The row that hands blobs over to the collector; part of the commit that lets go of them."""
    return keys.garbage(int(time.time() * 1000), os.urandom(8)), encode(list(refs))


class Collector:
    """Runs in the background.

    presence    answers for all processes
    in_use      this process's, if it serves objects, too: what is abandoned ceases to be active there
                once it is dealt with
    sure        whether no device may have later metadata than these: without that nothing is swept,
                for what nobody knows of here might be known there
    removed     OSDs that were taken out and have nothing, as far as they are down: nobody waits for them
    """

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        presence: Presence,
        grace_seconds: float,
        *,
        in_use: BlobsInUse | None = None,
        sure: Callable[[], bool] = lambda: True,
        removed: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._presence = presence
        self._sure = sure
        self._removed = removed
        self._in_use = in_use
        self._grace_ms = int(grace_seconds * 1000)
        self._work = asyncio.Event()
        self._abandoned: list[BlobRef] = []
        self._going: set[bytes] = set()
        """Blobs whose shards are being deleted, for which a row or a note is the reason."""
        self._waiting_for: dict[bytes, frozenset[int]] = {}
        """Garbage rows that wait for OSDs which are down."""
        self._tasks: list[asyncio.Task[None]] = []
        self._collecting = False
        self._sweeping = False
        self._rows_left = 0
        self._unswept: set[int] = set()
        self._stuck: set[int] = set()
        """OSDs with copies that cannot go as long as the right OSDs lack them, or are down."""
        self._sweep_due = asyncio.Event()
        self._left: dict[tuple[int, int], set[tuple[int, ...]]] = {}
        """Where groups were before they moved, until that is swept."""

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._work.set()  # what was left when the process before this one ended
        self._sweeping = True
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._run_sweeps())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        self._work.set()

    @property
    def backlog(self) -> int:
        """Garbage rows that wait, for a reader, an OSD or their time, as far as the last pass knows;
        at least 1 while one is under way. 0 says that nothing is left to do."""
        at_work = self._collecting or self._sweeping or self._work.is_set()
        return max(self._rows_left, int(at_work))

    def abandon(self, ref: BlobRef) -> None:
        """A blob whose write failed: not worth a row, its shards can go at once."""
        self._abandoned.append(ref)
        self._work.set()

    # Collecting.

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._collecting = True
            self._work.clear()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self._delete_abandoned()
                await self.collect()
                self._rows_left = len(await self._kv.ascan_prefix(keys.GARBAGE))
            except Exception as error:
                _log.warning("garbage collection: %s", error)
                await asyncio.sleep(1)
            finally:
                self._collecting = False

    async def _delete_abandoned(self) -> None:
        refs = self._abandoned[:_ROWS]
        if not refs:
            return
        # A commit that failed, or whose caller has gone, may go through all the same: then there
        # is a row, as soon as a later commit is through. Another process has waited for one of its
        # own before it told us.
        await self._kv.commit([], [])
        rows = await self._kv.aget_many([keys.blob(ref.blob) for ref in refs])
        unowned = [ref for ref, row in zip(refs, rows, strict=True) if row is None]
        await self._delete(unowned)  # what is out of reach is an orphan for the sweep
        del self._abandoned[: len(refs)]
        if self._in_use is not None:
            self._in_use.active.difference_update(ref.blob for ref in refs)
        if self._abandoned:
            self._work.set()

    async def collect(self) -> None:
        """All garbage rows that are due, a batch at a time."""
        start = keys.GARBAGE
        while True:
            due = keys.GARBAGE + encode_uint(int(time.time() * 1000) - self._grace_ms + 1)
            rows = await self._kv.ascan(start, due, limit=_ROWS)
            if not rows:
                return
            start = rows[-1][0] + b"\0"
            await self._collect_rows(rows)

    async def _collect_rows(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        up, removed = self._devices.stores.keys(), self._removed()
        due: dict[bytes, list[BlobRef]] = {}
        for row_key, raw in rows:
            waiting = self._waiting_for.get(row_key, frozenset()).difference(removed)
            if not waiting or waiting & up:
                due[row_key] = decode_blobs(raw)
        if not due:
            return
        # These rows were read before the survey begins, and each was written by the commit that took
        # the blobs' owner away. A reader that found the owner before that commit has pinned the
        # blobs by the time that its process answers, and is in the survey; or it pins them later,
        # and then looks at the owner's row again, finds it gone, and gives up.
        pinned = (await self._presence.survey()).pinned
        todo = {
            row_key: refs
            for row_key, refs in due.items()
            if not any(ref.blob in pinned for ref in refs)
        }
        # The blobs' own rows go first, so that nobody repairs, refills or scrubs what is being
        # deleted; the garbage row goes last, so that a crash in between finds it again.
        new = [refs for row_key, refs in todo.items() if row_key not in self._waiting_for]
        blobs = list({ref.blob for refs in new for ref in refs})
        going = {ref.blob for refs in todo.values() for ref in refs}
        self._going |= going
        try:
            await self._forget([keys.blob(blob) for blob in blobs])
            await self._forget([keys.repair(blob) for blob in blobs])
            await self._kv.barrier()  # what let go of the blobs must not be undone by a rebuild
            unreached = await self._delete([ref for refs in todo.values() for ref in refs])
        finally:
            self._going -= going
        done: list[bytes] = []
        for row_key, refs in todo.items():
            waiting = frozenset(osd for ref in refs for osd in unreached.get(ref.blob, ()))
            if waiting:
                self._waiting_for[row_key] = waiting
                continue
            self._waiting_for.pop(row_key, None)
            done.append(row_key)
        await self._forget(done)

    async def _forget(self, rows: Sequence[bytes]) -> None:
        for at in range(0, len(rows), _WRITES):
            await self._kv.commit([], [(row, None) for row in rows[at : at + _WRITES]])

    async def _delete(self, refs: Sequence[BlobRef]) -> dict[bytes, set[int]]:
        """Delete all shards of the blobs. Returns the OSDs that could not be reached, by blob."""
        by_osd: dict[int, list[ShardKey]] = {}
        blobs_of: dict[int, list[bytes]] = {}
        for ref in refs:
            pool = self._pools.get(ref.pool)
            for osd, position in self._places(pool, ref.blob):
                blobs_of.setdefault(osd, []).append(ref.blob)
                by_osd.setdefault(osd, []).extend(
                    ShardKey(BlobId(ref.blob), stripe, position)
                    for stripe in range(pool.stripes(ref.size))
                )
        known = {slot.osd for slot in self._devices.slots}.difference(self._removed())
        targets = [osd for osd in by_osd if osd in known]  # an OSD that was removed keeps nothing
        outcomes = await asyncio.gather(
            *(self._delete_on(self._devices.stores.get(osd), by_osd[osd]) for osd in targets)
        )
        unreached: dict[bytes, set[int]] = {}
        for osd, done in zip(targets, outcomes, strict=True):
            if not done:
                for blob in blobs_of[osd]:
                    unreached.setdefault(blob, set()).add(osd)
        return unreached

    def _places(self, pool: Pool, blob: bytes) -> set[tuple[int, int]]:
        """Every OSD and position that a shard of the blob may be at: where it belongs, where its
        group comes from, and where it was until its group's last move was done."""
        group = group_of(blob, len(pool.groups))
        sets = [pool.groups[group], *self._left.get((pool.id, group), ())]
        if group in pool.moving:
            sets.append(pool.moving[group])
        return {
            (osd, position) for members in sets for position, osd in enumerate(members) if osd >= 0
        }

    @staticmethod
    async def _delete_on(store: ShardStore | None, shards: Sequence[ShardKey]) -> bool:
        if store is None:
            return False
        for at in range(0, len(shards), _DELETE_AT_ONCE):
            names = shards[at : at + _DELETE_AT_ONCE]
            if await answered(submitted(partial(store.submit_delete, names))) is not None:
                return False
        return True

    # What should not be there.

    def vacate(self, pool: int, group: int, former: Sequence[int]) -> None:
        """A group has moved: its shards are to go from where they were. Until they are gone, what
        is deleted is deleted there, too."""
        self._left.setdefault((pool, group), set()).add(tuple(former))
        self.sweep_soon(*(osd for osd in former if osd >= 0))

    def sweep_soon(self, *osds: int) -> None:
        self._unswept.update(osds)
        self._sweeping = True
        self._sweep_due.set()

    def up(self, osd: int, *, blank: bool) -> None:
        """It may have been away while groups left it, or blobs were deleted."""
        self.sweep_soon(osd, *self._stuck)

    def down(self, osd: int, reason: str) -> None:
        """What is to be swept there waits."""

    async def _run_sweeps(self) -> None:
        self._unswept.update(self._devices.stores)
        loop = asyncio.get_running_loop()
        due, stuck_due = loop.time() + _SWEEP_SECONDS, loop.time() + _STUCK_SECONDS
        while True:
            self._sweep_due.clear()
            self._sweeping = True
            await self._sweep_all()
            reachable = self._unswept & self._devices.stores.keys()
            self._sweeping = bool(reachable)
            until = min(due, stuck_due)
            if reachable:
                until = min(until, loop.time() + _SWEEP_AGAIN_SECONDS)
            try:
                async with asyncio.timeout_at(until):
                    await self._sweep_due.wait()
            except TimeoutError:
                pass
            if loop.time() >= due:
                self._unswept.update(self._devices.stores)
                due = loop.time() + _SWEEP_SECONDS
            if loop.time() >= stuck_due:
                self._unswept.update(self._stuck)
                stuck_due = loop.time() + _STUCK_SECONDS

    async def _sweep_all(self) -> None:
        if not self._sure():
            return
        for osd in sorted(self._unswept & self._devices.stores.keys()):
            self._unswept.discard(osd)
            self._stuck.discard(osd)
            try:
                await self.sweep(osd)
            except Exception as error:
                self._unswept.add(osd)
                _log.warning("sweeping OSD %d: %s", osd, error)
        self._forget_left()

    def _forget_left(self) -> None:
        """Where groups were is forgotten once nothing is to be swept there."""
        configured = {slot.osd for slot in self._devices.slots}
        waiting = (self._unswept | self._stuck) & configured
        for place, sets in list(self._left.items()):
            sets.difference_update([former for former in sets if not waiting.intersection(former)])
            if not sets:
                del self._left[place]

    async def sweep(self, osd: int) -> int:
        """Delete shards on an OSD that should not be there: of blobs that nothing knows, and those
        that are at their right place by now. Returns how many orphans there were."""
        store = self._devices.stores.get(osd)
        after: ShardKey | None = None
        orphans = moved = 0
        while store is not None:
            page = await store.scan(after, _SWEEP_PAGE)
            infos = [info for info in page if not is_reserved(info.key.blob)]
            refs, unknown = await self._owners(infos)
            if not self._sure():  # what nothing here knows, later metadata may
                self.sweep_soon(osd)
                break
            doomed = [info.key for info in infos if info.key.blob in unknown]
            if doomed:
                orphans += len(doomed)
                await self._kv.barrier()  # a rebuild must not bring their rows back
                await self._delete_on(store, doomed)
            if strays := self._strays(osd, infos, refs):
                moved += await self._delete_strays(osd, store, strays, refs)
            if len(page) < _SWEEP_PAGE:
                break
            after = page[-1].key
            await asyncio.sleep(0)
        if orphans or moved:
            _log.info("OSD %d: %d orphaned, %d moved shards deleted", osd, orphans, moved)
        return orphans

    async def _owners(
        self, infos: Sequence[ShardInfo]
    ) -> tuple[Mapping[bytes, BlobRef], frozenset[bytes]]:
        """The blobs of the shards that have a row, and those that are garbage.

        What has no row may be under way to one. Its process had it among the active before it wrote
        the first shard, and has it there until its commit is through, or certainly never will be. So
        in a survey that begins after the shards were seen it is active; or it has ended, and its row
        can be read after the survey; or its process is fenced, and commits nothing any more. How
        old a blob is does not matter, and neither do clocks.
        """
        seen: set[bytes] = {info.key.blob for info in infos}
        refs = await self._refs(seen)
        ownerless = seen - refs.keys()
        if not ownerless:
            return refs, frozenset()
        active = (await self._presence.survey()).active
        ended = {blob for blob in ownerless if blob not in active}
        late = await self._refs(ended)
        return refs | late, frozenset(ended - late.keys())

    async def _refs(self, blobs: Collection[bytes]) -> dict[bytes, BlobRef]:
        """Of those that have a row."""
        if not blobs:
            return {}
        asked = list(blobs)
        rows = await self._kv.aget_many([keys.blob(blob) for blob in asked])
        return {
            blob: decode_blob_row(row).ref
            for blob, row in zip(asked, rows, strict=True)
            if row is not None
        }

    async def orphaned(self, store: ShardStore, infos: Sequence[ShardInfo]) -> list[ShardKey]:
        """Those of the shards whose blob nothing knows. They go with the next sweep. What goes
        anyway, for it was deleted or given up a moment ago, is not among them; by the time that it
        ceases to be known for that its shards are gone."""
        infos = [info for info in infos if not is_reserved(info.key.blob)]
        _, unknown = await self._owners(infos)
        given_up = {ref.blob for ref in self._abandoned}
        found = [
            info.key
            for info in infos
            if info.key.blob in unknown
            and info.key.blob not in self._going
            and info.key.blob not in given_up
        ]
        there = await store.stat(found) if found else []
        return [key for key, info in zip(found, there, strict=True) if info is not None]

    async def misplaced(self, osd: int, infos: Sequence[ShardInfo]) -> list[ShardKey]:
        """Those of the shards on an OSD whose blob is known and has them elsewhere. They are copies
        that a move of their group left, and go with the next sweep."""
        infos = [info for info in infos if not is_reserved(info.key.blob)]
        refs, _ = await self._owners(infos)
        return self._strays(osd, infos, refs)

    def _strays(
        self, osd: int, infos: Sequence[ShardInfo], refs: Mapping[bytes, BlobRef]
    ) -> list[ShardKey]:
        strays: list[ShardKey] = []
        for info in infos:
            ref = refs.get(info.key.blob)
            if ref is not None and osd not in self._homes(ref, info.key.position):
                strays.append(info.key)
        return strays

    def _homes(self, ref: BlobRef, position: int) -> tuple[int, ...]:
        """Where the shards of a position may rightly be."""
        pool = self._pools.get(ref.pool)
        members, former = pool.members(ref.blob), pool.former(ref.blob)
        if position >= len(members):
            return ()
        return (members[position],) if former is None else (members[position], former[position])

    async def _delete_strays(
        self,
        osd: int,
        store: ShardStore,
        strays: Sequence[ShardKey],
        refs: Mapping[bytes, BlobRef],
    ) -> int:
        """Delete what is at its right place, too. What is not there yet, or is being read, stays
        for now. The group may begin to move back here at any moment; so it is looked at again when
        nothing can come in between any more. Who makes this OSD a member first syncs it, and what
        was handed to it before that is done by then.

        A process that does not know yet that the group has moved on reads here. When the survey
        returns every one does know, and who reads here on what was so before is in it."""
        await self._kv.barrier()  # a rebuild must know that the group has moved
        pinned = (await self._presence.survey()).pinned
        there = await self._at_home(strays, refs)
        free = [key for key in strays if key.blob not in pinned]
        doomed = [
            key
            for key in free
            if key in there and osd not in self._homes(refs[key.blob], key.position)
        ]
        if len(free) < len(strays):
            self._unswept.add(osd)
        elif len(doomed) < len(free):
            self._stuck.add(osd)
        if doomed and not await self._delete_on(store, doomed):
            self._stuck.add(osd)
            return 0
        return len(doomed)

    async def _at_home(
        self, shards: Sequence[ShardKey], refs: Mapping[bytes, BlobRef]
    ) -> set[ShardKey]:
        """Those of the shards that one of their right OSDs has."""
        asked: dict[int, list[ShardKey]] = {}
        for key in shards:
            for home in self._homes(refs[key.blob], key.position):
                asked.setdefault(home, []).append(key)
        found: set[ShardKey] = set()
        for home, wanted in asked.items():
            store = self._devices.stores.get(home)
            if store is None:
                continue
            infos = await store.stat(wanted)
            found.update(key for key, info in zip(wanted, infos, strict=True) if info is not None)
        return found
