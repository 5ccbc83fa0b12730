"""A store in memory, and filters around it."""

from __future__ import annotations

import pytest

from objectio.abc.filter import FilterKind
from objectio.filters import DRIVERS
from objectio.kv.memory import DRIVER as MEMORY_KV
from objectio.testing.context import make_context
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_calls import CLUSTER


@pytest.fixture
def wrap_kv(tmp_path):
    """wrap_kv("retry", attempts=2, inner=...): by default around a fresh store in memory."""
    return lambda name, inner=None, **settings: _wrap(
        FilterKind.KV,
        name,
        inner or MEMORY_KV.open(MEMORY_KV.config(), _context(tmp_path)),
        tmp_path,
        settings,
    )


@pytest.fixture
def wrap_store(tmp_path):
    return lambda name, inner, **settings: _wrap(
        FilterKind.SHARDSTORE, name, inner, tmp_path, settings
    )


@pytest.fixture
async def store(tmp_path):
    factory, path = MemoryShardStoreFactory(), str(tmp_path / "device")
    factory.prepare(path, cluster_id=CLUSTER)
    store = await factory.open(path, cluster_id=CLUSTER)
    yield store
    await store.close()


def _context(tmp_path):
    return make_context(tmp_path, "osd.3")


def _wrap(kind, name, inner, tmp_path, settings):
    (driver,) = [each for each in DRIVERS if (each.wraps, each.name) == (kind, name)]
    return driver.open(driver.config(**settings), _context(tmp_path), inner)
