"""Refills that stand still, backlogs that say nothing or never end, reports that get lost."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from objectio.errors import DeviceFull
from objectio.meta import keys
from objectio.store import repair_refill


class Hold:
    def __init__(self, owner, name, *, after=False):
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()
        method = getattr(owner, name)

        async def held(*args, **kwargs):
            if after:
                result = await method(*args, **kwargs)
            self.reached.set()
            await self.let_go.wait()
            return result if after else await method(*args, **kwargs)

        setattr(owner, name, held)


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill(each=3)


async def test_a_wait_for_room_that_ends_while_a_report_is_written_down(lab, filled):
    """Nobody wakes the refill."""
    repairer = lab.maintenance.repairer
    now = 1000.0
    repairer._backoff._clock = lambda: now
    await lab.kit.take_out(1)
    await lab.repaired()
    wrap = lab.kit.devices._wrap

    def full(osd, store):
        unruly = wrap(osd, store)
        unruly.fails = DeviceFull("no room")
        return unruly

    lab.kit.devices._wrap = full
    await lab.kit.replace(1)
    await lab.until(lambda: repairer._backoff.waiting and not repairer._refill.looking)
    report = Hold(repairer, "_write_report")  # a commit that takes a second
    ref = lab.ref(100)
    lab.report(ref, next(at for at, osd in enumerate(lab.members(ref)) if osd != 1))
    await report.reached.wait()
    lab.kit.unruly[1].fails = None  # there is room again
    now += 1.1
    report.let_go.set()
    for _ in range(50):
        await asyncio.sleep(0.05)
        now += 60
        repairer.wake()
    assert repairer.status().refilling == [], "it stands still, minutes later"


async def test_damage_that_is_reported_behind_a_repair_of_the_same_position(lab, filled):
    repairer = lab.maintenance.repairer
    ref = lab.ref(70_000)
    sync = Hold(repairer._mender, "_sync")
    await lab.delete(ref, 8, 2)
    lab.report(ref, 2)
    await sync.reached.wait()  # all stripes were looked at
    lab.flip(ref, 0, 2)  # and now a read finds this
    lab.report(ref, 2)
    await lab.until(lambda: not repairer._reported)
    sync.let_go.set()
    await lab.repaired()
    assert (await lab.scrub()).corrupt == 0, "nobody knew of it before the scrub"


async def test_a_walks_job_that_pushes_another_out_of_the_queue(lab):
    await lab.open()
    await lab.fill(each=8)
    repairer = lab.maintenance.repairer
    watch = lab.watch()
    watch.gate.clear()
    refs = lab.refs
    repairer._queue._limit = 1
    for ref in refs[:16]:
        await lab.lose(ref, 0)
        lab.report(ref, 0)
    await lab.until(lambda: len(repairer._running) == 16)
    await lab.lose(refs[16], 0)
    lab.report(refs[16], 0)
    await lab.until(lambda: len(repairer._queue) == 1)
    answer = repairer._submit(refs[17], 0)
    watch.gate.set()
    await answer
    await lab.repaired()
    assert not lab.repair_rows, "nothing is left to do, it says"


async def test_a_row_is_part_of_the_backlog_before_it_is_looked_at(lab, filled):
    repairer = lab.maintenance.repairer
    await lab.repaired()
    repairer._pass_not_before = (
        repairer._settings.clock() + 5
    )  # the last pass took a quarter second
    ref = lab.ref(5000)
    await lab.kit.take_out(lab.members(ref)[0])
    repairer._pass_not_before = repairer._settings.clock() + 5
    await lab.kit.put(b"late", b"x" * 9000)  # its row is written, and repair is told
    await asyncio.sleep(0.1)
    assert not lab.repair_rows or repairer.backlog


async def test_a_full_disk_does_not_stop_the_refill_of_another(lab, monkeypatch):
    """Where a walk takes longer than the longest wait for room: it begins anew before it is through."""
    monkeypatch.setattr(repair_refill, "_PAGE", 1)
    kit = await lab.open(disks=8)
    await lab.fill(each=9)
    repairer, now = lab.maintenance.repairer, 1000.0
    repairer._backoff._clock = lambda: now
    ascan = kit.kv.ascan

    async def slow(start=b"", stop=b"", **more):  # a page takes a second
        nonlocal now
        if start.startswith(keys.BLOBS) and stop == repair_refill._STOP:
            now += 1.0
            repairer._work.set()
            await asyncio.sleep(0.0005)
        return await ascan(start, stop, **more)

    kit.kv.ascan = slow
    wrap = kit.devices._wrap

    def full(osd, store):
        unruly = wrap(osd, store)
        unruly.fails = DeviceFull("no room") if osd == 1 else None
        return unruly

    await kit.take_out(1)
    await kit.take_out(2)
    kit.devices._wrap = full
    for osd in (1, 2):
        shutil.rmtree(Path(kit.slots[osd].path).with_suffix(".out"))
    await kit.devices.look()
    await lab.until(lambda: repairer.status().refilling == [1], seconds=15)
