"""Space: what a full device still takes, and that what is said of it is true."""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
import time

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite, StoreState
from objectio.errors import DeviceFull, InvalidRequest
from objectio.limits import KIB, MIB
from objectio.osd import store as stores
from objectio.osd.device import Device
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import (
    CLUSTER,
    fate,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
)


@pytest.fixture
def eager(monkeypatch):
    """Upkeep all the time."""
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.002)


@pytest.fixture
def asleep(monkeypatch):
    """No upkeep but by hand."""
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 1e6)


@pytest.fixture(params=["always", "never"])
def open_image(request, direct_path):
    async def open_(size_bytes=16 * MIB, **more):
        config = {"direct": request.param, "segment_bytes": MIB, "compact_bytes_per_second": 1e12}
        factory = LogStoreFactory(LogStoreConfig(**config | more), make_context(direct_path))
        path = str(direct_path / "image")
        if factory.probe(path) is None:
            factory.prepare(path, cluster_id=CLUSTER, size_bytes=size_bytes)
        return await factory.open(path, cluster_id=CLUSTER)

    return open_


def submit_reserve(store, key, payload):
    at = ShardCoordinates("replicate", 1, 0, len(payload))
    return fate(lambda done: store.submit(ShardWrite(key, [payload], at, True, True), done))


async def fill(store, first=0, put=submit, size=100_000):
    """Until it is refused. Returns what was taken."""
    held = {}
    for number in itertools.count(first):
        key, payload = shard_key(number), noise(size, number)
        try:
            await put(store, key, payload)
        except DeviceFull:
            break
        held[key] = payload
    return held


