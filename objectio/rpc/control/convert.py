"""Between the values of our contracts and the messages of the .proto files, which have the same fields.

A field of a message that our value does not have, or the other way round, is a mistake in one of the
two; the tests find it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import betterproto2
import msgspec

from objectio.errors import RemoteProtocolError

M = TypeVar("M", bound=betterproto2.Message)
V = TypeVar("V")


def parse(kind: type[M], raw: bytes) -> M:
    """Raises `RemoteProtocolError`."""
    try:
        return kind.parse(raw)
    except Exception as error:  # ValueError, EOFError, struct.error, …
        raise RemoteProtocolError(f"no {kind.__name__}: {error}", reason="malformed") from None


def to_message(value: msgspec.Struct, kind: type[M]) -> M:
    hints = kind._type_hints()
    return kind(
        **{
            each.name: _to_field(getattr(value, each.name), hints[each.name])
            for each in dataclasses.fields(cast(Any, kind))
        }
    )


def _to_field(value: Any, hint: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_message(value, _message_of(hint))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return [_to_field(each, hint) for each in value]
    return value


def _message_of(hint: Any) -> type[betterproto2.Message]:
    """The message in `X`, `X | None` or `list[X]`."""
    if isinstance(hint, type) and issubclass(hint, betterproto2.Message):
        return hint
    for inner in hint.__args__:
        if inner is not type(None):
            return _message_of(inner)
    raise TypeError(hint)


def to_value(message: betterproto2.Message, kind: type[V]) -> V:
    """Raises `RemoteProtocolError` for a value that ours may not have."""
    try:
        return msgspec.convert(_plain(message), kind)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"no {kind.__name__}: {error}", reason="malformed") from None


def _plain(value: Any) -> Any:
    if isinstance(value, betterproto2.Message):
        return {
            each.name: _plain(getattr(value, each.name))
            for each in dataclasses.fields(cast(Any, value))
        }
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
