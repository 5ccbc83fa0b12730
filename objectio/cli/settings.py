"""The configuration in force of a server. Commands about files are in `objectio.cli.config`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cliff import columns

from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Lister, Row

_COLUMNS: Final = ("key", "value")


class Value(columns.FormattableColumn[Any]):
    """As TOML has it, for people."""

    def human_readable(self) -> str:
        import json

        if isinstance(self._value, str):
            return self._value
        return json.dumps(self._value, ensure_ascii=False)


class ConfigGet(Lister):
    """Show the configuration in force of the process that answers: its file, environment and flags.

    KEY is a section (`store`), a table of it (`osd.log`) or one key (`gateway.listen`). What is secret
    is shown as "…". `objectio config show` shows what a file here would give.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("key", nargs="*", metavar="KEY", help="only these (default: all)")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        from objectio.errors import NotFound

        client = connect(parsed_args)
        found = dict(_flat(client.get("/config")["config"]))
        wanted = parsed_args.key
        for key in wanted:
            if not any(_below(name, key) for name in found):
                raise NotFound(
                    f"the configuration of {client.endpoint} has no {key}; without KEY this shows all"
                )
        rows = [
            (name, Value(value))
            for name, value in found.items()
            if not wanted or any(_below(name, key) for key in wanted)
        ]
        return _COLUMNS, rows


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _below(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")
