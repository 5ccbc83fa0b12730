"""The kernel's own drivers, offered through the same hooks as everybody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver
from objectio.abc.filter import FilterDriver
from objectio.abc.shardstore import ShardStoreFactory
from objectio.control import service as control
from objectio.erasure import reference, replicate
from objectio.filters import DRIVERS as FILTERS
from objectio.gateway import host
from objectio.gateway import service as gateway
from objectio.kms import local
from objectio.kv import memory
from objectio.maintenance import service as maintenance
from objectio.meta import service as meta
from objectio.osd import service as osd
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.placement import rendezvous
from objectio.sinks import webhook


def _open_log(config: LogStoreConfig, context: Context) -> ShardStoreFactory:
    return LogStoreFactory(config, context)


LOG_STORE: Final = Driver(
    name="log",
    config=LogStoreConfig,
    open=_open_log,
    summary="A log of checksummed records on a directory, an image file or a block device",
)


@hookimpl
def objectio_register_codecs() -> Iterable[AnyDriver]:
    return [reference.DRIVER, replicate.DRIVER]


@hookimpl
def objectio_register_kv() -> Iterable[AnyDriver]:
    return [memory.DRIVER]


@hookimpl
def objectio_register_kms() -> Iterable[AnyDriver]:
    return [local.DRIVER]


@hookimpl
def objectio_register_placements() -> Iterable[AnyDriver]:
    return [rendezvous.DRIVER]


@hookimpl
def objectio_register_shardstores() -> Iterable[AnyDriver]:
    return [LOG_STORE]


@hookimpl
def objectio_register_sinks() -> Iterable[AnyDriver]:
    return [webhook.DRIVER]


@hookimpl
def objectio_register_filters() -> Iterable[FilterDriver]:
    return FILTERS


@hookimpl
def objectio_register_roles() -> Iterable[AnyDriver]:
    return [
        meta.DRIVER,
        control.DRIVER,
        osd.DRIVER,
        maintenance.DRIVER,
        gateway.DRIVER,
        host.DRIVER,
    ]
