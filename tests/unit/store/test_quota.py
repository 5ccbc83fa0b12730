"""Quotas: what is counted, and what one process and several let in."""

from __future__ import annotations

import asyncio
import time

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.abc.objects import CompletePart, ObjectAttributes, Origin
from objectio.errors import QuotaExceeded
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import Buckets
from objectio.meta.records import ObjectRecord, PartRecord, UploadRecord, encode
from objectio.model.bucket import QUOTA, Quota, encode_document
from objectio.store import quota as quota_module
from objectio.store import usage_count
from objectio.store.documents import Documents
from objectio.store.quota import NOTHING, Held, Quotas, decode_usage, set_account_quota
from objectio.store.usage_count import UsageCounter
from objectio.testing.objects import BytesPayload


class Gateway:
    """What a process knows."""

    def __init__(self, world):
        self._world = world
        self.quotas = Quotas(world.kv, Documents(world.kv, world.buckets), lambda: world.now)

    async def put(self, size, *, name="bucket", went=NOTHING):
        """As a put does it, without a row."""
        bucket = await self._world.buckets.find(name)
        with await self.quotas.admit(bucket, size, 1):
            await asyncio.sleep(0)
            self.quotas.changed(bucket, Held(size, 1), went)
            await self._world.object(size, name=name)

    async def until_full(self, size, **more):
        count = 0
        while True:
            try:
                await self.put(size, **more)
            except QuotaExceeded:
                return count
            count += 1


class World:
    def __init__(self):
        self.kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
        self.buckets = Buckets(self.kv)
        self.now = 1_700_000_000.0
        self.counter = UsageCounter(self.kv, 1.0, lambda: self.now)
        self._made = 0

    async def bucket(self, name="bucket", *, owner="owner", **quota):
        documents = {QUOTA: encode_document(Quota(**quota))} if quota else {}
        await self.buckets.create(name, owner, "", documents=documents)

    async def object(self, size, *, name="bucket", table=keys.object):
        self._made += 1
        record = ObjectRecord(
            size, "e", 0, "STANDARD", "o", "", "", "null", {}, {}, {}, [], [],
        )  # fmt: skip
        bucket = await self.buckets.find(name)
        row = table(bucket.id, b"%d" % self._made)
        await self.kv.commit([], [(row, encode(record))])
        return row

    async def count(self):
        self.now += 2
        await self.counter.count()
        self.now += 2

    async def usage(self, name="bucket"):
        bucket = await self.buckets.find(name)
        raw = self.kv.get(keys.usage(bucket.id))
        return None if raw is None else decode_usage(raw)


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(quota_module, "_USAGE_SECONDS", 0.0)
    monkeypatch.setattr(quota_module, "_ACCOUNT_SECONDS", 0.0)
    one = World()
    yield one
    await one.kv.close()


async def test_all_versions_and_parts_count(world):
    await world.bucket(bytes_max=100)
    await world.bucket("free")
    await world.object(5)
    await world.object(7, name="free")
    bucket = await world.buckets.find("bucket")
    noncurrent = ObjectRecord(
        11, "e", 0, "STANDARD", "o", "", "", "x", {}, {}, {}, [], [], since_ms=1
    )  # fmt: skip
    marker = ObjectRecord(
        0, "", 0, "STANDARD", "o", "", "", "y", {}, {}, {}, [], [], delete_marker=True
    )  # fmt: skip
    upload = UploadRecord(0, "o", {}, {}, "STANDARD", "", "")
    rows = [
        (keys.version(bucket.id, b"k", 1), noncurrent),
        (keys.version(bucket.id, b"k", 2), marker),
        (keys.marker(bucket.id, b"k"), marker),
        (keys.upload(bucket.id, b"u", bytes(16)), upload),
        (keys.part(bytes(16), 1), PartRecord(100, "e", 0, {}, [])),
        (keys.part(bytes(16), 2), PartRecord(1000, "e", 0, {}, [])),
    ]
    await world.kv.commit([], [(row, encode(record)) for row, record in rows])
    await world.counter.count()
    usage = await world.usage()
    assert (usage.bytes, usage.objects) == (1116, 2)
    assert await world.usage("free") is None


