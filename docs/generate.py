"""Write the pages of `docs/reference` that are made from the code: `python -m docs.generate`.

A test fails when one of them is not what this would write.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import msgspec

from objectio import builtin, hookspecs
from objectio.cli.app import EXIT_CODES, NAMESPACE, ObjectIOApp
from objectio.config.fields import Field, fields_of
from objectio.config.load import RESERVED, SECTIONS
from objectio.config.schema import DRIVER_TABLES, DiskSection
from objectio.config.write import toml_value
from objectio.hookspecs.lifecycle import EventKind
from objectio.plugin.loader import load_plugins
from objectio.store import gauges

ROOT: Final = Path(__file__).parent.parent
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
        "| exit code | |",
        "| --- | --- |",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
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


# Metrics: read off the calls that ask for instruments, wherever in the code they stand.

INSTRUMENTS: Final = {
    "counter": "counter",
    "gauge": "gauge",
    "gauge_function": "gauge",
    "counter_function": "counter",
    "histogram": "histogram",
}
NO_LABELS: Final = ("buckets", "read", "help")
WHERE: Final = {
    "gateway": ("Front ends", "Shown by processes that serve HTTP: all of them do."),
    "store": (
        "The store",
        "`objectio_osd_*`, `objectio_pool_*`, `objectio_repair_*`, `objectio_rebalance_*`, "
        "`objectio_scrub_*` and `objectio_journal_*` are shown by the process that keeps the store in "
        "order, the one with the metadata; reads and memory by those that serve objects.",
    ),
    "osd": ("Devices", "Shown by the process that has the device."),
    "kv": ("Metadata", "Shown by the process with the metadata."),
    "maintenance": ("Events", "Shown by the process with the metadata."),
    "rpc": ("Between processes", "Shown by processes that others connect to."),
    "control": ("The port of the metadata", "Shown by the process with the metadata."),
    "runtime": ("Processes", "Shown by every process."),
}


class Family(NamedTuple):
    """What has one name in `/metrics`. `part` is the package that counts."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    part: str


def metrics_page() -> str:
    lines = [
        NOTICE,
        "# Metrics",
        "",
        "What `/metrics` shows, for Prometheus; [Monitor a store](../howto/monitor.md) says how it is",
        "scraped, and has dashboards and alerts. A gateway has it at its own port, other processes at",
        "`metrics.listen`. Under `objectio serve --workers` any gateway answers for all processes, and",
        "every sample has a label `process` more; nothing is added up, so use",
        "`sum without (process) (…)`.",
        "",
        "`<api>` is the name of a front end: `s3`, `iam`, `admin`, or that of a plugin's. There is no",
        "`objectio_iceberg_*` and no `objectio_block_*`: these come with the Iceberg catalog and with",
        "block volumes, which there are not yet. The exporter adds `process_*` and `python_*`, which",
        "`metrics.prometheus.process_metrics` turns off.",
        "",
        "A counter starts from 0 with its process. A family whose labels come from what happens, such as",
        "a status, is shown from the first time on. NaN is what is not known.",
    ]
    found = metric_families()
    for part, (title, where) in WHERE.items():
        lines += [
            "",
            f"## {title}",
            "",
            where,
            "",
            "| name | type | labels | |",
            "|---|---|---|---|",
        ]
        for family in found:
            if family.part == part:
                labels = ", ".join(f"`{label}`" for label in family.labels)
                lines.append(f"| `{family.name}` | {family.type} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def metric_families() -> list[Family]:
    """Every one, sorted by name. Raises `ValueError` for a call that cannot be read."""
    found = {family.name: family for family in _gauges_of_operators()}
    up = Family(
        "objectio_process_up", "gauge", "Whether the process answers.", ("process",), "runtime"
    )
    found[up.name] = up
    folders = [ROOT / "objectio", *sorted(ROOT.glob("plugins/*/objectio_*"))]
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        parts = path.relative_to(ROOT).parts
        if parts[0] == "objectio" and parts[1] not in ("testing", "abc"):
            part = "store" if "journal" in path.stem else parts[1]
            part = "control" if parts[1:3] == ("rpc", "control") else part
            for family in _families_in(path, part):
                found[family.name] = family
    unknown = {family.part for family in found.values()} - set(WHERE)
    if unknown:
        raise ValueError(f"packages with metrics that the page has no section for: {unknown}")
    return sorted(found.values())


def _families_in(path: Path, part: str) -> Iterable[Family]:
    tree = ast.parse(path.read_text())
    short = _short_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = node.func
        if isinstance(function, ast.Name):
            called = short.get(function.id, "")
        else:
            called = function.attr if isinstance(function, ast.Attribute) else ""
        if called not in INSTRUMENTS or path == Path(gauges.__file__):
            continue
        name, text = (_text(argument) for argument in (*node.args, node.args[0])[:2])
        if name is None or text is None:
            raise ValueError(f"{path}:{node.lineno}: what this counts cannot be read")
        yield Family(name, INSTRUMENTS[called], text, _labels(node), part)


def _short_names(tree: ast.Module) -> dict[str, str]:
    """`gauge = metrics.gauge_function`: what the name means."""
    return {
        node.targets[0].id: node.value.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Attribute)
    }


def _text(node: ast.expr) -> str | None:
    """A string; the name of a front end stands for what is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) or "<api>" for value in node.values)
    return None


def _labels(call: ast.Call) -> tuple[str, ...]:
    return tuple(sorted(str(word.arg) for word in call.keywords if word.arg not in NO_LABELS))


def _gauges_of_operators() -> Iterable[Family]:
    """Those of `objectio.store.gauges`: tables, and calls of its `_show`."""
    for name, text, _ in gauges._DISK:
        yield Family(f"objectio_osd_{name}", "gauge", text, ("osd",), "store")
    for name, text, _ in gauges._PARTS:
        yield Family(f"objectio_{name}", "gauge", text, (), "store")
    for name, text, _ in gauges._COUNTS:
        yield Family(f"objectio_{name}", "counter", text, (), "store")
    for node in ast.walk(ast.parse(inspect.getsource(gauges))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "_show" and (name := _text(node.args[0])) is not None:
            text = str(_text(node.args[1]))
            if "<api>" not in name:
                yield Family(f"objectio_{name}", "gauge", text, _labels(node), "store")


# The operators' API: a plugin's, so there may be none.


def admin_api_document() -> str:
    from objectio_api_admin.routes import openapi_document

    return json.dumps(openapi_document(), indent=1) + "\n"


def admin_api_page() -> str:
    from objectio_api_admin import reference
    from objectio_api_admin.routes import openapi_document

    return f"{NOTICE}\n{reference.page(openapi_document())}"


ADMIN_API: Final = {"admin-api.json": admin_api_document, "admin-api.md": admin_api_page}

PAGES: Final[dict[str, Callable[[], str]]] = {
    "hooks.md": hooks_page,
    "config.md": config_page,
    "cli.md": cli_page,
    "metrics.md": metrics_page,
    **(ADMIN_API if importlib.util.find_spec("objectio_api_admin") else {}),
}

if __name__ == "__main__":
    raise SystemExit(main())
