"""What a device's log finds again after a crash at a chosen moment."""

from __future__ import annotations

import uuid

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.limits import MIB
from objectio.model.stripe import ShardKey, new_blob_id
from objectio.osd.log import DeleteItem, PutItem
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.osd.upkeep import checkpoint
from objectio.testing.context import make_context

CLUSTER = str(uuid.uuid4())
COORDINATES = ShardCoordinates("replicate", 1, 0, 300_000)


def put(log, count):
    """Shards of 300,000 bytes; three of them fit into a log segment of 1 MiB."""
    keys = [ShardKey(new_blob_id(), 0, 0) for _ in range(count)]
    for key in keys:
        write = ShardWrite(key, (key.blob[:10] * 30_000,), COORDINATES)
        ((_, error),) = log.run_batch([PutItem(write=write, done=print)])
        assert error is None
    return keys


@pytest.fixture
def reopen(tmp_path):
    """Open the log; a second call finds what a crash would have left."""
    factory = LogStoreFactory(LogStoreConfig(segment_bytes=MIB), make_context(tmp_path / "index"))
    path = tmp_path / "disk"
    factory.prepare(str(path), cluster_id=CLUSTER)
    opened = []

    def crash():
        for log in opened:
            log.index.close()
            log.device.close()
        opened.clear()

    def open_():
        crash()
        opened.append(factory._open(path, CLUSTER))
        return opened[0]

    yield open_
    crash()


def test_a_segment_used_again_behind_its_last_checkpoint(reopen):
    """The checkpoint that makes a segment free still says that it is in use: the segment is given
    back after it. What is written there next must be found all the same."""
    log = reopen()
    old = put(log, 3)
    put(log, 1)
    first, second = (segment.sequence for segment in log.segments)
    assert second == first + 1
    log.run_batch([DeleteItem(keys=[key.pack() for key in old], done=print)])
    checkpoint(log)
    assert log.free == [0]
    fresh = put(log, 5)
    assert log.segments[0].sequence == first + 2, "the free segment was not used again"
    again = reopen()
    assert all(again.index.get(key.pack()) for key in fresh)
    assert not any(again.index.get(key.pack()) for key in old)
    assert again.shards == 6


# What is read.


class Counting:
    """How much is read of a device, in how many calls."""

    def __init__(self, device):
        self._device = device
        self.bytes = self.calls = 0

    def __getattr__(self, name):
        return getattr(self._device, name)

    def pread(self, length, offset):
        data = self._device.pread(length, offset)
        self.bytes += len(data)
        self.calls += 1
        return data


@pytest.fixture
def counted_bench(make_bench):
    """A device whose openings are counted; `fill(bytes)` stores so much and makes a checkpoint."""

    def make(**more):
        bench = make_bench(segment_bytes=4 * MIB, **more)
        bench.counts = []

        def wrap(device):
            bench.counts.append(Counting(device))
            return bench.counts[-1]

        bench.wrap = wrap
        return bench

    return make


def fill(bench, first, size_bytes):
    for number in range(first, first + size_bytes // 500_000):
        assert bench.put(number, 500_000) is None
    bench.checkpoint()
    return first + size_bytes // 500_000


TAIL_BYTES = 6 * MIB
WINDOW_BYTES = 4 * MIB  # the walk reads ahead so much


@pytest.mark.parametrize("fixed", [False, True])
def test_what_recovery_reads_depends_on_the_tail(counted_bench, direct_path, fixed):
    """Not on what was stored before the last checkpoint: 20 MiB of it or 200."""
    more = {"size_bytes": 300 * MIB, "path": direct_path / "image"} if fixed else {}
    bench = counted_bench(**more)
    found, number = {}, 0
    for stored in (20 * MIB, 180 * MIB):
        number = fill(bench, number, stored)
        for _ in range(TAIL_BYTES // 500_000):
            bench.put(number, 500_000)
            number += 1
        bench.crash()
        found[number] = bench.counts[-1].bytes
        assert found[number] >= TAIL_BYTES - 500_000
    few, many = found.values()
    free = 300 // 4 * 72  # of each segment that may have been begun since, its header
    assert abs(many - few) <= WINDOW_BYTES + free
    assert many <= TAIL_BYTES + 3 * WINDOW_BYTES + free
    assert bench.log.shards == number
    bench.lose_index()
    assert bench.counts[-1].bytes > 200 * MIB
    assert bench.log.shards == number


def test_after_a_clean_end_only_the_superblock_and_the_last_record_are_read(counted_bench):
    bench = counted_bench()
    fill(bench, 0, 50 * MIB)
    bench.reopen()
    assert 8192 < bench.counts[-1].bytes < 3 * MIB


def test_of_free_segments_only_the_headers_are_read(counted_bench, direct_path):
    """One small read for each."""
    bench = counted_bench(size_bytes=MIB + 64 * 4 * MIB, path=direct_path / "image")
    fill(bench, 0, 8 * MIB)
    bench.crash()
    in_use = sum(segment.sequence > 0 for segment in bench.log.segments)
    assert bench.counts[-1].calls <= 1 + (64 - in_use) + 2 + in_use
    assert bench.counts[-1].bytes <= 8192 + 64 * 72 + WINDOW_BYTES
