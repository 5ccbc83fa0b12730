"""Encoded keys sort as what they encode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.errors import InvalidRequest
from objectio.kv.keys import (
    KEY_END,
    decode_uint,
    decode_uint_descending,
    encode_uint,
    encode_uint_descending,
    escape,
    escape_prefix,
    prefix_end,
    unescape,
)
from objectio.limits import KV_KEY_BYTES_MAX

raw = st.one_of(
    st.binary(max_size=12),
    st.lists(st.sampled_from(b"\x00\x01\x02\xfe\xff"), max_size=5).map(bytes),
)


@given(raw, raw, raw)
def test_a_field_comes_back_whatever_follows(first, second, rest):
    data = escape(first) + escape(second) + rest
    assert unescape(data) == (first, len(escape(first)))
    assert unescape(data, len(escape(first))) == (second, len(data) - len(rest))


@given(raw, raw, raw, raw)
def test_fields_sort_as_raw_bytes_whatever_follows(a, b, after_a, after_b):
    if a == b:
        assert escape(a) == escape(b)
    else:
        assert (escape(a) + after_a < escape(b) + after_b) is (a < b)


@given(st.lists(raw, max_size=4), st.lists(raw, max_size=4))
def test_tuples_of_fields_sort_as_tuples(a, b):
    assert (b"".join(map(escape, a)) < b"".join(map(escape, b))) is (a < b)


@given(raw, raw)
def test_a_prefix_selects_exactly_what_starts_with_it(prefix, name):
    assert escape(name).startswith(escape_prefix(prefix)) is name.startswith(prefix)


@given(raw, raw)
def test_prefix_end_is_the_tight_bound(prefix, key):
    inside = prefix <= key < prefix_end(prefix)
    assert inside is key.startswith(prefix)


def test_prefix_end_without_a_successor():
    assert prefix_end(b"") == prefix_end(b"\xff\xff") == KEY_END
    assert b"\xff" * KV_KEY_BYTES_MAX < KEY_END


@pytest.mark.parametrize("data", [b"", b"a", b"a\x00", b"a\x00\xff", b"a\x00\x02", b"\x00\x00"])
def test_what_is_no_field_is_refused(data):
    with pytest.raises(InvalidRequest):
        unescape(data)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_integers(a, b):
    assert decode_uint(b"x" + encode_uint(a), 1) == a
    assert decode_uint_descending(encode_uint_descending(a)) == a
    assert (encode_uint(a) < encode_uint(b)) is (a < b)
    assert (encode_uint_descending(a) < encode_uint_descending(b)) is (a > b)


def test_integers_that_do_not_fit():
    for encode in (encode_uint, encode_uint_descending):
        with pytest.raises(OverflowError):
            encode(256, 1)
        with pytest.raises(OverflowError):
            encode(-1, 1)
    with pytest.raises(InvalidRequest):
        decode_uint(b"\x00" * 7)
