"""Reads around devices that do not answer, and of shards whose group is moving."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading

import pytest

from objectio.errors import InsufficientShards
from objectio.limits import KIB
from objectio.meta import keys
from objectio.store import latency
from objectio.store.readers import _THREADS_APART
from objectio.store.service import StoreSettings

ENOUGH_SECONDS = 30
STRIPES = [8 * KIB, 256 * KIB]  # decoded on the event loop, and in a thread


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


async def within(awaitable):
    async with asyncio.timeout(ENOUGH_SECONDS):
        return await awaitable


async def until(ask):
    async with asyncio.timeout(ENOUGH_SECONDS):
        while not ask():
            await asyncio.sleep(0.002)


@pytest.fixture(params=STRIPES, ids=["small", "large"])
async def slow(make_slow, request):
    return await make_slow(stripe_bytes=request.param)


def no_repairs(kit):
    return not kit.damage and not any(row.startswith(keys.REPAIRS) for row in kit.rows())


# Devices that do not answer.


SIZES = [1, 5000, 8192, 700_000]


@pytest.mark.parametrize("blocked", [(0,), (3,), (0, 1), (2, 5)])
async def test_a_get_goes_round_devices_that_do_not_answer(slow, blocked):
    objects = {b"%d" % size: noise(size, size) for size in SIZES}
    for key, data in objects.items():
        await slow.put(key, data)
    for number, ref in enumerate(slow.refs()):
        slow.release()
        members = slow.members(number)
        slow.close(*(members[position] for position in blocked))
        key = b"%d" % ref.size
        for _ in range(2):
            assert await within(slow.get(key)) == objects[key]
    assert no_repairs(slow)


async def test_ranges(slow, read_all):
    data = noise(1_000_000)
    await slow.put(b"key", data)
    source = random.Random(7)
    reader = await slow.store.get_object("bucket", b"key")
    for turn in range(40):
        if turn % 4 == 0:
            slow.release()
            slow.close(*source.sample(range(6), source.randrange(3)))
        start = source.randrange(len(data))
        length = min(len(data) - start, source.choice((1, 100, 9000, 70_000, 600_000)))
        assert await within(read_all(reader, start, length)) == data[start : start + length]
    reader.close()
    assert no_repairs(slow)


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_three_of_six_are_waited_for_until_one_answers(slow, first):
    data = noise(5000)
    await slow.put(b"key", data)
    members = slow.members()
    blocked = [members[0], members[2], members[4]]
    slow.close(*blocked)
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: all(slow.gates[osd].stuck for osd in blocked))
    assert not get.done()
    plans = sum(device.plans for device in slow.gates.values())
    others = [asyncio.create_task(slow.get(b"key")) for _ in range(20)]
    await asyncio.sleep(0.1)  # what must not happen has no event
    assert not any(each.done() for each in (get, *others))
    assert sum(device.plans for device in slow.gates.values()) - plans <= 20 * 2 * 6, "it spins"
    slow.release(blocked[first])
    assert await within(asyncio.gather(get, *others)) == [data] * 21
    assert no_repairs(slow)


async def test_all_are_waited_for(slow):
    data = noise(500_000)
    await slow.put(b"key", data)
    slow.close(*range(6))
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: any(device.stuck for device in slow.gates.values()))
    slow.release()
    assert await within(get) == data


async def test_too_few_are_told_of_even_if_others_are_slow(slow):
    await slow.put(b"key", noise(5000))
    members = slow.members()
    for position in (0, 3, 5):
        await slow.take_out(members[position])
    slow.close(members[1])
    with pytest.raises(InsufficientShards):
        await within(slow.get(b"key"))


async def test_a_slow_device_beside_two_that_are_gone_is_waited_for(slow):
    data = noise(300_000)
    await slow.put(b"key", data)
    members = slow.members()
    for position in (0, 5):
        await slow.take_out(members[position])
    slow.close(members[1])
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: slow.gates[members[1]].stuck)
    assert not get.done()
    slow.release()
    assert await within(get) == data
    await slow.put_back(members[0], members[5])


async def test_many_gets_at_once_do_not_use_up_the_threads(slow):
    objects = {b"%d" % i: noise(20_000 + i, i) for i in range(20)}
    for key, data in objects.items():
        await slow.put(key, data)
    others = set(threading.enumerate())  # of stores of tests before this one, perhaps
    slow.close(1, 4)
    chosen = [b"%d" % (i % 20) for i in range(200)]
    found = await within(asyncio.gather(*(slow.get(key) for key in chosen)))
    assert found == [objects[key] for key in chosen]
    assert no_repairs(slow)
    assert slow.store.reads.slow >= {1, 4}
    threads = StoreSettings().threads
    for osd in (1, 4):
        assert slow.gates[osd].stuck_most <= threads + _THREADS_APART
    new = set(threading.enumerate()) - others
    alive = [each for each in new if each.name.startswith("read")]
    assert len(alive) <= 3 * threads + 2 * _THREADS_APART


async def test_writes_go_on_meanwhile(slow):
    await slow.put(b"key", noise(500_000))
    slow.close(0, 1)
    gets = [asyncio.create_task(slow.get(b"key")) for _ in range(20)]
    for number in range(10):
        await within(slow.put(b"%d" % number, noise(300_000, number)))
    await within(asyncio.gather(*gets))
    for number in range(10):
        assert await within(slow.get(b"%d" % number)) == noise(300_000, number)


async def test_a_device_that_recovers_is_read_again(slow, monkeypatch):
    monkeypatch.setattr(latency, "PROBATION_SECONDS", 0.01)
    data = noise(100_000)
    await slow.put(b"key", data)
    osd = slow.members()[1]
    device = slow.gates[osd]
    slow.close(osd)
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {osd}
    reads = device.reads
    for _ in range(5):
        assert await within(slow.get(b"key")) == data
    await asyncio.sleep(0.05)  # probes wait while a read is stuck
    assert device.reads == reads, "a slow device was read for a client"
    slow.release()
    await until(lambda: not slow.store.reads.slow)
    reads, hedged = device.reads, slow.store.reads.stripes.hedged
    assert await within(slow.get(b"key")) == data
    assert device.reads > reads
    assert slow.store.reads.stripes.hedged == hedged


async def test_a_probe_does_not_wait_for_a_device_without_shards(slow, monkeypatch):
    monkeypatch.setattr(latency, "PROBATION_SECONDS", 0.01)
    await slow.put(b"key", noise(5000))
    osd = slow.members()[0]
    slow.close(osd)
    await within(slow.get(b"key"))
    await slow.store.delete_object("bucket", b"key")
    await slow.settle()
    slow.release()
    await until(lambda: not slow.store.reads.slow)


async def test_a_replaced_device_begins_anew(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    osd = slow.members()[0]
    slow.close(osd)
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {osd}
    slow.release()
    await slow.take_out(osd)
    assert not slow.store.reads.slow
    await slow.put_back(osd)
    assert await within(slow.get(b"key")) == data
    assert slow.gates[osd].reads


@pytest.mark.parametrize("remote", [False, True])
async def test_who_leaves_takes_everything_along(slow, remote):
    data = noise(900_000)
    await slow.put(b"key", data)
    tasks = asyncio.all_tasks()
    slow.close(*range(6))
    for device in slow.gates.values():
        device.remote = remote
    gets = [asyncio.create_task(slow.get(b"key")) for _ in range(30)]
    await until(lambda: any(device.reads for device in slow.gates.values()))
    for get in gets:
        get.cancel()
    await asyncio.gather(*gets, return_exceptions=True)
    assert all(get.cancelled() for get in gets)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert not slow.store._read_budget.used_bytes
    slow.release()
    reads = sum(device.reads for device in slow.gates.values())
    await until(lambda: not any(device.stuck for device in slow.gates.values()))
    assert sum(device.reads for device in slow.gates.values()) <= reads + 6, "reads for nobody"
    assert await within(slow.get(b"key")) == data


async def test_threads_that_those_left_behind_who_are_gone_are_replaced(slow):
    """Nobody waits for the reads that are stuck any more, and yet the next ones must run."""
    data = noise(5000)
    await slow.put(b"key", data)
    members = slow.members()
    slow.close(*members[:2])
    gets = [asyncio.create_task(slow.get(b"key")) for _ in range(50)]
    await until(lambda: any(slow.gates[osd].stuck for osd in members))
    for get in gets:
        get.cancel()
    await asyncio.gather(*gets, return_exceptions=True)
    assert await within(slow.get(b"key")) == data


async def test_the_store_stops_although_a_device_does_not_answer(slow):
    await slow.put(b"key", noise(5000))
    osd = slow.members()[0]
    slow.close(osd)
    await within(slow.get(b"key"))
    assert slow.gates[osd].stuck
    await within(slow.store.stop())
    assert slow.gates[osd].stuck


async def test_no_hedging_if_it_is_off(make_slow):
    kit = await make_slow(read_hedge_seconds=0.0)
    data = noise(5000)
    await kit.put(b"key", data)
    osd = kit.members()[0]
    kit.close(osd)
    get = asyncio.create_task(kit.get(b"key"))
    await until(lambda: kit.gates[osd].stuck)
    await asyncio.sleep(0.05)  # what must not happen has no event
    assert not get.done()
    kit.release()
    assert await within(get) == data
    assert not kit.store.reads.stripes.hedged


@pytest.mark.parametrize("blocked", [(), (0,), (1, 2), (0, 1, 4)])
async def test_stores_on_other_machines(slow, blocked):
    data = noise(600_000)
    await slow.put(b"key", data)
    for osd in range(6):
        slow.gates[osd].remote = osd % 2 == 0 or len(blocked) == 3
    members = slow.members()
    slow.close(*(members[position] for position in blocked))
    get = asyncio.create_task(slow.get(b"key"))
    if len(blocked) == 3:
        await until(lambda: all(slow.gates[members[each]].reads for each in blocked))
        assert not get.done()
        slow.release(members[blocked[0]])
    assert await within(get) == data
    assert no_repairs(slow)


@pytest.mark.parametrize(("k", "m", "family"), [(1, 2, "replicate"), (2, 1, None), (2, 4, None)])
async def test_other_shapes(make_slow, k, m, family):
    shape = {"k": k, "m": m, "family": family or "rs-vandermonde-0x11d"}
    kit = await make_slow(stripe_bytes=64 * KIB, **shape)
    data = noise(300_000)
    await kit.put(b"key", data)
    for blocked in itertools.combinations(kit.members(), min(m, 2)):
        kit.release()
        kit.close(*blocked)
        assert await within(kit.get(b"key")) == data
    assert no_repairs(kit)


async def test_small_objects_are_read_at_once_around_a_slow_device(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    osd = slow.members()[1]
    slow.close(osd)
    assert await within(slow.get(b"key")) == data
    for other, device in slow.gates.items():
        device.cached = other != osd
    reader = await slow.store.get_object("bucket", b"key")
    for start, length in ((0, 5000), (0, 1), (1249, 2), (1300, 700), (2600, 2400)):
        assert bytes(reader.read_now(start, length)) == data[start : start + length]
    slow.gates[slow.members()[2]].cached = False
    assert reader.read_now(0, 5000) is None, "it would block"
    reader.close()


async def test_small_objects_are_read_at_once_around_a_device_that_is_down(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    for device in slow.gates.values():
        device.cached = True
    members = slow.members()
    await slow.take_out(members[0])
    await slow.take_out(members[3])
    reader = await slow.store.get_object("bucket", b"key")
    assert bytes(reader.read_now(0, 5000)) == data
    await slow.take_out(members[4])
    assert reader.read_now(0, 5000) is None
    reader.close()


async def test_repair_spares_slow_devices_as_sources(slow):
    data = noise(300_000)
    await slow.put(b"key", data)
    members = slow.members()
    slow.close(members[0])
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {members[0]}
    before = await slow.shards_at(members[3])
    for info in before:
        await slow.remove_shard(info.key, members[3])
    reads = slow.gates[members[0]].reads
    (ref,) = slow.refs()
    slow.maintenance.repairer.damaged(ref, 1 << 3)
    async with asyncio.timeout(ENOUGH_SECONDS):
        while await slow.shards_at(members[3]) != before:
            await asyncio.sleep(0.01)
    assert slow.gates[members[0]].reads == reads
    assert await within(slow.get(b"key")) == data
