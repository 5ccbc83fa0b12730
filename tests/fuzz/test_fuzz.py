"""The fuzzers' targets hold: for what they begin with, and for some of what is made of it.

By default each is tried with the same inputs at every run. OBJECTIO_FUZZ_SECONDS=60 tries each with new
ones for that long; `python -m tests.fuzz` is for longer searches.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
targets = pytest.importorskip("tests.fuzz.targets")
from tests.fuzz.mutate import Mutator  # noqa: E402
from tests.fuzz.seeds import SEEDS  # noqa: E402

SECONDS = float(os.environ.get("OBJECTIO_FUZZ_SECONDS", "0"))
TRIES = {"request": 1500, "policy": 3000, "chunked": 5000, "xml": 5000}


@pytest.fixture(params=list(TRIES))
def name(request):
    return request.param


@pytest.fixture
def target(name):
    target = targets.make_targets()[name]
    yield target
    if hasattr(target.run, "close"):
        target.run.close()


def tell(name, data):
    return f"{name} fails for these bytes: {data!r}"


def attempt(name, target, data):
    try:
        target.run(data)
    except Exception as error:
        raise AssertionError(tell(name, data)) from error


def test_it_holds_for_every_seed(name, target):
    for data in target.seeds:
        attempt(name, target, data)


def test_it_holds_for_what_is_made_of_the_seeds(name, target):
    mutator = Mutator(target.seeds, seed=len(name))
    for _ in range(TRIES[name]):
        attempt(name, target, mutator.make())


@pytest.mark.skipif(not SECONDS, reason="OBJECTIO_FUZZ_SECONDS is not set")
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_it_holds_for_new_inputs(name, target):
    seed = random.randrange(2**32)
    mutator, end = Mutator(target.seeds, seed), time.monotonic() + SECONDS
    while time.monotonic() < end:
        attempt(name, target, mutator.make())


def test_requests_are_read_as_they_were_written():
    for seed in SEEDS:
        method, target, headers, body = targets.read_request(seed.encode())
        assert (method, target, body.decode()) == (seed.method, seed.target, seed.body)
        assert tuple(headers) == seed.headers


def test_mutations_differ_and_can_be_repeated():
    seeds = [seed.encode() for seed in SEEDS]
    one, two, three = (Mutator(seeds, number) for number in (1, 1, 2))
    made = [one.make() for _ in range(300)]
    assert made == [two.make() for _ in range(300)]
    assert made != [three.make() for _ in range(300)]
    assert Counter(made).most_common(1)[0][1] < 20


class Broken:
    """A target that fails for one word: the fuzzer must be able to find it."""

    def __call__(self, data):
        assert not (b"<!DOCTYPE" in data and b"<Rule>" in data)


def test_a_mistake_is_found():
    mutator = Mutator([seed.encode() for seed in SEEDS if "Noncurrent" in seed.body], seed=3)
    broken = targets.Target([], Broken())

    def search():
        for _ in range(20_000):
            attempt("broken", broken, mutator.make())

    with pytest.raises(AssertionError, match="these bytes"):
        search()
