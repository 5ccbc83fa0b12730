"""What is LevelDB's own: who may open it, and what a failed write leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys

import plyvel
import pytest
from objectio_kv_leveldb.config import LevelDbConfig
from objectio_kv_leveldb.driver import LevelDbKV

from objectio.abc.kv import Absent, Commit
from objectio.errors import DriverUnavailable, Unavailable
from objectio.testing.context import make_context

UNDO = """
import json, resource, signal, sys
from pathlib import Path
import plyvel
from objectio_kv_leveldb.config import LevelDbConfig
from objectio_kv_leveldb.driver import LevelDbKV
from objectio.abc.context import Context
from objectio.abc.kv import Absent, Commit

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
kv = LevelDbKV(LevelDbConfig(), Context(name="child", data_dir=Path(sys.argv[1])))
kv.commit([Commit([], [(b"kept", b"old"), (b"gone", b"old")])])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
batch = [Commit([], [(b"kept", b"new"), (b"gone", None), (b"big", b"v" * 900_000)])]
try:
    kv.commit(batch)
    first = "done"
except OSError as error:
    first = error.errno
between = [value and value.decode() for value in kv.get_many([b"kept", b"gone", b"big"])]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
# What a failed sync may leave: the refused batch is whole in the log and comes back on opening.
kv._db.close()
raw = plyvel.DB(sys.argv[1])
raw.put(b"kept", b"new")
raw.delete(b"gone")
raw.put(b"big", b"v")
raw.close()
after = kv.commit([Commit([Absent(b"big")], [(b"after", b"1")])])
rows = [[key.decode(), value.decode()] for key, value in kv.scan(b"", b"\\xff", limit=9)]
print(json.dumps([first, between, after, rows]))
"""


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path)


def test_a_refused_batch_never_comes_back(context):
    done = subprocess.run(
        [sys.executable, "-c", UNDO, str(context.data_dir)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    first, between, after, rows = json.loads(done.stdout)
    assert first == 27  # EFBIG
    assert between == ["old", "old", None]
    assert after == [None]
    assert rows == [["after", "1"], ["gone", "old"], ["kept", "old"]]


def test_a_second_opener_is_told_why(context):
    kv = LevelDbKV(LevelDbConfig(), context)
    with pytest.raises(DriverUnavailable, match="in use: one process"):
        LevelDbKV(LevelDbConfig(), context)
    assert kv.commit([Commit([Absent(b"k")], [(b"k", b"v")])]) == [None]
    kv.close()


def test_what_is_not_leveldb_is_refused(context):
    (context.data_dir / "CURRENT").write_bytes(b"something else")
    with pytest.raises(DriverUnavailable, match="cannot open"):
        LevelDbKV(LevelDbConfig(), context)


def test_a_closed_store_says_so(context):
    kv = LevelDbKV(LevelDbConfig(), context)
    kv.close()
    kv.close()
    for call in (
        lambda: kv.get(b"k"),
        lambda: kv.get_many([b"k"]),
        lambda: kv.scan(b"", b"\xff", limit=1),
        lambda: kv.commit([Commit([Absent(b"k")], [(b"k", b"")])]),
    ):
        with pytest.raises(Unavailable, match="closed"):
            call()


def test_a_path_of_its_own_and_no_sync(context, tmp_path):
    config = LevelDbConfig(path=str(tmp_path / "deep" / "elsewhere"), durability="nosync")
    for _ in range(2):
        kv = LevelDbKV(config, context)
        kv.commit([Commit([], [(b"k", b"v")])])
        assert kv.get(b"k") == b"v"
        kv.close()
    with plyvel.DB(config.path) as raw:
        assert list(raw) == [(b"k", b"v")]
    assert list(context.data_dir.iterdir()) == []
