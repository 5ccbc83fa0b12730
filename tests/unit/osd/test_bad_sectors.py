"""One bad sector in a sparse segment: no other segment of the device is compacted any more."""

from __future__ import annotations

import errno
import uuid
from functools import partial

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.errors import DeviceFailed
from objectio.limits import MIB
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.device import _failed
from objectio.osd.index import ENTRY
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.store.answers import answered, submitted
from objectio.testing.context import make_context

CLUSTER = str(uuid.UUID(int=7))


async def run(tmp_path, bad):
    config = LogStoreConfig(segment_bytes=MIB, compact_bytes_per_second=1e12)
    factory = LogStoreFactory(config, make_context(tmp_path, "index"))
    path = str(tmp_path / "disk")
    factory.prepare(path, cluster_id=CLUSTER)
    store = await factory.open(path, cluster_id=CLUSTER)
    store._upkeep.cancel()
    names = [ShardKey(BlobId(number.to_bytes(16, "big")), 0, 0) for number in range(80)]
    for name in names:
        write = ShardWrite(name, (b"x" * 100_000,), ShardCoordinates("replicate", 1, 0, 100_000))
        assert await answered(submitted(partial(store.submit, write))) is None
    kept = names[::10]
    gone = [name for name in names if name not in kept]
    assert await answered(submitted(partial(store.submit_delete, gone))) is None
    if bad:
        begin, size, header, _ = ENTRY.unpack(store._index.get(kept[0].pack()))
        device = store._device
        pread = device.pread

        def read(length, offset):
            if offset < begin + header + size and offset + length > begin:
                raise _failed("read", device.path, OSError(errno.EIO, "Input/output error"))
            return pread(length, offset)

        device.pread = read
    before = store.usage().used_bytes
    for _ in range(12):
        try:
            await store._upkeep_once()
        except DeviceFailed:
            pass
    after = store.usage().used_bytes
    await store.close()
    return before - after


async def test_one_bad_sector_does_not_end_compaction(tmp_path):
    (tmp_path / "well").mkdir()
    (tmp_path / "bad").mkdir()
    well = await run(tmp_path / "well", False)
    bad = await run(tmp_path / "bad", True)
    assert bad > well / 2
