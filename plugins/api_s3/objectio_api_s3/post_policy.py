"""The policy of a form upload: what whoever signed it lets be uploaded, and until when.

S3 API reference, "Creating a POST policy". Each field of the form must be named by a condition, and
each condition must hold. The bucket counts as a field, so that a policy is always for one.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from objectio.errors import AccessDenied
from objectio_api_s3.errors import refuse
from objectio_api_s3.times import parse_iso8601

_UNSIGNED: Final = frozenset(("file", "policy", "signature", "x-amz-signature", "awsaccesskeyid"))
_IGNORED: Final = ("x-ignore-", "x-amz-checksum-")  # a checksum only proves what was meant
_LENGTH: Final = "content-length-range"
_SIZE_MAX: Final = 1 << 62


class Condition(NamedTuple):
    """`field` in lower case. `prefix` says whether the value must only begin so."""

    field: str
    value: str
    prefix: bool

    def holds(self, fields: Mapping[str, str]) -> bool:
        given = fields.get(self.field)
        if given is None:  # what may be anything may be nothing
            return self.prefix and not self.value
        if not self.prefix:
            return given == self.value
        if self.field == "content-type":  # of a list, each must
            return all(part.strip().startswith(self.value) for part in given.split(","))
        return given.startswith(self.value)

    def __str__(self) -> str:
        kind = "starts-with" if self.prefix else "eq"
        return json.dumps([kind, f"${self.field}", self.value])


class PostPolicy(NamedTuple):
    expires_ms: int
    conditions: tuple[Condition, ...]
    size_min: int
    size_max: int

    def check(self, fields: Mapping[str, str], size: int) -> None:
        """`fields` has the bucket too. Raises `AccessDenied`, or a `Refusal` about the size."""
        if self.expires_ms <= time.time() * 1000:
            _deny("Policy expired.")
        named = {condition.field for condition in self.conditions}
        for field in fields:
            if field not in named and field not in _UNSIGNED and not field.startswith(_IGNORED):
                _deny(f"Extra input fields: {field}")
        for condition in self.conditions:
            if not condition.holds(fields):
                _deny(f"Policy Condition failed: {condition}")
        if size < self.size_min:
            refuse("EntityTooSmall", ProposedSize=str(size), MinSizeAllowed=str(self.size_min))
        if size > self.size_max:
            refuse("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(self.size_max))


def _deny(why: str) -> NoReturn:
    raise AccessDenied(f"Invalid according to Policy: {why}", reason="AccessDenied")


def parse_policy(encoded: str) -> PostPolicy:
    try:
        document = json.loads(base64.b64decode(encoded.encode("ascii"), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        _refuse("it is not JSON in base64")
    if not isinstance(document, dict):
        _refuse("it is no object")
    unknown = document.keys() - {"expiration", "conditions"}
    if unknown:
        _refuse(f"Unexpected: '{min(unknown)}'")
    expiration, listed = document.get("expiration"), document.get("conditions")
    expires_ms = parse_iso8601(expiration) if isinstance(expiration, str) else None
    if expires_ms is None or "T" not in str(expiration):
        _refuse("Invalid 'expiration' value")
    if not isinstance(listed, list):
        _refuse("Policy missing conditions")
    conditions: list[Condition] = []
    size_min, size_max = 0, _SIZE_MAX
    for item in listed:
        if isinstance(item, list) and item and _is(item[0], _LENGTH):
            low, high = _parse_range(item)
            size_min, size_max = max(size_min, low), min(size_max, high)
        else:
            conditions += _parse_condition(item)
    return PostPolicy(expires_ms, tuple(conditions), size_min, size_max)


def _is(value: object, name: str) -> bool:
    return isinstance(value, str) and value.lower() == name


def _parse_range(item: list[Any]) -> tuple[int, int]:
    if len(item) != 3:
        _refuse("Invalid content-length-range condition")
    bounds = [_bound(value) for value in item[1:]]
    return bounds[0], bounds[1]


def _bound(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse("Invalid content-length-range condition")
    return value


def _parse_condition(item: object) -> list[Condition]:
    if isinstance(item, dict) and item:
        return [_condition(name, value, prefix=False) for name, value in item.items()]
    if not isinstance(item, list) or len(item) != 3:
        _refuse("Invalid Simple-Condition: each must be a pair, or have an operator")
    kind, name, value = item
    prefix = _is(kind, "starts-with")
    if not isinstance(name, str) or not name.startswith("$") or not (prefix or _is(kind, "eq")):
        _refuse("Invalid Condition: its operator or field is not known")
    return [_condition(name[1:], value, prefix=prefix)]


def _condition(name: str, value: object, *, prefix: bool) -> Condition:
    if not name or not isinstance(value, str):
        _refuse("Invalid Simple-Condition: value must be a string")
    return Condition(name.lower(), value, prefix)


def _refuse(why: str) -> NoReturn:
    refuse("InvalidPolicyDocument", f"Invalid Policy: {why}.")
