"""When callers are told, what the outbox holds meanwhile, and what a crash at each moment leaves."""

from __future__ import annotations

import asyncio

import pytest

from objectio.abc.kv import Absent
from objectio.errors import CommitConflict, LocalProtocolError, Unavailable
from objectio.kv import outbox as outboxes


async def in_engine(kit, key):
    await kit.until(lambda: kit.kv.get(key) is not None)


def hold(kit, *osds):
    for osd in osds or kit.journal.members:
        kit.unruly[osd].holding = True


def let_go(kit):
    for unruly in kit.unruly.values():
        unruly.let_go()


class TestOrder:
    async def test_callers_wait_for_every_member(self, kit):
        assert list(kit.journal.members) == [0, 1, 2]
        for slow in (0, 1, 2):
            hold(kit, slow)
            task = kit.begin((b"key", b"%d" % slow))
            await kit.until(lambda slow=slow: kit.kv.get(b"key") == b"%d" % slow)
            await kit.until(lambda slow=slow: kit.unruly[slow]._held)
            assert not task.done()
            let_go(kit)
            await task

    async def test_commits_are_done_in_order(self, kit):
        hold(kit)
        done = []
        first = kit.begin((b"first", b""))
        first.add_done_callback(lambda _: done.append(1))
        await in_engine(kit, b"first")
        second = kit.begin((b"second", b""))
        second.add_done_callback(lambda _: done.append(2))
        await in_engine(kit, b"second")
        await kit.until(lambda: all(len(kit.unruly[osd]._held) == 2 for osd in (0, 1, 2)))
        for osd in (0, 1, 2):  # the second batch is durable before the first one
            unruly = kit.unruly[osd]
            unruly._held.reverse()
            unruly.let_go(1)
        await kit.until(lambda: not kit.journal._queue[1].waiting)
        await asyncio.sleep(0)
        assert done == []
        let_go(kit)
        await asyncio.gather(first, second)
        assert done == [1, 2]

    async def test_the_engine_is_only_so_far_ahead(self, kit):
        hold(kit)
        tasks = []
        for number in range(5):
            tasks.append(kit.begin((b"%d" % number, b"")))
            if number < 2:
                await in_engine(kit, b"%d" % number)
        await asyncio.sleep(0.02)
        assert kit.kv.get(b"2") is None
        number = kit.kv.outbox.number
        let_go(kit)
        await asyncio.gather(*tasks)
        assert kit.kv.outbox.number == number + 1  # the other three were one batch

    async def test_conflicts_are_told_by_the_engine(self, kit):
        await kit.put((b"key", b""))
        hold(kit)
        with pytest.raises(CommitConflict):
            await kit.kv.commit([Absent(b"key")], [(b"other", b"")])
        let_go(kit)

    async def test_a_commit_without_writes_waits_for_those_before(self, kit):
        hold(kit)
        write = kit.begin((b"key", b""))
        await in_engine(kit, b"key")
        looks = [asyncio.ensure_future(kit.kv.commit([], []))]
        looks.append(asyncio.ensure_future(kit.kv.barrier()))
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in (write, *looks))
        let_go(kit)
        await asyncio.gather(write, *looks)
        await kit.kv.barrier()  # nothing to wait for

    async def test_one_shard_for_each_member_and_batch(self, kit):
        before = [kit.unruly[osd].submitted for osd in range(5)]
        await asyncio.gather(*(kit.put((b"%d" % number, b"x" * 100)) for number in range(50)))
        after = [kit.unruly[osd].submitted for osd in range(5)]
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 0, 0]

    async def test_no_commit_outside_of_the_loop(self, kit):
        with pytest.raises((LocalProtocolError, Unavailable)):
            kit.kv.commit_sync([], [(b"key", b"")])


class TestOutbox:
    async def test_rows_hold_keys_and_go_when_journaled(self, kit):
        for number in range(5):
            await kit.put((b"key%d" % number, b"a value"), (b"gone", None))
        [(row, raw)] = kit.outbox_rows()[-1:]
        assert row == b"j/" + kit.kv.outbox.number.to_bytes(8, "big") + b"\0\0"
        assert b"key4" in raw
        assert b"gone" in raw
        assert b"a value" not in raw
        assert len(kit.outbox_rows()) <= 2
        assert kit.journal.status().waiting == 0

    async def test_many_keys_take_several_rows(self, kit):
        long = [(b"%05d" % number + b"x" * 400, b"") for number in range(3000)]
        await kit.put(*long)
        newest = [row for row, _ in kit.outbox_rows() if row[:10] == kit.outbox_rows()[-1][0][:10]]
        assert len(newest) == 3
        await kit.put((b"key", b""))
        await kit.put((b"key", b""))
        assert len(kit.outbox_rows()) <= 2

    async def test_after_the_journal_commits_are_done_by_the_engine(self, kit):
        await kit.put((b"key", b"1"))
        await kit.journal.stop()
        await asyncio.wait_for(kit.put((b"key", b"2")), 5)
        kit.kv.commit_sync([], [(b"other", b"3")])
        assert len(kit.outbox_rows()) >= 3
        rows = kit.rows()
        await kit.stop()
        await kit.start()
        assert kit.rows() == rows
        copy = kit.copy("copy", lose=("meta",))
        assert (await copy.rebuilt())[1] == rows

    async def test_too_many_rows_ask_for_a_whole_copy(self, make_kit, monkeypatch):
        monkeypatch.setattr(outboxes, "KV_OUTBOX_ROWS_MAX", 5)
        kit = await make_kit().start(attach=False)
        for number in range(10):
            await kit.put((b"%d" % number, b"v"))
        assert len(kit.outbox_rows()) == 6
        before = kit.journal.checkpoint
        await kit.journal.attach()
        assert kit.journal.checkpoint is not before
        await kit.put((b"more", b""))
        await kit.put((b"more", b""))
        assert kit.kv.get(b"j/" + b"\xff" * 8) is None
        copy = kit.copy("copy", lose=("meta",))
        made, rows = await copy.rebuilt()
        assert rows == kit.rows()
        assert not made.lost

    async def test_rows_dropped_while_no_device_takes_them(self, kit, device_down, monkeypatch):
        monkeypatch.setattr(outboxes, "KV_OUTBOX_ROWS_MAX", 5)
        for osd in range(5):
            kit.unruly[osd].fails = device_down
        for number in range(20):
            await kit.put((b"%d" % number, b"v"))
        assert len(kit.outbox_rows()) <= 7
        assert kit.kv.get(b"j/" + b"\xff" * 8) is not None
        assert kit.journal.status().waiting >= 15
        for osd in range(5):
            kit.unruly[osd].fails = None
        await kit.until_whole()
        await kit.put((b"more", b""))
        assert kit.kv.get(b"j/" + b"\xff" * 8) is None
        assert (await kit.copy("copy", lose=("meta", 0, 1)).rebuilt())[1] == kit.rows()


