"""Reads over what is lost, repair of it, and getting rid of what nobody needs."""

from __future__ import annotations

import asyncio
import itertools
import random
import time

import pytest

from objectio.errors import InsufficientShards
from objectio.meta import keys
from objectio.meta.records import decode_blob_row
from objectio.store.garbage import garbage_row


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def damage(kit, osd, *, remove=False):
    device = kit.factory._find(kit.slots[osd].path)
    for key in list(device.shards):
        if remove:
            del device.shards[key]
        else:
            device.damaged.add(key)


def whole(kit):
    """Whether every device has all its shards, undamaged, and they are those of the others."""
    return (
        not any(kit.factory._find(slot.path).damaged for slot in kit.slots)
        and len({len(shards) for shards in kit.shards().values()}) == 1
    )


@pytest.mark.parametrize("how", ["damaged", "missing", "down"])
@pytest.mark.parametrize("lost", list(itertools.combinations(range(6), 2))[::4])
async def test_any_two_of_six_may_be_lost(kit, read_all, how, lost):
    data = noise(50_000)
    await kit.put(b"key", data)
    for osd in lost:
        if how == "down":
            await kit.take_out(osd)
        else:
            damage(kit, osd, remove=how == "missing")
    reader = await kit.store.get_object("bucket", b"key")
    assert await read_all(reader) == data
    for start, length in ((0, 1), (8191, 2), (49_999, 1), (7000, 20_000), (20_000, 0)):
        assert await read_all(reader, start, length) == data[start : start + length]
        now = reader.read_now(start, length)
        assert now is None or bytes(now) == data[start : start + length]
    reader.close()
    if how != "down":
        for row, raw in kit.rows().items():
            if row.startswith(keys.BLOBS):  # also what the reads did not touch
                kit.maintenance.repairer.damaged(decode_blob_row(raw).ref, 0b111111)
        deadline = time.monotonic() + 10
        while not whole(kit):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        assert await kit.get(b"key") == data


async def test_three_of_six_are_too_many_until_one_is_back(kit):
    data = noise(30_000)
    await kit.put(b"key", data)
    for osd in range(3):
        await kit.take_out(osd)
    with pytest.raises(InsufficientShards):
        await kit.get(b"key")
    await kit.put_back(1)
    assert await kit.get(b"key") == data


async def test_a_read_that_finds_damage_has_it_repaired(kit):
    data = noise(30_000)
    await kit.put(b"key", data)
    damage(kit, 0)
    for _ in range(3):
        assert await kit.get(b"key") == data
        await asyncio.sleep(0.01)
    members = {key.position for key in kit.shards()[0]}
    if members & set(range(4)):  # a data shard: the read met it
        deadline = time.monotonic() + 10
        while not whole(kit):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


async def test_a_replaced_disk_is_filled_again(kit):
    objects = {b"%d" % i: noise(100 + 4000 * (i % 3), i) for i in range(30)}
    for key, data in objects.items():
        await kit.put(key, data)
    before = kit.shards()[2]
    old = kit.devices.stores[2].device_id
    await kit.replace(2)
    assert kit.devices.stores[2].device_id != old
    assert old not in kit.factory._devices, "what was kept of the old disk is still there"
    deadline = time.monotonic() + 10
    while kit.shards()[2] != before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    for osd in (0, 1):
        await kit.take_out(osd)
    for key, data in objects.items():
        assert await kit.get(key) == data


async def test_a_disk_that_is_replaced_again_while_it_is_filled(kit):
    objects = {b"%d" % i: noise(5000, i) for i in range(30)}
    for key, data in objects.items():
        await kit.put(key, data)
    before = kit.shards()[2]
    mend, count = kit.maintenance.repairer._mender.mend, 0

    async def replacing(*args, **more):
        nonlocal count
        count += 1
        if count == 10:
            await kit.replace(2)
        return await mend(*args, **more)

    kit.maintenance.repairer._mender.mend = replacing
    await kit.replace(2)
    deadline = time.monotonic() + 10
    while kit.shards().get(2) != before:
        kit.maintenance.repairer.wake()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_a_disk_prepared_by_a_process_that_died_is_taken(kit):
    """Between preparing the device and writing its id down."""
    await kit.put(b"key", noise(5000))
    before = kit.shards()[3]
    await kit.take_out(3)
    kit.factory.prepare(kit.slots[3].path, cluster_id=kit.devices._cluster_id)
    await kit.devices.look()
    assert 3 in kit.devices.stores
    deadline = time.monotonic() + 10
    while kit.shards()[3] != before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_swapped_disks_are_refused(kit):
    await kit.put(b"key", noise(5000))
    await kit.take_out(1)
    await kit.take_out(2)
    one, two = (kit.where / f"disk{osd}.out" for osd in (1, 2))
    one.rename(kit.slots[2].path)
    two.rename(kit.slots[1].path)
    await kit.devices.look()
    assert not {1, 2} & set(kit.devices.stores)
    assert "swapped" in kit.slots[1].reason


