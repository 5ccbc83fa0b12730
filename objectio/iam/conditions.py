"""Conditions of policy statements (IAM user guide, "IAM JSON policy elements: Condition operators"
and "Conditions with multiple context keys or values"). Pure.

An operator compares each value that the request has for a key with each value of the policy. How the
comparisons add up is the same for all operators:

                       key is absent    otherwise
    operator           no               some value of the request equals some of the policy
    negated operator   yes              no value of the request equals any of the policy
    ForAnyValue:       no               some value of the request satisfies the operator
    ForAllValues:      yes              each value of the request satisfies the operator
    ...IfExists        yes              as without
    Null               "true"           "false"

A value of the request that is not of the operator's type (a number, a date, an address) equals
nothing.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import operator as operators
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal

from objectio.iam.patterns import Lookup, MalformedPolicy, compile_pattern

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Quantifier = Literal["", "all", "any"]

Comparison = Callable[[str, Lookup], bool]
"""Whether a value of the request equals one value of the policy."""

_KEY: Final = re.compile(r"[^\s:]+:\S+")
_ARN_PARTS: Final = 6


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator and one key of it. `operator` is its name without quantifier and IfExists."""

    operator: str
    key: str
    values: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    negated: bool
    quantifier: Quantifier
    if_exists: bool
    keys: frozenset[str]

    def holds(self, lookup: Lookup) -> bool:
        found = lookup(self.key)
        if self.operator == "null":
            return any(value == ("false" if found else "true") for value in self.values)
        if not found:
            return self._holds_absent()
        if self.quantifier == "all":
            return all(self._satisfies(value, lookup) for value in found)
        if self.quantifier == "any":
            return any(self._satisfies(value, lookup) for value in found)
        return any(self._equals(value, lookup) for value in found) is not self.negated

    def _holds_absent(self) -> bool:
        if self.if_exists or self.quantifier == "all":
            return True
        return self.negated and not self.quantifier

    def _equals(self, value: str, lookup: Lookup) -> bool:
        return any(comparison(value, lookup) for comparison in self.comparisons)

    def _satisfies(self, value: str, lookup: Lookup) -> bool:
        return self._equals(value, lookup) is not self.negated


# Each of these takes a value of the policy, what a variable without a value answers, and whether
# there are variables at all; it gives the comparison and the keys of the variables.
_Compiled = tuple[Comparison, frozenset[str]]
_Compiler = Callable[[str, bool, bool], _Compiled]
_NO_KEYS: Final[frozenset[str]] = frozenset()


def _by_pattern(wildcards: bool, fold: bool) -> _Compiler:
    def compile_value(text: str, unresolved: bool, variables: bool) -> _Compiled:
        pattern = compile_pattern(text, wildcards=wildcards, variables=variables, fold=fold)

        def compare(value: str, lookup: Lookup) -> bool:
            return pattern.matches(value, lookup, unresolved=unresolved)

        return compare, pattern.keys

    return compile_value


def _arn(text: str, unresolved: bool, variables: bool) -> _Compiled:
    """Each of the six parts is matched for itself."""
    patterns = [compile_pattern(part, variables=variables) for part in _split_arn(text, variables)]
    if len(patterns) != _ARN_PARTS and text != "*":
        raise MalformedPolicy(f"Policy has an invalid ARN in a condition: {text}")

    def compare(value: str, lookup: Lookup) -> bool:
        parts = value.split(":", _ARN_PARTS - 1)
        if text == "*":
            return True
        return len(parts) == _ARN_PARTS and all(
            pattern.matches(part, lookup, unresolved=unresolved)
            for pattern, part in zip(patterns, parts, strict=True)
        )

    return compare, frozenset().union(*(pattern.keys for pattern in patterns))


def _split_arn(text: str, variables: bool) -> list[str]:
    """At its first five colons, not counting those in the names of variables."""
    parts: list[str] = []
    depth, start = 0, 0
    for i, char in enumerate(text):
        if variables and text.startswith("${", i):
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        elif char == ":" and not depth and len(parts) < _ARN_PARTS - 1:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _by_value(parse: Callable[[str], Any], compare: Callable[[Any, Any], bool]) -> _Compiler:
    """Both sides are parsed; no variables."""

    def compile_value(text: str, unresolved: bool, variables: bool) -> _Compiled:
        wanted = parse(text)
        if wanted is None:
            raise MalformedPolicy(f"Policy has an invalid value in a condition: {text}")

        def compare_value(value: str, lookup: Lookup) -> bool:
            found = parse(value)
            return found is not None and compare(found, wanted)

        return compare_value, _NO_KEYS

    return compile_value


