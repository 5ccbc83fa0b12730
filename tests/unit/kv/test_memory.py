"""The memory engine against the key-value suite, and its sorted keys against a sorted list."""

from __future__ import annotations

import random

from objectio.kv.memory import RUN_KEYS_MAX, SortedKeys
from objectio.testing.kv import KVConformance


class TestMemory(KVConformance):
    driver = "objectio.kv.memory:DRIVER"


def test_sorted_keys_over_many_runs():
    chance = random.Random(11)
    keys, model = SortedKeys(), set()
    for _ in range(12 * RUN_KEYS_MAX):
        key = b"%d" % chance.randrange(8 * RUN_KEYS_MAX)
        if key in model:
            keys.remove(key)
            model.remove(key)
        else:
            keys.add(key)
            model.add(key)
    assert list(keys.ascending(b"", b"\xff")) == sorted(model)
    for _ in range(100):
        start, stop = sorted(b"%d" % chance.randrange(8 * RUN_KEYS_MAX) for _ in range(2))
        want = sorted(key for key in model if start <= key < stop)
        assert list(keys.ascending(start, stop)) == want
        assert list(keys.descending(start, stop)) == want[::-1]
    for key in sorted(model):
        keys.remove(key)
    assert list(keys.ascending(b"", b"\xff")) == []
    assert list(keys.descending(b"", b"\xff")) == []