async def test_deletes_reach_a_disk_that_was_away(kit):
    for i in range(5):
        await kit.put(b"%d" % i, noise(20_000, i))
    await kit.take_out(4)
    for i in range(5):
        await kit.store.delete_object("bucket", b"%d" % i)
    await asyncio.sleep(0.05)
    await kit.maintenance.collector.collect()
    held = kit.shards()
    assert not any(held.values())
    assert [row for row in kit.rows() if row[:1] == b"g"], "the absent disk was forgotten"
    await kit.put_back(4)
    await kit.settle()
    assert not any(kit.shards().values())
    assert {row[:1] for row in kit.rows()} == {b"c", b"B"}


async def test_a_blob_that_is_garbage_twice_stops_nobody(kit):
    await kit.put(b"key", noise(5000))
    (raw,) = [raw for row, raw in kit.rows().items() if row.startswith(keys.BLOBS)]
    await kit.kv.commit([], [garbage_row([decode_blob_row(raw).ref])])
    await kit.store.delete_object("bucket", b"key")
    await kit.put(b"other", noise(5000))
    await kit.store.delete_object("bucket", b"other")
    await kit.settle()
    assert not any(kit.shards().values())


async def test_what_is_being_read_is_not_collected(kit, read_all):
    data = noise(60_000)
    await kit.put(b"key", data)
    readers = [await kit.store.get_object("bucket", b"key") for _ in range(2)]
    await kit.put(b"key", b"new")
    await kit.store.delete_object("bucket", b"key")
    await asyncio.sleep(0.05)
    await kit.maintenance.collector.collect()
    for reader in readers:
        assert await read_all(reader) == data
        reader.close()
        reader.close()
    await kit.settle()
    assert not any(kit.shards().values())


async def test_the_sweep_takes_orphans_and_nothing_else(kit):
    """Also while objects are written and deleted."""
    for i in range(10):
        await kit.put(b"%d" % i, noise(3000, i))
    orphans = 0
    for row in [row for row in kit.rows() if row[:1] == b"r"][:4]:
        await kit.kv.commit([], [(row, None)])
        orphans += 1

    async def write():
        for i in range(40):
            await kit.put(b"new%d" % i, noise(3000 + 9000 * (i % 2), i))
            if i % 3 == 0:
                await kit.store.delete_object("bucket", b"new%d" % i)

    async def sweep():
        return sum(
            [await kit.maintenance.collector.sweep(osd) for _ in range(10) for osd in range(6)]
        )

    _, swept = await asyncio.gather(write(), sweep())
    assert swept >= orphans * 6
    for i in range(40):
        if i % 3:
            assert await kit.get(b"new%d" % i) == noise(3000 + 9000 * (i % 2), i)


async def test_repair_of_what_is_deleted_meanwhile_leaves_nothing(kit):
    for turn in range(12):
        await kit.put(b"key", noise(30_000, turn))
        for osd in (turn % 6, (turn + 1) % 6):
            damage(kit, osd, remove=True)
        reading = asyncio.create_task(kit.get(b"key"))
        for _ in range(turn * 3):
            await asyncio.sleep(0)
        await reading
        await kit.store.delete_object("bucket", b"key")
        kit.maintenance.repairer.wake()
    await kit.settle()
    await asyncio.sleep(0.05)
    for osd in range(6):
        await kit.maintenance.collector.sweep(osd)
    assert not any(kit.shards().values())
    assert {row[:1] for row in kit.rows()} == {b"c", b"B"}
