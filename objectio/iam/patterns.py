"""Texts of policies that stand for many: wildcards and variables (IAM user guide, "IAM JSON policy
elements: Resource" and "Policy elements: variables and tags"). Pure.

"*" stands for any characters and "?" for one. "${key}" stands for the value that a request has for a
condition key, "${key, 'default'}" says what it stands for if there is none, and "${*}", "${?}",
"${$}" are those characters themselves. What a variable stands for is taken literally: a user called
"*" is not everybody. A text with wildcards is cut at its stars into parts of a known length, so that
matching never goes back and no policy can make a request slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from objectio.errors import InvalidRequest

Values = Mapping[str, Sequence[str]]
"""Condition keys, in any case, and the values that a request has for them. Absent: not in it."""

LazyValues = Callable[[], Values]

_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE_NAME: Final = re.compile(r"\s*([^\s,'][^,']*?)\s*(?:,\s*'([^']*)'\s*)?")
_ESCAPED: Final = frozenset("*?$")
_ESCAPES: Final = re.compile(r"\$\{[*?$]\}")
_SEARCH_COST_MIN: Final = 32


class MalformedPolicy(InvalidRequest):
    """A document that is not a policy, with S3's code in `reason`. IAM's is MalformedPolicyDocument."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="MalformedPolicy")


class Lookup:
    """The values of a request's condition keys, found out when the first is asked for."""

    __slots__ = ("_found", "_values")

    def __init__(self, values: LazyValues) -> None:
        self._values = values
        self._found: dict[str, Sequence[str]] | None = None

    def __call__(self, key: str) -> Sequence[str]:
        """`key` in lower case. Empty if the request has no such key."""
        if self._found is None:
            self._found = {name.lower(): values for name, values in self._values().items()}
        return self._found.get(key, ())


class _Wild:
    """One character, whichever it is."""


class Variable(NamedTuple):
    key: str
    default: str | None


_Item = str | Variable | type[_Wild]


class _Part(NamedTuple):
    """What stands between two stars: runs of characters that are given, by where they begin, and
    between them single ones that are not. `regex` if it is searched for and always the same."""

    runs: tuple[tuple[int, str], ...]
    length: int
    regex: re.Pattern[str] | None = None

    def at(self, text: str, position: int) -> bool:
        return all(text.startswith(run, position + offset) for offset, run in self.runs)

    def find(self, text: str, start: int, stop: int) -> int:
        """Where its leftmost occurrence ends; -1 if there is none."""
        if self.regex is not None:
            match = self.regex.search(text, start, stop)
            return match.end() if match is not None else -1
        last = stop - self.length
        if not self.runs:
            return start + self.length if start <= last else -1
        offset, rarest = max(self.runs, key=lambda run: len(run[1]))
        end = last + offset + len(rarest)
        at = start
        while (found := text.find(rarest, at + offset, end)) >= 0:
            at = found - offset
            if len(self.runs) == 1 or self.at(text, at):
                return at + self.length
            at += 1
        return -1


def _part(items: Sequence[str | type[_Wild]], *, searched: bool) -> _Part:
    runs: list[tuple[int, str]] = []
    length = 0
    for item in items:
        if not isinstance(item, str):
            length += 1
            continue
        if runs and runs[-1][0] + len(runs[-1][1]) == length:
            runs[-1] = runs[-1][0], runs[-1][1] + item
        elif item:
            runs.append((length, item))
        length += len(item)
    if not searched or len(runs) < 2:
        return _Part(tuple(runs), length)
    source = "".join(re.escape(item) if isinstance(item, str) else "." for item in items)
    return _Part(tuple(runs), length, re.compile(source, re.DOTALL))


def search_cost(text: str) -> int:
    """How much work it may be to look for what stands between two stars of `text` and has single
    wildcards: in the worst case, so many steps for each character that it is compared with. All
    else is found as fast as it is read."""
    pieces = _ESCAPES.sub("-", text).split("*")[1:-1]
    return sum(max(_SEARCH_COST_MIN, len(each)) for each in pieces if "?" in each.strip("?"))


