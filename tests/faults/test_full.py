"""Devices that are full, read-only or broken, and a full file system under the metadata.

Full and read-only ones are real: small file systems in memory, where the tests may mount them.
I/O errors are injected by rule.
"""

from __future__ import annotations

import subprocess

import pytest
from botocore.exceptions import ResponseStreamingError

from objectio.filters.faultrules import FaultRule, write_rules
from objectio.limits import MIB

QUICK = {
    "osd.check_seconds": "0.1",
    "osd.log.segment_bytes": str(MIB),
    "pool.stripe_size_bytes": str(2 * MIB),
    "osd.log.checkpoint_seconds": "0.5",
    "store.repair_interval_seconds": "0.5",
}
FULL = (507, "InsufficientStorage")
UNAVAILABLE = (503, "ServiceUnavailable")


@pytest.fixture
def mount():
    """`mount(path, mebibytes)` puts a file system of that size there; again, to change it."""
    mounted = []

    def run(*command):
        return subprocess.run(command, capture_output=True, text=True)

    def mount_(path, mebibytes, options="rw"):
        options = f"size={mebibytes}m,{options}"
        if path in mounted:
            done = run("mount", "-o", f"remount,{options}", str(path))
            assert done.returncode == 0, done.stderr
            return
        path.mkdir(parents=True, exist_ok=True)
        done = run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        mounted.append(path)

    yield mount_
    for path in reversed(mounted):
        run("umount", "-l", str(path))


class Filler:
    """Puts objects of one size until the store refuses one."""

    def __init__(self, objects, data, size):
        self.objects, self.data, self.size = objects, data, size
        self.count = 0

    def put(self):
        self.objects.put(f"fill/{self.count}", self.data(self.size))
        self.count += 1

    def until_refused(self, limit=2000):
        while self.count < limit:
            try:
                self.put()
            except self.objects.store.s3.exceptions.ClientError as error:
                answer = error.response
                return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
        raise AssertionError(f"{limit} objects of {self.size} bytes fit")

    def accepted(self):
        """Whether one more is taken."""
        try:
            self.put()
        except self.objects.store.s3.exceptions.ClientError:
            return False
        return True


@pytest.fixture
def open_small(make_server, open_store, objects_of, blob_of_bytes, mount):
    """A store whose disks 0 and 1 are small file systems, disk 0 the smaller one."""

    def open_(size, reserve, **settings):
        disks = make_server().data_dir / "disks"
        mount(disks / "0", 5)
        mount(disks / "1", 8)
        settings = {**QUICK, "osd.log.free_bytes_min": str(reserve), **settings}
        objects = objects_of(open_store(settings=settings))
        return objects, Filler(objects, blob_of_bytes, size), disks

    return open_


def fill_first_disk(filler):
    """Until disk 0 misses shards, and some more."""
    server = filler.objects.store.server
    while server.metric("objectio_store_repair_backlog") == 0:
        filler.put()
    for _ in range(5):
        filler.put()
    filler.objects.check()


@pytest.mark.parametrize("size", [1_000_000, 200_000])
def test_full_disks_give_space_back(open_small, mount, eventually, assert_clean, size):
    """One full disk costs nothing; with two the store takes no more, and serves what it has. Space
    comes back from deletes, and from a larger file system."""
    objects, filler, disks = open_small(size, reserve=2 * MIB)
    store = objects.store
    fill_first_disk(filler)
    assert filler.until_refused() == FULL
    assert filler.until_refused() == FULL
    objects.check()
    for key in list(objects.digests)[::2]:
        objects.delete(key)
    eventually(filler.accepted, 30, "space after deletes")
    objects.check()
    assert filler.until_refused() == FULL
    mount(disks / "0", 200)
    mount(disks / "1", 200)
    eventually(filler.accepted, 10, "space of a larger file system")
    store.wait_repaired()
    objects.check()
    assert_clean(store)


def test_one_full_file_system_under_everything(
    make_server, open_store, objects_of, blob_of_bytes, mount, eventually, assert_clean
):
    """All disks, indexes and metadata in one file system, with the settings that a user starts with:
    compaction must not use up what the freeing of space needs itself."""
    mount(make_server().data_dir, 400)
    objects = objects_of(open_store())
    filler = Filler(objects, blob_of_bytes, 5_000_000)
    assert filler.until_refused() == FULL
    objects.check()
    for key in list(objects.digests)[2:22]:
        objects.delete(key)
    eventually(filler.accepted, 30, "space after deletes")
    objects.check()
    assert_clean(objects.store)


def test_full_to_the_last_byte(open_small, mount, eventually, assert_clean):
    """Writes that are cut short by a file system that has nothing left, not even for the marks of
    deletes: whoever made it so must make room, and then all goes on."""
    objects, filler, disks = open_small(250_000, reserve=0)
    store = objects.store
    fill_first_disk(filler)
    assert filler.until_refused() == FULL
    objects.check()
    for key in list(objects.digests)[::2]:
        objects.delete(key)
    objects.check()
    store.server.kill()
    store.server.start()
    objects.check()
    mount(disks / "0", 200)
    mount(disks / "1", 200)
    eventually(filler.accepted, 10, "room again")
    store.wait_repaired()
    objects.check()
    assert_clean(store)


