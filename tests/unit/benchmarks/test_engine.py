"""The parts of `python -m benchmarks.engine` that are arithmetic."""

from __future__ import annotations

import pytest

from objectio.limits import KIB

engine_cache = pytest.importorskip("benchmarks.engine_cache")


def test_an_lru_holds_what_was_read_last():
    lru = engine_cache.Lru(2 * (4 * KIB + engine_cache.ENTRY_BYTES))
    for number in (1, 2, 1, 3, 1, 2):
        lru.look(number)
    assert (lru.hits, lru.misses) == (2, 4)


def test_the_cache_is_measured(tmp_path):
    lines = list(engine_cache.measure(tmp_path, 0.01))
    assert "1,000 shards" in lines[0]
    before = next(line for line in lines if line.startswith("before the scan"))
    assert 0.2 < float(before.split()[-2].rstrip("%")) / 100 < 1
