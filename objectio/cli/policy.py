"""Commands about policies: what users and groups may do, and what a policy would say."""

from __future__ import annotations

import argparse
from typing import Any, Final

from cliff import columns

from objectio.cli.cells import Cell, Flag, Items, Moment, Text, cells
from objectio.cli.client import connect
from objectio.cli.command import Lister, Row, ShowOne
from objectio.cli.identity import account_path, add_account_arguments


class Document(columns.FormattableColumn[Any]):
    """A policy: written out for people, as it is for programs."""

    def human_readable(self) -> str:
        import json

        return json.dumps(self._value, indent=2)


_LISTED: Final[dict[str, Cell]] = {"name": Text, "arn": Text, "built_in": Flag, "description": Text}
_SHOWN: Final[dict[str, Cell]] = {
    "name": Text,
    "arn": Text,
    "id": Text,
    "built_in": Flag,
    "created_ms": Moment,
    "description": Text,
}
_WHOLE: Final[dict[str, Cell]] = {**_SHOWN, "document": Document}
_RESULT: Final[dict[str, Cell]] = {
    "action": Text,
    "resource": Text,
    "allowed": Flag,
    "reason": Text,
    "policies": Items,
}


class PolicyList(Lister):
    """List the policies of an account, and those that are there from the beginning.

    Those of single users and groups ("inline") are shown at these.
    """

    need_sort_by_cliff = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_account_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        found = connect(parsed_args).get(account_path(parsed_args, "policies"))["policies"]
        return tuple(_LISTED), [cells(each, _LISTED)[1] for each in found]


class _One(ShowOne):
    help = "its name or its ARN"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("policy", metavar="POLICY", help=self.help)
        add_account_arguments(parser)
        return parser


class PolicyShow(_One):
    """Show a policy with its document."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        path = account_path(parsed_args, "policies", parsed_args.policy)
        return cells(connect(parsed_args).get(path), _WHOLE)


class PolicyCreate(_One):
    """Make a policy of a document in JSON, which says what its holders may do."""

    help = "its name"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the document; - is the standard input")
        parser.add_argument("--description", default="", metavar="TEXT")
        parser.add_argument("--path", default="/", metavar="PATH", help="in its ARN, as /staff/")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = {
            "name": parsed_args.policy,
            "document": _read(parsed_args.file),
            "description": parsed_args.description,
            "path": parsed_args.path,
        }
        path = account_path(parsed_args, "policies")
        return cells(connect(parsed_args).post(path, said), _WHOLE)


class PolicyDelete(_One):
    """Delete a policy. Refused while anyone has it."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        path = account_path(parsed_args, "policies", parsed_args.policy, "delete")
        return cells(connect(parsed_args).post(path), _SHOWN)


class _ToHolder(_One):
    verb = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        holder = parser.add_mutually_exclusive_group(required=True)
        holder.add_argument("--user", metavar="USER", help="the user's name")
        holder.add_argument("--group", metavar="GROUP", help="the group's name")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        kind = "group" if parsed_args.user is None else "user"
        holder = (f"{kind}s", getattr(parsed_args, kind))
        path = account_path(parsed_args, *holder, "policies", parsed_args.policy, self.verb)
        return cells(connect(parsed_args).post(path), {kind: Text, "policies": Items})


class PolicyAttach(_ToHolder):
    """Give a policy to a user or a group."""

    verb = "attach"


class PolicyDetach(_ToHolder):
    """Take a policy away from a user or a group."""

    verb = "detach"


class PolicySimulate(Lister):
    """Show what policies would say to requests, without making them.

    The policies are all that a user and its groups have, documents in files, or both together. Exit code
    0 says that everything is allowed, 4 that something is not. Resources are taken as those of the
    user's own account; the policy of a bucket counts if it is given.
    """

    need_sort_by_cliff = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--user", default="", metavar="USER", help="the user's name")
        parser.add_argument(
            "--document", action="append", default=[], metavar="FILE", help="a policy in JSON"
        )
        parser.add_argument("--bucket-policy", metavar="FILE", help="the policy at the resource")
        parser.add_argument(
            "--action", action="append", required=True, metavar="ACTION", help="as s3:GetObject"
        )
        parser.add_argument(
            "--resource", action="append", metavar="ARN", help="as arn:aws:s3:::bucket/key"
        )
        parser.add_argument(
            "--context",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="what conditions ask for, as aws:SourceIp=10.0.0.7",
        )
        add_account_arguments(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        from objectio.cli.app import EXIT_DENIED

        self._all_allowed = True
        code: int = super().run(parsed_args)
        return code or (0 if self._all_allowed else EXIT_DENIED)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        if not parsed_args.user and not parsed_args.document:
            raise _usage("say whose policies: --user USER, or --document FILE, or both")
        said: dict[str, Any] = {
            "user": parsed_args.user,
            "documents": [_read(file) for file in parsed_args.document],
            "actions": parsed_args.action,
            "resources": parsed_args.resource or ["*"],
            "context": _context(parsed_args.context),
        }
        if parsed_args.bucket_policy:
            said["resource_policy"] = _read(parsed_args.bucket_policy)
        found = connect(parsed_args).post(account_path(parsed_args, "simulate"), said)["results"]
        self._all_allowed = all(each["allowed"] for each in found)
        return tuple(_RESULT), [cells(each, _RESULT)[1] for each in found]


def _context(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        key, given, value = word.partition("=")
        if not given or not key:
            raise _usage(f"--context KEY=VALUE, not {word!r}")
        found.setdefault(key, []).append(value)
    return found


def _read(file: str) -> str:
    import sys
    from pathlib import Path

    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        raise _usage(f"{file} is not text in UTF-8") from None


def _usage(sentence: str) -> Exception:
    from objectio.errors import ConfigError

    return ConfigError(sentence)
