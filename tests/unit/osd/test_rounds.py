"""Group commit: who waits for whom, and who does not."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from objectio.osd.rounds import Rounds


class Disk:
    """A device whose batches can be held up; it numbers what it wrote."""

    def __init__(self, rounds, delay=0.0):
        self.busy = False
        self.filesystem = id(self)
        self.filesystem = id(self)
        self.batches = []
        self.delay = delay
        self.gate = threading.Event()
        self.gate.set()
        self._rounds = rounds
        self._pending = []
        self._marked = False
        rounds.join()

    def submit(self, done):
        self._pending.append(done)
        if not self._marked:
            self._marked = True
            self._rounds.mark(self)

    def take(self):
        items, self._pending = self._pending, []
        self._marked = False
        return items

    def run_batch(self, items):
        time.sleep(self.delay)
        assert self.gate.wait(10)
        self.batches.append(len(items))
        return [(done, None) for done in items]

    def batch_done(self):
        pass

    def write(self):
        future = asyncio.get_running_loop().create_future()
        self.submit(lambda error: future.done() or future.set_result(error))
        return future


@pytest.fixture
async def rounds():
    found = Rounds(asyncio.get_running_loop())
    yield found
    while found._threads:
        found.leave()


async def test_what_comes_during_a_batch_makes_the_next_one(rounds):
    disk = Disk(rounds)
    disk.gate.clear()
    first = disk.write()
    await asyncio.sleep(0.005)
    rest = [disk.write() for _ in range(50)]
    disk.gate.set()
    await asyncio.gather(first, *rest)
    assert disk.batches == [1, 50]


async def test_what_one_turn_of_the_loop_submits_goes_together(rounds):
    disks = [Disk(rounds) for _ in range(4)]
    await asyncio.gather(*(disk.write() for disk in disks for _ in range(10)))
    assert [disk.batches for disk in disks] == [[10]] * 4


async def test_a_disk_that_hangs_keeps_nobody_else_waiting(rounds):
    """Slow disks answer after the loop has lost patience with the round, and one never does."""
    hung, *slow = [Disk(rounds, delay=0.04) for _ in range(4)]
    hung.gate.clear()
    stuck = hung.write()
    async with asyncio.timeout(2):
        await asyncio.gather(*(disk.write() for disk in slow))
    more = hung.write()
    async with asyncio.timeout(2):
        await asyncio.gather(*(disk.write() for disk in slow))
    assert not stuck.done()
    assert not more.done()
    hung.gate.set()
    await asyncio.gather(stuck, more)


async def test_a_straggler_that_ends_takes_no_other_rounds_answers(rounds):
    """Its end comes while another round is under way, in which one disk hangs."""
    straggler, hung, good = (Disk(rounds) for _ in range(3))
    straggler.gate.clear()
    late = straggler.write()
    await asyncio.sleep(0.03)
    hung.gate.clear()
    good.delay = 0.01
    stuck, answer = hung.write(), good.write()
    await asyncio.sleep(0)
    straggler.gate.set()
    await late
    async with asyncio.timeout(2):
        await answer
    hung.gate.set()
    await stuck


async def test_a_callback_that_raises_harms_nobody_else(rounds):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    disk = Disk(rounds)

    def broken(error):
        raise ValueError("a bug")

    disk.submit(broken)
    await disk.write()
    await disk.write()
    assert [str(context["exception"]) for context in told] == ["a bug"]


async def test_a_disk_that_leaves_and_one_that_joins_at_once(rounds):
    """The thread of the one that left must not be missing to the one that came."""
    for _ in range(50):
        disk = Disk(rounds)
        async with asyncio.timeout(5):
            await disk.write()
        rounds.leave()
    disk = Disk(rounds)
    async with asyncio.timeout(5):
        await disk.write()
