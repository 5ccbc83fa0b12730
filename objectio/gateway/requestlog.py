"""Lines of the log that have facts besides words: for people key=value, as JSON a key for each fact."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

_PLAIN: Final = re.compile(r"[!#-<>-~]+")
"""Needs no quotes: ASCII that can be seen, but neither = nor the quote."""


class Line:
    """What is logged in place of a format. `facts` are shown before the `message` in text; None is a
    fact that is not known."""

    __slots__ = ("facts", "message")

    def __init__(self, facts: Mapping[str, object], message: str = "") -> None:
        self.facts = facts
        self.message = message

    def __str__(self) -> str:
        pairs = " ".join(f"{key}={_show(value)}" for key, value in self.facts.items())
        return f"{pairs} {self.message}" if self.message else pairs


def _show(value: object) -> str:
    if value is None or value == "":
        return "-"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
