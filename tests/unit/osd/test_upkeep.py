"""Upkeep beside the work: compaction lets everybody through, and a device that hangs ends nobody."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from objectio.errors import ConfigError, DeviceFailed
from objectio.limits import KIB, MIB
from objectio.osd import store as stores
from objectio.osd.device import Device
from objectio.osd.log import MoveItem
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.osd.upkeep import _MOVE_BYTES
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import (
    CLUSTER,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)


@pytest.fixture
def asleep(monkeypatch):
    """No upkeep but by hand."""
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 1e6)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "device")


@pytest.fixture
def open_store(tmp_path, path):
    async def open_(**more):
        config = {"segment_bytes": 16 * MIB, "compact_bytes_per_second": 1e12, "free_bytes_min": 0}
        factory = LogStoreFactory(LogStoreConfig(**config | more), make_context(tmp_path))
        if factory.probe(path) is None:
            factory.prepare(path, cluster_id=CLUSTER)
        return await factory.open(path, cluster_id=CLUSTER)

    return open_


async def half_empty(store, shard_bytes=200_000, segments=2):
    """Segments of which every second shard is deleted. Returns what is left."""
    size = store._core.superblock.segment_bytes
    held = {shard_key(i): noise(shard_bytes, i) for i in range(segments * size // shard_bytes + 5)}
    for key, payload in held.items():
        await submit(store, key, payload, sync=False)
    gone = list(held)[::2]
    await submit_delete(store, *gone)
    for key in gone:
        del held[key]
    return held


# Compaction.


async def test_no_write_waits_for_more_than_one_batch_of_compaction(open_store, asleep):
    store = await open_store()
    held = await half_empty(store)
    moved = []  # bytes that compaction has written, by batch
    run_batch = store._core.run_batch

    def watched(items):
        sizes = [item.record.total_bytes for item in items if isinstance(item, MoveItem)]
        outcomes = run_batch(items)
        if sizes:
            moved.append(sum(sizes))
        return outcomes

    store._core.run_batch = watched
    waited = []
    compacting = asyncio.create_task(store._compact_segments(0.9, 2))
    number = 1000

    async def write(number):
        before = len(moved)
        await submit(store, shard_key(number), b"foreground")
        waited.append(moved[before:])

    writers = set()
    while not compacting.done():
        writers.add(asyncio.create_task(write(number)))
        number += 1
        await asyncio.sleep(0)
    await compacting
    await asyncio.gather(*writers)
    assert sum(moved) > 3 * _MOVE_BYTES, "nothing was compacted"
    assert max(moved) <= _MOVE_BYTES + 201 * KIB
    assert any(waited), "nobody wrote meanwhile"
    # At most the batch that was under way, and the one that the write was made with.
    assert max(len(batches) for batches in waited) <= 1
    for key, payload in held.items():
        assert await read(store, key) == payload
    await store.close()


async def test_compaction_keeps_to_its_rate(open_store, asleep):
    store = await open_store(compact_bytes_per_second=40e6, segment_bytes=8 * MIB)
    await half_empty(store)
    began = time.monotonic()
    await store._compact_segments(0.9, 2)
    took = time.monotonic() - began
    moved = 8 * MIB  # half of two segments
    assert took >= 0.9 * moved / 40e6
    await store.close()


# Devices that hang.


class Gate:
    """Holds up calls of every device while it is shut."""

    def __init__(self, monkeypatch, *names):
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        for name in names:
            monkeypatch.setattr(Device, name, self._held(getattr(Device, name)))

    def _held(self, method):
        def call(*arguments, **more):
            if not self.open.is_set():
                self.waiting.set()
                assert self.open.wait(60)
            return method(*arguments, **more)

        return call


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(stores, "_CLOSE_SECONDS", 0.3)


async def opened_again(open_store):
    """Once the thread that was left behind has let go of the device."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await open_store()
            except ConfigError:
                await asyncio.sleep(0.01)


async def close_in_time(store, seconds=3):
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < seconds


