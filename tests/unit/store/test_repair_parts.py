"""The arithmetic of repair: margins, order, rates, and when to try again."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import CodecProfile
from objectio.erasure import reference
from objectio.erasure.code import ErasureCode
from objectio.meta.records import BlobRef, RepairRecord, decode_repair, encode
from objectio.store.repair_margin import LOST, Margins, tolerance
from objectio.store.repair_queue import Job, JobQueue
from objectio.store.repair_rate import Backoff, MovingRate, TokenBucket
from objectio.store.verify import decodable, mask_of, positions_of
from objectio.testing.context import make_context


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def code_of(driver, family, k, m, where):
    factory = driver.open(driver.config(), make_context(where))
    return ErasureCode(factory.codec(CodecProfile(family, k, m)), ThreadModel.PARALLEL)


def job(number, margin, *, row=b"row", **more):
    return Job(BlobRef(b"%016d" % number, 1, 1), margin, row=row, **more)


def drain(queue):
    return [int(each.ref.blob) for each in iter(queue.pop, None)]


# Rates.


def test_a_bucket_lets_its_rate_through(clock):
    bucket = TokenBucket(1000, clock)
    spent = 0
    for _ in range(200):
        clock.now += bucket.wait_seconds()
        bucket.spend(300)
        spent += 300
    clock.now += bucket.wait_seconds()
    assert spent - 250 == pytest.approx(1000 * (clock.now - 100.0))


def test_a_bucket_keeps_a_quarter_of_a_second_and_no_more(clock):
    bucket = TokenBucket(1000, clock)
    clock.now += 3600
    assert bucket.wait_seconds() == 0
    bucket.spend(250)
    assert bucket.wait_seconds() == 0
    bucket.spend(100)
    assert bucket.wait_seconds() == pytest.approx(0.1)


def test_a_debt_is_paid_by_whoever_comes_next(clock):
    bucket = TokenBucket(1000, clock)
    bucket.spend(5250)  # a stripe is not cut
    assert bucket.wait_seconds() == pytest.approx(5)
    clock.now += 2
    assert bucket.wait_seconds() == pytest.approx(3)


def test_the_moving_rate(clock):
    rate = MovingRate(clock, window_seconds=30)
    assert (rate.bytes_per_second(), rate.seconds_left(100)) == (0, None)
    assert rate.seconds_left(0) == 0
    rate.begin()
    for _ in range(10):
        clock.now += 1
        rate.add(500)
    assert rate.bytes_per_second() == pytest.approx(500)
    assert rate.seconds_left(1000) == pytest.approx(2)
    for _ in range(60):
        clock.now += 1
        rate.add(100)
    assert rate.bytes_per_second() == pytest.approx(100)
    clock.now += 31
    assert rate.bytes_per_second() == 0
    clock.now += 3600
    rate.begin()  # the rest does not count
    clock.now += 1
    rate.add(700)
    assert rate.bytes_per_second() == pytest.approx(700)


def test_backing_off_doubles_up_to_a_bound(clock):
    backoff = Backoff(clock, first_seconds=1, seconds_max=10)
    waited = []
    for _ in range(6):
        backoff.refused(3)
        backoff.refused(3)  # of sixteen at once
        waited.append(backoff.waiting[3])
        clock.now += waited[-1] - 0.001
        assert backoff.waits(3)
        clock.now += 0.002
        assert not backoff.waits(3)
    assert waited == pytest.approx([1, 2, 4, 8, 10, 10])
    assert not backoff.waits(4)
    backoff.accepted(3)
    backoff.refused(3)
    assert backoff.waiting == {3: pytest.approx(1)}


# Margins.


@pytest.mark.parametrize(("k", "m"), [(4, 2), (1, 2), (6, 4), (3, 0)])
def test_any_k_are_enough_for_reed_solomon(tmp_path, k, m):
    code = code_of(reference.DRIVER, "rs-cauchy-0x11d", k, m, tmp_path)
    margins = Margins(SimpleNamespace(stores={}), None)
    for count in range(k + m + 1):
        missing = frozenset(range(count))
        assert margins.without(code, missing) == max(m - count, LOST)
        assert tolerance(code, missing) == max(m - count, LOST)


def test_margins_of_a_locally_repairable_code(tmp_path):
    """6+2+2: any three may be lost; of four it depends on which."""
    driver = pytest.importorskip("objectio_ec_lrc.plugin").objectio_register_codecs()[0]
    code = code_of(driver, "lrc-cauchy-0x11d-l2", 6, 4, tmp_path)
    margins = Margins(SimpleNamespace(stores={}), None)
    assert margins.without(code, frozenset()) == 3
    for missing in map(frozenset, itertools.combinations(range(10), 2)):
        margin = margins.without(code, missing)
        left = [position for position in range(10) if position not in missing]
        assert 1 <= margin <= 2
        for lost in itertools.combinations(left, margin):
            assert decodable(code, [each for each in left if each not in lost])
    assert margins.without(code, frozenset(range(5))) == LOST


def test_a_device_that_is_down_or_refilled_counts_as_missing(tmp_path):
    code = code_of(reference.DRIVER, "rs-cauchy-0x11d", 4, 2, tmp_path)
    former = None
    pool = SimpleNamespace(
        code=code, members=lambda blob: (0, 1, 2, 3, 4, 5), former=lambda blob: former
    )
    stores = dict.fromkeys(range(8))
    margins = Margins(SimpleNamespace(stores=stores), SimpleNamespace(get=lambda pool_id: pool))
    ref = BlobRef(bytes(16), 1, 1)
    assert margins.of(ref) == 2
    assert margins.of(ref, 0b11) == 0
    del stores[5]
    assert margins.of(ref) == 1
    assert margins.of(ref, 1 << 5) == 1
    margins.refilling = {4}
    assert margins.of(ref) == 0
    assert margins.of(ref, 1) == LOST
    former = (0, 1, 2, 3, 7, 6)  # on its way: what the old places have is there
    assert margins.of(ref) == 2


# The queue.


def test_the_least_margin_comes_first_and_then_who_came_first():
    queue = JobQueue(100)
    for number, margin in enumerate((2, 0, 1, 0, -1, 2, 1)):
        queue.push(job(number, margin))
    assert queue.best_margin == -1
    assert drain(queue) == [4, 1, 3, 2, 6, 0, 5]
    assert (queue.best_margin, len(queue)) == (None, 0)


def test_jobs_of_one_blob_are_one():
    queue = JobQueue(100)
    queue.push(job(1, 2, suspects=0b01))
    queue.push(job(2, 1))
    queue.push(job(1, 0, suspects=0b10, examine=True, row=b"newer"))
    assert len(queue) == 2
    first = queue.pop()
    assert (first.suspects, first.examine, first.row, first.margin) == (0b11, True, b"newer", 0)
    queue.push(job(3, 1))
    queue.push(job(3, 1, row=None))
    assert [each.row for each in iter(queue.pop, None)] == [b"row", b"row"]


async def test_the_queue_is_bounded_and_keeps_what_is_urgent():
    queue = JobQueue(3)
    for number in range(3):
        assert queue.push(job(number, 1)) is None
    assert int(queue.push(job(3, 1)).ref.blob) == 3, "no room"
    assert int(queue.push(job(4, 0)).ref.blob) == 2, "lost its room"
    waited_for = job(5, 2, row=None, waiters=[asyncio.get_running_loop().create_future()])
    assert queue.push(waited_for) is None
    assert queue.push(job(6, 0)) is not None, "what somebody waits for keeps its room"
    assert drain(queue) == [4, 0, 1, 5]


async def test_what_is_urgent_finds_room_beside_a_walk():
    queue = JobQueue(10)
    for number in range(9):
        assert queue.push(job(number, 2)) is None
    waiter = asyncio.get_running_loop().create_future()
    assert queue.push(job(9, 2, row=None, waiters=[waiter])) is None
    assert queue.push(job(10, 0)).ref == job(8, 2).ref
    assert queue.best_margin == 0


def test_priorities_change():
    queue = JobQueue(100)
    for number in range(6):
        queue.push(job(number, 2))
    queue.sort_anew(lambda each: int(each.ref.blob) % 3)
    assert [each.margin for each in queue] == [0, 0, 1, 1, 2, 2]
    assert drain(queue) == [0, 3, 1, 4, 2, 5]
    assert queue.take(b"unknown") is None


# Rows.


def test_masks():
    assert positions_of(mask_of([0, 3, 63])) == [0, 3, 63]
    assert positions_of(0) == []


def test_a_row_is_a_mask_or_says_more():
    assert decode_repair(encode(5)) == RepairRecord(5)
    assert RepairRecord(2**64 - 1).pack() == encode(2**64 - 1)
    for record in (RepairRecord(5), RepairRecord(2**64 - 1, True)):
        assert decode_repair(record.pack()) == record
