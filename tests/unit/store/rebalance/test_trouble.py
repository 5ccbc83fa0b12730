"""Disks that die while groups move, crashes at every step, and what a move leaves behind."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from objectio.errors import NotFound
from objectio.meta.records import decode_blob_row
from objectio.model.stripe import BlobId, ShardKey, new_blob_id
from objectio.placement.groups import group_of
from objectio.testing.damage import flip_payload_bytes

GROUPS = 16

# Trouble.


async def test_any_two_disks_may_be_lost_at_any_moment(cluster, plain):
    kit = await cluster(plain(*range(7)), groups=64)
    await kit.fill(60)
    source = random.Random(3)
    await kit.reconfigure(*plain(*range(9)), wait=False)
    rebalancer = kit.maintenance.rebalancer
    for turn in range(12):
        await kit.until(lambda: kit.pools.current.moving)
        await asyncio.sleep(source.random() * 0.02)
        await kit.census()
        pair = source.sample(sorted(kit.devices.stores), 2)
        await kit.lose(*pair)
        await kit.check_objects()
        await kit.find(*pair[:1])
        await kit.write(b"turn%d" % turn, source.randbytes(9000))
        await kit.find(*pair)
        await kit.until(lambda: not kit.maintenance.repairer.backlog)
        if rebalancer.membership(2) == "in":
            await rebalancer.drain(2)
        else:
            await rebalancer.undrain(2)
    await kit.settled()
    await kit.check_settled()


async def test_the_new_disk_is_away_for_a_while(cluster, plain):
    kit = await cluster(plain(*range(6)))
    await kit.fill()
    await kit.reconfigure(*plain(*range(7)), wait=False)
    await kit.until(lambda: kit.pools.current.moving)
    await kit.lose(6)
    await kit.write(b"meanwhile", b"x" * 9000)
    await asyncio.sleep(0.1)
    assert kit.pools.current.moving, "it waits"
    await kit.check_objects()
    await kit.find(6)
    await kit.settled()
    await kit.check_settled()


async def test_the_new_disk_dies_for_good(cluster, plain):
    """What was written to it alone is made anew; what moved there did not leave."""
    kit = await cluster(plain(*range(6)), groups=64, rebalance_bytes_per_second=50_000.0)
    await kit.fill(60)
    await kit.reconfigure(*plain(*range(8)), wait=False)
    await kit.until(lambda: kit.pools.current.moving)
    for number in range(20):
        await kit.write(b"new%d" % number, random.Random(number).randbytes(9000))
    assert kit.pools.current.moving
    await kit.lose(6)
    await kit.maintenance.rebalancer.remove(6)
    await kit.settled()
    assert kit.positions()[6] == 0
    assert kit.positions()[7] > 0
    await kit.check_settled()


@pytest.mark.slow
async def test_the_new_disk_dies_and_there_is_no_other(cluster, plain):
    """The groups go back to where they came from."""
    kit = await cluster(plain(*range(6)), groups=64, rebalance_bytes_per_second=50_000.0)
    await kit.fill(60)
    await kit.reconfigure(*plain(*range(7)), wait=False)
    await kit.until(lambda: kit.pools.current.moving)
    for number in range(20):
        await kit.write(b"new%d" % number, random.Random(number).randbytes(9000))
    assert kit.pools.current.moving
    await kit.lose(6)
    await kit.maintenance.rebalancer.remove(6)
    await kit.settled()
    assert kit.positions().keys() == set(range(6))
    await kit.check_settled()


async def test_an_old_disk_dies_while_groups_leave_it(cluster, plain):
    kit = await cluster(plain(*range(8)), groups=64)
    await kit.fill(60)
    rebalancer = kit.maintenance.rebalancer
    await rebalancer.drain(2)
    await kit.until(lambda: kit.pools.current.moving)
    await kit.lose(2)
    await kit.until(kit.out(2))
    await kit.settled()
    await kit.check_settled()


async def test_another_disk_dies_while_groups_move(cluster, plain):
    kit = await cluster(plain(*range(9)), groups=64)
    await kit.fill(60)
    rebalancer = kit.maintenance.rebalancer
    await rebalancer.drain(2)
    await kit.until(lambda: kit.pools.current.moving)
    await kit.lose(5)
    await rebalancer.remove(5)
    await kit.settled()
    assert kit.positions().keys() == {0, 1, 3, 4, 6, 7, 8}
    await kit.check_settled()


@pytest.mark.slow
async def test_a_new_disk_without_room_gives_back_what_it_took(cluster, plain):
    kit = await cluster(plain(*range(6)), groups=32, rebalance_bytes_per_second=50_000.0)
    await kit.fill(60)
    await kit.reconfigure(*plain(*range(7)), wait=False)
    await kit.until(lambda: kit.pools.current.moving)
    for number in range(40):
        await kit.write(b"new%d" % number, random.Random(number).randbytes(9000))
    assert kit.pools.current.moving
    kit.devices.stores[6].full = True
    await kit.until(lambda: not kit.pools.current.moving)
    await kit.check_objects()
    await kit.census()
    kit.devices.stores[6].full = False
    kit.maintenance.rebalancer._copier.full.clear()
    kit.maintenance.rebalancer._work.set()
    await kit.settled()
    await kit.check_settled()


async def test_a_damaged_shard_is_made_anew_and_not_copied(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill(20)
    source = random.Random(1)
    damaged = flip_payload_bytes(
        Path(kit.by_osd[3].path), source, lambda record: source.random() < 0.3
    )
    assert damaged > 3
    await kit.maintenance.rebalancer.drain(3)
    await kit.until(kit.out(3))
    await kit.settled()
    await kit.check_settled()


# Crashes.


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
async def test_killed_again_and_again(cluster, plain, seed):
    await killed(cluster, plain, seed, 10)


async def test_killed_a_few_times(cluster, plain):
    await killed(cluster, plain, 99, 4)


async def killed(cluster, plain, seed, turns):
    """At any step: all that was acknowledged is there, whole, and in the end nothing is left over."""
    source = random.Random(seed)
    kit = await cluster(plain(*range(6)), groups=16)
    await kit.fill(25, seed)
    osds = list(range(6))
    for turn in range(turns):
        if turn % 3 == 0:
            osds.append(max(osds) + 1)
        await kit.reconfigure(*plain(*osds), wait=False)
        rebalancer = kit.maintenance.rebalancer
        inside = [osd for osd in osds if rebalancer.membership(osd) == "in"]
        if turn % 3 == 1 and len(inside) > 6:
            await rebalancer.drain(source.choice(inside))
        kit.life.steps_left = kit.life.steps + source.randrange(200)
        attempts = {}

        async def write(number, kit=kit, attempts=attempts, turn=turn):
            key, data = b"%d" % number, bytes([turn]) * 9000
            attempts[key] = data
            await kit.put(key, data)
            kit.model[key] = data
            del attempts[key]

        tasks = [asyncio.create_task(write(number)) for number in range(6)]
        deadline = time.monotonic() + 20
        while not kit.life.dead and (rebalancer.backlog or kit.maintenance.collector.backlog):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kit.restart(wait=False)
        for key, data in attempts.items():  # nobody was told: either is right
            try:
                found = await kit.get(key)
            except NotFound:
                continue
            assert found in (data, kit.model.get(key))
            kit.model[key] = found
        await kit.census()
        await kit.check_objects()
    await kit.settled()
    await kit.check_settled()


# Sweeps.


@pytest.mark.parametrize("age_ms", [0, 7_200_000, -7_200_000])
async def test_what_nobody_owns_or_writes_is_swept_however_old_it_says_it_is(
    cluster, plain, write_shard, age_ms
):
    kit = await cluster(plain(*range(6)))
    collector = kit.maintenance.collector
    blob = (int(time.time() * 1000) - age_ms).to_bytes(6, "big") + new_blob_id()[6:]
    osd = kit.pools.current.members(blob)[0]
    await write_shard(kit.devices.stores[osd], ShardKey(BlobId(blob), 0, 0))
    kit.in_use.active.add(blob)
    assert not await collector.sweep(osd), "it is being written"
    kit.in_use.active.clear()
    assert await collector.sweep(osd)
    assert await kit.devices.stores[osd].stat([ShardKey(BlobId(blob), 0, 0)]) == [None]


async def test_misplaced_shards_go_only_when_the_right_disk_has_them(cluster, plain, write_shard):
    kit = await cluster(plain(*range(7)))
    await kit.write(b"key", b"x" * 100)
    (raw,) = [raw for row, raw in kit.driver.scan(b"r", b"s", limit=10)]
    blob = decode_blob_row(raw).ref.blob
    members = kit.pools.current.members(blob)
    (wrong,) = set(range(7)) - set(members)
    key = ShardKey(BlobId(blob), 0, 2)
    store, home = kit.devices.stores[wrong], kit.devices.stores[members[2]]
    await write_shard(store, key)
    infos = await store.scan(None, 10)
    assert await kit.maintenance.collector.misplaced(wrong, infos) == [key]
    payload = bytes(await home.read(key))
    home.submit_delete([key], lambda error: None)
    await write_shard(home, ShardKey(BlobId(new_blob_id()), 0, 0))  # comes after the deletion
    await kit.maintenance.collector.sweep(wrong)
    assert await store.stat([key]) != [None], "it may be the only one"
    await write_shard(home, key, payload)
    await kit.maintenance.collector.sweep(wrong)
    assert await store.stat([key]) == [None]
    assert group_of(blob, GROUPS) not in kit.pools.current.moving
