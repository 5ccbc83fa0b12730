"""Commands about roles of accounts, which others take on for a while (`sts:AssumeRole`). Those of
processes are in `objectio.cli.roles`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from objectio.cli.cells import Cell, Count, Items, Moment, Named, Text, cells
from objectio.cli.command import Row
from objectio.cli.documents import Document, key_values, read_document, usage
from objectio.cli.identity import Names, One

_ONE: Final[dict[str, Cell]] = {
    "account": Text,
    "name": Text,
    "path": Text,
    "id": Text,
    "arn": Text,
    "created_ms": Moment,
    "description": Text,
    "session_seconds_max": Count,
}
_LISTED: Final[dict[str, Cell]] = {
    name: _ONE[name] for name in ("name", "path", "arn", "created_ms", "description")
}
_WHOLE: Final[dict[str, Cell]] = {
    **_ONE,
    "tags": Named,
    "policies": Items,
    "inline_policies": Items,
    "trust_policy": Document,
}


class RoleList(Names):
    """List the roles of an account."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        return self.rows(parsed_args, _LISTED, "roles")


class RoleShow(One):
    """Show a role: who may take it on, and its policies."""

    takes = ("role",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.ask(parsed_args, "roles", parsed_args.role), _WHOLE)


class _Given(One):
    takes = ("role",)
    trust_required = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--trust",
            metavar="FILE",
            required=self.trust_required,
            help="the document that says who may take it on; - is the standard input",
        )
        parser.add_argument("--description", metavar="TEXT", help="what it is for")
        parser.add_argument(
            "--session-seconds-max",
            type=int,
            metavar="N",
            help="how long one may have it at a time (3600 to 43200; 3600 unless told)",
        )
        return parser

    def given(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """What the options say, by the names that the server has for it."""
        found = {
            "trust_policy": parsed_args.trust and read_document(parsed_args.trust),
            "description": parsed_args.description,
            "session_seconds_max": parsed_args.session_seconds_max,
        }
        return {name: value for name, value in found.items() if value is not None}


class RoleCreate(_Given):
    """Make a role, which may do nothing until a policy allows it.

    The trust policy is a document in JSON whose statements have a Principal, and allow it
    sts:AssumeRole. `objectio policy attach --role` gives the role a policy.
    """

    trust_required = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--path", default="/", metavar="PATH", help="in its ARN, as /staff/")
        parser.add_argument(
            "--tag", action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = {
            "name": parsed_args.role,
            "path": parsed_args.path,
            "tags": dict(key_values(parsed_args.tag, "--tag")),
            **self.given(parsed_args),
        }
        return cells(self.order(parsed_args, "roles", said=said), _WHOLE)


class RoleUpdate(_Given):
    """Change who may take a role on, its description, or how long one may have it."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = self.given(parsed_args)
        if not said:
            raise usage("say what to change: --trust, --description or --session-seconds-max")
        return cells(
            self.order(parsed_args, "roles", parsed_args.role, "update", said=said), _WHOLE
        )


class RoleDelete(One):
    """Delete a role. Refused while it has policies."""

    takes = ("role",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.order(parsed_args, "roles", parsed_args.role, "delete"), _ONE)
