"""What the pools hold, counted."""

from __future__ import annotations

import asyncio

from objectio.store import pool_usage
from objectio.store.pool_usage import PoolUsage, raw_bytes

DATA = bytes(range(256)) * 100


class Gauges(dict):
    def gauge(self, name, help, **labels):
        assert labels["pool"]
        assert labels["profile"]
        return _Gauge(self, name)


class _Gauge:
    def __init__(self, values, name):
        self._values, self._name = values, name

    def set(self, value):
        self._values[self._name] = value


async def test_all_blobs_are_counted(kit, monkeypatch):
    monkeypatch.setattr(pool_usage, "_PAGE", 2)
    found = Gauges()
    usage = PoolUsage(kit.kv, kit.pools, found)
    await usage.count()
    assert set(found.values()) == {0}
    for number in range(5):
        await kit.put(b"key%d" % number, DATA)
    await usage.count()
    assert found["objectio_pool_blobs"] == 5
    assert found["objectio_pool_bytes"] == 5 * len(DATA)
    live = sum(store.usage().live_bytes for store in kit.devices.stores.values())
    assert 5 * len(DATA) < found["objectio_pool_raw_bytes"] <= live


async def test_it_runs_by_itself_and_ends(kit, monkeypatch):
    monkeypatch.setattr(pool_usage, "_PAUSE_SECONDS_MIN", 0.001)
    found = Gauges()
    usage = PoolUsage(kit.kv, kit.pools, found)
    usage.start()
    await kit.put(b"key", DATA)
    async with asyncio.timeout(30):
        while found.get("objectio_pool_blobs") != 1:
            await asyncio.sleep(0.005)
    await usage.stop()


async def test_what_a_blob_takes(kit):
    pool = kit.pools.current
    assert raw_bytes(pool, 0) == 0
    whole = raw_bytes(pool, pool.stripe_size_bytes)
    assert whole >= pool.stripe_size_bytes * pool.code.width / pool.code.k
    assert raw_bytes(pool, 3 * pool.stripe_size_bytes) == 3 * whole
    assert raw_bytes(pool, pool.stripe_size_bytes + 1) > whole
