"""The family `xor-parity`: k data shards and one parity shard, their exclusive or."""

from __future__ import annotations

from objectio import hookimpl
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.errors import ConfigError, InsufficientShards

FAMILY = "xor-parity"


class XorCodec:
    def __init__(self, profile):
        if profile.family != FAMILY or profile.parity_shards != 1 or profile.data_shards < 1:
            raise ConfigError(f"{profile}: {FAMILY} makes exactly one parity shard")
        self.profile = profile

    def encode(self, data, parity):
        memoryview(parity[0])[:] = exclusive_or(data)

    def minimum_to_decode(self, want, cost):
        every = frozenset(range(self.profile.width))
        choices = [want, *(every - {index} for index in every)]  # as it is; any one shard rebuilt
        choices = [choice for choice in choices if choice <= cost.keys()]
        if not choices:
            raise InsufficientShards(f"{self.profile}: more than one shard is missing")
        return min(choices, key=lambda choice: sum(cost[index] for index in choice))

    def reconstruct(self, shards, want):
        if len(want) + len(shards) > self.profile.width or len(shards) < self.profile.data_shards:
            raise InsufficientShards(f"{self.profile}: more than one shard is missing")
        for buffer in want.values():
            memoryview(buffer)[:] = exclusive_or(shards.values())


def exclusive_or(shards):
    total = 0
    for shard in shards:
        total ^= int.from_bytes(shard, "little")
    return total.to_bytes(len(shard), "little")


class XorFactory:
    families = frozenset({FAMILY})

    def codec(self, profile):
        return XorCodec(profile)


@hookimpl
def objectio_register_codecs():
    return [
        Driver(
            name="xor",
            config=NoConfig,
            open=lambda config, context: XorFactory(),
            summary="one parity shard by exclusive or",
            threads=ThreadModel.PARALLEL,
        )
    ]
