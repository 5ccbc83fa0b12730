"""Cells of tables: for people in their words, for programs (`-f json`) the number as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cliff import columns

from objectio.model.units import size_text, span_text

UNKNOWN = "-"


class _Number(columns.FormattableColumn[Any]):
    """What is unknown (None) sorts behind what is known."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Number) or self._value is None:
            return False
        return other._value is None or bool(self._value < other._value)


class Size(_Number):
    """Bytes."""

    def human_readable(self) -> str:
        return UNKNOWN if self._value is None else size_text(self._value)


class SizeMax(_Number):
    """Bytes at most; 0 is no bound."""

    def human_readable(self) -> str:
        return size_text(self._value) if self._value else "none"


class CountMax(_Number):
    """So many at most; 0 is no bound."""

    def human_readable(self) -> str:
        return f"{self._value:,}" if self._value else "none"


class Rate(_Number):
    """Bytes per second."""

    def human_readable(self) -> str:
        return UNKNOWN if self._value is None else f"{size_text(self._value)}/s"


class Span(_Number):
    """Seconds."""

    def human_readable(self) -> str:
        return UNKNOWN if self._value is None else span_text(self._value)


class Moment(_Number):
    """Unix milliseconds; 0 and None are no moment."""

    def human_readable(self) -> str:
        import time

        if not self._value:
            return UNKNOWN
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._value / 1000))


class Share(columns.FormattableColumn[float]):
    """0 to 1."""

    def human_readable(self) -> str:
        return f"{self._value:.1%}"


class Count(_Number):
    def human_readable(self) -> str:
        return UNKNOWN if self._value is None else f"{self._value:,}"


class Text(columns.FormattableColumn[str]):
    """A cell that is not left empty."""

    def human_readable(self) -> str:
        return self._value or UNKNOWN


class Name(columns.FormattableColumn[str]):
    """What others have named: no character of it does anything to a terminal."""

    def human_readable(self) -> str:
        return "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode()
            for each in self._value
        )


class Flag(columns.FormattableColumn[bool]):
    def human_readable(self) -> str:
        return "yes" if self._value else "no"


class Items(columns.FormattableColumn[Sequence[Any]]):
    def human_readable(self) -> str:
        return ", ".join(str(item) for item in self._value) or UNKNOWN


class Named(columns.FormattableColumn[Mapping[str, Any]]):
    """Values by name."""

    def human_readable(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self._value.items()) or UNKNOWN


Cell = type[columns.FormattableColumn[Any]]


def cells(values: Mapping[str, Any], kinds: Mapping[str, Cell]) -> tuple[tuple[str, ...], Any]:
    """(names, cells) of what a server said, in the order of `kinds`."""
    shown = {name: kind(values.get(name)) for name, kind in kinds.items()}
    return tuple(shown), tuple(shown.values())
