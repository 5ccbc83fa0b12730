"""`objectio serve`: every role in one process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectio.cli.command import Command
from objectio.cli.config import add_config_arguments, plugins_for

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.plugin.loader import Plugins
    from objectio.runtime.node import Node

_DATA_DIR = Path("objectio-data")


class Serve(Command):
    """Run a whole store in this process.

    Without --config, the directory DIR is used: a first start makes it, with simulated disks at
    4+2, root credentials in DIR/credentials.json and a configuration to edit in DIR/objectio.toml.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        parser.add_argument(
            "--data", type=Path, metavar="DIR", help=f"the directory (default {_DATA_DIR})"
        )
        parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve HTTP")
        parser.add_argument(
            "--disks", type=int, metavar="N", help="simulated disks to make at the first start (6)"
        )
        parser.add_argument(
            "--no-auth", action="store_true", help="let everyone do everything: for tests only"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        config, plugins = _configure(parsed_args)
        _set_up_logging(config)
        tune_process()
        import uvloop

        uvloop.run(_serve(config, plugins, self.app.stdout))


def _configure(args: argparse.Namespace) -> tuple[Config, Plugins]:
    import os

    from objectio.config import load_config
    from objectio.errors import ConfigError
    from objectio.runtime.quickstart import DISKS_DEFAULT, config_path, make_config

    overrides = list(args.overrides)
    if args.listen:
        overrides.append(f"gateway.listen={args.listen}")
    if args.no_auth:
        overrides.append("gateway.auth=false")
    if args.config is not None:
        if args.data is not None or args.disks is not None:
            raise ConfigError("--data and --disks make a configuration: leave --config away")
        config = load_config(args.config, env=os.environ, overrides=overrides)
        return config, plugins_for(config)
    path = config_path(args.data or _DATA_DIR)
    if path.exists():
        config = load_config(path, env=os.environ, overrides=overrides)
        if args.disks not in (None, len(config.osd.disk)):
            raise ConfigError(
                f"{path} has {len(config.osd.disk)} disks: --disks counts at the first start only. "
                "Edit the file, or take another --data"
            )
        return config, plugins_for(config)
    plugins = plugins_for(load_config(None, env=os.environ, overrides=overrides))
    disks = DISKS_DEFAULT if args.disks is None else args.disks
    make_config(path.parent, disks, args.listen or "127.0.0.1:9000", plugins.registry)
    return load_config(path, env=os.environ, overrides=overrides), plugins


async def _serve(config: Config, plugins: Plugins, stdout: Any) -> None:
    from objectio.iam.credentials import CREDENTIALS_FILE, from_environment
    from objectio.runtime.node import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(node: Node) -> None:
        import os

        where = str(config.data_dir / CREDENTIALS_FILE)
        if not config.gateway.auth:
            where = "not needed (--no-auth)"
        elif from_environment(os.environ):
            where = "from the environment"
        health = node.health()["roles"].get("gateway", {})
        stdout.write(
            f"ObjectIO serves {node.part('endpoint')}\n"
            f"  data         {config.data_dir} ({len(config.osd.disk)} disks, "
            f"{health.get('pool', 'no pool')})\n"
            f"  credentials  {where}\n"
        )
        stdout.flush()
        gc.collect()
        gc.freeze()  # what start-up made stays: the collector need not look at it again
        # Requests leave no cycles behind, but make some hundred objects each: at the default of 700
        # the collector runs several times per request, a sixth of the time of a small PUT.
        gc.set_threshold(20_000, 10, 10)

    await serve(config, plugins, stop, ready)


def _set_up_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if config.log.format == "json":
        from objectio.cli.jsonlog import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log.level.upper())
    if not config.log.requests:
        logging.getLogger("objectio.gateway.request").setLevel(logging.WARNING)


def tune_process() -> None:
    """Have malloc keep large blocks instead of giving them back: fresh pages cost more than the
    work that is done on them. Takes effect with glibc only."""
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
    libc.mallopt(m_mmap_threshold, 32 << 20)
    libc.mallopt(m_trim_threshold, 64 << 20)
    libc.mallopt(m_arena_max, 2)
