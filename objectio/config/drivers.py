"""Check what the configuration says of drivers, against those that are installed."""

from __future__ import annotations

from typing import Protocol

from objectio.abc.driver import AnyDriver
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.config.config import Config
from objectio.config.decode import unknown_key
from objectio.config.schema import DRIVER_TABLES

_SHARDS = FilterKind.SHARDSTORE


class Drivers(Protocol):
    """What this needs of `objectio.plugin.registry.Registry`."""

    def get(self, kind: str, name: str) -> AnyDriver: ...

    def get_filter(self, wraps: FilterKind, name: str) -> FilterDriver: ...

    def known(self, kind: str, name: str) -> bool: ...

    def names(self, kind: str) -> list[str]: ...

    def unavailable(self, name: str) -> object | None: ...


def named_drivers(config: Config) -> list[tuple[str, str]]:
    """(kind, name) of every driver that the configuration names; the rest is chosen by rank."""
    named = [
        ("kv", config.kv.driver),
        ("kms", config.kms.driver),
        ("shardstore", config.osd.driver),
        ("codec", config.pool.codec),
        ("placement", config.pool.placement),
        ("exporter", config.metrics.exporter),
        *(("api", name) for name in config.gateway.apis),
        *(("sink", name) for name in config.driver_tables.get("sinks", {})),
        *(("role", name) for name in config.node.roles),
    ]
    return [(kind, name) for kind, name in named if name]


def check_drivers(config: Config, registry: Drivers) -> None:
    """Every named driver can be used, and every driver's table is right.

    A table of a driver whose plugin is broken or disabled is passed over unless it is named.
    Raises the plugin's own error, or `ConfigError`.
    """
    for kind, name in named_drivers(config):
        registry.get(kind, name)
    for wraps, filters in ((FilterKind.KV, config.kv.filters), (_SHARDS, config.osd.filters)):
        for name in filters:
            config.filter_settings(registry.get_filter(wraps, name))
    for section, tables in config.driver_tables.items():
        kind = DRIVER_TABLES[section]
        if section == "filter":
            _check_filters(config, registry, list(tables))
            continue
        for name in tables:
            if name in registry.names(kind):
                config.driver_settings(section, registry.get(kind, name))
            elif not registry.known(kind, name) and registry.unavailable(name) is None:
                names = registry.names(kind)
                raise unknown_key(config.origin, f"{section}.", name, names, what=f"{kind} driver")


def _check_filters(config: Config, registry: Drivers, names: list[str]) -> None:
    for name in names:
        kinds = [wraps for wraps in FilterKind if name in registry.names(f"filter.{wraps.value}")]
        for wraps in kinds:
            config.filter_settings(registry.get_filter(wraps, name))
        if not kinds:
            known = sorted(
                {each for kind in FilterKind for each in registry.names(f"filter.{kind.value}")}
            )
            raise unknown_key(config.origin, "filter.", name, known, what="filter")
