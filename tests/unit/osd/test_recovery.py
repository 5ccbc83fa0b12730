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
