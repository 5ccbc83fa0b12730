"""Refilling on real logs: blank disks and old ones, together, interrupted, and with priorities."""

from __future__ import annotations

import asyncio

import pytest

from objectio.errors import DeviceFull
from objectio.meta import keys
from objectio.meta.records import RepairRecord
from objectio.store import repair, repair_refill


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill(each=3)


@pytest.fixture
async def watch(lab, filled):
    return lab.watch()


async def test_a_refill_reads_nothing_from_the_blank_disk(lab, filled, watch):
    await lab.kit.replace(2)
    await lab.repaired()
    assert await lab.has_all(2)
    for ref, _, position in watch.reads:
        assert lab.kit.pools.get(ref.pool).members(ref.blob)[position] != 2
    stripes = sum(-(-len(data) // 8192) for data in filled.values())
    assert len(watch.reads) == 4 * stripes
    assert lab.maintenance.repairer.repaired_shards == stripes
    assert lab.maintenance.repairer.status().refilling == []
    await lab.clean()


async def test_damage_that_is_found_while_a_blob_is_refilled(lab, filled, watch):
    watch.gate.clear()
    await lab.kit.replace(2)
    await lab.until(lambda: len(watch.blobs) == repair._AT_ONCE - 1)
    for ref, _ in watch.blobs:
        lab.report(ref, lab.members(ref).index(2))
    await lab.until(lambda: len(lab.repair_rows) == len(watch.blobs))
    watch.gate.set()
    await lab.clean()


async def test_two_disks_are_refilled_from_one_reading(lab, filled, watch):
    watch.gate.clear()
    await lab.kit.replace(2)
    await lab.kit.replace(5)
    assert lab.maintenance.repairer.status().refilling != []
    watch.gate.set()
    await lab.repaired()
    stripes = sum(-(-len(data) // 8192) for data in filled.values())
    assert lab.maintenance.repairer.repaired_shards == 2 * stripes
    # The few that were under way when the second one went are read twice.
    assert len(watch.reads) <= 4 * (stripes + 9 * repair._AT_ONCE)
    await lab.clean()
    await lab.check(filled)


async def test_least_margin_first_when_a_second_disk_goes(lab, monkeypatch):
    """Eight disks: not every blob has a shard on both."""
    monkeypatch.setattr(repair, "_AT_ONCE", 1)
    await lab.open(disks=8)
    objects = await lab.fill(sizes=(3000,), each=60)
    watch = lab.watch()
    both = {ref.blob for ref in lab.refs if {2, 5} <= set(lab.members(ref))}
    either = {ref.blob for ref in lab.refs if {2, 5} & set(lab.members(ref))}
    assert 5 < len(both) < len(either)
    begun = asyncio.Event()

    async def before(ref):
        if len(watch.blobs) == 5:
            begun.set()
            await changed.wait()

    changed = asyncio.Event()
    watch.before = before
    await lab.kit.replace(2)
    await begun.wait()
    assert watch.margins == [1] * 5
    await lab.kit.replace(5)
    changed.set()
    await lab.repaired()
    after = [ref.blob for ref, _ in watch.blobs[5:]]
    first_other = next(at for at, blob in enumerate(after) if blob not in both)
    assert set(after[:first_other]) == both, "some that had more left came first"
    assert set(watch.margins[5 : 5 + first_other]) == {0}
    assert not lab.maintenance.repairer.urgent
    assert await lab.has_all(2)
    assert await lab.has_all(5)
    # Nothing is written twice: what was refilled before is passed over.
    wanted = sum(len({2, 5} & set(lab.members(ref))) for ref in lab.refs)
    assert lab.maintenance.repairer.repaired_shards == wanted
    await lab.clean()
    await lab.check(objects)


async def test_a_refill_goes_on_after_a_restart(lab, monkeypatch):
    monkeypatch.setattr(repair_refill, "_PAGE", 10)
    await lab.open()
    objects = await lab.fill(sizes=(3000,), each=60)
    watch = lab.watch()
    stuck = asyncio.Event()

    async def before(ref):
        if len(watch.blobs) > 35:
            stuck.set()
            await asyncio.Event().wait()

    watch.before = before
    await lab.kit.replace(1)
    await stuck.wait()
    (row,) = [raw for _, raw in lab.kit.kv.scan_prefix(keys.REFILLS)]
    refs = lab.refs
    assert keys.blob(refs[29].blob) < row <= keys.blob(refs[30].blob)
    done = {ref.blob for ref, _ in watch.blobs}
    await lab.open()
    again = lab.watch()
    await lab.repaired()
    assert not {ref.blob for ref, _ in again.blobs} & {ref.blob for ref in refs[:30]}
    assert done | {ref.blob for ref, _ in again.blobs} >= {ref.blob for ref in refs[30:]}
    assert await lab.has_all(1)
    await lab.clean()
    await lab.check(objects)


async def test_a_second_disk_goes_for_good_in_the_middle(lab, monkeypatch):
    monkeypatch.setattr(repair_refill, "_PAGE", 10)
    await lab.open()
    objects = await lab.fill(sizes=(3000, 20_000), each=20)
    watch = lab.watch()

    async def before(ref):
        if len(watch.blobs) == 12:
            await lab.kit.take_out(4)

    watch.before = before
    await lab.kit.replace(1)
    await lab.until(lambda: 4 not in lab.kit.devices.stores)
    await lab.repaired()
    assert await lab.has_all(1)
    await lab.check(objects)
    report = await lab.scrub()
    assert (report.findings, report.unread) == (0, len(objects))
    await lab.kit.put_back(4)
    await lab.clean()


async def test_an_old_copy_of_a_disk_is_brought_up_to_date(lab, filled, watch):
    """It is not blank: what it has is kept, what it lacks or has of an older generation is made."""
    osd = 4
    late = lab.refs[9:]
    stale = lab.refs[0]
    for ref in late:
        await lab.lose(ref, lab.members(ref).index(osd))
    for position in range(6):
        if position != lab.members(stale).index(osd):
            payload = await lab.read(stale, 0, position)
            await lab.write(stale, 0, position, payload, generation=1)
    await lab.kit.kv.commit([], [(keys.refill(osd), b"opened 5 times before 7")])
    lab.maintenance.repairer.up(osd, blank=False)
    await lab.repaired()
    wanted = sum(-(-ref.size // 8192) for ref in late) + 1
    assert lab.maintenance.repairer.repaired_shards == wanted
    assert len(watch.reads) == 4 * wanted
    await lab.clean()
    await lab.check(filled)


async def test_what_a_walk_cannot_make_gets_a_row_of_its_own(lab, filled):
    ref = lab.ref(20_000)
    at = lab.members(ref).index(3)
    others = [position for position in range(6) if position != at]
    await lab.lose(ref, *others[:2])
    await lab.kit.replace(3)
    await lab.until(lambda: not lab.kit.kv.scan_prefix(keys.REFILLS))
    await lab.until(lambda: lab.repair_rows == {ref.blob: RepairRecord(1 << at)})
    status = lab.maintenance.repairer.status()
    assert (status.refilling, status.blocked) == ([], 1)


async def test_a_full_disk_holds_its_walk_up_and_no_other(lab, filled, watch):
    repairer = lab.maintenance.repairer
    now = 1000.0
    repairer._backoff._clock = lambda: now
    watch.gate.clear()
    await lab.kit.replace(1)
    lab.kit.unruly[1].fails = DeviceFull("no room")
    await lab.kit.replace(2)
    watch.gate.set()
    await lab.until(lambda: repairer.status().refilling == [1])
    assert await lab.has_all(2)
    assert lab.repair_rows == {}, "a row for each blob, though the walk has one"
    lab.kit.unruly[1].fails = None
    now += 1.1
    repairer._work.set()
    await lab.repaired()
    assert await lab.has_all(1)
    await lab.clean()


async def test_the_outlook_of_a_refill(lab, filled, watch):
    watch.gate.clear()
    await lab.kit.replace(2)
    await lab.until(lambda: watch.blobs)
    status = lab.maintenance.repairer.status()
    assert status.waiting == {1: len(filled)}
    stripes = [
        min(8192, len(data) - at) for data in filled.values() for at in range(0, len(data), 8192)
    ]
    assert status.bytes_left == sum(-(-size // 4) for size in stripes)
    assert (status.refilling, status.active) == ([2], True)
    watch.gate.set()
    await lab.repaired()
    status = lab.maintenance.repairer.status()
    assert (status.waiting, status.bytes_left, status.refilling) == ({}, 0, [])
    assert status.repaired_bytes == sum(-(-size // 4) for size in stripes)
    assert status.bytes_per_second > 0
