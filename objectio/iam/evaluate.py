"""Whether a request is allowed (IAM user guide, "Policy evaluation logic"; S3 user guide, "How Amazon
S3 authorizes a request"). Pure: who asks has read everything that is needed.

The rules, the first that applies decides:

1. The root of the cluster may do anything; who calls this has let it pass already.
2. A key that is narrowed down (a service account's) may do only what its own policy allows too,
   whatever else allows it. Neither it, nor a key that ends, nor a session of a user or an account's
   root (GetSessionToken; a role's may) changes identities: it could make itself a key that lasts.
3. The root of the account that owns a bucket may always read, write and delete its policy, so
   nobody can lock themselves out.
4. An explicit deny, in whichever policy.
5. The caller's own account owns the resource: the caller's policies or the bucket's policy allow it.
   An account's root needs no policies within its account.
6. Another account owns it: the caller's policies *and* the owner allow it, by policy or by ACL.
7. Nobody (`ANONYMOUS`): the owner allows it to everyone, by policy or by ACL.
8. Denied.

Credentials of a session that was narrowed down may do only what its session policies allow too.
An object that another account than the bucket's owner owns (only where ACLs are enabled) is that
account's: the bucket's policy can deny, but only the object's ACL and owner can grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from objectio.abc.api import Identity
from objectio.iam.arns import ADMIN
from objectio.iam.callers import Grade
from objectio.iam.policy import Answer, Asked, LazyValues, Lookup, Policy
from objectio.iam.public import is_public_policy
from objectio.model.bucket import (
    ALL_USERS,
    AUTHENTICATED_USERS,
    Acl,
    ObjectOwnership,
    Permission,
    PublicAccessBlock,
)

NOTHING_BLOCKED: Final = PublicAccessBlock()


@dataclass(frozen=True, slots=True)
class Acls:
    """What may be granted besides policies. None of it counts under BucketOwnerEnforced.

    bucket         the bucket's ACL
    object         that of the object, when `wants_object` says so and there is one
    object_owner   canonical id of the object's owner, likewise; "" for the bucket's
    """

    bucket: Acl | None = None
    object: Acl | None = None
    object_owner: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """May `identity` do `action` with `resource`?

    resource     ARN: "arn:aws:s3:::bucket/key"
    owner        canonical id of the account whose bucket (or role, or user) it is
    values       what the request has for condition keys; called once, and only if a policy asks.
                 Existing tags of the object are to be in it if `wants_tags`
    policy       of the bucket, of kind "resource"; None if it has none
    ownership    whether ACLs count
    block        what of the grants to the public counts
    writing      whether it goes with the writing of an object: ACLs know no finer permission, so who may
                 write by that of the bucket may say what goes with it (S3 user guide, "Mapping of ACL
                 permissions and access policy permissions"), unless something denies it
    """

    identity: Identity
    action: str
    resource: str
    owner: str
    values: LazyValues = dict
    policy: Policy | None = None
    acls: Acls = Acls()
    ownership: ObjectOwnership = "BucketOwnerEnforced"
    block: PublicAccessBlock = NOTHING_BLOCKED
    writing: bool = False


class Decision(NamedTuple):
    """`reason` is for the log and for tests: a rule's name, nothing secret."""

    allowed: bool
    reason: str


# S3 user guide, "Access control list (ACL) overview", "Mapping of ACL permissions and access policy
# permissions", in lower case. WRITE of a bucket lets objects of others be replaced, so to keep them
# from being deleted would protect nothing.
_BUCKET_PERMISSIONS: Final[Mapping[str, Permission]] = {
    "s3:listbucket": "READ",
    "s3:listbucketversions": "READ",
    "s3:listbucketmultipartuploads": "READ",
    "s3:putobject": "WRITE",
    "s3:deleteobject": "WRITE",
    "s3:abortmultipartupload": "WRITE",
    "s3:listmultipartuploadparts": "WRITE",
    "s3:getbucketacl": "READ_ACP",
    "s3:putbucketacl": "WRITE_ACP",
}
_OBJECT_PERMISSIONS: Final[Mapping[str, Permission]] = {
    "s3:getobject": "READ",
    "s3:getobjectversion": "READ",
    "s3:getobjectacl": "READ_ACP",
    "s3:getobjectversionacl": "READ_ACP",
    "s3:putobjectacl": "WRITE_ACP",
    "s3:putobjectversionacl": "WRITE_ACP",
}
# What only the owner of an object may grant, besides what an ACL can.
_OF_OBJECT_OWNER: Final = frozenset(("s3:getobjectattributes", "s3:getobjectversionattributes"))
_OF_BUCKET_POLICY: Final = frozenset(
    ("s3:getbucketpolicy", "s3:putbucketpolicy", "s3:deletebucketpolicy")
)
# What tells of identities, and changes none.
_TELLS: Final = ("get", "list", "simulate")
_IDENTITIES: Final = f"{ADMIN}account/"
_OF_NO_IDENTITY: Final = frozenset(("setaccountquota",))
_TAG_KEYS: Final = ("s3:existingobjecttag/", "s3:resourcetag/")


class _Caller(NamedTuple):
    """What the caller's own policies say. `capped`: they allow it, and those of the session do."""

    denied: bool
    capped: bool
    session_allows: bool


def evaluate(question: Question) -> Decision:
    identity = question.identity
    if identity.is_root:
        return Decision(True, "root of the cluster")
    action = question.action.lower()
    asked = Asked(identity, action, question.resource, Lookup(question.values), question.owner)
    if (reason := _beyond_key(asked)) is not None:
        return Decision(False, reason)
    own = bool(identity.canonical_id) and identity.canonical_id == question.owner
    if own and identity.is_account_root and action in _OF_BUCKET_POLICY:
        return Decision(True, "the account's root and the bucket's policy")
    granted = Answer(False, Grade.NONE) if question.policy is None else question.policy.ask(asked)
    if granted.denied:
        return Decision(False, "denied by the resource's policy")
    caller = _ask_caller(identity, asked)
    if caller.denied:
        return Decision(False, "denied by a policy of the caller")
    grade = granted.allowed
    if question.policy is not None and question.policy.kind == "trust":
        return _trusted(own, caller, grade, identity)
    if not own and question.block.restrict_buckets and question.policy is not None:
        grade = Grade.NONE if is_public_policy(question.policy) else grade
    if _belongs_to_other(question, action):
        return _of_other_owner(question, action, caller)
    return _of_bucket_owner(question, action, own, caller, grade)


def _beyond_key(asked: Asked) -> str | None:
    """Why the limits of the caller's credentials do not let it; None if they do. What they may hand out,
    they may hand out; but no credentials."""
    identity = asked.identity
    limits = identity.limits
    if limits is not None and limits.policy is not None:
        answer = limits.policy.ask(asked)
        if answer.denied or not answer.allowed:
            return "the key's own policy does not allow it"
    lasts = limits is None and not (identity.session and not identity.role_arn)
    if not lasts and _changes_identities(asked):
        return "credentials that end, or are narrowed down, change no identities"
    return None


def _changes_identities(asked: Asked) -> bool:
    service, _, name = asked.action.partition(":")
    about = service == "iam" or (service == "admin" and asked.resource.startswith(_IDENTITIES))
    return about and not name.startswith(_TELLS) and name not in _OF_NO_IDENTITY


def _ask_caller(identity: Identity, asked: Asked) -> _Caller:
    answers = [policy.ask(asked) for policy in identity.policies]
    denied = any(answer.denied for answer in answers)
    allows = identity.is_account_root or any(answer.allowed for answer in answers)
    session_allows = True
    if identity.session_policies is not None:
        answers = [policy.ask(asked) for policy in identity.session_policies]
        denied = denied or any(answer.denied for answer in answers)
        session_allows = any(answer.allowed for answer in answers)
    return _Caller(denied, allows and session_allows, session_allows)


def _trusted(own: bool, caller: _Caller, grade: Grade, identity: Identity) -> Decision:
    """A role's trust policy must always allow it; naming the account leaves it to the account.
    Who has no account is known by a provider only, and named by the trust policy or not."""
    if grade is Grade.NONE:
        return Decision(False, "not trusted")
    if not identity.account or caller.capped:
        return Decision(True, "trusted")
    if own and grade is Grade.DIRECT:
        return Decision(True, "trusted by name")
    return Decision(False, "the caller's policies do not allow it")


def _of_bucket_owner(
    question: Question, action: str, own: bool, caller: _Caller, grade: Grade
) -> Decision:
    by_acl = _acl_allows(question, action)
    if own:
        if caller.capped:
            return Decision(True, "allowed by the caller's policies")
        if grade is Grade.DIRECT:
            return Decision(True, "allowed by the bucket's policy")
        if caller.session_allows and (grade is Grade.ROLE or by_acl is _Members.GROUP):
            return Decision(True, "allowed by the bucket's policy or ACL")
        return Decision(False, "nothing allows it")
    if grade is Grade.NONE and by_acl is _Members.NONE:
        return Decision(False, "the owner does not allow it")
    if not question.identity.account:
        return Decision(True, "allowed to everyone")
    if caller.capped:
        return Decision(True, "allowed by both accounts")
    return Decision(False, "the caller's account does not allow it")


def _belongs_to_other(question: Question, action: str) -> bool:
    owner = "" if question.writing else question.acls.object_owner
    return bool(owner) and owner != question.owner and wants_object(action, question.ownership)


def _of_other_owner(question: Question, action: str, caller: _Caller) -> Decision:
    identity = question.identity
    own = bool(identity.canonical_id) and identity.canonical_id == question.acls.object_owner
    if own and caller.capped:
        return Decision(True, "allowed by the caller's policies")
    by_acl = _acl_allows(question, action)
    if by_acl is _Members.NONE:
        return Decision(False, "the object's owner does not allow it")
    if not identity.account:
        return Decision(True, "allowed to everyone by the object's ACL")
    if caller.capped or (own and caller.session_allows and by_acl is _Members.GROUP):
        return Decision(True, "allowed by the object's ACL")
    return Decision(False, "the caller's account does not allow it")


class _Members(Enum):
    """To whom an ACL grants something that is the caller: to the account, or to a group of all."""

    NONE = auto()
    ACCOUNT = auto()
    GROUP = auto()


def _acl_allows(question: Question, action: str) -> _Members:
    if question.ownership == "BucketOwnerEnforced":
        return _Members.NONE
    permission = "WRITE" if question.writing else _BUCKET_PERMISSIONS.get(action)
    acl = question.acls.bucket
    if permission is None:
        permission = _OBJECT_PERMISSIONS.get(action)
        acl = question.acls.object
    if permission is None or acl is None:
        return _Members.NONE
    found = _Members.NONE
    for grant in acl.grants:
        if grant.permission not in (permission, "FULL_CONTROL"):
            continue
        if grant.group:
            if not question.block.ignore_acls and _is_member(question.identity, grant.grantee):
                return _Members.GROUP
        elif question.identity.canonical_id and grant.grantee == question.identity.canonical_id:
            found = _Members.ACCOUNT
    return found


def _is_member(identity: Identity, group: str) -> bool:
    if group == ALL_USERS:
        return True
    return group == AUTHENTICATED_USERS and bool(identity.account)


def wants_object(action: str, ownership: ObjectOwnership) -> bool:
    """Whether an object's owner and ACL can decide, so that they must be read first."""
    lowered = action.lower()
    return ownership != "BucketOwnerEnforced" and (
        lowered in _OBJECT_PERMISSIONS or lowered in _OF_OBJECT_OWNER
    )


def wants_tags(identity: Identity, policy: Policy | None) -> bool:
    """Whether a policy asks for the object's tags ("s3:ExistingObjectTag/…"), likewise."""
    policies = [*identity.policies, *(identity.session_policies or ())]
    if identity.limits is not None and identity.limits.policy is not None:
        policies.append(identity.limits.policy)
    if policy is not None:
        policies.append(policy)
    return any(item.mentions(prefix) for item in policies for prefix in _TAG_KEYS)