def _network(text: str, unresolved: bool, variables: bool) -> _Compiled:
    network = parse_network(text)
    if network is None:
        raise MalformedPolicy(f"Policy has an invalid IP address in a condition: {text}")

    def compare(value: str, lookup: Lookup) -> bool:
        address = _parse_address(value)
        return address is not None and address.version == network.version and address in network

    return compare, _NO_KEYS


def parse_network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse_number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _parse_date(text: str) -> float | None:
    """W3C's profile of ISO 8601, or seconds since 1970."""
    if re.fullmatch(r"\d{9,12}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None


def _parse_bool(text: str) -> str | None:
    lowered = text.lower()
    return lowered if lowered in ("true", "false") else None


def _parse_binary(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


_ORDERED: Final[tuple[tuple[str, Callable[[Any, Any], bool], bool], ...]] = (
    ("equals", operators.eq, False),
    ("notequals", operators.eq, True),
    ("lessthan", operators.lt, False),
    ("lessthanequals", operators.le, False),
    ("greaterthan", operators.gt, False),
    ("greaterthanequals", operators.ge, False),
)


def _operators() -> dict[str, tuple[_Compiler, bool]]:
    """By lower-case name: how a value is compiled, and whether the operator is negated."""
    table: dict[str, tuple[_Compiler, bool]] = {
        "stringequals": (_by_pattern(False, False), False),
        "stringnotequals": (_by_pattern(False, False), True),
        "stringequalsignorecase": (_by_pattern(False, True), False),
        "stringnotequalsignorecase": (_by_pattern(False, True), True),
        "stringlike": (_by_pattern(True, False), False),
        "stringnotlike": (_by_pattern(True, False), True),
        "arnequals": (_arn, False),
        "arnlike": (_arn, False),
        "arnnotequals": (_arn, True),
        "arnnotlike": (_arn, True),
        "ipaddress": (_network, False),
        "notipaddress": (_network, True),
        "bool": (_by_value(_parse_bool, operators.eq), False),
        "binaryequals": (_by_value(_parse_binary, operators.eq), False),
        "null": (_by_value(_parse_bool, operators.eq), False),
    }
    for kind, parse in (("numeric", _parse_number), ("date", _parse_date)):
        for name, compare, negated in _ORDERED:
            table[kind + name] = (_by_value(parse, compare), negated)
    return table


_OPERATORS: Final = _operators()


def compile_condition(
    operator: str, key: str, values: Sequence[str], *, denies: bool, variables: bool
) -> Condition:
    """`operator` as the policy has it, "ForAnyValue:StringLikeIfExists". `denies` says of which
    effect the statement is: a variable without a value must neither let in nor fail to keep out.
    Raises `MalformedPolicy`."""
    prefix, separator, rest = operator.partition(":")
    quantifier: Quantifier = ""
    if separator:
        if prefix.lower() not in ("forallvalues", "foranyvalue"):
            raise MalformedPolicy(f"Policy has an invalid condition operator: {operator}")
        quantifier = "all" if prefix.lower() == "forallvalues" else "any"
        name = rest.lower()
    else:
        name = operator.lower()
    if_exists = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    if name not in _OPERATORS or (name == "null" and (if_exists or quantifier)):
        raise MalformedPolicy(f"Policy has an invalid condition operator: {operator}")
    if not _KEY.fullmatch(key):
        raise MalformedPolicy(f"Policy has an invalid condition key: {key}")
    compiler, negated = _OPERATORS[name]
    compiled = [compiler(value, negated and not denies, variables) for value in values]
    return Condition(
        operator=name,
        key=key.lower(),
        values=tuple(value.lower() if name == "null" else value for value in values),
        comparisons=tuple(comparison for comparison, _ in compiled),
        negated=negated,
        quantifier=quantifier,
        if_exists=if_exists,
        keys=frozenset((key.lower(),)).union(*(keys for _, keys in compiled)),
    )
