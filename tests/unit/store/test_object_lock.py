"""Object lock: what is locked stays, whoever asks and whatever cannot be read."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from objectio.abc.objects import CompletePart, DeleteTarget, ObjectAttributes
from objectio.errors import AccessDenied, InvalidRequest, Unavailable
from objectio.meta.records import encode
from objectio.model.bucket import (
    LOCK,
    DefaultRetention,
    ObjectLock,
    Retention,
    encode_document,
)
from objectio.testing.objects import BytesPayload

DAY_MS = 86_400_000


async def listed(kit):
    return {each.version_id for each in (await kit.store.list_versions("bucket")).objects}


async def delete(kit, key, version_id=None, **more):
    return await kit.store.delete_object("bucket", key, version_id=version_id, **more)


def until(days):
    return int(time.time() * 1000) + days * DAY_MS


@pytest.fixture
async def locked(make_kit):
    kit = await make_kit()
    await kit.store.delete_bucket("bucket")
    await kit.store.create_bucket("bucket", owner="me", object_lock=True)
    return kit


async def put_locked(kit, key=b"k", **said):
    attributes = ObjectAttributes(**said)
    return await kit.store.put_object("bucket", key, BytesPayload(b"x"), attributes, owner="me")


async def change_lock(kit, version_id, **said):
    return await kit.store.update_object(
        "bucket",
        b"k",
        lambda info: msgspec.structs.replace(info.attributes, **said),
        version_id=version_id,
    )


@pytest.mark.parametrize(
    ("said", "bypass", "goes"),
    [
        ({"legal_hold": True}, True, False),
        ({"retention": Retention(mode="GOVERNANCE", until_ms=until(1))}, False, False),
        ({"retention": Retention(mode="GOVERNANCE", until_ms=until(1))}, True, True),
        ({"retention": Retention(mode="COMPLIANCE", until_ms=until(1))}, True, False),
        ({"retention": Retention(mode="COMPLIANCE", until_ms=until(-1))}, False, True),
    ],
)
@pytest.mark.parametrize("current", [True, False])
async def test_what_is_locked_stays(locked, said, bypass, goes, current):
    made = await put_locked(locked, **said)
    if not current:
        await locked.put(b"k", b"on top")
    target = DeleteTarget(b"k", made.version_id)
    (fate,) = await locked.store.delete_objects("bucket", [target], bypass_governance=bypass)
    assert isinstance(fate, AccessDenied) is not goes
    assert (await delete(locked, b"k")).delete_marker  # which hides it, and takes nothing away
    assert (made.version_id in await listed(locked)) is not goes


async def test_what_cannot_be_read_is_locked(locked):
    made = await put_locked(locked)
    (row, raw) = next(each for each in locked.rows().items() if each[0][:1] == b"o")
    broken = encode([*msgspec.msgpack.decode(raw)[:19], ["FOREVER", 0]])
    await locked.kv.commit([], [(row, broken)])
    with pytest.raises(AccessDenied):
        await delete(locked, b"k", made.version_id, bypass_governance=True)
    assert locked.rows()[row] == broken
    await locked.kv.commit([], [(row, raw)])


async def test_retention_of_mode_compliance_only_grows(locked):
    made = await put_locked(locked, retention=Retention(mode="COMPLIANCE", until_ms=until(2)))
    for worse in (
        None,
        Retention(mode="COMPLIANCE", until_ms=until(1)),
        Retention(mode="GOVERNANCE", until_ms=until(9)),
    ):
        with pytest.raises(AccessDenied):
            await change_lock(locked, made.version_id, retention=worse)
    longer = Retention(mode="COMPLIANCE", until_ms=until(3))
    info = await change_lock(locked, made.version_id, retention=longer, legal_hold=True)
    assert (info.attributes.retention, info.attributes.legal_hold) == (longer, True)


@pytest.mark.parametrize("said", [{"days": 3}, {"years": 1}])
async def test_default_retention(locked, said):
    default = DefaultRetention(mode="GOVERNANCE", **said)
    await locked.store.put_document("bucket", LOCK, encode_document(ObjectLock(default=default)))
    own = Retention(mode="COMPLIANCE", until_ms=until(9))
    assert (await put_locked(locked, retention=own)).attributes.retention == own
    upload = await locked.store.create_upload("bucket", b"u", ObjectAttributes(), owner="me")
    part = await locked.store.put_part("bucket", b"u", upload.upload_id, 1, BytesPayload(b"p"))
    for info in (
        await put_locked(locked),
        await locked.store.copy_object("bucket", b"k", "bucket", b"copy", owner="me"),
        await locked.store.complete_upload(
            "bucket", b"u", upload.upload_id, [CompletePart(1, part.etag)]
        ),
    ):
        found = info.attributes.retention
        head = await locked.store.head_object("bucket", info.key)
        assert head.attributes.retention == found
        assert found.mode == "GOVERNANCE"
        kept = datetime.fromtimestamp(found.until_ms / 1000, UTC) - datetime.now(UTC)
        days = (said.get("days", 0), said.get("years", 0) * 366 + said.get("days", 0))
        assert timedelta(days=max(days) - 2) < kept <= timedelta(days=max(days))
        with pytest.raises(AccessDenied):
            await delete(locked, info.key, info.version_id)
    assert (await delete(locked, b"copy")).delete_marker


async def test_a_default_that_cannot_be_read_lets_nobody_write(locked):
    await locked.store.put_document("bucket", LOCK, b"?")
    with pytest.raises(Unavailable):
        await put_locked(locked)
    assert not await listed(locked)


async def test_locks_need_a_bucket_for_it(kit):
    await kit.store.set_versioning("bucket", "Enabled")
    for said in ({"legal_hold": True}, {"retention": Retention(mode="GOVERNANCE", until_ms=9)}):
        with pytest.raises(InvalidRequest):
            await put_locked(kit, **said)
        with pytest.raises(InvalidRequest):
            await kit.store.create_upload("bucket", b"k", ObjectAttributes(**said), owner="me")
        await kit.put(b"k")
        with pytest.raises(InvalidRequest):
            await change_lock(kit, None, **said)
    await kit.store.put_document("bucket", LOCK, encode_document(ObjectLock()))
    await put_locked(kit, legal_hold=True)


async def test_object_lock_is_for_good(locked, kit):
    with pytest.raises(InvalidRequest) as caught:
        await locked.store.set_versioning("bucket", "Suspended")
    assert caught.value.fields["reason"] == "InvalidBucketState"
    await locked.store.put_document("bucket", LOCK, None)
    assert (await locked.store.get_bucket("bucket")).object_lock
    with pytest.raises(InvalidRequest):
        await kit.store.put_document("bucket", LOCK, encode_document(ObjectLock()))
