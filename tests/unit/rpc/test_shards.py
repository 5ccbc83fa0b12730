"""Shard stores of another node keep the contract of shard stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.shardstore_conformance import ShardStoreConformance
from objectio.testing.shardstore_remote import RemoteFactory


class _Remote(ShardStoreConformance):
    make = "objectio.testing.shardstore_remote:make_remote_log_store"
    kind = "tcp"

    @pytest.fixture
    def factory(self, tmp_path: Path):
        factory = RemoteFactory(
            LogStoreFactory(LogStoreConfig(), make_context(tmp_path)), self.kind
        )
        yield factory
        factory.clean()


class TestOverTcp(_Remote):
    loops = ("uvloop",)


class TestOverAUnixSocket(_Remote):
    loops = ("asyncio",)
    kind = "unix"
