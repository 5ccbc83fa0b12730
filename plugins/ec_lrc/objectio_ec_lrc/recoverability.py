"""How many patterns of losses a matrix decodes, of those that any code of its shape could.

`python -m objectio_ec_lrc.recoverability K L G` counts them for one code.
"""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

from objectio_ec_lrc import coefficients
from objectio_ec_lrc.layout import Layout
from objectio_ec_lrc.span import Span


class Recoverability(NamedTuple):
    """Sets of lost shards: those decodable in theory, and how many of them are decoded."""

    possible: int
    decoded: int


def decodable(layout: Layout, lost: frozenset[int]) -> bool:
    """Whether the rows that are left determine the data."""
    rows = coefficients.generator(layout)
    span = Span(layout.data_shards)
    for index in range(layout.width):
        if index not in lost:
            span.add(rows[index])
    return span.full


def survey(layout: Layout, *, losses_min: int = 1) -> Recoverability:
    """Try every pattern of at least `losses_min` losses. Those of l + g losses tell it all: every
    smaller pattern that is decodable in theory is part of such a one."""
    parities = layout.local_groups + layout.global_parities
    possible = decoded = 0
    for count in range(losses_min, parities + 1):
        for lost in itertools.combinations(range(layout.width), count):
            if layout.decodable_in_theory(lost):
                possible += 1
                decoded += decodable(layout, frozenset(lost))
    return Recoverability(possible, decoded)


if __name__ == "__main__":
    found = survey(Layout(*map(int, sys.argv[1:4])))
    sys.stdout.write(f"{found.possible} decodable in theory, {found.decoded} decoded\n")
