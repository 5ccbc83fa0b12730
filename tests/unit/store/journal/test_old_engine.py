"""What was acknowledged with m + 1 copies is there, and an engine that is behind is told so."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from objectio.errors import ConfigError, DeviceFailed
from objectio.meta import keys
from objectio.store.journalformat import CHECKPOINT, COMPLETE


async def test_devices_that_refuse_for_a_while_keep_the_history_that_they_have(
    make_kit, device_full
):
    """Three copies were acknowledged. Two devices take no journal for now; both are well, and are
    read at the end. The third one is lost with the metadata."""
    kit = await make_kit(disks=3, parity=2).start()
    await kit.put((b"key", b"acknowledged with three copies"))
    await kit.until_whole()
    made, rows = await kit.copy("before", lose=("meta", 0)).rebuilt()
    assert rows[b"key"] == b"acknowledged with three copies"
    kit.unruly[1].fails = kit.unruly[2].fails = device_full
    await kit.put((b"other", b"acknowledged with one"))
    await kit.until(lambda: kit.journal._whole)
    assert kit.journal.status().osds == [0]
    await asyncio.sleep(0.3)  # what the checkpoint replaces goes a moment later
    made, rows = await kit.copy("after", lose=("meta", 0)).rebuilt()
    assert rows[b"key"] == b"acknowledged with three copies"


async def test_slow_devices_keep_the_history_that_they_have(make_kit):
    kit = await make_kit(disks=3, parity=2, straggler=0.1).start()
    await kit.put((b"key", b"acknowledged with three copies"))
    await kit.until_whole()
    kit.unruly[1].holding = kit.unruly[2].holding = True
    await kit.put((b"other", b"acknowledged with one"))
    await kit.until(lambda: kit.journal._whole)
    await asyncio.sleep(0.3)  # what the checkpoint replaces goes a moment later
    made, rows = await kit.copy("after", lose=("meta", 0)).rebuilt()
    assert rows[b"key"] == b"acknowledged with three copies"


async def old_engine(kit):
    """Stopped; its engine is that of before the last commits."""
    await kit.put((b"key", b"before"))
    await kit.stop()
    shutil.copytree(kit.where / "meta", kit.where / "backup")
    await kit.start()
    for number in range(10):
        await kit.put((b"key", b"acknowledged %d" % number))
    await kit.stop()
    shutil.rmtree(kit.where / "meta")
    (kit.where / "backup").rename(kit.where / "meta")


async def test_members_that_come_between_open_and_attach_are_looked_at(make_kit):
    kit = await make_kit(disks=6).start()
    await old_engine(kit)
    for osd in (0, 1, 2):
        (kit.where / f"disk{osd}").rename(kit.where / f"away{osd}")
        (kit.where / f"disk{osd}").write_bytes(b"something else")
    await kit.start(attach=False)
    for osd in (0, 1, 2):
        (kit.where / f"disk{osd}").unlink()
        (kit.where / f"away{osd}").rename(kit.where / f"disk{osd}")
    await kit.devices.look()
    try:
        await kit.journal.attach()
    except ConfigError:
        return
    await kit.put((b"new", b"a history of its own"))
    assert not kit.journal.status().osds or kit.kv.get(b"key") == b"acknowledged 9"


async def test_devices_that_cannot_be_looked_at_are_not_empty(make_kit, monkeypatch):
    """The members are up; their indexes do not answer when the journal is opened."""
    kit = await make_kit(disks=6).start()
    await old_engine(kit)
    wrap = kit._wrap

    def bad(osd, store):
        unruly = wrap(osd, store)
        if osd in (0, 1, 2):

            async def scan(after, limit):
                raise DeviceFailed("no answer in 30 seconds")

            unruly.scan = scan
        return unruly

    kit._wrap = bad
    try:
        await kit.start()
    except ConfigError:
        return
    await kit.put((b"new", b"a history of its own"))
    assert not kit.journal.status().osds or kit.kv.get(b"key") == b"acknowledged 9"


async def test_a_batch_that_stands_for_others_is_found_behind_one_of_them(kit, copy_of):
    """A power cut while two batches are on their way: of the first nothing is left, the second is
    whole on one device. Nobody was told of either. The next start journals the present values of both
    as one batch; what comes behind it is acknowledged, and must be there after a rebuild."""
    await kit.put((b"key", b"before"))
    for osd in kit.journal.members:
        kit.unruly[osd].holding = True
    tasks = [kit.begin((b"first", b""))]
    await kit.until(lambda: kit.kv.get(b"first") is not None)
    tasks.append(kit.begin((b"second", b"")))
    await kit.until(lambda: kit.kv.get(b"second") is not None)
    await kit.until(lambda: all(len(kit.unruly[osd]._held) == 2 for osd in (0, 1, 2)))
    kit.unruly[0]._held.reverse()
    kit.unruly[0].let_go(1)
    await asyncio.sleep(0.1)
    after_the_cut = copy_of(kit, "cut")
    for unruly in kit.unruly.values():
        unruly.let_go()
    await asyncio.gather(*tasks)

    await after_the_cut.start()
    assert after_the_cut.rows() == kit.rows()
    await after_the_cut.until_whole()
    for number in range(5):
        await after_the_cut.put((b"key", b"acknowledged %d" % number))
    status = after_the_cut.journal.status()
    assert (len(status.osds), status.waiting, status.reason) == (3, 0, "")
    made, rows = await after_the_cut.copy("bare", lose=("meta",)).rebuilt()
    assert rows == after_the_cut.rows()
    assert not made.lost


async def test_what_comes_back_is_kept_until_there_are_enough_copies(make_kit):
    """Two of three devices were away, and one comes back. Until the next checkpoint is on it what it
    has is the only copy besides the first device's."""
    kit = await make_kit(disks=3, parity=2).start()
    await kit.put((b"key", b"acknowledged with three copies"))
    await kit.until_whole()
    for osd in (1, 2):
        (kit.where / f"disk{osd}").rename(kit.where / f"away{osd}")
        await kit.devices._let_go(kit.devices.slots[osd], "taken out")
    await kit.put((b"other", b"acknowledged with one"))
    await kit.until(lambda: kit.journal._whole)
    wrap = kit._wrap

    def holding(osd, store):
        unruly = wrap(osd, store)
        unruly.holding, unruly.kinds = True, {CHECKPOINT, COMPLETE}
        return unruly

    kit.devices._wrap = holding
    (kit.where / "away1").rename(kit.where / "disk1")
    await kit.devices.look()
    await kit.until(lambda: 1 in kit.journal.members)
    await asyncio.sleep(0.2)
    made, rows = await kit.copy("after", lose=("meta", 0)).rebuilt()
    assert rows[b"key"] == b"acknowledged with three copies"


