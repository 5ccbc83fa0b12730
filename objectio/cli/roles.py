"""`objectio meta`, `objectio osd` and `objectio gateway`: one role in this process.

What the flags say goes into the configuration, over the file and the environment. The file is the one
of --config, or DIR/objectio.toml where there is one; none is needed.
"""

from __future__ import annotations

import argparse
import logging
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from objectio.cli.command import Command
from objectio.cli.config import add_config_arguments, plugins_for
from objectio.cli.osd import parse_size
from objectio.cli.process import (
    DATA_DIR,
    add_supervised_arguments,
    outlast_early_reloads,
    run_node,
    where_credentials_are,
)

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.config.schema import OsdSection, PoolSection
    from objectio.runtime.node import Node

META_ENDPOINT: Final = "http://127.0.0.1:9100"
IMAGE_BYTES: Final = 10 << 30
_SHAPE: Final = re.compile(r"(\d+)\+(\d+)")
_NAME_CHARS_MAX: Final = 63

_log: Final = logging.getLogger("objectio.cli")


def parse_shape(text: str) -> tuple[int, int]:
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not data+parity shards, as 4+2 is")
    return int(match[1]), int(match[2])


class _Role(Command):
    role: ClassVar[str]
    listen_default: ClassVar[str]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        parser.add_argument(
            "--data",
            type=Path,
            metavar="DIR",
            help=f"where this process keeps its files (default {DATA_DIR}); several may share it",
        )
        parser.add_argument(
            "--node-id",
            metavar="NAME",
            help="a name or number of this process, unlike those of all others (default: made of "
            "machine and port)",
        )
        parser.add_argument(
            "--listen",
            metavar="HOST:PORT",
            help=f"where it is found (default {self.listen_default})",
        )
        parser.add_argument(
            "--secret",
            metavar="FILE",
            help="the secret that all processes of the cluster share (default DIR/cluster.secret)",
        )
        add_supervised_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        outlast_early_reloads()
        config = self.configure(parsed_args)
        run_node(config, plugins_for(config), parsed_args, self.describe, self.app.stdout)

    def configure(self, args: argparse.Namespace) -> Config:
        import os

        from msgspec.structs import replace

        from objectio.config import load_config
        from objectio.errors import ConfigError
        from objectio.runtime.quickstart import config_path

        path, overrides = args.config, [*args.overrides, f"node.roles={self.role}"]
        if path is None:
            found = config_path(args.data or DATA_DIR)
            path = found if found.exists() else None
        elif args.data is not None:
            raise ConfigError("the configuration says where the data are: leave --data away")
        if path is None:
            overrides.append(f"node.data_dir={(args.data or DATA_DIR).absolute()}")
        if args.secret:
            overrides.append(f"cluster.secret_file={Path(args.secret).absolute()}")
        overrides += self.overrides(args)
        config = load_config(path, env=os.environ, overrides=overrides)
        config = self.complete(config, args)
        return replace(config, node=replace(config.node, name=self._name(config, args)))

    def overrides(self, args: argparse.Namespace) -> list[str]:
        """Of single keys, checked as all are."""
        raise NotImplementedError

    def complete(self, config: Config, args: argparse.Namespace) -> Config:
        """The defaults of this role for what nobody has said."""
        raise NotImplementedError

    def listens_at(self, config: Config) -> str:
        raise NotImplementedError

    def describe(self, node: Node) -> str:
        raise NotImplementedError

    def _name(self, config: Config, args: argparse.Namespace) -> str:
        from objectio.config.schema import NodeSection
        from objectio.errors import ConfigError

        name = args.node_id
        if name is None and config.node.name != NodeSection().name:
            return config.node.name
        if name is None:
            machine = socket.gethostname().partition(".")[0]
            port = re.sub(r"\W", "-", self.listens_at(config).rpartition(":")[2])
            name = f"{self.role}-{machine[: _NAME_CHARS_MAX - 20]}-{port[-10:]}"
        elif name.isdecimal():
            name = f"{self.role}-{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise ConfigError(f"--node-id {name}: up to 63 letters, digits, and . _ - within")
        return str(name)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--meta-endpoint",
        metavar="URL",
        help=f"where the process with the metadata is (default {META_ENDPOINT})",
    )


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-listen",
        metavar="HOST:PORT",
        help='where /health and /metrics are (default: the next port; "" for nowhere)',
    )


