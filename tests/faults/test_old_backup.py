"""Disks that come back as they were some time ago: restored from a backup, with what was deleted since
and without what was written since."""

from __future__ import annotations

import shutil

import pytest

SIZES = [1, 5000, 65_537, 400_000, 5_000_000]
SETTINGS = {
    "store.scrub_interval_seconds": "0.2",
    "osd.check_seconds": "0.1",
    "osd.log.segment_bytes": str(2 << 20),  # so that an old copy lacks whole segments
}
SLOW = pytest.mark.slow


@pytest.fixture
def objects(open_store, objects_of, blob_of_bytes):
    objects = objects_of(open_store(settings=SETTINGS))
    for size in SIZES:
        for name in ("kept", "overwritten", "deleted"):
            objects.put(f"{name}/{size}", blob_of_bytes(size))
    return objects


def index_of(server, number):
    """The directory that holds the index of a disk."""
    raw = (server.disk(number) / "log").read_bytes()[48:64]
    (found,) = (
        path
        for path in (server.data_dir / "index").iterdir()
        if bytes.fromhex(path.name.replace("-", "")) == raw
    )
    return found


class Backup:
    """Copies of disks and of their indexes."""

    def __init__(self, server, numbers):
        self.server = server
        self.numbers = numbers
        self.where = server.data_dir.with_name("backup")
        for number in numbers:
            shutil.copytree(server.disk(number), self.where / f"disk{number}")
            shutil.copytree(index_of(server, number), self.where / f"index{number}")

    def restore(self, *, index):
        for number in self.numbers:
            here = index_of(self.server, number)
            shutil.rmtree(self.server.disk(number))
            shutil.copytree(self.where / f"disk{number}", self.server.disk(number))
            if index == "restored":
                shutil.rmtree(here)
                shutil.copytree(self.where / f"index{number}", here)
            elif index == "lost":
                shutil.rmtree(here)


def go_on(objects, blob_of_bytes):
    """What happens after the backup."""
    for size in SIZES:
        objects.put(f"overwritten/{size}", blob_of_bytes(size))
        objects.delete(f"deleted/{size}")
        objects.put(f"added/{size}", blob_of_bytes(size))
    objects.store.wait_collected()


def wait_whole(store, eventually):
    """Until two scrubs have looked at everything, and what they found is made good."""
    server = store.server
    passes = server.metric("objectio_store_scrub_passes_total") + 2
    eventually(lambda: server.metric("objectio_store_scrub_passes_total") >= passes, 60)
    store.wait_repaired()
    store.wait_collected()


@pytest.mark.parametrize(
    ("numbers", "index"),
    [
        ((0, 5), "kept"),
        pytest.param((0, 5), "restored", marks=SLOW),
        pytest.param((0, 5), "lost", marks=SLOW),
        pytest.param((2,), "kept", marks=SLOW),
        pytest.param((2,), "restored", marks=SLOW),
        pytest.param((2,), "lost", marks=SLOW),
    ],
)
def test_disks_restored_from_a_backup(
    objects, blob_of_bytes, eventually, assert_clean, numbers, index
):
    store, server = objects.store, objects.store.server
    server.stop()
    backup = Backup(server, numbers)
    server.start()
    go_on(objects, blob_of_bytes)
    server.stop()
    backup.restore(index=index)
    server.start()
    objects.check()
    for size in SIZES:
        objects.put(f"later/{size}", blob_of_bytes(size))
    wait_whole(store, eventually)
    objects.check()
    server.stop()  # and what the restored disks were given is there without their indexes
    shutil.rmtree(server.data_dir / "index")
    server.start()
    objects.check()
    wait_whole(store, eventually)
    assert_clean(store)


@pytest.mark.parametrize("end", ["stop", pytest.param("kill", marks=SLOW)])
def test_a_disk_that_was_copied_while_it_was_in_use(
    objects, blob_of_bytes, eventually, assert_clean, end
):
    """The device was not opened since, so its count of openings does not tell that it is old."""
    store, server = objects.store, objects.store.server
    backup = Backup(server, (3,))
    go_on(objects, blob_of_bytes)
    getattr(server, end)()
    backup.restore(index="kept")
    server.start()
    objects.check()
    for size in SIZES:
        objects.put(f"later/{size}", blob_of_bytes(size))
    wait_whole(store, eventually)
    objects.check()
    server.stop()
    shutil.rmtree(server.data_dir / "index")
    server.start()
    objects.check()
    assert server.metric("objectio_store_repair_backlog") == 0
    assert_clean(store)


@pytest.mark.slow
def test_a_disk_goes_back_in_time_again_and_again(
    objects, blob_of_bytes, rng, eventually, assert_clean
):
    """Always to the same backup, while the store goes on; killed in between."""
    store, server = objects.store, objects.store.server
    server.stop()
    backup = Backup(server, (1, 4))
    server.start()
    for turn in range(3):
        for size in SIZES:
            objects.put(f"turn{turn}/{size}", blob_of_bytes(size))
            if turn:
                objects.delete(f"turn{turn - 1}/{size}")
        server.kill()
        backup.restore(index=rng.choice(["kept", "restored", "lost"]))
        server.start()
        objects.check()
        wait_whole(store, eventually)  # two disks are as many as may be old at a time
    objects.check()
    assert_clean(store)
