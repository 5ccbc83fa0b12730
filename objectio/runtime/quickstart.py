"""What `objectio serve` makes where there is no configuration: a directory with simulated disks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from objectio.config import Config, dump_toml, load_config
from objectio.config.schema import (
    DiskSection,
    GatewaySection,
    KvSection,
    NodeSection,
    OsdSection,
    PoolSection,
)
from objectio.errors import ConfigError
from objectio.plugin.registry import Registry

CONFIG_FILE: Final = "objectio.toml"
DISKS_DEFAULT: Final = 6


def config_path(directory: Path) -> Path:
    return directory / CONFIG_FILE


def make_config(directory: Path, disks: int, listen: str, registry: Registry) -> Path:
    """Write DIR/objectio.toml for `disks` simulated disks, and return its path.

    With six disks or more the pool is 4+2. With fewer it is what still survives the loss of as many
    disks as possible up to two: 2+2, 2+1, a mirror, or one plain disk.
    """
    if disks < 1:
        raise ConfigError("a store needs at least one disk")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    data_shards, parity_shards = _shape(disks)
    family = "rs-cauchy-0x11d" if data_shards > 1 else "replicate"
    config = Config(
        node=NodeSection(data_dir="."),
        kv=KvSection(driver=registry.best("kv").name),
        osd=OsdSection(
            disk=tuple(
                DiskSection(id=number, path=f"disks/{number}", replace_blank=True)
                for number in range(disks)
            )
        ),
        pool=PoolSection(
            family=family,
            data_shards=data_shards,
            parity_shards=parity_shards,
            placement=registry.best("placement").name,
        ),
        gateway=GatewaySection(listen=listen),
    )
    path = config_path(directory)
    fresh = path.with_suffix(".new")
    fresh.write_text(dump_toml(config), encoding="utf-8")
    load_config(fresh, env={})  # what was written can be read
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    return path


def _shape(disks: int) -> tuple[int, int]:
    if disks >= 6:
        return 4, 2
    return {1: (1, 0), 2: (1, 1), 3: (2, 1)}.get(disks, (2, 2))
