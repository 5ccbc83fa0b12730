"""Keys, payloads and rows of the journal, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.errors import ChecksumMismatch
from objectio.model.stripe import is_reserved
from objectio.store.journalformat import (
    CHECKPOINT,
    CHUNK_BYTES,
    ENTRY,
    LINEAGE_MAX,
    NUMBER_MAX,
    Name,
    RowReader,
    cut,
    first_key,
    join,
    pack_piece,
    pack_rows,
    parse,
)
from objectio.store.journalhistory import Runs

names = st.builds(Name, st.integers(1, 3), st.integers(0, LINEAGE_MAX), st.integers(0, NUMBER_MAX))


@given(names, names, st.integers(0, 2**32 - 1))
def test_keys_sort_as_names_do(one, other, chunk):
    assert Name.of(one.key(chunk)) == one
    assert is_reserved(one.key().blob)
    assert (one < other) == (one.key() < other.key())
    assert first_key < one.key()


def test_a_key_and_a_header():
    name = Name(ENTRY, 0x010203, 0x0405060708)
    assert name.key(9).blob.hex() == "ffffffffffff" + "01" + "010203" + "000405060708"
    [(key, payload)] = cut(Name(ENTRY, 5, 7), 6, 1000, b"body")
    assert payload[:8] == b"OIJ1\x01\0\0\0"
    assert payload[8:12] == b"\x05\0\0\0"
    assert payload[12:24] == b"\0\0\0\0\x01\0\0\0\0\0\0\0"
    assert payload[24:40] == b"\x07" + bytes(7) + b"\x06" + bytes(7)
    assert payload[40:48] == (1000).to_bytes(8, "little")
    assert payload[56:] == b"body"
    assert key == Name(ENTRY, 5, 7).key(0)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_bodies_come_back(size):
    body = bytes(index % 251 for index in range(size))
    shards = cut(Name(ENTRY, 1, 2), 2, 0, body)
    assert len(shards) == max(1, -(-size // CHUNK_BYTES))
    chunks = [parse(key, payload) for key, payload in shards]
    assert [chunk.chunk for chunk in chunks] == list(range(len(shards)))
    assert join([chunk.piece for chunk in chunks], chunks[0].checksum) == body


def test_what_is_not_right_is_refused():
    [(key, payload), (other, _)] = cut(Name(ENTRY, 1, 2), 2, 0, bytes(CHUNK_BYTES + 1))
    with pytest.raises(ChecksumMismatch):
        parse(other, payload)
    with pytest.raises(ChecksumMismatch):
        parse(key, payload[:50])
    with pytest.raises(ChecksumMismatch):
        parse(key, b"X" + payload[1:])
    [(key, payload)] = cut(Name(ENTRY, 1, 2), 2, 0, b"short")
    with pytest.raises(ChecksumMismatch):
        parse(key, payload[:-1] + b"!")
    payload = pack_piece(Name(CHECKPOINT, 1, 2), 3, 0, b"piece")
    assert parse(Name(CHECKPOINT, 1, 2).key(3), payload).piece == b"piece"
    with pytest.raises(ChecksumMismatch):
        parse(Name(CHECKPOINT, 1, 2).key(3), payload + b"!")
    with pytest.raises(ChecksumMismatch):
        join([memoryview(b"a")], 5)


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=50))),
    st.integers(1, 40),
)
def test_rows_may_be_cut_anywhere(rows, step):
    packed = pack_rows(rows)
    reader = RowReader()
    found = []
    for at in range(0, len(packed), step):
        found += reader.feed(packed[at : at + step])
    assert found == rows
    assert reader.done


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_runs(numbers, first, last):
    runs = Runs()
    for number in sorted(numbers):
        runs.add(number)
        runs.add(number)  # as several chunks of one entry do
    assert list(runs) == sorted(numbers)
    assert runs.last == max(numbers, default=0)
    assert runs.covers(first, last) == set(range(first, last + 1)).issubset(numbers)
    assert (first in runs) == (first in numbers)
