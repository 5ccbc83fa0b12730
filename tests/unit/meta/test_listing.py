"""Listings, a page at a time, are those of a sorted list of keys."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.listing import Listings
from objectio.meta.records import ObjectRecord, UploadRecord, encode

BUCKET, OTHER = b"\xff" * 8, b"\xff" * 7 + b"\xfe"
ALPHABET = st.sampled_from([b"a", b"b", b"/", b"//", b"\0", b"\xff", b"\x01", "é".encode()])
KEYS = st.lists(ALPHABET, max_size=6).map(b"".join)
OBJECT = ObjectRecord(1, "etag", 2, "STANDARD", "me", "", "", "null", {}, {}, {}, [], [])
UPLOAD = UploadRecord(1, "me", {}, {}, "STANDARD", "", "")


def filled(rows):
    kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    for row, value in rows:
        kv.commit_sync([], [(row, value)])
    return Listings(kv)


def group_of(key, prefix, delimiter):
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def entries(found, prefix, delimiter):
    """What is shown, in order: (sort key, id, is it a group)."""
    shown = []
    for key, id_ in sorted(found):
        if not key.startswith(prefix):
            continue
        group = group_of(key, prefix, delimiter)
        entry = (key, id_, False) if group is None else (group, "", True)
        if entry not in shown:
            shown.append(entry)
    return shown


async def check_pages(page, expected, after, limit):
    """The first page, and all that follow from where each was cut."""
    shown, cut = await page(after, limit)
    assert shown == expected[:limit]
    assert (cut is not None) == (limit > 0 and len(expected) > limit)
    while cut is not None:
        more, cut = await page(cut, limit)
        shown += more
    assert shown == (expected if limit else [])


@settings(max_examples=150, deadline=None)
@given(
    found=st.sets(KEYS.filter(bool), max_size=25),
    prefix=KEYS,
    delimiter=st.sampled_from([b"", b"/", b"//", b"\0", b"a", b"\xff"]),
    after=KEYS,
    limit=st.integers(0, 7),
)
def test_objects(found, prefix, delimiter, after, limit):
    listings = filled(
        [(keys.object(bucket, key), encode(OBJECT)) for key in found for bucket in (BUCKET, OTHER)]
    )
    expected = [
        entry for entry in entries({(k, "") for k in found}, prefix, delimiter) if entry[0] > after
    ]

    async def page(after, limit):
        found = await listings.objects(BUCKET, prefix, delimiter, after, limit)
        shown = [(each.key, "", False) for each in found.objects]
        shown += [(group, "", True) for group in found.common_prefixes]
        assert len(shown) <= limit
        return sorted(shown), found.next_after

    asyncio.run(check_pages(page, expected, after, limit))


@settings(max_examples=150, deadline=None)
@given(
    found=st.sets(st.tuples(KEYS.filter(bool), st.integers(0, 5)), max_size=25),
    prefix=KEYS,
    delimiter=st.sampled_from([b"", b"/", b"//", b"\0", b"\xff"]),
    after=st.tuples(KEYS, st.sampled_from(["", "zz", "0", "é", "01" * 16, "03" * 16, "FF", "03"])),
    limit=st.integers(0, 7),
)
def test_uploads(found, prefix, delimiter, after, limit):
    found = {(key, f"{number:02x}" * 16) for key, number in found}
    listings = filled(
        [
            (keys.upload(bucket, key, bytes.fromhex(id_)), encode(UPLOAD))
            for key, id_ in found
            for bucket in (BUCKET, OTHER)
        ]
    )

    def behind(entry, after):
        key, id_, is_group = entry
        if is_group or key != after[0]:
            return key > after[0]
        return bool(after[1]) and id_ > after[1]

    everything = entries(found, prefix, delimiter)
    expected = [entry for entry in everything if behind(entry, after)]

    async def page(after, limit):
        found = await listings.uploads(BUCKET, prefix, delimiter, after, limit)
        shown = [(each.key, each.upload_id, False) for each in found.uploads]
        shown += [(group, "", True) for group in found.common_prefixes]
        return sorted(shown), found.next_after

    asyncio.run(check_pages(page, expected, after, limit))


@pytest.mark.parametrize("limit", [999, 1000, 1001, 20_000])
@pytest.mark.parametrize("delimiter", [b"", b"/"])
async def test_pages_longer_than_a_scan(limit, delimiter):
    found = [b"%06d" % i for i in range(2500)] + [b"9/%06d" % i for i in range(2500)]
    listings = filled([(keys.object(BUCKET, key), encode(OBJECT)) for key in found])
    page = await listings.objects(BUCKET, b"", delimiter, b"", limit)
    expected = entries({(key, "") for key in found}, b"", delimiter)
    assert len(page.objects) + len(page.common_prefixes) == min(limit, len(expected))
    assert (page.next_after is None) == (limit >= len(expected))


async def test_a_page_costs_what_it_shows():
    """Ten thousand keys under each of a few prefixes are not read."""
    read = []

    class Counting(MemoryKV):
        def scan(self, start, stop, *, reverse=False, limit):
            rows = super().scan(start, stop, reverse=reverse, limit=limit)
            read.append(len(rows))
            return rows

    kv = KVStore(Counting(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    for group in range(5):
        for first in range(0, 10_000, 5000):
            kv.commit_sync(
                [],
                [
                    (keys.object(BUCKET, b"%d/%05d" % (group, i)), encode(OBJECT))
                    for i in range(first, first + 5000)
                ],
            )
    page = await Listings(kv).objects(BUCKET, b"", b"/", b"", 1000)
    assert list(page.common_prefixes) == [b"%d/" % group for group in range(5)]
    assert sum(read) < 2000
