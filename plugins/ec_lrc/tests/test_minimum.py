"""What a repair reads: a local group where that will do, and never more than it must."""

from __future__ import annotations

import itertools
import random

import pytest
from objectio_ec_lrc import coefficients
from objectio_ec_lrc.codec import LrcFactory
from objectio_ec_lrc.layout import Layout
from objectio_ec_lrc.span import Span

from objectio.errors import InsufficientShards
from objectio.testing.erasure import encode, reconstruct
from objectio.testing.golden import seeded_data


@pytest.fixture(scope="module")
def lrc():
    return LrcFactory()


def minimum(code, want, available=None, **dear):
    available = range(code.profile.width) if available is None else available
    cost = {i: 1.0 for i in available if i not in want}
    return set(code.minimum_to_decode(frozenset(want), cost | dear.get("cost", {})))


@pytest.mark.parametrize("size", [(6, 2, 2), (12, 2, 2), (7, 3, 2), (40, 8, 3)])
def test_one_lost_shard_is_read_from_its_group(lrc, size):
    layout = Layout(*size)
    code = lrc.codec(layout.profile)
    shards = encode(code, seeded_data(layout.profile, 50))
    for group in layout.groups:
        for lost in group:
            assert minimum(code, {lost}) == group - {lost}
            have = {i: shards[i] for i in group - {lost}}
            assert reconstruct(code, have, [lost]) == {lost: shards[lost]}
    for lost in layout.globals_:
        assert minimum(code, {lost}) == set(range(layout.data_shards))


def test_half_the_reads_of_reed_solomon(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    assert [len(minimum(six, {lost})) for lost in range(10)] == [3] * 8 + [6] * 2


def test_a_loss_in_each_group_is_read_from_both(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    assert minimum(six, {0, 7}) == {1, 2, 6, 3, 4, 5}


def test_two_losses_in_a_group_take_as_many_as_there_is_data(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    assert len(minimum(six, {0, 1})) == 6


def test_one_of_a_group_is_rebuilt_though_another_is_beyond_help(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    left = {0, 1, 6, 3, 4, 7}
    assert minimum(six, {2}, left) == {0, 1, 6}
    assert minimum(six, {5}, {3, 4, 7, 0}) == {3, 4, 7}
    with pytest.raises(InsufficientShards) as caught:
        minimum(six, {8}, {0, 1, 2, 6, 3, 7})
    assert caught.value.fields == {"have": 6, "need": 6}


def test_a_dear_shard_is_gone_around(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    assert minimum(six, {0}, cost={2: 1.5}) == {1, 2, 6}
    around = minimum(six, {0}, cost={2: 50.0})
    assert len(around) == 6
    assert 2 not in around
    # Wanted, there, and yet not read: its group is cheaper.
    cost = dict.fromkeys(range(10), 1.0) | {0: 50.0}
    assert six.minimum_to_decode(frozenset({0}), cost) == {1, 2, 6}


def spans(layout):
    """Every set of shards → the set of those that it gives."""
    rows = coefficients.generator(layout)
    result = {}
    for size in range(layout.width + 1):
        for chosen in itertools.combinations(range(layout.width), size):
            span = Span(layout.data_shards)
            for index in chosen:
                span.add(rows[index])
            result[frozenset(chosen)] = frozenset(
                i for i, row in enumerate(rows) if span.express(row) is not None
            )
    return result


@pytest.mark.parametrize("size", [(4, 2, 2), (5, 2, 1), (3, 3, 1), (3, 1, 2)])
def test_no_set_is_cheaper(lrc, size):
    """Against every set there is, with random costs, some of them nothing."""
    layout = Layout(*size)
    code = lrc.codec(layout.profile)
    given = spans(layout)
    chooser = random.Random(str(size))
    everything = range(layout.width)
    for _ in range(300):
        gone = set(chooser.sample(everything, chooser.randint(0, layout.width // 2)))
        want = frozenset(chooser.sample(everything, chooser.randint(1, 4)))
        cost = {i: float(chooser.choice([0, 1, 1, 2, 5])) for i in everything if i not in gone}
        enough = [s for s, found in given.items() if s <= cost.keys() and want <= found]
        if not enough:
            with pytest.raises(InsufficientShards):
                code.minimum_to_decode(want, cost)
            continue
        chosen = code.minimum_to_decode(want, cost)
        assert chosen in enough
        cheapest = min(sum(cost[i] for i in one) for one in enough)
        assert sum(cost[i] for i in chosen) == cheapest
