"""Adaptive replacement: against a plain reading of the paper, against LRU, against scans."""

from __future__ import annotations

import random
import threading
import timeit
from collections import OrderedDict
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.osd.cache import ENTRY_BYTES, ArcCache

SIZE = 1000
UNIT = SIZE + ENTRY_BYTES


def cache_of(count, correlated_lookups=0):
    return ArcCache(count * UNIT, correlated_lookups=correlated_lookups)


def touch(cache, name, *, size=SIZE, at_once=True):
    """As a reader does. True if it was there."""
    found = cache.get(name)
    if found is not None:
        assert found == content(name, size)
        return True
    cache.offer(name, content(name, size), at_once=at_once)
    return False


def content(name, size=SIZE):
    return (b"%r;" % (name,) * size)[:size]


class PaperArc:
    """Figure 4 of the paper, in pages."""

    def __init__(self, c):
        self.c, self.p = c, 0
        self.t1, self.t2, self.b1, self.b2 = ([] for _ in range(4))  # LRU first

    def replace(self, in_b2):
        over = len(self.t1) - self.p
        if self.t1 and (over > 0 or (in_b2 and over == 0) or not self.t2):
            self.b1.append(self.t1.pop(0))
        else:
            self.b2.append(self.t2.pop(0))

    def touch(self, x):
        for held in (self.t1, self.t2):
            if x in held:
                held.remove(x)
                self.t2.append(x)
                return True
        if x in self.b1:
            self.p = min(self.c, self.p + max(1, len(self.b2) / len(self.b1)))
            self.b1.remove(x)
            if len(self.t1) + len(self.t2) == self.c:
                self.replace(False)
            self.t2.append(x)
        elif x in self.b2:
            self.p = max(0, self.p - max(1, len(self.b1) / len(self.b2)))
            self.b2.remove(x)
            if len(self.t1) + len(self.t2) == self.c:
                self.replace(True)
            self.t2.append(x)
        else:
            if len(self.t1) + len(self.t2) == self.c:
                self.replace(False)
            self.t1.append(x)
        while self.b1 and len(self.t1) + len(self.b1) > self.c:
            self.b1.pop(0)
        while self.b2 and sum(map(len, (self.t1, self.t2, self.b1, self.b2))) > 2 * self.c:
            self.b2.pop(0)
        return False


class Lru:
    def __init__(self, capacity_bytes):
        self.left = capacity_bytes
        self.held = OrderedDict()

    def touch(self, name, size=SIZE):
        if name in self.held:
            self.held.move_to_end(name)
            return True
        self.held[name] = size
        self.left -= size + ENTRY_BYTES
        while self.left < 0:
            self.left += self.held.popitem(last=False)[1] + ENTRY_BYTES
        return False


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(0, 15), max_size=150))
def test_blocks_of_one_size_go_the_way_of_the_paper(count, names):
    cache, paper = cache_of(count), PaperArc(count)
    for name in names:
        assert touch(cache, name) == paper.touch(name)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bytes_stay_within_the_capacity(data):
    sizes = data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=20))
    cache = ArcCache(data.draw(st.integers(0, 8000)))
    names = st.integers(0, len(sizes) - 1)
    for name, at_once in data.draw(st.lists(st.tuples(names, st.booleans()), max_size=200)):
        touch(cache, name, size=sizes[name], at_once=at_once)
        held = list(cache._once) + list(cache._again)
        assert len(set(held)) == len(held)
        assert cache.used_bytes == sum(sizes[each] + ENTRY_BYTES for each in held)
        assert cache.used_bytes <= cache.capacity_bytes
        gone = list(cache._once_gone) + list(cache._again_gone)
        assert len(set(gone + held)) == len(gone) + len(held)
        remembered = sum(sizes[each] + ENTRY_BYTES for each in gone)
        assert cache.used_bytes + remembered <= 2 * cache.capacity_bytes


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("in_pieces", [1, 8])
def test_a_scan_does_not_evict_what_is_hot(at_once, in_pieces):
    """Ten times the cache is read once, whole or each block in small ranges one after the other."""
    source, cache, lru = random.Random(1), ArcCache(100 * UNIT), Lru(100 * UNIT)
    hot = [("hot", i) for i in range(60)]

    def rate(count=600):
        return sum(touch(cache, source.choice(hot)) for _ in range(count)) / count

    rate()
    for name in hot * 2:
        lru.touch(name)
    before = rate()
    for i in range(1000):
        for _ in range(in_pieces):
            touch(cache, ("scan", i), at_once=at_once)
        lru.touch(("scan", i))
    assert before == 1.0
    assert rate() == 1.0
    assert not any(lru.touch(name) for name in hot), "a scan that no cache minds proves nothing"


