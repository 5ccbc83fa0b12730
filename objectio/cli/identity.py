"""Commands about users and groups of them, of one account."""

from __future__ import annotations

import argparse
from typing import Any, Final

from objectio.cli.cells import Cell, Items, Moment, Text, cells
from objectio.cli.client import add_client_arguments, connect, escape
from objectio.cli.command import Lister, Row, ShowOne

ROOT_ACCOUNT: Final = "000000000000"
_ONE: Final[dict[str, Cell]] = {
    "account": Text,
    "name": Text,
    "path": Text,
    "id": Text,
    "arn": Text,
    "created_ms": Moment,
}
_LISTED: Final[dict[str, Cell]] = {
    name: _ONE[name] for name in ("name", "path", "arn", "created_ms")
}
_USER: Final[dict[str, Cell]] = {
    **_ONE,
    "groups": Items,
    "policies": Items,
    "inline_policies": Items,
    "keys": Items,
}
_GROUP: Final[dict[str, Cell]] = {
    **_ONE,
    "users": Items,
    "policies": Items,
    "inline_policies": Items,
}


def add_account_arguments(parser: argparse.ArgumentParser) -> None:
    """`--account`, and where the server is."""
    parser.add_argument(
        "--account", default=ROOT_ACCOUNT, metavar="ID", help="not the root's (12 digits)"
    )
    add_client_arguments(parser)


def account_path(parsed_args: argparse.Namespace, *segments: str) -> str:
    """Below the account, of segments that are names or words."""
    from objectio.errors import ConfigError

    account = parsed_args.account
    if not (len(account) == 12 and account.isascii() and account.isdigit()):
        raise ConfigError(f"{account!r} is not the id of an account: it has 12 digits")
    if not all(segments):
        raise ConfigError("a name is not empty")
    return "/".join(("/accounts", account, *(escape(segment) for segment in segments)))


class Names(Lister):
    """Rows of an account."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_account_arguments(parser)
        return parser

    def rows(
        self, parsed_args: argparse.Namespace, kinds: dict[str, Cell], *segments: str
    ) -> tuple[tuple[str, ...], list[Row]]:
        path = account_path(parsed_args, *segments)
        found = connect(parsed_args).get(path)[segments[-1]]
        return tuple(kinds), [cells(each, kinds)[1] for each in found]


class One(ShowOne):
    """One of an account, or two that are put together."""

    takes: tuple[str, ...] = ()
    helps: Final = {
        "user": "the user's name",
        "group": "the group's name",
        "key": "the access key",
        "role": "the role's name",
    }

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        for word in self.takes:
            parser.add_argument(word, metavar=word.upper(), help=self.helps[word])
        add_account_arguments(parser)
        return parser

    def ask(self, parsed_args: argparse.Namespace, *segments: str) -> Any:
        return connect(parsed_args).get(account_path(parsed_args, *segments))

    def order(self, parsed_args: argparse.Namespace, *segments: str, said: Any = None) -> Any:
        return connect(parsed_args).post(account_path(parsed_args, *segments), said)


class _New(One):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--path", default="/", metavar="PATH", help="in its ARN, as /staff/")
        return parser


# Users.


class UserList(Names):
    """List the users of an account."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        return self.rows(parsed_args, _LISTED, "users")


class UserCreate(_New):
    """Make a user, who may do nothing until a policy allows it.

    `objectio key create USER` makes its access key, `objectio policy attach` gives it a policy.
    """

    takes = ("user",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = {"name": parsed_args.user, "path": parsed_args.path}
        return cells(self.order(parsed_args, "users", said=said), _ONE)


class UserShow(One):
    """Show a user: its groups, policies and access keys."""

    takes = ("user",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = self.ask(parsed_args, "users", parsed_args.user)
        keys = [key["access_key"] for key in said["keys"]]
        return cells({**said, "keys": keys}, _USER)


class _Update(One):
    """`takes` is what is changed."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--name", metavar="NAME", help="its new name")
        parser.add_argument("--path", metavar="PATH", help="in its ARN, as /staff/")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        from objectio.errors import ConfigError

        wanted = {"name": parsed_args.name, "path": parsed_args.path}
        said = {name: value for name, value in wanted.items() if value is not None}
        if not said or not all(said.values()):
            raise ConfigError("say what to change: --name NAME, --path PATH, or both")
        (kind,) = self.takes
        path = (f"{kind}s", getattr(parsed_args, kind), "update")
        return cells(self.order(parsed_args, *path, said=said), _ONE)


class UserUpdate(_Update):
    """Give a user another name, or another path in its ARN.

    Its keys, groups and policies stay. Policies that name it by its ARN do not follow: they are about
    whoever has that name.
    """

    takes = ("user",)


class UserDelete(One):
    """Delete a user. Refused while it has access keys or policies or is in a group."""

    takes = ("user",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.order(parsed_args, "users", parsed_args.user, "delete"), _ONE)


# Groups.


class GroupList(Names):
    """List the groups of an account."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        return self.rows(parsed_args, _LISTED, "groups")


class GroupCreate(_New):
    """Make a group, whose policies are those of the users in it."""

    takes = ("group",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = {"name": parsed_args.group, "path": parsed_args.path}
        return cells(self.order(parsed_args, "groups", said=said), _ONE)


class GroupShow(One):
    """Show a group: its users and policies."""

    takes = ("group",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.ask(parsed_args, "groups", parsed_args.group), _GROUP)


class GroupUpdate(_Update):
    """Give a group another name, or another path in its ARN.

    Its users and policies stay. Policies that name it by its ARN do not follow.
    """

    takes = ("group",)


class GroupDelete(One):
    """Delete a group. Refused while it has users or policies."""

    takes = ("group",)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(self.order(parsed_args, "groups", parsed_args.group, "delete"), _ONE)


class _Membership(One):
    takes = ("group", "user")
    verb = ""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        said = self.order(
            parsed_args, "groups", parsed_args.group, "users", parsed_args.user, self.verb
        )
        return cells(said, _GROUP)


class GroupAddUser(_Membership):
    """Put a user into a group."""

    verb = "add"


class GroupRemoveUser(_Membership):
    """Take a user out of a group."""

    verb = "remove"


class GroupUserGroups(Names):
    """List the groups that a user is in."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("user", metavar="USER", help="the user's name")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        return self.rows(parsed_args, _LISTED, "users", parsed_args.user, "groups")
