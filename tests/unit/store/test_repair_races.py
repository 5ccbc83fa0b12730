"""Disks that go while repair, a refill or a write is in the middle of something: what was found of the
old disk says nothing of the new one."""

from __future__ import annotations

import asyncio

import pytest

from objectio.errors import DeviceFailed
from objectio.meta import keys


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill(each=3)


class Hold:
    """Calls of a method wait, before it or after it, from when they are `reached` until `let_go`."""

    def __init__(self, owner, name, *, after=False):
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self.off = False
        method = getattr(owner, name)

        async def held(*args, **kwargs):
            if after:
                result = await method(*args, **kwargs)
                await self._wait()
                return result
            await self._wait()
            return await method(*args, **kwargs)

        setattr(owner, name, held)

    async def _wait(self):
        self.reached.set()
        if not self.off:
            await self.let_go.wait()


async def replaced(lab, osd):
    """A blank disk, and a walk for it that has asked for what it can."""
    refill = lab.maintenance.repairer._refill
    await lab.kit.replace(osd)
    await lab.until(lambda: osd in refill.osds)
    before = -1
    while before != (before := lab.maintenance.repairer.repaired_shards):
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("who", "method"), [("_mender", "_pace"), ("_mender", "_sync"), ("", "_settle")]
)
async def test_a_disk_that_goes_while_a_blob_is_being_repaired(lab, filled, who, method):
    repairer = lab.maintenance.repairer
    hold = Hold(getattr(repairer, who, repairer), method)
    ref = lab.ref(8192)
    await lab.lose(ref, 0)
    lab.report(ref, 0)
    await hold.reached.wait()
    osd = lab.members(ref)[3]
    await replaced(lab, osd)
    hold.let_go.set()
    await lab.repaired()
    assert await lab.has_all(osd)
    await lab.clean()


async def test_a_repair_promises_nothing_of_a_disk_that_went_meanwhile(lab, filled):
    mender = lab.maintenance.repairer._mender
    hold = Hold(mender, "_pace")
    ref = lab.ref(8192)
    await lab.lose(ref, 0)
    mending = asyncio.ensure_future(mender.mend(ref, 1, examine=False, margin=lambda: 2))
    await hold.reached.wait()
    await lab.kit.take_out(lab.members(ref)[3])
    hold.let_go.set()
    mended = await mending
    assert mended.whole == 0b110111
    assert mended.reason


async def test_what_an_index_does_not_say_is_not_whole(lab, filled):
    """The device fails when it is asked, and is not found to have failed before the repair is done."""
    ref = lab.ref(8192)
    await lab.lose(ref, 2)
    device = lab.device(ref, 2)
    stat, asked = device.stat, []

    async def fail(names):
        asked.append(names)
        raise DeviceFailed("it is gone")

    device.stat = fail
    lab.report(ref, 2)
    await lab.until(lambda: asked and not lab.maintenance.repairer.status().active)
    assert lab.repair_rows[ref.blob].mask == 1 << 2
    device.stat = stat
    lab.maintenance.repairer.wake()
    await lab.until(lambda: not lab.repair_rows)
    await lab.clean()


async def test_what_has_not_moved_yet_is_a_source_where_there_are_too_few(lab):
    """Two shards are lost, and a third one is only where its group comes from."""
    kit = await lab.open(disks=7)
    objects = await lab.fill(each=3)
    rebalancer = lab.maintenance.rebalancer
    copying = Hold(rebalancer._copier, "copy")
    await rebalancer.drain(kit.pools.current.groups[0][0])
    await copying.reached.wait()
    ref = next(ref for ref in lab.refs if kit.pools.get(ref.pool).former(ref.blob))
    pool = kit.pools.get(ref.pool)
    pairs = zip(pool.members(ref.blob), pool.former(ref.blob), strict=True)
    lost = [position for position, (now, then) in enumerate(pairs) if now == then][:2]
    await lab.lose(ref, *lost)
    lab.report(ref, *lost)
    names = [(lab.device(ref, each), lab.key(ref, 0, each)) for each in lost]
    await lab.until(lambda: lab.maintenance.repairer.repaired_shards >= 2)
    assert None not in [(await device.stat([key]))[0] for device, key in names]
    copying.let_go.set()
    await lab.until(lambda: not rebalancer.backlog)
    await lab.clean()
    await lab.check(objects)


async def test_a_write_that_the_old_disk_took_and_that_is_committed_after_the_walk(lab, filled):
    """Its process stood still between the two, say."""
    hold = Hold(lab.store.writer, "write", after=True)
    put = asyncio.ensure_future(lab.kit.put(b"late", b"late" * 1000))
    await hold.reached.wait()
    await replaced(lab, 2)
    assert 2 in lab.maintenance.repairer.status().refilling
    hold.let_go.set()
    await put
    await lab.repaired()
    assert await lab.has_all(2)
    await lab.clean()


async def test_a_walk_that_waits_for_a_write_goes_on_from_there_after_a_restart(lab, filled):
    hold = Hold(lab.store.writer, "write", after=True)
    put = asyncio.ensure_future(lab.kit.put(b"late", b"late" * 1000))
    await hold.reached.wait()
    [blob] = lab.kit.in_use.active
    hold.off = True
    await lab.kit.put(b"later", b"later" * 1000)
    before = max(keys.blob(ref.blob) for ref in lab.refs if ref.blob < blob)
    await replaced(lab, 2)
    [(_, row)] = lab.kit.kv.scan_prefix(keys.REFILLS)
    assert before < row <= keys.blob(blob)
    hold.let_go.set()
    await put
    await lab.repaired()
    await lab.clean()


async def test_a_walk_does_not_wait_for_a_write_that_began_after_it(lab, filled):
    await replaced(lab, 2)
    await lab.repaired()
    walk = Hold(lab.maintenance.repairer._refill, "_advance")
    await lab.kit.replace(3)
    await walk.reached.wait()
    write = Hold(lab.store.writer, "write", after=True)
    put = asyncio.ensure_future(lab.kit.put(b"late", b"late" * 1000))
    await write.reached.wait()
    walk.let_go.set()
    await lab.repaired()
    write.let_go.set()
    await put
    await lab.clean()
