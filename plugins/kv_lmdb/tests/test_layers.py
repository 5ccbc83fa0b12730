"""The layered encoding against a sorted dict."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectio_kv_lmdb.layers import CHUNK_BYTES, Layers

from objectio.limits import KV_KEY_BYTES_MAX, MIB

HEADS = [
    b"",
    b"a" * CHUNK_BYTES,
    b"a" * (2 * CHUNK_BYTES),
    b"a" * (CHUNK_BYTES - 1) + b"b",
    b"a" * (CHUNK_BYTES - 1),
    b"\x00" * CHUNK_BYTES,
    b"\x01" * (3 * CHUNK_BYTES),
    b"\xff" * CHUNK_BYTES,
    b"\xff" * (KV_KEY_BYTES_MAX - 3),
    b"a" * (8 * CHUNK_BYTES),
    b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c" * CHUNK_BYTES,
]
TAILS = st.one_of(
    st.binary(max_size=3),
    st.text(alphabet="\x00\x01\x02ab\xff", max_size=3).map(lambda text: text.encode("latin-1")),
)
BOUNDS = st.builds(
    lambda head, tail: (head + tail)[:KV_KEY_BYTES_MAX], st.sampled_from(HEADS), TAILS
)
KEYS = BOUNDS.filter(bool)
STEPS = st.lists(
    st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=4))), min_size=1, max_size=40
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    path = tmp_path_factory.mktemp("layers")
    with closing(lmdb.open(str(path), map_size=64 * MIB, max_dbs=2, sync=False)) as environment:
        yield environment


@pytest.fixture(scope="module")
def databases(environment):
    return environment.open_db(b"root"), environment.open_db(b"layers")


def apply(layers, txn, steps):
    model = {}
    for key, value in steps:
        if value is None:
            assert layers.delete(txn, key) is (key in model)
            model.pop(key, None)
        else:
            layers.put(txn, key, value)
            model[key] = value
    return model


def rows_of(txn, database):
    with txn.cursor(db=database) as cursor:
        return list(cursor.iternext())


class TestAgainstADict:
    @settings(max_examples=150, deadline=None)
    @given(
        steps=STEPS, ranges=st.lists(st.tuples(BOUNDS, BOUNDS), max_size=6), limit=st.integers(1, 9)
    )
    def test_gets_and_scans(self, environment, databases, steps, ranges, limit):
        layers = Layers(*databases)
        txn = environment.begin(databases[0], write=True)
        try:
            model = apply(layers, txn, steps)
            for key, _ in steps:
                assert layers.get(txn, key) == model.get(key)
            top = b"\xff" * (KV_KEY_BYTES_MAX + 1)
            for start, stop in [(b"", top), *ranges, *((key, top) for key, _ in steps)]:
                want = sorted(row for row in model.items() if start <= row[0] < stop)
                for reverse in (False, True):
                    if start < stop:
                        found = list(layers.scan(txn, start, stop, reverse))
                        assert found == (want[::-1] if reverse else want)
                        with closing(layers.scan(txn, start, stop, reverse)) as rows:
                            assert list(islice(rows, limit)) == found[:limit]
        finally:
            txn.abort()

    @settings(max_examples=100, deadline=None)
    @given(steps=STEPS)
    def test_nothing_stays_when_all_is_deleted(self, environment, databases, steps):
        layers = Layers(*databases)
        txn = environment.begin(databases[0], write=True)
        try:
            for key in apply(layers, txn, steps):
                assert layers.delete(txn, key)
            assert rows_of(txn, databases[0]) == []
            assert rows_of(txn, databases[1]) == []
        finally:
            txn.abort()

    @settings(max_examples=60, deadline=None)
    @given(steps=STEPS)
    def test_no_layer_is_empty_or_shared(self, environment, databases, steps):
        layers = Layers(*databases)
        txn = environment.begin(databases[0], write=True)
        try:
            apply(layers, txn, steps)
            children = rows_of(txn, databases[1])
            links = [v for k, v in rows_of(txn, databases[0]) if len(k) == CHUNK_BYTES + 1]
            links += [v for k, v in children if len(k) == CHUNK_BYTES + 9]
            assert len(links) == len(set(links))
            assert set(links) == {row[:8] for row, _ in children}
        finally:
            txn.abort()


@pytest.mark.parametrize("length", [1, 479, 480, 481, 959, 960, 961, 4095, 4096])
def test_a_key_of_each_border_length(environment, databases, length):
    layers = Layers(*databases)
    txn = environment.begin(databases[0], write=True)
    try:
        key = bytes(index % 251 for index in range(length))
        layers.put(txn, key, b"value")
        assert layers.get(txn, key) == b"value"
        assert layers.get(txn, key[:-1] + b"\xfe") is None
        assert list(layers.scan(txn, key, key + b"\x00", False)) == [(key, b"value")]
        assert list(layers.scan(txn, b"", key, True)) == []
    finally:
        txn.abort()


def test_a_short_key_is_its_own_row(environment, databases):
    layers = Layers(*databases)
    txn = environment.begin(databases[0], write=True)
    try:
        layers.put(txn, b"k" * CHUNK_BYTES, b"value")
        assert rows_of(txn, databases[0]) == [(b"k" * CHUNK_BYTES, b"value")]
    finally:
        txn.abort()
