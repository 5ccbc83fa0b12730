"""Simulated requests are judged as real ones are; policies from the beginning say what they are for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.abc.api import Identity
from objectio.errors import InvalidRequest
from objectio.iam import managed
from objectio.iam.arns import ADMIN
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID, root_identity
from objectio.iam.evaluate import Question, evaluate
from objectio.iam.policy import MalformedPolicy, Policy
from objectio.iam.simulate import OF_RESOURCE, ROOT_ONLY, simulate

ANN = Identity(
    "ann",
    "arn:aws:iam::111111111111:user/ann",
    "",
    account="111111111111",
    canonical_id="c",
    user_id="AIDA1",
    tags={"Team": "blue"},
)
KEY = "arn:aws:s3:::b/k"


def document(*statements):
    base = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [base | each for each in statements]})


def ask(policies, action="s3:GetObject", resource=KEY, **more):
    (found,) = simulate(ANN, policies, [action], [resource], **more)
    return found.allowed, list(found.policies)


def test_who_made_it_so_is_named():
    allow, deny = document({}), document({"Effect": "Deny", "Action": "s3:Get*"})
    assert ask({}) == (False, [])
    assert ask({"a": allow, "b": allow}) == (True, ["a", "b"])
    assert ask({"a": allow, "d": deny}) == (False, ["d"])
    assert ask({"a": allow, "d": deny}, "s3:PutObject") == (True, ["a"])
    closed = document({"Effect": "Deny", "Principal": "*"})
    assert ask({"a": allow}, resource_policy=closed) == (False, [OF_RESOURCE])


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:username": "ann"}},
        {"StringEquals": {"aws:PrincipalTag/Team": "blue"}},
        {"StringEquals": {"aws:userid": "AIDA1", "aws:PrincipalAccount": "111111111111"}},
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/ann"}},
        {"DateLessThan": {"aws:CurrentTime": "1970-01-02T00:00:00Z"}},
        {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    ],
)
def test_conditions(condition):
    policies = {"a": document({"Condition": condition})}
    context = {"AWS:SourceIP": ["10.1.1.1"]}
    assert ask(policies, now=0, context=context)[0]
    absent = {name: [] for name in ("aws:username", "aws:PrincipalTag/team", "aws:userid")}
    absent |= {"aws:principalarn": [], "aws:CurrentTime": [], "aws:sourceip": ["11.1.1.1"]}
    assert not ask(policies, now=0, context=absent)[0]


def test_every_pair_is_asked():
    found = simulate(ANN, {"a": document({})}, ["s3:A", "s3:B"], ["arn:x", "*"])
    assert [(each.action, each.resource) for each in found] == [
        ("s3:A", "arn:x"),
        ("s3:A", "*"),
        ("s3:B", "arn:x"),
        ("s3:B", "*"),
    ]


def test_operators_actions_are_of_the_roots_account():
    operator = ANN._replace(account=ROOT_ACCOUNT, canonical_id=ROOT_CANONICAL_ID)
    for name in ("admin", "diagnostics"):
        policies = {name: managed.POLICIES[f"arn:aws:iam::aws:policy/{name}"].document}
        for identity, may in ((ANN, False), (operator, True)):
            (found,) = simulate(identity, policies, ["admin:GetDisk"], [f"{ADMIN}disk/1"])
            assert found.allowed is may
    for action, may in (("admin:GetDisk", True), ("nothing:GetDisk", False)):
        (found,) = simulate(operator, {"a": document({"Action": "*"})}, [action], ["*"])
        assert (found.allowed, found.reason == ROOT_ONLY) == (may, not may)
    (found,) = simulate(root_identity("k"), {}, ["admin:GetDisk"], ["*"])
    assert found.allowed


@pytest.mark.parametrize("resource", ["user/Ann", "user/a*", "USER/ann", "user/${aws:username}"])
def test_names_of_what_operators_manage_have_no_case(resource):
    operator = ANN._replace(name="Ann", account=ROOT_ACCOUNT, canonical_id=ROOT_CANONICAL_ID)
    for effect, others in (("Allow", ()), ("Deny", ({"Action": "*"},))):
        statement = {"Effect": effect, "Action": "admin:*", "Resource": f"{ADMIN}{resource}"}
        policies = {"p": document(statement, *others)}
        for name in ("user/ann", "user/ANN", "user/bob"):
            (found,) = simulate(operator, policies, ["admin:GetUser"], [ADMIN + name])
            named = name != "user/bob"
            assert found.allowed is (named if effect == "Allow" else not named), name
    # All else is compared as it is.
    policies = {"p": document({"Resource": "arn:aws:s3:::b/Key"})}
    assert not ask(policies, resource="arn:aws:s3:::b/key")[0]
    turned = {"Effect": "Allow", "Action": "*", "NotResource": f"{ADMIN}{resource}"}
    policies = {"p": json.dumps({"Version": "2012-10-17", "Statement": turned})}
    (found,) = simulate(operator, policies, ["admin:GetUser"], [f"{ADMIN}user/ANN"])
    assert not found.allowed


@pytest.mark.parametrize("action", ["s3:*", "s3", "", "s3:Get Object", "*"])
def test_what_is_no_action(action):
    with pytest.raises(InvalidRequest):
        simulate(ANN, {}, [action], ["*"])


def test_what_is_no_resource_or_policy():
    with pytest.raises(InvalidRequest):
        simulate(ANN, {}, ["s3:GetObject"], ["b/k"])
    with pytest.raises(MalformedPolicy):
        simulate(ANN, {"a": "{}"}, ["s3:GetObject"], ["*"])
    with pytest.raises(MalformedPolicy):
        simulate(ANN, {}, ["s3:GetObject"], ["*"], resource_policy=document({}))


@pytest.mark.parametrize(
    ("name", "may", "may_not"),
    [
        ("readonly", ["s3:GetObject", "s3:ListBucket"], ["s3:PutObject", "iam:GetUser"]),
        ("readwrite", ["s3:PutObject", "s3:DeleteBucket"], ["iam:CreateUser", "sts:AssumeRole"]),
        ("admin", ["s3:PutObject", "iam:CreateUser"], []),
        ("diagnostics", [], ["s3:GetObject", "s3:ListBucket", "iam:ListUsers"]),
    ],
)
def test_policies_from_the_beginning(name, may, may_not):
    policy = managed.POLICIES[f"arn:aws:iam::aws:policy/{name}"]
    assert policy.description
    for action in (*may, *may_not):
        assert ask({name: policy.document}, action)[0] == (action in may), action


def test_ids_of_policies_are_their_own():
    assert len({policy.id for policy in managed.POLICIES.values()}) == len(managed.POLICIES)


_STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Action": st.sampled_from(["*", "s3:*", "s3:Get*", "s3:GetObject", "iam:*"]),
        "Resource": st.sampled_from(
            ["*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/k", "arn:aws:s3:::c"]
        ),
    }
)


@settings(max_examples=200, deadline=None)
@given(
    policies=st.lists(st.lists(_STATEMENTS, min_size=1, max_size=3), max_size=3),
    action=st.sampled_from(["s3:GetObject", "s3:PutObject", "iam:GetUser"]),
    resource=st.sampled_from([KEY, "arn:aws:s3:::b/l", "arn:aws:s3:::c"]),
)
def test_it_answers_as_the_evaluation_does(policies, action, resource):
    documents = {str(number): document(*each) for number, each in enumerate(policies)}
    compiled = [Policy.parse(each, kind="identity") for each in documents.values()]
    asking = ANN._replace(policies=compiled)
    decided = evaluate(Question(asking, action, resource, ANN.canonical_id))
    assert ask(documents, action, resource)[0] == decided.allowed
