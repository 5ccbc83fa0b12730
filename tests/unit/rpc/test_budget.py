"""Memory that is lent, taken back and used again; bytes that are given in order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.limits import KIB, MIB
from objectio.rpc.budget import Budget, BufferPool, Recycler, size_class


@given(st.integers(1, 64 * MIB))
def test_classes_of_size_waste_little(count):
    size = size_class(count)
    assert count <= size <= max(count * 9 / 8 + 1, count + 16 * KIB)
    assert size_class(size) == size


def test_a_pool_gives_the_same_memory_again():
    pool, peer = BufferPool(), Budget(MIB)
    lease = pool.lease(100_000, peer, lambda: None)
    lease.view[:3] = b"abc"
    lease.give()
    lease.give()
    assert (pool.used_bytes, peer.used_bytes) == (0, 0)
    again = pool.lease(99_000, peer, lambda: None)
    assert (bytes(again.view[:3]), again.view.nbytes) == (b"abc", 99_000)


async def test_a_budget_is_given_in_order_and_survives_cancelling():
    budget = Budget(10)
    await budget.take(25)  # one item may be larger than all
    got = []

    async def take(name, count):
        await budget.take(count)
        got.append(name)

    tasks = [asyncio.create_task(take(*each)) for each in (("a", 6), ("b", 6), ("c", 2), ("d", 4))]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    assert not budget.has_room(1)
    budget.give(25)
    await asyncio.sleep(0)
    assert got == ["a", "c"]
    budget.give(6)
    await asyncio.gather(tasks[0], *tasks[2:])
    assert got == ["a", "c", "d"]
    assert budget.used_bytes == 6


def test_memory_of_answers_is_used_again_when_nobody_sees_it():
    memory = Recycler()
    first = memory.take(100_000)
    first[:3] = b"abc"
    second = memory.take(100_000)
    assert first.obj is not second.obj
    kept = first[10:20]
    del first
    assert memory.take(100_000).obj is not kept.obj
    home = kept.obj
    del kept
    assert any(memory.take(100_000).obj is home for _ in range(5))


@pytest.mark.parametrize("sizes", [[MIB] * 100, range(20_000, 3 * MIB, 40_000)])
def test_memory_that_is_kept_has_a_bound(sizes):
    memory = Recycler(8 * MIB)
    views = [memory.take(size) for size in sizes]
    for number, view in enumerate(views):
        view[:4] = number.to_bytes(4)
    assert [int.from_bytes(view[:4]) for view in views] == list(range(len(views)))
    assert sum(len(each) for kept in memory._kept.values() for each in kept) <= 8 * MIB


def test_memory_of_one_answer_beyond_the_bound_is_given():
    memory = Recycler(MIB)
    assert memory.take(5 * MIB).nbytes == 5 * MIB
    assert memory.take(5 * MIB).nbytes == 5 * MIB
