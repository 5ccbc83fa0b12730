"""The command that writes a plugin."""

from __future__ import annotations

import argparse
from pathlib import Path

from objectio.cli.command import Command
from objectio.errors import AlreadyExists, PluginConflict
from objectio.plugin.kinds import KINDS


class PluginNew(Command):
    """Write a whole plugin of a kind, to begin your own with.

    It is complete: a driver that works, its tests by the conformance kit, and an entry point. It is in
    a new folder, which is named by the kind and the name.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        kinds = sorted(KINDS)
        parser.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
        parser.add_argument("name", metavar="NAME", help="of the driver: a-z and 0-9")
        parser.add_argument(
            "--directory",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="where the folder is made (default: here)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.cli.scaffold import render, spellings

        kind, name = parsed_args.kind, parsed_args.name
        made = render(kind, name)
        _check_free(kind, name)
        folder = parsed_args.directory / spellings(kind, name)[0]
        try:
            folder.mkdir()
        except FileExistsError:
            raise AlreadyExists(f"{folder} is there already; it is left as it is") from None
        for path, text in made.items():
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
        self.app.stdout.write(
            f"wrote {folder}, of {len(made)} files\n"
            f"try it: cd {folder} && pip install -e '.[test]' && pytest\n"
        )


def _check_free(kind: str, name: str) -> None:
    """Two drivers of one name would be an error for whoever installs both."""
    from objectio.cli.config import plugins_for
    from objectio.config.config import Config

    for info in plugins_for(Config()).infos:
        # The kinds of filters say what they wrap, as in "filter.kv".
        if any((offered.partition(".")[0], of) == (kind, name) for offered, of in info.drivers):
            raise PluginConflict(
                f"the {KINDS[kind].title} {name} is there already, of {info.distribution}: take "
                "another name"
            )
