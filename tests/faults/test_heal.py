"""Disks that are wiped one after the other while others are refilled, and a power cut in between.

A scrub at the end is the census: every shard of every blob is there, was read, and fits the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from objectio.model.stripe import is_reserved
from objectio.testing.damage import flip_payload_bytes

pytest.importorskip("objectio_api_admin", reason="objectio_api_admin is not installed")

KIB, MIB = 1 << 10, 1 << 20
MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
SETTINGS = {
    "osd.check_seconds": "0.1",
    "store.repair_bytes_per_second": str(2 * MIB),
    "store.scrub_bytes_per_second": str(1000 * MIB),
}
FINDINGS = ("missing", "corrupt", "stale", "misplaced", "orphaned", "inconsistent")


class Load(threading.Thread):
    """Writes, overwrites, deletes and reads until it is told to stop; keeps what must be there."""

    def __init__(self, store, make_bytes):
        super().__init__()
        self.contents = {}
        self.failure = None
        self._store = store
        self._bytes = make_bytes
        self._end = threading.Event()

    def run(self):
        turn = 0
        try:
            while not self._end.is_set():
                key = f"load/{turn % 37}"
                if turn % 11 == 5 and key in self.contents:
                    self._store.delete(key)
                    del self.contents[key]
                else:
                    data = self._bytes((700, 40_000, 300_000)[turn % 3])
                    self._store.put(key, data)
                    self.contents[key] = data
                for other in list(self.contents)[turn % 5 :: 5]:
                    assert self._store.get(other) == self.contents[other]
                turn += 1
        except Exception as error:
            self.failure = error

    def end(self):
        self._end.set()
        self.join()
        assert self.failure is None, self.failure
        assert len(self.contents) > 5, "hardly any load"
        for key, data in self.contents.items():
            assert self._store.get(key) == data


def scrub(server, here):
    """`objectio scrub start --wait`: what the pass found."""
    words = ["scrub", "start", "--wait", "--data", str(server.data_dir), "-f", "json"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OBJECTIO_")}
    clean |= {"HOME": str(here), "OBJECTIO_ENDPOINT": server.endpoint}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        capture_output=True,
        text=True,
        cwd=here,
        env=clean,
        timeout=120,
    )
    assert done.returncode == 0, done
    said = json.loads(done.stdout)
    return {key.removeprefix("last_"): value for key, value in said.items()}


@pytest.fixture
def census(tmp_path):
    """Scrub a store, and let it be all healthy."""

    def take(store):
        store.wait_repaired()
        store.wait_collected()
        report = scrub(store.server, tmp_path)
        assert {kind: report[kind] for kind in FINDINGS if report[kind]} == {}
        assert report["healthy"] == report["blobs"]
        return report

    return take


@pytest.fixture
def filled(open_store, objects_of, blob_of_bytes):
    objects = objects_of(open_store(settings=SETTINGS))
    for size in (900, 60_000, 500_000, 4_500_000):
        for number in range(6):
            objects.put(f"{size}/{number}", blob_of_bytes(size))
    return objects


def repaired(server):
    return server.metric("objectio_store_repaired_shards_total")


@pytest.mark.slow
def test_a_second_disk_is_wiped_while_the_first_is_refilled_under_load(
    filled, eventually, blob_of_bytes, census, assert_clean
):
    store, server = filled.store, filled.store.server
    load = Load(store, blob_of_bytes)
    load.start()
    shutil.rmtree(server.disk(1))
    eventually(lambda: repaired(server) > 3, 30, "a begin")
    assert server.metric("objectio_store_repair_backlog") > 0, "too fast to be caught"
    shutil.rmtree(server.disk(4))
    eventually(lambda: server.log_text().count(" is refilled") == 2, 60, "two refills")
    load.end()
    for key, data in load.contents.items():
        filled.digests[key] = hashlib.sha256(data).digest()
    filled.check()
    report = census(store)
    assert report["blobs"] == len(filled.digests)
    assert_clean(store)


def test_killed_in_the_middle_of_a_refill(filled, eventually, census, assert_clean):
    store, server = filled.store, filled.store.server
    share = 6 * (1 + 1 + 1 + 2)  # a shard of each stripe
    shutil.rmtree(server.disk(2))
    eventually(lambda: repaired(server) > share / 4, 60, "a quarter")
    before = repaired(server)
    assert before < share * 0.9, "too fast to be caught"
    server.kill()
    server.start()
    store.wait_repaired()
    assert server.log_text().count("OSD 2 is refilled") == 1
    assert 0 < repaired(server) <= share - before, "it began anew"
    filled.check()
    assert census(store)["blobs"] == len(filled.digests)
    assert_clean(store)


@pytest.mark.slow
def test_damage_to_the_metadata_journal(filled, rng, tmp_path, eventually, census, assert_clean):
    """A scrub reads it, too; a new checkpoint takes the place of what was damaged."""
    store, server = filled.store, filled.store.server
    census(store)
    flipped = [
        flip_payload_bytes(server.disk(number), rng, lambda record: is_reserved(record.blob))
        for number in range(6)
    ]
    assert sum(count > 0 for count in flipped) >= 3, "one copy more than disks may be lost"
    report = scrub(server, tmp_path)
    assert report["corrupt"] > 0
    assert report["healthy"] == report["blobs"]
    eventually(lambda: scrub(server, tmp_path)["corrupt"] == 0)
    server.kill()
    server.start()
    filled.check()
    census(store)
    assert_clean(store)
