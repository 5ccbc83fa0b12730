"""Whether everything can be read and written: groups and devices that come and go."""

from __future__ import annotations

import pytest

from objectio.errors import DeviceFull
from objectio.limits import KIB
from objectio.store.reach import Reach, ReachOfStripes
from objectio.testing.shardstore import MemoryShardStoreFactory


@pytest.fixture
async def spread(make_kit):
    """2+1 on eight disks: what three of them mean depends on which."""
    return await make_kit(disks=8, k=2, m=1)


async def test_all_there(make_kit):
    kit = await make_kit()
    assert ReachOfStripes(kit.pools, kit.devices).now() == Reach(True, 6, 6, 8, 0, 0)


async def test_as_many_may_be_gone_as_the_pool_allows(make_kit):
    kit = await make_kit()
    reach = ReachOfStripes(kit.pools, kit.devices)
    await kit.take_out(0)
    assert reach.now() == Reach(True, 6, 5, 8, 0, 0)
    assert reach.now().whole
    await kit.take_out(1)  # 4+2: all can be read, and nothing may be written
    assert reach.now() == Reach(True, 6, 4, 8, 0, 8)
    assert not reach.now().whole
    await kit.take_out(2)
    assert reach.now() == Reach(True, 6, 3, 8, 8, 8)
    await kit.put_back(0, 1, 2)
    assert reach.now().whole


async def test_it_counts_which_groups_are_hit_and_not_only_how_many_are_up(spread):
    kit = spread
    await kit.take_out(0)
    await kit.take_out(1)
    hit = sum({0, 1} <= set(members) for members in kit.pools.current.groups)
    found = ReachOfStripes(kit.pools, kit.devices).now()
    assert (found.osds_up, found.groups_unreadable, found.groups_unwritable) == (6, hit, hit)


async def test_full_disks_can_be_read_and_not_written(make_kit):
    kit = await make_kit(factory=MemoryShardStoreFactory(64 * KIB))
    reach = ReachOfStripes(kit.pools, kit.devices)
    body = bytes(100 * KIB)
    await kit.put(b"first", body)
    assert reach.now().whole
    await kit.put(b"second", body)
    with pytest.raises(DeviceFull):
        await kit.put(b"third", body)
    assert reach.now() == Reach(True, 6, 6, 8, 0, 8)
    assert await kit.get(b"first") == body
