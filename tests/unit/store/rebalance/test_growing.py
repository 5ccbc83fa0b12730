"""Disks come, go, and change their weight; work goes on meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.abc.objects import CompletePart, ObjectAttributes
from objectio.errors import InvalidRequest, NotFound
from objectio.model.cluster import Osd, OsdId
from objectio.testing.objects import BytesPayload

GROUPS = 16

# The map.


async def test_the_epoch_ascends_with_each_change_and_only_then(cluster, plain):
    kit = await cluster(plain(*range(6)))
    assert kit.epoch == 1
    await kit.restart()
    assert kit.epoch == 1
    await kit.reconfigure(*plain(*range(7)))
    assert kit.epoch == 2
    await kit.reconfigure(*plain(*range(6)), Osd(id=OsdId(6), weight=2.0))
    assert kit.epoch == 3
    await kit.maintenance.rebalancer.drain(6)
    assert kit.epoch == 4
    await kit.until(kit.out(6))
    assert kit.epoch == 4, "who is out has been so for the map since the drain began"
    await kit.maintenance.rebalancer.undrain(6)
    assert (kit.epoch, kit.membership(6)) == (5, "in")


async def test_a_disk_that_left_the_configuration_is_missed_and_not_forgotten(
    cluster, plain, caplog
):
    kit = await cluster(plain(*range(7)))
    await kit.fill()
    before = kit.pools.current.groups
    await kit.reconfigure(*plain(*range(6)))
    assert "OSD 6 is not in the configuration any more" in caplog.text
    assert kit.pools.current.groups == before
    assert kit.maintenance.rebalancer.absent == [6]
    health = kit.maintenance.health()
    assert health["degraded"]
    assert "6" in health["osds_down"]
    await kit.check_objects()
    await kit.reconfigure(*plain(*range(7)))
    assert not kit.maintenance.health()["degraded"]
    await kit.check_settled()


async def test_a_disk_that_left_for_good_is_removed_and_then_left_out_of_the_map(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill()
    await kit.reconfigure(*plain(*range(6)))
    await kit.maintenance.rebalancer.remove(6)
    await kit.settled()
    assert kit.maintenance.rebalancer.absent == []
    await kit.check_settled()
    assert not kit.maintenance.health()["degraded"]
    await kit.restart()
    assert [osd.id for osd in kit.pools.cluster.osds] == list(range(6))
    assert kit.membership(6) == "out", "its number is never used again by itself"


# Growing and shrinking.


@pytest.mark.parametrize("more", [1, 3])
async def test_new_disks_get_their_share_and_what_was_there_stays_whole(cluster, plain, more):
    kit = await cluster(plain(*range(6)), groups=42)
    await kit.fill()
    before = kit.pools.current.groups
    await kit.reconfigure(*plain(*range(6 + more)))
    moved = sum(
        now != then
        for members, old in zip(kit.pools.current.groups, before, strict=True)
        for now, then in zip(members, old, strict=True)
    )
    ideal = 42 * 6 * more / (6 + more)
    assert ideal - 1 <= moved <= ideal + 1
    assert max(kit.positions().values()) - min(kit.positions().values()) <= 2
    await kit.check_settled()
    status = kit.maintenance.rebalancer.status()
    assert status.moved_shards > 0
    assert (status.groups_moving, status.groups_waiting, status.bytes_left) == (0, 0, 0)


async def test_a_new_host_ends_a_spread_that_was_degraded(cluster, on_hosts):
    kit = await cluster(on_hosts(5, 2), domain="host")
    await kit.fill()
    (sentence,) = kit.maintenance.rebalancer.status().degraded_spread
    assert "6 hosts, there are 5" in sentence
    assert kit.maintenance.health()["degraded"]
    await kit.reconfigure(*on_hosts(6, 2))
    assert kit.maintenance.rebalancer.status().degraded_spread == []
    assert not kit.maintenance.health()["degraded"]
    await kit.check_settled()
    for members in kit.pools.current.groups:
        assert len({osd // 2 for osd in members}) == 6


async def test_six_disks_of_one_host_are_not_degraded_where_disks_are_what_may_fail(cluster, plain):
    kit = await cluster(plain(*range(6)))
    assert kit.maintenance.health()["spread"] == []
    assert not kit.maintenance.health()["degraded"]


async def test_weight_attracts_and_no_weight_repels(cluster, plain):
    kit = await cluster(plain(*range(8)), groups=40)
    await kit.fill()
    heavy = [*plain(*range(7)), Osd(id=OsdId(7), weight=1.0), Osd(id=OsdId(8), weight=0.0)]
    await kit.reconfigure(*heavy)
    assert kit.positions()[8] == 0
    light = [Osd(id=osd.id, weight=(0.0 if osd.id == 3 else 1.0)) for osd in heavy]
    await kit.reconfigure(*light)
    assert kit.positions()[3] == 0
    assert kit.positions()[8] == pytest.approx(30, abs=2)
    await kit.check_settled()


async def test_draining_empties_a_disk_and_then_it_is_out(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill()
    await kit.maintenance.rebalancer.drain(2)
    assert kit.membership(2) == "draining"
    await kit.until(kit.out(2))
    await kit.settled()
    assert (await kit.held())[2] == set()
    await kit.reconfigure(*plain(0, 1, 3, 4, 5, 6))
    assert 2 not in {osd.id for osd in kit.pools.cluster.osds}
    await kit.check_settled()
    await kit.reconfigure(*plain(*range(7)))
    assert kit.positions()[2] == 0, "it stays out until an operator says otherwise"
    await kit.maintenance.rebalancer.undrain(2)
    await kit.settled()
    assert kit.positions()[2] > 0
    await kit.check_settled()


async def test_what_cannot_be_is_refused_in_a_sentence(cluster, plain):
    kit = await cluster(plain(*range(6)))
    rebalancer = kit.maintenance.rebalancer
    with pytest.raises(InvalidRequest, match=r"a stripe has 6 shards.*5 disks would be left"):
        await rebalancer.drain(0)
    with pytest.raises(InvalidRequest, match="in service: drain it instead"):
        await rebalancer.remove(0)
    await kit.lose(0)
    with pytest.raises(InvalidRequest, match="cannot be removed"):
        await rebalancer.remove(0)
    with pytest.raises(NotFound):
        await rebalancer.drain(17)
    assert kit.epoch == 1


async def test_a_dead_disk_is_removed_and_made_anew_elsewhere(cluster, plain):
    kit = await cluster(plain(*range(7)))
    await kit.fill()
    await kit.lose(4)
    await kit.maintenance.rebalancer.remove(4)
    await kit.settled()
    assert kit.positions()[4] == 0
    await kit.check_settled()
    await kit.find(4)  # it was not dead after all: what it has is nobody's any more
    await kit.settled()
    await kit.check_settled()


async def test_two_disks_that_die_at_once_are_removed(cluster, plain):
    kit = await cluster(plain(*range(8)))
    await kit.fill()
    await kit.lose(1, 6)
    await kit.maintenance.rebalancer.remove(1)
    await kit.maintenance.rebalancer.remove(6)
    await kit.settled()
    await kit.check_settled()


async def test_growing_step_by_step_and_shrinking_again_stays_even(cluster, plain):
    kit = await cluster(plain(*range(6)), groups=32)
    await kit.fill(20)
    for count in range(7, 12):
        await kit.reconfigure(*plain(*range(count)))
    for osd in (3, 8):
        await kit.maintenance.rebalancer.drain(osd)
        await kit.until(kit.out(osd))
    await kit.settled()
    counts = kit.positions()
    mean = 32 * 6 / 9
    assert max(counts.values()) <= 1.1 * mean + 1
    assert len(counts) == 9
    await kit.check_settled()


# While it happens.


async def busy(kit, stop, seed):
    """Puts, overwrites, deletes, multipart uploads and reads, until told to stop."""
    source = random.Random(seed)
    while not stop.is_set():
        key = b"busy%d.%d" % (seed, source.randrange(12))
        data = source.randbytes(source.choice((20, 5000, 20_000)))
        match source.randrange(5):
            case 0 if key in kit.model:
                await kit.store.delete_object("bucket", key)
                del kit.model[key]
            case 1:
                upload = await kit.store.create_upload(
                    "bucket", key, ObjectAttributes(), owner="me"
                )
                parts = []
                for number in (1, 2, 3):
                    info = await kit.store.put_part(
                        "bucket", key, upload.upload_id, number, BytesPayload(data)
                    )
                    parts.append(CompletePart(number, info.etag))
                await kit.store.complete_upload("bucket", key, upload.upload_id, parts)
                kit.model[key] = data * 3
            case _:
                await kit.write(key, data)
        probe = source.choice([each for each in kit.model if not each.startswith(b"busy")])
        assert await kit.get(probe) == kit.model[probe]
        await asyncio.sleep(0)


async def test_work_goes_on_while_disks_come_and_go(cluster, plain):
    kit = await cluster(plain(*range(6)))
    await kit.fill()
    await kit.reconfigure(*plain(*range(9)), wait=False)
    stop = asyncio.Event()
    work = [asyncio.create_task(busy(kit, stop, seed)) for seed in range(3)]
    rebalancer = kit.maintenance.rebalancer
    await kit.until(lambda: not rebalancer.backlog)
    await rebalancer.drain(1)
    await kit.until(kit.out(1))
    await rebalancer.drain(5)
    await rebalancer.undrain(1)
    await kit.until(kit.out(5))
    stop.set()
    await asyncio.gather(*work)
    await kit.settled()
    await kit.check_settled()


class SlowPayload(BytesPayload):
    """Half of it comes only when `rest` is set."""

    def __init__(self, data, rest):
        super().__init__(data)
        self._rest = rest
        self.begun = asyncio.Event()

    async def read(self):
        if not self.begun.is_set():
            self.begun.set()
            await self._rest.wait()
        return await super().read()


@pytest.mark.parametrize("ends", ["committed", "cancelled"])
async def test_a_write_that_began_before_its_group_moved(cluster, plain, ends):
    kit = await cluster(plain(*range(7)))
    await kit.fill()
    rest = asyncio.Event()
    payloads = {b"slow%d" % i: SlowPayload(bytes([i]) * 9000, rest) for i in range(2 * GROUPS)}
    writes = [
        asyncio.create_task(kit.put(key, payload=payload)) for key, payload in payloads.items()
    ]
    await asyncio.gather(*(payload.begun.wait() for payload in payloads.values()))
    rebalancer = kit.maintenance.rebalancer
    await rebalancer.drain(3)
    await kit.until(lambda: rebalancer.status().groups_moving)
    await kit.until(
        lambda: (
            rebalancer._moving
            and not rebalancer.waiting()
            and not any(each.pending for each in rebalancer._moving.values())
        )
    )
    assert kit.membership(3) == "draining", "the writes are waited for"
    assert kit.pools.current.moving
    if ends == "committed":
        rest.set()
        await asyncio.gather(*writes)
        kit.model.update({key: bytes([i]) * 9000 for i, key in enumerate(payloads)})
    else:
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
    await kit.until(kit.out(3))
    await kit.settled()
    await kit.check_settled()


async def test_the_map_changes_again_while_groups_move(cluster, plain):
    kit = await cluster(plain(*range(7)), groups=64)
    await kit.fill(60)
    rebalancer = kit.maintenance.rebalancer
    for osd, order in ((0, "drain"), (0, "undrain"), (4, "drain"), (4, "undrain"), (6, "drain")):
        await getattr(rebalancer, order)(osd)
        await kit.until(lambda: rebalancer.status().groups_moving or not rebalancer.backlog)
        await kit.census()
    await kit.until(kit.out(6))
    await kit.settled()
    await kit.check_settled()