async def test_a_device_that_hangs_in_a_write_is_left_behind(
    open_store, impatient, monkeypatch, caplog
):
    gate = Gate(monkeypatch, "pwritev", "sync")
    store = await open_store()
    await submit(store, shard_key(1), b"before")
    gate.open.clear()
    hung = submit(store, shard_key(2), b"hangs")
    await asyncio.to_thread(gate.waiting.wait, 10)
    queued = [submit(store, shard_key(3), b"queued"), submit_sync(store)]
    await close_in_time(store)
    assert "has not answered" in caplog.text
    for each in (hung, *queued):
        with pytest.raises(DeviceFailed):
            await each
    with pytest.raises(DeviceFailed):
        await submit(store, shard_key(5), b"late")
    with pytest.raises(ConfigError, match="in use"):
        await open_store()
    gate.open.set()
    store = await opened_again(open_store)
    assert await read(store, shard_key(1)) == b"before"
    await submit(store, shard_key(4), b"after")
    await store.close()


async def test_a_device_that_hangs_in_its_upkeep_is_left_behind(open_store, impatient, monkeypatch):
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.002)
    gate = Gate(monkeypatch, "sync")
    store = await open_store(checkpoint_changes=1)
    gate.open.clear()
    unsynced = submit(store, shard_key(1), b"x", sync=False)
    await asyncio.to_thread(gate.waiting.wait, 10)
    await unsynced
    await close_in_time(store)
    gate.open.set()
    store = await opened_again(open_store)
    assert await read(store, shard_key(1)) == b"x"
    await store.close()


async def test_a_device_that_hangs_in_a_read_is_left_behind(open_store, impatient, monkeypatch):
    gate = Gate(monkeypatch, "pread")
    store = await open_store()
    await submit(store, shard_key(1), noise(100_000))
    gate.open.clear()
    plan = store.plan_read(shard_key(1))
    reading = asyncio.create_task(asyncio.to_thread(plan))
    await asyncio.to_thread(gate.waiting.wait, 10)
    await close_in_time(store)
    gate.open.set()
    assert bytes(await reading) == noise(100_000)
    store = await opened_again(open_store)
    assert await scan_all(store) == [shard_key(1)]
    await store.close()


async def test_the_other_devices_of_a_node_go_on(tmp_path, impatient, monkeypatch):
    """Threads write for all of them; the one that hangs is lost, and no other."""
    factory = LogStoreFactory(LogStoreConfig(), make_context(tmp_path))
    paths = [str(tmp_path / f"device{i}") for i in range(3)]
    for each in paths:
        factory.prepare(each, cluster_id=CLUSTER)
    opened = [await factory.open(each, cluster_id=CLUSTER) for each in paths]
    gate, pwritev = threading.Event(), Device.pwritev
    waiting = threading.Event()

    def held(self, *arguments, **more):
        if self is opened[0]._device:
            waiting.set()
            assert gate.wait(60)
        return pwritev(self, *arguments, **more)

    monkeypatch.setattr(Device, "pwritev", held)
    for store in opened:  # a lane of its own, as on a disk of its own
        store.filesystem = id(store)
    hung = submit(opened[0], shard_key(1), b"hangs")
    await asyncio.to_thread(waiting.wait, 10)
    await close_in_time(opened[0])
    with pytest.raises(DeviceFailed):
        await hung
    async with asyncio.timeout(10):
        for number in range(20):
            await asyncio.gather(*(submit(s, shard_key(number), b"x") for s in opened[1:]))
    gate.set()
    async with asyncio.timeout(10):
        while opened[0]._rounds._threads != 2:
            await asyncio.sleep(0.005)
        for number in range(20):
            await asyncio.gather(*(submit(s, shard_key(number), b"y") for s in opened[1:]))
    for store in opened[1:]:
        await store.close()


async def test_a_look_at_a_device_that_hangs_ends(open_store, impatient, monkeypatch):
    gate = Gate(monkeypatch, "check")
    store = await open_store()
    gate.open.clear()
    for _ in range(2):
        with pytest.raises(DeviceFailed, match="answer"):
            await store.check()
    gate.open.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await store.check()
                break
            except DeviceFailed:
                continue
    await store.close()
