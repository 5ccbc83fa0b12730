"""The family `xor-parity`: one parity shard, the exclusive or of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel
from objectio.abc.erasure import CodecFactory, CodecProfile
from objectio.errors import ConfigError, InsufficientShards
from typing_extensions import Buffer

FAMILY: Final = "xor-parity"


class ParityCodec:
    def __init__(self, profile: CodecProfile) -> None:
        if profile.family != FAMILY or profile.parity_shards != 1 or profile.data_shards < 1:
            raise ConfigError(f"{profile}: {FAMILY} makes exactly one parity shard")
        self.profile = profile

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        memoryview(parity[0])[:] = exclusive_or(data)

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        every = frozenset(range(self.profile.width))
        choices = [want, *(every - {index} for index in every)]  # as it is; any one shard rebuilt
        choices = [choice for choice in choices if choice <= cost.keys()]
        if not choices:
            raise InsufficientShards(f"{self.profile}: more than one shard is missing")
        return min(choices, key=lambda choice: sum(cost[index] for index in choice))

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        if len(want) + len(shards) > self.profile.width or len(shards) < self.profile.data_shards:
            raise InsufficientShards(f"{self.profile}: more than one shard is missing")
        for buffer in want.values():
            memoryview(buffer)[:] = exclusive_or(shards.values())


def exclusive_or(shards: Iterable[Buffer]) -> bytes:
    total, length = 0, 0
    for shard in shards:
        total ^= int.from_bytes(shard, "little")
        length = memoryview(shard).nbytes
    return total.to_bytes(length, "little")


class ParityFactory:
    families = frozenset({FAMILY})

    def codec(self, profile: CodecProfile) -> ParityCodec:
        return ParityCodec(profile)


def open_codec(config: NoConfig, context: Context) -> CodecFactory:
    return ParityFactory()


DRIVER: Final = Driver(
    name="xor",
    config=NoConfig,
    open=open_codec,
    summary="one parity shard by exclusive or",
    threads=ThreadModel.PARALLEL,
)


@hookimpl
def objectio_register_codecs() -> Iterable[AnyDriver]:
    return [DRIVER]
