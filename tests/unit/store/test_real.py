"""The store on real devices and, where it is installed, a real key-value engine."""

from __future__ import annotations

import asyncio
import random
import shutil

import pytest

from objectio.abc.objects import CompletePart, DeleteTarget, ObjectAttributes
from objectio.limits import MIB
from objectio.osd import store as stores
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.objects import BytesPayload


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def start(tmp_path, make_kit, monkeypatch):
    lmdb = pytest.importorskip("objectio_kv_lmdb.plugin").DRIVER
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.01)

    async def start_():
        context = make_context(tmp_path, "index")
        config = LogStoreConfig(segment_bytes=MIB, compact_bytes_per_second=1e12)
        kit = make_kit.kit_class(
            tmp_path,
            kv=lmdb.open(lmdb.config(), make_context(tmp_path, "meta")),
            factory=LogStoreFactory(config, context),
        )
        await kit.start()
        return kit

    return start_


async def shards_of(kit):
    return [len(await store.scan(None, 100_000)) for store in kit.devices.stores.values()]


async def put_in_parts(kit, key, data):
    upload = await kit.store.create_upload("bucket", key, ObjectAttributes(), owner="me")
    parts = []
    for number, at in enumerate(range(0, len(data), 4000), 1):
        payload = BytesPayload(data[at : at + 4000])
        info = await kit.store.put_part("bucket", key, upload.upload_id, number, payload)
        parts.append(CompletePart(number, info.etag))
    await kit.store.complete_upload("bucket", key, upload.upload_id, parts)


async def test_a_life_with_restarts(start, tmp_path):
    source, model = random.Random(5), {}
    kit = await start()
    await kit.store.create_bucket("bucket", owner="me")
    for turn in range(4):

        async def change(number, turn=turn, kit=kit):
            key = b"%d" % number
            match source.randrange(4):
                case 0:
                    await kit.store.delete_object("bucket", key)
                    model.pop(key, None)
                case 1:
                    data = noise(4000 * source.randrange(1, 25), turn * 100 + number)
                    await put_in_parts(kit, key, data)
                    model[key] = data
                case _:
                    data = noise(source.choice((0, 1, 5000, 200_000)), turn * 100 + number)
                    await kit.put(key, data)
                    model[key] = data

        for _ in range(3):
            await asyncio.gather(*(change(number) for number in range(30)))
        if turn == 1:
            await kit.replace(3)
        await kit.stop()
        if turn == 2:
            shutil.rmtree(tmp_path / "index")
        kit = await start()
        page = await kit.store.list_objects("bucket")
        assert [each.key for each in page.objects] == sorted(model)
        for key, data in model.items():
            assert await kit.get(key) == data
    await kit.settle()
    for osd in (1, 5):
        await kit.take_out(osd)
    for key, data in model.items():
        assert await kit.get(key) == data
    await kit.put_back(1, 5)
    await kit.store.delete_objects("bucket", [DeleteTarget(key) for key in model])
    await kit.store.delete_bucket("bucket")
    await kit.settle()
    assert await shards_of(kit) == [0] * 6
    assert {row[:1] for row in kit.rows()} == {b"c"}
    await kit.stop()
