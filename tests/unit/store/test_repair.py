"""Repair on real logs: what comes first, what is read and written for it, and what interrupts it."""

from __future__ import annotations

import threading

import pytest

from objectio.errors import DeviceFailed, DeviceFull
from objectio.meta import keys
from objectio.meta.records import RepairRecord
from objectio.store import repair


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill(each=3)


@pytest.fixture
async def watch(lab, filled):
    return lab.watch()


# What is read and written.


async def test_one_lost_shard_costs_k_reads_of_each_stripe(lab, filled, watch):
    ref = lab.ref(20_000)
    await lab.lose(ref, 1)
    lab.report(ref, 1)
    await lab.repaired()
    assert len(watch.reads) == 3 * 4
    assert not [read for read in watch.reads if read[2] == 1], "what is not there was read"
    status = lab.maintenance.repairer.status()
    assert status.repaired_shards == 3
    assert status.repaired_bytes == sum(-(-size // 4) for size in (8192, 8192, 3616))
    await lab.clean()


async def test_two_lost_shards_are_made_from_one_reading(lab, filled, watch):
    ref = lab.ref(20_000)
    await lab.lose(ref, 1, 4)
    lab.report(ref, 1)  # the other is noticed on the way
    await lab.repaired()
    assert len(watch.reads) == 3 * 4
    assert lab.maintenance.repairer.repaired_shards == 6
    await lab.clean()


async def test_a_suspect_that_reads_well_is_no_suspect(lab, filled, watch):
    ref = lab.ref(8192)
    lab.report(ref, 2)
    await lab.repaired()
    assert watch.reads == [(ref, 0, 2)]
    assert lab.maintenance.repairer.repaired_shards == 0


async def test_a_source_that_is_damaged_is_repaired_as_well(lab, filled, watch):
    ref = lab.ref(8192)
    await lab.lose(ref, 5)
    lab.flip(ref, 0, 0)
    lab.report(ref, 5)
    await lab.repaired()
    assert lab.maintenance.repairer.repaired_shards == 2
    assert len(watch.reads) == 5
    await lab.clean()


async def test_a_local_group_is_all_that_is_read(lab):
    plugin = pytest.importorskip("objectio_ec_lrc.plugin")
    codecs = plugin.objectio_register_codecs()
    shape = {"k": 6, "m": 4, "disks": 10, "stripe_bytes": 12_288}
    await lab.open(family="lrc-cauchy-0x11d-l2", codecs=codecs, **shape)
    objects = await lab.fill(sizes=(12_288, 30_000), each=1)
    watch = lab.watch()
    ref = lab.ref(30_000)
    await lab.lose(ref, 0)
    lab.report(ref, 0)
    await lab.repaired()
    assert len(watch.reads) == 3 * 3, "Reed-Solomon would read six of each stripe"
    await lab.clean()
    await lab.check(objects)


async def test_a_blob_is_synced_once_and_only_then_forgotten(lab, filled):
    ref = lab.ref(70_000)
    await lab.lose(ref, 1, 3)
    writes, syncs, left = [], [], []
    for position in (1, 3):
        store = lab.device(ref, position)
        submit, submit_sync = store.submit, store.submit_sync
        store.submit = lambda shard, done, submit=submit: (
            writes.append(shard),
            submit(shard, done),
        )

        def sync(done, submit_sync=submit_sync, store=store):
            syncs.append(store)
            left.append(len(lab.repair_rows))
            submit_sync(done)

        store.submit_sync = sync
    lab.report(ref, 1, 3)
    await lab.repaired()
    assert len(writes) == 9 * 2
    assert not any(write.sync for write in writes)
    assert len(syncs) == 2
    assert left == [1, 1], "the row went before the sync"
    assert lab.repair_rows == {}


async def test_what_could_not_be_synced_keeps_its_row(lab, filled):
    ref = lab.ref(20_000)
    await lab.lose(ref, 1, 3)
    store = lab.device(ref, 3)
    store.submit_sync = lambda done: done(DeviceFailed("a cable"))
    lab.report(ref, 1, 3)
    await lab.until(lambda: lab.repair_rows == {ref.blob: RepairRecord(1 << 3)})
    await lab.until(lambda: lab.maintenance.repairer.status().blocked == 1)
    assert lab.maintenance.repairer.status().waiting


async def test_shards_that_do_not_fit_are_repaired_after_a_restart(lab, filled):
    ref = lab.ref(20_000)
    await lab.write(ref, 1, 4, bytes(2048))
    row = keys.repair(ref.blob)
    await lab.kit.kv.commit([], [(row, RepairRecord(1 << 4, examine=True).pack())])
    await lab.open()
    await lab.clean()
    assert lab.maintenance.repairer.repaired_shards == 1
    await lab.check(filled)


# What comes first.


async def test_the_least_margin_first(lab, filled, watch, monkeypatch):
    monkeypatch.setattr(repair, "_AT_ONCE", 1)
    lost = [(ref, (1, 4) if number % 3 == 0 else (2,)) for number, ref in enumerate(lab.refs)]
    for ref, positions in lost:
        await lab.lose(ref, *positions)
    watch.gate.clear()
    for ref, positions in lost:
        lab.report(ref, *positions)
    await lab.until(lambda: len(lab.repair_rows) == 15)
    begun = len(watch.blobs)
    assert begun <= 2
    watch.gate.set()
    await lab.repaired()
    assert len(watch.blobs) == 15
    assert watch.margins[begun:] == sorted(watch.margins[begun:])
    await lab.clean()


async def test_more_rows_than_the_queue_holds(lab, filled, watch, monkeypatch):
    monkeypatch.setattr(repair, "_AT_ONCE", 1)
    lab.maintenance.repairer._queue._limit = 4
    monkeypatch.setattr(repair, "_QUEUE_MAX", 4)
    watch.gate.clear()
    for number, ref in enumerate(lab.refs):
        positions = (1, 4) if number % 3 == 2 else (2,)
        await lab.lose(ref, *positions)
        lab.report(ref, *positions)
    await lab.until(lambda: len(lab.repair_rows) == 15)
    assert sum(lab.maintenance.repairer.status().waiting.values()) == 15
    begun = len(watch.blobs)
    watch.gate.set()
    await lab.repaired()
    assert len(watch.blobs) == 15
    assert watch.margins[begun:] == sorted(watch.margins[begun:])
    await lab.clean()


async def test_a_row_outlives_the_walk_that_has_queued_its_blob(lab, filled, monkeypatch):
    """A walk is given up when a device comes or goes, and then its jobs are dropped."""
    ref, repairer = lab.ref(8192), lab.maintenance.repairer
    await lab.lose(ref, 1)
    monkeypatch.setattr(repair, "_AT_ONCE", 0)
    answer = repairer._submit(ref, 2)
    await lab.kit.kv.commit([], [(keys.repair(ref.blob), RepairRecord(0b10).pack())])
    repairer._look_at_once()
    await lab.until(lambda: not repairer._pass_due and not repairer._looking)
    answer.cancel()
    monkeypatch.setattr(repair, "_AT_ONCE", 16)
    repairer._turn.set()
    await lab.repaired()
    await lab.clean()


async def test_what_has_no_margin_does_not_wait_for_the_rate(lab, filled, watch):
    """A rate of one byte a second: the first blob of each margin spends more than there is."""
    repairer = lab.maintenance.repairer
    repairer._bucket._rate = repairer._bucket._burst = repairer._bucket._tokens = 1
    for ref in lab.refs[:6]:
        await lab.lose(ref, 2)
        lab.report(ref, 2)
    await lab.until(lambda: repairer.repaired_shards)
    await lab.until(lambda: not repairer._running or repairer._bucket.wait_seconds() > 1)
    assert repairer._bucket.wait_seconds() > 1
    urgent = lab.refs[10:13]
    for ref in urgent:
        await lab.lose(ref, 0, 5)
        lab.report(ref, 0, 5)
    await lab.until(lambda: not {ref.blob for ref in urgent} & lab.repair_rows.keys())
    assert len(lab.repair_rows) >= 1, "the others did not wait"
    assert not repairer.urgent
    assert repairer.status().waiting.keys() == {1}


async def test_urgent_while_anything_has_no_margin(lab, filled, watch):
    repairer = lab.maintenance.repairer
    await lab.repaired()
    assert not repairer.urgent
    watch.gate.clear()
    ref = lab.ref(5000)
    await lab.lose(ref, 0, 1)
    lab.report(ref, 0)
    await lab.until(lambda: watch.blobs)
    assert not repairer.urgent  # as far as was reported
    watch.gate.set()
    await lab.repaired()
    watch.gate.clear()
    await lab.lose(ref, 0, 1)
    lab.report(ref, 0, 1)
    await lab.until(lambda: repairer._running)
    assert repairer.urgent
    status = repairer.status()
    assert (status.active, status.waiting) == (True, {0: 1})
    assert status.bytes_left == 2 * 1250
    watch.gate.set()
    await lab.repaired()
    assert not repairer.urgent
    status = repairer.status()
    assert (status.active, status.waiting, status.bytes_left) == (False, {}, 0)
    assert status.seconds_left == 0


# What waits.


async def test_a_blob_waits_for_its_device(lab, filled, watch):
    ref = lab.ref(20_000)
    osd = lab.kit.pools.get(ref.pool).members(ref.blob)[2]
    await lab.lose(ref, 2)
    await lab.kit.take_out(osd)
    lab.report(ref, 2)
    await lab.until(lambda: lab.repair_rows)
    await lab.until(lambda: lab.maintenance.repairer.status().blocked == 1)
    lab.maintenance.repairer.wake()
    await lab.until(lambda: not lab.maintenance.repairer._work.is_set())
    assert watch.blobs == []
    assert lab.maintenance.repairer.status().waiting == {1: 1}
    await lab.kit.put_back(osd)
    await lab.clean()
    assert len(watch.blobs) == 1


async def test_a_blob_that_cannot_be_read_is_not_tried_all_the_time(lab, filled, watch):
    ref = lab.ref(20_000)
    members = lab.kit.pools.get(ref.pool).members(ref.blob)
    await lab.kit.take_out(members[0])
    await lab.lose(ref, 1, 2)
    lab.report(ref, 1, 2)
    await lab.until(lambda: watch.blobs)
    await lab.until(lambda: lab.maintenance.repairer.status().blocked == 1)
    for _ in range(5):
        lab.maintenance.repairer._look_at_once()
        await lab.until(lambda: not lab.maintenance.repairer._pass_due)
    assert len(watch.blobs) == 1
    assert lab.maintenance.repairer.status().waiting == {-1: 1}
    await lab.kit.put_back(members[0])
    await lab.clean()
    await lab.check(filled)


async def test_a_full_disk_is_left_alone_for_longer_and_longer(lab, filled, watch):
    repairer = lab.maintenance.repairer
    now = 1000.0
    repairer._backoff._clock = lambda: now
    osd = 3
    refs = lab.refs
    for ref in refs:
        position = lab.kit.pools.get(ref.pool).members(ref.blob).index(osd)
        await lab.lose(ref, position)
    lab.kit.unruly[osd].fails = DeviceFull("no room")
    for ref in refs:
        lab.report(ref, lab.kit.pools.get(ref.pool).members(ref.blob).index(osd))
    await lab.until(lambda: repairer.status().blocked == len(refs))
    tried = len(watch.blobs)
    assert repairer.status().waiting_for == {osd: "has no room; tried again in 1 s"}
    repairer.wake()
    await lab.until(lambda: not repairer._pass_due)
    assert len(watch.blobs) == tried, "it was tried again at once"
    now += 1.1
    repairer._work.set()
    await lab.until(lambda: len(watch.blobs) > tried)
    await lab.until(lambda: repairer.status().blocked == len(refs))
    assert repairer.status().waiting_for == {osd: "has no room; tried again in 2 s"}
    lab.kit.unruly[osd].fails = None
    now += 2.1
    repairer._work.set()
    await lab.clean()
    assert repairer.status().waiting_for == {}
    await lab.check(filled)


async def test_a_device_that_fails_does_not_take_the_others_with_it(lab, filled):
    ref = lab.ref(70_000)
    members = lab.kit.pools.get(ref.pool).members(ref.blob)
    await lab.lose(ref, 1, 4)
    lab.kit.unruly[members[4]].fails = DeviceFailed("a cable")
    lab.report(ref, 1, 4)
    await lab.until(lambda: lab.repair_rows == {ref.blob: RepairRecord(1 << 4)})
    infos = await lab.device(ref, 1).stat([lab.key(ref, stripe, 1) for stripe in range(9)])
    assert None not in infos
    lab.kit.unruly[members[4]].fails = None
    lab.maintenance.repairer.wake()
    await lab.clean()
    await lab.check(filled)


async def test_a_slow_device_holds_up_nobody_who_reads_from_others(lab, filled):
    """A scrub waits for it, for it reads everything; repair goes on beside it."""
    osd = 0
    lab.store.readers.times.slow.add(osd)
    store, answer, waiting = lab.kit.devices.stores[osd], threading.Event(), threading.Event()
    plan_read = store.plan_read

    def stuck(*args):
        plan = plan_read(*args)

        def read():
            waiting.set()
            assert answer.wait(20)
            return plan()

        return read

    store.plan_read = stuck
    try:
        lab.maintenance.scrubber.start_now()
        await lab.until(waiting.is_set)
        for ref in lab.refs:
            position = next(at for at, each in enumerate(lab.members(ref)) if each != osd)
            await lab.lose(ref, position)
            lab.report(ref, position)
        await lab.repaired()
        assert lab.maintenance.repairer.repaired_shards == sum(
            -(-len(data) // 8192) for data in filled.values()
        )
        assert not lab.maintenance.scrubber.finished
    finally:
        answer.set()
    await lab.until(lambda: lab.maintenance.scrubber.finished)
    await lab.clean()
