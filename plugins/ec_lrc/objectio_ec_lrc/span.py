"""What rows over GF(2^8) span, and how a row is made of them: Gaussian elimination, row by row."""

from __future__ import annotations

from objectio.erasure import gf256


class Span:
    """The span of the rows that were added.

    Each row is reduced by those before it and kept with its first column that is not zero scaled
    to one. Behind its columns it has as many again, which say how it is made of the rows that were
    taken: those columns go through the same arithmetic.

            columns      made of
        | 1 2 0 5 6 1 | 1 0 0 0 0 0 |
        | 0 1 7 7 4 9 | 3 8 0 0 0 0 |
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[tuple[int, bytes]] = []

    @property
    def rank(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        return len(self._rows) == self._columns

    def add(self, row: bytes) -> bool:
        """Take the row, unless it is in the span already."""
        if self.full:
            return False
        made_of = bytearray(self._columns)
        made_of[len(self._rows)] = 1
        rest = self._reduce(row + made_of)
        column = next((at for at in range(self._columns) if rest[at]), None)
        if column is None:
            return False
        scaled = gf256.multiply_bytes(gf256.inverse(rest[column]), rest)
        self._rows.append((column, scaled))
        return True

    def express(self, row: bytes) -> bytes | None:
        """The factors of the rows that were taken, in their order; None for a row outside."""
        rest = self._reduce(row + bytes(self._columns))
        if any(rest[: self._columns]):
            return None
        return rest[self._columns : self._columns + len(self._rows)]

    def _reduce(self, rest: bytes) -> bytes:
        for column, row in self._rows:
            if factor := rest[column]:
                rest = gf256.add_bytes(rest, gf256.multiply_bytes(factor, row))
        return rest
