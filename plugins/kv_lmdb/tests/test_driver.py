"""What is LMDB's own: a map that grows under readers and other processes, and opening."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from objectio_kv_lmdb.config import LmdbConfig
from objectio_kv_lmdb.driver import LmdbKV

from objectio.abc.kv import Commit
from objectio.errors import DriverUnavailable, Unavailable
from objectio.limits import MIB
from objectio.testing.context import make_context

SMALL = LmdbConfig(map_size_bytes=MIB)
BIG_VALUE = b"v" * 500_000

GROW = """
import sys
from pathlib import Path
from objectio_kv_lmdb.config import LmdbConfig
from objectio_kv_lmdb.driver import LmdbKV
from objectio.abc.context import Context
from objectio.abc.kv import Commit
kv = LmdbKV(LmdbConfig(map_size_bytes=2**20), Context(name="other", data_dir=Path(sys.argv[1])))
for number in range(int(sys.argv[2])):
    kv.commit([Commit([], [(b"%s/%d" % (sys.argv[2].encode(), number), b"v" * 500_000)])])
kv.close()
"""


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path)


@pytest.fixture
def kv(context):
    driver = LmdbKV(SMALL, context)
    yield driver
    driver.close()


def grow_elsewhere(context, rows):
    subprocess.run([sys.executable, "-c", GROW, str(context.data_dir), str(rows)], check=True)


def test_the_map_grows_and_is_remembered(context, kv):
    kv.commit([Commit([], [(b"%d" % n, BIG_VALUE)]) for n in range(12)])
    assert kv.stats()["rows"] == 12
    assert kv.stats()["map_bytes"] >= 8 * MIB
    kv.close()
    again = LmdbKV(SMALL, context)
    assert again.get_many([b"0", b"11"]) == [BIG_VALUE, BIG_VALUE]
    again.close()


def test_the_map_grows_under_readers(kv):
    kv.commit([Commit([], [(b"a", b"1"), (b"b", b"2")])])
    stop = threading.Event()
    failures = []
    counts = [0] * 3

    def read(which):
        try:
            while not stop.is_set():
                assert kv.get(b"a") == b"1"
                assert kv.scan(b"a", b"c", limit=5) == [(b"a", b"1"), (b"b", b"2")]
                counts[which] += 1
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, args=(which,)) for which in range(3)]
    for reader in readers:
        reader.start()
    number = 0
    while (number < 40 or min(counts) < 50) and not failures and number < 2000:
        kv.commit([Commit([], [(b"x/%d" % (number % 40), BIG_VALUE)])])
        number += 1
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert kv.stats()["map_bytes"] > 16 * MIB


@pytest.mark.parametrize("call", ["get", "get_many", "scan", "commit"])
def test_another_process_grows_the_map(context, kv, call):
    kv.commit([Commit([], [(b"mine", b"1")])])
    grow_elsewhere(context, 7)
    if call == "get":
        assert kv.get(b"7/6") == BIG_VALUE
    elif call == "get_many":
        assert kv.get_many([b"7/0", b"mine"]) == [BIG_VALUE, b"1"]
    elif call == "scan":
        assert len(kv.scan(b"7/", b"70", limit=100)) == 7
    else:
        assert kv.commit([Commit([], [(b"mine", b"2")])]) == [None]
        assert kv.get(b"mine") == b"2"


def test_a_reader_sees_each_commit_of_its_own_thread_and_others(kv):
    seen = []
    for number in range(50):
        kv.commit([Commit([], [(b"k", b"%d" % number)])])
        reader = threading.Thread(target=lambda: seen.append(kv.get(b"k")))
        reader.start()
        reader.join()
        assert kv.get(b"k") == seen[-1] == b"%d" % number


def test_opening_twice_in_one_process_is_refused(context, kv):
    with pytest.raises(DriverUnavailable, match="already open"):
        LmdbKV(SMALL, context)
    assert kv.get(b"k") is None


def test_what_is_not_lmdb_is_refused(context):
    (context.data_dir / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(DriverUnavailable):
        LmdbKV(SMALL, context)


def test_a_closed_store_says_so(context):
    kv = LmdbKV(SMALL, context)
    kv.close()
    kv.close()
    for call in (
        lambda: kv.get(b"k"),
        lambda: kv.get_many([b"k"]),
        lambda: kv.scan(b"", b"\xff", limit=1),
        lambda: kv.commit([Commit([], [(b"k", b"")])]),
    ):
        with pytest.raises(Unavailable, match="closed"):
            call()


def test_a_path_of_its_own_and_no_sync(context, tmp_path):
    config = LmdbConfig(path=str(tmp_path / "deep" / "elsewhere"), durability="nosync")
    for _ in range(2):
        kv = LmdbKV(config, context)
        kv.commit([Commit([], [(b"k", b"v")])])
        assert kv.get(b"k") == b"v"
        kv.close()
    assert (tmp_path / "deep" / "elsewhere" / "data.mdb").exists()
    assert list(context.data_dir.iterdir()) == []


def break_meta_pages(directory):
    """Every write of the meta page fails from now on: LMDB has a file descriptor of its own for it."""
    for handle in Path("/proc/self/fd").iterdir():
        flags = int(Path(f"/proc/self/fdinfo/{handle.name}").read_text().split()[3], 8)
        if Path(os.readlink(handle)) == directory / "data.mdb" and flags & os.O_DSYNC:
            readable = os.open(directory / "data.mdb", os.O_RDONLY)
            os.dup2(readable, int(handle.name))
            os.close(readable)
            return
    raise AssertionError("LMDB has no file descriptor for meta pages")


def test_it_is_opened_again_after_a_meta_page_was_not_written(context, kv):
    kv.commit([Commit([], [(b"a", b"1")])])
    break_meta_pages(context.data_dir)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kv.commit([Commit([], [(b"b", b"2")])])
    assert kv.get_many([b"a", b"b"]) == [b"1", None]
    kv.commit([Commit([], [(b"c", b"3")])])
    assert kv.get_many([b"a", b"b", b"c"]) == [b"1", None, b"3"]


@pytest.mark.parametrize("put_back", [False, True])
def test_files_that_were_taken_away_are_not_made_anew(context, kv, tmp_path_factory, put_back):
    kv.commit([Commit([], [(b"a", b"1")])])
    break_meta_pages(context.data_dir)
    taken = context.data_dir.rename(tmp_path_factory.mktemp("taken") / "away")
    with pytest.raises(OSError, match="Bad file descriptor"):
        kv.commit([Commit([], [(b"b", b"2")])])
    for _ in range(2):
        with pytest.raises(Unavailable, match="are gone"):
            kv.commit([Commit([], [(b"b", b"2")])])
        with pytest.raises(Unavailable, match="are gone"):
            kv.get_many([b"a"])
    assert not context.data_dir.exists()
    if put_back:
        taken.rename(context.data_dir)
        assert kv.get_many([b"a", b"b"]) == [b"1", None]
