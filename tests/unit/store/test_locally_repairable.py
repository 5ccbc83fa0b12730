"""A pool of a locally repairable code: not every k of its shards decode, and one costs half."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter

import pytest

from objectio.errors import DeviceFailed, WriteQuorumFailed
from objectio.meta import keys
from objectio.meta.records import decode_blob_row

plugin = pytest.importorskip("objectio_ec_lrc.plugin")

FAMILY = "lrc-cauchy-0x11d-l2"
GROUPS = ({0, 1, 2, 6}, {3, 4, 5, 7})
GLOBALS = {8, 9}
LOSSES = [lost for count in (1, 2, 3) for lost in itertools.combinations(range(10), count)]
UP_TO_FOUR = [(0, 1, 3, 4), (0, 6, 5, 7), (0, 1, 2, 3), (0, 1, 4, 8), (0, 3, 8, 9)]


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture
async def kit(make_kit):
    """Six data shards in two groups with a parity each, and two global parities; ten disks."""
    return await make_kit(
        disks=10, k=6, m=4, family=FAMILY, codecs=plugin.objectio_register_codecs()
    )


async def blob_members(kit, key):
    """The OSD of each position of the object's only blob."""
    before = {each.blob for shards in kit.shards().values() for each in shards}
    data = noise(5000)
    await kit.put(key, data)
    after = {each.blob for shards in kit.shards().values() for each in shards}
    [blob] = after - before
    return data, kit.pools.current.members(blob)


@pytest.mark.parametrize("lost", [*LOSSES[:10], *LOSSES[10::8], *UP_TO_FOUR], ids=str)
async def test_what_the_code_decodes_is_read(kit, read_all, lost):
    data, members = await blob_members(kit, b"key")
    large = noise(100_000)
    await kit.put(b"large", large)
    for position in lost:
        await kit.take_out(members[position])
    assert await kit.get(b"key") == data
    reader = await kit.store.get_object("bucket", b"key")
    for start, length in ((0, 1), (4_999, 1), (800, 3000)):
        assert await read_all(reader, start, length) == data[start : start + length]
    reader.close()
    if len(lost) <= 3:  # whichever they are: other blobs have other positions on these disks
        assert await kit.get(b"large") == large


def count_reads(kit):
    """Positions of the shards that are read from now on, with how often; not those looked up."""
    reads = Counter()

    def watch(unruly):
        store = unruly._store

        def plan_read(key, *where):
            plan = store.plan_read(key, *where)

            def run():
                reads[key.position] += 1
                return plan()

            return plan and run

        async def read(key, *where):
            reads[key.position] += 1
            return await store.read(key, *where)

        unruly.plan_read = plan_read
        unruly.read = read

    for unruly in kit.unruly.values():
        watch(unruly)
    return reads


@pytest.mark.parametrize("position", range(10))
async def test_repair_of_one_shard_reads_its_group(kit, position):
    data, members = await blob_members(kit, b"key")
    device = kit.factory._find(kit.slots[members[position]].path)
    [key] = device.shards
    del device.shards[key]
    reads = count_reads(kit)
    row = next(raw for key, raw in kit.rows().items() if key.startswith(keys.BLOBS))
    kit.maintenance.repairer.damaged(decode_blob_row(row).ref, 1 << position)
    deadline = time.monotonic() + 10
    while key not in device.shards:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
    await kit.settle()
    reads.pop(position, None)  # a look at what is said to be lost
    group = next((group - {position} for group in GROUPS if position in group), set(range(6)))
    assert reads == dict.fromkeys(group, 1)
    for osd in members[:6]:
        assert len(kit.factory._find(kit.slots[osd].path).shards) == 1
    assert await kit.get(b"key") == data


async def test_an_acknowledged_write_survives_one_loss_more(kit):
    """Seven shards, k and one more, are too few: those of one group alone may be missing."""
    assert (kit.pools.current.read_quorum, kit.pools.current.write_quorum) == (7, 8)
    for osd in (0, 1):
        kit.unruly[osd].fails = DeviceFailed("no good")
    written = {f"key{n}".encode(): noise(5000, n) for n in range(20)}
    for key, data in written.items():
        await kit.put(key, data)
    for osd in (0, 1):
        await kit.take_out(osd)
    for osd in range(2, 10):
        await kit.take_out(osd)
        for key, data in written.items():
            assert await kit.get(key) == data
        await kit.put_back(osd)


async def test_with_a_third_device_out_writes_are_refused(kit):
    for osd in (0, 1, 2):
        kit.unruly[osd].fails = DeviceFailed("no good")
    with pytest.raises(WriteQuorumFailed, match="8 are needed"):
        await kit.put(b"key", noise(5000))


async def test_health_says_whether_everything_can_be_read(kit):
    for osd in range(3):
        await kit.take_out(osd)
    assert kit.store.health()["ok"]
    await kit.take_out(3)
    assert not kit.store.health()["ok"]
