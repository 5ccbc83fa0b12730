"""What S3 means by "public" (S3 user guide, "Blocking public access", "The meaning of 'public'").

Pure. A policy is public unless each of its allowances is for named principals, or is kept to fixed
values of a key that says where requests come from or for whom: an allowance to everyone with a
wildcard or a variable in the condition is one to everyone.
"""

from __future__ import annotations

from typing import Final

from objectio.iam.conditions import Condition, parse_network
from objectio.iam.policy import Policy, Statement
from objectio.model.bucket import ALL_USERS, AUTHENTICATED_USERS, Acl

_PUBLIC_GROUPS: Final = frozenset((ALL_USERS, AUTHENTICATED_USERS))

_CONFINING_KEYS: Final = frozenset(
    (
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "s3:dataaccesspointaccount",
        "s3:dataaccesspointarn",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    )
)
_CONFINING_OPERATORS: Final = frozenset(
    ("stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike")
)
_IPV4_PREFIX_MIN: Final = 8
_IPV6_PREFIX_MIN: Final = 32


def is_public_policy(policy: Policy) -> bool:
    """Whether it grants something to everyone, or to whoever a condition with wildcards lets in."""
    return any(_is_public(statement) for statement in policy.statements)


def is_public_acl(acl: Acl) -> bool:
    """Whether it grants something to one of the two groups that anybody is a member of."""
    return any(grant.group and grant.grantee in _PUBLIC_GROUPS for grant in acl.grants)


def _is_public(statement: Statement) -> bool:
    if statement.denies or statement.principals is None or not statement.principals.everyone:
        return False
    return not any(_confines(condition) for condition in statement.conditions)


def _confines(condition: Condition) -> bool:
    if condition.negated or condition.if_exists or condition.quantifier == "all":
        return False
    if condition.operator == "ipaddress" and condition.key == "aws:sourceip":
        return all(_is_narrow(value) for value in condition.values)
    if condition.operator not in _CONFINING_OPERATORS or condition.key not in _CONFINING_KEYS:
        return False
    return all(_is_fixed(condition.key, value) for value in condition.values)


def _is_fixed(key: str, value: str) -> bool:
    """Wildcards in an ARN may stand behind a fixed account."""
    fixed = value
    if key == "aws:sourcearn":
        parts = value.split(":", 5)
        # ARNs of buckets name no account, and are fixed as a whole.
        fixed = parts[4] if len(parts) == 6 and parts[4] else value
    return not any(mark in fixed for mark in ("*", "?", "${"))


def _is_narrow(value: str) -> bool:
    network = parse_network(value)
    if network is None:
        return False
    # No private network (RFC 1918 §3), which S3 excepts, is wider.
    shortest = _IPV4_PREFIX_MIN if network.version == 4 else _IPV6_PREFIX_MIN
    return network.prefixlen >= shortest
