"""The matrix of the family `lrc-cauchy-0x11d-l…`. **It names bytes on disks: nothing here changes.**

        | 1 0 0 0 0 0 |    data: the identity                6+2+2
        |     ...     |
        | 1 1 1 0 0 0 |    local parity i: exclusive or of the data of group i
        | 0 0 0 1 1 1 |
        | a b c d e f |    global parity t, place p of group i (all counted from 0):
        | u v w x y z |        α^(i · s_t) / (x_t + y_p)

with y_p = φ(p+1), x_0 = 0, x_1 = 1, x_t = φ(1-t) for t ≥ 2, where φ(e) = α^e / (1 + α^e).

Why this decodes what it does. φ maps e ≠ 0 (mod 255) one to one, so all y_p and x_t differ, and
within one group the global rows are a Cauchy matrix; with the row of ones of the local parity that
is an extended Cauchy matrix, all of whose square submatrices are regular. So any loss that meets
one group and global parities only is decoded as well as can be: with l = 1 the code is maximum-
distance separable. Across groups, with two global parities, what remains to be shown is the loss
of two shards in each of two groups. From global row t a pair of places p, q leaves

        α^(i · s_t) · (y_p + y_q) / ((x_t + y_p) (x_t + y_q))           (local parity: y = ∞)

and the two rows' ratio is α^(- i · s_1 - e - f), where e, f are p+1 and q+1, and 0 for the local
parity: two different numbers in 0 … r, r = ⌈k/l⌉, whose sum is in 1 … 2r-1. With s_1 = 2r-1 the
exponents of different groups are in intervals that do not meet, for l (2r-1) ≤ 255: always so
within 64 shards. Hence **for g ≤ 2 every (k, l) is maximally recoverable.** From g = 3 on `_STEPS`
has what a search found, every pattern checked; sets beyond it use the default steps, decode all of
what their matrix permits, and survive at least any four losses: (2, 2) by the rows 0 and 1, all
else by one group at a time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from objectio.erasure import gf256, matrix
from objectio_ec_lrc.layout import Layout


class _Steps(NamedTuple):
    data_shards_max: int
    steps: tuple[int, ...]


_STEPS: Final[dict[tuple[int, int], _Steps]] = {
    (2, 3): _Steps(14, (36, 145)),
    (3, 3): _Steps(13, (96, 3)),
    (4, 3): _Steps(15, (65, 212)),
    (5, 3): _Steps(15, (194, 58)),
    (6, 3): _Steps(18, (164, 99)),
    (2, 4): _Steps(11, (170, 14, 98)),
    (3, 4): _Steps(10, (117, 64, 132)),
    (4, 4): _Steps(10, (203, 90, 113)),
    (2, 5): _Steps(8, (116, 175, 179, 143)),
}
"""(l, g) → s_1, s_2, …, for k up to a bound; each is maximally recoverable."""


def generator(layout: Layout) -> matrix.Matrix:
    """The k + l + g rows by k columns whose product with the data shards is the stripe."""
    return _generator(layout)


def maximally_recoverable(layout: Layout) -> bool:
    """Whether it is proven that the matrix decodes whatever any code of this shape could."""
    return (
        layout.local_groups == 1
        or layout.global_parities <= 2
        or _searched_steps(layout) is not None
    )


def guaranteed_losses(layout: Layout) -> int:
    """The most shards that may be lost, whichever they are, as far as it is proven.

    g + 1 where the code is maximally recoverable. No code of this shape does more: of two shards of
    a group and all g global parities, one is lost for good.
    """
    most = layout.global_parities + 1
    return most if maximally_recoverable(layout) else min(most, 4)


def _searched_steps(layout: Layout) -> tuple[int, ...] | None:
    found = _STEPS.get((layout.local_groups, layout.global_parities))
    if found is None or layout.data_shards > found.data_shards_max:
        return None
    return found.steps


def _steps(layout: Layout) -> tuple[int, ...]:
    """s_0, s_1, …, s_(g-1)."""
    if searched := _searched_steps(layout):
        return (0, *searched)
    step = 2 * len(layout.group_data[0]) - 1
    return tuple(t * step for t in range(layout.global_parities))


def _phi(exponent: int) -> int:
    power = gf256.EXP[exponent % gf256.ORDER]
    return gf256.multiply(power, gf256.inverse(1 ^ power))


def _global_row(layout: Layout, t: int, step: int) -> bytes:
    x = t if t < 2 else _phi(1 - t)
    row = bytearray()
    for group, data in enumerate(layout.group_data):
        scale = gf256.EXP[group * step % gf256.ORDER]
        row += bytes(
            gf256.multiply(scale, gf256.inverse(x ^ _phi(place + 1))) for place in range(len(data))
        )
    return bytes(row)


@lru_cache(maxsize=64)
def _generator(layout: Layout) -> matrix.Matrix:
    k = layout.data_shards
    local = [bytes(column in data for column in range(k)) for data in layout.group_data]
    steps = _steps(layout)
    global_ = [_global_row(layout, t, step) for t, step in enumerate(steps)]
    return (*matrix.identity(k), *local, *global_)
