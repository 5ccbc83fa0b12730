"""Writes: who must have a shard before an answer is given, and whose memory it is."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

import pytest

from objectio.abc.objects import Conditions
from objectio.errors import (
    DeviceFull,
    PayloadDigestMismatch,
    PayloadIncomplete,
    PayloadTooLarge,
    PreconditionFailed,
    WriteQuorumFailed,
)
from objectio.kv.memory import MemoryKV
from objectio.testing.objects import BytesPayload

SIZES = [1, 3, 4095, 8192, 8193, 65_536, 65_537, 200_000]


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_goes_in_comes_out(kit, size):
    data = noise(size)
    info = await kit.put(b"key", data)
    assert (info.size, info.etag) == (size, hashlib.md5(data).hexdigest())
    assert await kit.get(b"key") == data
    assert [row for row in kit.rows() if row[:1] in (b"x", b"g")] == []


@pytest.mark.parametrize(("k", "m"), [(3, 0), (3, 1), (1, 1), (1, 0), (2, 2), (4, 2)])
@pytest.mark.parametrize("size", [100, 100_000])
async def test_quorum(make_kit, device_failed, k, m, size):
    """As many devices may fail as the pool says, and not one more."""
    kit = await make_kit(disks=k + m, k=k, m=m)
    may_fail = m - 1 if m >= 2 else m
    data = noise(size)
    for failing in range(k + m + 1):
        for osd, unruly in kit.unruly.items():
            unruly.fails = device_failed if osd < failing else None
        key = b"%d" % failing
        if failing <= may_fail:
            await kit.put(key, data)
            for unruly in kit.unruly.values():
                unruly.fails = None
            assert await kit.get(key) == data
        else:
            with pytest.raises(WriteQuorumFailed):
                await kit.put(key, data)
    for unruly in kit.unruly.values():
        unruly.fails = None
    await kit.settle()
    stored = (may_fail + 1) * (k + m) * (-(-size // 8192))
    assert sum(len(shards) for shards in kit.shards().values()) == stored


@pytest.mark.parametrize("size", [100, 100_000])
async def test_too_little_room_says_so(kit, device_full, size):
    for osd in (0, 1):
        kit.unruly[osd].fails = device_full
    with pytest.raises(DeviceFull):
        await kit.put(b"key", noise(size))
    kit.unruly[1].fails = None
    await kit.put(b"key", noise(size))
    assert await kit.get(b"key") == noise(size)


async def test_a_device_that_fails_in_the_middle_is_repaired_from_the_start(kit, device_failed):
    data = noise(300_000)

    class Payload(BytesPayload):
        async def read(self):
            if len(self._pieces) == 2:
                kit.unruly[3].fails = device_failed
            return await super().read()

    await kit.put(b"key", payload=Payload(data))
    kit.unruly[3].fails = None
    held = kit.shards()
    assert 0 < len(held[3]) < len(held[0])
    await kit.settle()
    held = kit.shards()
    assert len(held[3]) == len(held[0])
    for osd in (0, 1):
        await kit.take_out(osd)
    assert await kit.get(b"key") == data


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_straggler_keeps_its_buffer_until_it_is_done(make_kit, size):
    kit = await make_kit(memory_bytes_max=2 * 4 * 12 * 1024)
    slow = kit.unruly[2]
    slow.holding = True
    data = noise(size)
    writing = asyncio.create_task(kit.put(b"slow", data))
    if size == 100:
        await writing
        assert await kit.get(b"slow") == data
        slow.holding = False
        for i in range(20):
            await kit.put(b"%d" % i, noise(50_000, i))
    else:  # all memory is lent to the straggler
        await asyncio.sleep(0.2)
        assert not writing.done()
    assert slow.lent
    for shard, payload in slow.lent:
        assert b"".join(shard.payload) == payload, "the buffer was used again too early"
    slow.let_go()
    await writing
    assert await kit.get(b"slow") == data
    await kit.settle()
    assert kit.in_use.active == set()
    assert kit.store._write_budget.used_bytes == 0


async def test_a_straggler_counts_as_missing_and_is_repaired(kit):
    kit.unruly[2].holding = True
    await kit.put(b"key", noise(5000))
    assert [row[:1] for row in kit.rows() if row[:1] == b"x"] == [b"x"]
    kit.unruly[2].let_go()
    await kit.settle()
    assert len(kit.shards()[2]) == 1


async def test_an_answer_waits_for_enough_devices(kit):
    """Two of six hang: five are needed, so there is no answer until one more is done."""
    for osd in (1, 2):
        kit.unruly[osd].holding = True
    writing = asyncio.create_task(kit.put(b"key", noise(5000)))
    await asyncio.sleep(0.2)
    assert not writing.done()
    kit.unruly[1].let_go()
    await writing


class Lying(BytesPayload):
    def __init__(self, data, size):
        super().__init__(data)
        self.size = size


class Wrong(BytesPayload):
    def finish(self):
        raise PayloadDigestMismatch(digest="md5")


@pytest.mark.parametrize("size", [100, 8192, 100_000])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda data: Lying(data, len(data) + 1), PayloadIncomplete),
        (lambda data: Lying(data, len(data) - 1), PayloadTooLarge),
        (Wrong, PayloadDigestMismatch),
    ],
)
async def test_a_payload_that_breaks_its_word_leaves_nothing(kit, size, make, error):
    await kit.put(b"key", b"before")
    rows, shards = kit.rows(), kit.shards()
    with pytest.raises(error):
        await kit.put(b"key", payload=make(noise(size)))
    await kit.settle()
    assert await kit.get(b"key") == b"before"
    assert kit.shards() == shards
    assert kit.rows() == rows
    assert kit.in_use.active == set()
    assert kit.store._write_budget.used_bytes == 0


@pytest.mark.parametrize("size", [5000, 300_000])
async def test_cancelled_at_any_moment_it_is_all_or_nothing(kit, size):
    """Also during the commit, which may then go through all the same."""
    await kit.put(b"key", b"before")
    data = noise(size)
    for turns in range(0, 60, 1):
        task = asyncio.create_task(kit.put(b"key", data))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await kit.settle()
    assert await kit.get(b"key") in (b"before", data)
    assert kit.in_use.active == set()
    assert kit.store._write_budget.used_bytes == 0
    blobs = {key.blob for shards in kit.shards().values() for key in shards}
    assert {row[1:] for row in kit.rows() if row[:1] == b"r"} == blobs
    await kit.store.delete_object("bucket", b"key")
    await kit.settle()
    assert not any(kit.shards().values())


async def test_a_condition_that_fails_in_the_commit_leaves_nothing(kit):
    once = Conditions(if_none_match=["*"])
    results = await asyncio.gather(
        *(kit.put(b"key", noise(100, i), conditions=once) for i in range(20)),
        return_exceptions=True,
    )
    winners = [i for i, result in enumerate(results) if not isinstance(result, Exception)]
    assert len(winners) == 1
    losers = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(result, PreconditionFailed) for result in losers)
    assert await kit.get(b"key") == noise(100, winners[0])
    await kit.settle()
    assert {len(shards) for shards in kit.shards().values()} == {1}


async def test_a_crowd_at_one_key(kit):
    payloads = [noise(3000, i) for i in range(40)]
    await asyncio.gather(*(kit.put(b"key", each) for each in payloads))
    assert await kit.get(b"key") in payloads
    await kit.settle()
    assert {len(shards) for shards in kit.shards().values()} == {1}


@pytest.mark.parametrize("milliseconds", [5, 20, 40])
async def test_a_commit_that_goes_through_after_its_caller_left_keeps_its_shards(
    make_kit, milliseconds
):
    class SlowKV(MemoryKV):
        def commit(self, commits):
            time.sleep(0.03)
            return super().commit(commits)

    kit = await make_kit(kv=SlowKV())
    for i in range(8):
        task = asyncio.create_task(kit.put(b"%d" % i, noise(100, i)))
        await asyncio.sleep(milliseconds / 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kit.maintenance.collector._delete_abandoned()  # at once, without its pause
    await kit.settle()
    found = await kit.store.list_objects("bucket")
    for each in found.objects:
        assert await kit.get(each.key) == noise(100, int(each.key))
    assert {len(shards) for shards in kit.shards().values()} == {len(found.objects)}


async def test_copies_and_slow_readers_do_not_starve_each_other(make_kit):
    """More copies at once than there is memory for, beside readers that take nothing."""
    size = 1 << 20
    kit = await make_kit(
        disks=1, k=1, m=0, family="replicate", stripe_bytes=size, memory_bytes_max=8 * size
    )
    data = noise(3 * size)
    await kit.put(b"source", data)
    idle = []
    for _ in range(8):
        reader = await kit.store.get_object("bucket", b"source")
        stream = reader.stream(0, reader.info.size)
        await anext(stream)
        idle.append((reader, stream))
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(
                kit.store.copy_object("bucket", b"source", "bucket", b"copy%d" % i, owner="me")
                for i in range(12)
            )
        )
    assert await kit.get(b"copy7") == data
    for reader, stream in idle:
        await stream.aclose()
        reader.close()
    assert kit.store._read_budget.used_bytes == kit.store._write_budget.used_bytes == 0
