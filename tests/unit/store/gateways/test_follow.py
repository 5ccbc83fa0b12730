"""Pools as a process has them that decides nothing: what it sees is what was true at one moment."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.abc.driver import ThreadModel
from objectio.errors import NotFound, Unavailable
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta.records import PoolRecord
from objectio.model.cluster import ClusterMap, Osd, OsdId
from objectio.store import pools as pools_module
from objectio.store.pools import GroupMove

FAMILY = "rs-vandermonde-0x11d"
MAP = ClusterMap(epoch=1, osds=tuple(Osd(id=OsdId(osd)) for osd in range(8)))


def record(k, m, groups=8):
    return PoolRecord(FAMILY, k, m, 8192, "disk", groups, "rendezvous")


def seen(pools):
    return pools.current.groups, dict(pools.current.moving)


def turned(members):
    return members[1:] + members[:1]


class Torn(KVStore):
    """Something is done before each scan."""

    before = None

    async def ascan(self, *args, **kwargs):
        if self.before is not None:
            await self.before()
        return await super().ascan(*args, **kwargs)


@pytest.fixture
async def kv():
    store = Torn(MemoryKV(), frozenset(), ThreadModel.PARALLEL)
    yield store
    await store.close()


async def test_without_a_pool_there_is_none(kv, make_pools):
    pools = make_pools(kv)
    with pytest.raises(Unavailable):
        await pools.follow("")
    with pytest.raises(Unavailable):
        _ = pools.current
    assert not pools.all()
    assert not kv.scan(), "who follows writes nothing"
    await make_pools(kv).load(record(4, 2), MAP, "")
    await pools.refresh()
    assert pools.current.code.k == 4


async def test_a_new_pool_is_found(kv, make_pools):
    await make_pools(kv).load(record(4, 2), MAP, "")
    pools = make_pools(kv)
    await pools.follow("")
    before = pools.current
    with pytest.raises(NotFound):
        pools.get(2)
    leader = make_pools(kv)
    await leader.load(record(2, 1), MAP, "")
    assert pools.current is before
    await pools.refresh()
    assert (pools.current.id, pools.current.code.k) == (2, 2)
    assert pools.current.groups == leader.current.groups
    assert pools.get(1) == before
    await make_pools(kv).load(record(4, 2), MAP, "")  # back to the first
    await pools.refresh()
    assert pools.current.id == 1
    assert [each.id for each in pools.all()] == [1, 2]


async def test_what_was_read_before_the_first_look_is_forgotten(kv, make_pools):
    """A survey may come before the pools are followed."""
    await make_pools(kv).load(record(4, 2), MAP, "")
    pools = make_pools(kv)
    await pools.refresh()
    assert not pools.all()
    await pools.follow("")
    assert pools.current.id == 1


@pytest.mark.parametrize("rows_max", [3, 10_000])
async def test_a_group_and_its_move_are_of_one_moment(kv, make_pools, monkeypatch, rows_max):
    """Also where they are read in many pieces, and moves begin and end in between."""
    leader, pools = make_pools(kv), make_pools(kv)
    await leader.load(record(4, 2), MAP, "")
    monkeypatch.setattr(pools_module, "KV_SCAN_ROWS_MAX", rows_max)
    await pools.follow("")
    source, history = random.Random(rows_max), [seen(leader)]

    async def move():
        if source.random() < (0.9 if rows_max < 100 else 0.3):
            return
        moves = []
        for group in source.sample(range(8), 3):
            now = leader.current
            members = now.groups[group]
            if group in now.moving:
                moves.append(GroupMove(1, group, members))
            else:
                changed = tuple(range(6))
                moves.append(GroupMove(1, group, turned(members), members, changed))
        kv.before = None
        await leader.move(moves)
        kv.before = move
        history.append(seen(leader))

    kv.before = move
    for _ in range(60):
        await asyncio.gather(pools.refresh(), pools.refresh())
        assert seen(pools) in history
    assert len(history) > 20
    kv.before = None
    await pools.refresh()
    assert seen(pools) == seen(leader)
    assert pools.changed == leader.changed


async def test_what_is_read_earlier_is_not_believed_later(kv, make_pools):
    """A look that began before a move ends after it."""
    leader = make_pools(kv)
    await leader.load(record(4, 2), MAP, "")
    looking, go = asyncio.Event(), asyncio.Event()
    members = leader.current.groups[0]
    scan = kv.ascan

    async def slow(*args, **kwargs):
        rows = await scan(*args, **kwargs)
        looking.set()
        await go.wait()
        return rows

    kv.ascan = slow
    look = asyncio.create_task(leader.refresh())
    await looking.wait()
    move = asyncio.create_task(
        leader.move([GroupMove(1, 0, turned(members), members, tuple(range(6)))])
    )
    for _ in range(20):
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(look, move)
    assert leader.current.groups[0] == turned(members)
    assert leader.current.moving == {0: members}
