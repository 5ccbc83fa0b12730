"""Register the LevelDB key-value engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, ThreadModel
from objectio.abc.kv import CAP_DURABLE, CAP_FAST_READS, KVDriver
from objectio_kv_leveldb.config import LevelDbConfig


def _open(config: LevelDbConfig, context: Context) -> KVDriver:
    from objectio_kv_leveldb.driver import LevelDbKV  # the C++ library loads here, not at discovery

    return LevelDbKV(config, context)


DRIVER: Final = Driver(
    name="leveldb",
    config=LevelDbConfig,
    open=_open,
    summary="metadata in LevelDB: durable, compressed, for one process",
    rank=50,
    capabilities=frozenset({CAP_DURABLE, CAP_FAST_READS}),
    threads=ThreadModel.PARALLEL,
)


@hookimpl
def objectio_register_kv() -> Iterable[AnyDriver]:
    return [DRIVER]
