"""`objectio serve`: every role in one process, or in several that it looks after."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectio.cli.command import Command
from objectio.cli.config import add_config_arguments, plugins_for
from objectio.cli.process import (
    DATA_DIR,
    outlast_early_reloads,
    run_node,
    set_up_logging,
    where_credentials_are,
)

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.plugin.loader import Plugins
    from objectio.runtime.node import Node


class Serve(Command):
    """Run a whole store: in this process, or with --workers in several.

    Without --config, the directory DIR is used: a first start makes it, with simulated disks at
    4+2, root credentials in DIR/credentials.json and a configuration to edit in DIR/objectio.toml.

    With --workers N this process looks after others: N gateways that share the port, one process
    with the metadata, and some with the disks. It starts again what ends, and stops all of them in
    order when it is told to end. A directory can be served in one way today and in the other
    tomorrow.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        parser.add_argument(
            "--data", type=Path, metavar="DIR", help=f"the directory (default {DATA_DIR})"
        )
        parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve HTTP")
        parser.add_argument(
            "--disks", type=int, metavar="N", help="simulated disks to make at the first start (6)"
        )
        parser.add_argument(
            "--no-auth", action="store_true", help="let everyone do everything: for tests only"
        )
        parser.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="serve with N gateway processes (0: one in all)",
        )
        parser.add_argument(
            "--osd-processes",
            type=int,
            metavar="M",
            help="with --workers: share the disks among M processes (N, or as many as disks)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.errors import ConfigError

        outlast_early_reloads()
        workers, osd_processes = parsed_args.workers or 0, parsed_args.osd_processes
        if workers < 0 or (osd_processes is not None and (osd_processes < 1 or not workers)):
            raise ConfigError(
                "--workers N and --osd-processes M count processes: from 1 on, N first"
            )
        config, plugins = _configure(parsed_args)
        if workers:
            set_up_logging(config, "supervisor")
            _supervise(config, plugins, workers, osd_processes, self.app.stdout)
        else:
            run_node(config, plugins, parsed_args, _describe, self.app.stdout)


def _supervise(
    config: Config, plugins: Plugins, workers: int, osd_processes: int | None, stdout: Any
) -> None:
    import asyncio

    from objectio.cli.process import Signals, outlast_late_reloads
    from objectio.config import check_drivers
    from objectio.runtime.supervisor import supervise

    check_drivers(config, plugins.registry)

    def ready(endpoint: str) -> None:
        pool = config.pool
        shape = f"{pool.family}:{pool.data_shards}+{pool.parity_shards}"
        stdout.write(describe(config, endpoint, shape))
        stdout.flush()

    async def run() -> None:
        signals = Signals()
        await supervise(config, workers, osd_processes, signals.stop, ready, signals.renew)

    asyncio.run(run())
    outlast_late_reloads()


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
    path = config_path(args.data or DATA_DIR)
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


def describe(config: Config, endpoint: str, pool: str) -> str:
    return (
        f"ObjectIO serves {endpoint}\n"
        f"  data         {config.data_dir} ({len(config.osd.disk)} disks, {pool})\n"
        f"  credentials  {where_credentials_are(config)}\n"
    )


def _describe(node: Node) -> str:
    health = node.health()["roles"].get("gateway", {})
    return describe(node.config, node.part("endpoint"), health.get("pool", "no pool"))
