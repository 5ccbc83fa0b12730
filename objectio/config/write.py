"""Write a configuration as TOML, with what each key means as a comment."""

from __future__ import annotations

import enum
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from objectio.abc.driver import AnyDriver
from objectio.config.config import Config
from objectio.config.fields import Field, fields_of
from objectio.config.load import SECTIONS
from objectio.config.schema import DRIVER_TABLES, DiskSection

HEAD = "Configuration of an ObjectIO node. `objectio config check` checks it."


def dump_toml(config: Config) -> str:
    """A file that loads as this configuration."""
    lines = [f"# {HEAD}"]
    for section, struct in SECTIONS.items():
        own = getattr(config, section)
        tables = config.driver_tables.get(section, {})
        if fields_of(struct):
            lines += ["", *_comment(_summary(struct)), f"[{section}]"]
            for field in fields_of(struct):
                if field.name != "disk":
                    lines += _assignment(field, getattr(own, field.name))
        for name, table in tables.items():
            lines += ["", f"[{section}.{_key(name)}]"]
            lines += [f"{_key(key)} = {toml_value(value)}" for key, value in table.items()]
        for disk in getattr(own, "disk", ()):
            lines += ["", "[[osd.disk]]"]
            lines += [
                f"{field.name} = {toml_value(getattr(disk, field.name))}"
                for field in fields_of(DiskSection)
            ]
    return "\n".join(lines) + "\n"


def sample_toml(drivers: Iterable[tuple[str, AnyDriver]] = ()) -> str:
    """Every key with its default, commented out; `drivers` as (kind, driver) get their tables."""
    by_kind: dict[str, list[AnyDriver]] = {}
    for kind, driver in drivers:
        by_kind.setdefault(kind, []).append(driver)
    lines = [f"# {HEAD}", "# Each key stands with its default: take away the # to change one."]
    for section, struct in SECTIONS.items():
        fields = [field for field in fields_of(struct) if field.name != "disk"]
        if fields:
            lines += ["", *_comment(_summary(struct)), f"[{section}]"]
            lines += _commented(fields)
        for driver in by_kind.get(DRIVER_TABLES.get(section, ""), []):
            if own := fields_of(driver.config):
                lines += ["", *_comment(driver.summary), f"# [{section}.{driver.name}]"]
                lines += _commented(own)
        if section == "osd":
            lines += ["", *_comment(_summary(DiskSection)), "# [[osd.disk]]"]
            lines += _commented(fields_of(DiskSection))
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """A value as TOML writes it (TOML 1.0)."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case enum.Enum():
            return toml_value(value.value)
        case Mapping():
            inner = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case Sequence():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case msgspec.Struct():
            return toml_value(msgspec.to_builtins(value))
    # Dates and times, which TOML writes as ISO 8601 does.
    return str(value)


def _summary(struct: type[msgspec.Struct]) -> str:
    return " ".join((struct.__doc__ or "").split())


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(text, 96))


def _assignment(field: Field, value: object) -> Iterator[str]:
    yield from _comment(field.description)
    yield f"{field.name} = {toml_value(value)}"


def _commented(fields: Iterable[Field]) -> Iterator[str]:
    for field in fields:
        yield from _comment(f"{field.description} ({field.allowed})".strip())
        if field.default is msgspec.NODEFAULT:
            yield f"# {field.name} =     (required)"
        elif field.default is None:
            yield f"# {field.name} =     (not set)"
        else:
            yield f"#{field.name} = {toml_value(field.default)}"


def _key(key: str) -> str:
    """A bare key where TOML allows one, else quoted."""
    bare = key.isascii() and key.replace("-", "_").replace("_", "a").isalnum()
    return key if bare else toml_value(key)
