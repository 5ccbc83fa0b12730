"""The model itself, where front ends' tests do not reach it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.abc.objects import CompletePart, Conditions, ObjectAttributes, PayloadDigests
from objectio.errors import (
    AlreadyExists,
    InvalidRequest,
    NotEmpty,
    NotFound,
    PayloadDigestMismatch,
    PayloadIncomplete,
    PreconditionFailed,
)
from objectio.testing.objects import BytesPayload, MemoryObjects

PLAIN = ObjectAttributes()


@pytest.fixture
async def objects():
    found = MemoryObjects(part_size_bytes_min=4)
    await found.create_bucket("bucket", owner="me")
    return found


async def put(objects, key, data=b"data", **more):
    return await objects.put_object("bucket", key, BytesPayload(data), PLAIN, owner="me", **more)


async def read(objects, key):
    reader = await objects.get_object("bucket", key)
    pieces = [piece async for piece in reader.stream(0, reader.info.size)]
    reader.close()
    return b"".join(pieces)


async def test_buckets(objects):
    with pytest.raises(AlreadyExists) as caught:
        await objects.create_bucket("bucket", owner="you")
    assert caught.value.fields["owner"] == "me"
    for name in ("ab", "A-b", "1.2.3.4", "a..b", "-ab", "a" * 64):
        with pytest.raises(InvalidRequest):
            await objects.create_bucket(name, owner="me")
    await put(objects, b"k")
    with pytest.raises(NotEmpty):
        await objects.delete_bucket("bucket")


async def test_an_open_reader_keeps_its_bytes(objects):
    await put(objects, b"k", b"old")
    reader = await objects.get_object("bucket", b"k")
    await put(objects, b"k", b"new")
    await objects.delete_object("bucket", b"k")
    assert reader.read_now(0, 3) == b"old"
    assert objects.open_readers == {reader}
    reader.close()
    assert not objects.open_readers


async def test_a_payload_that_is_not_what_it_says_stores_nothing(objects):
    class Short(BytesPayload):
        size = 0

        def __init__(self, data, size):
            super().__init__(data)
            self.size = size

    class Wrong(BytesPayload):
        def finish(self):
            raise PayloadDigestMismatch(digest="md5")

    for payload, error in (
        (Short(b"abc", 4), PayloadIncomplete),
        (Wrong(b"abc"), PayloadDigestMismatch),
    ):
        with pytest.raises(error):
            await objects.put_object("bucket", b"k", payload, PLAIN, owner="me")
    with pytest.raises(NotFound):
        await objects.head_object("bucket", b"k")


async def test_conditions(objects):
    with pytest.raises(NotFound):
        await put(objects, b"k", conditions=Conditions(if_match=("*",)))
    info = await put(objects, b"k", conditions=Conditions(if_none_match=("*",)))
    for conditions in (
        Conditions(if_none_match=("*",)),
        Conditions(if_none_match=(info.etag,)),
        Conditions(if_match=("other",)),
    ):
        with pytest.raises(PreconditionFailed):
            await put(objects, b"k", b"new", conditions=conditions)
        with pytest.raises(PreconditionFailed):
            await objects.delete_object("bucket", b"k", conditions=conditions)
    await put(objects, b"k", b"new", conditions=Conditions(if_match=(info.etag,)))
    assert await read(objects, b"k") == b"new"


async def test_uploads(objects):
    upload = (await objects.create_upload("bucket", b"k", PLAIN, owner="me")).upload_id
    parts = [
        await objects.put_part("bucket", b"k", upload, number, BytesPayload(data))
        for number, data in ((1, b"aaaa"), (3, b"b"))
    ]
    done = [CompletePart(part.number, part.etag) for part in parts]

    def refuse(seen):
        assert list(seen) == parts
        raise PayloadDigestMismatch(digest="crc32")

    with pytest.raises(PayloadDigestMismatch):
        await objects.complete_upload("bucket", b"k", upload, done, check=refuse)
    info = await objects.complete_upload("bucket", b"k", upload, done)
    joined = hashlib.md5(b"aaaa").digest() + hashlib.md5(b"b").digest()
    assert info.etag == f"{hashlib.md5(joined).hexdigest()}-2"
    assert info.part_sizes == (4, 1)
    assert await read(objects, b"k") == b"aaaab"
    with pytest.raises(NotFound):
        await objects.complete_upload(
            "bucket", b"k", upload, done, check=lambda _: PayloadDigests("x")
        )


async def test_an_empty_id_stands_for_all_uploads_of_a_key(objects):
    ids = [
        (await objects.create_upload("bucket", key, PLAIN, owner="me")).upload_id
        for key in (b"a", b"a", b"b")
    ]

    async def after(key, upload_id):
        page = await objects.list_uploads("bucket", after=(key, upload_id))
        return [upload.upload_id for upload in page.uploads]

    assert await after(b"", "") == ids
    assert await after(b"a", "") == ids[2:]
    assert await after(b"a", ids[0]) == ids[1:]


@settings(max_examples=200, deadline=None)
@given(
    keys=st.sets(st.binary(min_size=1, max_size=4), max_size=20),
    prefix=st.binary(max_size=2),
    delimiter=st.binary(max_size=2),
    after=st.binary(max_size=3),
    limit=st.integers(1, 8),
)
async def test_pages_add_up(keys, prefix, delimiter, after, limit):
    """For keys of any bytes. An entry, key or common prefix, is listed if it is behind `after`."""
    objects = MemoryObjects()
    await objects.create_bucket("bucket", owner="me")
    for key in keys:
        await put(objects, key)
    expected = set()
    for key in keys:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            expected.add(key if cut < 0 else key[: cut + len(delimiter)])
    found, at = [], after
    while True:
        page = await objects.list_objects(
            "bucket", prefix=prefix, delimiter=delimiter, after=at, limit=limit
        )
        entries = sorted([*(item.key for item in page.objects), *page.common_prefixes])
        assert len(entries) <= limit
        found += entries
        if page.next_after is None:
            break
        assert page.next_after == entries[-1]
        assert len(entries) == limit
        at = page.next_after
    assert found == sorted(entry for entry in expected if entry > after)
