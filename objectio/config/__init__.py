"""One typed configuration file: `load_config` reads it, `check_drivers` checks the drivers' part."""

from __future__ import annotations

from objectio.config.config import Config
from objectio.config.drivers import check_drivers
from objectio.config.load import load_config
from objectio.config.write import dump_toml

__all__ = ["Config", "check_drivers", "dump_toml", "load_config"]
