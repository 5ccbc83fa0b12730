"""Commands about buckets, whoever owns them. That about their quotas is in `objectio.cli.quota`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from objectio.cli.cells import Cell, Count, CountMax, Flag, Moment, Size, SizeMax, Text, cells
from objectio.cli.client import add_client_arguments, connect, escape
from objectio.cli.command import Lister, Row, ShowOne

_SHOWN: Final[dict[str, Cell]] = {
    "name": Text,
    "account": Text,
    "owner": Text,
    "created_ms": Moment,
    "region": Text,
    "versioning": Text,
    "object_lock": Flag,
    "bytes": Size,
    "bytes_max": SizeMax,
    "objects": Count,
    "objects_max": CountMax,
    "counted_ms": Moment,
}
_LISTED: Final = (
    *("name", "account", "created_ms", "versioning"),
    *("bytes", "bytes_max", "objects", "objects_max"),
)
_MADE: Final = ("name", "account", "owner", "created_ms", "region", "versioning", "object_lock")


def _shown(said: Any, names: tuple[str, ...] = tuple(_SHOWN)) -> tuple[tuple[str, ...], Row]:
    return cells(said, {name: _SHOWN[name] for name in names})


class BucketList(Lister):
    """List the buckets of all accounts.

    What one holds is counted now and then, if it has a quota. `objectio bucket show` counts others, too.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--account", metavar="ID", help="only those of this account")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        found = connect(parsed_args).get("/buckets")["buckets"]
        wanted = parsed_args.account
        return _LISTED, [
            _shown(each, _LISTED)[1] for each in found if wanted in (None, each["account"])
        ]


class _OneBucket(ShowOne):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="BUCKET", help="the bucket")
        add_client_arguments(parser)
        return parser


class BucketShow(_OneBucket):
    """Show one bucket: whose it is, what it holds and may hold.

    All versions count, and the parts of uploads. Without a quota they are counted now, unless they are
    more than about 100,000.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return _shown(connect(parsed_args).get(f"/buckets/{_name(parsed_args)}"))


class BucketCreate(_OneBucket):
    """Make a bucket, of the root's account unless told otherwise."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--account", metavar="ID", help="whose it is to be")
        parser.add_argument(
            "--object-lock",
            action="store_true",
            help="versions can be locked against deletion; turns versioning on",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        wanted = {"name": _name(parsed_args), "object_lock": parsed_args.object_lock}
        if parsed_args.account:
            wanted["account"] = parsed_args.account
        return _shown(connect(parsed_args).post("/buckets", wanted), _MADE)


class BucketDelete(_OneBucket):
    """Delete a bucket. Refused while it holds any object, version or upload."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = connect(parsed_args).post(f"/buckets/{_name(parsed_args)}/delete")
        return _shown(said, _MADE)


def _name(parsed_args: argparse.Namespace) -> str:
    from objectio.errors import ConfigError

    name: str = parsed_args.name
    if escape(name) != name or not name:
        raise ConfigError(f"{name!r} names no bucket")
    return name
