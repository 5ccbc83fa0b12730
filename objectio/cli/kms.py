"""`objectio kms`: the keys of the key ring on this machine. Servers that run take changes up by
themselves, with the next request."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectio.cli.cells import Flag, Moment
from objectio.cli.command import Command, Lister, Row
from objectio.cli.config import add_config_arguments, plugins_for

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.kms.keyring import KeyRing


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the directory that the server was given"
    )


class _KeyCommand(Command):
    """One key is changed, by its name."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_arguments(parser)
        parser.add_argument("name", metavar="KEY", help="the key's name")
        return parser

    def _change(
        self, args: argparse.Namespace, change: Callable[[KeyRing, str], KeyRing]
    ) -> KeyRing:
        from objectio.errors import ConfigError
        from objectio.kms.keyring import change_ring

        path = _ring_path(args)
        try:
            return change_ring(path, lambda ring: change(ring, args.name))
        except FileNotFoundError:
            raise ConfigError(_not_there(path)) from None


class KmsList(Lister):
    """List the keys that data keys are wrapped with. No secret is shown."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        from objectio.errors import ConfigError
        from objectio.kms.keyring import read_ring

        path = _ring_path(parsed_args)
        try:
            ring = read_ring(path)
        except FileNotFoundError:
            raise ConfigError(_not_there(path)) from None
        columns = ("key", "default", "versions", "created_ms", "rotated_ms")
        rows: list[tuple[Any, ...]] = [
            (
                name,
                Flag(name == ring.default),
                len(key.versions),
                Moment(key.versions[0].created_ms),
                Moment(key.versions[-1].created_ms),
            )
            for name, key in sorted(ring.keys.items())
        ]
        return columns, rows


class KmsCreate(_KeyCommand):
    """Make a key, which requests may name from then on.

    Where several machines have a copy of the key ring, make the key on one and copy the file to the
    others before it is used.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.kms.keyring import with_key

        self._change(parsed_args, with_key)
        self.app.stdout.write(f"made key {parsed_args.name}; back up the key ring now\n")


class KmsRotate(_KeyCommand):
    """Give a key a fresh version, which wraps the data keys of whatever is written from now on.

    Older versions stay in the ring, and open what they wrapped. What is stored does not change: to
    have it under the new version, copy objects onto themselves.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.kms.keyring import with_new_version

        ring = self._change(parsed_args, with_new_version)
        count = len(ring.key(parsed_args.name)[1].versions)
        self.app.stdout.write(
            f"key {parsed_args.name} has {count} versions; back up the key ring now\n"
        )


class KmsDefault(_KeyCommand):
    """Choose the key of writes that name none."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.kms.keyring import with_default

        self._change(parsed_args, with_default)
        self.app.stdout.write(f"key {parsed_args.name} is the default\n")


def _ring_path(args: argparse.Namespace) -> Path:
    from objectio.errors import ConfigError
    from objectio.kms.local import DRIVER

    config = _config(args)
    if config.kms.driver != DRIVER.name:
        raise ConfigError(
            f"the keys of this store are kept by {config.kms.driver}, not in a key ring: manage them "
            "there"
        )
    plugins_for(config).registry.get("kms", DRIVER.name)
    return config.beside_data(config.driver_settings("kms", DRIVER).path)


def _config(args: argparse.Namespace) -> Config:
    from objectio.config import load_config
    from objectio.errors import ConfigError
    from objectio.runtime.quickstart import config_path

    if (args.config is None) == (args.data is None):
        raise ConfigError("say which store: --config FILE, or --data DIR")
    path, overrides = args.config, list(args.overrides)
    if path is None:
        path = config_path(args.data)
        if not path.exists():  # of `objectio meta` or `objectio gateway`, which need no file
            path, overrides = None, [*overrides, f"node.data_dir={args.data.absolute()}"]
    return load_config(path, env=os.environ, overrides=overrides)


def _not_there(path: Path) -> str:
    return (
        f"there is no key ring {path}: the first server with the metadata makes it; on another "
        "machine, copy it there"
    )
