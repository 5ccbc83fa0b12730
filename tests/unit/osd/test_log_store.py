"""The log-structured shard store keeps the contract of shard stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_conformance import ShardStoreConformance


class TestLogStoreOnADirectory(ShardStoreConformance):
    make = "objectio.testing.shardstore_log:make_log_store"

    @pytest.fixture
    def factory(self, tmp_path: Path) -> LogStoreFactory:
        return LogStoreFactory(LogStoreConfig(), make_context(tmp_path))


class TestLogStoreOnAnImage(ShardStoreConformance):
    make = "objectio.testing.shardstore_log:make_log_store"

    @pytest.fixture
    def factory(self, tmp_path: Path) -> LogStoreFactory:
        return LogStoreFactory(LogStoreConfig(segment_bytes=16 * 2**20), make_context(tmp_path))

    @pytest.mark.slow
    @pytest.mark.parametrize("acknowledged", [60, 400, 1500])
    async def test_a_killed_process_loses_nothing_that_it_acknowledged(
        self, factory: LogStoreFactory, path: str, tmp_path: Path, acknowledged: int
    ) -> None:
        await super().test_a_killed_process_loses_nothing_that_it_acknowledged(
            factory, path, tmp_path, acknowledged
        )
