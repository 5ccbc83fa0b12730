"""Policies: documents of statements, parsed and compiled once, asked many times. Pure.

A document comes in JSON (IAM user guide, "IAM JSON policy elements reference") and in one of three
kinds: `identity` says what its holder may do and names no principal; `resource` stands at a bucket
and says who may do what with it; `trust` stands at a role and says who may assume it. What cannot be
understood is refused when the document is stored (`MalformedPolicy`), never ignored when it is asked:
a condition that is not known would otherwise turn a narrow grant into a wide one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from objectio.abc.api import Identity
from objectio.iam.arns import ADMIN_SERVICE, translate
from objectio.iam.callers import Callers, Grade, parse_callers
from objectio.iam.conditions import Condition, compile_condition
from objectio.iam.patterns import (
    LazyValues,
    Lookup,
    MalformedPolicy,
    Pattern,
    Values,
    compile_pattern,
    search_cost,
)

Kind = Literal["identity", "resource", "trust"]

# IAM user guide, "IAM and AWS STS quotas", and S3 user guide, "Bucket policies".
POLICY_BYTES_MAX: Final[Mapping[Kind, int]] = {
    "identity": 10 * 1024,
    "resource": 20 * 1024,
    "trust": 4 * 1024,
}
SEARCH_COST_MAX: Final = 256
"""Of all that a document has to look for between stars (`search_cost`): no request is to be slow for
what a policy says, whoever chose the policy and the request."""
VERSION_WITH_VARIABLES: Final = "2012-10-17"
_VERSIONS: Final = ("2008-10-17", VERSION_WITH_VARIABLES)

_ACTION: Final = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_SID: Final = re.compile(r"[A-Za-z0-9]*")
_BUCKET_ARN: Final = re.compile(r"(?:arn:[a-z-]+|\*):s3:[^:/]*:[^:/]*:(.+)", re.DOTALL)
_DOCUMENT_ELEMENTS: Final = frozenset(("Version", "Id", "Statement"))
_STATEMENT_ELEMENTS: Final = frozenset(
    (
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    )
)
_ANYWHERE: Final = compile_pattern("*")
_OF_ADMIN: Final = f"{ADMIN_SERVICE}:"


class Asked(NamedTuple):
    """What a statement is compared with. `action` is in lower case, `owner` the canonical id of the
    account that the resource belongs to."""

    identity: Identity
    action: str
    resource: str
    lookup: Lookup
    owner: str = ""


class Answer(NamedTuple):
    """Of one policy: whether it denies, and the most that one of its statements allows."""

    denied: bool
    allowed: Grade


@dataclass(frozen=True, slots=True)
class Statement:
    """`principals` is None in policies of identities. The `not_` flags turn an element around. `managed`
    are the resources as they are compared with what operators manage (`objectio.iam.arns.ADMIN`)."""

    denies: bool
    principals: Callers | None
    not_principals: bool
    actions: tuple[Pattern, ...]
    not_actions: bool
    resources: tuple[Pattern, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]
    managed: tuple[Pattern, ...] = ()

    def ask(self, asked: Asked) -> Grade:
        """`Grade.NONE` if it does not apply."""
        grade = self._grade(asked.identity, asked.owner)
        if grade is Grade.NONE:
            return grade
        lookup = asked.lookup
        named = any(pattern.matches(asked.action, lookup) for pattern in self.actions)
        if named is self.not_actions:
            return Grade.NONE
        # A variable without a value names nothing; left out of an allowance, it would name all.
        unresolved = self.not_resources and not self.denies
        patterns = self.managed if asked.action.startswith(_OF_ADMIN) else self.resources
        named = any(
            pattern.matches(asked.resource, lookup, unresolved=unresolved) for pattern in patterns
        )
        if named is self.not_resources:
            return Grade.NONE
        return grade if all(item.holds(lookup) for item in self.conditions) else Grade.NONE

    def _grade(self, identity: Identity, owner: str) -> Grade:
        if self.principals is None:
            return Grade.DIRECT
        if self.not_principals:
            return Grade.NONE if self.principals.covers(identity, owner) else Grade.DIRECT
        return self.principals.grade(identity, owner)


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled document. `keys` are the condition keys that it mentions, lower-case, in conditions
    and in variables: what need not be found out for a request that no policy asks about. `chars` is
    the length of its text."""

    kind: Kind
    statements: tuple[Statement, ...] = ()
    keys: frozenset[str] = frozenset()
    chars: int = 0

    @staticmethod
    def parse(raw: bytes | str, *, kind: Kind, bucket: str = "") -> Policy:
        """Raises `MalformedPolicy`. With `bucket`, each resource must be of that bucket."""
        document = _load(raw, kind)
        _check_elements(document, _DOCUMENT_ELEMENTS)
        version = document.get("Version", _VERSIONS[0])
        if version not in _VERSIONS:
            raise MalformedPolicy("The policy must contain a valid version string")
        if not isinstance(document.get("Id", ""), str):
            raise MalformedPolicy("Policy has an invalid Id")
        sources = document.get("Statement")
        if isinstance(sources, dict):
            sources = [sources]
        if not isinstance(sources, list) or not sources:
            raise MalformedPolicy("Missing required field Statement")
        reader = _Reader(kind, bucket, version == VERSION_WITH_VARIABLES)
        statements = tuple(reader.statement(source) for source in sources)
        return Policy(kind, statements, frozenset(reader.keys), len(raw))

    def ask(self, asked: Asked) -> Answer:
        denied, allowed = False, Grade.NONE
        for statement in self.statements:
            if statement.denies:
                denied = denied or statement.ask(asked) is not Grade.NONE
            else:
                allowed = max(allowed, statement.ask(asked))
        return Answer(denied, allowed)

    def mentions(self, prefix: str) -> bool:
        """Whether a condition key that starts so is asked about: "s3:ExistingObjectTag/"."""
        lowered = prefix.lower()
        return any(key.startswith(lowered) for key in self.keys)


