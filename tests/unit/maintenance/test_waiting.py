"""What is waited for before a store on the devices of other processes begins."""

from __future__ import annotations

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.maintenance.waiting import PATIENCE_SECONDS, Waiting
from objectio.meta import keys
from objectio.meta.records import LocationRecord, OsdRecord, PoolRecord, encode
from objectio.store.clustermap import located

POOL = PoolRecord("rs", 4, 2, 8192, "disk", 8, "rendezvous")


@pytest.fixture
async def kv():
    store = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    yield store
    await store.close()


async def register(kv, *osds, weight=1.0, membership="in"):
    for osd in osds:
        place = LocationRecord(f"n{osd}", "127.0.0.1:1", "disk", f"h{osd}", "r", weight)
        device = OsdRecord(f"device {osd}", membership=membership)
        await kv.commit([], [(keys.location(osd), encode(place)), (keys.osd(osd), encode(device))])


async def test_a_new_pool_waits_for_as_many_as_a_stripe_has_shards(kv):
    up = set()
    waiting = Waiting(kv, up, POOL)

    async def lacking():
        return await waiting.lacking(await located(kv), 0.0)

    assert await lacking() == "0 of 6 OSDs, which the pool of 4+2 needs, have registered"
    await register(kv, *range(5))
    up |= set(range(5))
    assert (await lacking()).startswith("5 of 6 OSDs")
    await register(kv, 5, weight=0.0)
    await register(kv, 6, membership="out")
    assert (await lacking()).endswith("have registered"), "they take no data"
    await register(kv, 7)
    assert (await lacking()).endswith("are up")
    up.add(7)
    assert not await lacking()


@pytest.mark.parametrize("wanted", [POOL, PoolRecord("rs", 2, 1, 8192, "disk", 8, "rendezvous")])
async def test_an_old_store_waits_for_all_but_those_that_may_be_lost(kv, wanted):
    await kv.commit([], [(keys.pool(1), encode(POOL))])
    await register(kv, *range(10))
    await register(kv, 10, 11, membership="out")
    up = set()
    waiting, topology = Waiting(kv, up, wanted), await located(kv)
    assert await waiting.lacking(topology, 0.0) == "0 of 10 OSDs are up"
    up |= set(range(7))
    assert await waiting.lacking(topology, 0.0) == "7 of 10 OSDs are up"
    up.add(7)
    assert not await waiting.lacking(topology, 0.0)


async def test_what_does_not_come_back_is_not_waited_for_for_ever(kv):
    await kv.commit([], [(keys.pool(1), encode(POOL))])
    await register(kv, *range(10))
    up = {0, 1, 2}
    waiting, topology = Waiting(kv, up, POOL), await located(kv)
    assert await waiting.lacking(topology, 0.0)
    assert await waiting.lacking(topology, 1e6), "nothing can be read at all"
    up |= {3, 4}
    assert await waiting.lacking(topology, 1e6)
    up.remove(3)
    up.remove(4)
    assert await waiting.lacking(topology, 1e6 + PATIENCE_SECONDS)
    up |= {3, 4}
    assert await waiting.lacking(topology, 2e6), "it is counted from when it can be read"
    assert not await waiting.lacking(topology, 2e6 + PATIENCE_SECONDS)


async def test_where_osds_are(kv):
    await register(kv, 3, 1)
    assert [(int(osd.id), osd.host, osd.rack, osd.weight) for osd in await located(kv)] == [
        (1, "h1", "r", 1.0),
        (3, "h3", "r", 1.0),
    ]
