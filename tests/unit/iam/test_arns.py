"""The other spelling of ARNs means the same in every place of a policy, or is refused: never nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.abc.api import ANONYMOUS, Identity
from objectio.iam.arns import translate
from objectio.iam.evaluate import Question, evaluate
from objectio.iam.policy import MalformedPolicy, Policy
from objectio.iam.public import is_public_policy
from objectio.iam.simulate import simulate

OWN, OTHER = "111111111111", "222222222222"


def user(account=OWN, name="alice", path="/", **more):
    return Identity(
        name,
        f"arn:aws:iam::{account}:user{path}{name}",
        "AK",
        account=account,
        canonical_id=f"c-{account}",
        user_id="AIDAALICEALICEALI",
        **more,
    )


def document(statement, version="2012-10-17"):
    base = {"Effect": "Allow", "Action": "*"}
    return json.dumps({"Version": version, "Statement": [base | statement]})


def may(identity, statement, action="s3:GetObject", resource="arn:aws:s3:::b/k", **values):
    """By a policy of its own."""
    asking = identity._replace(policies=[Policy.parse(document(statement), kind="identity")])
    given = {name.replace("_", ":", 1): (value,) for name, value in values.items()}
    return evaluate(
        Question(asking, action, resource, identity.canonical_id, lambda: given)
    ).allowed


def lets(identity, principal, *, kind="resource", effect="Allow", key="Principal", allowed=False):
    """Whether a policy at a bucket (or role) of the account OWN lets the caller in."""
    statement = {"Effect": effect, "Action": "sts:*" if kind == "trust" else "s3:*"}
    statement[key] = principal
    if kind == "resource":
        statement["Resource"] = "arn:obio:s3:::b/*"
    policy = Policy.parse(document(statement), kind=kind)
    if allowed:
        everything = Policy.parse(document({"Resource": "*"}), kind="identity")
        identity = identity._replace(policies=[everything])
    action = "sts:AssumeRole" if kind == "trust" else "s3:GetObject"
    question = Question(identity, action, "arn:aws:s3:::b/k", f"c-{OWN}", policy=policy)
    return evaluate(question).allowed


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("arn:obio:s3:::b/*", "arn:aws:s3:::b/*"),
        ("arn:obio:iceberg:::ns/a/t", "arn:aws:iceberg:::ns/a/t"),
        ("arn:obio:admin:::disk/3", "arn:objectio:admin:::disk/3"),
        ("arn:obio:iam::1:user/a", "arn:aws:iam::1:user/a"),
        ("arn:obio:s3:*", "arn:aws:s3:*"),
        ("arn:aws:s3:::arn:obio:s3:::b", "arn:aws:s3:::arn:obio:s3:::b"),
        ("*", "*"),
    ],
)
def test_what_it_means(text, means):
    assert translate(text) == means


@pytest.mark.parametrize(
    "text",
    [
        "arn:obio:",
        "arn:obio:*",
        "arn:obio:s?:::b",
        "arn:obio::::b",
        "arn:obio:${aws:username}:::b",
        "arn:obio:S3:::b",
        "arn:obio:s3::b",
        "arn:obio:iam::user/alice",
        "arn:obio:iam::user/${aws:username}",
    ],
)
def test_what_would_name_nothing_is_refused(text):
    for element in ({"Resource": text}, {"NotResource": text}):
        with pytest.raises(MalformedPolicy):
            Policy.parse(document(element), kind="identity")
    condition = {"Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalArn": text}}}
    with pytest.raises(MalformedPolicy):
        Policy.parse(document(condition), kind="identity")


def test_resources():
    alice = user()
    for resource in ("arn:obio:s3:::b/*", "arn:obio:s3:::${s3:bucket}/k"):
        assert may(alice, {"Resource": resource}, s3_bucket="b")
        assert not may(alice, {"Resource": resource}, resource="arn:aws:s3:::c/k", s3_bucket="b")
        assert not may(alice, {"NotResource": resource}, s3_bucket="b")
    assert may(alice, {"Resource": "arn:obio:iam::111111111111:user/*"}, "iam:GetUser", alice.arn)
    operator = user("000000000000")._replace(canonical_id="root")
    for resource in ("arn:obio:admin:::disk/*", "arn:obio:admin:*"):
        assert may(operator, {"Resource": resource}, "admin:GetDisk", "arn:objectio:admin:::disk/1")
    assert not may(
        operator, {"Resource": "arn:obio:s3:*"}, "admin:GetDisk", "arn:objectio:admin:::x"
    )


def test_a_denial_in_this_spelling_denies():
    both = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "arn:obio:s3:::b/*"},
    ]
    policy = Policy.parse(json.dumps({"Statement": both}), kind="identity")
    alice = user(policies=[policy])
    assert not evaluate(Question(alice, "s3:GetObject", "arn:aws:s3:::b/k", "c-" + OWN)).allowed
    assert evaluate(Question(alice, "s3:GetObject", "arn:aws:s3:::c/k", "c-" + OWN)).allowed


@pytest.mark.parametrize("operator", ["ArnEquals", "ArnLike", "StringEquals", "StringLike"])
def test_conditions(operator):
    alice = user()
    condition = {operator: {"aws:PrincipalArn": f"arn:obio:iam::{OWN}:user/alice"}}
    for arn, holds in ((alice.arn, True), (user(OTHER).arn, False)):
        statement = {"Resource": "*", "Condition": condition}
        assert may(alice, statement, aws_PrincipalArn=arn) is holds
    # Tags are texts of their own.
    tag = {"Resource": "*", "Condition": {operator: {"aws:PrincipalTag/arn": "arn:obio:s3:::b"}}}
    policy = Policy.parse(document(tag), kind="identity")
    values = {"aws:PrincipalTag/arn": ("arn:obio:s3:::b",)}
    asked = Question(
        user(policies=[policy]), "s3:GetObject", "arn:aws:s3:::b", "c-" + OWN, lambda: values
    )
    assert evaluate(asked).allowed


@pytest.mark.parametrize("partition", ["obio", "objectio"])
@pytest.mark.parametrize("kind", ["AWS", "OBIO"])
def test_principals(partition, kind):
    whole = {kind: [f"arn:{partition}:iam::{OWN}:user/alice"]}
    short = {kind: f"arn:{partition}:iam::user/alice"}
    for principal in (whole, short):
        assert lets(user(), principal)
        assert lets(user(), principal, kind="trust")
        for stranger in (
            user(OTHER),
            user(name="bob"),
            user(path="/team/"),
            user(name="Alice"),
            ANONYMOUS,
        ):
            assert not lets(stranger, principal, allowed=stranger.account == OTHER)
            assert not lets(stranger, principal, kind="trust", allowed=True)
        # And as a denial.
        assert not lets(user(), principal, effect="Deny", allowed=True)
        assert lets(user(name="bob"), principal, effect="Deny", allowed=True)


def test_a_short_name_is_nobody_in_another_account():
    """Whoever has an account can have a user of any name in it."""
    principal = {"OBIO": ["arn:obio:iam::user/alice", "arn:obio:iam::role/work"]}
    mallory = user(OTHER)
    assert not lets(mallory, principal, allowed=True)
    assert lets(user(), principal, allowed=True)
    session = user(OTHER)._replace(
        arn=f"arn:aws:sts::{OTHER}:assumed-role/work/me",
        role_arn=f"arn:aws:iam::{OTHER}:role/work",
        user_id="AROAWORKWORKWORK1:me",
    )
    assert not lets(session, principal, allowed=True)
    own = session._replace(
        canonical_id=f"c-{OWN}", account=OWN, role_arn=f"arn:aws:iam::{OWN}:role/work"
    )
    assert lets(own, principal)


def test_the_account_and_everyone():
    root = user()._replace(arn=f"arn:aws:iam::{OWN}:root", user_id=OWN)
    for principal in ("arn:obio:iam::root", f"arn:obio:iam::{OWN}:root"):
        assert lets(user(), {"OBIO": principal}, allowed=True)
        assert not lets(user(), {"OBIO": principal}, kind="trust")
        assert lets(root, {"OBIO": principal}, kind="trust")
        assert not lets(user(OTHER), {"OBIO": principal}, allowed=True)
    assert lets(ANONYMOUS, {"OBIO": "*"})
    everyone = {"Principal": {"OBIO": "*"}, "Resource": "*", "Action": "s3:*"}
    assert is_public_policy(Policy.parse(document(everyone), kind="resource"))
    one = everyone | {"Principal": {"OBIO": "arn:obio:iam::user/alice"}}
    assert not is_public_policy(Policy.parse(document(one), kind="resource"))


def test_who_is_left_out_of_a_denial():
    """NotPrincipal: who names a user only has not left out the user's account."""
    both = {"OBIO": ["arn:obio:iam::user/alice", "arn:obio:iam::root"]}
    for principal, spared in ((both, True), ({"OBIO": "arn:obio:iam::user/alice"}, False)):
        found = lets(user(), principal, effect="Deny", key="NotPrincipal", allowed=True)
        assert found is spared
    for stranger in (user(OTHER), user(name="bob")):
        assert not lets(stranger, both, effect="Deny", key="NotPrincipal", allowed=True)


