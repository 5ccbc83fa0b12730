"""The census: each kind of damage, made on purpose on real logs, is found, counted and made good."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

import pytest

from objectio.meta import keys
from objectio.meta.records import ScrubRecord, decode_scrub, encode
from objectio.model.stripe import RESERVED_PREFIX, BlobId, ShardKey
from objectio.store import scrub

KINDS = ("missing", "corrupt", "stale", "misplaced", "orphaned", "inconsistent", "unrepairable")


def findings(report):
    return {kind: getattr(report, kind) for kind in KINDS if getattr(report, kind)}


@pytest.fixture
async def filled(lab):
    await lab.open()
    return await lab.fill()


async def test_a_healthy_store(lab, filled):
    report = await lab.scrub()
    assert findings(report) == {}
    assert report.healthy == report.blobs == len(filled)
    assert report.unread == 0
    stripes = sum(-(-len(data) // 8192) for data in filled.values())
    assert report.shards == stripes * 6
    stored = sum(ref.size for ref in lab.refs) * 6 / 4
    assert stored <= report.bytes <= stored + stripes * 6 * 4
    assert report.begun_ms <= report.finished_ms
    status = lab.maintenance.scrubber.status()
    assert (status.running, status.current, status.last) == (False, None, report)


async def test_missing_shards(lab, filled):
    ref = lab.ref(20_000)
    for stripe, position in ((0, 1), (0, 5), (2, 3)):
        await lab.delete(ref, stripe, position)
    report = await lab.scrub()
    assert findings(report) == {"missing": 3}
    assert (report.blobs, report.healthy) == (len(filled), len(filled) - 1)
    await lab.clean()
    await lab.check(filled)


async def test_corrupt_shards(lab, filled):
    small, large = lab.ref(100), lab.ref(70_000)
    lab.flip(small, 0, 0)
    lab.flip(small, 0, 4)
    lab.flip(large, 7, 5)  # parity, which no client reads
    report = await lab.scrub()
    assert findings(report) == {"corrupt": 3}
    await lab.clean()
    await lab.check(filled)


async def test_a_shard_of_a_wrong_length_is_corrupt(lab, filled):
    ref = lab.ref(5000)
    await lab.write(ref, 0, 2, b"short")
    assert findings(await lab.scrub()) == {"corrupt": 1}
    await lab.clean()
    await lab.check(filled)


async def test_the_newest_generation_with_enough_shards_is_right(lab, filled):
    ref, other = lab.ref(8192), lab.ref(5000)
    for position in range(6):
        if position != 2:
            payload = await lab.read(ref, 0, position)
            await lab.write(ref, 0, position, payload, generation=1)
    for position in (0, 4):  # a newer one that was never finished
        await lab.write(other, 0, position, bytes(1250), generation=7)
    report = await lab.scrub()
    assert findings(report) == {"stale": 3}
    await lab.clean()
    await lab.check(filled)
    infos = [
        (await lab.device(ref, position).stat([lab.key(ref, 0, position)]))[0]
        for position in range(6)
    ]
    assert {info.generation for info in infos} == {1}


async def test_a_generation_that_may_be_on_a_device_which_is_down_is_no_guess(lab, filled):
    """Three new shards, two old ones, one device away: the new may be what was acknowledged."""
    ref = lab.ref(8192)
    members = lab.kit.pools.get(ref.pool).members(ref.blob)
    for position in range(3):
        payload = await lab.read(ref, 0, position)
        await lab.write(ref, 0, position, payload, generation=1)
    await lab.kit.take_out(members[5])
    report = await lab.scrub()
    assert (bool(report.unread), report.stale) == (True, 0)
    infos = await lab.device(ref, 3).stat([lab.key(ref, 0, 3)])
    assert infos[0].generation == 0, "it was repaired on a guess"


async def test_a_wrong_shard_among_intact_ones_is_found_and_repaired(lab, filled):
    """Every device swears to what it has."""
    for turn, size in enumerate((100, 5000, 70_000)):
        ref = lab.ref(size)
        stripe, position = (3, 4) if size == 70_000 else (0, turn)
        length = len(await lab.read(ref, stripe, position))
        await lab.write(ref, stripe, position, bytes(length))
    report = await lab.scrub()
    assert findings(report) == {"inconsistent": 3}
    await lab.clean()
    await lab.check(filled)


async def test_two_swapped_payloads_of_a_stripe_are_reported_and_left_alone(lab, filled):
    """With two parities one wrong shard can be told, not two."""
    ref = lab.ref(5000)
    first, second = await lab.read(ref, 0, 0), await lab.read(ref, 0, 3)
    await lab.write(ref, 0, 0, second)
    await lab.write(ref, 0, 3, first)
    report = await lab.scrub()
    assert findings(report) == {"inconsistent": 1, "unrepairable": 1}
    await lab.repaired()
    assert (await lab.read(ref, 0, 0), await lab.read(ref, 0, 3)) == (second, first)
    assert findings(await lab.scrub()) == {"inconsistent": 1, "unrepairable": 1}


async def test_payloads_swapped_between_blobs_are_put_right(lab, filled):
    one, two = (ref for ref in lab.refs if ref.size == 5000)
    first, second = await lab.read(one, 0, 1), await lab.read(two, 0, 1)
    await lab.write(one, 0, 1, second)
    await lab.write(two, 0, 1, first)
    assert findings(await lab.scrub()) == {"inconsistent": 2}
    await lab.clean()
    await lab.check(filled)


async def test_one_parity_does_not_tell_which_is_wrong(lab):
    await lab.open(k=3, m=1, disks=4)
    await lab.fill()
    ref = lab.ref(5000)
    await lab.write(ref, 0, 3, bytes(1667))
    assert findings(await lab.scrub()) == {"inconsistent": 1, "unrepairable": 1}


async def test_four_parities_tell_two_wrong_ones(lab):
    await lab.open(k=2, m=4)
    objects = await lab.fill()
    ref = lab.ref(5000)
    first, second = await lab.read(ref, 0, 0), await lab.read(ref, 0, 3)
    await lab.write(ref, 0, 0, second)
    await lab.write(ref, 0, 3, first)
    assert findings(await lab.scrub()) == {"inconsistent": 1}
    await lab.clean()
    await lab.check(objects)


async def test_shards_too_short_for_evidence_are_left_alone(lab):
    """With one byte a shard, two wrong ones may look like another one wrong."""
    await lab.open()
    await lab.kit.put(b"tiny", b"four")
    await lab.write(lab.refs[0], 0, 1, b"?")
    assert findings(await lab.scrub()) == {"inconsistent": 1, "unrepairable": 1}


async def test_of_three_copies_two_are_right(lab):
    await lab.open(k=1, m=2, disks=3, family="replicate")
    objects = await lab.fill()
    ref = lab.ref(5000)
    await lab.write(ref, 0, 0, bytes(5000))
    assert findings(await lab.scrub()) == {"inconsistent": 1}
    await lab.clean()
    await lab.check(objects)


async def test_a_misplaced_copy_goes(lab, filled):
    ref = lab.ref(5000)
    members = lab.kit.pools.get(ref.pool).members(ref.blob)
    await lab.write(ref, 0, 1, await lab.read(ref, 0, 1), at=members[4])
    await lab.write(ref, 0, 9, b"no such position", at=members[3])
    await lab.write(ref._replace(size=70_000), 5, 3, b"no such stripe", at=members[3])
    assert findings(await lab.scrub()) == {"misplaced": 3}
    await lab.clean()
    await lab.check(filled)


async def test_a_misplaced_shard_that_is_needed_comes_home(lab, filled):
    """Too few are left without it."""
    ref = lab.ref(5000)
    members = lab.kit.pools.get(ref.pool).members(ref.blob)
    payload = await lab.read(ref, 0, 1)
    await lab.write(ref, 0, 1, payload, at=members[4])
    for position in (1, 2, 3):
        await lab.delete(ref, 0, position)
    report = await lab.scrub()
    assert (report.misplaced, report.missing, report.unrepairable) == (1, 3, 1)
    assert await lab.read(ref, 0, 1) == payload
    lab.maintenance.repairer._unmendable.clear()
    lab.maintenance.repairer.wake()
    await lab.clean()
    await lab.check(filled)


async def test_orphans_go(lab, filled):
    """Of a write that never got to its commit, long ago."""
    blob = BlobId(bytes(6) + b"orphanages")
    ref = lab.ref(5000)._replace(blob=blob)
    for position in range(6):
        await lab.write(ref, 0, position, b"nobody's")
    assert findings(await lab.scrub()) == {"orphaned": 6}
    await lab.clean()


async def test_devices_that_are_down_are_not_called_healthy(lab, filled):
    await lab.kit.take_out(3)
    report = await lab.scrub()
    assert findings(report) == {}
    assert (report.blobs, report.healthy, report.unread) == (len(filled), 0, len(filled))
    await lab.kit.put_back(3)
    await lab.clean()


async def test_what_cannot_be_read_is_told(lab, filled):
    ref = lab.ref(5000)
    for position in (0, 2, 4):
        lab.flip(ref, 0, position)
    report = await lab.scrub()
    assert findings(report) == {"corrupt": 3, "unrepairable": 1}


async def test_the_stores_own_shards_are_read_and_left_alone(lab, filled):
    heard = []
    lab.maintenance.scrubber.own_damaged = lambda: heard.append(True)
    ref = lab.ref(5000)._replace(blob=BlobId(RESERVED_PREFIX + b"journal.01"))
    for position in (0, 1):
        await lab.write(ref, 0, position, b"a line of the journal" * 10)
    before = (await lab.scrub()).shards
    assert not heard
    lab.flip(ref, 0, 1)
    report = await lab.scrub()
    assert findings(report) == {"corrupt": 1}
    assert (report.shards, report.healthy) == (before - 1, report.blobs)
    assert heard
    assert await lab.read(ref, 0, 0) == b"a line of the journal" * 10


async def test_what_is_deleted_meanwhile_is_not_damaged(lab, filled, monkeypatch):
    census = lab.maintenance.scrubber._census
    examine = census._examine

    async def slowly(ref, stripe):
        if ref.size == 70_000 and stripe == 4:
            for number in range(2):
                await lab.store.delete_object("bucket", b"70000/%d" % number)
            await lab.maintenance.collector.collect()
        return await examine(ref, stripe)

    monkeypatch.setattr(census, "_examine", slowly)
    report = await lab.scrub()
    assert findings(report) == {}
    assert report.blobs == report.healthy == len(filled) - 2
    assert not lab.kit.kv.scan_prefix(keys.REPAIRS)


async def test_a_pass_goes_on_after_a_restart_and_the_last_report_stays(lab, filled, monkeypatch):
    monkeypatch.setattr(scrub, "_PAGE", 2)
    first = await lab.scrub()
    looks = []
    census = lab.maintenance.scrubber._census
    blob = census.blob

    async def cut(ref):
        looks.append(ref)
        if len(looks) > 5:
            raise RuntimeError("the power goes")
        return await blob(ref)

    monkeypatch.setattr(census, "blob", cut)
    await lab.delete(lab.refs[0], 0, 0)
    lab.maintenance.scrubber.start_now()
    await lab.until(lambda: len(looks) > 5)
    record = decode_scrub(lab.kit.kv.get(keys.SCRUB))
    assert record.counts["blobs"] == 4
    assert record.counts["missing"] == 1
    assert record.last == first
    await lab.open()
    await lab.until(lambda: lab.maintenance.scrubber.finished)
    report = lab.maintenance.scrubber.status().last
    assert report.begun_ms == record.begun_ms
    assert (report.blobs, report.healthy) == (len(filled), len(filled) - 1)
    assert report.missing == 1
    await lab.open()
    await lab.until(lambda: lab.maintenance.scrubber.status().last is not None)
    assert lab.maintenance.scrubber.status().last == report
    assert not lab.maintenance.scrubber.status().running
    await lab.clean()


async def test_a_pass_goes_on_among_the_devices(lab, filled):
    cursor = scrub._pack_cursor(3, ShardKey(lab.refs[0].blob, 0, 0))
    record = ScrubRecord(1, cursor, {"blobs": 7, "healthy": 7})
    await lab.kit.kv.commit([], [(keys.SCRUB, encode(record))])
    blob = BlobId(bytes(6) + b"orphanages")
    members = lab.kit.pools.current.members(blob)
    for position in range(6):
        await lab.write(lab.ref(5000)._replace(blob=blob), 0, position, b"nobody's")
    await lab.open()
    await lab.until(lambda: lab.maintenance.scrubber.finished)
    report = lab.maintenance.scrubber.status().last
    assert (report.begun_ms, report.blobs, report.healthy) == (1, 7, 7)
    assert report.orphaned <= sum(osd > 3 for osd in members)


@pytest.mark.parametrize("seed", range(6))
async def test_any_damage_that_can_be_made_good_is(lab, filled, seed):
    """Up to two shards of a stripe gone or damaged, or one wrong, all over the store."""
    source = random.Random(seed)
    expected = Counter()
    for ref in lab.refs:
        for stripe in range(-(-ref.size // 8192)):
            kinds = source.choice([(), (), ("missing",), ("corrupt", "missing"), ("wrong",)])
            length = len(await lab.read(ref, stripe, 0))
            for position, kind in zip(source.sample(range(6), 2), kinds, strict=False):
                expected[{"wrong": "inconsistent"}.get(kind, kind)] += 1
                if kind == "missing":
                    await lab.delete(ref, stripe, position)
                elif kind == "corrupt":
                    lab.flip(ref, stripe, position)
                else:
                    await lab.write(ref, stripe, position, source.randbytes(length))
    assert findings(await lab.scrub()) == expected
    await lab.clean()
    await lab.check(filled)


async def test_no_false_alarms_while_objects_come_and_go(lab, filled):
    stop = False

    async def write(name):
        for turn in itertools.count():
            if stop:
                return
            key = b"%d/%d" % (name, turn % 7)
            await lab.kit.put(key, random.Random(turn).randbytes((300, 9000, 40_000)[turn % 3]))
            if turn % 4 == 1:
                await lab.store.delete_object("bucket", key)

    writers = [asyncio.create_task(write(name)) for name in range(4)]
    for _ in range(5):
        report = await lab.scrub()
        assert findings(report) == {}
        assert report.healthy == report.blobs
    stop = True
    await asyncio.gather(*writers)
    await lab.until(lambda: lab.maintenance.collector.backlog == 0)
    await lab.clean()


def test_cursors_of_devices():
    key = ShardKey(BlobId(bytes(range(16))), 5, 3)
    for osd, after in itertools.product((0, 1, 70_000), (None, key)):
        assert scrub._unpack_cursor(scrub._pack_cursor(osd, after)) == (osd, after)


def test_a_record_of_an_older_release():
    assert decode_scrub(encode([5, b"r"])) == ScrubRecord(5, b"r", {}, None)


async def test_progress_and_the_next_time(lab, monkeypatch):
    monkeypatch.setattr(scrub, "_PAGE", 2)
    await lab.open(scrub_interval_seconds=1000)
    await lab.fill()
    scrubber = lab.maintenance.scrubber
    await lab.until(lambda: scrubber.status().next_ms)
    seen = []
    blob = scrubber._census.blob

    async def look(ref):
        seen.append(scrubber.status())
        return await blob(ref)

    monkeypatch.setattr(scrubber._census, "blob", look)
    report = await lab.scrub()
    assert [status.progress for status in seen] == sorted(status.progress for status in seen)
    assert seen[0].progress == 0.0
    assert 0.5 < seen[-1].progress < 1
    assert all(status.running and status.next_ms is None for status in seen)
    assert seen[-1].current.blobs == 8
    assert scrubber.status().next_ms == report.begun_ms + 1_000_000
