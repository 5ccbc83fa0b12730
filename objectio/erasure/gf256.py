"""Arithmetic in GF(2^8) = GF(2)[x] / (x^8 + x^4 + x^3 + x^2 + 1), written 0x11d.

Addition is exclusive or. Multiplication goes through logarithms to the base of the generator
α = 2, so that every non-zero element is a power of it. A byte string is multiplied by a constant
with one table of 256 bytes: `multiply_bytes`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

POLYNOMIAL: Final = 0x11D
ORDER: Final = 255  # of the multiplicative group: α^255 = 1


def _powers() -> bytes:
    powers = bytearray()
    value = 1
    for _ in range(ORDER):
        powers.append(value)
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    return bytes(powers)


EXP: Final = _powers() * 2
"""EXP[i] = α^i, twice over, so that a sum of two logarithms needs no modulus."""
LOG: Final = bytes([0]) + bytes(EXP.index(value) for value in range(1, 256))
"""LOG[α^i] = i; LOG[0] has no meaning."""


def multiply(a: int, b: int) -> int:
    """a · b."""
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def inverse(a: int) -> int:
    """1 / a; zero has none."""
    if a == 0:
        raise ZeroDivisionError("0 has no inverse in GF(2^8)")
    return EXP[ORDER - LOG[a]]


@cache
def table(factor: int) -> bytes:
    """The products of `factor` with 0, 1, …, 255: what `bytes.translate` takes."""
    return bytes(multiply(factor, value) for value in range(256))


def multiply_bytes(factor: int, data: bytes) -> bytes:
    """Every byte of `data` times `factor`."""
    return data if factor == 1 else data.translate(table(factor))


def add_bytes(a: bytes, b: bytes) -> bytes:
    """The sum (exclusive or) of two byte strings of one length."""
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")