async def test_rows_that_cannot_be_read_hold_up_no_count(world):
    await world.bucket(bytes_max=100)
    await world.bucket("later", bytes_max=100)
    await world.object(5)
    await world.object(7, name="later")
    bucket = await world.buckets.find("bucket")
    upload = encode(UploadRecord(0, "o", {}, {}, "STANDARD", "", ""))
    rows = [
        (keys.object(bucket.id, b"bad"), b"\xc1"),
        (keys.version(bucket.id, b"bad", 1), b"\xc1"),
        (keys.upload(bucket.id, b"u", bytes(16)), upload),
        (keys.part(bytes(16), 1), b"\xc1"),
    ]
    await world.kv.commit([], rows)
    await world.counter.count()
    assert (await world.usage()).bytes == 5
    assert (await world.usage("later")).bytes == 7


async def test_more_than_a_page(world, monkeypatch):
    monkeypatch.setattr(usage_count, "_PAGE", 7)
    await world.bucket(bytes_max=100)
    for _ in range(21):
        await world.object(2)
    await world.counter.count()
    usage = await world.usage()
    assert (usage.bytes, usage.objects) == (42, 21)


async def test_one_process_is_exact(world):
    await world.bucket(bytes_max=100)
    await world.object(30)
    await world.count()
    gateway = Gateway(world)
    assert await gateway.until_full(20) == 3
    assert await gateway.until_full(10) == 1
    await world.count()
    assert await gateway.until_full(1) == 0


async def test_writes_at_once_do_not_exceed_it(world):
    await world.bucket(bytes_max=100)
    await world.count()
    gateway = Gateway(world)
    outcomes = await asyncio.gather(*(gateway.put(30) for _ in range(9)), return_exceptions=True)
    assert outcomes.count(None) == 3
    assert all(isinstance(each, QuotaExceeded | None) for each in outcomes)


async def test_number_of_objects(world):
    await world.bucket(objects_max=3)
    await world.count()
    assert await Gateway(world).until_full(1) == 3


async def test_a_failed_write_gives_its_room_back(world):
    await world.bucket(bytes_max=100)
    gateway = Gateway(world)
    bucket = await world.buckets.find("bucket")
    with await gateway.quotas.admit(bucket, 100, 1), pytest.raises(QuotaExceeded):
        await gateway.put(1)
    await gateway.put(1)


async def test_what_went_frees_room_at_once(world):
    await world.bucket(bytes_max=100)
    await world.count()
    gateway = Gateway(world)
    for _ in range(50):
        await gateway.put(60, went=Held(60, 1))


async def test_several_learn_of_each_other_by_the_next_count(world):
    """So much is let in too much as the others took since the last count."""
    await world.bucket(bytes_max=100)
    await world.count()
    one, two = Gateway(world), Gateway(world)
    assert await one.until_full(10) == 10
    assert await two.until_full(10) == 10
    await world.count()
    assert await one.until_full(10) == 0
    assert await two.until_full(10) == 0


async def test_what_comes_during_a_count_is_never_lost(world):
    """It may be in the count or not: it is added until the next one."""
    await world.bucket(bytes_max=100)
    gateway = Gateway(world)
    real = world.counter._count

    async def slow(bucket_id):
        found = await real(bucket_id)
        world.now += 5
        await gateway.put(60)
        world.now += 5
        return found

    world.counter._count = slow
    await world.count()
    assert await gateway.until_full(10) == 4
    world.counter._count = real
    await world.count()
    assert (await world.usage()).bytes == 100


async def test_accounts(world):
    """Every bucket of theirs counts, also those without a quota of their own."""
    await world.bucket("one")
    await world.bucket("two", bytes_max=50)
    await world.bucket("other", owner="somebody")
    await world.object(30, name="one")
    await world.object(500, name="other")
    await set_account_quota(world.kv, "owner", Quota(bytes_max=100))
    await world.count()
    gateway = Gateway(world)
    assert await gateway.until_full(10, name="two") == 5
    assert await gateway.until_full(10, name="one") == 2
    assert await gateway.until_full(10, name="two") == 0
    await gateway.put(1000, name="other")
    await set_account_quota(world.kv, "owner", None)
    await gateway.put(1000, name="one")


