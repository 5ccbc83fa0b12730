"""A device that is an older copy of itself: its index knows more than it has."""

from __future__ import annotations

import shutil

import pytest

from objectio.errors import ChecksumMismatch
from objectio.limits import MIB
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import CLUSTER, noise, read, scan_all, shard_key, submit


@pytest.fixture
def factory(tmp_path):
    return LogStoreFactory(LogStoreConfig(segment_bytes=MIB), make_context(tmp_path, "index"))


@pytest.fixture
def path(factory, tmp_path):
    path = tmp_path / "device"
    factory.prepare(str(path), cluster_id=CLUSTER)
    return path


@pytest.mark.parametrize("later", [1, 2, 10])
@pytest.mark.parametrize("size", [100, 400_000])
async def test_a_copy_made_while_it_was_open(factory, path, tmp_path, later, size):
    """It was not opened since the copy, so the count of openings says nothing, and the index says
    that the end is clean. What is written from then on must be there without the index, too."""
    store = await factory.open(str(path), cluster_id=CLUSTER)
    await submit(store, shard_key(1), noise(1000, 1))
    shutil.copy(path / "log", tmp_path / "copy")
    for number in range(later):
        await submit(store, shard_key(10 + number), noise(size, number))
    await store.close()
    shutil.copy(tmp_path / "copy", path / "log")
    store = await factory.open(str(path), cluster_id=CLUSTER)
    assert await scan_all(store) == [shard_key(1)]
    await submit(store, shard_key(50), noise(3000, 50))
    await store.close()
    shutil.rmtree(tmp_path / "index")
    store = await factory.open(str(path), cluster_id=CLUSTER)
    assert await read(store, shard_key(50)) == noise(3000, 50)
    assert await scan_all(store) == [shard_key(1), shard_key(50)]
    await store.close()


@pytest.mark.parametrize("size", [0, 100, 70_000, 700_000])
async def test_a_clean_end_is_known_whatever_the_last_record_is(factory, path, size, caplog):
    for number in range(4):
        store = await factory.open(str(path), cluster_id=CLUSTER)
        assert len(await scan_all(store)) == number
        await submit(store, shard_key(number), (b"OIR1" * (size // 4 + 1))[:size])
        await store.close()
    assert "out of date" not in caplog.text


async def test_damage_to_the_last_payload_is_no_reason_to_forget_it(factory, path):
    store = await factory.open(str(path), cluster_id=CLUSTER)
    await submit(store, shard_key(1), noise(1000, 1))
    await store.close()
    raw = bytearray((path / "log").read_bytes())
    raw[raw.index(noise(1000, 1)) + 500] ^= 1
    (path / "log").write_bytes(raw)
    store = await factory.open(str(path), cluster_id=CLUSTER)
    with pytest.raises(ChecksumMismatch):
        await store.read(shard_key(1))
    await store.close()
