"""Reads around devices that do not answer, and of shards whose group is moving."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.errors import InsufficientShards
from objectio.filters.passthrough import ShardStoreFilter
from objectio.limits import KIB, MIB
from objectio.meta import keys
from objectio.meta.records import decode_blob_row
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.placement.groups import group_of
from objectio.store import latency
from objectio.store.readers import _THREADS_APART
from objectio.store.service import StoreSettings
from objectio.testing.context import make_context

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


class Device(ShardStoreFilter):
    """A log store whose reads stand still while `gate` is closed. `cached`: what the page cache has
    is answered all the same. `remote`: it is not on this machine."""

    def __init__(self, inner):
        super().__init__(inner)
        self.gate = threading.Event()
        self.gate.set()
        self.cached = False
        self.remote = False
        self.plans = 0
        self.reads = 0
        self.stuck = 0
        self.stuck_most = 0

    def read_now(self, key, offset=0, length=None):
        return self._inner.read_now(key, offset, length) if self.cached else None

    def plan_read(self, key, offset=0, length=None):
        plan = self._inner.plan_read(key, offset, length)
        self.plans += 1

        def read():
            self.reads += 1
            if not self.gate.is_set():
                self.stuck += 1
                self.stuck_most = max(self.stuck, self.stuck_most)
                self.gate.wait()
                self.stuck -= 1
            return plan()

        return None if self.remote else read

    async def read(self, key, offset=0, length=None):
        self.reads += 1
        while not self.gate.is_set():
            await asyncio.sleep(0.002)
        return await self._inner.read(key, offset, length)


@pytest.fixture
async def make_slow(make_kit, tmp_path):
    """Makes a store on log stores in files, each behind a `Device`; nothing repairs by itself."""
    kits = []

    class SlowKit(make_kit.kit_class):
        def _wrap(self, osd, store):
            device = self.gates[osd] = Device(super()._wrap(osd, store))
            return device

    async def make(disks=6, **more):
        factory = LogStoreFactory(
            LogStoreConfig(segment_bytes=MIB), make_context(tmp_path, f"index{len(kits)}")
        )
        kit = SlowKit(tmp_path / f"slow{len(kits)}", factory=factory, disks=disks, **more)
        kit.gates, kit.damage = {}, []
        kit.where.mkdir()
        kits.append(kit)
        await kit.start()
        await kit.store.rebalancer.stop()  # the moves are made by hand
        await kit.store.create_bucket("bucket", owner="me")
        kit.store.reads._damaged = lambda ref, mask: kit.damage.append(mask)
        return kit

    yield make
    for kit in kits:
        for device in kit.gates.values():
            device.gate.set()
        await kit.stop()


@pytest.fixture(params=STRIPES, ids=["small", "large"])
async def slow(make_slow, request):
    return await make_slow(stripe_bytes=request.param)


def close(kit, *osds):
    for osd in osds:
        kit.gates[osd].gate.clear()


def release(kit, *osds):
    for osd in osds or kit.gates:
        kit.gates[osd].gate.set()


def refs_of(kit):
    """The blobs that there are, in the order in which they were written."""
    rows = kit.rows()
    return [decode_blob_row(rows[row]).ref for row in sorted(rows) if row.startswith(keys.BLOBS)]


def members_of(kit, number=0):
    return kit.store.pools.current.members(refs_of(kit)[number].blob)


def no_repairs(kit):
    return not kit.damage and not any(row.startswith(keys.REPAIRS) for row in kit.rows())


# Devices that do not answer.


SIZES = [1, 5000, 8192, 700_000]


@pytest.mark.parametrize("blocked", [(0,), (3,), (0, 1), (2, 5)])
async def test_a_get_goes_round_devices_that_do_not_answer(slow, blocked):
    objects = {b"%d" % size: noise(size, size) for size in SIZES}
    for key, data in objects.items():
        await slow.put(key, data)
    for number, ref in enumerate(refs_of(slow)):
        release(slow)
        members = members_of(slow, number)
        close(slow, *(members[position] for position in blocked))
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
            release(slow)
            close(slow, *source.sample(range(6), source.randrange(3)))
        start = source.randrange(len(data))
        length = min(len(data) - start, source.choice((1, 100, 9000, 70_000, 600_000)))
        assert await within(read_all(reader, start, length)) == data[start : start + length]
    reader.close()
    assert no_repairs(slow)


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_three_of_six_are_waited_for_until_one_answers(slow, first):
    data = noise(5000)
    await slow.put(b"key", data)
    members = members_of(slow)
    blocked = [members[0], members[2], members[4]]
    close(slow, *blocked)
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: all(slow.gates[osd].stuck for osd in blocked))
    assert not get.done()
    plans = sum(device.plans for device in slow.gates.values())
    others = [asyncio.create_task(slow.get(b"key")) for _ in range(20)]
    await asyncio.sleep(0.1)  # what must not happen has no event
    assert not any(each.done() for each in (get, *others))
    assert sum(device.plans for device in slow.gates.values()) - plans <= 20 * 2 * 6, "it spins"
    release(slow, blocked[first])
    assert await within(asyncio.gather(get, *others)) == [data] * 21
    assert no_repairs(slow)


async def test_all_are_waited_for(slow):
    data = noise(500_000)
    await slow.put(b"key", data)
    close(slow, *range(6))
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: any(device.stuck for device in slow.gates.values()))
    release(slow)
    assert await within(get) == data


async def test_too_few_are_told_of_even_if_others_are_slow(slow):
    await slow.put(b"key", noise(5000))
    members = members_of(slow)
    for position in (0, 3, 5):
        await slow.take_out(members[position])
    close(slow, members[1])
    with pytest.raises(InsufficientShards):
        await within(slow.get(b"key"))


async def test_a_slow_device_beside_two_that_are_gone_is_waited_for(slow):
    data = noise(300_000)
    await slow.put(b"key", data)
    members = members_of(slow)
    for position in (0, 5):
        await slow.take_out(members[position])
    close(slow, members[1])
    get = asyncio.create_task(slow.get(b"key"))
    await until(lambda: slow.gates[members[1]].stuck)
    assert not get.done()
    release(slow)
    assert await within(get) == data
    await slow.put_back(members[0], members[5])


async def test_many_gets_at_once_do_not_use_up_the_threads(slow):
    objects = {b"%d" % i: noise(20_000 + i, i) for i in range(20)}
    for key, data in objects.items():
        await slow.put(key, data)
    close(slow, 1, 4)
    chosen = [b"%d" % (i % 20) for i in range(200)]
    found = await within(asyncio.gather(*(slow.get(key) for key in chosen)))
    assert found == [objects[key] for key in chosen]
    assert no_repairs(slow)
    assert slow.store.reads.slow >= {1, 4}
    threads = StoreSettings().threads
    for osd in (1, 4):
        assert slow.gates[osd].stuck_most <= threads + _THREADS_APART
    alive = [each for each in threading.enumerate() if each.name.startswith("read")]
    assert len(alive) <= 3 * threads + 2 * _THREADS_APART


async def test_writes_go_on_meanwhile(slow):
    await slow.put(b"key", noise(500_000))
    close(slow, 0, 1)
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
    osd = members_of(slow)[1]
    device = slow.gates[osd]
    close(slow, osd)
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {osd}
    reads = device.reads
    for _ in range(5):
        assert await within(slow.get(b"key")) == data
    await asyncio.sleep(0.05)  # probes wait while a read is stuck
    assert device.reads == reads, "a slow device was read for a client"
    release(slow)
    await until(lambda: not slow.store.reads.slow)
    reads, hedged = device.reads, slow.store.reads.stripes.hedged
    assert await within(slow.get(b"key")) == data
    assert device.reads > reads
    assert slow.store.reads.stripes.hedged == hedged


async def test_a_probe_does_not_wait_for_a_device_without_shards(slow, monkeypatch):
    monkeypatch.setattr(latency, "PROBATION_SECONDS", 0.01)
    await slow.put(b"key", noise(5000))
    osd = members_of(slow)[0]
    close(slow, osd)
    await within(slow.get(b"key"))
    await slow.store.delete_object("bucket", b"key")
    await slow.settle()
    release(slow)
    await until(lambda: not slow.store.reads.slow)


async def test_a_replaced_device_begins_anew(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    osd = members_of(slow)[0]
    close(slow, osd)
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {osd}
    release(slow)
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
    close(slow, *range(6))
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
    release(slow)
    reads = sum(device.reads for device in slow.gates.values())
    await until(lambda: not any(device.stuck for device in slow.gates.values()))
    assert sum(device.reads for device in slow.gates.values()) <= reads + 6, "reads for nobody"
    assert await within(slow.get(b"key")) == data


async def test_threads_that_those_left_behind_who_are_gone_are_replaced(slow):
    """Nobody waits for the reads that are stuck any more, and yet the next ones must run."""
    data = noise(5000)
    await slow.put(b"key", data)
    members = members_of(slow)
    close(slow, *members[:2])
    gets = [asyncio.create_task(slow.get(b"key")) for _ in range(50)]
    await until(lambda: any(slow.gates[osd].stuck for osd in members))
    for get in gets:
        get.cancel()
    await asyncio.gather(*gets, return_exceptions=True)
    assert await within(slow.get(b"key")) == data


async def test_the_store_stops_although_a_device_does_not_answer(slow):
    await slow.put(b"key", noise(5000))
    osd = members_of(slow)[0]
    close(slow, osd)
    await within(slow.get(b"key"))
    assert slow.gates[osd].stuck
    await within(slow.store.stop())
    assert slow.gates[osd].stuck


async def test_no_hedging_if_it_is_off(make_slow):
    kit = await make_slow(read_hedge_seconds=0.0)
    data = noise(5000)
    await kit.put(b"key", data)
    osd = members_of(kit)[0]
    close(kit, osd)
    get = asyncio.create_task(kit.get(b"key"))
    await until(lambda: kit.gates[osd].stuck)
    await asyncio.sleep(0.05)  # what must not happen has no event
    assert not get.done()
    release(kit)
    assert await within(get) == data
    assert not kit.store.reads.stripes.hedged


@pytest.mark.parametrize("blocked", [(), (0,), (1, 2), (0, 1, 4)])
async def test_stores_on_other_machines(slow, blocked):
    data = noise(600_000)
    await slow.put(b"key", data)
    for osd in range(6):
        slow.gates[osd].remote = osd % 2 == 0 or len(blocked) == 3
    members = members_of(slow)
    close(slow, *(members[position] for position in blocked))
    get = asyncio.create_task(slow.get(b"key"))
    if len(blocked) == 3:
        await until(lambda: all(slow.gates[members[each]].reads for each in blocked))
        assert not get.done()
        release(slow, members[blocked[0]])
    assert await within(get) == data
    assert no_repairs(slow)


@pytest.mark.parametrize(("k", "m", "family"), [(1, 2, "replicate"), (2, 1, None), (2, 4, None)])
async def test_other_shapes(make_slow, k, m, family):
    shape = {"k": k, "m": m, "family": family or "rs-vandermonde-0x11d"}
    kit = await make_slow(stripe_bytes=64 * KIB, **shape)
    data = noise(300_000)
    await kit.put(b"key", data)
    for blocked in itertools.combinations(members_of(kit), min(m, 2)):
        release(kit)
        close(kit, *blocked)
        assert await within(kit.get(b"key")) == data
    assert no_repairs(kit)


async def test_small_objects_are_read_at_once_around_a_slow_device(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    osd = members_of(slow)[1]
    close(slow, osd)
    assert await within(slow.get(b"key")) == data
    for other, device in slow.gates.items():
        device.cached = other != osd
    reader = await slow.store.get_object("bucket", b"key")
    for start, length in ((0, 5000), (0, 1), (1249, 2), (1300, 700), (2600, 2400)):
        assert bytes(reader.read_now(start, length)) == data[start : start + length]
    slow.gates[members_of(slow)[2]].cached = False
    assert reader.read_now(0, 5000) is None, "it would block"
    reader.close()


async def test_small_objects_are_read_at_once_around_a_device_that_is_down(slow):
    data = noise(5000)
    await slow.put(b"key", data)
    for device in slow.gates.values():
        device.cached = True
    members = members_of(slow)
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
    members = members_of(slow)
    close(slow, members[0])
    assert await within(slow.get(b"key")) == data
    assert slow.store.reads.slow == {members[0]}
    before = await shards_at(slow, members[3])
    for info in before:
        await remove_shard(slow, info.key, members[3])
    reads = slow.gates[members[0]].reads
    (ref,) = refs_of(slow)
    slow.store.repairer.damaged(ref, 1 << 3)
    async with asyncio.timeout(ENOUGH_SECONDS):
        while await shards_at(slow, members[3]) != before:
            await asyncio.sleep(0.01)
    assert slow.gates[members[0]].reads == reads
    assert await within(slow.get(b"key")) == data


# Groups that move.


async def copy_shard(kit, key, source, target):
    payload = bytes(await kit.gates[source]._inner.read(key))  # no gate stops the mover
    coordinates = ShardCoordinates("rs-vandermonde-0x11d", 4, 2, len(payload) * 4)
    done = asyncio.get_running_loop().create_future()
    kit.gates[target].submit(ShardWrite(key, (payload,), coordinates), done.set_result)
    assert await done is None


async def remove_shard(kit, key, osd):
    done = asyncio.get_running_loop().create_future()
    kit.devices.stores[osd].submit_delete([key], done.set_result)
    assert await done is None


async def shards_at(kit, osd):
    return await kit.devices.stores[osd].scan(None, 10_000)


def set_pool(kit, **fields):
    pools = kit.store.pools
    pools.current = pools._pools[pools.current.id] = pools.current._replace(**fields)


def begin_move(kit, ref, *positions):
    """The blob's group moves: what was at these positions goes to the OSDs that had none of it.
    Returns the former members."""
    pool = kit.store.pools.current
    group = group_of(ref.blob, len(pool.groups))
    former = pool.groups[group]
    fresh = iter(osd for osd in range(len(kit.slots)) if osd not in former)
    members = tuple(next(fresh) if at in positions else osd for at, osd in enumerate(former))
    groups = (*pool.groups[:group], members, *pool.groups[group + 1 :])
    set_pool(kit, groups=groups, moving={group: former})
    return former


def end_move(kit):
    set_pool(kit, moving={})


async def move_shard(kit, ref, position, former, *, keep=False):
    members = kit.store.pools.current.members(ref.blob)
    for info in await shards_at(kit, former[position]):
        if info.key.blob == ref.blob and info.key.position == position:
            await copy_shard(kit, info.key, former[position], members[position])
            if not keep:
                await remove_shard(kit, info.key, former[position])


async def move_shards(kit, ref, positions, former, *, told_first):
    """All of the blob. `told_first`: the move is over before the old copies go."""
    for position in positions:
        await move_shard(kit, ref, position, former, keep=told_first)
    if told_first:
        end_move(kit)
        for position in positions:
            for info in await shards_at(kit, former[position]):
                await remove_shard(kit, info.key, former[position])


@pytest.fixture(params=[STRIPES[0], pytest.param(STRIPES[1], marks=pytest.mark.slow)])
async def moving(make_slow, request):
    """An object of several stripes, in a store of nine disks."""
    kit = await make_slow(disks=9, stripe_bytes=request.param)
    kit.data = noise(700_000)
    await kit.put(b"key", kit.data)
    (kit.ref,) = refs_of(kit)
    return kit


@pytest.mark.parametrize("state", ["not yet", "copied", "moved", "some"])
@pytest.mark.parametrize("positions", [(5,), (0, 1, 3)])
async def test_a_shard_may_be_at_either_place(moving, read_all, state, positions):
    former = begin_move(moving, moving.ref, *positions)
    for position in positions if state != "not yet" else ():
        if state != "some" or position == positions[0]:
            await move_shard(moving, moving.ref, position, former, keep=state == "copied")
    assert await within(moving.get(b"key")) == moving.data
    reader = await moving.store.get_object("bucket", b"key")
    assert await within(read_all(reader, 100_000, 70_000)) == moving.data[100_000:170_000]
    reader.close()
    assert not moving.damage
    assert not moving.store.reads.stripes.hedged


async def test_only_what_is_at_neither_place_is_damage(moving):
    former = begin_move(moving, moving.ref, 0, 1)
    for info in await shards_at(moving, former[0]):
        await remove_shard(moving, info.key, former[0])
    assert await within(moving.get(b"key")) == moving.data
    assert set(moving.damage) == {0b000001}


async def test_the_old_place_may_be_down(moving):
    """Then nobody knows whether the shard is lost."""
    former = begin_move(moving, moving.ref, 0, 1)
    await move_shard(moving, moving.ref, 1, former)
    await moving.take_out(former[0])
    await moving.take_out(former[1])
    assert await within(moving.get(b"key")) == moving.data
    assert not moving.damage


async def test_the_new_place_may_be_down(moving):
    begin_move(moving, moving.ref, 0, 1, 2)
    for position in range(3):
        await moving.take_out(moving.store.pools.current.members(moving.ref.blob)[position])
    assert await within(moving.get(b"key")) == moving.data
    assert not moving.damage


async def test_the_old_place_may_be_slow(moving):
    former = begin_move(moving, moving.ref, 0, 1, 2)
    close(moving, former[0], former[1])
    for _ in range(3):
        assert await within(moving.get(b"key")) == moving.data
    assert not moving.damage


async def test_a_damaged_copy_is_reported_and_the_old_one_read(moving, monkeypatch):
    former = begin_move(moving, moving.ref, 0, 1, 2)
    for position in range(3):
        await move_shard(moving, moving.ref, position, former, keep=True)
    members = moving.store.pools.current.members(moving.ref.blob)
    for position in range(3):
        log = moving.where / f"disk{members[position]}" / "log"
        raw = bytearray(log.read_bytes())
        (info, *_) = await shards_at(moving, members[position])
        payload = bytes(await moving.devices.stores[members[position]].read(info.key))
        at = raw.index(payload[:64])
        with log.open("r+b") as file:
            file.seek(at + 10)
            file.write(bytes(each ^ 0xFF for each in raw[at + 10 : at + 20]))
    assert await within(moving.get(b"key")) == moving.data
    assert moving.damage[0] == 0b111


@pytest.mark.parametrize("told_first", [True, False])
async def test_the_old_copy_goes_while_it_is_being_read(make_slow, told_first):
    """Between the look into its index and the read itself."""
    kit = await make_slow(disks=9, stripe_bytes=256 * KIB, read_hedge_seconds=0.0)
    data = noise(200_000)
    await kit.put(b"key", data)
    (ref,) = refs_of(kit)
    former = begin_move(kit, ref, 0, 1, 2)
    close(kit, former[0])
    get = asyncio.create_task(kit.get(b"key"))
    await until(lambda: kit.gates[former[0]].stuck)
    await move_shards(kit, ref, range(3), former, told_first=told_first)
    release(kit)
    assert await within(get) == data
    assert not kit.damage


@pytest.mark.parametrize("told_first", [True, False])
async def test_old_copies_go_in_the_middle_of_a_stream(moving, told_first):
    former = begin_move(moving, moving.ref, 0, 1, 2)
    reader = await moving.store.get_object("bucket", b"key")
    pieces = []
    async for piece in reader.stream(0, len(moving.data)):
        pieces.append(bytes(piece))
        if len(pieces) == 2:
            await move_shards(moving, moving.ref, range(3), former, told_first=told_first)
    reader.close()
    assert b"".join(pieces) == moving.data
    assert not moving.damage


async def test_small_objects_of_a_moving_group_are_read_at_once(make_slow):
    kit = await make_slow(disks=9)
    data = noise(5000)
    await kit.put(b"key", data)
    (ref,) = refs_of(kit)
    former = begin_move(kit, ref, 0, 1, 2)
    await move_shard(kit, ref, 1, former)
    for device in kit.gates.values():
        device.cached = True
    reader = await kit.store.get_object("bucket", b"key")
    assert bytes(reader.read_now(0, 5000)) == data
    assert bytes(reader.read_now(1300, 5)) == data[1300:1305]
    for info in await shards_at(kit, former[0]):
        await remove_shard(kit, info.key, former[0])
    assert reader.read_now(0, 5000) is None
    assert await within(kit.get(b"key")) == data
    assert set(kit.damage) == {0b1}
    reader.close()
