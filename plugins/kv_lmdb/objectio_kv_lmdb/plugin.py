"""Register the LMDB key-value engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, ThreadModel
from objectio.abc.kv import CAP_DURABLE, CAP_FAST_READS, CAP_MULTI_PROCESS, KVDriver
from objectio_kv_lmdb.config import LmdbConfig


def _open(config: LmdbConfig, context: Context) -> KVDriver:
    from objectio_kv_lmdb.driver import LmdbKV  # the C library loads here, not at discovery

    return LmdbKV(config, context)


DRIVER: Final = Driver(
    name="lmdb",
    config=LmdbConfig,
    open=_open,
    summary="metadata in LMDB: durable, read in microseconds, shared by processes of one machine",
    rank=100,
    capabilities=frozenset({CAP_DURABLE, CAP_FAST_READS, CAP_MULTI_PROCESS}),
    threads=ThreadModel.PARALLEL,
)


@hookimpl
def objectio_register_kv() -> Iterable[AnyDriver]:
    return [DRIVER]
