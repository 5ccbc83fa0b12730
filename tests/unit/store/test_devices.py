"""Devices: one in place of another at an operator's word, and old copies of one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from objectio.errors import InvalidRequest, NotFound
from objectio.meta import keys
from objectio.meta.records import OsdRecord, decode_osd, encode

DATA = bytes(range(256)) * 100


@pytest.fixture
async def cautious(make_kit):
    """Blank devices are not taken into service by themselves."""
    kit = await make_kit()
    await kit.put(b"key", DATA)
    for slot in kit.slots:
        slot.replace_blank = False
    return kit


def record_of(kit, osd):
    return decode_osd(kit.rows()[keys.osd(osd)])


def old_copies(kit):
    heard = []
    kit.devices.listen_for_old_copies(lambda *words: heard.append(words))
    return heard


async def take_away(kit, osd):
    await kit.take_out(osd)
    shutil.rmtree(Path(kit.slots[osd].path).with_suffix(".out"))


async def test_a_blank_device_waits_for_the_operator(cautious):
    await take_away(cautious, 2)
    Path(cautious.slots[2].path).mkdir()
    await cautious.devices.look()
    assert 2 not in cautious.devices.stores
    assert "objectio disk replace 2" in cautious.slots[2].reason
    before = record_of(cautious, 2)
    await cautious.devices.replace(2)
    after = record_of(cautious, 2)
    assert after.device_id == cautious.devices.stores[2].device_id != before.device_id
    assert cautious.slots[2].reason == ""
    await cautious.refilled()
    assert len(cautious.shards()[2]) == len(cautious.shards()[3])
    assert await cautious.get(b"key") == DATA


async def test_a_replaced_device_keeps_its_membership(cautious):
    before = record_of(cautious, 2)
    drained = OsdRecord(before.device_id, before.opens, "draining")
    await cautious.kv.commit([], [(keys.osd(2), encode(drained))])
    await take_away(cautious, 2)
    Path(cautious.slots[2].path).mkdir()
    await cautious.devices.replace(2)
    assert record_of(cautious, 2).membership == "draining"


async def test_a_healthy_device_is_not_replaced(cautious):
    store = cautious.devices.stores[2]
    with pytest.raises(InvalidRequest, match="is in service"):
        await cautious.devices.replace(2)
    assert cautious.devices.stores[2] is store


async def test_a_device_that_came_back_is_not_replaced(cautious):
    held = cautious.shards()[2]
    await cautious.take_out(2)
    path = Path(cautious.slots[2].path)
    path.with_suffix(".out").rename(path)
    with pytest.raises(InvalidRequest, match="is in service"):
        await cautious.devices.replace(2)
    assert cautious.shards()[2] == held


async def test_a_device_with_anything_on_it_is_not_taken(cautious):
    await take_away(cautious, 2)
    path = Path(cautious.slots[2].path)
    path.mkdir()
    (path / "precious").write_text("mine")
    with pytest.raises(InvalidRequest, match="was not replaced"):
        await cautious.devices.replace(2)
    assert [each.name for each in path.iterdir()] == ["precious"]
    assert 2 not in cautious.devices.stores


async def test_another_osds_device_is_not_taken(cautious):
    await take_away(cautious, 2)
    await cautious.take_out(3)
    path = Path(cautious.slots[3].path)
    path.with_suffix(".out").rename(cautious.slots[2].path)
    held = cautious.factory._find(cautious.slots[2].path).shards
    with pytest.raises(InvalidRequest, match="Were disks swapped"):
        await cautious.devices.replace(2)
    assert cautious.factory._find(cautious.slots[2].path).shards == held


async def test_nothing_at_the_path_is_no_blank_device(cautious):
    await take_away(cautious, 2)
    with pytest.raises(InvalidRequest, match="there is nothing at"):
        await cautious.devices.replace(2)
    assert not Path(cautious.slots[2].path).exists()


async def test_a_device_that_was_prepared_by_hand_is_taken(cautious):
    await take_away(cautious, 2)
    path = cautious.slots[2].path
    prepared = cautious.factory.prepare(path, cluster_id=cautious.devices._cluster_id)
    await cautious.devices.look()
    assert 2 not in cautious.devices.stores
    await cautious.devices.replace(2)
    assert record_of(cautious, 2).device_id == prepared
    await cautious.refilled()
    assert await cautious.get(b"key") == DATA


async def test_replacing_at_once_by_many_replaces_once(cautious):
    await take_away(cautious, 2)
    Path(cautious.slots[2].path).mkdir()
    answers = await asyncio.gather(
        *(cautious.devices.replace(2) for _ in range(4)),
        cautious.devices.look(),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None)] + [InvalidRequest] * 3 + [
        type(None)
    ]
    assert record_of(cautious, 2).device_id == cautious.devices.stores[2].device_id


async def test_no_such_osd(cautious):
    with pytest.raises(NotFound) as caught:
        await cautious.devices.replace(77)
    assert caught.value.fields["kind"] == "osd"


# Old copies.


async def test_each_opening_is_counted_and_raises_no_alarm(kit):
    heard = old_copies(kit)
    for _ in range(3):
        before = record_of(kit, 1).opens
        await kit.take_out(1)
        await kit.put_back(1)
        assert record_of(kit, 1).opens == before + 1 == kit.devices.stores[1].opens
    assert heard == []
    assert keys.refill(1) not in kit.rows()


async def test_a_crash_before_the_count_is_remembered_raises_no_alarm(kit):
    heard = old_copies(kit)
    await kit.take_out(1)
    path = Path(kit.slots[1].path)
    path.with_suffix(".out").rename(path)
    store = await kit.factory.open(str(path), cluster_id=kit.devices._cluster_id)
    await store.close()  # opened and counted, by a process that died then
    await kit.devices.look()
    assert kit.devices.stores[1].opens == record_of(kit, 1).opens
    assert heard == []


async def test_an_old_copy_is_found_and_filled_up(kit, caplog):
    heard = old_copies(kit)
    await kit.put(b"before", DATA)
    device = kit.factory._find(kit.slots[1].path)
    image = dict(device.shards), device.opens
    await kit.take_out(1)
    await kit.put_back(1)
    await kit.put(b"after", DATA)
    await kit.refilled()
    whole = set(device.shards)
    await kit.take_out(1)
    device.shards.clear()
    device.shards.update(image[0])
    device.opens = image[1]
    await kit.put_back(1)
    expected = image[1] + 2
    assert heard == [(1, image[1] + 1, expected)]
    assert f"opened {image[1] + 1} times, which should be {expected}" in caplog.text
    await kit.refilled()
    assert set(device.shards) == whole
    assert await kit.get(b"after") == DATA
    assert record_of(kit, 1).opens == expected
    await kit.take_out(1)  # and now it is no old copy any more
    await kit.put_back(1)
    assert len(heard) == 1
