"""The field and the matrices that define the families."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.abc.erasure import FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE, CodecProfile
from objectio.erasure import gf256, matrix
from objectio.errors import ConfigError, InsufficientShards

ELEMENT = st.integers(0, 255)
FAMILIES = (FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE)


def slow_multiply(a, b):
    """Multiplication of polynomials over GF(2), then the remainder by 0x11d, bit by bit."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= gf256.POLYNOMIAL << (bit - 8)
    return product


def test_multiplication_is_that_of_polynomials():
    for a, b in itertools.product(range(256), repeat=2):
        assert gf256.multiply(a, b) == slow_multiply(a, b)


def test_every_element_but_zero_has_an_inverse():
    assert all(gf256.multiply(a, gf256.inverse(a)) == 1 for a in range(1, 256))
    with pytest.raises(ZeroDivisionError):
        gf256.inverse(0)


@given(ELEMENT, st.binary(max_size=40))
def test_bytes_are_multiplied_one_by_one(factor, data):
    assert gf256.multiply_bytes(factor, data) == bytes(gf256.multiply(factor, b) for b in data)


def test_the_cauchy_coefficients_are_those_of_the_definition():
    rows = matrix.generator(CodecProfile(FAMILY_RS_CAUCHY, 4, 2))
    assert rows[:4] == matrix.identity(4)
    for i in (4, 5):
        assert rows[i] == bytes(gf256.inverse(i ^ j) for j in range(4))


def test_the_vandermonde_coefficients_are_those_of_the_definition():
    """The parity rows times the top square give the lower powers back: the defining equation."""
    k, m = 5, 3
    rows = matrix.generator(CodecProfile(FAMILY_RS_VANDERMONDE, k, m))
    points = [0, *(gf256.EXP[i] for i in range(k + m - 1))]
    powers = []
    for point in points:
        row = [1]
        for _ in range(k - 1):
            row.append(gf256.multiply(row[-1], point))
        powers.append(bytes(row))
    assert rows[:k] == matrix.identity(k)
    assert matrix.multiply(rows[k:], powers[:k]) == tuple(powers[k:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("k", "m"), [(4, 2), (6, 3), (3, 5), (1, 4)])
def test_any_k_rows_have_an_inverse(family, k, m):
    rows = matrix.generator(CodecProfile(family, k, m))
    for chosen in itertools.combinations(rows, k):
        assert matrix.multiply(matrix.invert(chosen), chosen) == matrix.identity(k)


def test_a_singular_matrix_has_none():
    with pytest.raises(ZeroDivisionError):
        matrix.invert([b"\x01\x02", b"\x02\x04"])


def test_reconstruction_rows_give_data_and_parity_from_what_is_left():
    rows = matrix.generator(CodecProfile(FAMILY_RS_CAUCHY, 3, 2))
    assert matrix.reconstruction(rows, [0, 1, 2], [4]) == (rows[4],)
    have, want = [1, 3, 4], [0, 2]
    factors = matrix.reconstruction(rows, have, want)
    assert matrix.multiply(factors, [rows[i] for i in have]) == (rows[0], rows[2])


@pytest.mark.parametrize(
    ("family", "k", "m"),
    [
        ("other", 4, 2),
        (FAMILY_RS_CAUCHY, 0, 2),
        (FAMILY_RS_CAUCHY, 2, -1),
        (FAMILY_RS_CAUCHY, 60, 5),
    ],
)
def test_impossible_profiles_are_refused(family, k, m):
    with pytest.raises(ConfigError):
        matrix.generator(CodecProfile(family, k, m))


class TestMinimumToDecode:
    profile = CodecProfile(FAMILY_RS_CAUCHY, 4, 2)

    @given(st.data())
    def test_no_sufficient_choice_is_cheaper(self, data):
        shards = st.sets(st.integers(0, 5))
        available = data.draw(shards)
        want = frozenset(data.draw(shards))
        cost = {i: data.draw(st.integers(0, 5)) for i in available}

        def sufficient(chosen):
            return want <= chosen or len(chosen) >= 4

        choices = [
            frozenset(choice)
            for count in range(len(available) + 1)
            for choice in itertools.combinations(available, count)
            if sufficient(frozenset(choice))
        ]
        if not choices:
            with pytest.raises(InsufficientShards):
                matrix.minimum_to_decode(self.profile, want, cost)
            return
        chosen = matrix.minimum_to_decode(self.profile, want, cost)
        assert chosen in choices
        assert sum(cost[i] for i in chosen) == min(sum(cost[i] for i in c) for c in choices)

    def test_at_equal_cost_nothing_is_computed(self):
        want = frozenset({0, 1, 2, 3})
        assert matrix.minimum_to_decode(self.profile, want, dict.fromkeys(range(6), 1)) == want

    def test_a_slow_shard_is_rebuilt_instead(self):
        cost = dict.fromkeys(range(6), 1) | {2: 50}
        chosen = matrix.minimum_to_decode(self.profile, frozenset(range(4)), cost)
        assert chosen == {0, 1, 3, 4}

    def test_at_equal_cost_data_is_taken_before_parity(self):
        cost = dict.fromkeys([1, 2, 3, 4, 5], 1)
        assert matrix.minimum_to_decode(self.profile, frozenset({0}), cost) == {1, 2, 3, 4}