class Meta(_Role):
    """Run the process with the metadata, which also keeps the store in order.

    Processes with disks (`objectio osd`) and gateways (`objectio gateway`) come to it, in any order.
    A first start makes a new cluster, and its secret in DIR/cluster.secret, which the others need.
    """

    role = "meta"
    listen_default = "127.0.0.1:9100"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_metrics(parser)
        shape = parser.add_mutually_exclusive_group()
        shape.add_argument(
            "--replication", type=int, metavar="N", help="new objects are kept N times"
        )
        shape.add_argument(
            "--ec",
            type=parse_shape,
            metavar="K+M",
            help="new objects are cut into K shards of data and M of parity (4+2)",
        )
        return parser

    def overrides(self, args: argparse.Namespace) -> list[str]:
        found = [f"meta.listen={args.listen}"] if args.listen else []
        if args.metrics_listen is not None:
            found.append(f"metrics.listen={args.metrics_listen}")
        return found

    def complete(self, config: Config, args: argparse.Namespace) -> Config:
        from msgspec.structs import replace

        listen = config.meta.listen or self.listen_default
        return replace(
            config,
            meta=replace(config.meta, listen=listen, keep_pool=self._keeps_pool(config, args)),
            cluster=replace(config.cluster, meta_endpoint=""),
            metrics=_metrics(config, args, listen),
            pool=_pool(config.pool, args),
        )

    @staticmethod
    def _keeps_pool(config: Config, args: argparse.Namespace) -> bool:
        """Nobody has said which pool is wanted."""
        from objectio.config.schema import PoolSection

        said = args.replication is not None or args.ec is not None or config.source is not None
        return config.meta.keep_pool or (not said and config.pool == PoolSection())

    def listens_at(self, config: Config) -> str:
        return config.meta.listen

    def describe(self, node: Node) -> str:
        config, pool = node.config, node.config.pool
        return (
            f"ObjectIO keeps metadata at {_url(config.meta.listen, config)}\n"
            f"  data         {config.data_dir}\n"
            f"  new objects  {pool.family}:{pool.data_shards}+{pool.parity_shards}\n"
            f"  secret       {config.beside_data(config.cluster.secret_file)}\n"
            f"  credentials  {where_credentials_are(config)}\n"
        )


class Osd(_Role):
    """Run a process with disks, for the gateways of a cluster.

    A disk is a directory, an image file or a block device. Where there is nothing yet, an image of 10
    GiB is made, which takes no room before something is written to it. The cluster gives a new disk
    its number.
    """

    role = "osd"
    listen_default = "127.0.0.1:9200"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_endpoint(parser)
        _add_metrics(parser)
        parser.add_argument(
            "--disks",
            nargs="+",
            action="extend",
            metavar="PATH",
            help="the disks (default: those of the configuration)",
        )
        parser.add_argument(
            "--size",
            type=parse_size,
            default=IMAGE_BYTES,
            metavar="SIZE",
            help="how large an image to make where there is none (10G)",
        )
        parser.add_argument(
            "--address", metavar="HOST:PORT", help="what others connect to, if it is not --listen"
        )
        parser.add_argument("--host", metavar="NAME", help="the host of these disks (this machine)")
        parser.add_argument("--rack", metavar="NAME", help="the rack that host is in (default)")
        return parser

    def overrides(self, args: argparse.Namespace) -> list[str]:
        flags = {
            "osd.listen": args.listen,
            "osd.address": args.address,
            "osd.host": args.host,
            "osd.rack": args.rack,
            "cluster.meta_endpoint": args.meta_endpoint,
        }
        found = [f"{key}={value}" for key, value in flags.items() if value]
        if args.metrics_listen is not None:
            found.append(f"metrics.listen={args.metrics_listen}")
        return found

    def complete(self, config: Config, args: argparse.Namespace) -> Config:
        from msgspec.structs import replace

        listen = config.osd.listen or self.listen_default
        return replace(
            config,
            osd=replace(_osd(config, args), listen=listen),
            cluster=_cluster(config),
            metrics=_metrics(config, args, listen),
        )

    def listens_at(self, config: Config) -> str:
        return config.osd.listen

    def describe(self, node: Node) -> str:
        config = node.config
        disks = ", ".join(str(config.disk_path(disk)) for disk in config.osd.disk)
        return (
            f"ObjectIO keeps disks at {config.osd.listen}\n"
            f"  data         {config.data_dir}\n"
            f"  disks        {disks}\n"
            f"  metadata     {config.cluster.meta_endpoint}\n"
        )


