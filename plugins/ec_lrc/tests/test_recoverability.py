"""Whatever can be decoded is: every pattern of losses, of codes small enough to try them all."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import pytest
from objectio_ec_lrc import coefficients
from objectio_ec_lrc.codec import LrcFactory
from objectio_ec_lrc.layout import Layout
from objectio_ec_lrc.recoverability import decodable, survey

from objectio.errors import InsufficientShards
from objectio.testing.erasure import encode, reconstruct
from objectio.testing.golden import seeded_data

SMALL = [(6, 2, 2), (4, 2, 2), (8, 2, 2), (9, 3, 2), (5, 2, 2), (7, 3, 1), (6, 3, 0), (4, 1, 2)]
WIDER = [(12, 2, 2), (16, 2, 2), (10, 5, 2), (8, 4, 2), (6, 2, 3), (8, 2, 3), (10, 2, 3)]
SEARCHED = [
    (found.data_shards_max, *shape, found.steps) for shape, found in coefficients._STEPS.items()
]


@pytest.fixture(scope="module")
def lrc():
    return LrcFactory()


def patterns(layout, counts):
    for count in counts:
        for lost in itertools.combinations(range(layout.width), count):
            yield frozenset(lost)


def ids(size):
    return "+".join(map(str, size))


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_every_pattern_at_all(lrc, size):
    """All 2^n sets of lost shards: what theory permits comes back, and nothing else does."""
    layout = Layout(*size)
    code = lrc.codec(layout.profile)
    shards = dict(enumerate(encode(code, seeded_data(layout.profile, 8))))
    for lost in patterns(layout, range(1, layout.width)):
        have = {i: shard for i, shard in shards.items() if i not in lost}
        cost = dict.fromkeys(have, 1.0)
        if layout.decodable_in_theory(lost):
            chosen = code.minimum_to_decode(lost, cost)
            assert len(chosen) <= layout.data_shards
            few = {i: have[i] for i in chosen}
            assert reconstruct(code, few, lost) == {i: shards[i] for i in lost}
        else:
            with pytest.raises(InsufficientShards):
                code.minimum_to_decode(lost, cost)
            with pytest.raises(InsufficientShards):
                code.reconstruct(have, {i: bytearray(8) for i in lost})


@pytest.mark.parametrize("size", SMALL + WIDER, ids=ids)
def test_maximally_recoverable(size):
    layout = Layout(*size)
    assert coefficients.maximally_recoverable(layout)
    found = survey(layout)
    assert found.possible == found.decoded > 0


def columns_are_independent(vectors, multiply, invert):
    """Gaussian elimination over a list of lists."""
    rest = [list(vector) for vector in vectors]
    while rest:
        first = rest.pop()
        at = next((i for i, value in enumerate(first) if value), None)
        if at is None:
            return False
        scale = invert(first[at])
        for other in rest:
            if factor := multiply(other[at], scale):
                for i, value in enumerate(first):
                    other[i] ^= multiply(factor, value)
    return True


def check_every_pattern(layout):
    """Not by the generator, as the codec does it: by the parity check matrix, and only for what
    the proof leaves open, losses of two or more shards in several groups at once. Others add to
    a group the shard that its local parity makes up for, and nothing else."""
    gf256 = coefficients.gf256
    heads = coefficients.generator(layout)[layout.data_shards + layout.local_groups :]
    columns = [  # by group and place: what its loss means to each global parity
        [*(tuple(row[j] for row in heads) for j in data), (0,) * len(heads)]
        for data in layout.group_data
    ]
    excesses = [[[()]] for _ in columns]
    for group, points in enumerate(columns):
        for count in range(2, layout.global_parities + 1):
            excesses[group].append(
                [
                    tuple(
                        tuple(a ^ b for a, b in zip(lost[0], one, strict=True)) for one in lost[1:]
                    )
                    for lost in itertools.combinations(points, count)
                ]
            )
    tried = 0
    for lost_globals in range(layout.global_parities - 1):
        left = layout.global_parities - lost_globals
        for rows in itertools.combinations(range(layout.global_parities), left):
            for split in itertools.product(range(left), repeat=layout.local_groups):
                if sum(split) != left:
                    continue
                choices = [
                    excesses[g][n] if n < len(excesses[g]) else [] for g, n in enumerate(split)
                ]
                for lost in itertools.product(*choices):
                    vectors = [[vector[r] for r in rows] for part in lost for vector in part]
                    assert columns_are_independent(vectors, gf256.multiply, gf256.inverse)
                    tried += 1
    return tried


@pytest.mark.parametrize(("k", "l", "g", "steps"), SEARCHED)
def test_what_the_search_found_is_maximally_recoverable(k, l, g, steps):  # noqa: E741
    assert len(steps) == g - 1
    assert coefficients.maximally_recoverable(Layout(k, l, g))
    assert check_every_pattern(Layout(k, l, g)) > 1000
    assert not coefficients.maximally_recoverable(Layout(k + 1, l, g))


@pytest.mark.parametrize("local_groups", range(2, 17))
def test_two_global_parities_suffice_for_every_pattern(local_groups):
    """The widest stripe of each family; what is proven in `coefficients`."""
    check_every_pattern(Layout(62 - local_groups, local_groups, 2))


@pytest.mark.parametrize("size", [(20, 4, 4), (16, 2, 4), (15, 2, 3), (12, 6, 4)], ids=ids)
def test_beyond_the_search_four_losses_are_survived(size):
    layout = Layout(*size)
    assert not coefficients.maximally_recoverable(layout)
    assert coefficients.guaranteed_losses(layout) == 4
    chooser = random.Random(ids(size))
    for _ in range(1500):
        assert decodable(layout, frozenset(chooser.sample(range(layout.width), 4)))


def test_beyond_the_search_some_patterns_are_not_decoded():
    found = survey(Layout(12, 2, 4), losses_min=6)
    assert (found.possible, found.decoded) == (17_640, 17_616)


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_no_code_of_the_shape_survives_more_than_is_promised(size):
    layout = Layout(*size)
    promised = coefficients.guaranteed_losses(layout)
    assert all(decodable(layout, lost) for lost in patterns(layout, range(promised + 1)))
    assert not all(map(layout.decodable_in_theory, patterns(layout, [promised + 1])))


def test_what_is_decodable_by_accident_is_decoded(lrc):
    """A pattern that a maximally recoverable code would decode, and this one does not: some of the
    shards that are left depend on each other, so that one of them can do without the others."""
    layout = Layout(12, 2, 4)
    code = lrc.codec(layout.profile)
    shards = dict(enumerate(encode(code, seeded_data(layout.profile, 8))))
    lost = next(
        lost
        for lost in patterns(layout, [6])
        if layout.decodable_in_theory(lost) and not decodable(layout, lost)
    )
    left = set(range(layout.width)) - lost
    found = 0
    for index in left:
        have = {i: shards[i] for i in left - {index}}
        assert not any(group <= have.keys() | {index} for group in layout.groups)
        try:
            chosen = code.minimum_to_decode(frozenset({index}), dict.fromkeys(have, 1.0))
        except InsufficientShards:
            continue
        assert len(chosen) < layout.data_shards
        few = {i: have[i] for i in chosen}
        assert reconstruct(code, few, [index]) == {index: shards[index]}
        found += 1
    assert found >= 3


def test_the_count_can_be_had_from_the_command_line():
    command = [sys.executable, "-m", "objectio_ec_lrc.recoverability", "6", "2", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "355 decodable in theory, 355 decoded\n"
