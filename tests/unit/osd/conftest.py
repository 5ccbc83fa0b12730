"""A log on a real file with small segments, whose process can "die" at any moment."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import uuid

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.limits import KIB
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.device import Device, create, log_path
from objectio.osd.format import FORMAT_VERSION, Superblock, verify_small
from objectio.osd.index import ENTRY, Index
from objectio.osd.log import DeleteItem, Log, PutItem, SyncItem
from objectio.osd.recovery import recover
from objectio.osd.superblock import read_superblock, write_superblock
from objectio.osd.upkeep import _live, _move, checkpoint, compact

SEGMENT_BYTES = 16 * KIB


class Bench:
    """Opens one device again and again. `model` is what every acknowledged operation adds up to."""

    def __init__(
        self, where, *, size_bytes=0, segment_bytes=SEGMENT_BYTES, direct="auto", path=None
    ):
        self.where = where
        self.path = path or where / "disk"
        self.direct = direct
        self.wrap = lambda device: device
        self.model = {}
        self._versions = itertools.count(1)
        where.mkdir(parents=True, exist_ok=True)
        create(self.path, size_bytes if path else None)
        device = Device(self.path, direct)
        superblock = Superblock(
            FORMAT_VERSION, segment_bytes, size_bytes, bytes(16), uuid.uuid4().bytes, 0
        )
        write_superblock(device, superblock)
        device.close()
        self.log = None
        self.open()

    @property
    def file(self):
        return log_path(self.path)

    def open(self, index="index"):
        device = self.wrap(Device(self.path, self.direct))
        superblock = read_superblock(device)
        self.log = Log(device, superblock, Index(self.where / index), 0)
        recover(self.log)
        self.log.superblock = superblock._replace(opens=superblock.opens + 1)
        write_superblock(device, self.log.superblock)
        checkpoint(self.log)
        return self.log

    def close(self, *, clean=False):
        if self.log is not None:
            if clean:
                checkpoint(self.log, clean=True)
            self.log.index.close()
            self.log.device.close()
            self.log = None

    def crash(self):
        self.close()
        self.open()

    def reopen(self):
        self.close(clean=True)
        self.open()

    def lose_index(self):
        self.close()
        shutil.rmtree(self.where / "index")
        self.open()

    # Operations.

    def run(self, *items):
        """What each item was answered, in their order."""
        return [error for _, error in self.log.run_batch(items)]

    def put(self, number, size=100):
        key = shard_key(number)
        payload = (b"%d:%d;" % (number, next(self._versions)) * (size // 4 + 1))[:size]
        (error,) = self.run(put_item(key, payload))
        if error is None:
            self.model[key] = payload
        return error

    def delete(self, *numbers):
        keys = [shard_key(number) for number in numbers]
        (error,) = self.run(DeleteItem(print, [key.pack() for key in keys]))
        if error is None:
            for key in keys:
                self.model.pop(key, None)
        return error

    def sync(self):
        return self.run(SyncItem(print))

    def checkpoint(self):
        checkpoint(self.log)

    def compact(self, index):
        """As the upkeep of a store does it, up to the checkpoint that follows."""

        def submit(items):
            for item in items:
                ((done, error),) = self.log.run_batch([item])
                done(error)

        return asyncio.run(compact(self.log, index, submit, 1e12))

    def compact_partly(self, index, count):
        """What a crash in the middle of a compaction leaves."""
        found = list(
            itertools.islice(_live(self.log, index, self.log.segments[index].sequence), count)
        )
        for each in found:
            assert self.run(_move(each, print)) == [None]

    def victims(self):
        """Segments that can be compacted."""
        log = self.log
        return [
            index
            for index, segment in enumerate(log.segments)
            if 0 < segment.sequence < log.applied.segment_sequence
        ]

    # Checks.

    def held(self):
        """Key → payload of all that the index knows, read and verified."""
        found, after = {}, None
        while rows := self.log.index.scan(after, 100):
            for key, entry in rows:
                at, size, header_bytes, _ = ENTRY.unpack(entry)
                raw = self.log.device.pread(header_bytes + size, at)
                found[ShardKey.unpack(key)] = bytes(
                    verify_small(memoryview(raw), header_bytes, size, key)
                )
            after = rows[-1][0]
        return found

    def check(self):
        assert self.held() == self.model
        log = self.log
        assert log.shards == len(self.model)
        live = dict.fromkeys(range(len(log.segments)), 0)
        for key in self.model:
            at, size, header_bytes, _ = ENTRY.unpack(log.index.get(key.pack()))
            live[log.segment_of(at)] += (header_bytes + size + 7) & -8
        assert live == {i: segment.live_bytes for i, segment in enumerate(log.segments)}


def shard_key(number):
    return ShardKey(BlobId(number.to_bytes(16, "big")), 0, 0)


def put_item(key, payload, *, sync=True):
    coordinates = ShardCoordinates("replicate", 1, 0, len(payload))
    return PutItem(print, ShardWrite(key, (payload,), coordinates, sync))


@pytest.fixture
def make_bench(tmp_path):
    made = []

    def make(**more):
        made.append(Bench(tmp_path / str(len(made)), **more))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def direct_path(tmp_path):
    """A directory on a file system that takes O_DIRECT."""
    probe = tmp_path / "probe"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"the file system of {tmp_path} takes no O_DIRECT: {error}")
    return tmp_path


@pytest.fixture
def make_loop_device(tmp_path):
    """`make_loop_device(size_bytes)` is the path of a new block device; its image is beside it."""
    made = []

    def losetup(*arguments):
        try:
            return subprocess.run(["losetup", *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no losetup to make a loop device with")

    def make(size_bytes, sector_bytes=512):
        image = tmp_path / f"loop{len(made)}.img"
        image.touch()
        os.truncate(image, size_bytes)
        done = losetup("-f", "--show", "-b", str(sector_bytes), str(image))
        if done.returncode:
            pytest.skip(f"no loop device can be made here: {done.stderr.strip()}")
        made.append(done.stdout.strip())
        return made[-1]

    yield make
    for device in made:
        losetup("-d", device)


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture(name="put_item")
def put_item_fixture():
    return put_item


@pytest.fixture(name="shard_key")
def shard_key_fixture():
    return shard_key
