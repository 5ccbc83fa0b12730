"""Reads of shards whose placement group is moving."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.limits import KIB
from objectio.placement.groups import group_of

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


async def copy_shard(kit, key, source, target):
    payload = bytes(await kit.gates[source]._inner.read(key))  # no gate stops the mover
    coordinates = ShardCoordinates("rs-vandermonde-0x11d", 4, 2, len(payload) * 4)
    done = asyncio.get_running_loop().create_future()
    kit.gates[target].submit(ShardWrite(key, (payload,), coordinates), done.set_result)
    assert await done is None


def set_pool(kit, **fields):
    pools = kit.store.pools
    pools._current = pools._pools[pools.current.id] = pools.current._replace(**fields)


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
    for info in await kit.shards_at(former[position]):
        if info.key.blob == ref.blob and info.key.position == position:
            await copy_shard(kit, info.key, former[position], members[position])
            if not keep:
                await kit.remove_shard(info.key, former[position])


async def move_shards(kit, ref, positions, former, *, told_first):
    """All of the blob. `told_first`: the move is over before the old copies go."""
    for position in positions:
        await move_shard(kit, ref, position, former, keep=told_first)
    if told_first:
        end_move(kit)
        for position in positions:
            for info in await kit.shards_at(former[position]):
                await kit.remove_shard(info.key, former[position])


@pytest.fixture(params=[STRIPES[0], pytest.param(STRIPES[1], marks=pytest.mark.slow)])
async def moving(make_slow, request):
    """An object of several stripes, in a store of nine disks."""
    kit = await make_slow(disks=9, stripe_bytes=request.param)
    kit.data = noise(700_000)
    await kit.put(b"key", kit.data)
    (kit.ref,) = kit.refs()
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
    for info in await moving.shards_at(former[0]):
        await moving.remove_shard(info.key, former[0])
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
    moving.close(former[0], former[1])
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
        (info, *_) = await moving.shards_at(members[position])
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
    (ref,) = kit.refs()
    former = begin_move(kit, ref, 0, 1, 2)
    kit.close(former[0])
    get = asyncio.create_task(kit.get(b"key"))
    await until(lambda: kit.gates[former[0]].stuck)
    await move_shards(kit, ref, range(3), former, told_first=told_first)
    kit.release()
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
    (ref,) = kit.refs()
    former = begin_move(kit, ref, 0, 1, 2)
    await move_shard(kit, ref, 1, former)
    for device in kit.gates.values():
        device.cached = True
    reader = await kit.store.get_object("bucket", b"key")
    assert bytes(reader.read_now(0, 5000)) == data
    assert bytes(reader.read_now(1300, 5)) == data[1300:1305]
    for info in await kit.shards_at(former[0]):
        await kit.remove_shard(info.key, former[0])
    assert reader.read_now(0, 5000) is None
    assert await within(kit.get(b"key")) == data
    assert set(kit.damage) == {0b1}
    reader.close()
