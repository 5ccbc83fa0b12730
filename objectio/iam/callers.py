"""Who a statement of a resource's policy is about (IAM user guide, "AWS JSON policy elements:
Principal" and "NotPrincipal"). Pure.

A caller is several principals at once: its account, and a user, or a role and a session of it. Which
of them a statement names decides how much it says (`Grade`): naming an account leaves it to the
account to say who of it may.

A principal is named by its ARN, or by "arn:obio:iam::user/ann" without an account (also
"arn:objectio:"): then it is one of the account that the resource belongs to, and nobody of the same
name elsewhere. "OBIO" is another word for "AWS".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from objectio.abc.api import Identity
from objectio.iam.patterns import MalformedPolicy

_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ROOT: Final = re.compile(r"arn:[a-z-]+:iam::([A-Za-z0-9_-]{1,64}):root")
_USER_OR_ROLE: Final = re.compile(r"arn:[a-z-]+:iam::[A-Za-z0-9_-]{1,64}:(?:user|role)/[^\s*?]+")
_OTHER: Final = re.compile(r"^arn:(?:obio|objectio):(?=iam:|sts:)")
_OF_OWNER: Final = re.compile(r"arn:(?:obio|objectio):iam::(root|(?:user|role)/[^\s*?:]+)")
_SESSION: Final = re.compile(
    r"arn:[a-z-]+:sts::[A-Za-z0-9_-]{1,64}:(?:assumed-role/[^\s*?/]+|federated-user)/[^\s*?/]+"
)
_UNIQUE_ID: Final = re.compile(r"A(?:IDA|ROA)[A-Z0-9]{12,28}")
_KINDS: Final = ("AWS", "OBIO")
_PROVIDER: Final = re.compile(r"arn:[a-z-]+:iam::[^\s*?]+|[a-z0-9.-]+")
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com[a-z0-9.-]*")
_ROOT_OF_OWNER: Final = "root"
_CANONICAL_ID: Final = re.compile(r"[^\s*?]{1,128}")


class Grade(IntEnum):
    """What a statement that allows something amounts to.

    NONE     it is not about the caller
    ACCOUNT  about the account of the caller: one of the caller's own policies must allow it too
    ROLE     about everyone, or about the role of a session, whose session policies must allow it too
    DIRECT   about this user, or this very session
    """

    NONE = 0
    ACCOUNT = 1
    ROLE = 2
    DIRECT = 3


@dataclass(frozen=True, slots=True)
class Callers:
    """A Principal element. `accounts` are ids, `canonical_ids` of accounts too, `arns` of users,
    roles, sessions and providers of identities; `of_owner` ends of ARNs in the account that the resource
    belongs to, whose canonical id is asked with. Services that are named are nobody who calls us."""

    everyone: bool = False
    accounts: frozenset[str] = frozenset()
    canonical_ids: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    of_owner: frozenset[str] = frozenset()

    def grade(self, identity: Identity, owner: str = "") -> Grade:
        arns = self._arns(identity, owner)
        if identity.arn in arns or identity.user_id in arns:
            return Grade.DIRECT
        names_account = self._names_account(identity, owner)
        if names_account and identity.is_account_root:
            return Grade.DIRECT
        role_id = identity.user_id.partition(":")[0]
        if self.everyone or identity.role_arn in arns or role_id in arns:
            return Grade.ROLE
        return Grade.ACCOUNT if names_account else Grade.NONE

    def covers(self, identity: Identity, owner: str = "") -> bool:
        """Whether each of the principals that the caller is has been named: what NotPrincipal in a
        denial leaves out. Who names a user only has not left out the user's account."""
        if self.everyone:
            return True
        if not identity.account:
            return identity.arn in self.arns
        if not self._names_account(identity, owner):
            return False
        if identity.is_account_root:
            return True
        arns = self._arns(identity, owner)
        named = identity.arn in arns
        return named and (not identity.role_arn or identity.role_arn in arns)

    def _names_account(self, identity: Identity, owner: str) -> bool:
        if not identity.account:
            return False
        if _ROOT_OF_OWNER in self.of_owner and identity.canonical_id == owner:
            return True
        return identity.account in self.accounts or identity.canonical_id in self.canonical_ids

    def _arns(self, identity: Identity, owner: str) -> frozenset[str]:
        """With those of the owner's account, if that is the caller's."""
        if not self.of_owner or not identity.account or identity.canonical_id != owner:
            return self.arns
        return self.arns | {f"arn:aws:iam::{identity.account}:{name}" for name in self.of_owner}


def parse_callers(value: Any) -> Callers:
    """Raises `MalformedPolicy`. Whether those who are named exist is not asked."""
    if value == "*":
        return Callers(everyone=True)
    if not isinstance(value, dict) or not value:
        raise MalformedPolicy('Invalid policy syntax: a principal must be "*" or an object')
    everyone = False
    accounts: set[str] = set()
    canonical_ids: set[str] = set()
    arns: set[str] = set()
    of_owner: set[str] = set()
    for kind, names in value.items():
        for name in _names(names):
            if kind in _KINDS and name == "*":
                everyone = True
            elif kind in _KINDS:
                _add(name, accounts, arns, of_owner)
            elif kind == "CanonicalUser" and _CANONICAL_ID.fullmatch(name):
                canonical_ids.add(name)
            elif kind == "Federated" and _PROVIDER.fullmatch(name):
                arns.add(name)
            elif kind != "Service" or not _SERVICE.fullmatch(name):
                raise MalformedPolicy("Invalid principal in policy")
    return Callers(
        everyone,
        frozenset(accounts),
        frozenset(canonical_ids),
        frozenset(arns),
        frozenset(of_owner),
    )


def _names(value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise MalformedPolicy("Invalid principal in policy")
    return names


def _add(name: str, accounts: set[str], arns: set[str], of_owner: set[str]) -> None:
    if (own := _OF_OWNER.fullmatch(name)) is not None:
        of_owner.add(own.group(1))
        return
    name = _OTHER.sub("arn:aws:", name)
    root = _ROOT.fullmatch(name)
    if root is not None:
        accounts.add(root.group(1))
    elif _USER_OR_ROLE.fullmatch(name) or _SESSION.fullmatch(name) or _UNIQUE_ID.fullmatch(name):
        arns.add(name)
    elif _ACCOUNT.fullmatch(name):
        accounts.add(name)
    else:
        raise MalformedPolicy("Invalid principal in policy")
