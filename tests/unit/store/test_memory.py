"""The byte budget serves in order, and loses nothing to those who go away."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.store.memory import BufferPool, ByteBudget


async def test_first_come_first_served():
    budget = ByteBudget(100)
    await budget.acquire(80)
    order = []

    async def want(size):
        await budget.acquire(size)
        order.append(size)

    tasks = [asyncio.create_task(want(size)) for size in (60, 10, 30)]
    await asyncio.sleep(0)
    assert not budget.try_acquire(1), "it pushed in"
    budget.release(80)
    await asyncio.gather(*tasks)
    assert order == [60, 10, 30]
    assert budget.used_bytes == 100


async def test_more_than_the_limit_goes_alone():
    budget = ByteBudget(100)
    await budget.acquire(1)
    large = asyncio.create_task(budget.acquire(500))
    await asyncio.sleep(0)
    assert not large.done()
    budget.release(1)
    await large
    assert not budget.try_acquire(1)
    budget.release(500)
    assert budget.try_acquire(1)


@pytest.mark.parametrize("release_first", [True, False])
async def test_cancelled_while_it_becomes_the_turn(release_first):
    """Both happen before the waiter runs again, in either order."""
    budget = ByteBudget(10)
    await budget.acquire(10)
    one, two = (asyncio.create_task(budget.acquire(10)) for _ in range(2))
    await asyncio.sleep(0)
    if release_first:
        budget.release(10)
        one.cancel()
    else:
        one.cancel()
        budget.release(10)
    with pytest.raises(asyncio.CancelledError):
        await one
    async with asyncio.timeout(1):
        await two
    assert budget.used_bytes == 10


async def test_cancelling_the_first_in_line_lets_the_next_in():
    budget = ByteBudget(10)
    await budget.acquire(5)
    large, small = asyncio.create_task(budget.acquire(8)), asyncio.create_task(budget.acquire(5))
    await asyncio.sleep(0)
    large.cancel()
    async with asyncio.timeout(1):
        await small
    assert budget.used_bytes == 10


async def test_nothing_is_lost_in_a_crowd():
    source, budget = random.Random(1), ByteBudget(100)

    async def user():
        size = source.randrange(1, 120)
        await budget.acquire(size)
        assert budget.used_bytes <= max(100, size)
        try:
            await asyncio.sleep(source.random() / 500)
        finally:
            budget.release(size)

    for _ in range(20):
        tasks = [asyncio.create_task(user()) for _ in range(20)]
        await asyncio.sleep(0.001)
        for task in source.sample(tasks, 8):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert budget.used_bytes == 0


def test_buffers_are_used_again():
    pool = BufferPool(4096, keep=1)
    one, two = pool.take(), pool.take()
    assert one.obj is not two.obj
    pool.give(one)
    pool.give(two)
    assert pool.take().obj is one.obj
    assert pool.take().obj is not two.obj
