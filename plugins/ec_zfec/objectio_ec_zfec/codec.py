"""The Vandermonde family by zfec, whose matrix defines it.

zfec returns new bytes objects, so each shard that it computes is copied once into the caller's
buffer. It encodes any chosen shards from the data, and decodes the data from any k shards; a lost
parity shard is therefore decoded (if data is missing too) and then encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zfec
from typing_extensions import Buffer

from objectio.abc.erasure import FAMILY_RS_VANDERMONDE, CodecProfile
from objectio.erasure import matrix

_FAMILIES = frozenset({FAMILY_RS_VANDERMONDE})


class ZfecCodec:
    """One profile. zfec's objects hold a constant matrix, so any threads may call it at once."""

    def __init__(self, profile: CodecProfile) -> None:
        matrix.check_profile(profile, _FAMILIES)
        self._profile = profile
        self._k = profile.data_shards
        self._encoder = zfec.Encoder(self._k, profile.width)
        self._decoder = zfec.Decoder(self._k, profile.width)
        self._parity = tuple(range(self._k, profile.width))

    @property
    def profile(self) -> CodecProfile:
        return self._profile

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        _copy(self._encoder.encode(data, self._parity), parity)

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        return matrix.minimum_to_decode(self._profile, want, cost)

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        sources = matrix.choose_sources(self._profile, shards)
        numbers = self._arrange(sources)
        data = self._decoder.decode([shards[index] for index in numbers], numbers)
        lost_data = [index for index in want if index < self._k]
        lost_parity = tuple(index for index in want if index >= self._k)
        _copy([data[index] for index in lost_data], [want[index] for index in lost_data])
        if lost_parity:
            encoded = self._encoder.encode(data, lost_parity)
            _copy(encoded, [want[index] for index in lost_parity])

    def _arrange(self, sources: Sequence[int]) -> tuple[int, ...]:
        """zfec wants data shard i in place i, and parity shards in the places of missing ones."""
        parity = iter([index for index in sources if index >= self._k])
        return tuple(i if i in sources else next(parity) for i in range(self._k))


def _copy(shards: Sequence[Buffer], targets: Sequence[Buffer]) -> None:
    for shard, target in zip(shards, targets, strict=True):
        memoryview(target)[:] = shard


class ZfecFactory:
    """Makes codecs of the Vandermonde family."""

    @property
    def families(self) -> frozenset[str]:
        return _FAMILIES

    def codec(self, profile: CodecProfile) -> ZfecCodec:
        return ZfecCodec(profile)
