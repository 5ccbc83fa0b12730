"""The log-structured shard store keeps the contract of shard stores, whatever the device is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from objectio.limits import MIB
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_conformance import ShardStoreConformance


class TestLogStoreOnADirectory(ShardStoreConformance):
    make = "objectio.testing.shardstore_log:make_log_store"

    @pytest.fixture
    def factory(self, tmp_path: Path) -> LogStoreFactory:
        return LogStoreFactory(LogStoreConfig(), make_context(tmp_path))


class ImageFactory(LogStoreFactory):
    """Makes image files where nothing is said of a size."""

    def prepare(self, path, *, cluster_id, size_bytes=None):
        if size_bytes is None and not Path(path).exists():
            size_bytes = 320 * MIB
        return super().prepare(path, cluster_id=cluster_id, size_bytes=size_bytes)


class _Slower(ShardStoreConformance):
    @pytest.mark.slow
    @pytest.mark.parametrize("acknowledged", [60, 400, 1500])
    async def test_a_killed_process_loses_nothing_that_it_acknowledged(
        self, factory: LogStoreFactory, path: str, tmp_path: Path, acknowledged: int
    ) -> None:
        await super().test_a_killed_process_loses_nothing_that_it_acknowledged(
            factory, path, tmp_path, acknowledged
        )


class TestLogStoreOnAnImage(_Slower):
    """Past the page cache, with a cache too small for everything."""

    make = "objectio.testing.shardstore_log:make_log_store"

    @pytest.fixture
    def factory(self, direct_path: Path) -> LogStoreFactory:
        config = LogStoreConfig(direct="always", cache_bytes=MIB)
        return ImageFactory(config, make_context(direct_path))


class TestLogStoreOnABlockDevice(_Slower):
    make = "objectio.testing.shardstore_log:make_log_store"
    small_device_bytes = 320 * MIB

    @pytest.fixture
    def factory(self, tmp_path: Path) -> LogStoreFactory:
        return LogStoreFactory(LogStoreConfig(direct="always"), make_context(tmp_path))

    @pytest.fixture
    def path(self, tmp_path: Path, make_loop_device) -> str:
        """A name for the device, which can be given to another place."""
        name = tmp_path / "device"
        name.symlink_to(make_loop_device(self.small_device_bytes))
        return str(name)

    def corrupt(self, factory, path, payload):
        held = Path(path).read_bytes()
        at, hits = held.find(payload), 0
        while at >= 0:
            with open(path, "r+b") as writable:
                writable.seek(at + len(payload) // 2)
                writable.write(bytes([payload[len(payload) // 2] ^ 0x10]))
                writable.flush()
                os.fsync(writable.fileno())
            hits += 1
            at = held.find(payload, at + 1)
        assert hits

    # What can happen to directories and files only.
    test_nothing_is_found_where_nothing_is = None
    test_an_empty_directory_can_be_prepared = None
    test_a_directory_with_other_contents_is_left_alone = None
    test_a_file_with_other_contents_is_left_alone = None
    test_other_contents_are_not_opened = None
    test_an_absent_device_is_not_opened = None
    test_a_removed_device_is_noticed_and_acknowledges_nothing = None
    test_a_removed_device_can_be_prepared_anew = None
