"""Rebalancing: groups move to where the cluster map wants them.

What ought to move follows from the written members and the map (`placement.balance`). A group moves
in three strokes:

1. One commit writes its new members and a row that has the former ones. Then a survey: when it
   returns every process that serves objects has taken both over. From then on new blobs go to the
   new members; reads look at both.
2. A walk through all blobs brings the shards of the old ones over. It serves many groups at once.
   Blobs whose write had begun before their process took the commit over may still end at the former
   members; the survey has them, they are waited for, and looked at when they have ended.
3. One commit takes the row away. Only then what is left at the former members is garbage, and a sweep
   over their devices takes it, shard by shard, each after asking the new member for it, and after a
   survey of its own, so that nobody looks for it there any more.

So each blob has its whole stripe on distinct devices at every instant: the old members have all of
what was written before, until the new ones have it. Everything stands in rows; whoever starts next
begins the walk anew, and finds what is copied already.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from objectio.abc.admin import RebalanceStatus
from objectio.abc.shardstore import StoreState
from objectio.errors import InvalidRequest, NotFound
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, Membership, decode_blob_row
from objectio.model.cluster import Osd
from objectio.placement.balance import Members
from objectio.placement.groups import group_of
from objectio.placement.spread import Spread
from objectio.store.clustermap import load_map, memberships, set_membership
from objectio.store.devices import DeviceSet
from objectio.store.garbage import Collector
from objectio.store.pools import GroupMove, Pool, Pools
from objectio.store.presence import Presence
from objectio.store.rebalance_copy import Copier, Place
from objectio.store.rebalance_step import Osds, Step, begin, redirect
from objectio.store.verify import StripeChecks

_log: Final = logging.getLogger("objectio.store")

_GROUPS_AT_ONCE: Final = 32
"""Groups that one walk serves, or a sixteenth of all if that is more."""
_PAGE: Final = 500
_LINGER_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 3600.0

Group = tuple[int, int]


@dataclass(slots=True)
class _Moving:
    """A group on its way.

    pending     positions at which blobs are still to be looked at
    lingering   blobs whose write had begun before the group was to move, or to move elsewhere
    again       positions whose new OSD lost what it had since the walk began
    """

    pending: set[int]
    lingering: set[bytes]
    again: set[int] = field(default_factory=set)


class Rebalancer:
    """Runs in the background; a `store.devices.Listener`. `presence` knows which blobs are being
    written; `urgent` says that repairs cannot wait."""

    def __init__(
        self,
        kv: KVStore,
        devices: DeviceSet,
        pools: Pools,
        checks: StripeChecks,
        collector: Collector,
        *,
        presence: Presence,
        damaged: Callable[[BlobRef, int], None],
        urgent: Callable[[], bool],
        bytes_per_second: float,
    ) -> None:
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._collector = collector
        self._presence = presence
        self._copier = Copier(
            kv,
            devices,
            pools,
            checks,
            damaged=damaged,
            urgent=urgent,
            bytes_per_second=bytes_per_second,
        )
        self._membership: dict[int, Membership] = {}
        self._moving: dict[Group, _Moving] = {}
        self._target: dict[int, list[Members]] = {}
        self._planned_for: tuple[object, ...] = ()
        self._leaving: Counter[int] = Counter()
        """Positions that are still to move, by the OSD that they leave."""
        self._counted: Sequence[object] = ()
        self._held: Counter[int] = Counter()
        """Positions by OSD, in what was counted last: there may be many groups."""
        self._copied_before = 0
        self._spread: list[str] = []
        self._unsure = True
        """The rows may say something else than is believed here."""
        self._hurry = False
        self._looking = True
        self._work = asyncio.Event()
        self._ordering = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """What a process before this one began is taken up in the background: that takes a survey,
        which other processes may only answer once this one has started."""
        self._membership = await memberships(self._kv)
        self._spread = list(self._explain_spread())
        self._work.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def up(self, osd: int, *, blank: bool) -> None:
        # Whatever it says of itself: blank, an old copy, or opened for a second time, it may lack what
        # it had, and a walk that finds all of it only asks its index.
        for (pool_id, group), moving in self._moving.items():
            members = self._pools.get(pool_id).groups[group]
            for position in self._pools.changed.get((pool_id, group), ()):
                if members[position] == osd:
                    moving.pending.add(position)
                    moving.again.add(position)
        self._work.set()

    def down(self, osd: int, reason: str) -> None:
        self._work.set()

    # What operators order.

    def membership(self, osd: int) -> Membership:
        return self._membership.get(osd, "in")

    async def drain(self, osd: int) -> None:
        """Move everything off the OSD."""
        self._check_known(osd)
        if self.membership(osd) == "in":
            self._check_enough_without(osd, "drained")
            await self._order(osd, "draining")

    async def undrain(self, osd: int) -> None:
        self._check_known(osd)
        if self.membership(osd) != "in":
            await self._order(osd, "in")

    async def remove(self, osd: int) -> None:
        """The device will not come back: make what it had anew elsewhere."""
        self._check_known(osd)
        if osd in self._devices.stores:
            raise InvalidRequest(
                f"OSD {osd} is in service: drain it instead, so that nothing has to be made anew"
            )
        if self.membership(osd) == "in":
            self._check_enough_without(osd, "removed")
        self._hurry = True
        await self._order(osd, "out")

    def _check_known(self, osd: int) -> None:
        if not any(each.id == osd for each in self._pools.cluster.osds):
            raise NotFound(f"there is no OSD {osd}", kind="osd", osd=osd)

    def _check_enough_without(self, osd: int, done: str) -> None:
        left = sum(
            1
            for each in self._pools.cluster.osds
            if each.in_ and each.weight > 0 and each.id != osd
        )
        width = max(pool.code.width for pool in self._pools.all())
        if left < width:
            raise InvalidRequest(
                f"OSD {osd} cannot be {done}: a stripe has {width} shards, each on a disk of its "
                f"own, and {left} disks would be left to take them. Add a disk first"
            )

    async def _order(self, osd: int, membership: Membership) -> None:
        async with self._ordering:
            self._pools.cluster = await set_membership(
                self._kv, self._pools.cluster, osd, membership
            )
            self._membership[osd] = membership
        _log.info("OSD %d is %s: epoch %d", osd, membership, self._pools.cluster.epoch)
        self._work.set()

    async def reload_map(self, topology: Sequence[Osd]) -> None:
        """OSDs were added, or stand elsewhere: have groups where the new map wants them."""
        async with self._ordering:
            before = self._pools.cluster.epoch
            self._pools.cluster = await load_map(self._kv, topology)
            self._membership = await memberships(self._kv)
        if self._pools.cluster.epoch != before:
            self._work.set()

    async def _finish_drains(self) -> None:
        """What has no position any more, and is to have none, is out."""
        held = self._positions()
        for osd, membership in list(self._membership.items()):
            if membership == "draining" and not held[osd]:
                async with self._ordering:
                    if self._membership[osd] != "draining":
                        continue
                    self._pools.cluster = await set_membership(
                        self._kv, self._pools.cluster, osd, "out"
                    )
                    self._membership[osd] = "out"
                _log.info("OSD %d is drained: it has no data of any object any more", osd)

    def _positions(self) -> Counter[int]:
        """Positions by OSD, those that it is to get and those that it is to give included."""
        pools = self._pools.all()
        counted = [each for pool in pools for each in (pool.groups, pool.moving)]
        if len(counted) != len(self._counted) or any(
            now is not then for now, then in zip(counted, self._counted, strict=True)
        ):
            self._counted = counted
            self._held = Counter()
            for pool in pools:
                for members in (*pool.groups, *pool.moving.values()):
                    self._held.update(members)
        return self._held

    # The loop.

    async def _run(self) -> None:
        while True:
            self._looking = True
            self._work.clear()
            pause = 0.0
            try:
                if not await self._pass():
                    pause = self._pause_seconds()
                    self._looking = False
            except Exception:
                _log.exception("rebalancing")
                self._unsure, pause = True, 1.0
            try:
                async with asyncio.timeout(pause):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _pause_seconds(self) -> float:
        if any(moving.lingering and not moving.pending for moving in self._moving.values()):
            return _LINGER_SECONDS
        waits = min(self._copier.full.waiting.values(), default=None)
        if self._moving:
            return _RETRY_SECONDS if waits is None else min(waits, _RETRY_SECONDS)
        return _IDLE_SECONDS if waits is None else waits

    async def _pass(self) -> bool:
        """One batch of groups, or as much of it as can be done now. Returns whether there may be
        more to do at once."""
        if self._unsure:
            await self._pools.refresh()
            self._moving.clear()
            await self._take_up()
            self._unsure = False
        await self._finish_drains()
        await self._plan()
        self._hurry = False
        moves = list(self._next_moves())
        if moves:
            await self._begin(moves)
        await self._count()
        await self._walk()
        await self._follow_lingering()
        ended = await self._end()
        await self._count()
        return bool(moves or ended or self._hurry)

    async def _take_up(self) -> None:
        """Moves that the rows know and this process does not. As after a commit of our own, nobody
        knows before a survey who has taken them over; the walk begins after it."""
        if not self._pools.changed:
            return
        active = (await self._presence.survey()).active
        for place, changed in self._pools.changed.items():
            if place not in self._moving:
                self._moving[place] = _Moving(set(changed), self._writing(place, active))

    def _writing(self, place: Group, active: Set[bytes]) -> set[bytes]:
        """Those of the group."""
        pool_id, group = place
        count = len(self._pools.get(pool_id).groups)
        return {blob for blob in active if group_of(blob, count) == group}

    # What is to move.

    def _osds(self) -> Osds:
        stores = self._devices.stores
        full = {
            osd
            for osd, store in stores.items()
            if store.state is not StoreState.UP or self._copier.full.waits(osd)
        }
        gone = {
            osd for osd, each in self._membership.items() if each == "out" and osd not in stores
        }
        return Osds(frozenset(stores), frozenset(gone), frozenset(full))

    async def _plan(self) -> None:
        """Find out where each group ought to be, if anything has changed that this depends on."""
        osds = self._osds()
        self._copier.gone = frozenset(osds.gone)
        cluster = self._pools.cluster
        receivers = frozenset(osds.up) - frozenset(osds.full)
        planned_for = (cluster.epoch, receivers, osds.gone)
        if planned_for == self._planned_for:
            return
        target: dict[int, list[Members]] = {}
        for pool in self._pools.all():
            target[pool.id] = await asyncio.to_thread(self._pools.plan, pool.id, cluster, receivers)
        self._target, self._planned_for = target, planned_for

    def _next_moves(self) -> Iterator[tuple[GroupMove, Step]]:
        osds = self._osds()
        total = 0
        waiting: list[tuple[int, GroupMove, Step]] = []
        for pool in self._pools.all():
            total += len(pool.groups)
            for group, (members, target) in enumerate(
                zip(pool.groups, self._target[pool.id], strict=True)
            ):
                former = pool.moving.get(group)
                if former is not None:
                    changed = self._pools.changed.get((pool.id, group), ())
                    if step := redirect(members, former, changed, target, osds):
                        yield _move(pool, group, step), step
                elif members != target and (step := begin(members, target, osds)):
                    waiting.append((_patience(step, osds), _move(pool, group, step), step))
        most = max(_GROUPS_AT_ONCE, total // 16)
        room = max(most - len(self._moving), most // 4)
        waiting.sort(key=lambda each: each[0])
        for _, move, step in waiting[:room]:
            yield move, step

    async def _begin(self, moves: Sequence[tuple[GroupMove, Step]]) -> None:
        """Write the moves down, and have every process take them over. A blob that went to the old
        members has been active since before its process did so: it is in the survey, or it has
        ended by then, and its row is there for the walk, which begins after this."""
        try:
            await self._pools.move([move for move, _ in moves])
            active = (await self._presence.survey()).active
        except BaseException:
            self._unsure = True  # it may have gone through
            raise
        for move, step in moves:
            place = (move.pool, move.group)
            moving = self._moving.setdefault(place, _Moving(set(), set()))
            moving.pending.update(step.restarted)
            moving.lingering.update(self._writing(place, active))
        self._copied_before = self._copier.copied_bytes

    # Moving.

    async def _walk(self) -> None:
        """Through all blobs, for every position that is pending and whose new OSD is up."""
        todo = await self._walkable()
        if not todo:
            return
        failed: set[Place] = set()
        start, stop = keys.BLOBS, prefix_end(keys.BLOBS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            refs = (decode_blob_row(raw).ref for _, raw in rows)
            failed |= await self._copy(refs, todo)
            start = rows[-1][0] + b"\0"
            if self._hurry:
                return  # a disk is gone for good: its groups go first, then this begins anew
            await asyncio.sleep(0)
        for place, positions in todo.items():
            moving = self._moving[place]
            left = {each.position for each in failed if (each.pool, each.group) == place}
            moving.pending -= positions - left - moving.again
        if failed:
            _log.warning("%d positions of groups could not be moved yet", len(failed))

    async def _walkable(self) -> dict[Group, set[int]]:
        """The positions that a walk can do something for. Their new OSDs are synced first: until
        then they may still say that they have what is being deleted there."""
        targets = {
            self._pools.get(place[0]).groups[place[1]][position]
            for place, moving in self._moving.items()
            for position in moving.pending
        }
        synced = {osd for osd in targets if await self._copier.sync(osd)}
        todo: dict[Group, set[int]] = {}
        for place, moving in self._moving.items():
            members = self._pools.get(place[0]).groups[place[1]]
            able = {position for position in moving.pending if members[position] in synced}
            if able:
                todo[place] = able
                moving.again.clear()
        return todo

    async def _copy(self, refs: Iterator[BlobRef], todo: dict[Group, set[int]]) -> set[Place]:
        wanted: list[tuple[BlobRef, Sequence[int]]] = []
        for ref in refs:
            count = len(self._pools.get(ref.pool).groups)
            positions = todo.get((ref.pool, group_of(ref.blob, count)))
            if positions:
                wanted.append((ref, sorted(positions)))
        return await self._copier.copy(wanted)

    async def _follow_lingering(self) -> None:
        """Blobs whose write has ended since: those that are somebody's are looked at. What a survey
        does not have as active has its row when it returns, or will have none."""
        if not any(moving.lingering for moving in self._moving.values()):
            return
        active = (await self._presence.survey()).active
        for place, moving in self._moving.items():
            ended = {blob for blob in moving.lingering if blob not in active}
            if not ended:
                continue
            rows = await self._kv.aget_many([keys.blob(blob) for blob in ended])
            refs = [decode_blob_row(raw).ref for raw in rows if raw is not None]
            todo = {place: set(self._pools.changed[place])}
            failed = await self._copy(iter(refs), todo)
            moving.pending.update(each.position for each in failed)
            moving.lingering -= ended

    async def _end(self) -> bool:
        """End the moves that are done. A process that takes that over late reads, and finds, what it
        looks for at the former members until the sweep's survey has told it."""
        done: list[tuple[GroupMove, Members]] = []
        for (pool_id, group), moving in self._moving.items():
            pool = self._pools.get(pool_id)
            members, former = pool.groups[group], pool.moving[group]
            changed = self._pools.changed.get((pool.id, group), ())
            up = all(members[position] in self._devices.stores for position in changed)
            if up and not moving.pending and not moving.lingering:
                done.append((GroupMove(pool_id, group, members), former))
        if not done:
            return False
        try:
            await self._pools.move([move for move, _ in done])
        except BaseException:
            self._unsure = True  # it may have gone through
            raise
        for move, former in done:
            del self._moving[move.pool, move.group]
            left = [
                -1 if then == now else then for now, then in zip(move.members, former, strict=True)
            ]
            self._collector.vacate(move.pool, move.group, left)
        return True

    # How it is.

    @property
    def outside(self) -> frozenset[int]:
        """OSDs that are out and have nothing: it does not matter whether they are down."""
        held = self._positions()
        return frozenset(
            osd for osd, each in self._membership.items() if each == "out" and not held[osd]
        )

    @property
    def absent(self) -> list[int]:
        """OSDs that have groups and are not in the configuration."""
        slots = {slot.osd for slot in self._devices.slots}
        return sorted(osd for osd in self._positions() if osd >= 0 and osd not in slots)

    async def _count(self) -> None:
        """What is left to do, for people."""
        self._spread = await asyncio.to_thread(lambda: list(self._explain_spread()))
        leaving: Counter[int] = Counter()
        for pool in self._pools.all():
            for group, members in enumerate(pool.groups):
                former = pool.moving.get(group)
                target = self._target[pool.id][group]
                if former is not None:
                    changed = self._pools.changed.get((pool.id, group), ())
                    leaving.update(former[position] for position in changed)
                elif members != target:
                    leaving.update(
                        now for now, then in zip(members, target, strict=True) if now != then
                    )
        self._leaving = leaving

    def _explain_spread(self) -> Iterator[str]:
        for pool in self._pools.all():
            spread = Spread(self._pools.cluster, self._pools.rule(pool.id))
            if spread.degraded:
                yield f"pool {pool.id} ({pool.code.profile}): {spread.explain()}"
            crowded = sum(spread.crowded(members) for members in pool.groups)
            if crowded:
                yield (
                    f"pool {pool.id} ({pool.code.profile}): {crowded} of {len(pool.groups)} groups "
                    "are not spread yet as they can be"
                )

    def _bytes_left(self) -> int:
        """An estimate: positions of one OSD hold about the same."""
        held = self._positions()
        sizes = {
            osd: store.usage().live_bytes / held[osd]
            for osd, store in self._devices.stores.items()
            if held[osd]
        }
        mean = sum(sizes.values()) / len(sizes) if sizes else 0.0
        left = sum(count * sizes.get(osd, mean) for osd, count in self._leaving.items())
        under_way = self._copier.copied_bytes - self._copied_before if self._moving else 0
        return max(0, int(left) - under_way)

    def waiting(self) -> int:
        """Groups that are to move and do not yet."""
        return sum(
            members != target
            for pool in self._pools.all()
            for group, (members, target) in enumerate(
                zip(pool.groups, self._target.get(pool.id, pool.groups), strict=True)
            )
            if group not in pool.moving
        )

    @property
    def backlog(self) -> int:
        """Groups that move or are to; at least 1 while it is found out."""
        looking = self._looking or self._work.is_set()
        return max(len(self._moving) + self.waiting(), int(looking))

    @property
    def degraded_spread(self) -> Sequence[str]:
        return self._spread

    def status(self) -> RebalanceStatus:
        left = self._bytes_left()
        return RebalanceStatus(
            epoch=self._pools.cluster.epoch,
            groups=sum(len(pool.groups) for pool in self._pools.all()),
            groups_moving=len(self._moving),
            groups_waiting=self.waiting(),
            moved_shards=self._copier.copied_shards,
            moved_bytes=self._copier.copied_bytes,
            bytes_left=left,
            bytes_per_second=self._copier.rate.bytes_per_second(),
            seconds_left=self._copier.rate.seconds_left(left),
            degraded_spread=self._spread,
        )


def _move(pool: Pool, group: int, step: Step) -> GroupMove:
    return GroupMove(pool.id, group, step.members, step.former, step.changed)


def _patience(step: Step, osds: Osds) -> int:
    """Groups that lost a disk for good go first."""
    return -sum(step.former[position] in osds.gone for position in step.changed)
