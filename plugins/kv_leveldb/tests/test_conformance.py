"""LevelDB against the key-value suite."""

from __future__ import annotations

from objectio.testing.kv import KVConformance


class TestLevelDb(KVConformance):
    driver = "objectio_kv_leveldb.plugin:DRIVER"
