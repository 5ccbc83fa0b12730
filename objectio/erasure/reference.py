"""Reed-Solomon in pure Python: what a node falls back to, and the oracle of all other codecs.

It needs nothing to be installed and is easy to read beside the definition of a family. It encodes
0.2 to 0.4 GB/s at 4+2 (ISA-L: some thirty times that) and holds the GIL: fit for tests and for a trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.abc.erasure import CodecProfile
from objectio.erasure import gf256, matrix

PATTERNS_CACHED_MAX = 256


class ReferenceCodec:
    """One profile of a Reed-Solomon family; see `objectio.erasure.matrix` for the arithmetic."""

    def __init__(self, profile: CodecProfile) -> None:
        self._profile = profile
        self._generator = matrix.generator(profile)
        self._rows = lru_cache(maxsize=PATTERNS_CACHED_MAX)(self._reconstruction)

    @property
    def profile(self) -> CodecProfile:
        return self._profile

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        _apply(self._generator[self._profile.data_shards :], data, parity)

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        return matrix.minimum_to_decode(self._profile, want, cost)

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        have = matrix.choose_sources(self._profile, shards)
        rows = self._rows(have, tuple(want))
        _apply(rows, [shards[index] for index in have], list(want.values()))

    def _reconstruction(self, have: tuple[int, ...], want: tuple[int, ...]) -> matrix.Matrix:
        return matrix.reconstruction(self._generator, have, want)


def _apply(rows: Sequence[bytes], sources: Sequence[Buffer], targets: Sequence[Buffer]) -> None:
    """Each target becomes the sum of the sources, each times its factor in the target's row.

    One source at a time, so that it is copied once: `bytes.translate` multiplies, and exclusive
    or of two integers adds, both at the speed of C.
    """
    sums = [0] * len(rows)
    length = 0
    for column, source in enumerate(sources):
        data = bytes(source)
        length = len(data)
        for r, row in enumerate(rows):
            if row[column]:
                product = gf256.multiply_bytes(row[column], data)
                sums[r] ^= int.from_bytes(product, "little")
    for total, target in zip(sums, targets, strict=True):
        memoryview(target)[:] = total.to_bytes(length, "little")


class ReferenceFactory:
    """Makes codecs of both Reed-Solomon families."""

    @property
    def families(self) -> frozenset[str]:
        return matrix.RS_FAMILIES

    def codec(self, profile: CodecProfile) -> ReferenceCodec:
        return ReferenceCodec(profile)


def _open(config: NoConfig, context: Context) -> ReferenceFactory:
    return ReferenceFactory()


DRIVER = Driver(
    name="reference",
    config=NoConfig,
    open=_open,
    summary="Reed-Solomon in pure Python: slow, needs nothing",
    rank=0,
    threads=ThreadModel.PARALLEL,
)
