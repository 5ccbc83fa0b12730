"""`objectio --help` and `objectio help`: the commands with a line about each, or one of them in full.

Cliff's own lets names of more than 13 letters push their lines out of the column.
"""

from __future__ import annotations

import argparse
import shutil
import textwrap
from importlib.metadata import EntryPoint
from typing import Any, Final

from autopage.argparse import help_pager

from objectio.cli.command import Command
from objectio.errors import ObjectIOError

_WORDS_CHARS_MIN: Final = 24
"""A terminal that has less room beside the names gets lines that are too long for it."""


class Help(Command):
    """Show the commands, or the help of one."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("words", nargs="*", metavar="COMMAND", help="its words")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if not parsed_args.words:
            show_commands(self.app)
            return
        factory, name, _ = self.app.command_manager.find_command(parsed_args.words)
        command = factory(self.app, self.app_args, cmd_name=name)
        with help_pager(self.app.stdout) as out:
            out.write(command.get_parser(f"{self.app.NAME} {name}").format_help())


def show_commands(app: Any) -> None:
    pager = help_pager(app.stdout)
    width = shutil.get_terminal_size().columns if pager.to_terminal() else 0
    with pager as out:
        out.write(f"{app.parser.format_help()}\nCommands:\n{listing(app, width)}")


def listing(app: Any, width: int) -> str:
    """Each command with the first line about it, within so many columns; 0: as long as they are."""
    manager = app.command_manager
    names = sorted(manager.commands)
    behind = 2 + max(len(name) for name in names) + 2
    room = width - behind
    lines = []
    for name in names:
        try:
            factory, *_ = manager.find_command(name.split())
            about = factory(app, None, cmd_name=name).get_description().split("\n")[0].rstrip(".")
        except ObjectIOError as error:
            about = str(error)
        found = manager.commands[name]
        dist = found.dist if isinstance(found, EntryPoint) else None
        if dist is not None and dist.name != app.NAME:
            about += f" ({dist.name})"
        line = f"  {name}".ljust(behind) + about
        if room >= _WORDS_CHARS_MIN:
            line = textwrap.fill(line, width, subsequent_indent=" " * behind)
        lines.append(f"{line}\n")
    return "".join(lines)
