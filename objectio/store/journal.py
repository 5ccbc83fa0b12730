"""The metadata journal: each batch of commits on m + 1 devices before anybody is told that it is done.

The engine has a batch first, with a row in its outbox (`objectio.kv.outbox`); then the batch comes
here and goes to every *member*, a device that has a copy, as shards among the others
(`objectio.store.journalformat`). It is acknowledged, in order, when all members have it durably. A
member that fails, goes down or lags is replaced: what is under way goes to the new one too, and a
whole copy of the metadata, a checkpoint, is written to all members at once
(`objectio.store.journalcheckpoint`), so that as many as before have the full history again.

Where there are too few devices, a batch is acknowledged with as many copies as there can be: the
engine has it, and its outbox row stays until a checkpoint makes up for it.

`open` compares the engine with what the devices have, before anything reads the metadata; `attach`
begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from objectio.abc.admin import JournalStatus
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.shardstore import ShardStore, ShardWrite, StoreState
from objectio.errors import ConfigError, ObjectIOError
from objectio.kv.outbox import Outbox
from objectio.kv.store import KVStore
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import JournalRecord, decode_journal, encode
from objectio.model.cluster import Osd, OsdId
from objectio.store.clustermap import memberships
from objectio.store.devices import DeviceSet
from objectio.store.journalcheckpoint import Interrupted, clean, write_checkpoint
from objectio.store.journalformat import (
    ENTRY,
    SHARD_OVERHEAD_BYTES,
    Checkpoint,
    Name,
    coordinates,
    cut,
)
from objectio.store.journalhistory import History, look_at, look_at_all
from objectio.store.journalmembers import Candidate, Entry, Member, choose
from objectio.store.journalstart import Start, judge, parity_of_pools, roll_forward

_log: Final = logging.getLogger("objectio.journal")

CHECKPOINT_BYTES_MIN: Final = 16 * MIB
"""Journal that is written before the next checkpoint, if the last one was not larger."""
CHECKPOINT_ENTRIES_MAX: Final = 500_000
_DEVICE_SHARE: Final = 16
"""A small device has a checkpoint sooner: the journal is to take no more than this part of it."""
_ROOM_BYTES_MIN: Final = 64 * MIB
_BAN_SECONDS: Final = 30.0
"""How long a device that failed the journal is not asked again, while there are others."""
_TEND_SECONDS: Final = 2.0
_DETACH_SECONDS: Final = 5.0


class Journal:
    """A `CommitJournal` and a `store.devices.Listener`. Without an outbox in the key-value store it is
    off, and does nothing."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        osds: Sequence[Osd] = (),
        *,
        straggler_seconds: float = 1.0,
        metrics: Metrics | None = None,
    ) -> None:
        self.members: dict[int, Member] = {}
        self.acknowledged = 0
        """The last batch whose callers were told."""
        self.checkpoint: Checkpoint | None = None
        """The last complete one on the devices."""
        self.lineage = 0
        self._kv = kv
        self._devices = devices
        self._osds = {int(osd.id): osd for osd in osds}
        self._straggler_seconds = max(straggler_seconds, 0.01)
        self._parity = 0
        self._attached = False
        self._start = Start(JournalRecord(0, False, []), History([]), 0)
        self._queue: deque[Entry] = deque()
        self._banned: dict[int, tuple[float, Member]] = {}
        self._aside: set[int] = set()
        """OSDs that are draining or out."""
        self._arrived: set[int] = set()
        """OSDs that came up and have not been looked at."""
        self._foreign: dict[int, str] = {}
        """OSDs with a journal that does not fit ours, and why."""
        self._whole = False
        """Every member has the last checkpoint and all behind it."""
        self._short = 0
        """The last batch that was acknowledged with fewer copies than there should be."""
        self._gap = 0
        """The last batch that is on no device: the journal cannot be read across it."""
        self._bytes = 0
        self._entries = 0
        self._bytes_max = CHECKPOINT_BYTES_MIN
        self._reason = "not attached yet"
        self._watch: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        metrics = metrics or NullMetrics()
        self._entry_count = metrics.counter(
            "objectio_journal_entries_total", "Batches of commits written to the journal."
        )
        self._entry_bytes = metrics.counter(
            "objectio_journal_entry_bytes_total", "Bytes of these, in one copy."
        )
        self._checkpoint_count = metrics.counter(
            "objectio_journal_checkpoints_total", "Whole copies of the metadata written to devices."
        )
        devices.listen(self)

    @property
    def outbox(self) -> Outbox:
        assert self._kv.outbox is not None, "the key-value store is not journaled"
        return self._kv.outbox

    def know(self, osds: Sequence[Osd]) -> None:
        """Where OSDs stand, as far as that has changed."""
        self._osds = {int(osd.id): osd for osd in osds}

    # Life.

    async def open(self, parity_shards: int) -> None:
        """Compare the engine with the devices, and give it what it lost; before pools are loaded, for
        that may change them. `parity_shards` are those of the pool that is to be used. Raises
        `ConfigError` where the devices have metadata that does not follow from the engine's."""
        raw = await self._kv.aget(keys.JOURNAL)
        record = None if raw is None else decode_journal(raw)
        if self._kv.outbox is None:
            self._reason = "the engine is not journaled, by its kind or by [kv] journal = false"
            if record is not None and record.on:
                off = JournalRecord(record.lineage, False, record.osds)
                await self._kv.commit([], [(keys.JOURNAL, encode(off))])
            return
        self._parity = max(parity_shards, await parity_of_pools(self._kv))
        self._start = judge(record, await self._look_at_all(), self.outbox.number)
        if self._start.ahead:
            await roll_forward(self._kv, self._start, self._devices)
            self._start = self._start._replace(ahead=0, stale=True)

    async def _look_at_all(self) -> History:
        """What cannot be looked at is to be looked at again, and says nothing until then."""
        self._arrived.clear()
        asked = dict(self._devices.stores)
        history = await look_at_all(asked)
        self._arrived |= asked.keys() - {each.osd for each in history.devices}
        return history

    @property
    def knows_all(self) -> bool:
        """No device that is up has later metadata than this engine, and none that is down, either."""
        if self._kv.outbox is None:
            return True
        return self._attached and not self._foreign and not self._arrived

    async def attach(self) -> None:
        """Begin. Where too few devices are up to know that none has a later history, that waits until
        there are more, and commits are acknowledged by the engine alone."""
        if self._kv.outbox is None:
            return
        if self._arrived:
            await self._attach_later()
        elif await self._sees_enough():
            await self._attach()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Detach: later commits are acknowledged by the engine, and stand in the outbox."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._attached:
            await self._kv.detach(2 * self._straggler_seconds + _DETACH_SECONDS)
        self._attached = False
        self._reason = "detached"
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _sees_enough(self) -> bool:
        known = {osd for osd, member in (await memberships(self._kv)).items() if member != "out"}
        up = self._devices.stores.keys() - self._arrived
        if len(known - up) <= self._parity or up & set(self._start.record.osds):
            return True
        self._say(
            f"{len(known - up)} of {len(known)} devices are down: one of them might have later "
            "metadata than this engine"
        )
        return False

    async def _attach(self) -> None:
        """Take members, those first that have all of it, and have the outbox journaled."""
        start = self._start
        self.lineage = start.record.lineage
        await self._refresh()
        found = None if start.stale else await self._usable_checkpoint(start.history)
        holders: list[int] = []
        if found is not None:
            # What stands in the outbox is journaled anew, on all of them.
            last = await asyncio.to_thread(self.outbox.first) - 1
            holders = [each.osd for each in start.history.devices if each.has_all_of(found, last)]
            self.checkpoint = found if holders else None
            self._bytes = max((each.entry_bytes for each in start.history.devices), default=0)
        row = JournalRecord(self.lineage, True, holders or start.record.osds)
        await self._kv.commit([], [(keys.JOURNAL, encode(row))])
        wanted = self.copies_wanted
        for osd in self._candidates(holders)[:wanted]:
            self.members[osd] = Member(osd, self._devices.stores[osd])
        self._whole = bool(self.members) and set(self.members) <= set(holders)
        self._attached = True
        self._reason = ""
        self._fill()
        try:
            caught_up = await self._kv.attach(self)
        except BaseException:
            self._attached = False
            self.members.clear()
            raise
        if caught_up.whole:
            self._short = self._gap = caught_up.number
            self._whole = False
        self._start = start._replace(history=History([]))
        await self._kv.barrier()
        if self.checkpoint is None or caught_up.whole:
            await self._try_checkpoint()

    async def _usable_checkpoint(self, history: History) -> Checkpoint | None:
        for found in await history.checkpoints():
            if found.lineage == self.lineage:
                return found
        return None

    # Batches.

    def append(self, number: int, first: int, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        name = Name(ENTRY, self.lineage, number)
        shards = cut(name, first, int(time.time() * 1000), body)
        entry = Entry(number, shards, loop.time())
        self._queue.append(entry)
        size = sum(len(payload) + SHARD_OVERHEAD_BYTES for _, payload in shards)
        self._bytes += size
        self._entries += 1
        self._entry_count.inc()
        self._entry_bytes.inc(size)
        for member in self.members.values():
            self._send(member, entry)
        if not entry.waiting:
            self._advance()
        elif self._watch is None:
            self._watch = loop.call_later(self._straggler_seconds, self._look_for_laggards)
        if self._due and not self._wake.is_set():
            self._wake.set()

    def _send(self, member: Member, entry: Entry) -> None:
        last = len(entry.shards)
        entry.waiting[member] = last
        for count, (key, payload) in enumerate(entry.shards, 1):
            self.send(
                member,
                ShardWrite(key, (payload,), coordinates(len(payload)), count == last, reserve=True),
                entry,
            )

    def send(self, member: Member, write: ShardWrite, entry: Entry) -> None:
        member.outstanding += 1
        done = partial(self._done, entry, member)
        try:
            member.store.submit(write, done)
        except ObjectIOError as error:  # it was closed this moment
            asyncio.get_running_loop().call_soon(done, error)

    def _done(self, entry: Entry, member: Member, error: BaseException | None) -> None:
        member.outstanding -= 1
        left = entry.waiting.get(member)
        if left is None:  # it was replaced meanwhile
            return
        if error is not None:
            self.drop(member, str(error))
        elif left > 1:
            entry.waiting[member] = left - 1
        else:
            del entry.waiting[member]
            entry.copies += 1
            if not entry.waiting:
                self._advance()

    def _advance(self) -> None:
        """Acknowledge what all members have, in order."""
        queue = self._queue
        before = self.acknowledged
        while queue and not queue[0].waiting:
            entry = queue.popleft()
            self.acknowledged = entry.number
            if entry.copies < max(1, self.copies_wanted):
                self._short = entry.number
            if not entry.copies:
                self._gap = entry.number
                self._whole = False
        if self.acknowledged == before:
            return
        if not self._short:
            self.outbox.safe = self.acknowledged
        self._kv.acknowledge(self.acknowledged)

    def _look_for_laggards(self) -> None:
        self._watch = None
        if not self._queue:
            return
        loop = asyncio.get_running_loop()
        late = loop.time() - self._queue[0].since
        if late >= self._straggler_seconds:
            for member in list(self._queue[0].waiting):
                self.drop(member, "it is too slow")
            late = 0
        if self._queue and self._watch is None:
            wait = self._straggler_seconds - late
            self._watch = loop.call_later(max(wait, 0.001), self._look_for_laggards)

    # Members.

    @property
    def copies_wanted(self) -> int:
        return min(self._parity + 1, len(self._devices.stores.keys() - self._foreign.keys()))

    def drop(self, member: Member, reason: str) -> None:
        """The device is no member any more; another one takes its place."""
        if self.members.get(member.osd) is not member:
            return
        del self.members[member.osd]
        self._whole = False
        self._banned[member.osd] = (time.monotonic() + _BAN_SECONDS, member)
        _log.warning("OSD %d leaves the metadata journal: %s", member.osd, reason)
        for entry in self._queue:
            entry.waiting.pop(member, None)
        self._fill()
        self._advance()
        self._wake.set()

    def _fill(self) -> None:
        """Have as many members as there should be, if there can be."""
        if not self._attached:
            return
        missing = self.copies_wanted - len(self.members)
        for osd in self._candidates(())[:missing] if missing > 0 else ():
            member = self.members[osd] = Member(osd, self._devices.stores[osd])
            self._whole = False
            self._wake.set()
            for entry in self._queue:
                self._send(member, entry)
        self._set_limit()
        count, wanted = len(self.members), self.copies_wanted
        if not count:
            self._say("no device takes the journal: the metadata directory is the only copy")
        elif count < wanted:
            self._say(f"{count} of {wanted} devices take the journal: the others are full or fail")
        else:
            self._say("")

    def _candidates(self, first: Sequence[int]) -> list[int]:
        """Devices that could be members, the best first: `first`, then those with room, those that
        are not full, those that are, those on their way out. Within each of these, as far apart as can be."""
        now = time.monotonic()
        wanted = self.copies_wanted
        groups: list[list[int]] = [[], [], [], [], []]
        for osd, store in self._devices.stores.items():
            banned = self._banned.get(osd)
            if banned is not None and banned[0] <= now and not banned[1].outstanding:
                del self._banned[osd]
                banned = None
            if banned is not None or osd in self.members or osd in self._arrived:
                continue
            if osd in self._foreign or store.state not in (StoreState.UP, StoreState.FULL):
                continue
            if osd in self._aside:
                rank = 4
            elif store.state is StoreState.FULL:
                rank = 3
            else:
                rank = 0 if osd in first else 1 if self._has_room(store) else 2
            groups[rank].append(osd)
        chosen: list[int] = []
        for group in groups:
            there = [self._osd(osd) for osd in (*self.members, *chosen)]
            candidates = [Candidate(self._osd(osd)) for osd in group]
            chosen += choose(there, candidates, wanted)
        return chosen

    def _has_room(self, store: ShardStore) -> bool:
        usage = store.usage()
        needed = _ROOM_BYTES_MIN + 3 * (self.checkpoint.bytes if self.checkpoint else 0)
        return usage.capacity_bytes - usage.used_bytes >= needed

    def _osd(self, osd: int) -> Osd:
        return self._osds.get(osd) or Osd(id=OsdId(osd))

    def up(self, osd: int, *, blank: bool) -> None:
        self._banned.pop(osd, None)
        self._foreign.pop(osd, None)
        self._arrived.add(osd)
        self._wake.set()

    def down(self, osd: int, reason: str) -> None:
        self._arrived.discard(osd)
        self._foreign.pop(osd, None)
        member = self.members.get(osd)
        if member is not None:
            self.drop(member, reason)

    # In the background.

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TEND_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._tend()
            except Exception as error:
                _log.warning("the metadata journal: %s", error)
                await asyncio.sleep(1)

    async def _tend(self) -> None:
        if not self._attached:
            await self._attach_later()
            return
        await self._refresh()
        await self._look_at_arrived()
        self._fill()
        for member in self._misplaced():
            self.drop(member, "it is full, or on its way out of the cluster")
        if self.members and (self._due or not self._whole):
            await self._try_checkpoint()

    async def _attach_later(self) -> None:
        if not self._arrived:
            return
        history = await self._look_at_all()
        try:
            start = judge(self._start.record, history, self.outbox.number)
        except ConfigError as error:
            self._say(error.message)
            return
        if start.ahead:
            self._say("devices have later metadata than this engine: restart this node")
            return
        self._start = start
        if await self._sees_enough():
            await self._attach()

    async def _refresh(self) -> None:
        members = await memberships(self._kv)
        self._aside = {osd for osd, membership in members.items() if membership != "in"}

    async def _look_at_arrived(self) -> None:
        """A device that comes (back) may have what is stale, which goes, or what cannot be ours."""
        while self._arrived:
            osd = min(self._arrived)
            store = self._devices.stores.get(osd)
            if store is not None:
                found = await look_at(osd, store)
                history = History([found])
                newest = history.newest(self.lineage)
                if history.lineage > self.lineage or newest > self.outbox.number:
                    self._foreign[osd] = f"OSD {osd} has metadata of a later history than this one"
                    _log.error("%s: it is left alone", self._foreign[osd])
                elif not found.empty and self._may_clean(osd, self.checkpoint):
                    assert self.checkpoint is not None
                    await clean(osd, store, self.checkpoint)
            self._arrived.discard(osd)

    def _misplaced(self) -> Iterator[Member]:
        """Members that should be others, where there are others."""
        for member in list(self.members.values()):
            full = member.store.state is StoreState.FULL
            if (full or member.osd in self._aside) and any(
                self._devices.stores[osd].state is StoreState.UP for osd in self._spares()
            ):
                yield member

    def _spares(self) -> list[int]:
        return [
            osd
            for osd in self._devices.stores
            if osd not in self.members
            and osd not in self._aside | self._arrived
            and osd not in self._foreign
            and osd not in self._banned
        ]

    # Checkpoints.

    @property
    def _due(self) -> bool:
        return self._bytes > self._bytes_max or self._entries > CHECKPOINT_ENTRIES_MAX

    def _set_limit(self) -> None:
        sizes = [member.store.usage().capacity_bytes for member in self.members.values()]
        smallest = min(sizes, default=0) // _DEVICE_SHARE
        self._bytes_max = max(
            min(CHECKPOINT_BYTES_MIN, smallest), self.checkpoint.bytes if self.checkpoint else 0
        )

    async def _try_checkpoint(self) -> None:
        try:
            await self._checkpoint()
        except Interrupted as why:
            _log.info("a checkpoint of the metadata begins anew: %s", why)
            self._wake.set()
        except ObjectIOError as error:
            _log.warning("no checkpoint of the metadata: %s", error)

    async def _checkpoint(self) -> None:
        members = list(self.members.values())
        if not members:
            return
        row = JournalRecord(self.lineage, True, [member.osd for member in members])
        bytes_before, entries_before = self._bytes, self._entries
        await self._kv.commit([], [(keys.JOURNAL, encode(row))])  # gives it a number of its own
        number = self.acknowledged
        made = await write_checkpoint(self._kv, self, members, number)
        if self._gap > number:
            raise Interrupted("batches behind it are on no device")
        self.checkpoint = made
        self._checkpoint_count.inc()
        self._bytes -= bytes_before
        self._entries -= entries_before
        self._set_limit()
        if self._short <= number and len(members) >= self.copies_wanted:
            self._short = 0
            self.outbox.safe = max(self.outbox.safe, number)
        self._whole = list(self.members.values()) == members
        _log.info("checkpoint %d of the metadata: %d rows", number, made.rows)
        for osd, store in list(self._devices.stores.items()):
            if osd in self._foreign or osd in self._arrived:
                continue
            if self._may_clean(osd, made):
                await clean(osd, store, made)

    def _may_clean(self, osd: int, made: Checkpoint | None) -> bool:
        """What a device has is kept until there are as many newer copies as there should be."""
        return made is not None and (osd in made.osds or len(made.osds) > self._parity)

    def damaged(self) -> None:
        """A scrub found damage in what is on the devices: a new checkpoint takes the place of it."""
        self._whole = False
        self._wake.set()

    # What operators see.

    def status(self) -> JournalStatus:
        behind = 0
        if self._attached and self._short:
            behind = max(0, self.outbox.number - self.outbox.safe)
        reason = self._reason or "; ".join(self._foreign.values())
        return JournalStatus(
            enabled=self._kv.outbox is not None,
            copies_wanted=self.copies_wanted if self._kv.outbox is not None else 0,
            osds=sorted(self.members) if self._attached else [],
            sequence=self.acknowledged,
            checkpoint_sequence=self.checkpoint.number if self.checkpoint else 0,
            waiting=behind,
            bytes_since_checkpoint=self._bytes,
            reason=reason,
        )

    def _say(self, reason: str) -> None:
        if reason and reason != self._reason:
            _log.warning("the metadata journal: %s", reason)
        self._reason = reason
