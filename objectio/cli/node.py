"""Commands about nodes, which are the processes of a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cliff import columns

from objectio.cli.cells import Cell, Count, Flag, Items, Moment, Size, Text, cells
from objectio.cli.client import add_client_arguments, connect, escape
from objectio.cli.command import Lister, Row, ShowOne

_SHOWN: Final[dict[str, Cell]] = {
    "node": Text,
    "roles": Text,
    "address": Text,
    "alive": Flag,
    "seen_ms": Moment,
    "hosts": Items,
    "osds": Items,
    "membership": Text,
    "disks_up": Count,
    "capacity_bytes": Size,
    "used_bytes": Size,
}
_LISTED: Final = (
    *("node", "roles", "address", "alive", "membership"),
    *("osds", "disks_up", "capacity_bytes", "used_bytes"),
)


class Disks(columns.FormattableColumn[Sequence[Mapping[str, Any]]]):
    """One line for each disk."""

    def human_readable(self) -> str:
        return "\n".join(_line(disk) for disk in self._value)


def _line(disk: Mapping[str, Any]) -> str:
    reason = f" ({disk['reason']})" if disk["reason"] else ""
    return f"OSD {disk['osd']} {disk['state']}{reason}, {disk['membership']}: {disk['path']}"


class NodeList(Lister):
    """List the nodes: the processes of the cluster, and how they are.

    A node is found by its name. `alive` says whether it was heard of lately, `membership` whether its
    disks take new data (`in`), are emptied (`draining`) or empty (`out`).
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        nodes = connect(parsed_args).get("/nodes")["nodes"]
        kinds = {name: _SHOWN[name] for name in _LISTED}
        return _LISTED, [cells(node, kinds)[1] for node in nodes]


class _OneNode(ShowOne):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("node", metavar="NODE", help="its name")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        if not parsed_args.node:
            from objectio.errors import ConfigError

            raise ConfigError("a name is not empty")
        path = f"/nodes/{escape(parsed_args.node)}"
        return cells(self.ask(parsed_args, path), {**_SHOWN, "disks": Disks})

    def ask(self, parsed_args: argparse.Namespace, path: str) -> Any:
        raise NotImplementedError


class NodeShow(_OneNode):
    """Show one node with its disks."""

    def ask(self, parsed_args: argparse.Namespace, path: str) -> Any:
        return connect(parsed_args).get(path)


class NodeDrain(_OneNode):
    """Move everything off all disks of a node, which stay readable until that is done.

    Refused, and nothing is changed, if what remains would be too few disks. `objectio rebalance status`
    shows how far it is; once `objectio node show` says `out`, the node may be taken away.
    """

    def ask(self, parsed_args: argparse.Namespace, path: str) -> Any:
        return connect(parsed_args).post(f"{path}/drain")


class NodeUndrain(_OneNode):
    """Let all disks of a node take data again."""

    def ask(self, parsed_args: argparse.Namespace, path: str) -> Any:
        return connect(parsed_args).post(f"{path}/undrain")