async def eventually(call):
    """What the call answers once the device takes it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return await call()
        except DeviceFull:
            assert time.monotonic() < deadline, "a device that was emptied stays full"
            await asyncio.sleep(0.005)


async def test_a_full_device_takes_what_deleting_needs(open_image, eager):
    store = await open_image()
    held = await fill(store)
    assert store.state is StoreState.FULL
    reserved = await fill(store, 10_000, submit_reserve)
    assert len(reserved) >= 9, "there is less than a segment in reserve"
    assert len(reserved) <= 20, "the reserve is not finite"
    with pytest.raises(DeviceFull):
        await submit(store, shard_key(999), b"small")
    assert store.state is StoreState.FULL
    gone = list(held)[::2]
    await submit_delete(store, *gone[:1])
    await submit_delete(store, *gone[1:])
    for key in gone:
        del held[key]
    more = noise(100_000, 20_000)
    await eventually(lambda: submit_reserve(store, shard_key(20_000), more))
    await eventually(lambda: submit(store, shard_key(20_001), more))
    held |= reserved | {shard_key(20_000): more, shard_key(20_001): more}
    for key, payload in held.items():
        assert await read(store, key) == payload
    await store.close()
    store = await open_image()
    assert await scan_all(store) == sorted(held)
    await store.close()


async def test_deletes_one_by_one_never_wedge_a_full_device(open_image, eager):
    """Each takes a block of its own past the page cache: far more of them than a segment has."""
    store = await open_image(compact_live_share_max=0.3)
    held = await fill(store, size=9000)
    held |= await fill(store, 10_000, submit_reserve, size=9000)
    source = random.Random(1)
    doomed = source.sample(sorted(held), 700)
    for key in doomed:
        await eventually(lambda key=key: submit_delete(store, key))
        del held[key]
    assert await scan_all(store) == sorted(held)
    added = await fill(store, 20_000, size=9000)
    for number in range(30_000, 30_000 + 350 - len(added)):
        await eventually(lambda n=number: submit(store, shard_key(n), noise(9000, n)))
        added[shard_key(number)] = noise(9000, number)
    held |= added
    for key in source.sample(sorted(held), 200):
        assert await read(store, key) == held[key]
    await store.close()


async def test_thin_deletes_never_wedge_a_full_device(open_image, eager):
    """Every segment stays nearly full of what lives, and the tombstones have nowhere to go."""
    store = await open_image(40 * MIB)
    numbers = itertools.count()
    taken = []

    async def put_batch():
        keys = [shard_key(number) for number in itertools.islice(numbers, 100)]
        fates = [submit(store, key, b"%d;" % key.blob[-1] * 3000) for key in keys]
        told = await asyncio.gather(*fates, return_exceptions=True)
        taken.extend(key for key, error in zip(keys, told, strict=True) if error is None)
        return all(error is None for error in told)

    while await put_batch():
        pass
    await fill(store, 1_000_000, submit_reserve)
    doomed = taken[::12]
    assert len(doomed) > 257, "the deletes fit into one segment"
    for key in doomed:
        await eventually(lambda key=key: submit_delete(store, key))
    assert len([key for key in await scan_all(store) if key < shard_key(1_000_000)]) == (
        len(taken) - len(doomed)
    )
    await store.close()


async def test_a_growing_device_leaves_half_its_reserve_to_deletes(tmp_path, eager, monkeypatch):
    left = {"bytes": 100 * MIB}
    monkeypatch.setattr(Device, "free_bytes_now", lambda self: left["bytes"])
    config = LogStoreConfig(free_bytes_min=32 * MIB)
    factory = LogStoreFactory(config, make_context(tmp_path))
    factory.prepare(str(tmp_path / "disk"), cluster_id=CLUSTER)
    store = await factory.open(str(tmp_path / "disk"), cluster_id=CLUSTER)
    await submit(store, shard_key(1), b"x")
    left["bytes"] = 31 * MIB
    store._device._free_at = 0.0
    with pytest.raises(DeviceFull):
        await submit(store, shard_key(2), b"x")
    await submit_reserve(store, shard_key(2), b"x")
    await submit_delete(store, shard_key(1))
    left["bytes"] = 16 * MIB
    with pytest.raises(DeviceFull):
        await submit_reserve(store, shard_key(3), b"x")
    await submit_delete(store, shard_key(2))
    assert await scan_all(store) == []
    left["bytes"] = 100 * MIB
    store._device._free_at = 0.0
    await submit(store, shard_key(4), b"x")
    await store.close()


async def test_the_largest_shard(open_image):
    store = await open_image()
    most = store.usage().shard_bytes_max
    assert 0.99 * MIB < most < MIB
    payload = noise(most)
    at = ShardCoordinates("f" * 255, 1, 0, most)
    for _ in range(2):  # and in place of itself
        await fate(lambda done: store.submit(ShardWrite(shard_key(1), [payload], at), done))
    assert await read(store, shard_key(1)) == payload
    with pytest.raises(InvalidRequest):
        await submit(store, shard_key(2), noise(MIB))
    await store.close()


# What is said of it.


def census(path, log):
    """Used and live bytes of each segment, as a reader of the bare device counts them. Headers are
    looked for at multiples of 8 bytes, as the page on the format says."""
    raw = path.read_bytes()
    size = log.superblock.segment_bytes
    found, live = {}, {}
    for index in range((len(raw) - MIB) // size):
        base = MIB + index * size
        sequence = struct.unpack_from("<Q", raw, base + 8)[0]
        if raw[base : base + 5] != b"OIR1\x01":
            continue
        at, newest, end = base, 0, base
        while at < base + size - 72:
            magic, kind, header, mine, number = struct.unpack_from("<4sBxHQQ", raw, at)
            if magic != b"OIR1" or mine != sequence or number <= newest:
                at += 8
                continue
            total = (header + struct.unpack_from("<I", raw, at + 60)[0] + 7) & -8
            newest = number
            if kind == 2:
                found[raw[at + 24 : at + 40]] = found.get(raw[at + 24 : at + 40], [])
                found[raw[at + 24 : at + 40]].append((sequence, number, index, total))
            at += total
            end = at
        live[index] = [end - base, 0]
    return found, live


@pytest.mark.parametrize("seed", range(3))
async def test_usage_is_true(open_image, asleep, direct_path, seed):
    """Against a census of the bare device, through a life with restarts and compactions."""
    store = await open_image(24 * MIB, cache_bytes=0)
    source, model = random.Random(seed), {}
    for step in range(260):
        key = shard_key(source.randrange(60))
        match source.randrange(12):
            case 0 | 1 | 2:
                doomed = source.sample(sorted(model), min(len(model), source.randrange(1, 5)))
                await submit_delete(store, *doomed)
                for each in doomed:
                    del model[each]
            case 3:
                await store._compact_segments(0.9, 3)
            case 4 if source.random() < 0.5:
                await store._checkpoint()
            case 5 if source.random() < 0.4:
                await store.close()
                store = await open_image(24 * MIB, cache_bytes=0)
            case _:
                payload = noise(source.choice((0, 100, 5000, 70_000, 300_000)), step)
                try:
                    await submit(store, key, payload)
                    model[key] = payload
                except DeviceFull:
                    continue
        if step % 20 == 0:
            check_usage(store, model, direct_path / "image")
    check_usage(store, model, direct_path / "image")
    assert await scan_all(store) == sorted(model)
    await store.close()


def check_usage(store, model, path):
    log, usage = store._core, store.usage()
    found, segments = census(path, log)
    live = 0
    for key in model:
        # The last one written; compaction keeps the one whose index entry is current.
        places = {index: total for _, _, index, total in found[key.blob]}
        at = int.from_bytes(store._index.get(key.pack())[:8], "little")
        index = log.segment_of(at)
        live += places[index]
        segments[index][1] += places[index]
    assert usage.shards == len(model)
    assert usage.live_bytes == live
    used = sum(end for end, _ in segments.values())
    assert abs(usage.used_bytes - used) <= log.superblock.segment_bytes
    assert usage.live_bytes <= usage.used_bytes <= usage.capacity_bytes
    in_use = {i: s for i, s in enumerate(log.segments) if s.sequence}
    assert in_use.keys() == segments.keys()
    for index, segment in in_use.items():
        assert segment.live_bytes == segments[index][1]
        assert 0 <= segment.written_bytes - segments[index][0] <= 4 * KIB
