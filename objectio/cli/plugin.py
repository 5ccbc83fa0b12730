"""Commands about plugins: which are installed, and what is in one."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any

from objectio.cli.command import Lines, Lister, Row, ShowOne, Words
from objectio.cli.config import add_config_arguments, config_from, plugins_for
from objectio.errors import PluginNotFound
from objectio.plugin.kinds import KINDS

if TYPE_CHECKING:
    from objectio.abc.driver import AnyDriver
    from objectio.abc.filter import FilterDriver
    from objectio.plugin.info import PluginInfo


class PluginList(Lister):
    """List the plugins: the kernel's own first, then every one that is installed.

    A broken plugin is a row too; `objectio plugin show` says what is wrong with it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        infos = plugins_for(config_from(parsed_args)).infos
        columns = ("plugin", "distribution", "version", "kind", "drivers", "status")
        return columns, [_row(info) for info in infos]


class PluginShow(ShowOne):
    """Show one plugin: what it provides, its settings, or why it is broken."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("plugin", help="its name in `objectio plugin list`")
        add_config_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        plugins = plugins_for(config_from(parsed_args))
        names = [info.name for info in plugins.infos]
        if parsed_args.plugin not in names:
            close = difflib.get_close_matches(parsed_args.plugin, names, n=1)
            hint = f"did you mean {close[0]}?" if close else "see `objectio plugin list`"
            raise PluginNotFound(f"no plugin {parsed_args.plugin!r} is installed; {hint}")
        info = plugins.infos[names.index(parsed_args.plugin)]
        drivers = [(kind, driver) for kind, driver in plugins.registry.offered_by(info)]
        shown: dict[str, Any] = {
            "plugin": info.name,
            "distribution": info.distribution,
            "version": info.version,
            "module": info.module,
            "status": info.status.value,
            "error": str(info.error or ""),
            "drivers": Lines([_line(kind, driver) for kind, driver in drivers]),
            "settings": Lines(
                [line for kind, driver in drivers for line in _settings(kind, driver)]
            ),
        }
        return tuple(shown), tuple(shown.values())


def _row(info: PluginInfo) -> Row:
    kinds = dict.fromkeys(kind for kind, _ in info.drivers)
    # What could not be asked still has its kind in its name.
    kinds |= {kind.name: None for kind in KINDS.values() if info.name.startswith(f"{kind.prefix}_")}
    return (
        info.name,
        info.distribution,
        info.version,
        Words(list(kinds)),
        Words([name for _, name in info.drivers]),
        info.status.value,
    )


def _line(kind: str, driver: AnyDriver | FilterDriver) -> str:
    facts = [f"api {driver.api}"]
    if rank := getattr(driver, "rank", None):
        facts.append(f"rank {rank}")
    facts += sorted(getattr(driver, "capabilities", ()))
    return f"{kind} {driver.name}: {driver.summary or 'no summary'} ({', '.join(facts)})"


def _settings(kind: str, driver: AnyDriver | FilterDriver) -> list[str]:
    import msgspec

    from objectio.config.fields import fields_of
    from objectio.config.schema import DRIVER_TABLES
    from objectio.config.write import toml_value

    sections = [section for section, of in DRIVER_TABLES.items() if of == kind]
    lines = []
    for section in sections:
        for field in fields_of(driver.config):
            default = "required"
            if field.default is not msgspec.NODEFAULT:
                default = f"default {toml_value(field.default)}"
            said = f"{section}.{driver.name}.{field.name}: {field.allowed}; {default}"
            lines.append(f"{said}. {field.description}".rstrip(". "))
    return lines
