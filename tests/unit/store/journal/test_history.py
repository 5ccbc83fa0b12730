"""Checkpoints, and what is made of the journal afterwards: rebuilding, damage, gaps, old engines."""

from __future__ import annotations

import asyncio
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.errors import ConfigError, NotFound
from objectio.limits import KIB
from objectio.meta import keys
from objectio.meta.records import decode_journal
from objectio.store import journal as journals
from objectio.store.journalformat import CHECKPOINT, COMPLETE, ENTRY, Name


async def delete(kit, osds, *names):
    """Take shards of the journal off the devices of a kit that does not run."""
    stores = await kit.stores()
    for osd in osds:
        for name, chunk in names:
            answer = asyncio.get_running_loop().create_future()
            stores[osd].submit_delete([name.key(chunk)], answer.set_result)
            assert await answer is None
    for store in stores.values():
        await store.close()


def damage(kit, osds, needle):
    """Flip a bit behind the needle, wherever a device has it."""
    for osd in osds:
        path = kit.where / f"disk{osd}" / "log"
        raw = bytearray(path.read_bytes())
        at = raw.find(needle)
        assert at >= 0
        while at >= 0:
            raw[at + len(needle) // 2] ^= 1
            at = raw.find(needle, at + 1)
        path.write_bytes(raw)


class TestCheckpoints:
    async def test_the_journal_ends_where_a_checkpoint_begins(self, kit, monkeypatch):
        monkeypatch.setattr(journals, "CHECKPOINT_BYTES_MIN", 100 * KIB)
        kit.journal._set_limit()
        first = kit.journal.checkpoint
        for number in range(60):
            await kit.put((b"%d" % (number % 7), b"v" * 5000))
        await kit.until(lambda: kit.journal.checkpoint.number > first.number)
        await kit.until(lambda: not kit.journal._due)
        async with asyncio.timeout(20):  # what it replaces goes a moment later
            while True:
                page = await kit.devices.stores[0].scan(None, 1000)
                names = [Name.of(info.key) for info in page]
                number = kit.journal.checkpoint.number
                if all(name.number >= number for name in names):
                    break
        assert {name.number for name in names if name.kind != ENTRY} == {number}
        assert all(name.number > number for name in names if name.kind == ENTRY)
        assert (await kit.copy("copy", lose=("meta", 0, 1)).rebuilt())[1] == kit.rows()

    @pytest.mark.parametrize(
        "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
    )
    async def test_fuzzy(self, kit, seed):
        await fuzzy(kit, random.Random(seed), 150)
        assert (await kit.copy("copy", lose=("meta", 0, 1)).rebuilt())[1] == kit.rows()

    async def test_large_rows(self, kit):
        await kit.put((b"large", b"v" * (1 << 20)), (b"small", b""))
        await kit.put((b"other", b"w" * (1 << 20)))
        await kit.journal._checkpoint()
        assert kit.journal.checkpoint.chunks >= 8
        copy = kit.copy("copy", lose=("meta", 0, 1))
        made, rows = await copy.rebuilt()
        assert rows == kit.rows()
        assert made.rows == kit.journal.checkpoint.rows

    async def test_one_that_was_not_finished_does_not_count(self, kit):
        await kit.put(*((b"%d" % number, b"v" * 4000) for number in range(300)))
        good = kit.journal.checkpoint.number
        for osd in kit.journal.members:
            kit.unruly[osd].holding = True
        attempt = asyncio.ensure_future(kit.journal._checkpoint())
        await kit.until(lambda: kit.unruly[0]._held)
        for osd in kit.journal.members:
            kit.unruly[osd].let_go(1)  # the batch that gives it a number
        await kit.until(lambda: len(kit.unruly[0]._held) >= 3)
        for osd in kit.journal.members:
            kit.unruly[osd].let_go(2)
        await kit.until(lambda: len(kit.unruly[0]._held) >= 2)
        made, rows = await kit.copy("copy", lose=("meta",)).rebuilt()
        assert made.checkpoint.number == good
        assert rows == kit.rows()
        for osd in kit.journal.members:
            kit.unruly[osd].let_go()
        await attempt
        made, rows = await kit.copy("later", lose=("meta",)).rebuilt()
        assert made.checkpoint.number > good
        assert rows == kit.rows()


async def fuzzy(kit, source, commits):
    """Commits all the while a checkpoint is written, of keys all over the place."""
    names = [b"%05d" % number for number in range(3000)]
    for at in range(0, 3000, 500):
        await kit.put(*((name, b"v%d" % at * 30) for name in names[at : at + 500]))
    checkpoint = asyncio.ensure_future(kit.journal._checkpoint())
    count = 0
    while count < commits or not checkpoint.done():
        count += 1
        chosen = source.sample(names, 4)
        await kit.put(
            *((name, source.choice([None, b"%d" % count, b"w" * 2000])) for name in chosen)
        )
        if source.random() < 0.3:
            await asyncio.sleep(0)
    await checkpoint


lives = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "checkpoint", "restart", "crash", "fail", "heal"]),
        st.integers(0, 4),
        st.integers(0, 200_000),
    ),
    max_size=12,
)
quickly = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(steps=lives)
@quickly
def test_any_life(tmp_path_factory, kit_class, device_down, steps):
    """Whatever happens: what the devices have is what the engine has, without any two of them."""
    asyncio.run(live(kit_class(tmp_path_factory.mktemp("life") / "kit"), device_down, steps))


