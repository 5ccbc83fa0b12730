"""Shards must fit into the log segments of the devices: that is known before anybody writes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from objectio.abc.shardstore import StoreUsage
from objectio.errors import ConfigError
from objectio.store.pools import check_shards_fit


def pool(shard_bytes):
    code = SimpleNamespace(shard_length=lambda stripe_bytes: shard_bytes)
    return SimpleNamespace(code=code, stripe_size_bytes=4 * shard_bytes, write_quorum=5)


def stores(*largest):
    return {
        osd: SimpleNamespace(usage=lambda most=most: StoreUsage(0, 0, 0, 0, shard_bytes_max=most))
        for osd, most in enumerate(largest)
    }


def test_a_pool_whose_shards_fit_nowhere_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"OSDs 1, 2, .*1000 bytes.*stripe_size_bytes"):
        check_shards_fit(pool(2000), stores(4000, 1000, 1000, 4000, 4000, 4000))


@pytest.mark.parametrize(
    "largest",
    [
        pytest.param((2000,) * 6, id="they fit exactly"),
        pytest.param((0,) * 6, id="nobody knows"),
        pytest.param((1000, 4000, 4000, 4000, 4000, 4000), id="the others are enough"),
    ],
)
def test_a_pool_that_can_be_written_is_accepted(largest):
    check_shards_fit(pool(2000), stores(*largest))
