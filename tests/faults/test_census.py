"""The census, on which the other tests rely, sees what is wrong."""

from __future__ import annotations

import pytest

from objectio import builtin
from objectio.config import load_config
from objectio.meta import keys
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node
from objectio.testing.census import take_census
from objectio.testing.damage import flip_payload_bytes


@pytest.fixture
def stopped(open_store, blob_of_bytes):
    store = open_store()
    for number in range(3):
        store.put(f"{number}", blob_of_bytes(50_000))
    store.wait_collected()
    store.server.stop()
    assert take_census(store.server.data_dir).problems == []
    return store.server


def change_rows(server, change):
    """`change(rows)` returns the writes to make, of all rows."""
    config = load_config(server.data_dir / "objectio.toml", env={})
    kv = Node(config, load_plugins(disabled=(), builtin=(builtin,))).open_kv()
    try:
        kv.commit_sync([], change(kv.scan()))
    finally:
        kv.close_sync()


def test_a_clean_store(stopped):
    census = take_census(stopped.data_dir)
    assert (census.objects, census.blobs, census.shards) == (3, 3, 18)


def test_damaged_shards(stopped, rng):
    flip_payload_bytes(stopped.disk(2), rng)
    problems = take_census(stopped.data_dir).problems
    assert len(problems) == 3
    assert all("OSD 2" in each for each in problems)


def test_shards_of_no_object(stopped):
    change_rows(
        stopped, lambda rows: [(key, None) for key, _ in rows if key[:1] in (b"o", keys.BLOBS)]
    )
    problems = take_census(stopped.data_dir).problems
    assert len([each for each in problems if "left over" in each]) == 18


def test_rows_of_no_object(stopped):
    change_rows(stopped, lambda rows: [(key, None) for key, _ in rows if key[:1] == b"o"])
    assert any("which nobody has" in each for each in take_census(stopped.data_dir).problems)


def test_missing_shards(stopped):
    def other_names(rows):
        objects = [(key, raw) for key, raw in rows if key[:1] == b"o"]
        blobs = [key for key, _ in rows if key[:1] == keys.BLOBS]
        (row, raw), blob = objects[0], blobs[0][1:]
        found = [each for each in blobs if each[1:] in raw]
        return [(row, raw.replace(found[0][1:], bytes(16)))] if found else [(blob, None)]

    change_rows(stopped, other_names)
    problems = take_census(stopped.data_dir).problems
    assert len([each for each in problems if "lacks" in each]) == 6
    assert len([each for each in problems if "left over" in each]) == 6