@pytest.mark.slow
@given(steps=lives)
@settings(quickly, max_examples=120)
def test_many_lives(tmp_path_factory, kit_class, device_down, steps):
    asyncio.run(live(kit_class(tmp_path_factory.mktemp("life") / "kit"), device_down, steps))


async def live(kit, device_down, steps):
    kit.where.mkdir(exist_ok=True)
    await kit.start()
    copies = 0
    try:
        for what, number, size in steps:
            match what:
                case "put":
                    writes = [(b"%d" % key, b"%d" % size * (size // 50)) for key in range(number)]
                    tasks = [kit.begin(*writes), kit.begin((b"gone%d" % number, None))]
                    await asyncio.gather(*tasks)
                case "checkpoint":
                    await kit.journal._try_checkpoint()
                case "restart":
                    await kit.stop()
                    await kit.start()
                case "crash":
                    copies += 1
                    task = kit.begin((b"crash", b"%d" % copies))
                    for _ in range(number):
                        await asyncio.sleep(0.001)
                    other = kit.copy(f"crash{copies}")
                    await task
                    await kit.stop()
                    kit = other
                    await kit.start()
                case "fail":
                    if sum(unruly.fails is not None for unruly in kit.unruly.values()) < 2:
                        kit.unruly[number].fails = device_down
                case "heal":
                    kit.unruly[number].fails = None
        await kit.put((b"end", b""))
        await kit.until_whole()
        lost = sorted(kit.journal.members)[:2]
        made, rows = await kit.copy("bare", lose=("meta", *lost)).rebuilt()
        assert rows == kit.rows()
        assert not made.lost
    finally:
        await kit.stop()


class TestDamage:
    async def test_copies_that_are_damaged(self, kit):
        for number in range(5):
            await kit.put((b"key%d" % number, b"precious %d" % number * 20))
        await kit.journal._checkpoint()
        await kit.put((b"late", b"precious late" * 20))
        rows = kit.rows()
        await kit.stop()
        damage(kit, [0], b"precious 3" * 20)  # in the checkpoint
        damage(kit, [1], b"precious late" * 20)  # in an entry
        made, rebuilt = await kit.copy("copy", lose=("meta",)).rebuilt()
        assert rebuilt == rows
        assert made.damaged_copies == 1 or made.damaged_copies == 2
        assert not made.lost

    async def test_a_checkpoint_that_no_device_can_read(self, kit):
        await kit.put((b"key", b"precious" * 20))
        await kit.journal._checkpoint()
        await kit.stop()
        damage(kit, [0, 1, 2], b"precious" * 20)
        with pytest.raises(NotFound, match="no complete checkpoint"):
            await kit.copy("copy", lose=("meta",)).rebuilt()

    async def test_chunks_from_different_devices(self, kit):
        big = [(b"%d" % number, bytes([number]) * 200_000) for number in range(5)]
        await kit.put(*big)
        number = kit.kv.outbox.number
        rows = kit.rows()
        await kit.stop()
        name = Name(ENTRY, 1, number)
        await delete(kit, [0], (name, 0), (name, 2))
        await delete(kit, [1], (name, 1), (name, 3))
        await delete(kit, [2], (name, 1), (name, 0))
        made, rebuilt = await kit.copy("copy", lose=("meta",)).rebuilt()
        assert rebuilt == rows
        assert not made.lost

    async def test_a_gap_is_told(self, kit):
        for number in range(6):
            await kit.put((b"key%d" % number, b""))
        last = kit.kv.outbox.number
        await kit.stop()
        await delete(kit, [0, 1, 2], (Name(ENTRY, 1, last - 2), 0))
        made, rows = await kit.copy("copy", lose=("meta",)).rebuilt()
        assert made.lost == 2
        assert b"key2" in rows
        assert b"key4" not in rows
        assert "2 batches behind it" in made.problems[0]

    async def test_nothing_at_all(self, make_kit):
        kit = await make_kit(journaled=False).start()
        await kit.put((b"key", b""))
        await kit.stop()
        with pytest.raises(NotFound):
            await kit.copy("copy", lose=("meta",)).rebuilt()


def lineage(kit):
    return decode_journal(kit.kv.get(keys.JOURNAL)).lineage


class TestLineages:
    async def test_a_rebuild_begins_a_new_one(self, kit, copy_of):
        await kit.put((b"key", b"1"))
        rows = kit.rows()
        copy = copy_of(kit, lose=("meta", 0, 1))
        made, rebuilt = await copy.rebuilt(install=True)
        assert (made.lineage, rebuilt) == (2, rows)
        await copy.start()
        assert lineage(copy) == 2
        assert copy.rows() == rows
        assert copy.kv.outbox.number > kit.kv.outbox.number + 900_000
        assert copy.journal.checkpoint.lineage == 2
        await copy.put((b"key", b"2"))
        await copy.until_whole()
        shards = [info.key for info in await copy.devices.stores[2].scan(None, 1000)]
        assert {Name.of(key).lineage for key in shards} == {2}
        again = copy.copy("again", lose=("meta", 2, 3))
        assert (await again.rebuilt())[1] == copy.rows()

    async def test_an_engine_from_before_a_rebuild_is_refused(self, kit, copy_of):
        copy = copy_of(kit)
        (copy.where / "meta").rename(copy.where / "old")
        await copy.rebuilt(install=True)
        await copy.start()
        await copy.stop()
        shutil.rmtree(copy.where / "meta")
        (copy.where / "old").rename(copy.where / "meta")
        with pytest.raises(ConfigError, match="rebuilt from the disks"):
            await copy.start()

    async def test_batches_that_went_by_the_journal(self, kit):
        await kit.put((b"key", b"1"))
        await kit.stop()
        kit.journaled = False
        await kit.start()
        assert not kit.journal.status().enabled
        await kit.put((b"key", b"2"))
        await kit.stop()
        kit.journaled = True
        await kit.start()
        assert lineage(kit) == 2
        assert (await kit.copy("copy", lose=("meta", 0, 1)).rebuilt())[1] == kit.rows()
        await kit.stop()
        await kit.start()
        assert lineage(kit) == 2

    async def test_an_engine_that_knows_of_no_journal_is_refused(self, kit, copy_of):
        copy = copy_of(kit)
        kv = copy.open_kv()
        kv.commit_sync([], [(keys.JOURNAL, None), *((row, None) for row, _ in kit.outbox_rows())])
        kv.close_sync()
        with pytest.raises(ConfigError, match="meta rebuild"):
            await copy.start()


class TestOldEngines:
    async def test_it_is_rolled_forward(self, kit, copy_of):
        await kit.put((b"key", b"1"))
        await kit.stop()
        shutil.copytree(kit.where / "meta", kit.where / "backup")
        await kit.start()
        for number in range(10):
            await kit.put(
                (b"key", b"%d" % number), (b"%d" % number, b""), (b"%d" % (number - 3), None)
            )
        copy = copy_of(kit, lose=("meta",))
        (copy.where / "backup").rename(copy.where / "meta")
        await copy.start()
        assert copy.rows() == kit.rows()
        assert copy.kv.outbox.number > kit.kv.outbox.number
        await copy.put((b"more", b""))
        await copy.until_whole()
        bare = copy.copy("bare", lose=("meta", 0, 1))
        assert (await bare.rebuilt())[1] == copy.rows()

    async def test_with_a_disk_that_was_replaced_since(self, kit, copy_of):
        await kit.stop()
        shutil.copytree(kit.where / "meta", kit.where / "backup")
        shutil.rmtree(kit.where / "disk4")
        await kit.start()
        device = kit.devices.stores[4].device_id
        await kit.put((b"key", b"1"))
        copy = copy_of(kit, lose=("meta", 3))  # and one is lost right now
        (copy.where / "backup").rename(copy.where / "meta")
        await copy.start()
        assert copy.rows() == kit.rows()
        await copy.devices.look()
        assert copy.devices.stores[4].device_id == device
        fresh = copy.devices.stores[3].device_id
        await copy.stop()
        await copy.start()
        assert copy.devices.stores[3].device_id == fresh
        assert copy.kv.get(keys.refill(3)) is not None

    async def test_one_that_is_too_old_is_refused(self, kit, copy_of):
        await kit.put((b"key", b"1"))
        await kit.stop()
        shutil.copytree(kit.where / "meta", kit.where / "backup")
        await kit.start()
        await kit.put((b"key", b"2"))
        await kit.journal._checkpoint()  # what the backup lacks is in no entry now
        await kit.put((b"key", b"3"))
        copy = copy_of(kit, lose=("meta",))
        (copy.where / "backup").rename(copy.where / "meta")
        with pytest.raises(ConfigError, match="objectio meta rebuild"):
            await copy.start()

    async def test_the_remains_of_a_last_batch(self, kit, copy_of):
        """A lost engine's last batch was never whole: it does not count, nor does its number."""
        await kit.stop()
        shutil.copytree(kit.where / "meta", kit.where / "backup")
        await kit.start()
        await kit.put((b"key", b"1"))
        rows = kit.rows()
        await kit.put(*((b"%d" % number, b"v" * 200_000) for number in range(5)))
        last = kit.kv.outbox.number
        copy = copy_of(kit, lose=("meta",))
        (copy.where / "backup").rename(copy.where / "meta")
        name = Name(ENTRY, 1, last)
        await delete(copy, [0, 1, 2], (name, 1), (name, 2))
        await copy.start()
        assert copy.rows() == rows
        assert copy.kv.outbox.number > last
        assert (await copy.copy("bare", lose=("meta", 0, 1)).rebuilt())[1] == rows


def test_kinds_are_apart():
    names = [Name(kind, 3, 9) for kind in (ENTRY, CHECKPOINT, COMPLETE)]
    assert [Name.of(name.key(7)) for name in names] == names
    assert sorted(name.key() for name in names) == [name.key() for name in names]