def _load(raw: bytes | str, kind: Kind) -> dict[str, Any]:
    data = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
    # Blanks do not count in IAM.
    size = len(data) if kind == "resource" else len(b"".join(data.split()))
    if size > POLICY_BYTES_MAX[kind]:
        raise MalformedPolicy(f"Policies must not be larger than {POLICY_BYTES_MAX[kind]} bytes")
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy(
            "Policies must be valid JSON and the first byte must be '{'"
        ) from error
    if not isinstance(document, dict):
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An element twice means one thing to one reader and another to the next."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedPolicy("Duplicate JSON element in policy")
    return found


def _refuse_constant(name: str) -> Any:
    raise MalformedPolicy(f"Policy has an invalid number: {name}")


def _check_elements(found: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in found:
        if name not in known:
            raise MalformedPolicy(f"Unknown field {name}")


class _Reader:
    """Reads the statements of one document; collects the condition keys that they mention."""

    def __init__(self, kind: Kind, bucket: str, variables: bool) -> None:
        self.keys: set[str] = set()
        self._kind = kind
        self._bucket = bucket
        self._variables = variables
        self._sids: set[str] = set()
        self._search_cost = 0

    def _spend(self, text: str) -> None:
        self._search_cost += search_cost(text)
        if self._search_cost > SEARCH_COST_MAX:
            raise MalformedPolicy('Policy has too many "?" between "*"')

    def statement(self, source: Any) -> Statement:
        if not isinstance(source, dict):
            raise MalformedPolicy("Statement must be an object or a list of objects")
        _check_elements(source, _STATEMENT_ELEMENTS)
        self._check_sid(source.get("Sid", ""))
        effect = source.get("Effect")
        if effect not in ("Allow", "Deny"):
            raise MalformedPolicy(f"Invalid effect: {effect}")
        denies = effect == "Deny"
        principals, not_principals = self._principals(source, denies)
        actions, not_actions = self._actions(source)
        resources, not_resources = self._resources(source)
        managed = self._managed(resources) if self._kind == "identity" else ()
        return Statement(
            denies=denies,
            principals=principals,
            not_principals=not_principals,
            actions=actions,
            not_actions=not_actions,
            resources=resources,
            not_resources=not_resources,
            conditions=self._conditions(source.get("Condition", {}), denies),
            managed=managed,
        )

    def _check_sid(self, sid: Any) -> None:
        if not isinstance(sid, str):
            raise MalformedPolicy("Statement IDs (SID) must be text")
        # S3 takes any text, and shows some with blanks in its own examples.
        if self._kind != "resource" and not _SID.fullmatch(sid):
            raise MalformedPolicy("Statement IDs (SID) must be alpha-numeric.")
        if sid and sid in self._sids:
            raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
        self._sids.add(sid)

    def _principals(self, source: Mapping[str, Any], denies: bool) -> tuple[Callers | None, bool]:
        if self._kind == "identity":
            if "Principal" in source or "NotPrincipal" in source:
                raise MalformedPolicy("Policy document should not specify a principal.")
            return None, False
        value, turned = _one_of(source, "Principal", "NotPrincipal")
        if turned and not denies:
            raise MalformedPolicy("Allow with NotPrincipal is not allowed")
        return parse_callers(value), turned

    def _actions(self, source: Mapping[str, Any]) -> tuple[tuple[Pattern, ...], bool]:
        value, turned = _one_of(source, "Action", "NotAction")
        names = _texts(value, "Action")
        service = {"resource": "s3:", "trust": "sts:", "identity": ""}[self._kind]
        for name in names:
            if not _ACTION.fullmatch(name):
                raise MalformedPolicy(f"Policy has invalid action: {name}")
            if name != "*" and not name.lower().startswith(service):
                raise MalformedPolicy(f"Policy has invalid action: {name}")
        return tuple(compile_pattern(name, variables=False, fold=True) for name in names), turned

    def _resources(self, source: Mapping[str, Any]) -> tuple[tuple[Pattern, ...], bool]:
        if self._kind == "trust":
            if "Resource" in source or "NotResource" in source:
                raise MalformedPolicy("Has prohibited field Resource")
            return (_ANYWHERE,), False
        value, turned = _one_of(source, "Resource", "NotResource")
        patterns = []
        for text in map(translate, _texts(value, "Resource")):
            self._spend(text)
            pattern = compile_pattern(text, variables=self._variables)
            self._check_resource(text)
            self.keys |= pattern.keys
            patterns.append(pattern)
        return tuple(patterns), turned

    def _managed(self, resources: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
        """Those that may name what operators manage, without regard to case."""
        return tuple(
            compile_pattern(pattern.source, variables=self._variables, fold=True)
            for pattern in resources
            if not pattern.source.startswith("arn:aws:")
        )

    def _check_resource(self, text: str) -> None:
        if self._kind == "identity":
            if not text.startswith(("arn:", "*")):
                raise MalformedPolicy(f'Resource {text} must be in ARN format or "*".')
            return
        match = _BUCKET_ARN.fullmatch(text)
        if match is None and text != "*":
            raise MalformedPolicy("Policy has invalid resource")
        if match is not None and self._bucket:
            name = match.group(1).split("/", 1)[0]
            wanted = compile_pattern(name, variables=False)
            if not wanted.matches(self._bucket, Lookup(dict)):
                raise MalformedPolicy("Policy has invalid resource")

    def _conditions(self, source: Any, denies: bool) -> tuple[Condition, ...]:
        if not isinstance(source, dict):
            raise MalformedPolicy("Condition must be an object")
        conditions = []
        for operator, by_key in source.items():
            if not isinstance(by_key, dict) or not by_key:
                raise MalformedPolicy(f"Condition {operator} must be an object")
            for key, value in by_key.items():
                values = _scalars(value, key)
                if _is_of_arns(operator, key):
                    values = [translate(text) for text in values]
                for text in values:
                    self._spend(text)
                condition = compile_condition(
                    operator,
                    key,
                    values,
                    denies=denies,
                    variables=self._variables,
                )
                self.keys |= condition.keys
                conditions.append(condition)
        return tuple(conditions)


def _is_of_arns(operator: str, key: str) -> bool:
    """Not so a tag: what stands there is nobody's name but its own."""
    return "/" not in key and ("arn" in operator.lower() or key.lower().endswith("arn"))


def _one_of(source: Mapping[str, Any], name: str, turned: str) -> tuple[Any, bool]:
    """The value of whichever of the two there is; both or neither are an error."""
    if (name in source) == (turned in source):
        raise MalformedPolicy(f"Missing required field {name}, or {turned} besides it")
    return (source[name], False) if name in source else (source[turned], True)


def _texts(value: Any, name: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise MalformedPolicy(f"Invalid {name} in policy")
    return texts


def _scalars(value: Any, name: str) -> list[str]:
    """Values of a condition: texts, and the numbers and truth values that JSON has."""
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        if isinstance(item, bool):
            texts.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            texts.append(str(item))
        else:
            raise MalformedPolicy(f"Invalid value of condition {name}")
    if not texts:
        raise MalformedPolicy(f"Condition {name} has no values")
    return texts


__all__ = [
    "Answer",
    "Asked",
    "Kind",
    "LazyValues",
    "Lookup",
    "MalformedPolicy",
    "Policy",
    "Statement",
    "Values",
]
