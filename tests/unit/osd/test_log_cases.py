"""Moments in the life of a log at which it would be easy to lose something."""

from __future__ import annotations

import errno
import shutil

import pytest

from objectio.errors import DeviceFailed, DeviceFull, InvalidRequest
from objectio.osd.format import KIND_TOMBSTONE
from objectio.osd.log import DeleteItem, SyncItem
from objectio.osd.walk import walk


def segment_of(bench, key):
    return bench.log.segment_of(int.from_bytes(bench.log.index.get(key.pack())[:8], "little"))


def tombstones(bench, index):
    log = bench.log
    size, sequence = log.superblock.segment_bytes, log.segments[index].sequence
    found = walk(log.device, index, size, sequence)
    return [each for each in found if each.record.kind == KIND_TOMBSTONE]


# Tombstones.


def test_a_moved_tombstone_kills_nothing_newer(bench):
    for number in (0, 1):
        bench.put(number, 9000)
    bench.delete(0)
    bench.put(0, 9000)
    bench.put(2, 9000)
    assert len(tombstones(bench, 1)) == 1
    bench.compact_partly(1, 2)
    assert len(tombstones(bench, 4)) == 1, "the tombstone was not moved behind the new record"
    bench.check()
    bench.crash()
    bench.check()
    bench.lose_index()
    bench.check()


def test_a_copy_of_a_dead_record_in_a_half_compacted_segment_stays_dead(bench):
    for number, size in ((0, 3000), (1, 3000), (2, 9000), (3, 9000)):
        bench.put(number, size)
    bench.compact_partly(0, 1)
    bench.put(4, 9000)
    bench.delete(0)
    bench.put(5, 9000)
    assert len(tombstones(bench, 2)) == 1
    assert bench.compact(1)
    bench.checkpoint()
    assert bench.log.segments[1].sequence == 0, "what the tombstone names is still there"
    bench.put(6, 9000)
    assert bench.compact(2)
    bench.checkpoint()
    assert bench.log.segments[2].sequence == 0
    assert bench.log.segments[0].moved
    bench.lose_index()
    bench.check()


def test_a_tombstone_leaves_its_own_segment_without_what_came_after_it(bench, shard_key):
    for number, size in ((0, 3000), (1, 3000), (2, 9000), (3, 3000)):
        bench.put(number, size)
    bench.compact_partly(0, 1)
    bench.delete(0)
    bench.put(0, 1000)
    assert segment_of(bench, shard_key(0)) == 1
    bench.put(4, 9000)
    bench.compact_partly(1, 2)
    assert len(tombstones(bench, 2)) == 1, "the tombstone was not moved"
    assert segment_of(bench, shard_key(0)) == 1
    bench.crash()
    bench.check()
    bench.lose_index()
    bench.check()


def test_tombstones_go_when_their_work_is_done(bench):
    """Else they would pile up: what is deleted leaves nothing behind."""
    for number in range(20):
        bench.put(number, 3000)
    bench.delete(*range(20))
    bench.put(99, 100)
    for _ in range(4):
        bench.put(98, 9000)
        for index in bench.victims():
            bench.compact(index)
        bench.checkpoint()
    left = [index for index, segment in enumerate(bench.log.segments) if segment.sequence]
    assert sum(len(tombstones(bench, index)) for index in left) <= 2
    bench.lose_index()
    bench.check()


# Refusals.


class Filling:
    """A device that runs out of space after so many bytes of a write, which it keeps."""

    def __init__(self, device, bytes_left):
        self._device = device
        self._bytes_left = bytes_left

    def __getattr__(self, name):
        return getattr(self._device, name)

    def pwritev(self, buffers, offset, *, durable=False):
        whole = b"".join(buffers)
        if len(whole) <= self._bytes_left:
            self._bytes_left -= len(whole)
            return self._device.pwritev(buffers, offset, durable=durable)
        self._device.pwritev([whole[: self._bytes_left]], offset)
        raise DeviceFull("no space left") from OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("taken", [0, 50, 200, 1200, 2400, 3000, 3300, 4000])
