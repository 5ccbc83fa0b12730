"""Disks that take two seconds for each read: what is stored is read around them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from objectio.filters.faultrules import FaultRule, write_rules

READ_MS = 2000
SIZES = [1, 700, 4096, 65_537, 200_000, 5_000_000, 12_000_000]


class Disks:
    """Makes reads of disks slow while the server runs."""

    def __init__(self, path, server, eventually):
        self._path = path
        self._server = server
        self._eventually = eventually

    def slow(self, *osds):
        rules = (FaultRule(operation="read", device=f"osd{osd}", delay_ms=READ_MS) for osd in osds)
        write_rules(self._path, *rules)

    def known(self):
        return self._server.metric("objectio_store_slow_osds")

    def wait_well(self):
        self._eventually(lambda: self.known() == 0, 60, "all disks are fast again")


@pytest.fixture
def filled(tmp_path, open_store, objects_of, blob_of_bytes):
    path = tmp_path / "faults.toml"
    objects = objects_of(
        open_store(settings={"osd.filters": "fault", "filter.fault.path": str(path)})
    )
    for size in SIZES:
        for number in range(3):
            objects.put(f"{size}/{number}", blob_of_bytes(size))
    return objects


@pytest.fixture
def disks(tmp_path, filled, eventually):
    return Disks(tmp_path / "faults.toml", filled.store.server, eventually)


def assert_nothing_was_repaired(server):
    assert server.metric("objectio_store_repair_backlog") == 0
    assert server.metric("objectio_store_repaired_shards_total") == 0


@pytest.mark.parametrize("osds", [pytest.param((2,), marks=pytest.mark.slow), (0, 5)])
def test_everything_is_read_around_slow_disks(filled, disks, osds, eventually, assert_clean):
    store, server = filled.store, filled.store.server
    disks.slow(*osds)
    for _ in range(2):
        filled.check()
    assert disks.known() == len(osds)
    assert server.metric("objectio_store_hedged_reads_total") > 0
    key, size = f"{SIZES[-1]}/0", SIZES[-1]
    whole = store.get(key)
    for start, length in ((0, 1), (1_000_000, 3_000_000), (4_194_303, 2), (size - 5, 5)):
        asked = f"bytes={start}-{start + length - 1}"
        answer = store.s3.get_object(Bucket=store.bucket, Key=key, Range=asked)
        assert answer["Body"].read() == whole[start : start + length]
    eventually(lambda: server.metric("objectio_store_repair_backlog") == 0)
    assert_nothing_was_repaired(server)
    disks.slow()
    disks.wait_well()
    filled.check()
    assert_clean(store)


def test_many_clients_at_once(filled, disks):
    disks.slow(1)
    keys = [key for key in filled.digests if int(key.partition("/")[0]) < 1_000_000] * 10
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(filled.store.get, keys))
    for key, data in zip(keys, found, strict=True):
        assert len(data) == int(key.partition("/")[0])
    filled.check()
    assert_nothing_was_repaired(filled.store.server)


def test_writes_and_reads_go_on_while_disks_become_slow_and_well(
    filled, disks, rng, blob_of_bytes, assert_clean
):
    for turn in range(4):
        disks.slow(*rng.sample(range(6), turn % 3))
        for number in range(10):
            filled.put(f"{turn}/{number}", blob_of_bytes(rng.choice(SIZES[:-2])))
        filled.delete(f"{turn}/0")
        filled.check()
    disks.slow()
    disks.wait_well()
    assert_clean(filled.store)


def test_more_slow_disks_than_can_be_spared_are_waited_for(filled, disks):
    disks.slow(0, 2, 4)
    for size in SIZES[:-1]:
        assert len(filled.store.get(f"{size}/0")) == size
    assert_nothing_was_repaired(filled.store.server)


def test_the_server_stops_while_a_disk_is_slow(filled, disks):
    disks.slow(3)
    filled.check()
    filled.store.server.restart()
    filled.check()
