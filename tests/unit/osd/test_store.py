"""The shard store around the log: opening after damage, closing under load, a full device."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
import time

import pytest

from objectio.errors import ConfigError, DeviceFailed, DeviceFull
from objectio.limits import MIB
from objectio.osd import store as stores
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import (
    CLUSTER,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
)


@pytest.fixture
def factory(tmp_path):
    return LogStoreFactory(
        LogStoreConfig(segment_bytes=MIB, compact_bytes_per_second=1e12), make_context(tmp_path)
    )


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "device")


@pytest.fixture
def eager(monkeypatch):
    """Upkeep all the time."""
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.002)


async def opened(factory, path):
    if factory.probe(path) is None:
        factory.prepare(path, cluster_id=CLUSTER)
    return await factory.open(path, cluster_id=CLUSTER)


def index_of(tmp_path, store):
    return tmp_path / "test" / store.device_id / "data.mdb"


@pytest.mark.parametrize("how", ["garbage", "cut", "cut to a page", "empty", "gone", "no state"])
async def test_a_damaged_index_is_rebuilt(factory, path, tmp_path, how):
    store = await opened(factory, path)
    held = {shard_key(i): noise(5000, i) for i in range(60)}
    await asyncio.gather(*(submit(store, key, each) for key, each in held.items()))
    await submit_delete(store, shard_key(0))
    del held[shard_key(0)]
    await store.close()
    index = index_of(tmp_path, store)
    raw = index.read_bytes()
    match how:
        case "garbage":
            index.write_bytes(random.Random(1).randbytes(len(raw)))
        case "cut":
            index.write_bytes(raw[: len(raw) // 2])
        case "cut to a page":
            index.write_bytes(raw[:8192])
        case "empty":
            index.write_bytes(b"")
        case "gone":
            shutil.rmtree(index.parent)
        case "no state":
            at = raw.rfind(b"checkpoint")
            index.write_bytes(raw[: at + 10] + b"\xc1" * 4 + raw[at + 14 :])
    store = await opened(factory, path)
    assert await scan_all(store) == sorted(held)
    for key, payload in held.items():
        assert await read(store, key) == payload
    await store.close()


async def test_what_a_crash_left_of_preparing_can_be_prepared(factory, path, tmp_path):
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "log").touch()
    assert factory.probe(path) is None
    store = await opened(factory, path)
    await submit(store, shard_key(1), b"x")
    await store.close()


async def test_one_damaged_superblock_is_enough(factory, path, tmp_path):
    store = await opened(factory, path)
    await submit(store, shard_key(1), b"x")
    await store.close()
    for offset in (0, 4096):
        with (tmp_path / "device" / "log").open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * 100)
        store = await opened(factory, path)
        assert await read(store, shard_key(1)) == b"x"
        await store.close()
    with (tmp_path / "device" / "log").open("r+b") as file:
        file.write(bytes(8192))
    with pytest.raises(ConfigError):
        await factory.open(path, cluster_id=CLUSTER)


async def test_a_device_is_opened_once(factory, path):
    store = await opened(factory, path)
    with pytest.raises(ConfigError):
        await factory.open(path, cluster_id=CLUSTER)
    await store.close()


async def test_what_is_kept_of_a_replaced_device_can_go(factory, path, tmp_path):
    store = await opened(factory, path)
    await store.close()
    assert index_of(tmp_path, store).exists()
    factory.forget(store.device_id)
    factory.forget(store.device_id)
    assert not index_of(tmp_path, store).parent.exists()
    with pytest.raises(ValueError, match="UUID"):
        factory.forget("../../somewhere")


async def test_closing_while_everything_is_under_way(factory, path, eager):
    """Writes, reads in threads, checkpoints and compactions; again and again."""
    source, model = random.Random(1), {}
    for turn in range(12):
        store = await opened(factory, path)
        stop = threading.Event()
        failures = []

        def read_on(plans, stop=stop, failures=failures):
            while not stop.is_set():
                for plan in plans:
                    try:
                        plan()
                    except DeviceFailed:
                        continue
                    except Exception as error:
                        failures.append(error)
                        return

        fates = {}
        for i in range(80):
            key = shard_key(source.randrange(40))
            payload = noise(source.choice((100, 20_000, 60_000)), turn * 100 + i)
            fates[submit(store, key, payload)] = (key, payload)
        await asyncio.gather(*fates)
        model |= dict(fates.values())
        plans = [store.plan_read(key) for key in model]
        readers = [threading.Thread(target=read_on, args=(plans,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        await asyncio.sleep(source.random() / 30)
        await store.close()
        stop.set()
        for reader in readers:
            reader.join()
        assert failures == []
        with pytest.raises(DeviceFailed):
            await store.read(shard_key(1))
        with pytest.raises(DeviceFailed):
            await store.scan(None, 10)
    store = await opened(factory, path)
    for key, payload in model.items():
        assert await read(store, key) == payload
    await store.close()


async def test_a_full_device_gives_back_what_is_deleted_piece_by_piece(factory, path, eager):
    """Every second shard goes: no segment is empty, and each is half full at least."""
    factory.prepare(path, cluster_id=CLUSTER, size_bytes=16 * MIB)
    store = await factory.open(path, cluster_id=CLUSTER)
    held, number = {}, 0
    while True:
        key, payload = shard_key(number), noise(100_000, number)
        try:
            await submit(store, key, payload, sync=False)
        except DeviceFull:
            break
        held[key], number = payload, number + 1
    doomed = [key for i, key in enumerate(held) if i % 5 in (0, 2)]
    await submit_delete(store, *doomed)
    for key in doomed:
        del held[key]
    added, deadline = 0, time.monotonic() + 20
    while added < len(doomed) // 2:
        key, payload = shard_key(10_000 + added), noise(100_000, 10_000 + added)
        try:
            await submit(store, key, payload)
        except DeviceFull:
            assert time.monotonic() < deadline, f"only {added} of {len(doomed)} fit again"
            await asyncio.sleep(0.01)
            continue
        held[key], added = payload, added + 1
    for key, payload in held.items():
        assert await read(store, key) == payload
    await store.close()
    store = await factory.open(path, cluster_id=CLUSTER)
    assert await scan_all(store) == sorted(held)
    await store.close()


async def test_reads_follow_what_compaction_moves(factory, path, eager):
    store = await opened(factory, path)
    held = {shard_key(i): noise(70_000, i) for i in range(60)}
    for key, payload in held.items():
        await submit(store, key, payload, sync=False)
    plans = {key: store.plan_read(key) for key in held}
    gone = [shard_key(i) for i in range(60) if i % 3]
    await submit_delete(store, *gone)
    deadline = time.monotonic() + 10
    while store._core.segments[0].sequence and not store._core.free:
        assert time.monotonic() < deadline, "nothing was compacted"
        for key in held.keys() - set(gone):
            assert await read(store, key) == held[key]
    for i in range(100, 120):
        await submit(store, shard_key(i), noise(70_000, i))
    for key in held.keys() - set(gone):
        assert await asyncio.to_thread(plans[key]) == held[key]
    await store.close()
