"""Multipart uploads: what they leave behind, which is nothing, and who wins a race."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random

import pytest

from objectio import limits
from objectio.abc.objects import CompletePart, ObjectAttributes, PayloadDigests
from objectio.errors import InvalidRequest, NotFound
from objectio.meta.records import BlobRef, PartRecord, UploadRecord, decode_manifest
from objectio.store.uploads import _assemble
from objectio.testing.objects import BytesPayload

MANY = 40


def noise(size, seed):
    return random.Random(seed).randbytes(size)


async def begin(kit, key=b"key"):
    upload = await kit.store.create_upload("bucket", key, ObjectAttributes(), owner="me")
    return upload.upload_id


async def put_part(kit, upload, number, data, key=b"key"):
    info = await kit.store.put_part("bucket", key, upload, number, BytesPayload(data))
    return CompletePart(number, info.etag)


async def upload_of(kit, count, key=b"key", size=300):
    upload = await begin(kit, key)
    data = [noise(size, number) for number in range(1, count + 1)]
    parts = [await put_part(kit, upload, i, each, key) for i, each in enumerate(data, 1)]
    return upload, parts, b"".join(data)


async def complete(kit, upload, parts, key=b"key"):
    return await kit.store.complete_upload("bucket", key, upload, parts)


def kinds(kit):
    return {row[:1] for row in kit.rows()} - {b"c", b"B"}


async def assert_empty(kit):
    await kit.settle()
    assert kinds(kit) == set()
    assert not any(kit.shards().values())


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("count", [1, 16, 17, MANY])
@pytest.mark.parametrize("end", ["delete", "overwrite", "upload again", "copy over"])
async def test_an_object_of_parts_leaves_nothing(make_kit, fast, count, end):
    kit = await make_kit(fast=fast)
    upload, parts, data = await upload_of(kit, count)
    info = await complete(kit, upload, parts)
    etags = b"".join(bytes.fromhex(part.etag) for part in parts)
    assert info.etag == f"{hashlib.md5(etags).hexdigest()}-{count}"
    assert list(info.part_sizes) == [300] * count
    assert await kit.store.head_object("bucket", b"key") == info
    assert await kit.get(b"key") == data
    await kit.settle()
    assert (b"m" in kinds(kit)) == (count > 16)
    assert kinds(kit) - {b"m"} == {b"o", b"r"}
    if end == "overwrite":
        await kit.put(b"key", b"")
    elif end == "upload again":
        upload, parts, data = await upload_of(kit, count)
        await complete(kit, upload, parts)
        assert await kit.get(b"key") == data
    elif end == "copy over":
        await kit.store.copy_object("bucket", b"key", "bucket", b"key", owner="me")
        assert await kit.get(b"key") == data
        assert (await kit.store.head_object("bucket", b"key")).part_sizes == []
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


async def test_parts_that_were_replaced_or_left_out_are_garbage(kit):
    upload, parts, _ = await upload_of(kit, 5)
    parts[1] = await put_part(kit, upload, 2, b"another second part")
    await complete(kit, upload, [parts[0], parts[1], parts[4]])
    expected = noise(300, 1) + b"another second part" + noise(300, 5)
    assert await kit.get(b"key") == expected
    await kit.settle()
    assert {len(shards) for shards in kit.shards().values()} == {3}
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


@pytest.mark.parametrize("count", [0, 3, MANY])
async def test_an_aborted_upload_leaves_nothing(kit, count):
    upload, parts, _ = await upload_of(kit, count)
    await kit.store.abort_upload("bucket", b"key", upload)
    for call in (
        kit.store.abort_upload("bucket", b"key", upload),
        kit.store.get_upload("bucket", b"key", upload),
        kit.store.list_parts("bucket", b"key", upload),
        put_part(kit, upload, 1, b"late"),
        complete(kit, upload, parts),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.fields["kind"] == "upload"
    await assert_empty(kit)


async def test_what_a_crash_left_of_an_ended_upload_is_cleaned_at_the_next_start(kit):
    upload, parts, data = await upload_of(kit, 20)

    async def nothing(*_):
        raise OSError("the process ends here")

    kit.store._uploads._clean = nothing
    await complete(kit, upload, parts[:18])
    await asyncio.gather(*kit.store._uploads._cleaning)
    assert {b"e", b"p"} <= kinds(kit)
    del kit.store._uploads._clean
    await kit.maintenance.ended.stop()
    kit.maintenance.ended.start()
    async with asyncio.timeout(20):
        while {b"e", b"p"} & kinds(kit):
            await asyncio.sleep(0.002)
    assert await kit.get(b"key") == data[: 18 * 300]
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


@pytest.mark.parametrize("ends", [("complete", "complete"), ("complete", "abort"), ("abort",) * 2])
async def test_an_upload_ends_once(kit, ends):
    for _ in range(10):
        upload, parts, _ = await upload_of(kit, 3)
        calls = {
            "complete": lambda upload=upload, parts=parts: complete(kit, upload, parts),
            "abort": lambda upload=upload: kit.store.abort_upload("bucket", b"key", upload),
        }
        results = await asyncio.gather(*(calls[end]() for end in ends), return_exceptions=True)
        assert sorted(isinstance(result, NotFound) for result in results) == [False, True]
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


async def test_parts_race_with_the_end_of_their_upload(kit):
    """Each late part is in the object, or refused; none is left behind."""
    for turn in range(15):
        upload, parts, _ = await upload_of(kit, 2)
        late = [
            asyncio.create_task(put_part(kit, upload, number, noise(300, 100 + number)))
            for number in (2, 3, 4)
        ]
        for _ in range(turn):
            await asyncio.sleep(0)
        end = complete(kit, upload, parts) if turn % 2 else None
        results = await asyncio.gather(
            end or kit.store.abort_upload("bucket", b"key", upload), *late, return_exceptions=True
        )
        for result in results:
            assert not isinstance(result, Exception) or isinstance(
                result, NotFound | InvalidRequest
            )
        if isinstance(results[0], InvalidRequest):  # a part was replaced: the client tries again
            await kit.store.abort_upload("bucket", b"key", upload)
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


@pytest.mark.parametrize("end", ["complete", "abort"])
async def test_cancelled_while_it_ends(kit, end):
    for turns in range(40):
        upload, parts, _ = await upload_of(kit, 2)
        call = (
            complete(kit, upload, parts)
            if end == "complete"
            else kit.store.abort_upload("bucket", b"key", upload)
        )
        task = asyncio.create_task(call)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            await kit.store.abort_upload("bucket", b"key", upload)
        except NotFound:
            pass
    await kit.store.delete_object("bucket", b"key")
    await assert_empty(kit)


@pytest.mark.parametrize("fast", [True, False])
async def test_readers_and_writers_of_an_object_of_many_parts(make_kit, fast):
    """An object with a manifest is replaced and deleted all the time: readers see one whole
    version, or none, and writers never fail."""
    kit = await make_kit(fast=fast)
    whole = {}
    for version in range(3):
        key = b"source%d" % version
        upload, parts, data = await upload_of(kit, 17 + version, key, 100 + version)
        await complete(kit, upload, parts, key)
        whole[data] = version
    uploads = [await upload_of(kit, 17 + i % 3, size=100 + i % 3) for i in range(12)]
    done = asyncio.Event()

    async def write():
        for upload, parts, _ in uploads:
            await complete(kit, upload, parts)
            await asyncio.sleep(0.001)
            if len(parts) == 18:
                await kit.store.delete_object("bucket", b"key")
        done.set()

    async def read():
        seen = 0
        while not done.is_set():
            try:
                assert await kit.get(b"key") in whole
                seen += 1
            except NotFound:
                await asyncio.sleep(0)
        return seen

    async def overwrite():
        while not done.is_set():
            await kit.store.delete_object("bucket", b"other")
            await kit.store.copy_object("bucket", b"source1", "bucket", b"other", owner="me")

    writing = asyncio.create_task(write())
    seen = await asyncio.gather(read(), read(), overwrite(), overwrite())
    await writing
    assert sum(filter(None, seen)) > 0
    for key in (b"key", b"other", b"source0", b"source1", b"source2"):
        await kit.store.delete_object("bucket", key)
    await assert_empty(kit)


async def test_a_wrong_checksum_of_a_part(kit):
    upload = await begin(kit)
    part = await put_part(kit, upload, 1, b"data")
    with pytest.raises(InvalidRequest) as caught:
        await complete(kit, upload, [part._replace(checksums={"CRC32": "AAAAAA=="})])
    assert caught.value.fields["reason"] == "InvalidPart"
    assert caught.value.fields["part_number"] == 1
    await complete(kit, upload, [part])


def test_the_list_of_as_many_parts_as_there_may_be_fits_into_a_row():
    large = limits.PART_SIZE_BYTES_MAX
    sums = {"SHA256": base64.b64encode(bytes(32)).decode(), "CRC64NVME": "AAAAAAAAAAA="}
    part = PartRecord(large, "0" * 32, 2**41, sums, [BlobRef(bytes(16), large, 255)])
    upload = UploadRecord(0, "me", {}, {}, "STANDARD", "SHA256", "COMPOSITE")
    count = limits.PART_NUMBER_MAX
    numbers = list(range(1, count + 1))
    record, writes = _assemble(upload, numbers, [part] * count, PayloadDigests("x"))
    assert record.size == count * large
    ((_, raw),) = writes
    assert len(raw) < limits.KV_VALUE_BYTES_MAX
    kept = decode_manifest(raw).part_checksums
    assert kept == [{"SHA256": sums["SHA256"]}] * count
