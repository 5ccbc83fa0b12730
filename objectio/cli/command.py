"""Base classes of commands: for ours and for those that plugins bring.

A plugin adds a command by an entry point of group "objectio.cli", whose name has underscores where
the command has spaces: `volume_create = "objectio_x.commands:VolumeCreate"`. The docstring of the
class is its help. Modules of commands should import at their top only what they need for that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


class ShowOne(_Quick, show.ShowOne):
    """Shows one thing: `take_action(parsed_args)` returns (names, values)."""


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
