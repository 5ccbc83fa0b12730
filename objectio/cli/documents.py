"""Policies as commands take and show them: documents in JSON."""

from __future__ import annotations

from typing import Any, TextIO

from cliff import columns


class Document(columns.FormattableColumn[Any]):
    """A policy: written out for people, as it is for programs. None: there is none."""

    def human_readable(self) -> str:
        import json

        return "-" if self._value is None else json.dumps(self._value, indent=2)


class HasDocument(columns.FormattableColumn[Any]):
    """Whether there is one, for people."""

    def human_readable(self) -> str:
        return "no" if self._value is None else "yes"


def read_document(file: str) -> str:
    """The text of a file; `-` is the standard input."""
    from pathlib import Path

    try:
        return standard_input().read() if file == "-" else Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        raise usage(f"{file} is not text in UTF-8") from None


def standard_input() -> TextIO:
    import sys

    if sys.stdin is None:
        raise usage("the standard input is closed, and nothing can be read from it: name a file")
    return sys.stdin


def key_values(words: list[str], option: str) -> list[tuple[str, str]]:
    """Of KEY=VALUE."""
    found = []
    for word in words:
        key, given, value = word.partition("=")
        if not given or not key:
            raise usage(f"{option} KEY=VALUE, not {word!r}")
        found.append((key, value))
    return found


def usage(sentence: str) -> Exception:
    from objectio.errors import ConfigError

    return ConfigError(sentence)
