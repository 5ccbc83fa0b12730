"""Which devices have the journal, and what happens when they fail, lag, fill up, leave or come back."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite, StoreState
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import decode_osd, encode
from objectio.model.cluster import Osd, OsdId
from objectio.model.stripe import ShardKey, is_reserved, new_blob_id
from objectio.store import journalcheckpoint
from objectio.store.journalformat import CHECKPOINT
from objectio.store.journalmembers import Candidate, choose


async def reserved(kit, osd):
    found, after = [], None
    while page := await kit.devices.stores[osd].scan(after, 1000):
        found += [info.key for info in page if is_reserved(info.key.blob)]
        after = page[-1].key
    return found


async def check_history(kit, name, *lose):
    """What devices have now is what the engine has, also without these."""
    made, rows = await kit.copy(name, lose=("meta", *lose)).rebuilt()
    assert rows == kit.rows()
    assert not made.lost


class TestChoice:
    @staticmethod
    def osds(*places):
        return [
            Candidate(Osd(id=OsdId(number), rack=place[0], host=place))
            for number, place in enumerate(places)
        ]

    def test_hosts_come_before_racks(self):
        candidates = self.osds("a1", "a1", "a2", "b3", "b3")
        assert choose([], candidates, 3) == [0, 3, 2]
        assert choose([], candidates, 9) == [0, 3, 2, 4, 1]
        assert choose([candidates[3].osd], candidates[:3], 2) == [0]
        assert choose([candidates[0].osd], candidates[1:], 1) == []

    def test_the_preferred_come_first_where_it_is_equally_far(self):
        near = self.osds("a1", "a1")
        assert choose([], [near[0]._replace(preferred=(1,)), near[1]], 1) == [1]


class TestFailures:
    @pytest.mark.parametrize("kind", ["device_down", "device_full"])
    async def test_a_member_that_fails_is_replaced(self, kit, request, kind):
        await kit.put((b"before", b"1"))
        kit.unruly[1].fails = request.getfixturevalue(kind)
        await kit.put((b"key", b"2"))
        assert sorted(kit.journal.members) == [0, 2, 3]
        await kit.until_whole()
        await check_history(kit, "copy", 0, 2)  # the new one has everything
        kit.unruly[1].fails = None
        await kit.put((b"key", b"3"))
        assert sorted(kit.journal.members) == [0, 2, 3]
        await kit.until_whole()

    async def test_a_member_that_lags_is_replaced(self, make_kit):
        kit = await make_kit(straggler=0.1).start()
        kit.unruly[0].holding = True
        await kit.put((b"key", b"1"))
        assert sorted(kit.journal.members) == [1, 2, 3]
        await kit.until_whole()
        await check_history(kit, "copy", 1, 2)
        kit.unruly[0].let_go()
        await kit.put((b"key", b"2"))
        assert sorted(kit.journal.members) == [1, 2, 3]

    async def test_a_member_that_hangs_in_a_checkpoint(self, kit, device_down, monkeypatch):
        monkeypatch.setattr(journalcheckpoint, "_ANSWER_SECONDS_MAX", 0.1)
        await kit.put(*((b"%d" % number, b"v" * 5000) for number in range(200)))
        kit.unruly[3].holding, kit.unruly[3].kinds = True, {CHECKPOINT}
        kit.unruly[0].fails = device_down
        await kit.put((b"key", b""))
        await kit.until(lambda: sorted(kit.journal.members) == [1, 2, 4])
        await kit.until_whole()
        kit.unruly[3].let_go()

    async def test_down_and_up_again(self, kit):
        await kit.put((b"key", b"1"))
        slot = kit.devices.slots[0]
        path = kit.where / "disk0"
        path.rename(kit.where / "away")
        await kit.devices._let_go(slot, "taken out")
        await kit.put((b"key", b"2"))
        assert sorted(kit.journal.members) == [1, 2, 3]
        await kit.until_whole()
        (kit.where / "away").rename(path)
        await kit.devices.look()
        assert 0 in kit.devices.stores
        await kit.until(lambda: not kit.journal._arrived)
        assert await reserved(kit, 0) == []  # it was stale
        assert sorted(kit.journal.members) == [1, 2, 3]
        await check_history(kit, "copy", 1, 2)

    async def test_all_fail_and_come_back(self, kit, device_down, caplog):
        await kit.put((b"key", b"1"))
        for unruly in kit.unruly.values():
            unruly.fails = device_down
        await asyncio.wait_for(kit.put((b"key", b"2")), 5)
        status = kit.journal.status()
        assert status.osds == []
        assert status.waiting > 0
        assert "only copy" in status.reason
        assert "only copy" in caplog.text
        await asyncio.wait_for(kit.kv.barrier(), 5)
        for unruly in kit.unruly.values():
            unruly.fails = None
        await kit.until_whole()
        status = kit.journal.status()
        assert (status.reason, status.waiting, len(status.osds)) == ("", 0, 3)
        await check_history(kit, "copy", *status.osds[:2])

    async def test_all_fail_and_then_the_process_ends(self, kit, device_down, copy_of):
        await kit.put((b"key", b"1"))
        for unruly in kit.unruly.values():
            unruly.fails = device_down
        for number in range(10):
            await kit.put((b"key", b"%d" % number), (b"%d" % number, b""))
        copy = await copy_of(kit).start()
        assert copy.rows() == kit.rows()
        await copy.until_whole()
        await check_history(copy, "again", 0, 1)

    async def test_fewer_devices_than_wanted(self, make_kit):
        kit = await make_kit(disks=2).start()
        await kit.put((b"key", b"1"))
        status = kit.journal.status()
        assert (status.copies_wanted, status.osds, status.reason) == (2, [0, 1], "")
        await check_history(kit, "copy", 1)

    async def test_two_of_three_take_it(self, make_kit, device_full):
        """No checkpoint after another is made for what cannot be helped."""
        kit = await make_kit(disks=3).start()
        kit.unruly[1].fails = device_full
        await kit.put((b"key", b"1"))
        await kit.until(lambda: kit.journal._whole)
        first = kit.journal.checkpoint
        for number in range(5):
            await kit.put((b"key", b"%d" % number))
        await asyncio.sleep(0.3)
        assert kit.journal.status().osds == [0, 2]
        assert "2 of 3" in kit.journal.status().reason
        assert kit.journal.checkpoint is first or kit.journal.checkpoint.number < first.number + 30
        await check_history(kit, "copy", 0)
        kit.unruly[1].fails = None
        await kit.until_whole()
        assert kit.journal.status().waiting == 0


async def fill(kit, osd):
    """Until the device takes no more shards."""
    store = kit.devices.stores[osd]
    while True:
        answer = asyncio.get_running_loop().create_future()
        key = ShardKey(new_blob_id(), 0, 0)
        store.submit(
            ShardWrite(key, (bytes(100_000),), ShardCoordinates("rs", 2, 2, 1)), answer.set_result
        )
        if await answer is not None:
            assert store.state is StoreState.FULL
            return


class TestFull:
    async def test_a_full_member_is_relieved(self, make_kit):
        kit = await make_kit(size=24 * MIB).start()
        await kit.put((b"key", b"1"))
        await fill(kit, 0)
        await kit.until(lambda: sorted(kit.journal.members) == [1, 2, 3])
        await kit.until_whole()
        await check_history(kit, "copy", 1, 2)

    async def test_full_devices_still_take_the_journal(self, make_kit):
        kit = await make_kit(disks=3, size=24 * MIB).start()
        for osd in range(3):
            await fill(kit, osd)
        for number in range(50):
            await kit.put((b"%d" % number, b"v" * 1000))
        assert len(kit.journal.status().osds) == 3
        await check_history(kit, "copy", 0, 1)


class TestComing:
    async def test_members_on_their_way_out_are_relieved(self, kit):
        raw = kit.kv.get(keys.osd(1))
        record = decode_osd(raw)
        await kit.put(
            (keys.osd(1), encode(type(record)(record.device_id, record.opens, "draining")))
        )
        await kit.until(lambda: sorted(kit.journal.members) == [0, 2, 3])
        await kit.until_whole()

    async def test_members_stay_over_restarts(self, kit, device_down):
        kit.unruly[0].fails = device_down
        await kit.put((b"key", b"1"))
        await kit.until_whole()
        before = kit.journal.checkpoint
        assert sorted(kit.journal.members) == [1, 2, 3]
        await kit.stop()
        await kit.start()
        assert sorted(kit.journal.members) == [1, 2, 3]
        assert kit.journal.checkpoint == before

    async def test_too_few_are_up_to_know(self, make_kit):
        """The members are all down, and so are too many others: the engine alone, until they come."""
        kit = await make_kit(disks=6).start()
        await kit.put((b"key", b"1"))
        await kit.stop()
        for osd in (0, 1, 2):
            (kit.where / f"disk{osd}").rename(kit.where / f"away{osd}")
            (kit.where / f"disk{osd}").write_bytes(b"something else")
        await kit.start()
        assert kit.journal.status().osds == []
        assert "3 of 6 devices are down" in kit.journal.status().reason
        await asyncio.wait_for(kit.put((b"key", b"2")), 5)
        for osd in (0, 1, 2):
            (kit.where / f"disk{osd}").unlink()
            (kit.where / f"away{osd}").rename(kit.where / f"disk{osd}")
        await kit.devices.look()
        await kit.until_whole()
        await check_history(kit, "copy", 0, 1)

    async def test_a_device_of_a_later_history_is_left_alone(self, kit, make_kit, caplog):
        await kit.put((b"key", b"1"))
        await kit.stop()
        shutil.copytree(kit.where / "disk0", kit.where / "old0")
        shutil.copytree(kit.where / "meta", kit.where / "old")
        await kit.start()
        for number in range(5):
            await kit.put((b"key", b"%d" % number))
        await kit.stop()
        # The engine of before, with only the one device that is as old as it is.
        shutil.rmtree(kit.where / "meta")
        (kit.where / "old").rename(kit.where / "meta")
        for osd in (1, 2):
            (kit.where / f"disk{osd}").rename(kit.where / f"away{osd}")
            (kit.where / f"disk{osd}").write_bytes(b"something else")
        shutil.rmtree(kit.where / "disk0")
        (kit.where / "old0").rename(kit.where / "disk0")
        await kit.start()
        await kit.put((b"other", b"1"))
        for osd in (1, 2):
            (kit.where / f"disk{osd}").unlink()
            (kit.where / f"away{osd}").rename(kit.where / f"disk{osd}")
        await kit.devices.look()
        await kit.until(lambda: not kit.journal._arrived)
        assert "later history" in kit.journal.status().reason
        assert not {1, 2} & set(kit.journal.status().osds)
        assert await reserved(kit, 1)
