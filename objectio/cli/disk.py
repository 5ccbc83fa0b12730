"""Commands about disks: what is on each, and putting one in place of another."""

from __future__ import annotations

import argparse
from typing import Any, Final

from objectio.cli.cells import Cell, Count, Flag, Size, Text, cells
from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Lister, Row, ShowOne

_SHOWN: Final[dict[str, Cell]] = {
    "osd": Count,
    "path": Text,
    "host": Text,
    "rack": Text,
    "weight": Text,
    "state": Text,
    "reason": Text,
    "membership": Text,
    "device_id": Text,
    "refilling": Flag,
    "journal": Flag,
    "slow": Flag,
    "groups": Count,
    "capacity_bytes": Size,
    "used_bytes": Size,
    "live_bytes": Size,
    "shards": Count,
    "cache_bytes": Size,
    "cache_hits": Count,
    "cache_misses": Count,
}
_LISTED: Final = (
    *("osd", "state", "membership", "capacity_bytes", "used_bytes", "live_bytes", "shards"),
    *("groups", "refilling", "journal", "slow", "path"),
)


class DiskList(Lister):
    """List the disks: their state, what is on them, and what is being done about them.

    `up` takes reads and writes, `full` deletions only, `failed` reads only. `objectio disk show` says
    why one is down.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        disks = connect(parsed_args).get("/disks")["disks"]
        kinds = {name: _SHOWN[name] for name in _LISTED}
        return _LISTED, [cells(disk, kinds)[1] for disk in disks]


class _OneDisk(ShowOne):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("osd", type=int, metavar="OSD", help="its number")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.ask(parsed_args), _SHOWN)

    def ask(self, parsed_args: argparse.Namespace) -> Any:
        raise NotImplementedError


class DiskShow(_OneDisk):
    """Show one disk: where it is, why it is down, what is on it."""

    def ask(self, parsed_args: argparse.Namespace) -> Any:
        return connect(parsed_args).get(f"/disks/{parsed_args.osd}")


class _Order(_OneDisk):
    order = ""

    def ask(self, parsed_args: argparse.Namespace) -> Any:
        return connect(parsed_args).post(f"/disks/{parsed_args.osd}/{self.order}")


class DiskReplace(_Order):
    """Take the blank disk that is now at the OSD's path into service, and refill it.

    Put the new disk where the old one was first: mount its empty file system there, or plug it in.
    Refused while the old one is in service, and if the disk there holds anything.
    """

    order = "replace"


class DiskDrain(_Order):
    """Move everything off a disk, which stays readable until that is done."""

    order = "drain"


class DiskUndrain(_Order):
    """Let a disk that is draining, drained or removed take data again."""

    order = "undrain"


class DiskRemove(_Order):
    """Declare a disk that is down as gone for good: its shards are made anew on the others."""

    order = "remove"
