"""Straws: exponentially distributed lengths, in integers, so that every machine draws the same.

The shortest of the straws -log2(h) / weight is a weighted draw. The C library's logarithm differs
in its last bit from one release to the next, and a group placed by it could differ with it. This
one is a table with linear interpolation, as CRUSH's straw2 has it; the table is computed by
`decimal`, which rounds correctly.
"""

from __future__ import annotations

import decimal
from typing import Final

HASH_BITS: Final = 64
_TABLE_BITS: Final = 12
_FRACTION_BITS: Final = 44
_REST_BITS: Final = 28
_REST_SHIFT: Final = HASH_BITS - _TABLE_BITS - _REST_BITS
_REST_MASK: Final = (1 << _REST_BITS) - 1


def _log2_table() -> tuple[int, ...]:
    """log2(1 + i / 2^12) for i = 0 … 2^12, with 44 bits of fraction."""
    arithmetic = decimal.Context(prec=24, rounding=decimal.ROUND_HALF_EVEN)
    size = 1 << _TABLE_BITS
    ln2 = arithmetic.ln(decimal.Decimal(2))
    scale = arithmetic.divide(decimal.Decimal(1 << _FRACTION_BITS), ln2)
    return tuple(
        int(
            arithmetic.multiply(
                arithmetic.ln(arithmetic.divide(decimal.Decimal(size + i), size)), scale
            ).to_integral_value(context=arithmetic)
        )
        for i in range(size + 1)
    )


_TABLE: Final = _log2_table()
_WHOLE: Final = HASH_BITS << _FRACTION_BITS


def straw(h: int) -> int:
    """-log2((h + 1) / 2^64), for a 64-bit h, with 44 bits of fraction; falls as h grows."""
    h += 1
    exponent = h.bit_length() - 1
    mantissa = (h << (HASH_BITS - exponent)) & 0xFFFFFFFFFFFFFFFF
    i = mantissa >> (HASH_BITS - _TABLE_BITS)
    low = _TABLE[i]
    rest = (mantissa >> _REST_SHIFT) & _REST_MASK
    return (
        _WHOLE - (exponent << _FRACTION_BITS) - low - (((_TABLE[i + 1] - low) * rest) >> _REST_BITS)
    )
