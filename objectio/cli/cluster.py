"""Commands about the cluster: which processes and OSDs there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cliff import columns

from objectio.cli.cells import Cell, Count, Flag, Size, Text, cells
from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Lister, Row, ShowOne


class Nodes(columns.FormattableColumn[Sequence[Mapping[str, Any]]]):
    """One line for each process."""

    def human_readable(self) -> str:
        return "\n".join(_line(node) for node in self._value)


_STATUS: Final[dict[str, Cell]] = {
    "cluster_id": Text,
    "state": Text,
    "reason": Text,
    "pool": Text,
    "epoch": Count,
    "nodes": Nodes,
}
_MAP: Final[dict[str, Cell]] = {
    "epoch": Count,
    "osd": Count,
    "weight": Text,
    "in": Flag,
    "host": Text,
    "rack": Text,
}
_TOPOLOGY: Final[dict[str, Cell]] = {
    "rack": Text,
    "host": Text,
    "osd": Count,
    "node": Text,
    "state": Text,
    "membership": Text,
    "weight": Text,
    "capacity_bytes": Size,
    "used_bytes": Size,
    "path": Text,
}


def _line(node: Mapping[str, Any]) -> str:
    words = [node["node"], f"({node['role']})", node["address"]]
    if not node["alive"]:
        words.append("NOT HEARD OF")
    osds = [
        f"{osd['osd']} {osd['state']}" + (f" ({osd['reason']})" if osd["reason"] else "")
        for osd in node["osds"]
    ]
    return " ".join(word for word in words if word) + (f": OSD {', '.join(osds)}" if osds else "")


class ClusterStatus(ShowOne):
    """Show the processes of the cluster, and whether it serves.

    `state` is `waiting` while objects cannot be served yet, and `reason` says what is waited for.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(connect(parsed_args).get("/cluster"), _STATUS)


class ClusterMap(Lister):
    """List the OSDs of the cluster map, by which objects are placed.

    Every change of it makes a new epoch. An OSD that is not `in` takes nothing new.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        said = connect(parsed_args).get("/cluster/map")
        rows = [
            {**osd, "osd": osd["id"], "in": osd["in_"], "epoch": said["epoch"]}
            for osd in said["osds"]
        ]
        return tuple(_MAP), [cells(row, _MAP)[1] for row in rows]


class ClusterTopology(Lister):
    """List the disks by where they stand: racks, the hosts in them, and the disks of each.

    The shards of an object are spread over what the pool takes as its failure domain, where there are
    enough of these. `node` is the process that has the disk.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        said = connect(parsed_args).get("/cluster/topology")
        rows = [
            {"rack": rack["rack"], "host": host["host"], **disk}
            for rack in said["racks"]
            for host in rack["hosts"]
            for disk in host["disks"]
        ]
        return tuple(_TOPOLOGY), [cells(row, _TOPOLOGY)[1] for row in rows]
