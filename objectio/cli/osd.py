"""`objectio osd prepare`: make a disk a device of a cluster, before a server uses it."""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from objectio.cli.cells import Size
from objectio.cli.command import Row, ShowOne
from objectio.cli.config import plugins_for

if TYPE_CHECKING:
    from objectio.abc.shardstore import ShardStoreFactory
    from objectio.config import Config
    from objectio.plugin.loader import Plugins

_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE: Final = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes: "500M", "20GiB", "1048576"; units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 500M or 20GiB")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a cluster (a UUID)") from None


class OsdPrepare(ShowOne):
    """Write the superblock of a cluster's device on a blank disk.

    The disk is a block device, an image file (made with --size) or a directory. What holds anything,
    or is mounted, is refused, and nothing is written to it. Then name it as an `[[osd.disk]]` in the
    configuration. A server that finds a blank disk there prepares it by itself; this command is for
    disks that should be looked at first, or come from another machine.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--disk", type=Path, required=True, metavar="PATH", help="the disk")
        parser.add_argument(
            "--size", type=parse_size, metavar="SIZE", help="make an image file of so many bytes"
        )
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument(
            "--config", type=Path, metavar="FILE", help="for the cluster of this configuration"
        )
        whose.add_argument(
            "--data", type=Path, metavar="DIR", help="for the cluster whose data directory this is"
        )
        whose.add_argument(
            "--cluster-id", type=parse_uuid, metavar="UUID", help="for the cluster with this id"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        from objectio.errors import ConfigError
        from objectio.osd.superblock import look

        disk, size = parsed_args.disk.absolute(), parsed_args.size
        if size is not None and disk.is_block_device():
            raise ConfigError(f"--size is for image files: {disk} has the size that it has")
        config = _config(parsed_args)
        plugins = plugins_for(config)
        cluster_id = parsed_args.cluster_id or asyncio.run(_cluster_id(config, plugins))
        with tempfile.TemporaryDirectory() as scratch:
            factory = _open_factory(config, plugins, Path(scratch))
            device_id = factory.prepare(str(disk), cluster_id=cluster_id, size_bytes=size)
        shown: dict[str, Any] = {
            "disk": str(disk),
            "device_id": device_id,
            "cluster_id": cluster_id,
        }
        superblock = look(disk) if config.osd.driver in ("", "log") else None
        if superblock is not None:
            shown |= {
                "size_bytes": Size(superblock.size_bytes),
                "segment_bytes": Size(superblock.segment_bytes),
                "format": superblock.format_version,
            }
        return tuple(shown), tuple(shown.values())


def _config(args: argparse.Namespace) -> Config:
    import os

    from objectio.config import load_config
    from objectio.errors import ConfigError
    from objectio.runtime.quickstart import config_path

    path: Path | None = args.config
    if args.data is not None:
        path = config_path(args.data)
        if not path.exists():
            raise ConfigError(
                f"there is no store in {args.data}: start it once with `objectio serve --data "
                f"{args.data}`, or give --cluster-id"
            )
    return load_config(path, env=os.environ, overrides=[])


async def _cluster_id(config: Config, plugins: Plugins) -> str:
    """From the metadata, which no server may be using."""
    from objectio.errors import ConfigError
    from objectio.meta import keys
    from objectio.meta.records import decode_cluster
    from objectio.runtime.lock import DirectoryLock
    from objectio.runtime.node import Node

    advice = "start the server once, which makes the cluster, or give --cluster-id"
    if not config.data_dir.is_dir():
        raise ConfigError(f"there is no cluster in {config.data_dir} yet: {advice}")
    lock = DirectoryLock(config.data_dir)
    try:
        lock.acquire()
    except ConfigError as error:
        raise ConfigError(
            f"{error.message}; or give the id of the cluster by --cluster-id"
        ) from None
    try:
        kv = Node(config, plugins).open_kv()
        try:
            raw = await kv.aget(keys.CLUSTER)
        finally:
            await kv.close()
    finally:
        lock.release()
    if raw is None:
        raise ConfigError(f"there is no cluster in {config.data_dir} yet: {advice}")
    return decode_cluster(raw).cluster_id


def _open_factory(config: Config, plugins: Plugins, scratch: Path) -> ShardStoreFactory:
    """With a data directory of its own: preparing keeps nothing there."""
    from objectio.abc.context import Context

    registry = plugins.registry
    if config.osd.driver:
        driver = registry.get("shardstore", config.osd.driver)
    else:
        driver = registry.best("shardstore")
    settings = config.driver_settings("osd", driver)
    factory: ShardStoreFactory = driver.open(settings, Context(name=driver.name, data_dir=scratch))
    return factory
