"""Raw values to typed Structs, with errors that say where, what was there and what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from objectio.config.fields import Field, allowed, fields_of, plain
from objectio.errors import ConfigError

StructT = TypeVar("StructT", bound=msgspec.Struct)

TRUE: Final = ("true", "yes", "on", "1")
FALSE: Final = ("false", "no", "off", "0")
_PLACE: Final = re.compile(r"(?P<reason>.*?)(?: - at `\$(?P<place>[^`]*)`)?", re.DOTALL)


def decode(
    struct: type[StructT],
    raw: Mapping[str, Any],
    path: str,
    origin: Callable[[str], str],
) -> StructT:
    """Convert a table that stands at `path`. `origin` tells from where a key of it was set."""
    _refuse_what_types_let_pass(struct, raw, path, origin)
    try:
        return msgspec.convert(raw, struct)
    except msgspec.ValidationError as error:
        raise _explained(error, struct, raw, path, origin) from None


def parse_text(field: Field, text: str) -> Any:
    """The value of an environment variable or a flag. Raises `ValueError` with what is allowed."""
    try:
        return _parse(field.type, text)
    except ValueError:
        raise ValueError(f"must be {field.allowed}; {field.description}".rstrip("; ")) from None


def unknown_key(
    origin: str, path: str, key: str, known: Iterable[str], *, what: str
) -> ConfigError:
    """`path` ends in a dot, or is empty."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {path}{close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
    return ConfigError(f"{origin}: {path}{key}: unknown {what}; {hint}", path=f"{path}{key}")


def _refuse_what_types_let_pass(
    struct: type[msgspec.Struct],
    raw: Mapping[str, Any],
    path: str,
    origin: Callable[[str], str],
) -> None:
    fields = {field.name: field for field in fields_of(struct)}
    for key, value in raw.items():
        if key not in fields:
            raise unknown_key(origin(key), f"{path}.", key, fields, what="key")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{origin(key)}: {path}.{key} = {value}: must be a finite number")
        inner = _struct_in(fields[key].type)
        tables = value if isinstance(value, list) else [value]
        for index, table in enumerate(tables):
            if inner is not None and isinstance(table, Mapping):
                at = f"{path}.{key}[{index}]" if isinstance(value, list) else f"{path}.{key}"
                place = origin(key)
                _refuse_what_types_let_pass(inner, table, at, lambda _, place=place: place)  # type: ignore[misc]


def _struct_in(kind: inspect.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        kind = plain(kind.item_type)
    return kind.cls if isinstance(kind, inspect.StructType) else None


def _explained(
    error: msgspec.ValidationError,
    struct: type[msgspec.Struct],
    raw: Mapping[str, Any],
    path: str,
    origin: Callable[[str], str],
) -> ConfigError:
    found = _PLACE.fullmatch(str(error))
    assert found is not None
    reason, place = found["reason"], found["place"] or ""
    keys = re.findall(r"\w+", place)
    where = origin(keys[0]) if keys else origin("")
    reason = reason[:1].lower() + reason[1:]
    if keys and error.__cause__ is None and not reason.startswith("object missing"):
        field, value = _at(struct, raw, keys)
        if field is not None:
            reason = f"must be {field}"
        return ConfigError(f"{where}: {path}{place} = {value!r}: {reason}", path=f"{path}{place}")
    return ConfigError(f"{where}: {path}{place}: {reason}", path=f"{path}{place}")


def _at(struct: type[msgspec.Struct], raw: Any, keys: list[str]) -> tuple[str | None, Any]:
    """What is allowed at the place that msgspec names by keys and indexes, and what is there."""
    said: str | None = None
    kind: inspect.Type = inspect.type_info(struct)
    for key in keys:
        try:
            raw = raw[int(key) if key.isdigit() else key]
        except (LookupError, TypeError):
            return None, raw
        if isinstance(kind, inspect.StructType):
            field = {field.name: field for field in fields_of(kind.cls)}[key]
            kind = field.type
            said = f"{field.allowed}; {field.description}".rstrip("; ")
        elif isinstance(kind, inspect.VarTupleType | inspect.ListType):
            kind = plain(kind.item_type)
            said = allowed(kind)
    return said, raw


def _parse(kind: inspect.Type, text: str) -> Any:
    kind = plain(kind)
    match kind:
        case inspect.BoolType():
            if text.lower() not in TRUE + FALSE:
                raise ValueError(text)
            return text.lower() in TRUE
        case inspect.IntType():
            return int(text)
        case inspect.FloatType():
            return float(text)
        case inspect.StrType() | inspect.LiteralType() | inspect.EnumType():
            return text
        case inspect.VarTupleType() | inspect.ListType():
            items = [item.strip() for item in text.split(",")]
            return [_parse(kind.item_type, item) for item in items if item]
    raise ValueError(text)
