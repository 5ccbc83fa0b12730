"""The configuration of a node, as loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from objectio.abc.driver import Driver
from objectio.abc.filter import FilterDriver
from objectio.config.decode import decode
from objectio.config.schema import DiskSection, Sections

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)

DriverTables = Mapping[str, Mapping[str, Mapping[str, Any]]]


class Config(Sections, frozen=True, kw_only=True):
    """All sections, typed, and the tables of drivers as they stand in the file:
    `driver_tables["osd"]["log"]`. `source` is the file, or None where there is none."""

    driver_tables: DriverTables = {}
    source: Path | None = None

    @property
    def origin(self) -> str:
        """What error messages call this configuration."""
        return str(self.source) if self.source else "configuration"

    @property
    def data_dir(self) -> Path:
        """`node.data_dir`, absolute. It is relative to the file, so that both can be moved."""
        base = self.source.parent if self.source else Path()
        return (base / self.node.data_dir).resolve()

    def beside_data(self, path: str) -> Path:
        """A file that the configuration names: relative to the data directory."""
        return self.data_dir / path

    def disk_path(self, disk: DiskSection) -> Path:
        """Where the device is: relative to the data directory."""
        return self.data_dir / disk.path

    def filter_settings(self, driver: FilterDriver) -> msgspec.Struct:
        """A filter's settings, from `[filter.<name>]`. Raises `ConfigError`."""
        table = self.driver_tables.get("filter", {}).get(driver.name, {})
        return decode(driver.config, table, f"filter.{driver.name}", lambda key: self.origin)

    def driver_settings(self, section: str, driver: Driver[ConfigT, Any]) -> ConfigT:
        """The driver's own settings, from `[<section>.<driver name>]`. Raises `ConfigError`."""
        table = self.driver_tables.get(section, {}).get(driver.name, {})
        return decode(driver.config, table, f"{section}.{driver.name}", lambda key: self.origin)
