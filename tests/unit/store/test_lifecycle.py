"""The lifecycle worker over real rows: what goes, what stays, and when."""

from __future__ import annotations

import asyncio
import os
import random

import msgspec
import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.errors import Unavailable
from objectio.kv.keys import unescape
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import Buckets
from objectio.meta.records import (
    ObjectRecord,
    PartRecord,
    UploadRecord,
    decode_bucket,
    decode_object,
    encode,
)
from objectio.model.bucket import (
    LIFECYCLE,
    NOTIFICATION,
    TAGS,
    Lifecycle,
    LifecycleFilter,
    LifecycleRule,
    Notification,
    NotificationRule,
    Retention,
    encode_document,
)
from objectio.store import lifecycle_walk
from objectio.store.documents import Documents
from objectio.store.events import decode_event
from objectio.store.lifecycle import LifecycleSettings, LifecycleWorker
from objectio.store.versions import Versions

DAY_MS = 86_400_000
BEGIN_MS = 1_700_000_000_000 - 1_700_000_000_000 % DAY_MS
"""A midnight."""


class NoUpkeep:
    def abandon(self, ref): ...

    def damaged(self, ref, mask, *, examine=False): ...

    def garbage(self): ...

    def repairs(self): ...


class World:
    """`now_ms` is what the worker takes for the time."""

    def __init__(self, **settings):
        self.kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
        self.buckets = Buckets(self.kv)
        self.documents = Documents(self.kv, self.buckets)
        self.versions = Versions(self.kv, self.buckets, self.documents, NoUpkeep())
        self.now_ms = BEGIN_MS
        self.settings = LifecycleSettings(
            interval_seconds=0.01,
            rows_per_second=1e9,
            clock=lambda: self.now_ms / 1000,
            **settings,
        )
        self.restart()

    def restart(self):
        self.worker = LifecycleWorker(self.kv, self.versions, NoUpkeep(), self.settings)

    async def bucket(self, *rules, versioning="", object_lock=False, name="bucket"):
        await self.buckets.create(name, "owner", "", object_lock=object_lock)
        if versioning:
            await self.buckets.set_versioning(name, versioning)
        if rules:
            await self.rule(*rules, name=name)

    async def rule(self, *rules, name="bucket"):
        await self.documents.put(name, LIFECYCLE, encode_document(Lifecycle(rules=rules)))

    async def put(self, key, *, size=1, at_ms=None, name="bucket", **more):
        record = ObjectRecord(
            size, os.urandom(16).hex(), self.now_ms if at_ms is None else at_ms, "STANDARD",
            "owner", "", "", "null", {}, {}, {}, [], [], **more,
        )  # fmt: skip
        bucket = await self.buckets.find(name)
        return (await self.versions.put(bucket, key, record)).version_id

    async def delete(self, key, version_id=None):
        bucket = await self.buckets.find("bucket")
        deleted = await self.versions.delete(bucket, key, version_id)
        await self._date(key)
        return deleted.version_id

    async def _date(self, key):
        """A delete marker made now, by the worker's clock, and what it made noncurrent."""
        bucket = await self.buckets.find("bucket")
        rows = [keys.marker(bucket.id, key)]
        rows += [row for row, _ in self.kv.scan_prefix(keys.versions_of_key(bucket.id, key))]
        for row in rows:
            raw = self.kv.get(row)
            if raw is None:
                continue
            record = decode_object(raw)
            if record.since_ms > 1_700_100_000_000:
                record = msgspec.structs.replace(record, since_ms=self.now_ms)
            if record.modified_ms > 1_700_100_000_000:
                record = msgspec.structs.replace(record, modified_ms=self.now_ms)
            await self.kv.commit([], [(row, encode(record))])

    async def look(self, *, after_days=0.0):
        self.now_ms += int(after_days * DAY_MS)
        while await self.worker.look():
            pass

    def shown(self, name="bucket"):
        """(key, version id, is delete marker), as listed."""
        raw = self.kv.get(keys.bucket(name))
        found = decode_bucket(raw).id
        rows = []
        for table in (keys.objects(found), keys.markers(found)):
            rows += [(row[len(table) :], raw) for row, raw in self.kv.scan_prefix(table)]
        table = keys.versions(found)
        rows += [(unescape(row, len(table))[0], raw) for row, raw in self.kv.scan_prefix(table)]
        records = [(key, decode_object(raw)) for key, raw in rows]
        return sorted((key, each.version_id, each.delete_marker) for key, each in records)

    def keys(self):
        return [key for key, _, _ in self.shown()]


@pytest.fixture
async def world():
    one = World()
    yield one
    await one.kv.close()


def rule(id="r", prefix="", *, enabled=True, tags=None, **more):
    chosen = LifecycleFilter(prefix=prefix, tags=tags or {})
    return LifecycleRule(id=id, enabled=enabled, filter=chosen, **more)


