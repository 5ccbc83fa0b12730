"""Moves, and devices that come back with less than they had, or do not say what they have."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from objectio.errors import DeviceFailed
from objectio.meta import keys
from objectio.model.cluster import Osd, OsdId
from objectio.testing.objects import BytesPayload

GROUPS = 16


class SlowPayload(BytesPayload):
    def __init__(self, data, rest):
        super().__init__(data)
        self._rest = rest
        self.begun = asyncio.Event()

    async def read(self):
        if not self.begun.is_set():
            self.begun.set()
            await self._rest.wait()
        return await super().read()


async def moves_that_linger(kit, osds):
    """All groups that move to `osds` have been walked; writes that began before hold them."""
    rest = asyncio.Event()
    payloads = {b"slow%d" % i: SlowPayload(bytes([i]) * 9000, rest) for i in range(2 * GROUPS)}
    writes = [
        asyncio.create_task(kit.put(key, payload=payload)) for key, payload in payloads.items()
    ]
    await asyncio.gather(*(payload.begun.wait() for payload in payloads.values()))
    rebalancer = kit.maintenance.rebalancer
    await rebalancer.reload_map(osds)
    await walked(kit)

    async def end():
        rest.set()
        await asyncio.gather(*writes)
        kit.model.update({key: bytes([i]) * 9000 for i, key in enumerate(payloads)})

    return end


async def walked(kit):
    rebalancer = kit.maintenance.rebalancer
    await kit.until(lambda: rebalancer.status().groups_moving)
    await kit.until(
        lambda: (
            rebalancer._moving
            and not rebalancer.waiting()
            and not any(each.pending for each in rebalancer._moving.values())
        )
    )
    assert kit.pools.current.moving


def seven(weight):
    return [*(Osd(id=OsdId(osd)) for osd in range(6)), Osd(id=OsdId(6), weight=weight)]


async def test_the_new_disk_comes_back_as_an_old_copy_while_groups_move_to_it(cluster, plain):
    kit = await cluster(seven(0.0))
    await kit.fill()
    await kit.stop()
    disk = Path(kit.by_osd[6].path)
    shutil.copytree(disk, disk.with_suffix(".image"))
    kit.configure(seven(0.0))
    await kit.start()
    end = await moves_that_linger(kit, seven(1.0))
    held = len((await kit.held())[6])
    assert held
    await kit.lose(6)
    shutil.rmtree(disk)
    disk.with_suffix(".image").rename(disk)
    await kit.find(6)
    await asyncio.sleep(0.3)
    await end()
    await kit.settled()
    await asyncio.sleep(0.2)
    await kit.settled()
    await kit.check_settled()


async def test_the_new_disk_is_replaced_and_the_first_try_to_open_the_blank_one_fails(
    cluster, plain, monkeypatch
):
    kit = await cluster(plain(*range(6)))
    await kit.fill()
    await kit.reconfigure(*seven(0.0))
    end = await moves_that_linger(kit, seven(1.0))
    await kit.lose(6)
    shutil.rmtree(kit.by_osd[6].path)
    factory = kit.devices._factory
    good = factory.open

    async def bad(path, **how):
        raise DeviceFailed("it was not ready yet")

    factory.open = bad
    await kit.devices.look()
    assert 6 not in kit.devices.stores
    factory.open = good
    await kit.find(6)
    await asyncio.sleep(0.3)
    await end()
    await kit.settled()
    await asyncio.sleep(0.2)
    await kit.settled()
    await kit.check_settled()


class BadSector:
    """One shard cannot be read: EIO, each time; everything else is well."""

    def __init__(self, store, key):
        self.key, self.reads = key, 0
        self.plan, self.now, self.slow = store.plan_read, store.read_now, store.read
        store.plan_read, store.read_now, store.read = self.plan_read, self.read_now, self.read

    def fail(self):
        self.reads += 1
        raise DeviceFailed("cannot read: Input/output error", errno=5)

    def plan_read(self, key, offset=0, length=None):
        return self.fail if key == self.key else self.plan(key, offset, length)

    def read_now(self, key, offset=0, length=None):
        return None if key == self.key else self.now(key, offset, length)

    async def read(self, key, offset=0, length=None):
        return self.fail() if key == self.key else await self.slow(key, offset, length)


async def test_a_disk_with_a_bad_sector_is_drained(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill(20)
    bad = BadSector(kit.devices.stores[3], min((await kit.held())[3]))
    await kit.maintenance.rebalancer.drain(3)
    await kit.until(kit.out(3), 8)
    await kit.settled()
    await kit.check_settled()
    assert bad.reads


async def test_an_index_that_does_not_answer_is_not_one_that_has_nothing(cluster, plain):
    """With two disks away the one that is drained is needed; its index does not answer for once."""
    kit = await cluster(plain(*range(8)))
    await kit.fill(20)
    rebalancer = kit.maintenance.rebalancer
    store = kit.devices.stores[3]
    stat, read, plan, calls = store.stat, store.read, store.plan_read, []

    async def fail(*args, **kwargs):
        calls.append(1)
        raise DeviceFailed("OSD 3: no answer in 30 seconds")

    def fail_now(*args, **kwargs):
        raise DeviceFailed("OSD 3: no answer in 30 seconds")

    groups = [members for members in kit.pools.current.groups if 3 in members]
    away = [osd for osd in groups[0] if osd != 3][:2]
    await kit.lose(*away)
    store.stat = store.read = fail
    store.plan_read = fail_now
    await rebalancer.drain(3)
    await kit.until(lambda: rebalancer._moving and calls)
    await asyncio.sleep(0.5)
    store.stat, store.read, store.plan_read = stat, read, plan
    dict(kit.pools.current.moving)
    await asyncio.sleep(0.5)
    # Two disks are away, as many as there may be: everything can be read.
    await kit.check_objects()
    await kit.find(*away)
    await kit.until(kit.out(3))
    await kit.settled()
    await kit.check_settled()


async def test_what_was_deleted_while_a_disk_was_away_that_is_removed_then(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill(20)
    await kit.lose(4)
    for key in list(kit.model)[:10]:
        await kit.store.delete_object("bucket", key)
        del kit.model[key]
    await asyncio.sleep(0.1)
    await kit.maintenance.rebalancer.remove(4)
    await kit.until(lambda: not kit.maintenance.rebalancer.backlog)
    assert kit.positions()[4] == 0
    await kit.until(lambda: not kit.maintenance.collector.backlog, 8)


async def test_a_disk_that_was_to_be_refilled_is_removed(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill(20)
    await kit.lose(4)
    shutil.rmtree(kit.by_osd[4].path)
    refill = kit.maintenance.repairer._refill
    walk, began = refill._walk, asyncio.Event()

    async def held(active):
        began.set()
        await refill._changed.wait()

    refill._walk = held
    await kit.find(4)
    await began.wait()
    await kit.lose(4)
    refill._walk = walk
    await kit.maintenance.rebalancer.remove(4)
    await kit.until(lambda: not kit.maintenance.rebalancer.backlog)
    assert kit.positions()[4] == 0
    await kit.until(lambda: not kit.maintenance.repairer.backlog, 8)


async def test_the_new_disk_is_replaced_while_the_commit_that_ends_its_moves_is_under_way(
    cluster, plain
):
    kit = await cluster(plain(*range(6)))
    await kit.fill()
    await kit.reconfigure(*seven(0.0))
    move, ending, go_on = kit.pools.move, asyncio.Event(), asyncio.Event()

    async def held(moves):
        if kit.pools.current.moving:
            ending.set()
            await go_on.wait()
        await move(moves)

    kit.pools.move = held
    await kit.maintenance.rebalancer.reload_map(seven(1.0))
    await ending.wait()
    await kit.lose(6)
    shutil.rmtree(kit.by_osd[6].path)
    await kit.find(6)
    await kit.until(lambda: not kit.kv.scan_prefix(keys.REFILLS))
    go_on.set()
    await kit.settled()
    await asyncio.sleep(0.2)
    await kit.settled()
    await kit.check_settled()
