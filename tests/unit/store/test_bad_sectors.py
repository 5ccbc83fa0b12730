"""What a read that fails says of a shard, and disks that do not answer at all."""

from __future__ import annotations

import asyncio

import pytest

from objectio.errors import DeviceFailed
from objectio.store import answers, scrub_census


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill(each=3)


class Unreadable:
    """One shard cannot be read for now; the index and everything else answer."""

    def __init__(self, store, key, error):
        self.key, self.error, self.reads = key, error, 0
        self.plan, self.now = store.plan_read, store.read_now
        store.plan_read, store.read_now = self.plan_read, self.read_now

    def well(self):
        self.key = None

    def fail(self):
        self.reads += 1
        raise self.error

    def plan_read(self, key, offset=0, length=None):
        return self.fail if key == self.key else self.plan(key, offset, length)

    def read_now(self, key, offset=0, length=None):
        return None if key == self.key else self.now(key, offset, length)


async def test_a_suspect_that_could_not_be_read_is_still_a_suspect(lab, filled):
    """It is damaged on the disk; when repair looks, the device does not answer this one read."""
    ref = lab.ref(8192)
    lab.flip(ref, 0, 2)
    bad = Unreadable(lab.device(ref, 2), lab.key(ref, 0, 2), DeviceFailed("no answer in 30 s"))
    lab.report(ref, 2)
    await lab.until(lambda: bad.reads and not lab.maintenance.repairer.status().active)
    await asyncio.sleep(0.05)
    bad.well()
    assert ref.blob in lab.repair_rows, "nobody knows of the damage any more"


async def test_a_suspect_that_could_not_be_examined_is_still_a_suspect(lab, filled):
    """A shard that does not belong there, found by a scrub; repair does not get to read it."""
    ref = lab.ref(8192)
    await lab.write(ref, 0, 2, b"\x55" * len(await lab.read(ref, 0, 2)))
    bad = Unreadable(lab.device(ref, 2), lab.key(ref, 0, 2), DeviceFailed("no answer in 30 s"))
    lab.maintenance.repairer.damaged(ref, 1 << 2, examine=True)
    await lab.until(lambda: bad.reads and not lab.maintenance.repairer.status().active)
    await asyncio.sleep(0.05)
    bad.well()
    assert ref.blob in lab.repair_rows, "nobody knows of the damage any more"


async def test_a_bad_sector_is_repaired(lab, filled):
    """EIO for one shard, again and again, on a disk that is well otherwise."""
    ref = lab.ref(8192)
    bad = Unreadable(
        lab.device(ref, 2),
        lab.key(ref, 0, 2),
        DeviceFailed("cannot read disk2: Input/output error", errno=5),
    )
    before = lab.maintenance.repairer.repaired_shards
    await lab.check(filled)
    assert (await lab.scrub()).corrupt == 1
    assert bad.reads
    await asyncio.sleep(0.1)
    assert lab.maintenance.repairer.repaired_shards > before


async def test_a_disk_of_bad_sectors_is_not_written_anew(lab, filled, monkeypatch):
    monkeypatch.setattr(scrub_census, "_BAD_SECTORS_MAX", 3)
    store, broken = lab.kit.devices.stores[2], DeviceFailed("Input/output error", errno=5)

    def fail():
        raise broken

    store.plan_read = lambda key, offset=0, length=None: fail
    store.read_now = lambda key, offset=0, length=None: None
    report = await lab.scrub()
    assert report.corrupt > 3
    assert report.unread >= report.blobs - 3
    assert len(lab.repair_rows) <= 3


async def test_a_disk_that_hangs_does_not_keep_garbage_on_the_others(lab, filled, monkeypatch):
    """It answers nothing any more, and is not gone: nobody lets go of it. (Each item has an end of
    its own in repair: 60 s, and at a gateway: 30 s.)"""
    monkeypatch.setattr(answers, "ANSWER_SECONDS", 0.5)
    hung = lab.kit.devices.stores[2]
    asked = []
    hung.submit_delete = lambda names, done: asked.append(names)
    await lab.store.delete_object("bucket", b"100/0")
    await lab.until(lambda: asked)
    await asyncio.sleep(0.3)
    await lab.store.delete_object("bucket", b"100/1")

    async def held():
        stores = [lab.kit.devices.stores[osd] for osd in (0, 1, 3, 4, 5)]
        return sum([len(await store.scan(None, 9999)) for store in stores])

    before = await held()
    await lab.until(lambda: len(asked) > 1)
    assert await held() < before