async def test_expiry_by_days_prefix_and_tags(world):
    await world.bucket(
        rule("a", "logs/", expire_days=1), rule("b", tags={"keep": "no"}, expire_days=3)
    )
    for key in (b"logs/1", b"logs/2", b"other"):
        await world.put(key)
    await world.put(b"tagged", tags={"keep": "no"})
    await world.look(after_days=1.5)
    assert len(world.keys()) == 4  # midnight has not come
    await world.look(after_days=0.5)
    assert world.keys() == [b"other", b"tagged"]
    await world.look(after_days=2)
    assert world.keys() == [b"other"]
    assert world.worker.done == {"current": 3}


async def test_a_bucket_is_walked_once_a_day_and_when_its_rules_change(world, monkeypatch):
    walked = []
    real = lifecycle_walk.Walk.versions

    def versions(self, after):
        walked.append(after)
        return real(self, after)

    monkeypatch.setattr(lifecycle_walk.Walk, "versions", versions)
    await world.bucket(rule(expire_days=5))
    await world.look()
    await world.look(after_days=0.9)
    assert len(walked) == 1
    await world.look(after_days=0.1)
    assert len(walked) == 2
    await world.rule(rule(expire_days=4))
    await world.look()
    assert len(walked) == 3
    await world.documents.put("bucket", TAGS, b"{}")  # says nothing about lifecycle
    await world.look()
    assert len(walked) == 3


async def test_with_a_short_day_each_look_walks():
    world = World(day_seconds=10)
    await world.bucket(rule(expire_days=1))
    await world.put(b"k")
    world.now_ms += 9_999
    await world.look()
    assert world.keys() == [b"k"]
    world.now_ms += 1
    await world.look()
    assert world.keys() == []
    await world.kv.close()


class TestVersions:
    async def test_expiry_puts_a_marker_on_top(self, world):
        await world.bucket(rule(expire_days=1), versioning="Enabled")
        version = await world.put(b"k")
        await world.look(after_days=2)
        assert [each[2] for each in world.shown() if each[1] == version] == [False]
        assert [each[2] for each in world.shown()] in ([False, True], [True, False])
        await world.look(after_days=1)
        assert len(world.shown()) == 2

    async def test_in_a_suspended_bucket_the_null_version_is_replaced(self, world):
        await world.bucket(rule(expire_days=1), versioning="Suspended")
        await world.put(b"k")
        await world.look(after_days=2)
        assert world.shown() == [(b"k", "null", True)]

    async def test_noncurrent_by_days_since_they_are(self, world):
        await world.bucket(rule(noncurrent_days=2), versioning="Enabled")
        await world.put(b"k", at_ms=BEGIN_MS - 100 * DAY_MS)
        world.now_ms += DAY_MS
        second = await world.put(b"k")
        await world.look(after_days=2)
        assert len(world.shown()) == 2
        await world.look(after_days=1)
        assert world.shown() == [(b"k", second, False)]
        assert world.worker.done == {"noncurrent": 1}

    async def test_newer_noncurrent_versions_are_kept(self, world):
        await world.bucket(
            rule(noncurrent_days=1, newer_noncurrent_versions=3), versioning="Enabled"
        )
        for key in (b"a", b"a\0", b"b"):
            for _ in range(7):
                await world.put(key)
        newest = {}
        for key, version, _ in world.shown():
            newest.setdefault(key, []).append(version)
        await world.look(after_days=3)
        left = {}
        for key, version, _ in world.shown():
            left.setdefault(key, []).append(version)
        assert left == {key: sorted(ids)[-4:] for key, ids in newest.items()}

    async def test_only_a_lone_marker_goes(self, world):
        await world.bucket(rule(expire_delete_marker=True), versioning="Enabled")
        await world.put(b"both")
        await world.delete(b"both")
        await world.delete(b"lone")
        await world.look()
        assert {key for key, _, _ in world.shown()} == {b"both"}
        assert len(world.shown()) == 2
        assert world.worker.done == {"marker": 1}

    async def test_a_key_ends_altogether(self, world):
        """As the user guide has it: days put a marker, noncurrent days remove the version, and the
        marker that is left goes last."""
        await world.bucket(rule(expire_days=1, noncurrent_days=1), versioning="Enabled")
        await world.put(b"k")
        await world.look(after_days=2)
        await world._date(b"k")
        assert len(world.shown()) == 2
        await world.look(after_days=2)
        await world.look(after_days=1)
        assert world.shown() == []

    async def test_held_versions_stay(self, world):
        await world.bucket(
            rule(noncurrent_days=1, expire_days=1), versioning="Enabled", object_lock=True
        )
        until = Retention("GOVERNANCE", 4_000_000_000_000)
        held = await world.put(b"k", retention=until)
        hold = await world.put(b"k", legal_hold=True)
        free = await world.put(b"k")
        await world.put(b"k")
        await world.look(after_days=2)
        left = [version for _, version, _ in world.shown()]
        assert held in left
        assert hold in left
        assert free not in left


