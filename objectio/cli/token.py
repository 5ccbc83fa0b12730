"""Bearer tokens: what stands in place of a signature for some minutes."""

from __future__ import annotations

import argparse
from typing import Final

from objectio.cli.cells import Cell, Moment, Text, cells
from objectio.cli.client import TOKEN_VARIABLE, add_client_arguments, connect
from objectio.cli.command import Row, ShowOne
from objectio.cli.documents import usage

_SECONDS_MIN: Final = 60
_SECONDS_MAX: Final = 3_600
_SHOWN: Final[dict[str, Cell]] = {"access_key": Text, "expires_ms": Moment, "token": Text}


class TokenCreate(ShowOne):
    """Make a bearer token of whoever asks, and show it: the only time.

    Whoever has it may administer what the access key may, for so many seconds and as long as the key is
    good. It goes into the header `Authorization: Bearer …`, or into OBJECTIO_TOKEN for the commands that
    administer; objects are not had by it. Where there is no TLS it can be read on the way.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--seconds", type=int, default=900, metavar="N", help="60 to 3600 (default: 900)"
        )
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        if not _SECONDS_MIN <= parsed_args.seconds <= _SECONDS_MAX:
            raise usage(f"--seconds N: {_SECONDS_MIN} to {_SECONDS_MAX}")
        client = connect(parsed_args)
        if client.keys is not None and client.keys.bearer:
            raise usage(
                f"a token makes no token: unset {TOKEN_VARIABLE}, so that the request is signed"
            )
        return cells(client.post("/tokens", {"seconds": parsed_args.seconds}), _SHOWN)
