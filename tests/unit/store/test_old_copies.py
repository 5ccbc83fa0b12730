"""Old copies of disks that could pass for the disk: after one another, while nothing can be written down,
and the disk itself behind its copy."""

from __future__ import annotations

from pathlib import Path

from objectio.errors import DeviceFull
from objectio.meta import keys


async def test_the_disk_itself_after_an_old_copy_of_it(kit):
    """An image was put in by mistake; then the disk comes back, which lacks what the image was given."""
    await kit.put(b"before", b"x" * 500)
    device = kit.factory._find(kit.slots[1].path)
    image = dict(device.shards), device.opens
    for _ in range(3):
        await kit.take_out(1)
        await kit.put_back(1)
    await kit.put(b"middle", b"x" * 500)
    await kit.take_out(1)
    disk = dict(device.shards), device.opens
    device.shards, device.opens = dict(image[0]), image[1]
    await kit.put_back(1)
    await kit.refilled()
    assert set(device.shards) == set(disk[0])
    await kit.put(b"late", b"x" * 500)
    wanted = set(device.shards)
    assert wanted > set(disk[0])
    await kit.take_out(1)
    device.shards, device.opens = dict(disk[0]), disk[1]
    await kit.put_back(1)
    await kit.refilled()
    assert set(device.shards) == wanted


async def test_an_old_copy_that_comes_while_nothing_can_be_committed(kit):
    """Each look counts the device up, and cannot remember it."""
    await kit.put(b"before", b"x" * 500)
    device = kit.factory._find(kit.slots[1].path)
    image = dict(device.shards), device.opens
    for _ in range(3):
        await kit.take_out(1)
        await kit.put_back(1)
    await kit.put(b"late", b"x" * 500)
    wanted = set(device.shards)
    await kit.take_out(1)
    device.shards, device.opens = dict(image[0]), image[1]
    Path(kit.slots[1].path).with_suffix(".out").rename(kit.slots[1].path)
    commit = kit.kv.commit

    async def full(checks, writes):
        raise DeviceFull("the disk of the metadata is full")

    kit.kv.commit = full
    for _ in range(4):  # eight seconds
        await kit.devices.look()
        assert 1 not in kit.devices.stores
    kit.kv.commit = commit
    await kit.devices.look()
    assert 1 in kit.devices.stores
    await kit.refilled()
    assert set(device.shards) == wanted


async def test_each_time_that_a_disk_goes_back_has_a_row_of_its_own(kit):
    await kit.maintenance.repairer.stop()
    await kit.put(b"before", b"x" * 500)
    device = kit.factory._find(kit.slots[1].path)
    image = dict(device.shards), device.opens
    for _ in range(3):
        await kit.take_out(1)
        await kit.put_back(1)
    rows = []
    for _ in range(3):
        await kit.take_out(1)
        device.shards, device.opens = dict(image[0]), image[1]
        await kit.put_back(1)
        rows.append(kit.rows()[keys.refill(1)])
    assert len(set(rows)) == 3