async def test_uploads_are_aborted(world):
    await world.bucket(rule(prefix="a/", abort_upload_days=1))
    bucket = await world.buckets.find("bucket")
    for number, key in enumerate((b"a/1", b"b/1")):
        upload_id = bytes(15) + bytes([number])
        upload = UploadRecord(BEGIN_MS, "o", {}, {}, "STANDARD", "", "")
        part = PartRecord(5, "e", BEGIN_MS, {}, [])
        await world.kv.commit(
            [],
            [
                (keys.upload(bucket.id, key, upload_id), encode(upload)),
                (keys.part(upload_id, 1), encode(part)),
            ],
        )
    await world.look(after_days=1.5)
    assert len(world.kv.scan_prefix(keys.uploads(bucket.id))) == 2
    await world.look(after_days=0.5)
    assert len(world.kv.scan_prefix(keys.uploads(bucket.id))) == 1
    assert len(world.kv.scan_prefix(b"p")) == 1
    assert not world.kv.scan_prefix(keys.ENDED)
    assert world.worker.done == {"upload": 1}


async def test_each_removal_is_told(world):
    target = "arn:aws:sns:::t"
    told = NotificationRule(id="n", target=target, events=("s3:LifecycleExpiration:*",))
    for name, versioning in (("plain", ""), ("versioned", "Enabled")):
        await world.bucket(rule(expire_days=1), name=name, versioning=versioning)
        await world.documents.put(name, NOTIFICATION, encode_document(Notification(rules=(told,))))
        await world.put(b"k", name=name)
    await world.look(after_days=2)
    events = [decode_event(raw) for _, raw in world.kv.scan_prefix(keys.events(target))]
    assert {(each.bucket, each.event, each.principal) for each in events} == {
        ("plain", "LifecycleExpiration:Delete", "s3.amazonaws.com"),
        ("versioned", "LifecycleExpiration:DeleteMarkerCreated", "s3.amazonaws.com"),
    }


class TestMeanwhile:
    async def test_a_rule_that_is_gone_removes_nothing_more(self, world, monkeypatch):
        """The rules go between the walk and the first removal."""
        await world.bucket(rule(expire_days=1))
        for number in range(10):
            await world.put(b"%d" % number)
        real = world.versions.delete

        async def late(*arguments, **more):
            await world.documents.put("bucket", LIFECYCLE, None)
            return await real(*arguments, **more)

        monkeypatch.setattr(world.versions, "delete", late)
        await world.look(after_days=2)
        assert len(world.keys()) == 10

    async def test_what_was_written_anew_stays(self, world, monkeypatch):
        await world.bucket(rule(expire_days=1))
        await world.put(b"k")
        real = world.versions.delete

        async def late(*arguments, **more):
            await world.put(b"k")
            return await real(*arguments, **more)

        monkeypatch.setattr(world.versions, "delete", late)
        await world.look(after_days=2)
        assert world.keys() == [b"k"]

    async def test_a_marker_that_is_not_alone_any_more_stays(self, world, monkeypatch):
        await world.bucket(rule(expire_delete_marker=True), versioning="Enabled")
        await world.delete(b"k")
        real = world.versions.delete

        async def late(bucket, key, version_id, **more):
            monkeypatch.undo()
            await world.put(b"k")
            await world.delete(b"k")
            return await real(bucket, key, version_id, **more)

        monkeypatch.setattr(world.versions, "delete", late)
        await world.look()
        assert len(world.shown()) == 3

    async def test_it_goes_on_where_it_was(self, monkeypatch):
        """A process that dies again and again, in the middle of a commit or before, gets through."""
        world = World(turn_seconds=0.0)
        monkeypatch.setattr(lifecycle_walk, "_PAGE", 7)
        monkeypatch.setattr("objectio.store.lifecycle._SAVE_SECONDS", 0.0)
        await world.bucket(rule("v", "x", expire_days=1, noncurrent_days=1), versioning="Enabled")
        chance = random.Random(3)
        for number in range(100):
            for _ in range(chance.randint(1, 3)):
                await world.put(b"%s%03d" % (chance.choice((b"x", b"y")), number))
        bucket = await world.buckets.find("bucket")
        kept = [each for each in world.shown() if each[0].startswith(b"y")]
        world.now_ms += 2 * DAY_MS
        commit = world.kv.commit
        deaths = 0

        async def dies(checks, writes):
            nonlocal deaths
            if chance.random() < 0.1:
                deaths += 1
                if chance.random() < 0.5:
                    await commit(checks, writes)
                raise Unavailable("the process is gone")
            await commit(checks, writes)

        monkeypatch.setattr(world.kv, "commit", dies)
        cursors = set()
        async with asyncio.timeout(60):
            while True:
                try:
                    more = await world.worker.look()
                except Unavailable:
                    more = True
                rows = world.kv.scan_prefix(keys.LIFECYCLES)
                cursors.update(raw for _, raw in rows)
                world.restart()
                if not more and not world.kv.scan_prefix(keys.objects(bucket.id) + b"x"):
                    break
        assert deaths > 5
        assert len(cursors) > 5  # it did go on
        assert [each for each in world.shown() if each[0].startswith(b"y")] == kept
        await world.kv.close()

    async def test_writers_of_the_same_keys(self, monkeypatch):
        """Whatever was written a moment ago is there: the worker races with who writes it."""
        world = World(day_seconds=0.001)
        await world.bucket(rule(expire_days=1_000_000))
        keys_ = [b"%d" % number for number in range(20)]
        chance = random.Random(5)
        stop = False

        async def write():
            while not stop:
                old = chance.random() < 0.5
                at_ms = world.now_ms - (2_000_000 if old else 0)
                await world.put(chance.choice(keys_), at_ms=at_ms)
                await asyncio.sleep(0)

        async def expire():
            while not stop:
                await world.worker.look()
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(each) for each in (write(), write(), expire())]
        async with asyncio.timeout(20):
            while world.worker.done["current"] < 200:
                await asyncio.sleep(0.01)
        stop = True
        await asyncio.gather(*tasks)
        fresh = {key: await world.put(key) for key in keys_}
        await world.look()
        assert set(world.keys()) == set(fresh)
        await world.kv.close()


