"""The log-structured shard store, for test processes that are started and killed."""

from __future__ import annotations

from pathlib import Path

from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.testing.context import make_context


def make_log_store(data_dir: Path) -> LogStoreFactory:
    """For the processes that the suite starts and kills."""
    return LogStoreFactory(LogStoreConfig(), make_context(data_dir))