def test_what_a_full_device_took_of_a_refused_batch_does_not_come_back(
    bench, put_item, shard_key, taken
):
    bench.put(0, 500)
    device = bench.log.device
    bench.log.device = Filling(device, taken)
    items = [put_item(shard_key(number), bytes([number]) * 1000) for number in (1, 2, 3)]
    items.append(DeleteItem(print, [shard_key(0).pack()]))
    items.append(put_item(shard_key(9), bytes(1000)))
    assert all(isinstance(error, DeviceFull) for error in bench.run(*items))
    bench.log.device = device
    bench.check()
    bench.put(4, 1)
    bench.put(4, 2)
    bench.check()
    bench.crash()
    bench.check()
    bench.lose_index()
    bench.check()


def test_a_refused_replacement_leaves_the_shard_that_was_there(make_bench, put_item, shard_key):
    bench = make_bench(size_bytes=2**20 + 6 * 16 * 1024)
    for number in range(3):
        assert bench.put(number, 9000) is None
    assert isinstance(bench.put(0, 9000), DeviceFull)
    bench.check()
    (error,) = bench.run(put_item(shard_key(1), bytes(17_000)))
    assert isinstance(error, DeviceFull | InvalidRequest)
    bench.crash()
    bench.check()
    assert bench.delete(0, 1) is None
    bench.checkpoint()
    assert bench.put(5, 9000) is None
    bench.lose_index()
    bench.check()


def test_a_record_that_no_segment_can_hold_is_refused_alone(bench, put_item, shard_key):
    bench.put(1, 10)
    errors = bench.run(
        put_item(shard_key(2), b"two"),
        put_item(shard_key(1), bytes(16 * 1024)),
        put_item(shard_key(3), b"three"),
    )
    assert [type(error) for error in errors if error is not None] == [InvalidRequest]
    bench.model |= {shard_key(2): b"two", shard_key(3): b"three"}
    bench.check()
    bench.crash()
    bench.check()


# Failures.


class FailingSync:
    """A device whose next sync fails; like a kernel, it says so once."""

    def __init__(self, device):
        self._device = device
        self.left = 1

    def __getattr__(self, name):
        return getattr(self._device, name)

    def sync(self):
        self._fail_once()
        self._device.sync()

    def pwritev(self, buffers, offset, *, durable=False):
        if durable:
            self._fail_once()
        return self._device.pwritev(buffers, offset, durable=durable)

    def _fail_once(self):
        if self.left:
            self.left -= 1
            raise DeviceFailed("cannot sync")


def test_after_a_failed_sync_nobody_takes_silence_for_success(bench):
    bench.put(1, 100)
    device = bench.log.device
    bench.log.device = FailingSync(device)
    assert isinstance(bench.put(2, 100), DeviceFailed)
    with pytest.raises(DeviceFailed):
        bench.checkpoint()
    assert isinstance(bench.put(3, 100), DeviceFailed)
    assert [type(error) for error in bench.run(SyncItem(print))] == [DeviceFailed]
    bench.log.device = device
    bench.crash()
    found = bench.held()
    assert set(found) >= set(bench.model)
    assert all(found[key] == payload for key, payload in bench.model.items())


def test_a_checkpoint_that_cannot_sync_fails_the_log(bench):
    bench.put(1, 100)
    device = bench.log.device
    bench.log.device = FailingSync(device)
    with pytest.raises(DeviceFailed):
        bench.checkpoint()
    assert isinstance(bench.put(2, 100), DeviceFailed)
    bench.log.device = device


def test_what_was_not_synced_is_by_the_next_that_asks(bench, put_item, shard_key):
    """One durable write is no promise for those before it: these need a sync."""
    calls = []
    device = bench.log.device

    class Watched:
        def __getattr__(self, name):
            return getattr(device, name)

        def sync(self):
            calls.append("sync")
            device.sync()

        def pwritev(self, buffers, offset, *, durable=False):
            calls.append("durable write" if durable else "write")
            return device.pwritev(buffers, offset, durable=durable)

    bench.log.device = Watched()
    bench.sync()
    calls.clear()
    bench.put(1, 100)
    assert calls == ["durable write"]
    bench.run(put_item(shard_key(2), b"early stripe", sync=False))
    bench.run(put_item(shard_key(3), b"early stripe", sync=False))
    bench.put(4, 100)
    bench.put(5, 100)
    assert calls[1:] == ["write", "write", "write", "sync", "durable write"]
    calls.clear()
    bench.run(put_item(shard_key(2), b"early stripe", sync=False))
    bench.sync()
    bench.sync()
    bench.delete(1)
    assert calls == ["write", "sync", "sync", "durable write"]


