"""Read the configuration: the file, over it the environment, over both the flags.

[gateway] listen = "…"      in the file
OBJECTIO_GATEWAY_LISTEN     in the environment
--set gateway.listen=…      on the command line
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from objectio.config.config import Config
from objectio.config.decode import decode, parse_text, unknown_key
from objectio.config.fields import Field, fields_of
from objectio.config.schema import DRIVER_TABLES, Sections
from objectio.errors import ConfigError

RESERVED: Final = frozenset(
    {
        "OBJECTIO_ENDPOINT",
        "OBJECTIO_ACCESS_KEY",
        "OBJECTIO_SECRET_KEY",
        "OBJECTIO_ROOT_ACCESS_KEY",
        "OBJECTIO_ROOT_SECRET_KEY",
    }
)
"""Variables that mean something else than a key of the configuration."""

# Kubernetes sets these for every service; one called objectio-gateway must not stop the node.
_SERVICE_LINK: Final = re.compile(r"(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?)")

SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    field.name: field.type.cls
    for field in fields_of(Sections)
    if isinstance(field.type, inspect.StructType)
}


def load_config(
    path: Path | None, *, env: Mapping[str, str], overrides: Sequence[str] = ()
) -> Config:
    """The checked configuration. Raises `ConfigError`, which says what is wrong and where.

    Tables of drivers are taken as they are: `check_drivers` looks at them once plugins are loaded.
    """
    raw = _Raw(path)
    for name in sorted(env):
        raw.apply_variable(name, env[name])
    for override in overrides:
        raw.apply_flag(override)
    return raw.config()


class _Raw:
    """Values by section and key, and from where each was set if not from the file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, dict[str, Any]] = _read(path) if path else {}
        self._origins: dict[tuple[str, str], str] = {}
        for section, values in self._values.items():
            if section not in SECTIONS:
                raise unknown_key(str(path), "", section, SECTIONS, what="section")
            if not isinstance(values, dict):
                raise ConfigError(f"{path}: {section} must be a table: write [{section}]")

    def apply_variable(self, name: str, text: str) -> None:
        if name in RESERVED or not name.startswith("OBJECTIO_"):
            return
        section, _, key = name.removeprefix("OBJECTIO_").lower().partition("_")
        if section not in SECTIONS or not key:
            return
        if key not in _fields(section):
            if _SERVICE_LINK.fullmatch(key.upper()):
                return
            raise unknown_key(
                f"environment variable {name}", f"{section}.", key, _fields(section), what="key"
            )
        self._set_text(f"environment variable {name}", section, key, text)

    def apply_flag(self, override: str) -> None:
        place, equals, text = override.partition("=")
        section, *keys = place.strip().split(".")
        flag = f"--set {override}"
        if not equals or not 1 <= len(keys) <= 2 or not all(keys):
            raise ConfigError(
                f"{flag}: write --set section.key=value, e.g. gateway.listen=[::1]:80"
            )
        if section not in SECTIONS:
            raise unknown_key(flag, "", section, SECTIONS, what="section")
        if len(keys) == 2 and section in DRIVER_TABLES:
            table = self._values.setdefault(section, {}).setdefault(keys[0], {})
            if not isinstance(table, dict):
                raise ConfigError(f"{flag}: {section}.{keys[0]} is not a table")
            table[keys[1]] = _toml_value(text)
            return
        key = ".".join(keys)
        if key not in _fields(section):
            raise unknown_key(flag, f"{section}.", key, _fields(section), what="key")
        self._set_text(flag, section, key, text)

    def config(self) -> Config:
        sections: dict[str, Any] = {}
        tables: dict[str, dict[str, dict[str, Any]]] = {}
        for section, struct in SECTIONS.items():
            values = dict(self._values.get(section, {}))
            if section in DRIVER_TABLES:
                own = _fields(section)
                tables[section] = {
                    key: values.pop(key)
                    for key in list(values)
                    if key not in own and isinstance(values[key], dict)
                }
            sections[section] = decode(struct, values, section, self._origin_of(section))
        return Config(
            **sections,
            driver_tables={section: table for section, table in tables.items() if table},
            source=self._path,
        )

    def _set_text(self, origin: str, section: str, key: str, text: str) -> None:
        try:
            value = parse_text(_fields(section)[key], text)
        except ValueError as error:
            raise ConfigError(
                f"{origin}: {section}.{key} = {text!r}: {error}", path=f"{section}.{key}"
            ) from None
        self._values.setdefault(section, {})[key] = value
        self._origins[section, key] = origin

    def _origin_of(self, section: str) -> Callable[[str], str]:
        fallback = str(self._path) if self._path else "configuration"
        return lambda key: self._origins.get((section, key), fallback)


def _fields(section: str) -> dict[str, Field]:
    return {field.name: field for field in fields_of(SECTIONS[section])}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; `objectio config sample` prints one to start from"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _toml_value(text: str) -> Any:
    """A TOML value if the text is one, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
