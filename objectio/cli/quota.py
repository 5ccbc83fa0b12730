"""Commands about quotas: what a bucket, or an account, may hold."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from objectio.cli.cells import Cell, Count, CountMax, Size, SizeMax, cells
from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Row, ShowOne
from objectio.cli.osd import parse_size

_SHOWN: Final[dict[str, Cell]] = {
    "bytes_max": SizeMax,
    "bytes": Size,
    "objects_max": CountMax,
    "objects": Count,
}
_NAME: Final = re.compile(r"[a-zA-Z0-9.-]+")


class _Quota(ShowOne):
    what = ""
    path = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar=self.what.upper(), help=f"the {self.what}")
        parser.add_argument(
            "--bytes", type=parse_size, metavar="SIZE", help="at most so much, as in 20GiB"
        )
        parser.add_argument("--objects", type=int, metavar="N", help="at most so many objects")
        parser.add_argument("--none", action="store_true", help="no quota any more")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        wanted = _wanted(parsed_args)
        if not _NAME.fullmatch(parsed_args.name):
            raise _usage(f"{parsed_args.name!r} names no {self.what}")
        path = f"{self.path}/{parsed_args.name}/quota"
        client = connect(parsed_args)
        said: Any = client.get(path) if wanted is None else client.post(path, wanted)
        return cells(said, _SHOWN)


class BucketQuota(_Quota):
    """Show what a bucket may hold and holds, or set it.

    All versions count, and the parts of uploads. What is not bounded by --bytes and --objects is not
    bounded any more; 0 says so. What it holds is counted from time to time.
    """

    what, path = "bucket", "/buckets"


class AccountQuota(_Quota):
    """Show what all buckets of an account, named by its id, may hold and hold, or set it.

    That of the root is 000000000000. What is not bounded by --bytes and --objects is not bounded any
    more.
    """

    what, path = "account", "/accounts"


def _wanted(parsed_args: argparse.Namespace) -> dict[str, int] | None:
    """What to set; None: nothing."""
    if parsed_args.none:
        if parsed_args.bytes is not None or parsed_args.objects is not None:
            raise _usage("--none, or --bytes and --objects: not both")
        return {"bytes_max": 0, "objects_max": 0}
    if parsed_args.bytes is None and parsed_args.objects is None:
        return None
    if parsed_args.objects is not None and parsed_args.objects < 1:
        raise _usage("--objects N: at least 1")
    return {"bytes_max": parsed_args.bytes or 0, "objects_max": parsed_args.objects or 0}


def _usage(sentence: str) -> Exception:
    from objectio.errors import ConfigError

    return ConfigError(sentence)
