"""What a change of a key does to its versions, one at a time; that they race is tested elsewhere."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from objectio.abc.objects import (
    CompletePart,
    Conditions,
    Deleted,
    ObjectAttributes,
)
from objectio.errors import (
    CommitConflict,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
)
from objectio.kv.keys import prefix_end
from objectio.meta import keys
from objectio.meta.records import decode_object
from objectio.model.bucket import (
    TAGS,
)
from objectio.store import quota, versions
from objectio.testing.census_versions import version_problems
from objectio.testing.objects import BytesPayload

DAY_MS = 86_400_000


@pytest.fixture
async def kit(make_kit):
    kit = await make_kit()
    await kit.store.set_versioning("bucket", "Enabled")
    yield kit
    assert version_problems(row for row in kit.rows().items() if row[0][:1] in b"odvn") == []


@pytest.fixture
async def plain(make_kit):
    return await make_kit()


async def listed(kit, **more):
    found = (await kit.store.list_versions("bucket", **more)).objects
    return [(each.key, each.version_id, each.is_latest, each.is_delete_marker) for each in found]


async def read(kit, key, version_id=None):
    reader = await kit.store.get_object("bucket", key, version_id=version_id)
    try:
        return b"".join([bytes(each) async for each in reader.stream(0, reader.info.size)])
    finally:
        reader.close()


async def delete(kit, key, version_id=None, **more):
    return await kit.store.delete_object("bucket", key, version_id=version_id, **more)


def kinds(kit):
    return "".join(sorted(row[:1].decode() for row in kit.rows() if row[:1] in b"bdmnov"))


async def test_newest_first(kit):
    ids = [(await kit.put(b"k", b"%d" % number)).version_id for number in range(4)]
    assert len(set(ids)) == 4
    assert ids == sorted(ids)
    assert [each[1] for each in await listed(kit)] == ids[::-1]
    assert [await read(kit, b"k", each) for each in ids] == [b"0", b"1", b"2", b"3"]
    assert await read(kit, b"k") == b"3"
    assert (await kit.store.head_object("bucket", b"k", version_id=ids[0])).is_latest is False
    assert (await kit.store.head_object("bucket", b"k")).is_latest is True


async def test_time_stands_still(kit, monkeypatch):
    """Or goes back: the order is that of the commits."""
    monkeypatch.setattr(versions.time, "time_ns", lambda: 1_000_000)
    ids = [(await kit.put(b"k", b"%d" % number)).version_id for number in range(3)]
    monkeypatch.setattr(versions.time, "time_ns", lambda: 1_000)
    ids.append((await kit.put(b"k", b"3")).version_id)
    assert [each[1] for each in await listed(kit)] == ids[::-1]


async def test_a_delete_marker_is_what_is_current(kit):
    first = await kit.put(b"k")
    deleted = await delete(kit, b"k")
    assert deleted == Deleted(None, deleted.version_id, True)
    with pytest.raises(NotFound) as caught:
        await kit.get(b"k")
    assert caught.value.fields["kind"] == "object"
    assert caught.value.fields["delete_marker"] is True
    assert caught.value.fields["version_id"] == deleted.version_id
    with pytest.raises(MethodNotAllowed) as caught:
        await read(kit, b"k", deleted.version_id)
    assert caught.value.fields["modified_ms"] > 0
    assert (await kit.store.list_objects("bucket")).objects == []
    assert await read(kit, b"k", first.version_id) == b"data"
    again = await delete(kit, b"k", deleted.version_id)
    assert again.delete_marker
    assert again.info.is_delete_marker
    assert await kit.get(b"k") == b"data"
    assert kinds(kit) == "o"


async def test_a_delete_of_nothing_makes_a_delete_marker(kit):
    deleted = await delete(kit, b"k")
    assert deleted.delete_marker
    assert await listed(kit) == [(b"k", deleted.version_id, True, True)]
    assert await delete(kit, b"other", "0" * 32) == Deleted(None, "0" * 32, False)
    assert await delete(kit, b"other", "no version id") == Deleted(None, "no version id", False)
    nothing = Conditions(if_match=("*",))
    assert await delete(kit, b"other", conditions=nothing) == Deleted()
    assert len(await listed(kit)) == 1


async def test_what_is_older_than_versioning_is_the_null_version(plain):
    await plain.put(b"k", b"old")
    await plain.store.set_versioning("bucket", "Enabled")
    assert (await plain.store.head_object("bucket", b"k")).version_id == "null"
    await plain.put(b"k", b"new")
    assert await read(plain, b"k", "null") == b"old"
    assert kinds(plain) == "nov"
    deleted = await delete(plain, b"k", "null")
    assert deleted.info.etag
    assert deleted.version_id == "null"
    assert kinds(plain) == "o"
    await plain.settle()
    assert len([row for row in plain.rows() if row[:1] == b"r"]) == 1


@pytest.mark.parametrize("current", ["null", "other"])
async def test_there_is_one_null_version(kit, current):
    if current == "other":
        await kit.store.set_versioning("bucket", "Suspended")
        await kit.put(b"k", b"null 1")
        await kit.store.set_versioning("bucket", "Enabled")
    kept = await kit.put(b"k", b"kept")
    await kit.store.set_versioning("bucket", "Suspended")
    if current == "null":
        await kit.put(b"k", b"null 1")
    info = await kit.put(b"k", b"null 2")
    assert info.version_id == "null"
    assert info.versioned
    assert await listed(kit) == [
        (b"k", "null", True, False),
        (b"k", kept.version_id, False, False),
    ]
    deleted = await delete(kit, b"k")
    assert deleted.info.size == len("null 2")
    assert (deleted.version_id, deleted.delete_marker) == ("null", True)
    assert await listed(kit) == [(b"k", "null", True, True), (b"k", kept.version_id, False, False)]
    await kit.settle()
    assert len([row for row in kit.rows() if row[:1] == b"r"]) == 1


async def test_the_next_takes_the_place_of_what_was_current(kit):
    first = await kit.put(b"k", b"1")
    marker = await delete(kit, b"k")
    third = await kit.put(b"k", b"3")
    assert kinds(kit) == "ovv"
    await delete(kit, b"k", third.version_id)
    assert kinds(kit) == "dv"
    assert [each[1] for each in await listed(kit)] == [marker.version_id, first.version_id]
    await delete(kit, b"k", marker.version_id)
    assert await kit.get(b"k") == b"1"
    await delete(kit, b"k", first.version_id)
    assert await listed(kit) == []
    await kit.store.delete_bucket("bucket")
    await kit.settle()
    assert not [row for row in kit.rows() if row[:1] != b"c"]
    assert not any(kit.shards().values())


async def test_when_a_version_became_noncurrent(kit):
    def since():
        return [decode_object(raw).since_ms for row, raw in kit.rows().items() if row[:1] in b"ov"]

    await kit.put(b"k", b"1")
    second = await kit.put(b"k", b"2")
    assert since() == [0, second.modified_ms]
    await delete(kit, b"k", second.version_id)
    assert since() == [0]


async def test_a_bucket_with_anything_is_not_empty(kit):
    await delete(kit, b"k")
    with pytest.raises(InvalidRequest):
        await kit.store.set_versioning("bucket", "")
    with pytest.raises(Exception, match="not empty"):
        await kit.store.delete_bucket("bucket")


async def test_many_parts_keep_their_list_until_the_version_goes(kit):
    upload = await kit.store.create_upload("bucket", b"k", ObjectAttributes(), owner="me")
    parts = []
    for number in range(2, 40, 2):
        info = await kit.store.put_part(
            "bucket", b"k", upload.upload_id, number, BytesPayload(bytes(16))
        )
        parts.append(CompletePart(number, info.etag))
    made = await kit.store.complete_upload("bucket", b"k", upload.upload_id, parts)
    assert made.part_numbers == [part.number for part in parts]
    await kit.put(b"k", b"on top")
    for version_id in (made.version_id,):
        info = await kit.store.head_object("bucket", b"k", version_id=version_id)
        assert info == msgspec.structs.replace(made, is_latest=False)
        assert await read(kit, b"k", version_id) == bytes(16 * 19)
    tagged = await kit.store.update_object(
        "bucket",
        b"k",
        lambda info: msgspec.structs.replace(info.attributes, tags={"a": "b"}),
        version_id=made.version_id,
    )
    assert tagged.part_sizes == made.part_sizes
    assert tagged == await kit.store.head_object("bucket", b"k", version_id=made.version_id)
    assert "m" in kinds(kit)
    await delete(kit, b"k", made.version_id)
    assert kinds(kit) == "o"


async def test_update_changes_neither_time_nor_place(kit):
    first = await kit.put(b"k", b"1")
    await kit.put(b"k", b"2")
    before = await listed(kit)

    def change(info):
        return msgspec.structs.replace(info.attributes, tags={"size": str(info.size)})

    await kit.store.update_object("bucket", b"k", change, version_id=first.version_id)
    await kit.store.update_object("bucket", b"k", change)
    assert await listed(kit) == before
    info = await kit.store.head_object("bucket", b"k", version_id=first.version_id)
    assert info.modified_ms == first.modified_ms
    assert info.attributes.tags == {"size": "1"}
    marker = await delete(kit, b"k")
    with pytest.raises(MethodNotAllowed):
        await kit.store.update_object("bucket", b"k", change, version_id=marker.version_id)
    with pytest.raises(NotFound):
        await kit.store.update_object("bucket", b"k", change)


async def test_an_update_is_made_of_what_is_there_then(kit):
    """Several that add a tag each, at once."""
    await kit.put(b"k")

    def add(name):
        def change(info):
            return msgspec.structs.replace(
                info.attributes, tags={**info.attributes.tags, name: "x"}
            )

        return change

    await asyncio.gather(
        *(kit.store.update_object("bucket", b"k", add(f"{number}")) for number in range(8))
    )
    tags = (await kit.store.head_object("bucket", b"k")).attributes.tags
    assert sorted(tags) == [f"{number}" for number in range(8)]


async def test_conditions_look_at_what_is_current(kit):
    first = await kit.put(b"k", b"1")
    await delete(kit, b"k")
    with pytest.raises(NotFound):
        await kit.put(b"k", conditions=Conditions(if_match=("*",)))
    await kit.put(b"k", b"2", conditions=Conditions(if_none_match=("*",)))
    with pytest.raises(PreconditionFailed):
        await kit.put(b"k", b"3", conditions=Conditions(if_none_match=("*",)))
    with pytest.raises(PreconditionFailed):
        await delete(kit, b"k", conditions=Conditions(if_match=(first.etag,)))
    with pytest.raises(PreconditionFailed):
        await delete(kit, b"k", first.version_id, conditions=Conditions(if_size=2))
    with pytest.raises(PreconditionFailed):
        await delete(kit, b"k", first.version_id, conditions=Conditions(if_modified_at=7))
    at = first.modified_ms // 1000
    exact = Conditions(if_match=(first.etag,), if_size=1, if_modified_at=at)
    assert (await delete(kit, b"k", first.version_id, conditions=exact)).info is not None


async def test_a_copy_takes_the_version_asked_for(kit):
    said = ObjectAttributes(tags={"a": "b"}, metadata={"m": "n"})
    first = await kit.store.put_object("bucket", b"k", BytesPayload(b"1"), said, owner="me")
    await kit.put(b"k", b"2")
    copied = await kit.store.copy_object(
        "bucket", b"k", "bucket", b"copy", owner="you", source_version_id=first.version_id
    )
    assert await read(kit, b"copy") == b"1"
    assert copied.attributes == said
    assert copied.owner == "you"
    assert copied.version_id not in (first.version_id, "null")
    there = Conditions(if_none_match=("*",))
    with pytest.raises(PreconditionFailed):
        await kit.store.copy_object(
            "bucket", b"k", "bucket", b"copy", owner="you", conditions=there
        )


async def test_judge(kit):
    """The worker that expires versions decides in the moment of the commit."""
    first = await kit.put(b"k", b"1")
    bucket = await kit.store.versions._buckets.find("bucket")
    seen = []

    def judge(record):
        seen.append(record.size)
        return False

    done = await kit.store.versions.delete(bucket, b"k", first.version_id, judge=judge)
    assert (done.info, seen) == (None, [1])
    assert await kit.store.versions.delete(bucket, b"none", judge=judge) == Deleted()
    others = keys.versions_of_key(bucket.id, b"k")
    empty = versions.Absent(others)
    await kit.put(b"k", b"2")
    with pytest.raises(CommitConflict):
        await kit.store.versions.delete(
            bucket, b"k", checks=[empty, versions.Equals(keys.bucket("bucket"), b"")]
        )
    assert prefix_end(others) > others
    assert len(await listed(kit)) == 2


# Listings.


async def test_pages_of_versions(kit):
    expected = []
    for key in (b"a", b"a\0", b"b/1", b"b/2", b"c"):
        ids = [(await kit.put(key)).version_id for _ in range(5)]
        ids.append((await delete(kit, key)).version_id)
        expected += [(key, each) for each in ids[::-1]]
    for limit in (1, 2, 3, 4, 5, 7, 29, 30):
        found, after, version = [], b"", None
        while True:
            page = await kit.store.list_versions(
                "bucket", after=after, after_version=version, limit=limit
            )
            found += [(each.key, each.version_id) for each in page.objects]
            if page.next_after is None:
                break
            assert len(page.objects) == limit
            assert (page.next_after, page.next_version) == found[-1]
            after, version = page.next_after, page.next_version
        assert found == expected
    page = await kit.store.list_versions("bucket", delimiter=b"/", limit=13)
    assert page.common_prefixes == [b"b/"]
    assert (page.next_after, page.next_version) == (b"b/", None)
    page = await kit.store.list_versions("bucket", delimiter=b"/", after=b"b/")
    assert {each.key for each in page.objects} == {b"c"}
    page = await kit.store.list_versions("bucket", prefix=b"b/", after=b"b/1")
    assert {each.key for each in page.objects} == {b"b/2"}
    with pytest.raises(InvalidRequest):
        await kit.store.list_versions("bucket", after=b"a", after_version="no id")


async def test_a_page_goes_on_where_a_version_was(kit):
    """Also if that is gone by now, or another one is current."""
    ids = [(await kit.put(b"k")).version_id for _ in range(4)]
    await delete(kit, b"k", ids[2])
    found = await listed(kit, after=b"k", after_version=ids[2])
    assert [each[1] for each in found] == [ids[1], ids[0]]
    await delete(kit, b"k", ids[3])
    found = await listed(kit, after=b"k", after_version=ids[3])
    assert [each[1:3] for each in found] == [(ids[1], True), (ids[0], False)]


async def test_more_versions_than_are_read_at_once(kit):
    for _ in range(60):
        await asyncio.gather(*(kit.put(b"k") for _ in range(20)))
    await kit.put(b"other")
    page = await kit.store.list_versions("bucket", limit=1250)
    assert len(page.objects) == 1201
    assert [each.key for each in page.objects[-2:]] == [b"k", b"other"]
    page = await kit.store.list_versions("bucket", delimiter=b"k", limit=10)
    assert (page.common_prefixes, [each.key for each in page.objects]) == ([b"k"], [b"other"])


# What it costs.


class Counted:
    """A KV store that counts. That an account has no quota is remembered for a while."""

    def __init__(self, kv, monkeypatch):
        self.calls = []
        monkeypatch.setattr(quota, "_ACCOUNT_SECONDS", 3600)
        for name in ("aget", "aget_many", "ascan", "commit"):
            monkeypatch.setattr(kv, name, self._counting(name, getattr(kv, name)))

    def _counting(self, name, call):
        async def counted(*args, **kwargs):
            self.calls.append(name)
            return await call(*args, **kwargs)

        return counted

    def take(self):
        calls, self.calls = self.calls, []
        return calls


async def test_a_bucket_without_versioning_pays_nothing(plain, monkeypatch):
    await plain.put(b"first")
    counted = Counted(plain.kv, monkeypatch)
    for _ in range(2):
        await plain.put(b"k")
        assert counted.take() == ["aget", "aget", "commit"]  # the bucket, the object
    await plain.put(b"k", b"")
    assert counted.take() == ["aget", "aget", "commit"]
    reader = await plain.store.get_object("bucket", b"k")
    reader.close()
    await plain.store.head_object("bucket", b"k")
    assert counted.take() == ["aget"] * 4
    await delete(plain, b"k")
    assert counted.take() == ["aget", "aget", "commit"]
    await plain.store.list_versions("bucket")
    assert counted.take() == ["aget", "ascan"]


async def test_what_versioning_costs(kit, monkeypatch):
    await kit.put(b"first")
    counted = Counted(kit.kv, monkeypatch)
    for _ in range(2):
        info = await kit.put(b"k")
        assert counted.take() == ["aget", "aget_many", "commit"]
    await kit.store.head_object("bucket", b"k", version_id=info.version_id)
    await kit.store.head_object("bucket", b"k")
    assert counted.take() == ["aget", "aget_many", "aget", "aget"]
    await delete(kit, b"k")
    assert counted.take() == ["aget", "aget_many", "commit"]


# Documents.


async def test_documents(plain):
    store = plain.store
    made = await store.create_bucket("other", owner="me", documents={TAGS: b"1", "own": b"2"})
    assert await store.get_documents(made) == {TAGS: b"1", "own": b"2"}
    await store.put_document("other", "own", None)
    await store.put_document("other", "nothing", None)
    await store.put_document("other", TAGS, b"3")
    found = await store.get_bucket("other")
    assert found.revision == 4
    assert await store.get_documents(found) == {TAGS: b"3"}
    assert await store.get_documents(await store.get_bucket("bucket")) == {}
    with pytest.raises(InvalidRequest):
        await store.put_document("other", "large", bytes(2 << 20))
    with pytest.raises(NotFound):
        await store.put_document("none", TAGS, b"")
    await store.delete_bucket("other")
    assert kinds(plain) == ""


async def test_a_document_is_put_only_beside_what_was_judged(plain):
    judged = await plain.store.get_bucket("bucket")
    await plain.store.put_document("bucket", "block", b"1")
    with pytest.raises(CommitConflict):
        await plain.store.put_document("bucket", TAGS, b"2", judged=judged)
    judged = await plain.store.get_bucket("bucket")
    await plain.store.put_document("bucket", TAGS, b"2", judged=judged)
    await plain.store.delete_bucket("bucket")
    await plain.store.create_bucket("bucket", owner="me")
    with pytest.raises(CommitConflict):
        await plain.store.put_document("bucket", TAGS, b"2", judged=judged)


async def test_documents_are_remembered_by_revision(plain, monkeypatch):
    counted = Counted(plain.kv, monkeypatch)
    await plain.store.put_document("bucket", TAGS, b"1")
    info = await plain.store.get_bucket("bucket")
    counted.take()
    for _ in range(3):
        assert await plain.store.get_documents(info) == {TAGS: b"1"}
    assert counted.take() == ["ascan"]
    await plain.store.put_document("bucket", TAGS, b"2")
    assert await plain.store.get_documents(await plain.store.get_bucket("bucket")) == {TAGS: b"2"}


async def test_changes_of_one_bucket_at_once(plain):
    """None is lost, and writes into the bucket go on."""
    changes = [plain.store.put_document("bucket", f"{n}", b"%d" % n) for n in range(12)]
    changes += [plain.store.set_versioning("bucket", "Enabled")]
    changes += [plain.put(b"%d" % n) for n in range(12)]
    await asyncio.gather(*changes)
    info = await plain.store.get_bucket("bucket")
    assert len(await plain.store.get_documents(info)) == info.revision == 12
    assert info.versioning == "Enabled"
    assert len((await plain.store.list_objects("bucket")).objects) == 12


async def test_buckets_of_one_owner(plain):
    for name, owner in (("one", "a"), ("two", "b"), ("three", "a")):
        await plain.store.create_bucket(name, owner=owner)
    found = await plain.store.list_buckets(owner="a")
    assert [each.name for each in found] == ["one", "three"]
    found = await plain.store.list_buckets(owner="a", after="one", limit=1)
    assert [each.name for each in found] == ["three"]
    assert len(await plain.store.list_buckets(limit=2)) == 2
