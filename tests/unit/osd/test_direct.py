"""Devices that are read and written past the page cache."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from objectio.errors import ConfigError, DeviceFailed, DeviceFull
from objectio.limits import MIB
from objectio.osd import direct as direct_io
from objectio.osd import store as stores
from objectio.osd.device import Device, create
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.osd.upkeep import _live, _move
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import CLUSTER, noise, read, shard_key, submit, submit_delete

SIZE = 2**20 + 200 * 16 * 1024


@pytest.fixture
def image(direct_path):
    path = direct_path / "image"
    create(path, 16 * MIB + 777)  # whose end is no multiple of a block
    device = Device(path)
    assert device.is_direct
    yield device
    device.close()


def test_any_span_reads_and_writes_as_bytes_do(image):
    source, model = random.Random(1), bytearray(image.size_bytes)
    for _ in range(60):
        data = source.randbytes(source.choice([1, 100, 4096, 5000, 200_000]))
        offset = source.randrange(12 * MIB)
        if source.random() < 0.5:
            offset &= -4096
        cut = sorted(source.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
        assert image.pwritev(pieces, offset, durable=source.random() < 0.5) == len(data)
        model[offset : offset + len(data)] = data
        at, length = source.randrange(len(model)), source.choice([1, 72, 4096, 100_000])
        assert image.pread(length, at) == model[at : at + length]
    image.sync()
    assert image.path.read_bytes() == model


def test_more_than_a_buffer_at_once(image):
    data = noise(9 * MIB)
    image.pwritev([data], 4096, durable=True)
    assert image.pread(len(data), 4096) == data
    assert image.pread(10, 4096 + 5 * MIB) == data[5 * MIB : 5 * MIB + 10]


def test_the_end_of_a_device(image):
    size = image.size_bytes
    assert image.pread(100, size - 7) == bytes(7)
    assert image.pread(100, size + 5) == b""
    assert image.pread(100_000, size - 50_000) == bytes(50_000)


def test_threads_have_buffers_of_their_own(image):
    held = [noise(300_000, number) for number in range(8)]
    for number, data in enumerate(held):
        image.pwritev([data], number * MIB)
    wrong = []

    def look(number):
        found = {image.pread(300_000, number * MIB) for _ in range(20)}
        wrong.extend(found - {held[number]})

    threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_page_cache_is_never_asked(image):
    image.pwritev([noise(4096)], 8192)
    assert image.pread_now(100, 8192) is None


def test_who_is_opened_how(direct_path):
    create(direct_path / "directory", None)
    create(direct_path / "image", 16 * MIB)
    for name, direct, expected in (
        ("directory", "auto", False),
        ("directory", "always", True),
        ("image", "auto", True),
        ("image", "always", True),
        ("image", "never", False),
    ):
        device = Device(direct_path / name, direct)
        assert device.is_direct == expected, (name, direct)
        assert device.block_bytes == (4096 if expected else 1)
        device.close()


def test_a_file_system_without_direct_access(direct_path, monkeypatch):
    """As tmpfs was before Linux 6.6, and others are."""

    def turn_on(fd):
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(direct_io, "turn_on", turn_on)
    create(direct_path / "image", 16 * MIB)
    device = Device(direct_path / "image", "auto")
    assert not device.is_direct
    device.close()
    with pytest.raises(ConfigError, match="O_DIRECT"):
        Device(direct_path / "image", "always")
    Device(direct_path / "image", "never").close()  # nothing holds its lock


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_a_block_device_says_what_it_writes_at_once(make_loop_device, sector_bytes):
    path = Path(make_loop_device(16 * MIB, sector_bytes))
    device = Device(path)
    assert device.is_direct
    assert device.block_bytes == sector_bytes
    assert device.size_bytes == 16 * MIB
    device.pwritev([noise(5000)], 4096, durable=True)
    assert device.pread(5000, 4096) == noise(5000)
    with pytest.raises(ConfigError, match="in use"):
        Device(path)
    device.discard(4096, 8192)
    device.close()
    assert path.read_bytes()[4096:12288] == bytes(8192)


# The log on them.


class Sectors:
    """Notes which blocks are written, and how often between two starts of their segment."""

    def __init__(self, device):
        self._device = device
        self.writes = []

    def __getattr__(self, name):
        return getattr(self._device, name)

    def pwritev(self, buffers, offset, *, durable=False):
        size = sum(len(part) for part in buffers)
        self.writes.append((offset, size))
        return self._device.pwritev(buffers, offset, durable=durable)


@pytest.mark.parametrize("clean", [True, False])
def test_no_block_that_holds_a_promise_is_written_again(make_bench, direct_path, clean):
    """A power cut may tear the block that is being written: nothing else may be in it."""
    bench = make_bench(path=direct_path / "image", size_bytes=SIZE, direct="always")
    written = set()
    for turn in range(6):
        sectors = bench.log.device = Sectors(bench.log.device)
        for number in range(5):
            bench.put(turn * 10 + number, [10, 3000, 4000, 9000, 100][number])
        bench.delete(turn * 10)
        for offset, size in sectors.writes:
            assert offset % 4096 == 0
            assert size % 4096 == 0
            blocks = set(range(offset, offset + size, 4096))
            assert not blocks & written
            written |= blocks
        bench.reopen() if clean else bench.crash()
        bench.check()


def test_a_log_goes_on_past_the_page_cache_at_the_next_block(make_bench, direct_path):
    bench = make_bench(path=direct_path / "image", size_bytes=SIZE, direct="never")
    bench.put(1, 100)
    end = bench.log.tail.offset_in_segment
    assert end % 4096
    bench.direct = "always"
    bench.reopen()
    assert bench.log.tail.offset_in_segment == -(-end // 4096) * 4096
    bench.put(2, 100)
    assert bench.log.tail.offset_in_segment == -(-end // 4096) * 4096 + 4096
    bench.lose_index()
    bench.check()
    bench.direct = "never"
    bench.reopen()
    bench.put(3, 100)
    bench.crash()
    bench.check()


def test_one_batch_is_padded_once(make_bench, direct_path, put_item, shard_key):
    bench = make_bench(path=direct_path / "image", size_bytes=SIZE, direct="always")
    items = [put_item(shard_key(number), b"x" * 100) for number in range(20)]
    assert bench.run(*items) == [None] * 20
    assert bench.log.tail.offset_in_segment == 4096  # 20 of 187 bytes, and a header
    bench.model |= {shard_key(number): b"x" * 100 for number in range(20)}
    bench.crash()
    bench.check()


def test_padding_is_given_back_by_compaction(make_bench, direct_path):
    bench = make_bench(path=direct_path / "image", size_bytes=SIZE, direct="always")
    for number in range(41):
        bench.put(number, 100)
    used = sum(segment.written_bytes for segment in bench.log.segments)
    assert used == 41 * 4096
    for index in bench.victims():
        moves = [
            _move(found, print) for found in _live(bench.log, index, sequence_of(bench, index))
        ]
        assert bench.run(*moves) == [None] * len(moves)
    bench.checkpoint()
    assert sum(segment.written_bytes for segment in bench.log.segments) < used / 2
    bench.check()
    bench.lose_index()
    bench.check()


def sequence_of(bench, index):
    return bench.log.segments[index].sequence


def test_segments_that_do_not_fit_the_blocks_are_left_to_the_page_cache(
    make_bench, direct_path, tmp_path
):
    bench = make_bench(path=direct_path / "image", size_bytes=SIZE, segment_bytes=10_000)
    bench.close()
    cluster = "00000000-0000-0000-0000-000000000000"
    factory = LogStoreFactory(LogStoreConfig(direct="always"), make_context(tmp_path))
    with pytest.raises(ConfigError, match="multiple"):
        factory._open(bench.path, cluster)
    factory = LogStoreFactory(LogStoreConfig(), make_context(tmp_path))
    log = factory._open(bench.path, cluster)
    assert not log.device.is_direct
    log.index.close()
    log.device.close()


# The store and its cache.


@pytest.fixture
def open_store(direct_path):
    opened = []

    async def open_(**config):
        settings = {"direct": "always", "segment_bytes": MIB, "compact_bytes_per_second": 1e12}
        context = make_context(direct_path)
        factory = LogStoreFactory(LogStoreConfig(**settings | config), context)
        path = str(direct_path / "disk")
        if factory.probe(path) is None:
            factory.prepare(path, cluster_id=CLUSTER, size_bytes=64 * MIB)
        opened.append(await factory.open(path, cluster_id=CLUSTER))
        return opened[-1]

    return open_


def counted(store):
    usage = store.usage()
    return usage.cache_hits, usage.cache_misses


async def test_what_was_read_is_answered_from_memory(open_store):
    store = await open_store()
    payload = noise(100_000)
    await submit(store, shard_key(1), payload)
    assert store.read_now(shard_key(1)) is None
    assert bytes(await store.read(shard_key(1))) == payload
    assert counted(store) == (0, 2)
    assert bytes(store.read_now(shard_key(1))) == payload
    assert bytes(store.read_now(shard_key(1), 65_530, 10)) == payload[65_530:65_540]
    assert bytes(store.read_now(shard_key(1), 70_000)) == payload[70_000:]
    assert bytes(await store.read(shard_key(1), 5, 10)) == payload[5:15]
    assert counted(store) == (6, 2)
    assert store.usage().cache_bytes >= 100_000
    await store.close()


async def test_without_a_cache(open_store):
    store = await open_store(cache_bytes=0)
    await submit(store, shard_key(1), noise(1000))
    assert bytes(await store.read(shard_key(1))) == noise(1000)
    assert store.read_now(shard_key(1)) is None
    assert store.usage().cache_bytes == 0
    await store.close()


async def test_a_replaced_or_deleted_shard_is_not_found_in_the_cache(open_store):
    store = await open_store()
    for turn in range(3):
        await submit(store, shard_key(1), noise(5000, turn))
        for _ in range(2):
            assert await read(store, shard_key(1)) == noise(5000, turn)
    await submit_delete(store, shard_key(1))
    with pytest.raises(Exception, match="no such shard"):
        store.read_now(shard_key(1))
    await store.close()


async def test_random_ranges_while_everything_moves(open_store, monkeypatch):
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.002)
    store = await open_store(cache_bytes=MIB, compact_live_share_max=0.9)
    source, model = random.Random(3), {}
    for turn in range(60):
        fates = []
        for key in {shard_key(source.randrange(30)) for _ in range(6)}:
            if source.random() < 0.3 and key in model:
                fates.append(submit_delete(store, key))
                del model[key]
            else:  # of the same size again: the same place, in another use of a segment
                model[key] = noise(source.choice((100, 70_000, 400_000)), turn)
                fates.append(submit(store, key, model[key]))
        await asyncio.gather(*fates)
        for _ in range(30):
            key = source.choice(list(model))
            begin, length = source.randrange(len(model[key])), source.choice((1, 5000, 200_000))
            expected = model[key][begin : begin + length]
            now = store.read_now(key, begin, length)
            assert now is None or bytes(now) == expected
            assert bytes(await store.read(key, begin, length)) == expected
    hits, misses = counted(store)
    assert hits > 100
    assert misses > 100
    await store.close()


async def test_a_place_that_is_used_again_is_another(open_store):
    """The same key, size and generation at the same offset, in a later use of the segment."""
    store = await open_store()
    await submit(store, shard_key(1), noise(5000, 1))
    old = store._index.get(shard_key(1).pack())
    assert bytes(await store.read(shard_key(1))) == noise(5000, 1)
    await submit_delete(store, shard_key(1))
    await submit(store, shard_key(2), noise(1_040_000, 2))  # in the next segment
    await store._compact_segments(1.0, 1)
    core = store._core
    assert core.segments[0].sequence == 0
    core.free.sort(reverse=True)
    core.tail.offset_in_segment = MIB  # it is full
    await submit(store, shard_key(1), noise(5000, 2))
    assert store._index.get(shard_key(1).pack()) == old
    assert bytes(await store.read(shard_key(1))) == noise(5000, 2)
    assert bytes(store.read_now(shard_key(1))) == noise(5000, 2)
    await store.close()


async def test_a_scan_of_large_shards_leaves_the_hot_ones(open_store):
    store = await open_store(cache_bytes=2 * MIB, segment_bytes=4 * MIB)
    hot = [shard_key(number) for number in range(20)]
    large = [shard_key(number) for number in range(100, 130)]
    for key in hot:
        await submit(store, key, noise(30_000), sync=False)
    for key in large:
        await submit(store, key, noise(700_000))
    for _ in range(6):
        for key in hot:
            await read(store, key)
    for key in large:  # 20 MiB through 2 MiB
        assert bytes(await store.read(key)) == noise(700_000)
        for begin in range(0, 700_000, 100_000):
            await store.read(key, begin, 100_000)
    assert all(store.read_now(key) is not None for key in hot)
    await store.close()


class Tally:
    """Keeps what is counted."""

    def __init__(self):
        self.values = {}

    def counter(self, name, help, **labels):
        return _Value(self.values, (name, labels["device"]))

    gauge = counter

    def gauge_function(self, name, help, read, **labels):
        self.values[name, labels["device"]] = read

    def histogram(self, name, help, buckets=(), **labels):
        return _Value(self.values, (name, labels["device"]))


class _Value:
    def __init__(self, values, name):
        self.values, self.name = values, name

    def inc(self, amount=1):
        self.values[self.name] = self.values.get(self.name, 0) + amount

    def set(self, value):
        self.values[self.name] = value

    def observe(self, value):
        self.values.setdefault(self.name, []).append(value)


async def test_the_cache_is_counted(direct_path, monkeypatch):
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.002)
    tally = Tally()
    context = replace(make_context(direct_path), metrics=tally)
    factory = LogStoreFactory(LogStoreConfig(direct="always"), context)
    path = str(direct_path / "disk")
    device_id = factory.prepare(path, cluster_id=CLUSTER, size_bytes=64 * MIB)
    store = await factory.open(path, cluster_id=CLUSTER)
    await submit(store, shard_key(1), noise(5000))
    for _ in range(3):
        await read(store, shard_key(1))
    async with asyncio.timeout(10):
        while tally.values.get(("objectio_osd_device_cache_bytes", device_id), 0) < 5000:
            await asyncio.sleep(0.002)
    await store.close()
    usage = store._reader.cache
    assert tally.values["objectio_osd_device_cache_hits_total", device_id] == usage.hits > 0
    assert tally.values["objectio_osd_device_cache_misses_total", device_id] == usage.misses > 0
    assert tally.values["objectio_osd_device_cache_bytes", device_id] == 0
    assert tally.values["objectio_osd_device_written_bytes_total", device_id] > 5000
    assert tally.values["objectio_osd_device_read_bytes_total", device_id] > 5000
    assert tally.values["objectio_osd_device_queue_items", device_id]() == 0
    assert all(
        0 < each < 60 for each in tally.values["objectio_osd_device_batch_seconds", device_id]
    )


async def test_a_disk_that_is_cut_while_it_is_in_use(make_loop_device, tmp_path):
    path = make_loop_device(64 * MIB)
    factory = LogStoreFactory(LogStoreConfig(), make_context(tmp_path))
    factory.prepare(path, cluster_id=CLUSTER)
    store = await factory.open(path, cluster_id=CLUSTER)
    await submit(store, shard_key(1), noise(5000))
    image = next(tmp_path.glob("loop*.img"))
    os.truncate(image, 2 * MIB)
    subprocess.run(["losetup", "-c", path], check=True)  # the disk ends where its segments begin
    with pytest.raises((DeviceFailed, DeviceFull)):
        await asyncio.gather(*(submit(store, shard_key(i), noise(100_000, i)) for i in range(200)))
    with pytest.raises(DeviceFailed, match="cut") as failure:
        await store.check()
    assert failure.value.fields["gone"]
    await store.close()
    with pytest.raises(ConfigError, match="cut"):
        await factory.open(path, cluster_id=CLUSTER)