def test_a_large_object_is_kept_when_it_is_read_again():
    cache = cache_of(100)
    for expected in (False, False, True):
        for i in range(40):
            assert touch(cache, i, at_once=False) == expected


def test_reads_in_a_row_are_one_use():
    cache = cache_of(10, correlated_lookups=8)
    for _ in range(8):
        touch(cache, "row")
    assert "row" in cache._once
    for i in range(8):
        touch(cache, i)
    touch(cache, "row")
    assert "row" in cache._again


def zipfian(source, count, skew=0.9):
    """An endless load: name n is asked for n^-skew as often as name 1."""
    weights = list(accumulate((n + 1) ** -skew for n in range(count)))
    names = list(range(count))
    source.shuffle(names)
    while True:
        yield from source.choices(names, cum_weights=weights, k=10_000)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_a_zipfian_load_hits_more_often_than_with_lru(share):
    count = 10_000
    capacity = int(count * share) * UNIT
    cache, lru = ArcCache(capacity), Lru(capacity)
    hits = {"arc": 0, "lru": 0}
    for turn, name in zip(range(120_000), zipfian(random.Random(7), count), strict=False):
        arc_hit, lru_hit = touch(cache, name), lru.touch(name)
        if turn >= 20_000:
            hits["arc"] += arc_hit
            hits["lru"] += lru_hit
    print(share, {name: found / 100_000 for name, found in hits.items()})
    assert hits["arc"] > 1.03 * hits["lru"]


def test_a_zipfian_load_with_scans_in_between():
    count, capacity = 10_000, 1000 * UNIT
    cache, lru = ArcCache(capacity), Lru(capacity)
    hits = {"arc": 0, "lru": 0}
    for turn, name in zip(range(60_000), zipfian(random.Random(7), count), strict=False):
        hits["arc"] += touch(cache, name)
        hits["lru"] += lru.touch(name)
        if turn % 5000 == 0:
            for i in range(5000):
                touch(cache, (turn, i))
                lru.touch((turn, i))
    assert hits["arc"] > 1.2 * hits["lru"]


def test_counts():
    cache = cache_of(10)
    touch(cache, 1)
    touch(cache, 1)
    touch(cache, 2)
    assert cache.get(3) is None
    assert cache.get(1, counted=False)
    assert (cache.hits, cache.misses) == (1, 2)
    assert cache.used_bytes == 2 * UNIT


def test_what_is_too_large_is_not_kept():
    cache = ArcCache(5000)
    touch(cache, "small")
    touch(cache, "large", size=6000)
    assert cache.get("large") is None
    assert cache.get("small")


def test_threads():
    cache, failures = cache_of(50), []

    def work(seed):
        source = random.Random(seed)
        try:
            for _ in range(5000):
                touch(cache, source.randrange(200), at_once=source.random() < 0.8)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert cache.hits + cache.misses == 20_000
    assert cache.used_bytes == UNIT * (len(cache._once) + len(cache._again)) <= 50 * UNIT


def test_a_hit_is_cheap():
    cache = cache_of(10)
    key, entry = b"k" * 21, b"e" * 22
    touch(cache, (key, entry, 1, 0))
    best = min(timeit.repeat(lambda: cache.get((key, entry, 1, 0)), number=1000, repeat=20)) / 1000
    assert best < 10e-6  # it is about 0.5 µs; test machines are slow
