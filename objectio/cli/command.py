"""Base classes of commands: for ours and for those that plugins bring.

A plugin adds a command by an entry point of group "objectio.cli", whose name has underscores where
the command has spaces: `volume_create = "objectio_x.commands:VolumeCreate"`. The docstring of the
class is its help. Modules of commands should import at their top only what they need for that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, NoReturn

from cliff import columns, command, lister, show

if TYPE_CHECKING:
    from cliff.app import App


def one_sentence(parser: argparse.ArgumentParser) -> None:
    """Have it say what is wrong as everything else does, without the usage."""

    def error(message: str) -> NoReturn:
        parser.exit(2, f"objectio: {message}; see `{parser.prog} --help`\n")

    parser.error = error  # type: ignore[method-assign]


class _Quick(command.Command):
    """Cliff's command without what costs time at each start: extensions of single commands, and
    reading the file lists of every installed distribution to find out who provides this one."""

    app: App

    def _load_hooks(self) -> None:
        self._hooks = []

    def get_epilog(self) -> str:
        found = self.app.command_manager.commands.get(self.cmd_name or "")
        dist = found.dist if isinstance(found, EntryPoint) else None
        if dist is None or dist.name == "objectio":
            return ""
        return f"This command is provided by the plugin {dist.name}."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.allow_abbrev = False
        one_sentence(parser)
        return parser


class Command(_Quick):
    """Does something: `take_action(parsed_args)` returns an exit code, or None for 0."""


class Lister(_Quick, lister.Lister):
    """Shows rows: `take_action(parsed_args)` returns (column names, rows)."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        _check_columns(parsed_args, column_names)
        code: int = super().produce_output(parsed_args, column_names, data)
        return code


class ShowOne(_Quick, show.ShowOne):
    """Shows one thing: `take_action(parsed_args)` returns (names, values)."""

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[Any]
    ) -> int:
        _check_columns(parsed_args, column_names)
        code: int = super().produce_output(parsed_args, column_names, data)
        return code


def _check_columns(parsed_args: argparse.Namespace, names: Sequence[str]) -> None:
    """Cliff leaves out what it does not know, and a script would take one column for another."""
    from objectio.errors import ConfigError

    known = {_normal(name) for name in names}
    for column in parsed_args.columns:
        if _normal(column) not in known:
            raise ConfigError(f"there is no column {column!r}; there are {', '.join(names)}")


def _normal(name: str) -> str:
    return name.lower().strip().replace(" ", "_")


class Words(columns.FormattableColumn[Sequence[str]]):
    """A cell with several words: separated by commas for people, a list for programs."""

    def human_readable(self) -> str:
        return ", ".join(self._value)

    def machine_readable(self) -> list[str]:
        return list(self._value)


class Lines(columns.FormattableColumn[Sequence[str]]):
    """A cell with several lines."""

    def human_readable(self) -> str:
        return "\n".join(self._value)

    def machine_readable(self) -> list[str]:
        return list(self._value)


Row = tuple[Any, ...]
