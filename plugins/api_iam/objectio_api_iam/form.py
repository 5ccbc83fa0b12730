"""Parameters of the AWS query protocol: a form, whose names have structure.

`Tags.member.1.Key=team` is the key of the first of a list of tags. A name that comes twice is
refused: which one counts would be for each reader to guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from objectio_api_iam.errors import Refusal

BODY_BYTES_MAX: Final = 256 * 1024
FIELDS_MAX: Final = 500
_MEMBER: Final = re.compile(r"member\.([1-9][0-9]{0,3})(?:\.([A-Za-z]{1,64}))?")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class Form:
    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        return self._fields.get(name, default)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def need(self, name: str) -> str:
        value = self._fields.get(name, "")
        if not value:
            raise Refusal("ValidationError", f"The parameter {name} is required.")
        return value

    def number(self, name: str, default: int) -> int:
        if name not in self._fields:
            return default
        if not _NUMBER.fullmatch(self._fields[name]):
            raise Refusal("ValidationError", f"The parameter {name} is not a number.")
        return int(self._fields[name])

    def texts(self, name: str) -> list[str]:
        """`name`.member.1, .2 and so on, in their order."""
        return [item[""] for item in self._members(name) if "" in item]

    def records(self, name: str) -> list[dict[str, str]]:
        """`name`.member.1.Key, .Value and so on."""
        return self._members(name)

    def tags(self, name: str = "Tags") -> dict[str, str]:
        tags: dict[str, str] = {}
        for item in self.records(name):
            key = item.get("Key", "")
            if not key or "Value" not in item:
                raise Refusal("ValidationError", "A tag has a key and a value.")
            if key.lower() in (other.lower() for other in tags):
                raise Refusal("InvalidInput", "Duplicate tag keys found.")
            tags[key] = item["Value"]
        return tags

    def refuse(self, *names: str) -> None:
        """For what would change the meaning of a request and is not built."""
        for name in names:
            if any(found == name or found.startswith(name + ".") for found in self._fields):
                raise Refusal("ValidationError", f"The parameter {name} is not supported.")

    def _members(self, name: str) -> list[dict[str, str]]:
        found: dict[int, dict[str, str]] = {}
        for field, value in self._fields.items():
            if field.startswith(name + "."):
                match = _MEMBER.fullmatch(field, len(name) + 1)
                if match is None:
                    raise Refusal("MalformedQueryString", f"{name} is not a list.")
                found.setdefault(int(match[1]), {})[match[2] or ""] = value
        return [found[number] for number in sorted(found)]


def parse_form(body: bytes) -> Form:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise Refusal("MalformedQueryString") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal("MalformedQueryString", "A parameter comes twice.")
    return Form(fields)
