"""Filters that have nothing to do change nothing: drivers under all of them still conform."""

from __future__ import annotations

import pytest

from objectio.abc.filter import FilterKind
from objectio.filters import DRIVERS
from objectio.testing.context import make_context
from objectio.testing.kv import KVConformance
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_conformance import ShardStoreConformance

IDLE = ("retry", "throttle", "trace", "fault")


def wrap(kind, inner, tmp_path):
    for name in IDLE:
        (driver,) = [each for each in DRIVERS if (each.wraps, each.name) == (kind, name)]
        inner = driver.open(driver.config(), make_context(tmp_path, f"filter-{name}"), inner)
    return inner


class FilteredFactory(MemoryShardStoreFactory):
    def __init__(self, tmp_path):
        super().__init__()
        self.tmp_path = tmp_path

    async def open(self, path, **how):
        store = await super().open(path, **how)
        return wrap(FilterKind.SHARDSTORE, store, self.tmp_path)


class TestShardStore(ShardStoreConformance):
    persistent = False

    @pytest.fixture
    def factory(self, tmp_path):
        return FilteredFactory(tmp_path / "filters")

    def corrupt(self, factory, path, payload):
        factory.damage(path, payload)


class TestKV(KVConformance):
    driver = "objectio.kv.memory:DRIVER"

    @pytest.fixture
    def capabilities(self, descriptor):
        # Four filters and a line of log per call are not fast.
        return descriptor.capabilities - {"fast_reads"}

    @pytest.fixture
    def open_driver(self, descriptor, tmp_path):
        def open_driver():
            kv = descriptor.open(descriptor.config(), make_context(tmp_path, "kv"))
            return wrap(FilterKind.KV, kv, tmp_path)

        return open_driver


def test_each_filter_has_both_kinds():
    names = [(each.name, each.wraps) for each in DRIVERS]
    kinds = (FilterKind.KV, FilterKind.SHARDSTORE)
    filters = ("readonly", "retry", "throttle", "trace", "fault")
    assert sorted(names, key=str) == sorted(
        ((name, kind) for name in filters for kind in kinds), key=str
    )
    assert all(each.summary for each in DRIVERS)
