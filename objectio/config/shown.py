"""A configuration for people's eyes: what is secret in it is hidden.

A field is secret if its type says so, `Annotated[str, Meta(extra={"secret": True})]`, also where it
stands in a table or a list. With `{"secret": "url"}` the scheme and the host are shown. Of a driver that
is not installed, nobody can tell which settings are secret: all are hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from objectio.abc.filter import FilterKind
from objectio.config.config import Config
from objectio.config.drivers import Drivers, named_drivers
from objectio.config.load import SECTIONS
from objectio.config.schema import DRIVER_TABLES
from objectio.errors import ConfigError, PluginError

HIDDEN: Final = "…"

_Hints = Sequence[inspect.Type]


def without_secrets(config: Config, registry: Drivers) -> Config:
    """The same configuration; it is for showing only."""
    changed: dict[str, Any] = {}
    for section, struct in SECTIONS.items():
        own = getattr(config, section)
        raw = msgspec.to_builtins(own)
        hidden = _hide_in([inspect.type_info(struct)], raw)
        fields = {key: value for key, value in hidden.items() if value != raw[key]}
        if fields:
            changed[section] = msgspec.structs.replace(own, **fields)
    tables = {
        section: {
            name: _hide_in(_settings_of(section, name, registry), table)
            for name, table in tables.items()
        }
        for section, tables in config.driver_tables.items()
    }
    return msgspec.structs.replace(config, driver_tables=tables, **changed)


def shown(config: Config, registry: Drivers) -> dict[str, Any]:
    """The name of the node, the file, and the sections as plain values. Tables of drivers that the
    configuration names, or has settings of, are complete with the defaults."""
    safe = without_secrets(config, registry)
    sections: dict[str, dict[str, Any]] = {
        section: msgspec.to_builtins(getattr(safe, section)) for section in SECTIONS
    }
    for section, name in _drivers_in_force(config):
        kinds = _settings_of(section, name, registry)
        table: Mapping[str, Any] = config.driver_tables.get(section, {}).get(name, {})
        for kind in kinds:
            assert isinstance(kind, inspect.StructType)
            table = {**_defaults(kind.cls), **table}
        if table:
            sections[section][name] = _hide_in(kinds, table)
    return {
        "node": config.node.name,
        "source": str(config.source) if config.source else None,
        "config": sections,
    }


def _drivers_in_force(config: Config) -> list[tuple[str, str]]:
    """As (section, name)."""
    sections = {kind: section for section, kind in DRIVER_TABLES.items()}
    found = [(sections[kind], name) for kind, name in named_drivers(config) if kind in sections]
    found += [("filter", name) for name in (*config.kv.filters, *config.osd.filters)]
    found += [(section, name) for section, own in config.driver_tables.items() for name in own]
    return list(dict.fromkeys(found))


def _settings_of(section: str, name: str, registry: Drivers) -> list[inspect.Type]:
    """What drivers of that name say of their settings; nothing if there is none."""
    if section == "filter":
        return [
            inspect.type_info(registry.get_filter(wraps, name).config)
            for wraps in FilterKind
            if name in registry.names(f"filter.{wraps.value}")
        ]
    try:
        return [inspect.type_info(registry.get(DRIVER_TABLES[section], name).config)]
    except (PluginError, ConfigError):
        return []


def _defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    found = {}
    for field in msgspec.structs.fields(struct):
        if field.default is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default_factory())
    return found


def _hide_in(kinds: _Hints, table: Mapping[str, Any]) -> dict[str, Any]:
    """`kinds` are Structs that the table may be of; all are asked, and without any all is hidden."""
    shown: dict[str, Any] = {}
    for key, value in table.items():
        hints = [
            field.type
            for kind in kinds
            if isinstance(kind, inspect.StructType)
            for field in kind.fields
            if field.encode_name == key
        ]
        shown[key] = _hide(hints, value) if hints else _hidden(True, value)
    return shown


def _hide(hints: _Hints, value: Any) -> Any:
    kinds: list[inspect.Type] = []
    for kind in hints:
        while isinstance(kind, inspect.Metadata):
            if secret := (kind.extra or {}).get("secret"):
                return _hidden(secret, value)
            kind = kind.type
        kinds += kind.types if isinstance(kind, inspect.UnionType) else [kind]
    if any(isinstance(kind, inspect.Metadata) for kind in kinds):  # members of a union
        return _hide(kinds, value)
    if isinstance(value, Mapping):
        if any(isinstance(kind, inspect.StructType) for kind in kinds):
            return _hide_in(kinds, value)
        values = [kind.value_type for kind in kinds if isinstance(kind, inspect.DictType)]
        return {key: _hide(values, item) for key, item in value.items()} if values else value
    if isinstance(value, list | tuple):
        kinds_of_items = [
            kind.item_type
            for kind in kinds
            if isinstance(kind, inspect.ListType | inspect.VarTupleType)
        ]
        if kinds_of_items:
            return type(value)(_hide(kinds_of_items, item) for item in value)
    return value


def _hidden(how: object, value: Any) -> Any:
    """That nothing is set is no secret."""
    if value is None or value == "" or value == [] or value == ():
        return value
    if how == "url" and isinstance(value, str):
        parts = urlsplit(value)
        host = parts.netloc.rpartition("@")[2]
        if host and (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
            return f"{parts.scheme}://{host}/{HIDDEN}"
        return value if host else HIDDEN
    return HIDDEN
