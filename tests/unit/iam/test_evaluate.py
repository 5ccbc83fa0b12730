"""Who may do what: accounts, users, sessions, everyone; policies, ACLs and what blocks them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.abc.api import ANONYMOUS, Identity, KeyLimits
from objectio.iam.credentials import root_identity
from objectio.iam.evaluate import Acls, Question, evaluate, wants_object, wants_tags
from objectio.iam.policy import Asked, Lookup, Policy
from objectio.model.bucket import (
    ALL_USERS,
    AUTHENTICATED_USERS,
    Acl,
    Grant,
    PublicAccessBlock,
)

OWNER_ACCOUNT, OTHER_ACCOUNT = "111111111111", "222222222222"


def policy(*statements: dict[str, Any], kind: Any = "identity") -> Policy:
    base: dict[str, Any] = {"Effect": "Allow", "Action": "s3:*"}
    if kind != "trust":
        base["Resource"] = "*"
    document = {"Version": "2012-10-17", "Statement": [base | item for item in statements]}
    return Policy.parse(json.dumps(document), kind=kind)


def bucket_policy(*statements: dict[str, Any]) -> Policy:
    return policy(*({"Principal": "*"} | item for item in statements), kind="resource")


def named(*arns: str) -> dict[str, Any]:
    return {"Principal": {"AWS": list(arns)}}


ALLOW_ALL = policy({})
DENY_ALL = policy({"Effect": "Deny"})
DENY = {"Effect": "Deny"}


def user(account: str, *policies: Policy, name: str = "ann", **more: Any) -> Identity:
    return Identity(
        name,
        f"arn:aws:iam::{account}:user/{name}",
        "AKIAUSER",
        account=account,
        canonical_id=f"c-{account}",
        user_id="AIDAUSERUSERUSER",
        policies=policies,
        **more,
    )


def root(account: str) -> Identity:
    return user(account)._replace(name="root", arn=f"arn:aws:iam::{account}:root", user_id=account)


def session(account: str, *policies: Policy, narrowed: list[Policy] | None = None) -> Identity:
    return user(account, *policies)._replace(
        arn=f"arn:aws:sts::{account}:assumed-role/reader/s1",
        role_arn=f"arn:aws:iam::{account}:role/reader",
        user_id="AROAREADERREADER:s1",
        session=True,
        session_policies=narrowed,
    )


OWNER = f"c-{OWNER_ACCOUNT}"
ACCOUNT_ROOT_ARN = f"arn:aws:iam::{OWNER_ACCOUNT}:root"


def allowed(identity: Identity, action: str = "s3:GetObject", **more: Any) -> bool:
    key = "" if action in ("s3:ListBucket", "s3:GetBucketAcl", "s3:PutBucketAcl") else "/k"
    question = Question(identity, action, f"arn:aws:s3:::b{key}", more.pop("owner", OWNER), **more)
    return evaluate(question).allowed


# Within the account that owns the bucket.


def test_the_root_of_the_cluster_may_do_anything() -> None:
    assert allowed(root_identity("AK"), policy=bucket_policy(DENY))


def test_the_root_of_the_account_needs_no_policy() -> None:
    assert allowed(root(OWNER_ACCOUNT))


def test_the_root_of_the_account_can_be_denied() -> None:
    assert not allowed(root(OWNER_ACCOUNT), policy=bucket_policy(DENY))


@pytest.mark.parametrize("verb", ["Get", "Put", "Delete"])
def test_the_root_of_the_account_cannot_be_locked_out_of_the_policy(verb: str) -> None:
    action = f"s3:{verb}BucketPolicy"
    assert allowed(root(OWNER_ACCOUNT), action, policy=bucket_policy(DENY))
    assert not allowed(user(OWNER_ACCOUNT, ALLOW_ALL), action, policy=bucket_policy(DENY))
    assert not allowed(root(OTHER_ACCOUNT), action, policy=bucket_policy(DENY))


def test_a_user_needs_a_policy() -> None:
    assert not allowed(user(OWNER_ACCOUNT))
    assert allowed(user(OWNER_ACCOUNT, ALLOW_ALL))
    assert not allowed(user(OWNER_ACCOUNT, ALLOW_ALL, DENY_ALL))


def test_a_user_may_be_allowed_by_the_buckets_policy_alone() -> None:
    ann = user(OWNER_ACCOUNT)
    assert allowed(ann, policy=bucket_policy(named(ann.arn)))
    assert allowed(ann, policy=bucket_policy({}))
    assert not allowed(ann, policy=bucket_policy(named(ann.arn + "a")))
    assert not allowed(user(OWNER_ACCOUNT, DENY_ALL), policy=bucket_policy(named(ann.arn)))


def test_naming_the_account_leaves_it_to_the_account() -> None:
    by_account = bucket_policy(named(ACCOUNT_ROOT_ARN))
    assert not allowed(user(OWNER_ACCOUNT), policy=by_account)
    assert allowed(user(OWNER_ACCOUNT, ALLOW_ALL), policy=by_account)
    assert allowed(root(OWNER_ACCOUNT), policy=by_account)


def test_a_denial_of_the_bucket_comes_before_what_a_user_may() -> None:
    assert not allowed(user(OWNER_ACCOUNT, ALLOW_ALL), policy=bucket_policy({}, DENY))


# Another account.


def test_another_account_may_nothing() -> None:
    for caller in (root(OTHER_ACCOUNT), user(OTHER_ACCOUNT, ALLOW_ALL)):
        assert not allowed(caller)


def test_another_account_needs_both_sides() -> None:
    for statement in ({}, named(OTHER_ACCOUNT), named(user(OTHER_ACCOUNT).arn)):
        assert allowed(user(OTHER_ACCOUNT, ALLOW_ALL), policy=bucket_policy(statement))
        assert not allowed(user(OTHER_ACCOUNT), policy=bucket_policy(statement))
    assert allowed(root(OTHER_ACCOUNT), policy=bucket_policy({}))
    assert allowed(root(OTHER_ACCOUNT), policy=bucket_policy(named(OTHER_ACCOUNT)))
    third = bucket_policy(named("333333333333"))
    assert not allowed(user(OTHER_ACCOUNT, ALLOW_ALL), policy=third)


def test_everybody_is_nobodys_owner() -> None:
    assert not allowed(ANONYMOUS)
    assert not allowed(ANONYMOUS, owner="")
    assert allowed(ANONYMOUS, policy=bucket_policy({}))
    assert not allowed(ANONYMOUS, policy=bucket_policy({}, DENY))
    assert not allowed(ANONYMOUS, policy=bucket_policy(named(OWNER_ACCOUNT)))


# Sessions.


def test_a_session_may_what_its_role_may() -> None:
    assert allowed(session(OWNER_ACCOUNT, ALLOW_ALL))
    assert not allowed(session(OWNER_ACCOUNT))
    assert not allowed(session(OWNER_ACCOUNT, ALLOW_ALL, DENY_ALL))


def test_a_session_that_was_narrowed_down_may_only_what_both_allow() -> None:
    get, put = policy({"Action": "s3:GetObject"}), policy({"Action": "s3:PutObject"})
    assert allowed(session(OWNER_ACCOUNT, ALLOW_ALL, narrowed=[get]))
    assert not allowed(session(OWNER_ACCOUNT, ALLOW_ALL, narrowed=[put]))
    assert allowed(session(OWNER_ACCOUNT, ALLOW_ALL, narrowed=[put, get]))
    assert not allowed(session(OWNER_ACCOUNT, put, narrowed=[get]))
    assert not allowed(session(OWNER_ACCOUNT, ALLOW_ALL, narrowed=[]))
    assert not allowed(session(OWNER_ACCOUNT, ALLOW_ALL, narrowed=[ALLOW_ALL, DENY_ALL]))


def test_session_policies_cap_what_a_bucket_gives_to_the_role_but_not_to_the_session() -> None:
    """IAM user guide, "Session policies"."""
    put = policy({"Action": "s3:PutObject"})
    narrowed = session(OWNER_ACCOUNT, put, narrowed=[put])
    assert not allowed(narrowed, policy=bucket_policy(named(narrowed.role_arn)))
    assert not allowed(narrowed, policy=bucket_policy({}))
    assert allowed(narrowed, policy=bucket_policy(named(narrowed.arn)))
    wide = session(OWNER_ACCOUNT, put)
    assert allowed(wide, policy=bucket_policy(named(wide.role_arn)))
    assert not allowed(narrowed, policy=bucket_policy(named(narrowed.arn), DENY))


def test_a_session_of_another_account_needs_its_own_policies_too() -> None:
    put = policy({"Action": "s3:PutObject"})
    caller = session(OTHER_ACCOUNT, ALLOW_ALL, narrowed=[put])
    assert not allowed(caller, policy=bucket_policy(named(caller.arn)))
    assert allowed(caller, "s3:PutObject", policy=bucket_policy(named(caller.arn)))


# Conditions.


def test_conditions_see_the_values_of_the_request() -> None:
    from_home = bucket_policy({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}})
    assert allowed(ANONYMOUS, policy=from_home, values=lambda: {"aws:SourceIp": ("192.0.2.7",)})
    assert not allowed(ANONYMOUS, policy=from_home, values=lambda: {"aws:SourceIp": ("192.0.3.7",)})
    assert not allowed(ANONYMOUS, policy=from_home)


def test_values_are_not_asked_for_without_need() -> None:
    def values() -> dict[str, tuple[str, ...]]:
        raise AssertionError("nobody asked")

    assert allowed(user(OWNER_ACCOUNT, ALLOW_ALL), policy=bucket_policy({}), values=values)


# ACLs.


def to(account: str, permission: Any) -> Grant:
    return Grant(grantee=f"c-{account}", permission=permission)


def to_all(permission: Any, group: str = ALL_USERS) -> Grant:
    return Grant(grantee=group, permission=permission, group=True)


def by_acl(
    identity: Identity, action: str, *, bucket: Any = (), object: Any = (), **more: Any
) -> bool:
    acls = Acls(Acl(grants=tuple(bucket)), Acl(grants=tuple(object)), more.pop("by", ""))
    return allowed(identity, action, acls=acls, **{"ownership": "ObjectWriter", **more})


ACTIONS = [
    "s3:ListBucket",
    "s3:PutObject",
    "s3:GetBucketAcl",
    "s3:PutBucketAcl",
    "s3:GetObject",
    "s3:GetObjectAcl",
    "s3:PutObjectAcl",
    "s3:DeleteBucket",
    "s3:DeleteObjectVersion",
    "s3:GetObjectTagging",
    "s3:PutBucketPolicy",
]


@pytest.mark.parametrize(
    ("permission", "on_bucket", "on_object"),
    [
        ("READ", {"s3:ListBucket"}, {"s3:GetObject"}),
        ("WRITE", {"s3:PutObject"}, set()),
        ("READ_ACP", {"s3:GetBucketAcl"}, {"s3:GetObjectAcl"}),
        ("WRITE_ACP", {"s3:PutBucketAcl"}, {"s3:PutObjectAcl"}),
        (
            "FULL_CONTROL",
            {"s3:ListBucket", "s3:PutObject", "s3:GetBucketAcl", "s3:PutBucketAcl"},
            {"s3:GetObject", "s3:GetObjectAcl", "s3:PutObjectAcl"},
        ),
    ],
)
def test_what_a_grant_of_an_acl_allows(
    permission: str, on_bucket: set[str], on_object: set[str]
) -> None:
    other, everyone = to(OTHER_ACCOUNT, permission), to_all(permission)
    for action in ACTIONS:
        for caller, grant in ((root(OTHER_ACCOUNT), other), (ANONYMOUS, everyone)):
            assert by_acl(caller, action, bucket=[grant]) is (action in on_bucket)
            assert by_acl(caller, action, object=[grant]) is (action in on_object)


def test_an_acl_counts_for_whom_it_names_only() -> None:
    read = [to("333333333333", "READ"), to_all("READ", AUTHENTICATED_USERS)]
    assert not by_acl(ANONYMOUS, "s3:ListBucket", bucket=read)
    assert not by_acl(root(OTHER_ACCOUNT), "s3:ListBucket", bucket=read[:1])
    assert by_acl(root(OTHER_ACCOUNT), "s3:ListBucket", bucket=read)


def test_a_grant_to_nobody_is_not_for_those_who_are_not_known() -> None:
    assert not by_acl(ANONYMOUS, "s3:ListBucket", bucket=[Grant(grantee="", permission="READ")])


def test_users_of_another_account_need_a_policy_besides_the_acl() -> None:
    read = [to_all("READ")]
    assert not by_acl(user(OTHER_ACCOUNT), "s3:ListBucket", bucket=read)
    assert by_acl(user(OTHER_ACCOUNT, ALLOW_ALL), "s3:ListBucket", bucket=read)


def test_users_of_the_owner_are_of_the_public_too() -> None:
    assert by_acl(user(OWNER_ACCOUNT), "s3:ListBucket", bucket=[to_all("READ")])
    assert not by_acl(user(OWNER_ACCOUNT), "s3:ListBucket", bucket=[to(OWNER_ACCOUNT, "READ")])
    narrowed = session(OWNER_ACCOUNT, narrowed=[policy({"Action": "s3:PutObject"})])
    assert not by_acl(narrowed, "s3:ListBucket", bucket=[to_all("READ")])


def test_a_denial_comes_before_an_acl() -> None:
    deny = bucket_policy(DENY)
    assert not by_acl(ANONYMOUS, "s3:ListBucket", bucket=[to_all("READ")], policy=deny)
    full = [to(OTHER_ACCOUNT, "FULL_CONTROL")]
    assert not by_acl(root(OTHER_ACCOUNT), "s3:GetObject", object=full, policy=deny)


def test_acls_do_not_count_where_they_are_disabled() -> None:
    enforced = {"ownership": "BucketOwnerEnforced"}
    for bucket in ([to_all("FULL_CONTROL")], [to(OTHER_ACCOUNT, "FULL_CONTROL")]):
        for action in ACTIONS:
            assert not by_acl(root(OTHER_ACCOUNT), action, bucket=bucket, object=bucket, **enforced)


# Objects that another account than the bucket's owner owns.

FOREIGN = {"by": f"c-{OTHER_ACCOUNT}"}


def test_the_bucket_cannot_grant_what_belongs_to_another() -> None:
    assert not by_acl(root(OWNER_ACCOUNT), "s3:GetObject", **FOREIGN)
    assert not by_acl(ANONYMOUS, "s3:GetObject", policy=bucket_policy({}), **FOREIGN)
    read = [to(OWNER_ACCOUNT, "READ")]
    assert by_acl(root(OWNER_ACCOUNT), "s3:GetObject", object=read, **FOREIGN)
    assert not by_acl(root(OWNER_ACCOUNT), "s3:PutObjectAcl", object=read, **FOREIGN)
    assert by_acl(ANONYMOUS, "s3:GetObject", object=[to_all("READ")], **FOREIGN)


def test_the_bucket_can_deny_and_delete_what_belongs_to_another() -> None:
    assert by_acl(root(OWNER_ACCOUNT), "s3:DeleteObject", **FOREIGN)
    deny = bucket_policy(DENY)
    assert not by_acl(root(OTHER_ACCOUNT), "s3:GetObject", policy=deny, **FOREIGN)


def test_the_owner_of_an_object_may_read_it_and_its_acl() -> None:
    for action in ("s3:GetObject", "s3:GetObjectAcl", "s3:PutObjectAcl"):
        assert by_acl(root(OTHER_ACCOUNT), action, **FOREIGN)
        assert by_acl(user(OTHER_ACCOUNT, ALLOW_ALL), action, **FOREIGN)
        assert not by_acl(user(OTHER_ACCOUNT), action, **FOREIGN)


def test_users_need_a_policy_besides_the_acl_of_anothers_object() -> None:
    third = "333333333333"
    read = [to(third, "READ")]
    assert by_acl(root(third), "s3:GetObject", object=read, **FOREIGN)
    assert by_acl(user(third, ALLOW_ALL), "s3:GetObject", object=read, **FOREIGN)
    assert not by_acl(user(third), "s3:GetObject", object=read, **FOREIGN)
    assert not by_acl(user(third), "s3:GetObject", object=[to_all("READ")], **FOREIGN)


def test_users_of_an_objects_owner_are_of_the_public_too() -> None:
    assert by_acl(user(OTHER_ACCOUNT), "s3:GetObject", object=[to_all("READ")], **FOREIGN)
    read = [to(OTHER_ACCOUNT, "READ")]
    assert not by_acl(user(OTHER_ACCOUNT), "s3:GetObject", object=read, **FOREIGN)
    narrowed = session(OTHER_ACCOUNT, narrowed=[policy({"Action": "s3:PutObject"})])
    assert not by_acl(narrowed, "s3:GetObject", object=[to_all("READ")], **FOREIGN)


def test_only_the_bucket_counts_where_it_owns_all_objects() -> None:
    enforced = {"ownership": "BucketOwnerEnforced", **FOREIGN}
    assert by_acl(root(OWNER_ACCOUNT), "s3:GetObject", **enforced)
    assert not by_acl(root(OTHER_ACCOUNT), "s3:GetObject", **enforced)


def test_what_must_be_read_of_an_object_first() -> None:
    assert wants_object("s3:GetObject", "ObjectWriter")
    assert wants_object("s3:PutObjectVersionAcl", "BucketOwnerPreferred")
    assert not wants_object("s3:GetObject", "BucketOwnerEnforced")
    assert not wants_object("s3:PutObject", "ObjectWriter")
    tagged = policy({"Condition": {"StringEquals": {"s3:ExistingObjectTag/a": "b"}}})
    assert wants_tags(user(OWNER_ACCOUNT, tagged), None)
    assert wants_tags(session(OWNER_ACCOUNT, narrowed=[tagged]), None)
    assert not wants_tags(user(OWNER_ACCOUNT, ALLOW_ALL), bucket_policy({}))
    asks = bucket_policy({"Condition": {"StringEquals": {"s3:ExistingObjectTag/a": "b"}}})
    assert wants_tags(ANONYMOUS, asks)
    assert not wants_tags(ANONYMOUS, None)


# Public access block.


def test_public_grants_of_acls_can_be_ignored() -> None:
    ignore = PublicAccessBlock(ignore_acls=True)
    for caller in (ANONYMOUS, root(OTHER_ACCOUNT)):
        for group in (ALL_USERS, AUTHENTICATED_USERS):
            grants = [to_all("READ", group)]
            assert not by_acl(caller, "s3:ListBucket", bucket=grants, block=ignore)
            assert not by_acl(caller, "s3:GetObject", object=grants, block=ignore)
    assert by_acl(
        root(OTHER_ACCOUNT), "s3:ListBucket", bucket=[to(OTHER_ACCOUNT, "READ")], block=ignore
    )


def test_a_public_policy_can_be_restricted_to_the_owner() -> None:
    restrict = PublicAccessBlock(restrict_buckets=True)
    public = bucket_policy({}, named(OTHER_ACCOUNT))
    assert not allowed(ANONYMOUS, policy=public, block=restrict)
    assert not allowed(root(OTHER_ACCOUNT), policy=public, block=restrict)
    assert allowed(user(OWNER_ACCOUNT), policy=public, block=restrict)
    private = bucket_policy(named(OTHER_ACCOUNT))
    assert allowed(root(OTHER_ACCOUNT), policy=private, block=restrict)


# Roles that may be assumed.


def trusts(identity: Identity, *statements: dict[str, Any], action: str = "sts:AssumeRole") -> bool:
    trust = policy(*({"Action": action} | item for item in statements), kind="trust")
    arn = f"arn:aws:iam::{OWNER_ACCOUNT}:role/reader"
    return evaluate(Question(identity, action, arn, OWNER, policy=trust)).allowed


MAY_ASSUME = policy({"Action": "sts:AssumeRole"})


def test_a_role_is_assumed_by_whom_it_trusts() -> None:
    ann = user(OWNER_ACCOUNT)
    assert trusts(ann, named(ann.arn))
    assert not trusts(ann, named(ann.arn + "a"))
    assert not trusts(user(OWNER_ACCOUNT, MAY_ASSUME), named(OTHER_ACCOUNT))
    assert not trusts(root(OWNER_ACCOUNT), named(ann.arn))
    assert not trusts(user(OWNER_ACCOUNT, DENY_ALL, policy(DENY | {"Action": "*"})), named(ann.arn))


def test_trust_in_an_account_leaves_it_to_the_account() -> None:
    assert not trusts(user(OWNER_ACCOUNT), named(OWNER_ACCOUNT))
    assert trusts(user(OWNER_ACCOUNT, MAY_ASSUME), named(OWNER_ACCOUNT))
    assert trusts(root(OWNER_ACCOUNT), named(OWNER_ACCOUNT))


def test_another_account_must_allow_it_too() -> None:
    ann = user(OTHER_ACCOUNT)
    assert not trusts(ann, named(ann.arn))
    assert trusts(user(OTHER_ACCOUNT, MAY_ASSUME), named(ann.arn))


def test_trust_in_a_provider() -> None:
    action = "sts:AssumeRoleWithWebIdentity"
    provider = f"arn:aws:iam::{OWNER_ACCOUNT}:oidc-provider/idp.example.com"
    caller = Identity("sub", provider, "")
    trusted = {"Principal": {"Federated": provider}}
    assert trusts(caller, trusted, action=action)
    assert not trusts(caller, {"Principal": {"Federated": provider + "x"}}, action=action)
    assert not trusts(caller, {"Principal": {"AWS": OWNER_ACCOUNT}}, action=action)
    assert not trusts(caller, trusted, trusted | DENY, action=action)


# Keys that are narrowed down.

_EFFECTS = st.sampled_from(["Allow", "Deny"])
_NAMES = st.sampled_from(["*", "s3:*", "s3:Get*", "s3:GetObject", "s3:PutBucketPolicy", "s3:Put*"])
_ARNS = st.sampled_from(["*", "arn:aws:s3:::b/*", "arn:aws:s3:::b", "arn:aws:s3:::b/k"])
_STATEMENTS = st.fixed_dictionaries({"Effect": _EFFECTS, "Action": _NAMES, "Resource": _ARNS})
_POLICIES = st.lists(st.lists(_STATEMENTS, min_size=1, max_size=3), max_size=2)
_PRINCIPALS = st.sampled_from(
    [
        "*",
        {"AWS": OWNER_ACCOUNT},
        {"AWS": f"arn:aws:iam::{OWNER_ACCOUNT}:user/ann"},
        {"AWS": f"arn:aws:iam::{OWNER_ACCOUNT}:role/reader"},
        {"AWS": f"arn:aws:sts::{OWNER_ACCOUNT}:assumed-role/reader/s1"},
        {"AWS": "AIDAUSERUSERUSER"},
        {"AWS": OTHER_ACCOUNT},
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    caller=st.sampled_from([user, root, session]),
    account=st.sampled_from([OWNER_ACCOUNT, OTHER_ACCOUNT]),
    own=_POLICIES,
    key=st.lists(_STATEMENTS, min_size=1, max_size=3),
    bucket=st.lists(
        st.tuples(_STATEMENTS, _PRINCIPALS).map(
            lambda pair: pair[0] | {"Principal": pair[1], "Action": "s3:*"}
        ),
        max_size=2,
    ),
    group=st.sampled_from(["", ALL_USERS, AUTHENTICATED_USERS]),
    action=st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:PutBucketPolicy"]),
)
def test_a_narrowed_key_is_within_its_policy_and_its_user(
    caller: Any, account: str, own: Any, key: Any, bucket: Any, group: str, action: str
) -> None:
    """Whatever else says so, in every way that there is."""
    identity = caller(account)._replace(policies=[policy(*each) for each in own])
    cap = policy(*key)
    resource = "arn:aws:s3:::b" if "Bucket" in action else "arn:aws:s3:::b/k"
    grants = (
        [Grant(grantee=group, group=True, permission="FULL_CONTROL")]
        if group
        else [Grant(grantee=f"c-{account}", permission="FULL_CONTROL")]
    )
    acl = Acl(grants=tuple(grants))
    question = Question(
        identity,
        action,
        resource,
        OWNER,
        policy=bucket_policy(*bucket) if bucket else None,
        acls=Acls(acl, acl),
        ownership="ObjectWriter",
    )
    limits = KeyLimits("AKIA", b"", cap)
    narrowed = replace(question, identity=identity._replace(limits=limits))
    asked = Asked(identity, action.lower(), resource, Lookup(dict))
    within = not cap.ask(asked).denied and bool(cap.ask(asked).allowed)
    assert evaluate(narrowed).allowed == (evaluate(question).allowed and within)
    # A key that only ends has all that its user has.
    ending = identity._replace(limits=KeyLimits("AKIA", b"", None, 1))
    assert evaluate(replace(question, identity=ending)).allowed == evaluate(question).allowed