class Gateway(_Role):
    """Run a process that serves the APIs. It keeps nothing, so there can be many."""

    role = "gateway"
    listen_default = "127.0.0.1:9000"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_endpoint(parser)
        parser.add_argument(
            "--no-auth", action="store_true", help="let everyone do everything: for tests only"
        )
        return parser

    def overrides(self, args: argparse.Namespace) -> list[str]:
        found = [f"gateway.listen={args.listen}"] if args.listen else []
        if args.no_auth:
            found.append("gateway.auth=false")
        if args.meta_endpoint:
            found.append(f"cluster.meta_endpoint={args.meta_endpoint}")
        return found

    def complete(self, config: Config, args: argparse.Namespace) -> Config:
        from msgspec.structs import replace

        return replace(config, cluster=_cluster(config))

    def listens_at(self, config: Config) -> str:
        return config.gateway.listen

    def describe(self, node: Node) -> str:
        config = node.config
        return (
            f"ObjectIO serves {node.part('endpoint')}\n"
            f"  metadata     {config.cluster.meta_endpoint}\n"
            f"  credentials  {where_credentials_are(config)}\n"
        )


# What flags and defaults make of the configuration.


def _pool(pool: PoolSection, args: argparse.Namespace) -> PoolSection:
    from msgspec.structs import replace

    from objectio.errors import ConfigError

    try:
        if args.replication is not None:
            if args.replication < 1:
                raise ConfigError("--replication N: an object is kept once at least")
            return replace(
                pool,
                family="replicate",
                codec="",
                data_shards=1,
                parity_shards=args.replication - 1,
            )
        if args.ec is not None:
            mirror = pool.family == "replicate"
            data_shards, parity_shards = args.ec
            if data_shards < 1:
                raise ConfigError("--ec K+M: there is one shard of data at least")
            return replace(
                pool,
                family=type(pool)().family if mirror else pool.family,
                codec="" if mirror else pool.codec,
                data_shards=data_shards,
                parity_shards=parity_shards,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return pool


def _osd(config: Config, args: argparse.Namespace) -> OsdSection:
    from msgspec.structs import replace

    from objectio.config.schema import DiskSection
    from objectio.errors import ConfigError

    if args.disks:
        disks = []
        for text in args.disks:
            path = Path(text).absolute()
            makes_image = not path.exists() and not text.endswith("/")
            disks.append(DiskSection(path=str(path), size_bytes=args.size if makes_image else 0))
        try:
            return replace(config.osd, disk=tuple(disks))
        except ValueError as error:
            raise ConfigError(f"--disks: {error}") from None
    if not config.osd.disk:
        raise ConfigError("which disks? --disks PATH …, or [[osd.disk]] in the configuration")
    return config.osd


def _cluster(config: Config) -> Any:
    from msgspec.structs import replace

    return replace(config.cluster, meta_endpoint=config.cluster.meta_endpoint or META_ENDPOINT)


def _metrics(config: Config, args: argparse.Namespace, listen: str) -> Any:
    """The next port, unless somebody says another or has it already."""
    from msgspec.structs import replace

    if args.metrics_listen is not None or config.metrics.listen or listen.startswith("unix:"):
        return config.metrics
    host, _, port = listen.rpartition(":")
    wanted = f"{host}:{int(port) + 1}" if int(port) else f"{host}:0"
    # It is kept from now on: anybody's outgoing connection may take it while others are waited for.
    args.metrics_listener = _take(wanted)
    if args.metrics_listener is None:
        _log.warning("%s is taken: no /metrics of this process; see --metrics-listen", wanted)
        return config.metrics
    return replace(config.metrics, listen=wanted)


def _take(address: str) -> socket.socket | None:
    from objectio.gateway.server import listen

    host, _, port = address.rpartition(":")
    try:
        return listen(host.strip("[]"), int(port))
    except (OSError, OverflowError):  # a port above 65535
        return None


def _url(address: str, config: Config) -> str:
    if address.startswith("unix:"):
        return address
    return f"{'https' if config.cluster.tls_cert_file else 'http'}://{address}"
