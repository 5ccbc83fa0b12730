"""Write the pages of `docs/reference` that are made from the code: `python -m docs.generate`.

A test fails when one of them is not what this would write.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from objectio import builtin, hookspecs
from objectio.cli.app import NAMESPACE, ObjectIOApp
from objectio.config.fields import Field, fields_of
from objectio.config.load import RESERVED, SECTIONS
from objectio.config.schema import DRIVER_TABLES, DiskSection
from objectio.config.write import toml_value
from objectio.hookspecs.lifecycle import EventKind
from objectio.plugin.loader import load_plugins

REFERENCE: Final = Path(__file__).parent / "reference"
NOTICE: Final = "<!-- Written by `make docs` from the code: edit the code instead. -->"


def main() -> int:
    """Write every page whose text has changed."""
    for name, render in PAGES.items():
        page = REFERENCE / name
        text = render()
        if not page.exists() or page.read_text() != text:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
            sys.stdout.write(f"wrote {page.relative_to(REFERENCE.parent.parent)}\n")
    return 0


def hooks_page() -> str:
    lines = [
        NOTICE,
        "# Hooks",
        "",
        "Everything that a plugin can implement. A plugin is a module named by an entry point of",
        "group `objectio.plugins`; a function in it that is decorated with `objectio.hookimpl` and",
        "has the name and the arguments of a hook is called when the hook is.",
    ]
    for module in hookspecs.ALL:
        for name, function in hooks_of(module):
            lines += ["", f"## `{name}`", "", "```python", signature_of(function), "```", ""]
            lines += _hook_text(inspect.getdoc(function) or "")
    lines += ["", "## Events", "", "What `NodeEvent.kind` may be.", ""]
    lines += ["| kind | value |", "| --- | --- |"]
    lines += [f"| `EventKind.{kind.name}` | `{kind.value}` |" for kind in EventKind]
    return "\n".join(lines) + "\n"


def hooks_of(module: ModuleType) -> list[tuple[str, Any]]:
    """The hooks that a hookspec module declares, in the order of the file."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if name.startswith("objectio_") and value.__module__ == module.__name__
    ]


def signature_of(function: Callable[..., Any]) -> str:
    """The line of source: `def objectio_register_kv() -> Iterable[AnyDriver]: ...`"""
    signature = inspect.signature(function)
    arguments = ", ".join(f"{one.name}: {one.annotation}" for one in signature.parameters.values())
    return f"def {function.__name__}({arguments}) -> {signature.return_annotation}: ..."


def _hook_text(doc: str) -> list[str]:
    """The docstring: its sentence, and a list of its labelled parts."""
    lines: list[str] = []
    for line in doc.splitlines():
        label, colon, rest = line.partition(":")
        if colon and label.isalpha() and not line.startswith(" "):
            lines.append(f"- **{label}**:{rest}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith(" ") else line)
    return lines


def config_page() -> str:
    registry = load_plugins(builtin=(builtin,), search=()).registry
    lines = [
        NOTICE,
        "# Configuration",
        "",
        "One TOML file. `objectio config sample` prints one with every key and its default,",
        "`objectio config check --config FILE` checks one, `objectio config show` prints what is in",
        "force, and `objectio config schema` the JSON schema.",
        "",
        "`OBJECTIO_<SECTION>_<KEY>` in the environment overrides the file, and",
        "`--set section.key=value` overrides both; lists are separated by commas. These variables",
        "mean something else: " + ", ".join(f"`{name}`" for name in sorted(RESERVED)) + ".",
        "",
        "A table inside of a section, such as `[osd.log]`, belongs to the driver of that name.",
        "Those of the kernel's own drivers are below; `objectio plugin show` prints a plugin's.",
    ]
    for section, struct in SECTIONS.items():
        lines += ["", f"## `[{section}]`", "", *_table(section, struct)]
        if section == "osd":
            lines += ["", "### `[[osd.disk]]`", "", *_table("osd.disk", DiskSection)]
        for kind, driver in registry.drivers():
            if DRIVER_TABLES.get(section) == kind and fields_of(driver.config):
                name = f"{section}.{driver.name}"
                lines += ["", f"### `[{name}]`", "", *_table(name, driver.config)]
                for field, struct in tables_of(driver.config):
                    name = f"{section}.{driver.name}.{field}"
                    lines += ["", f"### `[[{name}]]`", "", *_table(name, struct)]
    return "\n".join(lines) + "\n"


def tables_of(struct: type[msgspec.Struct]) -> Iterable[tuple[str, type[msgspec.Struct]]]:
    """Keys that are lists of tables, and what each table is."""
    for field in fields_of(struct):
        item = getattr(field.type, "item_type", None)
        if isinstance(item, msgspec.inspect.StructType):
            yield field.name, item.cls


def _table(name: str, struct: type[msgspec.Struct]) -> list[str]:
    lines = [" ".join((struct.__doc__ or "").split())]
    fields = [field for field in fields_of(struct) if f"{name}.{field.name}" != "osd.disk"]
    if fields:
        lines += ["", "| key | allowed | default | |", "| --- | --- | --- | --- |"]
        lines += [_row(field) for field in fields]
    return lines


def _row(field: Field) -> str:
    default = "required" if field.default is msgspec.NODEFAULT else f"`{_default(field)}`"
    cells = (f"`{field.name}`", field.allowed, default, field.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: Field) -> str:
    return "not set" if field.default is None else toml_value(field.default)


def cli_page() -> str:
    app = ObjectIOApp()
    lines = [
        NOTICE,
        "# Command line",
        "",
        "Options of every command: "
        + ", ".join(f"`{_flags(action)}` ({action.help})" for action in _options(app.parser))
        + ".",
        "",
        "Commands that print a list or one thing take `-f table|json|yaml|csv|value` (one thing:",
        "also `shell`) for the format and `-c COLUMN` for the columns.",
        "",
        "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
    ]
    for name, command in kernel_commands():
        parser = command(app, None, cmd_name=name).get_parser(f"objectio {name}")
        lines += ["", f"## `objectio {name}`", "", *_paragraphs(inspect.getdoc(command) or "")]
        actions = _options(parser)
        if actions:
            lines += ["", "| argument | |", "| --- | --- |"]
            lines += [f"| `{_flags(action)}` | {action.help or ''} |" for action in actions]
    return "\n".join(lines) + "\n"


def kernel_commands() -> list[tuple[str, Any]]:
    """Every command of the kernel's distribution with its class."""
    found = importlib.metadata.distribution("objectio").entry_points.select(group=NAMESPACE)
    return [(entry.name.replace("_", " "), entry.load()) for entry in sorted(found, key=str)]


def _options(parser: argparse.ArgumentParser) -> Sequence[argparse.Action]:
    """Its arguments but for help, those of cliff's output formats, and those of our own programs."""
    formats = {
        id(action)
        for group in parser._action_groups
        if "format" in (group.title or "").lower()
        for action in group._group_actions
    }
    return [
        action
        for action in parser._actions
        if id(action) not in formats and action.help != argparse.SUPPRESS and action.dest != "help"
    ]


def _flags(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(action.option_strings) + value


def _paragraphs(doc: str) -> Iterable[str]:
    return doc.splitlines()


PAGES: Final[dict[str, Callable[[], str]]] = {
    "hooks.md": hooks_page,
    "config.md": config_page,
    "cli.md": cli_page,
}

if __name__ == "__main__":
    raise SystemExit(main())
