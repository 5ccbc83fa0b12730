"""What a Struct allows, in words: for error messages, samples and reference pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect


class Field(NamedTuple):
    """One key. `default` is `msgspec.NODEFAULT` where a value is required."""

    name: str
    type: inspect.Type
    allowed: str
    default: Any
    description: str


def fields_of(struct: type[msgspec.Struct]) -> list[Field]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return [_field(field) for field in info.fields]


def plain(kind: inspect.Type) -> inspect.Type:
    """Without what `Meta` says beside bounds."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def allowed(kind: inspect.Type) -> str:
    """What a value of the type may be: "a whole number, 1 to 64"."""
    kind = plain(kind)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            return "a string"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values)
        case inspect.EnumType():
            return "one of " + ", ".join(f'"{member.value}"' for member in kind.cls)
        case inspect.VarTupleType() | inspect.ListType():
            item = plain(kind.item_type)
            if isinstance(item, inspect.StructType):
                return "tables"
            return f"a list, each {allowed(item)}"
        case inspect.UnionType():
            kinds = [plain(each) for each in kind.types]
            return " or ".join(allowed(each) for each in kinds if not _is_none(each))
        case inspect.StructType() | inspect.DictType():
            return "a table"
    return "a value of type " + type(kind).__name__.removesuffix("Type").lower()


def _field(field: inspect.Field) -> Field:
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return Field(
        field.encode_name,
        plain(field.type),
        allowed(field.type),
        default,
        " ".join(_descriptions(field.type)),
    )


def _descriptions(kind: inspect.Type) -> Iterator[str]:
    while isinstance(kind, inspect.Metadata):
        if description := (kind.extra_json_schema or {}).get("description"):
            yield description
        kind = kind.type


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f", {kind.ge} to {kind.le}"
    pairs = (("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le))
    said = [f"{word} {bound}" for word, bound in pairs if bound is not None]
    return ", " + " and ".join(said) if said else ""


def _is_none(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.NoneType)
