"""Disks are added, drained and taken away while the server works and is killed."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import botocore.exceptions
import pytest

from objectio.cli.client import Client, find_keys
from objectio.testing.census import take_census

pytest.importorskip("objectio_api_admin", reason="objectio_api_admin is not installed")

SETTINGS = {
    "osd.check_seconds": "0.2",
    "store.repair_interval_seconds": "0.5",
    "pool.placement_groups": "64",
}
SLOWLY = {**SETTINGS, "store.rebalance_bytes_per_second": "1000000"}
LOST = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ResponseStreamingError,
)
SIZES = (1, 3000, 100_000, 3_000_000)


def configure(server, change):
    path = server.data_dir / "objectio.toml"
    path.write_text(change(path.read_text()))


def add_disk(server, number):
    configure(
        server,
        lambda text: text + f'\n[[osd.disk]]\nid = {number}\npath = "disks/{number}"\n',
    )


def leave_out(server, number):
    """Take a disk out of the configuration."""

    def change(text):
        head, *disks = text.split("[[osd.disk]]")
        kept = [disk for disk in disks if f"id = {number}\n" not in disk]
        assert len(kept) == len(disks) - 1
        return "[[osd.disk]]".join([head, *kept])

    configure(server, change)


class Worker(threading.Thread):
    """Writes, overwrites and deletes keys of its own until the server is gone. `possible` has what
    each key may read as; None stands for nothing."""

    def __init__(self, store, number, seed):
        super().__init__(daemon=True)
        self.store = store
        self.rng = random.Random(f"{seed}:{number}")
        self.names = [f"worker{number}/{n}" for n in range(6)]
        self.possible = {name: {None} for name in self.names}
        self.done = 0
        self.failure = None

    def run(self):
        try:
            while True:
                self.step()
                self.done += 1
        except LOST:
            return
        except BaseException as error:
            self.failure = error

    def step(self):
        name = self.rng.choice(self.names)
        if self.rng.randrange(4) == 0:
            self.possible[name] |= {None}
            self.store.delete(name)
            self.possible[name] = {None}
        else:
            data = self.rng.randbytes(self.rng.choice((100, 20_000, 300_000)))
            self.possible[name] |= {data}
            self.store.put(name, data)
            self.possible[name] = {data}
        certain = [each for each in self.names if len(self.possible[each]) == 1]
        probe = self.rng.choice(certain)
        (wanted,) = self.possible[probe]
        if wanted is not None:
            assert self.store.get(probe) == wanted

    def check(self):
        """After a restart; what was not acknowledged is settled by what is there."""
        assert self.failure is None, self.failure
        there = set(self.store.keys(self.names[0].split("/")[0] + "/"))
        for name, possible in self.possible.items():
            found = self.store.get(name) if name in there else None
            assert found in possible, name
            self.possible[name] = {found}

    def digests(self):
        found = {name: next(iter(each)) for name, each in self.possible.items()}
        return {
            name: hashlib.sha256(data).digest() for name, data in found.items() if data is not None
        }


@pytest.fixture
def filled(open_store, objects_of, blob_of_bytes):
    store = open_store(settings=SETTINGS)
    objects = objects_of(store)
    for size in SIZES:
        for n in range(6):
            objects.put(f"still/{size}/{n}", blob_of_bytes(size))
    return objects


def shards_on(server, osd):
    client = Client(server.endpoint, find_keys(server.data_dir, {}))
    return client.get(f"/disks/{osd}")["shards"]


def moved(server):
    return server.metric("objectio_store_rebalance_backlog") == 0


def order(server, what, osd):
    client = Client(server.endpoint, find_keys(server.data_dir, {}))
    return client.post(f"/disks/{osd}/{what}")


def census(server):
    """Of a server that was killed: too much may be there, never too little."""
    found = take_census(server.data_dir)
    assert not found.lost, "\n".join(found.lost[:20])
    return found


def work_and_be_killed(store, workers, rng, eventually):
    """Some time after groups have begun to move."""
    server = store.server
    for worker in workers:
        worker.start()
    eventually(lambda: moved(server) or server.metric("objectio_rebalance_groups_moving"), 60)
    time.sleep(rng.uniform(0, 0.8))  # the moment of the power cut
    server.kill()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


@pytest.mark.slow
def test_grown_under_load_killed_on_the_way_and_shrunk(filled, seed, rng, eventually, assert_clean):
    store, server = filled.store, filled.store.server
    server.stop()
    assert not census(server).problems
    add_disk(server, 6)
    add_disk(server, 7)
    server.settings = SLOWLY
    seen_moving = 0
    for turn in range(4):
        server.start()
        workers = [Worker(store, f"{turn}.{number}", seed) for number in range(3)]
        work_and_be_killed(store, workers, rng, eventually)
        seen_moving += bool(census(server).moving)
        server.start()
        for worker in workers:
            worker.check()
            filled.digests.update(worker.digests())
        filled.check()
        server.kill()
    assert seen_moving, "every kill came too late"
    server.settings = SETTINGS
    server.start()
    eventually(lambda: moved(server), 60, "all groups at their new places")
    order(server, "drain", 3)
    eventually(lambda: shards_on(server, 3) == 0, 60)
    filled.check()
    store.wait_collected()
    server.stop()
    assert not census(server).problems
    leave_out(server, 3)
    server.start()
    filled.check()
    assert_clean(store)


@pytest.mark.usefixtures("one_process")  # a disk that no process offers is down, not left out
def test_a_disk_left_out_by_mistake_and_put_back(filled, eventually, assert_clean):
    store, server = filled.store, filled.store.server
    server.stop()
    path = server.data_dir / "objectio.toml"
    before = path.read_text()
    leave_out(server, 2)
    server.start()
    assert "OSD 2 is not in the configuration any more" in server.log_text()
    filled.check()
    server.stop()
    path.write_text(before)
    server.start()
    store.wait_repaired()
    filled.check()
    assert_clean(store)
