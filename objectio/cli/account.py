"""Commands about accounts: who owns buckets and objects, and signs requests besides the root."""

from __future__ import annotations

import argparse
from typing import Final

from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Lister, Row, ShowOne

_COLUMNS: Final = ("id", "canonical_id", "display_name", "email")
_SECRETS: Final = ("access_key", "secret_key")


class AccountCreate(ShowOne):
    """Make an account with an access key of its root, and show the key: the only time.

    Whatever is not given is made. The name is for people; owners and ACLs name the canonical id.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--display-name", required=True, metavar="TEXT", help="its name")
        parser.add_argument("--id", default="", metavar="DIGITS", help="12 digits")
        parser.add_argument("--canonical-id", default="", metavar="TEXT", help="how ACLs name it")
        parser.add_argument("--email", default="", metavar="ADDRESS", help="for people")
        parser.add_argument("--access-key", default="", metavar="KEY", help="not one that is made")
        parser.add_argument("--secret-key", default="", metavar="SECRET", help="likewise")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        names = (*_COLUMNS, *_SECRETS)
        said = connect(parsed_args).post(
            "/accounts", {name: getattr(parsed_args, name) for name in names}
        )
        return names, tuple(said[name] for name in names)


class AccountList(Lister):
    """List the accounts. That of the root is not among them."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        accounts = connect(parsed_args).get("/accounts")["accounts"]
        return _COLUMNS, [tuple(account[name] for name in _COLUMNS) for account in accounts]


class AccountDelete(ShowOne):
    """Delete an account and the keys of its root.

    Refused while it owns buckets, or has users, groups, roles, policies or providers.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="its 12 digits")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        if not parsed_args.id.isalnum():
            from objectio.errors import ConfigError

            raise ConfigError(f"{parsed_args.id!r} is not the id of an account")
        said = connect(parsed_args).post(f"/accounts/{parsed_args.id}/delete")
        return _COLUMNS, tuple(said[name] for name in _COLUMNS)