def _matches(parts: Sequence[_Part], text: str) -> bool:
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return len(text) == first.length and first.at(text, 0)
    position, end = first.length, len(text) - last.length
    if end < position or not first.at(text, 0) or not last.at(text, end):
        return False
    for part in parts[1:-1]:
        position = part.find(text, position, end)
        if position < 0:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled text: `ready` to be matched, or `parts` of which variables are still to be replaced.
    `keys` are those of its variables. `fold` matches without regard to case."""

    source: str
    parts: tuple[tuple[_Item, ...], ...]
    ready: tuple[_Part, ...] | None
    keys: frozenset[str]
    fold: bool = False

    def matches(self, text: str, lookup: Lookup, *, unresolved: bool = False) -> bool:
        """`unresolved` is the answer if a variable stands for nothing in this request."""
        text = text.lower() if self.fold else text
        if self.ready is not None:
            return _matches(self.ready, text)
        values = self._values(lookup)
        if values is None:
            return unresolved
        # Whoever asks may have chosen the values: nothing is put together that is too long to fit.
        if self._shortest(values) > len(text):
            return False
        return _matches(self._resolve(values), text)

    def _values(self, lookup: Lookup) -> dict[Variable, str] | None:
        """What the variables stand for; None if one of them has nothing to stand for."""
        found: dict[Variable, str] = {}
        for item in (item for items in self.parts for item in items):
            if isinstance(item, Variable) and item not in found:
                values = lookup(item.key)
                # A key of several values is no value.
                value = values[0] if len(values) == 1 else item.default
                if value is None or len(values) > 1:
                    return None
                found[item] = value.lower() if self.fold else value
        return found

    def _shortest(self, values: Mapping[Variable, str]) -> int:
        """How long a text is at least that matches."""
        return sum(
            len(values[item])
            if isinstance(item, Variable)
            else len(item)
            if isinstance(item, str)
            else 1
            for items in self.parts
            for item in items
        )

    def _resolve(self, values: Mapping[Variable, str]) -> tuple[_Part, ...]:
        return tuple(
            _part(
                [values[item] if isinstance(item, Variable) else item for item in items],
                searched=False,
            )
            for items in self.parts
        )


def compile_pattern(
    text: str, *, wildcards: bool = True, variables: bool = True, fold: bool = False
) -> Pattern:
    """Raises `MalformedPolicy` for a variable that is none."""
    items: list[_Item | None] = []  # None is a star
    position = 0
    if variables:
        for match in _VARIABLE.finditer(text):
            items += _plain(text[position : match.start()], wildcards, fold)
            items.append(_variable(match.group(1)))
            position = match.end()
    rest = text[position:]
    if variables and "${" in rest:
        raise MalformedPolicy("Policy has an invalid variable")
    items += _plain(rest, wildcards, fold)
    parts: list[list[_Item]] = [[]]
    for item in items:
        if item is None:
            parts.append([])
        else:
            parts[-1].append(item)
    keys = frozenset(item.key for item in items if isinstance(item, Variable))
    ready = None
    if not keys:
        ready = tuple(
            _part(
                [item for item in part if not isinstance(item, Variable)],
                searched=0 < at < len(parts) - 1,
            )
            for at, part in enumerate(parts)
        )
    unready = tuple(tuple(part) for part in parts) if ready is None else ()
    return Pattern(text, unready, ready, keys, fold)


def _plain(text: str, wildcards: bool, fold: bool) -> list[_Item | None]:
    if fold:
        text = text.lower()
    if not wildcards:
        return [text] if text else []
    items: list[_Item | None] = []
    for piece in re.split(r"([*?])", text):
        if piece == "*":
            items.append(None)
        elif piece == "?":
            items.append(_Wild)
        elif piece:
            items.append(piece)
    return items


def _variable(text: str) -> _Item:
    if text in _ESCAPED:
        return text
    match = _VARIABLE_NAME.fullmatch(text)
    if match is None:
        raise MalformedPolicy("Policy has an invalid variable")
    return Variable(match.group(1).lower(), match.group(2))