async def test_counts_of_what_has_no_quota_any_more_go(world):
    await world.bucket(bytes_max=1)
    await set_account_quota(world.kv, "owner", Quota(bytes_max=100))
    await world.count()
    assert len(world.kv.scan_prefix(keys.WORKERS)) == 3
    await Documents(world.kv, world.buckets).put("bucket", QUOTA, None)
    await set_account_quota(world.kv, "owner", None)
    await world.count()
    assert not world.kv.scan_prefix(keys.WORKERS)


class TestStore:
    """Through all of the store: see `conftest.Kit`."""

    async def test_put_overwrite_and_delete(self, kit):
        await kit.store.create_bucket("full", owner="me")
        await kit.store.put_document("full", QUOTA, encode_document(Quota(bytes_max=1000)))
        await kit.maintenance.usage.count()
        kit.store.versions.quotas._clock = lambda: time.time() + 2  # what goes is after the count
        await put(kit, b"a", 600)
        with pytest.raises(QuotaExceeded):
            await put(kit, b"b", 401)
        await put(kit, b"b", 400)
        with pytest.raises(QuotaExceeded):
            await put(kit, b"b", 1)
        await put(kit, b"empty", 0)
        await kit.store.delete_object("full", b"b")
        await put(kit, b"c", 400)
        with pytest.raises(QuotaExceeded):
            await kit.store.copy_object("full", b"c", "full", b"d", owner="me")
        await kit.maintenance.usage.count()
        with pytest.raises(QuotaExceeded):
            await put(kit, b"b", 1)

    async def test_parts_count_and_objects_are_those_that_were_completed(self, kit):
        await kit.store.create_bucket("full", owner="me")
        quota = Quota(bytes_max=1000, objects_max=1)
        await kit.store.put_document("full", QUOTA, encode_document(quota))
        await kit.maintenance.usage.count()
        one = await kit.store.create_upload("full", b"k", ObjectAttributes(), owner="me")
        two = await kit.store.create_upload("full", b"l", ObjectAttributes(), owner="me")
        part = await part_of(kit, one, 700)
        with pytest.raises(QuotaExceeded):
            await part_of(kit, two, 301)
        other = await part_of(kit, two, 300)
        await complete(kit, one, part)
        with pytest.raises(QuotaExceeded):
            await complete(kit, two, other)
        await kit.store.abort_upload("full", b"l", two.upload_id)
        await kit.maintenance.usage.count()
        bucket = await kit.store.get_bucket("full")
        usage = decode_usage(kit.kv.get(keys.usage(bucket.id)))
        assert (usage.bytes, usage.objects) == (700, 1)


async def put(kit, key, size):
    payload = BytesPayload(bytes(size))
    await kit.store.put_object("full", key, payload, ObjectAttributes(), owner="me")


async def part_of(kit, upload, size):
    payload = BytesPayload(bytes(size))
    return await kit.store.put_part("full", upload.key, upload.upload_id, 1, payload)


async def complete(kit, upload, part):
    parts = [CompletePart(1, part.etag)]
    await kit.store.complete_upload("full", upload.key, upload.upload_id, parts)


async def test_a_bucket_without_documents_costs_no_more_reads(kit, monkeypatch):
    """Two for a put: the bucket and the object; whether sinks are to be told or not."""
    await kit.store.create_bucket("plain", owner="me")
    origin = Origin("ObjectCreated:Put")

    async def put_one():
        payload = BytesPayload(b"1")
        await kit.store.put_object(
            "plain", b"k", payload, ObjectAttributes(), owner="me", origin=origin
        )

    await put_one()
    read = []
    for name in ("get", "get_many", "scan"):
        real = getattr(kit.kv, name)
        monkeypatch.setattr(
            kit.kv,
            name,
            lambda *asked, real=real, **more: read.append(asked) or real(*asked, **more),
        )
    await put_one()
    rows = [asked[0][:1] for asked in read if asked[0][:1] in (b"B", b"o", b"b", b"t", b"d", b"q")]
    assert rows == [b"B", b"o"]