@pytest.mark.parametrize(
    "principal",
    [
        {"OBIO": "arn:obio:iam::user/*"},
        {"OBIO": "arn:obio:iam::group/staff"},
        {"OBIO": "arn:obio:s3:::b"},
        {"OBIO": "arn:aws:iam::user/alice"},
        {"OBIO": "alice"},
        {"obio": "*"},
        {"OBIO": []},
        "arn:obio:iam::user/alice",
    ],
)
def test_what_is_no_principal(principal):
    with pytest.raises(MalformedPolicy):
        lets(user(), principal)


def test_the_simulator_knows_it():
    reads = document({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"})
    (found,) = simulate(user(), {"a": reads}, ["s3:GetObject"], ["arn:obio:s3:::b/k"])
    assert (found.allowed, found.resource) == (True, "arn:obio:s3:::b/k")
    with pytest.raises(MalformedPolicy):
        simulate(user(), {"a": reads}, ["s3:GetObject"], ["arn:obio:*"])
    named = document({"Principal": {"OBIO": "arn:obio:iam::user/alice"}, "Resource": "*"})
    named = named.replace('"*"', '"s3:*"', 1)
    (found,) = simulate(user(), {}, ["s3:GetObject"], ["arn:aws:s3:::b/k"], resource_policy=named)
    assert (found.allowed, list(found.policies)) == (True, ["the resource's policy"])


@given(st.text(alphabet="abio:*?${}/s3admn", max_size=24))
def test_a_translation_is_an_arn_or_nothing(rest):
    try:
        found = translate("arn:obio:" + rest)
    except MalformedPolicy:
        return
    assert found.startswith(("arn:aws:", "arn:objectio:admin:"))
    assert found.split(":", 2)[2] == rest
    assert translate(found) == found