async def test_passes_of_buckets_that_are_gone_are_forgotten(world):
    await world.bucket(rule(expire_days=1))
    await world.look()
    assert len(world.kv.scan_prefix(keys.LIFECYCLES)) == 1
    await world.documents.put("bucket", LIFECYCLE, None)
    await world.look()
    assert not world.kv.scan_prefix(keys.LIFECYCLES)


async def test_a_row_that_cannot_be_read_stays(world):
    await world.bucket(rule(expire_days=1))
    await world.put(b"k")
    bucket = await world.buckets.find("bucket")
    await world.kv.commit([], [(keys.object(bucket.id, b"bad"), b"\xc1")])
    await world.look(after_days=2)
    assert [row for row, _ in world.kv.scan_prefix(keys.objects(bucket.id))] == [
        keys.object(bucket.id, b"bad")
    ]


async def test_what_belongs_to_a_version_and_cannot_be_read_holds_nothing_up(world):
    await world.bucket(rule(expire_days=1), rule("u", abort_upload_days=1))
    bucket = await world.buckets.find("bucket")
    await world.put(b"a", manifest=b"m" * 16)
    await world.put(b"b")
    bad, good = (keys.upload(bucket.id, key, bytes(16)) for key in (b"a", b"b"))
    upload = encode(UploadRecord(BEGIN_MS, "o", {}, {}, "STANDARD", "", ""))
    await world.kv.commit([], [(keys.manifest(b"m" * 16), b"\xc1"), (bad, b"\xc1"), (good, upload)])
    await world.look(after_days=3)
    assert [row for row, _ in world.kv.scan_prefix(keys.objects(bucket.id))] == [
        keys.object(bucket.id, b"a")
    ]
    assert [row for row, _ in world.kv.scan_prefix(keys.uploads(bucket.id))] == [bad]


async def test_the_pace(world):
    """A thousand rows a second: a walk of 2,000 takes two, but for the burst."""
    slow = World()
    slow.settings = LifecycleSettings(
        interval_seconds=1, rows_per_second=4_000, clock=lambda: slow.now_ms / 1000
    )
    slow.restart()
    await slow.bucket(rule(expire_days=9))
    for number in range(4_000):
        await slow.put(b"%d" % number)
    began = asyncio.get_running_loop().time()
    await slow.look()
    assert asyncio.get_running_loop().time() - began > 0.5
    await slow.kv.close()


async def test_pages_of_objects_and_of_markers_end_at_different_keys(world, monkeypatch):
    monkeypatch.setattr(lifecycle_walk, "_PAGE", 1)
    await world.bucket(rule(expire_delete_marker=True, expire_days=1), versioning="Enabled")
    for key in (b"a", b"b", b"c", b"y"):
        await world.delete(key)
    await world.put(b"x")
    await world.put(b"z")
    await world.look()
    assert world.keys() == [b"x", b"z"]
    await world.look(after_days=2)
    assert world.worker.done == {"marker": 4, "current": 2}
