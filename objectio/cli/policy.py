"""Commands about policies: what users, groups and roles may do, and what a policy would say."""

from __future__ import annotations

import argparse
from typing import Any, Final

from objectio.cli.cells import Cell, Flag, Items, Moment, Text, cells
from objectio.cli.client import connect
from objectio.cli.command import Lister, Row, ShowOne
from objectio.cli.documents import Document, key_values, read_document, usage
from objectio.cli.identity import account_path, add_account_arguments

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


_HELD: Final[dict[str, Cell]] = {"name": Text, "arn": Text, "inline": Flag}
_INLINE: Final[dict[str, Cell]] = {"name": Text, "account": Text, "kind": Text, "holder": Text}
_HOLDERS: Final = ("user", "group", "role")


def _add_holder(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """`--user`, `--group` and `--role`, of which one may be given, or must."""
    holder = parser.add_mutually_exclusive_group(required=required)
    for kind in _HOLDERS:
        holder.add_argument(f"--{kind}", metavar=kind.upper(), help=f"the {kind}'s name")


def _holder(parsed_args: argparse.Namespace) -> tuple[str, str] | None:
    """(kind, name) of who is meant."""
    for kind in _HOLDERS:
        name = getattr(parsed_args, kind)
        if name is not None:
            return kind, name
    return None


class PolicyList(Lister):
    """List the policies of an account, and those that are there from the beginning.

    With --user, --group or --role: those that it has. Such as are its alone ("inline") have no ARN.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_holder(parser)
        add_account_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        holder = _holder(parsed_args)
        if holder is None:
            found = connect(parsed_args).get(account_path(parsed_args, "policies"))["policies"]
            return tuple(_LISTED), [cells(each, _LISTED)[1] for each in found]
        kind, name = holder
        said = connect(parsed_args).get(account_path(parsed_args, f"{kind}s", name))
        rows = [
            {"name": arn.rpartition("/")[2], "arn": arn, "inline": False}
            for arn in said["policies"]
        ]
        rows += [{"name": each, "arn": "", "inline": True} for each in said["inline_policies"]]
        return tuple(_HELD), [cells(row, _HELD)[1] for row in rows]


class _One(ShowOne):
    help = "its name or its ARN"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("policy", metavar="POLICY", help=self.help)
        add_account_arguments(parser)
        return parser


class _OneOrInline(_One):
    """Of the account; or, with a holder, of that alone."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_holder(parser)
        return parser

    @staticmethod
    def path(parsed_args: argparse.Namespace, *verb: str) -> str:
        holder = _holder(parsed_args)
        if holder is None:
            return account_path(parsed_args, "policies", parsed_args.policy, *verb)
        return _inline_path(parsed_args, holder, *verb)


def _inline_path(parsed_args: argparse.Namespace, holder: tuple[str, str], *verb: str) -> str:
    kind, name = holder
    return account_path(parsed_args, f"{kind}s", name, "inline-policies", parsed_args.policy, *verb)


class PolicyShow(_OneOrInline):
    """Show a policy with its document.

    With --user, --group or --role: the one of that name that is its alone.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        kinds = {**_INLINE, "document": Document} if _holder(parsed_args) else _WHOLE
        return cells(connect(parsed_args).get(self.path(parsed_args)), kinds)


class PolicyCreate(_One):
    """Make a policy of a document in JSON, which says what its holders may do.

    `objectio policy attach` gives it to them, `objectio policy put` writes one for a single holder.
    """

    help = "its name"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the document; - is the standard input")
        parser.add_argument("--description", default="", metavar="TEXT", help="what it is for")
        parser.add_argument("--path", default="/", metavar="PATH", help="in its ARN, as /staff/")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = {
            "name": parsed_args.policy,
            "document": read_document(parsed_args.file),
            "description": parsed_args.description,
            "path": parsed_args.path,
        }
        path = account_path(parsed_args, "policies")
        return cells(connect(parsed_args).post(path, said), _WHOLE)


class PolicyPut(_One):
    """Put a policy into one user, group or role alone, in place of its one of that name.

    Such a policy ("inline") can be given to nobody else. `objectio policy show`, `list` and `delete` find
    it with the same --user, --group or --role.
    """

    help = "its name"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the document; - is the standard input")
        _add_holder(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        holder = _holder(parsed_args)
        assert holder is not None
        said = {"document": read_document(parsed_args.file)}
        path = _inline_path(parsed_args, holder)
        return cells(connect(parsed_args).post(path, said), {**_INLINE, "document": Document})


class PolicyDelete(_OneOrInline):
    """Delete a policy. Refused while anyone has it.

    With --user, --group or --role: the one of that name that is its alone.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        kinds = _INLINE if _holder(parsed_args) else _SHOWN
        return cells(connect(parsed_args).post(self.path(parsed_args, "delete")), kinds)


class _ToHolder(_One):
    verb = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_holder(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        holder = _holder(parsed_args)
        assert holder is not None
        kind, name = holder
        path = account_path(
            parsed_args, f"{kind}s", name, "policies", parsed_args.policy, self.verb
        )
        return cells(connect(parsed_args).post(path), {kind: Text, "policies": Items})


class PolicyAttach(_ToHolder):
    """Give a policy to a user, a group or a role."""

    verb = "attach"


class PolicyDetach(_ToHolder):
    """Take a policy away from a user, a group or a role."""

    verb = "detach"


class PolicySimulate(Lister):
    """Show what policies would say to requests, without making them.

    The policies are all that a user and its groups have, documents in files, or both together. With --key:
    what whoever signs with that access key may do, whose own policy must allow it, too. Exit code 0 says
    that everything is allowed, 4 that something is not. Resources are taken as those of the user's own
    account; the policy of a bucket counts if it is given.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--user", default="", metavar="USER", help="the user's name")
        parser.add_argument("--key", default="", metavar="KEY", help="an access key, of any user")
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
        if not (parsed_args.user or parsed_args.key or parsed_args.document):
            raise usage("say whose policies: --user USER, --key KEY or --document FILE")
        said: dict[str, Any] = {
            "user": parsed_args.user,
            "key": parsed_args.key,
            "documents": [read_document(file) for file in parsed_args.document],
            "actions": parsed_args.action,
            "resources": parsed_args.resource or ["*"],
            "context": _context(parsed_args.context),
        }
        if parsed_args.bucket_policy:
            said["resource_policy"] = read_document(parsed_args.bucket_policy)
        found = connect(parsed_args).post(account_path(parsed_args, "simulate"), said)["results"]
        self._all_allowed = all(each["allowed"] for each in found)
        return tuple(_RESULT), [cells(each, _RESULT)[1] for each in found]


def _context(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in key_values(words, "--context"):
        found.setdefault(key, []).append(value)
    return found
