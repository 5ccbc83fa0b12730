"""Replication as an erasure code: k = 1, and every parity shard is a copy of the data shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import Buffer

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.abc.erasure import FAMILY_REPLICATE, CodecProfile
from objectio.erasure import matrix
from objectio.errors import ConfigError

_FAMILIES = frozenset({FAMILY_REPLICATE})


class ReplicateCodec:
    """1 + m copies."""

    def __init__(self, profile: CodecProfile) -> None:
        matrix.check_profile(profile, _FAMILIES)
        if profile.data_shards != 1:
            raise ConfigError(f"{profile}: replication has one data shard")
        self._profile = profile

    @property
    def profile(self) -> CodecProfile:
        return self._profile

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        for target in parity:
            memoryview(target)[:] = data[0]

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        return matrix.minimum_to_decode(self._profile, want, cost)

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        (source,) = matrix.choose_sources(self._profile, shards)
        for target in want.values():
            memoryview(target)[:] = shards[source]


class ReplicateFactory:
    """Makes codecs of the family `replicate`."""

    @property
    def families(self) -> frozenset[str]:
        return _FAMILIES

    def codec(self, profile: CodecProfile) -> ReplicateCodec:
        return ReplicateCodec(profile)


def _open(config: NoConfig, context: Context) -> ReplicateFactory:
    return ReplicateFactory()


DRIVER = Driver(
    name="replicate",
    config=NoConfig,
    open=_open,
    summary="copies instead of parity",
    rank=0,
    threads=ThreadModel.PARALLEL,
)
