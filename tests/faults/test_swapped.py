"""Shards that stand in each other's place: found by what is written in them, or by parity."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import defaultdict

import pytest

from objectio import builtin
from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.config import load_config
from objectio.meta import keys
from objectio.meta.records import decode_cluster
from objectio.model.stripe import BlobId, ShardKey, is_reserved
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node
from objectio.testing.damage import find_shards, swap_spans

SCRUBBED = {"store.scrub_interval_seconds": "0.2", "osd.check_seconds": "0.1"}
SLOW = pytest.mark.slow
SIZES = [300, 20_000, 200_000, 1_000_000]


@pytest.fixture
def filled(open_store, objects_of, blob_of_bytes):
    """Objects of a few sizes, several of each, which scrubbing looks at all the time."""
    objects = objects_of(open_store(settings=SCRUBBED))
    for size in SIZES:
        for number in range(4):
            objects.put(f"{size}/{number}", blob_of_bytes(size))
    return objects


def twins(disk):
    """Pairs of records of one length, of different blobs."""
    by_length = defaultdict(list)
    for at, record in find_shards(disk):
        if not is_reserved(record.blob):
            by_length[record.header_bytes, record.payload_bytes].append((at, record))
    return [(each[0], each[1]) for each in by_length.values() if each[0][1].blob != each[1][1].blob]


def swap_records(disk):
    """Exchange two whole records for each length that there is. Returns how many pairs."""
    pairs = twins(disk)
    for (one, record), (other, _) in pairs:
        swap_spans(disk, one, other, record.total_bytes)
    return len(pairs)


def wait_scrubbed(store, eventually):
    """Until a scrub that began after this call has ended, and repair has done what it found."""
    server = store.server
    passes = server.metric("objectio_store_scrub_passes_total") + 2
    eventually(lambda: server.metric("objectio_store_scrub_passes_total") >= passes, 60)
    store.wait_repaired()


@pytest.mark.parametrize(
    "how",
    [
        "running",
        pytest.param("stopped", marks=SLOW),
        pytest.param("killed", marks=SLOW),
        pytest.param("without its index", marks=SLOW),
    ],
)
def test_records_swapped_on_a_disk(filled, eventually, assert_clean, how):
    store, server = filled.store, filled.store.server
    for number in (1, 4):
        if how != "running":
            server.kill() if how == "killed" else server.stop()
        assert swap_records(server.disk(number)) >= 3
        if how == "without its index":
            shutil.rmtree(server.data_dir / "index")
        if how != "running":
            server.start()
        filled.check()
        wait_scrubbed(store, eventually)
        filled.check()
    assert server.metric("objectio_store_repaired_shards_total") > 0
    assert_clean(store)


def test_payloads_swapped_under_whole_headers(filled, rng, eventually, assert_clean):
    """Every checksum is right: only the parity tells, and only while no more than one shard of a
    stripe is wrong can it tell which. Whoever reads before a scrub may be given wrong bytes."""
    store, server = filled.store, filled.store.server
    server.stop()
    swapped = asyncio.run(swap_payloads(server.data_dir, rng.randrange(6)))
    assert swapped
    server.start()
    wait_scrubbed(store, eventually)
    filled.check()
    assert server.metric("objectio_store_repaired_shards_total") > 0
    assert_clean(store)


async def swap_payloads(data_dir, osd):
    """Write for each length two shards of one OSD with each other's payload. Returns how many."""
    config = load_config(data_dir / "objectio.toml", env={})
    node = Node(config, load_plugins(disabled=(), builtin=(builtin,)))
    kv = node.open_kv()
    cluster_id = decode_cluster(kv.get(keys.CLUSTER)).cluster_id
    await kv.close()
    (disk,) = (disk for disk in config.osd.disk if disk.id == osd)
    pairs = [
        (one, other)
        for (_, one), (_, other) in twins(config.disk_path(disk))
        if one.stripe == other.stripe == 0
    ]
    store = await node.open_shardstores().open(str(config.disk_path(disk)), cluster_id=cluster_id)
    try:
        for pair in pairs:
            shards = [bytes(await store.read(key_of(record))) for record in pair]
            for record, payload in zip(pair, reversed(shards), strict=True):
                await put(store, record, payload)
    finally:
        await store.close()
    return len(pairs)


def key_of(record):
    return ShardKey(BlobId(record.blob), record.stripe, record.position)


async def put(store, record, payload):
    coordinates = ShardCoordinates(
        record.family,
        record.data_shards,
        record.parity_shards,
        record.stripe_bytes,
        record.generation,
    )
    wait = asyncio.get_running_loop().create_future()
    store.submit(ShardWrite(key_of(record), (payload,), coordinates), wait.set_result)
    assert await wait is None


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=SLOW)])
def test_disks_swapped_while_it_is_down(filled, rng, eventually, assert_clean, count):
    """Each is refused with a sentence, though the configuration takes blank disks into service."""
    store, server = filled.store, filled.store.server
    server.stop()
    swapped = rng.sample(range(6), count)

    def rotate(numbers):
        away = server.data_dir / "away"
        server.disk(numbers[0]).rename(away)
        for to, number in itertools.pairwise(numbers):
            server.disk(number).rename(server.disk(to))
        away.rename(server.disk(numbers[-1]))

    rotate(swapped)
    before = {number: (server.disk(number) / "log").stat().st_size for number in swapped}
    if count == 2:
        server.start()
        filled.check()
    else:
        with pytest.raises(AssertionError, match="be healthy"):
            server.start(5)
    assert server.log_text().count("Were disks swapped?") >= count
    assert before == {number: (server.disk(number) / "log").stat().st_size for number in swapped}, (
        "a disk that is refused is not written to"
    )
    server.kill()
    rotate(swapped[::-1])
    server.start()
    eventually(lambda: server.metric("objectio_store_osds_up") == 6)
    store.wait_repaired()
    filled.check()
    assert_clean(store)