def test_a_bug_fails_the_log_as_a_device_would(bench, put_item, shard_key):
    bench.put(1, 100)
    (error,) = bench.run(put_item(shard_key(2)._replace(position=256), b"no such position"))
    assert isinstance(error, DeviceFailed)
    assert isinstance(bench.put(3, 100), DeviceFailed)
    bench.crash()
    bench.check()


# The index.


def test_an_index_that_missed_an_opening_is_rebuilt(bench):
    """The device went to another node, was written there, and came back to its old index."""
    bench.put(1, 3000)
    bench.close(clean=True)
    shutil.copytree(bench.where / "index", bench.where / "old")
    bench.open(index="elsewhere")
    bench.put(2, 3000)
    bench.delete(1)
    bench.close(clean=True)
    shutil.rmtree(bench.where / "index")
    (bench.where / "old").rename(bench.where / "index")
    bench.open()
    bench.check()
    bench.put(3, 3000)
    bench.crash()
    bench.check()


def test_a_checkpoint_in_the_middle_of_a_batch_hides_no_segment(bench, put_item, shard_key):
    """The batch has begun a segment, and not yet said so, when the checkpoint is made."""
    bench.put(0, 9000)
    device = bench.log.device

    class Interrupting:
        def __getattr__(self, name):
            return getattr(device, name)

        def pwritev(self, buffers, offset, *, durable=False):
            bench.checkpoint()
            return device.pwritev(buffers, offset, durable=durable)

    bench.log.device = Interrupting()
    bench.model[shard_key(1)] = b"1" * 9000
    assert bench.run(put_item(shard_key(1), b"1" * 9000, sync=False)) == [None]
    bench.log.device = device
    assert bench.put(2, 9000) is None
    bench.crash()
    bench.check()


def test_crashes_without_end_use_up_no_space(make_bench):
    bench = make_bench(size_bytes=2**20 + 12 * 16 * 1024)
    for round_ in range(40):
        assert bench.put(round_ % 3, 3000) is None, round_
        bench.crash()
        bench.check()
        for index in bench.victims():
            bench.compact(index)
        bench.checkpoint()
    bench.lose_index()
    bench.check()


# Damage.


def flip(bench, at, mask=0x10):
    with bench.file.open("r+b") as file:
        file.seek(at)
        (value,) = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ mask]))


@pytest.mark.parametrize("where", ["header", "payload"])
def test_a_damaged_record_takes_no_other_with_it(bench, shard_key, where):
    for number in range(12):
        bench.put(number, 3000)
    at = int.from_bytes(bench.log.index.get(shard_key(5).pack())[:8], "little")
    flip(bench, at + (30 if where == "header" else 1500))
    bench.model.pop(shard_key(5))
    bench.lose_index()
    bench.check()


def test_a_segment_with_damage_is_not_compacted(bench, shard_key):
    for number in range(12):
        bench.put(number, 3000)
    at = int.from_bytes(bench.log.index.get(shard_key(1).pack())[:8], "little")
    flip(bench, at + 1500)
    assert not bench.compact(0)
    assert bench.log.segments[0].live_bytes > 9000
    bench.put(1, 3000)  # as repair does
    assert bench.compact(0)
    bench.checkpoint()
    assert bench.log.segments[0].sequence == 0
    bench.check()


def test_bytes_that_look_like_records_are_not_taken_for_them(bench, shard_key):
    """Somebody stores what the log of another device looks like, and the record around it is
    torn."""
    other = bench.file.read_bytes()[2**20 :]
    bench.put(1, 3000)
    forged = bench.file.read_bytes()[2**20 : 2**20 + 6000]
    bench.put(2, 100)
    with bench.file.open("r+b") as file:
        assert other == b""
        end = bench.log.tail.offset_in_segment + 2**20
        file.seek(end + 96)  # where the payload of a torn record would be
        file.write(forged)
    bench.crash()
    bench.check()
    bench.lose_index()
    bench.check()