def test_read_only_file_systems(open_small, mount, eventually, assert_clean):
    objects, filler, disks = open_small(300_000, reserve=0)
    store, server = objects.store, objects.store.server
    for _ in range(4):
        filler.put()
    server.stop()
    mount(disks / "0", 50, "ro")
    server.start()
    for _ in range(4):
        filler.put()
    objects.check()
    server.stop()
    mount(disks / "1", 50, "ro")
    server.start()
    assert filler.until_refused() == UNAVAILABLE
    objects.delete("fill/0")
    objects.check()
    assert "Read-only file system" in server.log_text()
    mount(disks / "0", 50, "rw")
    mount(disks / "1", 50, "rw")
    eventually(filler.accepted, 10, "writable again")
    eventually(lambda: server.metric("objectio_store_osds_up") == 6)
    store.wait_repaired()
    objects.check()
    assert_clean(store)


@pytest.fixture
def faulty(open_store, objects_of, blob_of_bytes, tmp_path):
    """`(filler, inject)`: a store whose disks fail as `inject` is told. Lasts until told anew."""
    rules = tmp_path / "rules.toml"
    settings = {
        **QUICK,
        "osd.log.segment_bytes": str(4 * MIB),
        "osd.filters": "fault",
        "filter.fault.path": str(rules),
    }
    objects = objects_of(open_store(settings=settings))
    for number, size in enumerate((10, 5000, 300_000, 9_000_000)):
        objects.put(f"before/{number}", blob_of_bytes(size))

    def inject(operation="", error="", disks=()):
        write_rules(
            rules,
            *(FaultRule(operation=operation, error=error, device=f"osd{n}") for n in disks),
        )

    return Filler(objects, blob_of_bytes, 300_000), inject


@pytest.mark.parametrize(
    ("operation", "error", "refusal"),
    [
        ("submit", "EIO", UNAVAILABLE),
        ("*", "EROFS", UNAVAILABLE),
        ("submit", "ENOSPC", FULL),
    ],
)
def test_writes_that_fail(faulty, eventually, assert_clean, operation, error, refusal):
    """On one device they cost nothing; on two the store takes no more until they are well again."""
    filler, inject = faulty
    objects = filler.objects
    inject(operation, error, [3])
    for _ in range(5):
        filler.put()
    objects.check()
    inject(operation, error, [3, 4])
    eventually(lambda: not filler.accepted(), 10)
    assert filler.until_refused() == refusal
    objects.delete("before/1")
    objects.check()
    inject()
    eventually(filler.accepted, 10, "the devices are well again")
    eventually(lambda: objects.store.server.metric("objectio_store_osds_up") == 6)
    objects.store.wait_repaired()
    objects.check()
    assert_clean(objects.store)


@pytest.mark.parametrize("error", ["EIO", "corrupt"])
def test_reads_that_fail(faulty, eventually, error_of, assert_clean, error):
    """Two devices that cannot be read cost nothing; with three an object is not there for now."""
    filler, inject = faulty
    objects, store = filler.objects, filler.objects.store
    inject("read", error, [1, 2])
    for _ in range(3):
        filler.put()
        objects.check()
    inject("read", error, [0, 1, 2])
    eventually(lambda: not readable(store, "before/3"), 10)
    assert error_of(store.get, "before/3") == (503, "SlowDown")
    filler.put()
    inject()
    eventually(lambda: readable(store, "before/3"), 10)
    objects.check()
    store.wait_repaired()
    assert_clean(store)


def readable(store, key):
    try:
        store.get(key)
    except (store.s3.exceptions.ClientError, ResponseStreamingError):
        return False  # the latter where it began in the middle of an answer
    return True


@pytest.mark.parametrize("restart", [False, True], ids=["running", "killed"])
def test_metadata_without_room(
    make_server,
    open_store,
    objects_of,
    blob_of_bytes,
    mount,
    eventually,
    assert_clean,
    restart,
    shape,
):
    """What cannot be committed has not happened; reads go on; with room again, all goes on."""
    if restart and shape != "one":
        pytest.skip("a gateway that starts writes a row of its own, and waits until it can")
    directory = make_server().data_dir / "meta"
    mount(directory, 4)
    store = open_store()
    objects = objects_of(store)
    filler = Filler(objects, blob_of_bytes, 5000)
    for _ in range(20):
        filler.put()
    with pytest.raises(OSError, match="No space"):
        (directory / "ballast").write_bytes(bytes(4 * MIB))
    assert filler.until_refused() == FULL
    assert not filler.accepted()
    objects.check()
    if restart:
        store.server.kill()
        store.server.start()
        objects.check()
        assert filler.until_refused() == FULL
        objects.check()
    (directory / "ballast").unlink()
    eventually(filler.accepted, 10)
    for key in list(objects.digests)[::2]:
        objects.delete(key)
    objects.check()
    assert_clean(store)
