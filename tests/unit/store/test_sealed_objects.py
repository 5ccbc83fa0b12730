"""Encrypted objects in a store: whole, in ranges, in parts, copied, damaged; and what the disks and the
metadata hold of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from objectio.abc.objects import CompletePart, Encryption, ObjectAttributes
from objectio.errors import (
    ChecksumMismatch,
    InvalidRequest,
    NotFound,
    PayloadIncomplete,
    Unavailable,
)
from objectio.kms.keyring import change_ring, with_key, with_new_version
from objectio.kms.local import DRIVER, LocalKmsConfig
from objectio.limits import KIB, MIB
from objectio.meta.records import decode_object, encode
from objectio.model.bucket import ENCRYPTION, DefaultEncryption, encode_document
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.store.datakeys import DataKeys
from objectio.testing.context import make_context
from objectio.testing.objects import BytesPayload

MINE, OTHER = bytes(range(32)), bytes(range(1, 33))
CUSTOMER = Encryption(method="SSE-C", customer_key=MINE)
SSE_S3 = Encryption(method="AES256")
KMS = Encryption(method="aws:kms", key_id="k1", context={"a": "b"})
TWICE = Encryption(method="aws:kms:dsse")
ALL = pytest.mark.parametrize("wanted", [CUSTOMER, SSE_S3, KMS, TWICE], ids=repr)
SIZES = [0, 1, 1000, 64 * KIB, 64 * KIB + 1, 300_000, 2 * MIB + 77]
SAID = ObjectAttributes()


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def key_of(wanted):
    return wanted.customer_key or None


@pytest.fixture
async def keys(tmp_path):
    kms = DRIVER.open(LocalKmsConfig(), make_context(tmp_path))
    await kms.start(None)
    change_ring(kms.path, lambda ring: with_key(ring, "k1"))
    return DataKeys(kms)


@pytest.fixture
async def kit(make_kit, keys):
    return await make_kit(keys=keys, stripe_bytes=200_000)


async def read(kit, key=b"key", customer_key=None, start=0, length=None, **more):
    reader = await kit.store.get_object("bucket", key, customer_key=customer_key, **more)
    length = reader.info.size - start if length is None else length
    try:
        now = reader.read_now(start, length)
        streamed = b"".join([bytes(piece) async for piece in reader.stream(start, length)])
        assert now is None or bytes(now) == streamed
        return streamed
    finally:
        reader.close()


async def settled(kit):
    await kit.settle()
    assert kit.store._write_budget.used_bytes == 0
    assert kit.store._read_budget.used_bytes == 0
    assert kit.store._sealing_budget.used_bytes == 0
    assert not kit.in_use.active
    assert not kit.in_use.pins


@ALL
@pytest.mark.parametrize("size", SIZES)
async def test_an_object_comes_back(kit, wanted, size):
    data, mine = noise(size), key_of(wanted)
    payload = BytesPayload(data)
    info = await kit.put(b"key", payload=payload, encryption=wanted)
    plain = await kit.put(b"plain", data)
    assert (info.size, info.etag, info.checksums) == (plain.size, plain.etag, plain.checksums)
    assert info.encryption.method == wanted.method
    head = await kit.store.head_object("bucket", b"key", customer_key=mine)
    assert head == info
    assert await read(kit, customer_key=mine) == data
    for start, length in ((0, 1), (size // 2, size - size // 2), (size - 1, 1), (65_530, 20)):
        if start >= 0 and length and start + length <= size:
            assert await read(kit, b"key", mine, start, length) == data[start : start + length]
    await settled(kit)


@ALL
async def test_nothing_is_left_of_what_was_overwritten_or_deleted(kit, wanted):
    for size in (1000, 300_000):
        await kit.put(b"key", noise(size), encryption=wanted)
    await kit.store.delete_object("bucket", b"key")
    await settled(kit)
    assert not any(kit.shards().values())


@ALL
async def test_a_body_that_breaks_off_leaves_nothing(kit, wanted):
    for size, declared in ((10, 20), (300_000, 400_000), (65_536, 65_537)):
        payload = BytesPayload(noise(size))
        payload.size = declared
        with pytest.raises(PayloadIncomplete):
            await kit.put(b"key", payload=payload, encryption=wanted)
    await settled(kit)
    assert not any(kit.shards().values())


@ALL
async def test_parts_come_back_as_one_object(kit, wanted):
    store, mine = kit.store, key_of(wanted)
    upload = await store.create_upload("bucket", b"key", SAID, owner="me", encryption=wanted)
    assert upload.encryption.method == wanted.method
    data = [noise(size, size) for size in (300_000, 65_536, 70_001, 16, 0)]
    parts = []
    for number, each in enumerate(data, 3):
        info = await store.put_part(
            "bucket", b"key", upload.upload_id, number, BytesPayload(each), customer_key=mine
        )
        assert info.encryption == upload.encryption
        assert info.size == len(each)
        parts.append(CompletePart(number, info.etag))
    info = await store.complete_upload("bucket", b"key", upload.upload_id, parts, customer_key=mine)
    whole = b"".join(data)
    assert (info.size, info.encryption) == (len(whole), upload.encryption)
    assert list(info.part_sizes) == [len(each) for each in data]
    assert await read(kit, customer_key=mine) == whole
    for start, length in ((299_990, 20), (299_990, 65_600), (0, 1), (435_530, 23), (10, 435_000)):
        assert await read(kit, b"key", mine, start, length) == whole[start : start + length]
    await settled(kit)


async def test_more_parts_than_fit_into_a_row(kit):
    store = kit.store
    upload = await store.create_upload("bucket", b"key", SAID, owner="me", encryption=SSE_S3)
    parts = []
    for number in range(1, 41):
        payload = BytesPayload(noise(100 + number, number))
        info = await store.put_part("bucket", b"key", upload.upload_id, number, payload)
        parts.append(CompletePart(number, info.etag))
    await store.complete_upload("bucket", b"key", upload.upload_id, parts)
    whole = b"".join(noise(100 + number, number) for number in range(1, 41))
    assert await read(kit) == whole
    assert (await store.head_object("bucket", b"key")).encryption.method == "AES256"


# Customers' keys.


@pytest.mark.parametrize("size", [0, 10, 300_000])
@pytest.mark.parametrize("wrong", [None, OTHER, b"short"])
async def test_without_the_customers_key_there_is_nothing(kit, size, wrong):
    await kit.put(b"key", noise(size), encryption=CUSTOMER)
    calls = [
        lambda: kit.store.get_object("bucket", b"key", customer_key=wrong),
        lambda: kit.store.head_object("bucket", b"key", customer_key=wrong),
        lambda: kit.store.copy_object(
            "bucket", b"key", "bucket", b"copy", owner="me", source_customer_key=wrong
        ),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            await call()
    info = await kit.store.head_object("bucket", b"key", check_key=False)
    assert info.encryption.customer_key_md5
    await settled(kit)


@pytest.mark.parametrize("wanted", [None, SSE_S3, KMS])
async def test_a_customers_key_where_none_is_wanted(kit, wanted):
    await kit.put(b"key", noise(10), encryption=wanted)
    for call in (kit.store.get_object, kit.store.head_object):
        with pytest.raises(InvalidRequest):
            await call("bucket", b"key", customer_key=MINE)
    await settled(kit)


@pytest.mark.parametrize("wrong", [None, OTHER])
async def test_parts_need_the_customers_key(kit, wrong):
    store = kit.store
    upload = await store.create_upload("bucket", b"key", SAID, owner="me", encryption=CUSTOMER)
    place = ("bucket", b"key", upload.upload_id)
    with pytest.raises(InvalidRequest):
        await store.put_part(*place, 1, BytesPayload(b"data"), customer_key=wrong)
    info = await store.put_part(*place, 1, BytesPayload(b"data"), customer_key=MINE)
    with pytest.raises(InvalidRequest):
        await store.complete_upload(*place, [CompletePart(1, info.etag)], customer_key=wrong)
    await store.complete_upload(*place, [CompletePart(1, info.etag)], customer_key=MINE)
    assert await read(kit, customer_key=MINE) == b"data"


async def test_parts_of_a_plain_upload_bring_no_key(kit):
    upload = await kit.store.create_upload("bucket", b"key", SAID, owner="me")
    with pytest.raises(InvalidRequest):
        await kit.store.put_part(
            "bucket", b"key", upload.upload_id, 1, BytesPayload(b"data"), customer_key=MINE
        )


# Copies.


@pytest.mark.parametrize("size", [0, 10, 300_000])
@pytest.mark.parametrize("target", [None, CUSTOMER, SSE_S3, KMS, TWICE], ids=repr)
@pytest.mark.parametrize("source", [None, CUSTOMER, SSE_S3], ids=repr)
async def test_a_copy_is_encrypted_in_its_own_way(kit, source, target, size):
    data = noise(size)
    first = await kit.put(b"key", data, encryption=source)
    other = None if target is None else target
    if target is CUSTOMER:
        other = Encryption(method="SSE-C", customer_key=OTHER)
    info = await kit.store.copy_object(
        "bucket",
        b"key",
        "bucket",
        b"copy",
        owner="me",
        encryption=other,
        source_customer_key=source and key_of(source),
    )
    assert info.etag == first.etag
    assert (info.encryption is None) == (target is None)
    assert await read(kit, b"copy", other and key_of(other)) == data
    await settled(kit)


async def test_a_copy_onto_itself_changes_the_key(kit, keys):
    await kit.put(b"key", noise(1000), encryption=KMS)
    before = record(kit).encryption.wrapped
    change_ring(keys._kms.path, lambda ring: with_new_version(ring, "k1"))
    await kit.store.copy_object("bucket", b"key", "bucket", b"key", owner="me", encryption=KMS)
    assert record(kit).encryption.wrapped[:17] != before[:17]
    assert await read(kit) == noise(1000)


# The bucket's default.


async def default(kit, **more):
    document = None if not more else encode_document(DefaultEncryption(**more))
    await kit.store.put_document("bucket", ENCRYPTION, document)


async def test_the_buckets_default_is_for_who_says_nothing(kit):
    store = kit.store
    await kit.put(b"before", noise(10))
    await default(kit, method="aws:kms", key_id="k1", bucket_key=True)
    said = (await kit.put(b"key", noise(10))).encryption
    assert (said.method, said.key_id, said.bucket_key) == ("aws:kms", "k1", True)
    upload = await store.create_upload("bucket", b"up", SAID, owner="me")
    assert upload.encryption == said
    copy = await store.copy_object("bucket", b"before", "bucket", b"copy", owner="me")
    assert copy.encryption == said
    assert (await kit.put(b"mine", b"x", encryption=CUSTOMER)).encryption.method == "SSE-C"
    assert (await kit.put(b"s3", b"x", encryption=SSE_S3)).encryption.method == "AES256"
    assert (await store.head_object("bucket", b"before")).encryption is None
    await default(kit)
    assert (await kit.put(b"after", noise(10))).encryption is None
    assert await read(kit, b"key") == noise(10)


async def test_a_bucket_may_begin_with_a_default(kit):
    documents = {ENCRYPTION: encode_document(DefaultEncryption(method="AES256"))}
    await kit.store.create_bucket("other", owner="me", documents=documents)
    assert (await kit.put(b"key", b"x", bucket="other")).encryption.method == "AES256"


async def test_a_default_that_cannot_be_used_lets_nothing_in_unencrypted(kit):
    await default(kit, method="aws:kms", key_id="gone")
    with pytest.raises(InvalidRequest):
        await kit.put(b"key", noise(10))
    await kit.store.put_document("bucket", ENCRYPTION, b"{")
    with pytest.raises(Exception, match="truncated"):
        await kit.put(b"key", noise(10))
    with pytest.raises(NotFound):
        await kit.store.head_object("bucket", b"key")


async def test_where_there_are_no_documents_nobody_asks_for_any(kit, monkeypatch):
    monkeypatch.setattr(kit.kv, "ascan_prefix", None)  # which is how they are read
    await kit.put(b"key", noise(10))


# Versions, and what is said of them.


async def test_each_version_has_its_own_key(kit):
    store = kit.store
    await store.set_versioning("bucket", "Enabled")
    made = [
        (await kit.put(b"key", noise(size, size), encryption=wanted), wanted)
        for size, wanted in ((100, SSE_S3), (300_000, CUSTOMER), (70_000, None), (10, KMS))
    ]
    for info, wanted in made:
        data = await read(kit, b"key", wanted and key_of(wanted), version_id=info.version_id)
        assert data == noise(info.size, info.size)


async def test_what_is_said_of_a_version_can_be_changed(kit):
    info = await kit.put(b"key", noise(1000), encryption=CUSTOMER)
    tagged = await kit.store.update_object(
        "bucket", b"key", lambda now: ObjectAttributes(tags={"a": "b"})
    )
    assert (tagged.attributes.tags, tagged.encryption) == ({"a": "b"}, info.encryption)
    assert await read(kit, customer_key=MINE) == noise(1000)


# Damage.


def record(kit, key=b"key"):
    [raw] = [raw for row, raw in kit.rows().items() if row[:1] == b"o" and row.endswith(key)]
    return decode_object(raw)


@ALL
async def test_as_many_disks_may_be_lost_as_ever(kit, wanted):
    await kit.put(b"key", noise(300_000), encryption=wanted)
    await kit.take_out(0)
    await kit.take_out(3)
    assert await read(kit, customer_key=key_of(wanted)) == noise(300_000)


async def test_another_objects_row_is_of_no_use(kit):
    await kit.put(b"key", noise(1000), encryption=SSE_S3)
    await kit.put(b"eve", noise(10), encryption=SSE_S3)
    [(row, _)] = [(r, v) for r, v in kit.rows().items() if r[:1] == b"o" and r.endswith(b"eve")]
    await kit.kv.commit([], [(row, encode(record(kit)))])
    with pytest.raises(Exception, match="not wrapped"):
        await read(kit, b"eve")
    await kit.kv.commit([], [(row, None)])  # nor counts it as the owner of those blobs


async def test_another_objects_bytes_do_not_open(kit):
    import msgspec

    await kit.put(b"key", noise(1000), encryption=SSE_S3)
    await kit.put(b"eve", noise(1000), encryption=SSE_S3)
    [row] = [r for r in kit.rows() if r[:1] == b"o" and r.endswith(b"eve")]
    own = record(kit, b"eve")
    await kit.kv.commit([], [(row, encode(msgspec.structs.replace(own, blobs=record(kit).blobs)))])
    with pytest.raises(ChecksumMismatch):
        await read(kit, b"eve")
    await kit.kv.commit([], [(row, encode(own))])
    assert await read(kit, b"eve") == noise(1000)


async def test_a_lost_key_ring_is_said_to_be_lost(kit, keys):
    await kit.put(b"key", noise(10), encryption=SSE_S3)
    await kit.put(b"plain", noise(10))
    aside = keys._kms.path.rename(keys._kms.path.with_name("aside"))
    with pytest.raises(Unavailable, match="missing"):
        await read(kit)
    with pytest.raises(Unavailable, match="missing"):
        await kit.put(b"new", noise(10), encryption=SSE_S3)
    assert await read(kit, b"plain") == noise(10)
    await settled(kit)
    aside.rename(keys._kms.path)
    assert await read(kit) == noise(10)


async def test_without_a_key_manager(make_kit):
    kit = await make_kit()
    with pytest.raises(Unavailable):
        await kit.put(b"key", b"x", encryption=SSE_S3)
    await kit.put(b"key", b"x", encryption=CUSTOMER)
    assert await read(kit, customer_key=MINE) == b"x"


# What is on the disks.

CANARY = b"the canary sings in the clear "


@pytest.mark.parametrize("size", [600, 300_000])
@pytest.mark.parametrize("wanted", [None, CUSTOMER, SSE_S3, KMS, TWICE], ids=repr)
async def test_the_disks_and_the_metadata_show_nothing(make_kit, keys, tmp_path, wanted, size):
    factory = LogStoreFactory(LogStoreConfig(segment_bytes=MIB), make_context(tmp_path, "index"))
    kit = await make_kit(keys=keys, factory=factory, stripe_bytes=64 * KIB)
    data = (CANARY * (size // len(CANARY) + 1))[:size]
    await kit.put(b"key", data, encryption=wanted)
    upload = await kit.store.create_upload("bucket", b"up", SAID, owner="me", encryption=wanted)
    mine = wanted and key_of(wanted)
    await kit.store.put_part(
        "bucket", b"up", upload.upload_id, 1, BytesPayload(data), customer_key=mine
    )
    assert await read(kit, customer_key=mine) == data
    held = b"".join(path.read_bytes() for path in Path(kit.where).rglob("*") if path.is_file())
    held += b"".join(row + raw for row, raw in kit.rows().items())
    assert (CANARY in held) == (wanted is None)  # this test can see what is in the clear
    secrets = [MINE]
    for row, raw in kit.rows().items():
        if row[:1] == b"o" and (there := decode_object(raw).encryption) and there.method != "SSE-C":
            place = {"objectio:bucket": row[1:9].hex(), "objectio:key": "a2V5"}
            secrets.append(
                await keys._kms.unwrap(there.key_id, there.wrapped, {**there.context, **place})
            )
    assert len(secrets) == (2 if wanted in (SSE_S3, KMS, TWICE) else 1)
    assert not any(secret in held for secret in secrets)