class TestCrashes:
    async def check(self, kit, copy):
        """After a crash, what the engine has is what the journal has."""
        await copy.start()
        assert copy.rows() == kit.rows()
        rows = copy.rows()
        again = copy.copy("again", lose=("meta", 0, 1))
        made, rebuilt = await again.rebuilt()
        assert rebuilt == rows
        assert not made.lost

    async def test_before_any_member_has_it(self, kit, copy_of):
        await kit.put((b"key", b"old"), (b"gone", b""))
        hold(kit)
        task = kit.begin((b"key", b"new"), (b"gone", None))
        await kit.until(lambda: kit.kv.get(b"key") == b"new")
        copy = copy_of(kit)
        made, rows = await kit.copy("bare", lose=("meta",)).rebuilt()
        assert rows[b"key"] == b"old"  # nobody was told
        assert not made.lost
        await self.check(kit, copy)
        let_go(kit)
        await task

    @pytest.mark.parametrize("having", [(0,), (0, 1), (2,)])
    async def test_when_some_members_have_it(self, kit, copy_of, having):
        await kit.put((b"key", b"old"))
        hold(kit, *({0, 1, 2} - set(having)))
        task = kit.begin((b"key", b"new"))
        await kit.until(lambda: kit.journal._queue and kit.journal._queue[0].copies == len(having))
        await self.check(kit, copy_of(kit))
        let_go(kit)
        await task

    async def test_in_the_middle_of_an_entry(self, kit, copy_of):
        """The first of several chunks is there: nobody was told, and the rest is whole."""
        await kit.put((b"key", b"old"))
        hold(kit)
        big = [(b"%d" % number, b"v" * 200_000) for number in range(5)]
        task = kit.begin((b"key", b"new"), *big)
        await kit.until(lambda: all(len(kit.unruly[osd]._held) == 4 for osd in (0, 1, 2)))
        kit.unruly[0].let_go(2)
        kit.unruly[1].let_go(1)
        await kit.until(lambda: [m.outstanding for m in kit.journal.members.values()] == [2, 3, 4])
        made, rows = await kit.copy("bare", lose=("meta",)).rebuilt()
        assert rows[b"key"] == b"old"
        assert not made.lost
        await self.check(kit, copy_of(kit))
        let_go(kit)
        await task

    async def test_several_batches_under_way(self, kit, copy_of):
        hold(kit, 1, 2)
        tasks = [kit.begin((b"a", b"1"), (b"b", b"1"))]
        await in_engine(kit, b"a")
        tasks.append(kit.begin((b"a", b"2"), (b"c", b"2")))
        await in_engine(kit, b"c")
        await kit.until(lambda: len(kit.unruly[1]._held) == 2)
        await self.check(kit, copy_of(kit))
        let_go(kit)
        await asyncio.gather(*tasks)

    async def test_before_the_journal_is_attached(self, make_kit, copy_of):
        kit = await make_kit().start()
        await kit.put((b"key", b"1"))
        await kit.stop()
        await kit.start(attach=False)
        await kit.put((b"key", b"2"))
        await kit.put((b"more", b"3"))
        await self.check(kit, copy_of(kit))

    async def test_again_and_again(self, kit, copy_of):
        """Each start is cut off before the catching up reached any device."""
        hold(kit)
        task = kit.begin((b"key", b"0"))
        await in_engine(kit, b"key")
        last = kit
        for number in range(1, 4):
            copy = copy_of(last, f"copy{number}")
            await copy.start(attach=False)
            for unruly in copy.unruly.values():
                unruly.holding = True
            attaching = asyncio.ensure_future(copy.journal.attach())
            await copy.until(lambda copy=copy: copy.journal._queue)
            if last is not kit:
                last.attaching.cancel()
            copy.attaching, last = attaching, copy
        end = copy_of(last, "end")
        await end.start()
        assert end.rows() == kit.rows()
        assert (await end.copy("bare", lose=("meta", 0, 1)).rebuilt())[1] == kit.rows()
        last.attaching.cancel()
        let_go(kit)
        await task
