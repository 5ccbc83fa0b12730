"""Bytes that change on the disks by themselves: never given out, and made good.

Every payload on the damaged disks is hit, so a shard that was not repaired would be missed as soon
as the next pair of disks is damaged.
"""

from __future__ import annotations

import itertools

import pytest

from objectio.model.stripe import is_reserved
from objectio.testing.damage import flip_payload_bytes

PAIRS = list(itertools.combinations(range(6), 2))
SIZES = [1, 700, 65_536, 65_537, 1_000_000, 9_000_000]
SCRUBBING = {"store.scrub_interval_seconds": "0.1", "store.scrub_bytes_per_second": "1e10"}


@pytest.fixture
def filled(open_store, objects_of, blob_of_bytes):
    objects = objects_of(open_store(settings=SCRUBBING))
    for size in SIZES:
        for number in range(2):
            objects.put(f"{size}/{number}", blob_of_bytes(size))
    return objects


def wait_mended(store, eventually):
    """Until everything was looked at after this call, and what was found is repaired."""
    passes = store.server.metric("objectio_store_scrub_passes_total")
    eventually(lambda: store.server.metric("objectio_store_scrub_passes_total") >= passes + 2)
    store.wait_repaired()


def test_any_two_disks_damaged_while_it_runs(filled, rng, eventually, assert_clean):
    store, server = filled.store, filled.store.server
    for pair in rng.sample(PAIRS, len(PAIRS)):
        for number in pair:
            assert flip_payload_bytes(server.disk(number), rng) >= len(filled.digests)
        filled.check()
        wait_mended(store, eventually)
        filled.check()
    assert_clean(store)


@pytest.mark.parametrize("end", [pytest.param("stop", marks=pytest.mark.slow), "kill"])
def test_two_disks_damaged_while_it_is_down(filled, rng, eventually, assert_clean, end):
    """After a kill the log is read from its last checkpoint on: there a damaged record counts as
    one that was never written."""
    store, server = filled.store, filled.store.server
    for pair in rng.sample(PAIRS, 5):
        getattr(server, end)()
        for number in pair:
            assert flip_payload_bytes(server.disk(number), rng) >= len(filled.digests)
        server.start()
        filled.check()
        wait_mended(store, eventually)
    filled.check()
    assert_clean(store)


def test_reads_alone_repair_what_they_find(open_store, objects_of, blob_of_bytes, rng):
    objects = objects_of(open_store(settings={"store.scrub_interval_seconds": "0"}))
    store, server = objects.store, objects.store.server
    objects.put("large", blob_of_bytes(9_000_000))
    hit = [
        flip_payload_bytes(
            server.disk(number),
            rng,
            lambda record: record.position in (0, 3) and not is_reserved(record.blob),
        )
        for number in range(6)
    ]
    assert sum(hit) == 2 * 3, "two shards of each stripe"
    objects.check()
    store.wait_repaired()
    assert server.metric("objectio_store_repaired_shards_total") == 2 * 3
    before = server.log_text()
    objects.check()
    assert server.metric("objectio_store_repair_backlog") == 0
    assert server.log_text() == before


def test_a_shard_of_each_stripe_damaged_on_other_disks(filled, rng, eventually, assert_clean):
    """More disks are hit than may be lost, but no stripe has lost more than one shard."""
    store, server = filled.store, filled.store.server
    for number in range(6):
        flip_payload_bytes(
            server.disk(number), rng, lambda record: record.position == (record.stripe * 2) % 6
        )
    filled.check()
    wait_mended(store, eventually)
    filled.check()
    assert_clean(store)


def test_three_disks_damaged_is_an_error_and_never_wrong_bytes(filled, rng, error_of):
    store, server = filled.store, filled.store.server
    for number in (1, 2, 4):
        flip_payload_bytes(server.disk(number), rng)
    for key in filled.digests:
        if not key.startswith(("1/", "700/")):  # their data may be on one whole disk
            assert error_of(store.get, key) == (503, "SlowDown"), key
