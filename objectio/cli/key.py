"""Commands about access keys of users. One that has a policy is the key of a service account."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any, Final

from objectio.cli.cells import Cell, Flag, Moment, Text, cells
from objectio.cli.command import Row
from objectio.cli.documents import Document, HasDocument, read_document, usage
from objectio.cli.identity import Names, One

_SHOWN: Final[dict[str, Cell]] = {
    "access_key": Text,
    "user": Text,
    "active": Flag,
    "created_ms": Moment,
    "expires_ms": Moment,
    "description": Text,
    "policy": Document,
}
_LISTED: Final[dict[str, Cell]] = {**_SHOWN, "policy": HasDocument}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_MOMENT_MS_MAX: Final = (
    253_402_300_799_999  # the end of the year 9999, the last that people can read
)
_SPAN: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)


def parse_moment_ms(text: str) -> int:
    """Unix milliseconds of `30d` from now, or of a date or time of ISO 8601; one without an offset is
    UTC. It is in the future."""
    import datetime
    import time

    now_ms = time.time_ns() // 1_000_000
    span = _SPAN.fullmatch(text)
    if span:
        moment_ms = now_ms + int(span[1]) * _SECONDS[span[2]] * 1_000
    else:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no time: say how long from now (30d, 12h, 90m), or when (2027-01-31)"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        moment_ms = int(moment.timestamp() * 1_000)
    if moment_ms <= now_ms:
        raise argparse.ArgumentTypeError(f"{text} has passed")
    if moment_ms > _MOMENT_MS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is too far away: without --expires it lasts")
    return moment_ms


class KeyList(Names):
    """List the access keys of a user.

    One with a policy of its own may do what that and those of the user both allow. One that has
    expired is as if it were not there.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("user", metavar="USER", help="the user's name")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        return self.rows(parsed_args, _LISTED, "users", parsed_args.user, "keys")


class KeyShow(One):
    """Show an access key with its policy. Its secret is shown by nothing."""

    takes = ("user", "key")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        from objectio.errors import NotFound

        for key in self.ask(parsed_args, "users", parsed_args.user, "keys")["keys"]:
            if key["access_key"] == parsed_args.key:
                return cells(key, _SHOWN)
        raise NotFound(f"user {parsed_args.user} has no access key {parsed_args.key}")


class KeyCreate(One):
    """Make an access key of a user, and show its secret: the only time.

    A user has two at most, so that a new one can take the place of an old one: make it, move clients
    over, disable the old one, delete it.

    With --policy it is the key of a service account: it may do what that policy and those of the user
    both allow, and never more than the user.
    """

    takes = ("user",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--policy",
            metavar="FILE",
            help="narrow it down to this document; - is the standard input",
        )
        parser.add_argument("--description", default="", metavar="TEXT", help="what it is for")
        parser.add_argument(
            "--expires",
            type=parse_moment_ms,
            default=0,
            metavar="WHEN",
            help="as 30d, 12h, or 2027-01-31 (default: it lasts)",
        )
        parser.add_argument("--access-key", default="", metavar="KEY", help="not one that is made")
        parser.add_argument("--secret-key", default="", metavar="SECRET", help="likewise")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said: dict[str, Any] = {
            "access_key": parsed_args.access_key,
            "secret_key": parsed_args.secret_key,
        }
        if parsed_args.policy is not None:
            said["policy"] = read_document(parsed_args.policy)
            if not said["policy"].strip():
                raise usage(
                    f"{parsed_args.policy} is empty: without --policy the key is the user's"
                )
        if parsed_args.description:
            said["description"] = parsed_args.description
        if parsed_args.expires:
            said["expires_ms"] = parsed_args.expires
        made = self.order(parsed_args, "users", parsed_args.user, "keys", said=said)
        return cells(made, {"access_key": Text, "secret_key": Text, **_SHOWN})


class _KeyOrder(One):
    takes = ("user", "key")
    verb = ""
    kinds: Mapping[str, Cell] = _SHOWN

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = self.order(
            parsed_args, "users", parsed_args.user, "keys", parsed_args.key, self.verb
        )
        return cells(said, self.kinds)


class KeyDelete(_KeyOrder):
    """Delete an access key for good."""

    verb = "delete"
    kinds = {"access_key": Text, "user": Text}


class KeyEnable(_KeyOrder):
    """Let an access key sign requests again."""

    verb = "enable"


class KeyDisable(_KeyOrder):
    """Let an access key sign nothing until it is enabled again."""

    verb = "disable"
