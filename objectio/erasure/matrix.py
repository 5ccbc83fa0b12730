"""The matrices of the Reed-Solomon families: for authors of codecs, and for the reference codec.

Plugins may import this module, beside `objectio.abc`, `model`, `errors` and `limits`. It settles
what a family *is*: a driver that multiplies by these coefficients makes the family's bytes.

A stripe's shards are the generator matrix times its k data shards:

        | 1 0 0 0 |   | d0 |   | d0 |
        | 0 1 0 0 | · | d1 | = | d1 |      The top k rows are the identity (a systematic code);
        | 0 0 1 0 |   | d2 |   | d2 |      the m rows below make the parity.
        | 0 0 0 1 |   | d3 |   | d3 |
        | a b c d |            | p4 |
        | e f g h |            | p5 |

Any k rows can be inverted (the code is maximum-distance separable), so any k shards give the data
back: data = inverse of their rows · shards. And any other shard is its own row times that.

A matrix here is a tuple of rows, a row is `bytes` of length k: immutable, hashable, fast to index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from objectio import limits
from objectio.abc.erasure import FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE, CodecProfile
from objectio.erasure import gf256
from objectio.errors import ConfigError, InsufficientShards

Matrix = tuple[bytes, ...]


def check_profile(profile: CodecProfile, families: frozenset[str]) -> None:
    """Raise `ConfigError` unless `profile` is of one of `families` and within the limits."""
    if profile.family not in families:
        known = ", ".join(sorted(families))
        raise ConfigError(f"{profile}: this codec does {known} only", family=profile.family)
    if profile.data_shards < 1 or profile.parity_shards < 0:
        raise ConfigError(f"{profile}: needs at least one data shard and no negative parity")
    if profile.width > limits.STRIPE_WIDTH_MAX:
        raise ConfigError(
            f"{profile}: {profile.width} shards are more than the {limits.STRIPE_WIDTH_MAX} "
            "that a stripe may have"
        )


def generator(profile: CodecProfile) -> Matrix:
    """The k + m rows by k columns whose product with the data shards is the stripe."""
    check_profile(profile, RS_FAMILIES)
    return _generator(profile)


def identity(size: int) -> Matrix:
    return tuple(bytes(int(row == column) for column in range(size)) for row in range(size))


def multiply(a: Sequence[bytes], b: Sequence[bytes]) -> Matrix:
    """The product a · b."""
    return tuple(_combine(row, b) for row in a)


def invert(matrix: Sequence[bytes]) -> Matrix:
    """The inverse, by Gauss and Jordan. Raises `ZeroDivisionError` if there is none."""
    size = len(matrix)
    rows = [left + right for left, right in zip(matrix, identity(size), strict=True)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column]), None)
        if pivot is None:
            raise ZeroDivisionError("the matrix is singular")
        scaled = gf256.multiply_bytes(gf256.inverse(rows[pivot][column]), rows[pivot])
        rows[pivot], rows[column] = rows[column], scaled
        for r in range(size):
            factor = rows[r][column]
            if r != column and factor:
                rows[r] = gf256.add_bytes(rows[r], gf256.multiply_bytes(factor, scaled))
    return tuple(row[size:] for row in rows)


def reconstruction(rows: Matrix, have: Sequence[int], want: Sequence[int]) -> Matrix:
    """One row for each shard of `want`: its coefficients over the k shards of `have`.

    `rows` is the generator; `have` names k different shards, in the order of the columns.
    """
    inverse = invert([rows[index] for index in have])
    return multiply([rows[index] for index in want], inverse)


def choose_sources(profile: CodecProfile, shards: Mapping[int, object]) -> tuple[int, ...]:
    """The k shards that a decoder takes of those it was given: data first, ascending."""
    k = profile.data_shards
    if len(shards) < k:
        raise InsufficientShards(
            f"{profile}: {len(shards)} shards are too few to reconstruct from, it takes {k}",
            have=len(shards),
            need=k,
        )
    return tuple(sorted(shards)[:k])


def minimum_to_decode(
    profile: CodecProfile, want: frozenset[int], cost: Mapping[int, float]
) -> frozenset[int]:
    """`ErasureCodec.minimum_to_decode` of every maximum-distance-separable code.

    Either what is wanted is read as it is, or any k shards are read, whichever costs less; at
    equal cost the former, since nothing is to be computed then. Among shards of equal cost those
    that are wanted come first, then the lower index (data before parity).
    """
    k = profile.data_shards
    direct = want <= cost.keys()
    if len(cost) < k:
        if direct:
            return want
        raise InsufficientShards(
            f"{profile}: {len(cost)} shards are available, it takes {k}", have=len(cost), need=k
        )
    cheapest = sorted(cost, key=lambda index: (cost[index], index not in want, index))[:k]
    if direct and sum(cost[i] for i in want) <= sum(cost[i] for i in cheapest):
        return want
    return frozenset(cheapest)


def _combine(factors: bytes, rows: Sequence[bytes]) -> bytes:
    """The sum of the rows, each times its factor."""
    total = 0
    for factor, row in zip(factors, rows, strict=True):
        if factor:
            total ^= int.from_bytes(gf256.multiply_bytes(factor, row), "little")
    return total.to_bytes(len(rows[0]), "little")


def _cauchy(k: int, width: int) -> Matrix:
    """Parity row i, column j: 1 / (i xor j), as ISA-L's `gf_gen_cauchy1_matrix`."""
    parity = (bytes(gf256.inverse(i ^ j) for j in range(k)) for i in range(k, width))
    return (*identity(k), *parity)


def _vandermonde(k: int, width: int) -> Matrix:
    """Rows of the powers of 0, 1, α, α², …, times the inverse of the top square, as zfec's."""
    powers = [bytes([1, *[0] * (k - 1)])]
    powers += [
        bytes(gf256.EXP[row * column % gf256.ORDER] for column in range(k))
        for row in range(width - 1)
    ]
    return (*identity(k), *multiply(powers[k:], invert(powers[:k])))


_BUILDERS: Final[dict[str, Callable[[int, int], Matrix]]] = {
    FAMILY_RS_CAUCHY: _cauchy,
    FAMILY_RS_VANDERMONDE: _vandermonde,
}
RS_FAMILIES: Final = frozenset(_BUILDERS)
"""The families that this module has matrices of."""


@lru_cache(maxsize=64)
def _generator(profile: CodecProfile) -> Matrix:
    return _BUILDERS[profile.family](profile.data_shards, profile.width)