@pytest.mark.parametrize(
    "then", ["it is told apart", "what it acknowledges is there after a rebuild"]
)
async def test_an_old_engine_is_told_apart_when_nothing_stands_behind_the_checkpoint(
    kit, copy_of, then
):
    """As `test_one_that_is_too_old_is_refused`, but the last thing was a checkpoint."""
    await kit.put((b"key", b"1"))
    await kit.stop()
    shutil.copytree(kit.where / "meta", kit.where / "backup")
    await kit.start()
    for number in range(10):
        await kit.put((b"key", b"%d" % number), (b"object %d" % number, b"acknowledged"))
    await kit.journal._checkpoint()
    copy = copy_of(kit, lose=("meta",))
    (copy.where / "backup").rename(copy.where / "meta")
    try:
        await copy.start()
    except ConfigError:
        return
    if then == "it is told apart":
        assert copy.rows() == kit.rows()
    await copy.put((b"new", b"acknowledged"))
    made, rows = await copy.copy("bare", lose=("meta",)).rebuilt()
    assert rows[b"new"] == b"acknowledged"


async def test_a_disk_as_old_as_the_metadata_that_are_rolled_forward(kit, copy_of):
    await kit.put((b"key", b"1"))
    await kit.stop()
    shutil.copytree(kit.where / "meta", kit.where / "backup")
    shutil.copytree(kit.where / "disk4", kit.where / "disk4.backup")
    for number in range(4):
        await kit.start()
        await kit.put((b"key", b"%d" % number))
        await kit.stop()
    await kit.start()
    copy = copy_of(kit, lose=("meta", 4))
    (copy.where / "backup").rename(copy.where / "meta")
    (copy.where / "disk4.backup").rename(copy.where / "disk4")
    await copy.start()
    assert copy.rows() == kit.rows(), "it was rolled forward"
    assert copy.kv.get(keys.refill(4)) is not None
