"""The shard store in memory conforms; filters that do nothing change nothing."""

from __future__ import annotations

import pytest

from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_conformance import ShardStoreConformance


class TestMemory(ShardStoreConformance):
    persistent = False

    @pytest.fixture
    def factory(self):
        return MemoryShardStoreFactory()

    def corrupt(self, factory, path, payload):
        factory.damage(path, payload)
