"""LMDB against the key-value suite."""

from __future__ import annotations

from objectio.testing.kv import KVConformance


class TestLmdb(KVConformance):
    driver = "objectio_kv_lmdb.plugin:DRIVER"


class TestLmdbThatGrows(KVConformance):
    """With the smallest map, so that nearly every test makes it grow."""

    driver = "objectio_kv_lmdb.plugin:DRIVER"
    settings = {"map_size_bytes": 1024 * 1024}
