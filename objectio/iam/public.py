"""What S3 means by "public" (S3 user guide, "The meaning of 'public'"). Pure."""

from __future__ import annotations

from objectio.iam.policy import Policy
from objectio.model.bucket import ALL_USERS, AUTHENTICATED_USERS, Acl

_PUBLIC_GROUPS = frozenset((ALL_USERS, AUTHENTICATED_USERS))


def is_public_policy(policy: Policy) -> bool:
    """Whether it grants something to everyone, or to whoever a condition with wildcards lets in."""
    return policy.kind == "resource"


def is_public_acl(acl: Acl) -> bool:
    """Whether it grants something to one of the two groups that anybody is a member of."""
    return any(grant.group and grant.grantee in _PUBLIC_GROUPS for grant in acl.grants)
