"""The metadata directory is lost, and two disks with it: everything comes back from the journal."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import botocore.exceptions
import pytest

from objectio import builtin
from objectio.config import load_config
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node

LOST = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ResponseStreamingError,
)
CHANGES_AT_A_START = (b"j/", b"c/journal", b"c/osd/", b"c/refill/", b"c/scrub", b"c/map", b"x")
OTHERS = [
    (b"P/policy/%d" % number, b'{"Version": "2012-10-17", "n": %d}' % number)
    for number in range(30)
]
OTHERS += [(b"U/user/%d" % number, b"user %d" % number) for number in range(20)]
OTHERS += [(b"V/volume", b"\x00" * 5000), (b"z/version/of/something", b"")]


def open_kv(data_dir):
    config = load_config(data_dir / "objectio.toml", env={})
    return Node(config, load_plugins(disabled=(), builtin=(builtin,))).open_kv()


def rows_of(data_dir, without=(b"j/", b"c/journal")):
    """All metadata of a stopped server but what starts with these."""
    kv = open_kv(data_dir)
    found, after = {}, b""
    try:
        while page := kv.scan(after, limit=5000):
            found.update(row for row in page if not row[0].startswith(without))
            after = page[-1][0] + b"\0"
    finally:
        kv.close_sync()
    return found


def objectio(*arguments):
    main = "import sys; from objectio.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", main, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def rebuild(data_dir, *arguments):
    return objectio("meta", "rebuild", "--data", str(data_dir), *arguments)


def lose(server, *disks):
    """The metadata directory and these disks are gone."""
    shutil.rmtree(server.data_dir / "meta")
    for disk in disks:
        shutil.rmtree(server.disk(disk))


def fill(store, buckets, objects):
    """Buckets with objects of some bytes; returns contents by (bucket, key)."""
    names = [f"bucket-{number}" for number in range(buckets)]
    for name in names:
        store.s3.create_bucket(Bucket=name)
    contents = {
        (names[number % buckets], f"key/{number}"): b"%d" % number * (number % 90 + 1)
        for number in range(objects)
    }

    def put(item):
        (bucket, key), data = item
        store.s3.put_object(Bucket=bucket, Key=key, Body=data)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(put, contents.items()))
    return contents


def check(store, contents):
    def right(item):
        (bucket, key), data = item
        return store.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == data

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(right, contents.items()))


def life_and_loss(open_store, assert_clean, buckets, objects, disks):
    """Returns what `meta rebuild` said."""
    store = open_store(settings={"osd.check_seconds": "0.2", "store.repair_interval_seconds": "1"})
    server = store.server
    contents = fill(store, buckets, objects)
    for bucket, key in list(contents)[::10]:
        store.s3.delete_object(Bucket=bucket, Key=key)
        del contents[bucket, key]
    store.s3.create_multipart_upload(Bucket="bucket-0", Key="upload")
    store.wait_collected()
    server.stop()
    kv = open_kv(server.data_dir)
    kv.commit_sync([], OTHERS)  # to be journaled by the next start
    kv.close_sync()
    server.start()
    server.kill()
    before = rows_of(server.data_dir)
    assert before.items() >= dict(OTHERS).items()
    lose(server, *disks)
    done = rebuild(server.data_dir)
    assert done.returncode == 0, done.stderr
    assert rows_of(server.data_dir) == before
    server.start()
    check(store, contents)
    store.wait_repaired()
    for upload in store.s3.list_multipart_uploads(Bucket="bucket-0").get("Uploads", []):
        store.s3.abort_multipart_upload(
            Bucket="bucket-0", Key=upload["Key"], UploadId=upload["UploadId"]
        )
    check(store, contents)
    census = assert_clean(store)
    assert census.objects == len(contents)
    after = rows_of(server.data_dir, (*CHANGES_AT_A_START, b"u", b"g", b"e"))
    assert after == {
        row: value
        for row, value in before.items()
        if not row.startswith((*CHANGES_AT_A_START, b"u", b"g", b"e"))
    }
    return done.stdout


def test_metadata_and_two_disks_are_lost(open_store, assert_clean):
    said = life_and_loss(open_store, assert_clean, 5, 500, (0, 1))
    assert "not read     0: absent or blank" in said
    assert "disks read   2, 3, 4, 5" in said


@pytest.mark.slow
def test_ten_thousand_objects(open_store, assert_clean):
    life_and_loss(open_store, assert_clean, 50, 10_000, (1, 2))


@pytest.mark.parametrize(
    "choices",
    [[(0, 2)], pytest.param([*itertools.combinations(range(6), 2)], marks=pytest.mark.slow)],
    ids=["two", "any"],
)
def test_any_two_disks(open_store, tmp_path, choices):
    """Each choice of two, on copies of one store."""
    store = open_store()
    contents = fill(store, 2, 60)
    store.server.kill()
    before = rows_of(store.server.data_dir)
    for disks in choices:
        copy = tmp_path / "-".join(map(str, disks))
        shutil.copytree(store.server.data_dir, copy, ignore=shutil.ignore_patterns("run"))
        shutil.rmtree(copy / "meta")
        for disk in disks:
            shutil.rmtree(copy / "disks" / str(disk))
        done = rebuild(copy)
        assert done.returncode == 0, done.stderr
        assert rows_of(copy) == before, disks
        shutil.rmtree(copy)
    assert contents


class Writer(threading.Thread):
    """Puts objects of its own until the server is gone. `there` has the digest of each key that was
    acknowledged last, `unsure` that of a put without an answer."""

    def __init__(self, store, number):
        super().__init__()
        self.store, self.number = store, number
        self.there, self.unsure = {}, {}

    def run(self):
        for count in itertools.count():
            key = f"{self.number}/{count % 50}"
            data = b"%d %d " % (self.number, count) * 100
            self.unsure = {key: hashlib.sha256(data).digest()}
            try:
                self.store.put(key, data)
            except LOST:
                return
            self.there.update(self.unsure)


def test_killed_under_load_and_then_lost(open_store, eventually):
    store = open_store()
    server = store.server
    for disks in ((0, 1), (2, 3)):
        writers = [Writer(store, number) for number in range(8)]
        for writer in writers:
            writer.start()
        eventually(lambda writers=writers: sum(len(each.there) for each in writers) > 150)
        server.kill()
        for writer in writers:
            writer.join()
        lose(server, *disks)
        done = rebuild(server.data_dir)
        assert done.returncode == 0, done.stderr
        server.start()
        for writer in writers:
            for key, digest in writer.there.items():
                found = hashlib.sha256(store.get(key)).digest()
                assert found in (digest, writer.unsure.get(key)), key
        store.wait_repaired()


def test_a_start_without_metadata_is_refused_and_says_what_to_do(open_store):
    store = open_store()
    store.put("key", b"data")
    server = store.server
    server.stop()
    shutil.rmtree(server.data_dir / "meta")
    with pytest.raises(AssertionError, match="objectio meta rebuild"):
        server.start()
    done = rebuild(server.data_dir)  # the empty engine of that start is in nobody's way
    assert done.returncode == 0, done.stderr
    server.start()
    assert store.get("key") == b"data"


def test_what_a_rebuild_refuses(open_store):
    store = open_store()
    store.put("key", b"data")
    server = store.server
    done = rebuild(server.data_dir)
    assert done.returncode == 2
    assert "in use" in done.stderr
    server.stop()
    done = rebuild(server.data_dir)
    assert done.returncode == 2
    assert "--replace" in done.stderr
    before = rows_of(server.data_dir)
    done = rebuild(server.data_dir, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "checkpoint" in done.stdout
    done = rebuild(server.data_dir, "--replace")
    assert done.returncode == 0, done.stderr
    assert len(list(server.data_dir.glob("meta.old-*"))) == 1
    assert not (server.data_dir / "meta.rebuilding").exists()
    assert rows_of(server.data_dir) == before
    server.start()
    assert store.get("key") == b"data"


def test_an_old_copy_of_the_metadata_is_rolled_forward(open_store, tmp_path):
    store = open_store()
    server = store.server
    store.put("first", b"1")
    server.stop()
    shutil.copytree(server.data_dir / "meta", tmp_path / "backup")
    server.start()
    for number in range(20):
        store.put(f"later/{number}", b"%d" % number)
    store.delete("first")
    store.wait_collected()
    server.kill()
    shutil.rmtree(server.data_dir / "meta")
    (tmp_path / "backup").rename(server.data_dir / "meta")
    server.start()
    assert store.keys() == sorted(f"later/{number}" for number in range(20))
    assert store.get("later/7") == b"7"
    assert "batches of commits were taken from the journal" in server.log_text()


def test_an_old_copy_from_before_a_rebuild_is_refused(open_store, tmp_path):
    store = open_store()
    server = store.server
    store.put("key", b"1")
    server.stop()
    assert rebuild(server.data_dir, "--replace").returncode == 0
    server.start()
    server.stop()
    [old] = server.data_dir.glob("meta.old-*")
    (server.data_dir / "meta").rename(tmp_path / "rebuilt")
    old.rename(server.data_dir / "meta")
    with pytest.raises(AssertionError, match="were rebuilt from the disks"):
        server.start()
    shutil.rmtree(server.data_dir / "meta")
    (tmp_path / "rebuilt").rename(server.data_dir / "meta")
    server.start()
    assert store.get("key") == b"1"


def test_metadata_that_are_taken_away_under_the_server_are_noticed_and_come_back(open_store):
    store = open_store()
    server = store.server
    store.put("before", b"1")
    shutil.rmtree(server.data_dir / "meta")
    store.put("after", b"2")
    said = objectio("doctor", "-e", server.endpoint, "--data", str(server.data_dir))
    assert said.returncode == 2
    assert "was taken away" in " ".join(said.stdout.split())
    server.kill()
    done = rebuild(server.data_dir)
    assert done.returncode == 0, done.stderr
    server.start()
    assert [store.get(key) for key in ("before", "after")] == [b"1", b"2"]
    said = objectio("doctor", "-e", server.endpoint, "--data", str(server.data_dir))
    assert "was taken away" not in " ".join(said.stdout.split())
