"""Policy documents: what is taken, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.abc.api import ANONYMOUS, Identity
from objectio.iam.callers import Grade
from objectio.iam.policy import POLICY_BYTES_MAX, Answer, Asked, Lookup, MalformedPolicy, Policy

USER = Identity(
    "ann",
    "arn:aws:iam::111122223333:user/x/ann",
    "AK",
    account="111122223333",
    canonical_id="c1",
    user_id="AIDAANNANNANNANN",
)
ROOT = USER._replace(arn="arn:aws:iam::111122223333:root", user_id="111122223333")
SESSION = USER._replace(
    arn="arn:aws:sts::111122223333:assumed-role/reader/s1",
    role_arn="arn:aws:iam::111122223333:role/reader",
    user_id="AROAREADERREADER:s1",
    session=True,
)

ALLOW: dict[str, Any] = {
    "Effect": "Allow",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::b/*",
}


def document(*statements: Any, **more: Any) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **more}).encode()


def ask(
    statement: dict[str, Any],
    *,
    kind: Any = "identity",
    identity: Identity = USER,
    action: str = "s3:getobject",
    resource: str = "arn:aws:s3:::b/k",
    values: dict[str, tuple[str, ...]] | None = None,
    version: str = "2012-10-17",
) -> Answer:
    policy = Policy.parse(document(statement, Version=version), kind=kind)
    return policy.ask(Asked(identity, action, resource, Lookup(lambda: values or {})))


def allows(statement: dict[str, Any], **more: Any) -> bool:
    return ask({**ALLOW, **statement}, **more).allowed is not Grade.NONE


@pytest.mark.parametrize(
    "action", ["s3:GetObject", "S3:getobject", "s3:Get*", "s3:*", "*", "s3:?et*"]
)
def test_an_action_is_matched_without_regard_to_case(action: str) -> None:
    assert allows({"Action": action})


@pytest.mark.parametrize(
    "action", ["s3:GetObjectAcl", "s3:PutObject", "iam:*", ["s3:Put*", "s3:List*"]]
)
def test_another_action_is_not(action: Any) -> None:
    assert not allows({"Action": action})


def test_a_resource_is_matched_with_regard_to_case() -> None:
    assert allows({"Resource": "arn:aws:s3:::b/K*"}, resource="arn:aws:s3:::b/Key")
    assert not allows({"Resource": "arn:aws:s3:::b/k*"}, resource="arn:aws:s3:::b/Key")
    assert not allows({"Resource": "arn:aws:s3:::b"})


def test_several_of_a_kind_are_alternatives() -> None:
    assert allows({"Action": ["s3:PutObject", "s3:GetObject"]})
    assert allows({"Resource": ["arn:aws:s3:::c/*", "arn:aws:s3:::b/*"]})
    turned = {"Effect": "Allow", "NotAction": ["s3:Put*", "s3:Get*"], "Resource": "*"}
    assert not ask(turned).allowed
    turned = {"Effect": "Allow", "Action": "*", "NotResource": ["arn:aws:s3:::c*", "*b/k"]}
    assert not ask(turned).allowed


def test_a_resource_of_an_identitys_policy_is_an_arn() -> None:
    for text in ("b/*", "s3:::b", ""):
        with pytest.raises(MalformedPolicy):
            Policy.parse(document({**ALLOW, "Resource": text}), kind="identity")


def test_elements_can_be_turned_around() -> None:
    turned = {"Effect": "Allow", "NotAction": "s3:Put*", "NotResource": "arn:aws:s3:::c/*"}
    assert ask(turned).allowed
    assert not ask(turned, action="s3:putobject").allowed
    assert not ask(turned, resource="arn:aws:s3:::c/k").allowed


def test_all_conditions_must_hold() -> None:
    conditions = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": True}}
    values = {"aws:a": ("1",), "aws:b": ("2",), "aws:c": ("true",)}
    assert allows({"Condition": conditions}, values=values)
    for name in values:
        assert not allows({"Condition": conditions}, values={**values, name: ("x",)})


def test_variables_are_those_of_the_newer_version_only() -> None:
    statement = {"Resource": "arn:aws:s3:::b/${aws:username}/*"}
    values = {"aws:username": ("ann",)}
    assert allows(statement, values=values, resource="arn:aws:s3:::b/ann/k")
    assert not allows(statement, values=values, resource="arn:aws:s3:::b/bob/k")
    old = {"version": "2008-10-17", "values": values}
    assert not allows(statement, **old, resource="arn:aws:s3:::b/ann/k")
    assert allows(statement, **old, resource="arn:aws:s3:::b/${aws:username}/k")


def test_a_variable_without_a_value_grants_nothing_that_is_left_out() -> None:
    left_out = {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::b/${aws:username}/*"}
    assert not ask(left_out).allowed
    assert ask({**left_out, "Effect": "Deny"}).denied


def test_denials_are_told_beside_what_is_allowed() -> None:
    policy = Policy.parse(
        document(ALLOW, {**ALLOW, "Effect": "Deny", "Action": "s3:*"}), kind="identity"
    )
    answer = policy.ask(Asked(USER, "s3:getobject", "arn:aws:s3:::b/k", Lookup(dict)))
    assert answer == Answer(True, Grade.DIRECT)


@pytest.mark.parametrize(
    ("principal", "identity", "grade"),
    [
        ("*", USER, Grade.ROLE),
        ("*", ANONYMOUS, Grade.ROLE),
        ({"AWS": "*"}, ANONYMOUS, Grade.ROLE),
        ({"AWS": "111122223333"}, USER, Grade.ACCOUNT),
        ({"AWS": "arn:aws:iam::111122223333:root"}, USER, Grade.ACCOUNT),
        ({"AWS": "arn:aws:iam::111122223333:root"}, ROOT, Grade.DIRECT),
        ({"AWS": "arn:aws:iam::111122223333:root"}, ANONYMOUS, Grade.NONE),
        ({"AWS": "arn:aws:iam::999999999999:root"}, USER, Grade.NONE),
        ({"AWS": ["999999999999", USER.arn]}, USER, Grade.DIRECT),
        ({"AWS": USER.arn}, ROOT, Grade.NONE),
        ({"AWS": "arn:aws:iam::111122223333:user/ann"}, USER, Grade.NONE),
        ({"AWS": USER.user_id}, USER, Grade.DIRECT),
        ({"AWS": SESSION.role_arn}, SESSION, Grade.ROLE),
        ({"AWS": "AROAREADERREADER"}, SESSION, Grade.ROLE),
        ({"AWS": SESSION.arn}, SESSION, Grade.DIRECT),
        ({"AWS": "arn:aws:sts::111122223333:assumed-role/reader/s2"}, SESSION, Grade.NONE),
        ({"CanonicalUser": "c1"}, USER, Grade.ACCOUNT),
        ({"CanonicalUser": "c2"}, USER, Grade.NONE),
        ({"Service": "logging.s3.amazonaws.com"}, USER, Grade.NONE),
        ({"Service": "logging.s3.amazonaws.com"}, ANONYMOUS, Grade.NONE),
    ],
)
def test_who_is_named(principal: Any, identity: Identity, grade: Grade) -> None:
    assert (
        ask({**ALLOW, "Principal": principal}, kind="resource", identity=identity).allowed is grade
    )


@pytest.mark.parametrize(
    ("names", "identity", "denied"),
    [
        (["111122223333"], ROOT, False),
        (["111122223333"], USER, True),
        ([USER.arn], USER, True),
        ([USER.arn, "111122223333"], USER, False),
        (["111122223333", SESSION.role_arn], SESSION, True),
        (["111122223333", SESSION.role_arn, SESSION.arn], SESSION, False),
        (["111122223333", USER.arn], ANONYMOUS, True),
        (["*"], ANONYMOUS, False),
    ],
)
def test_who_is_left_out_of_a_denial(names: list[str], identity: Identity, denied: bool) -> None:
    """IAM user guide, "NotPrincipal": all of the principals that a caller is must be named."""
    statement = {
        "Effect": "Deny",
        "NotPrincipal": {"AWS": names},
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::b/*",
    }
    assert ask(statement, kind="resource", identity=identity).denied is denied


RESOURCE = {**ALLOW, "Principal": "*"}


def without(statement: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {k: v for k, v in statement.items() if k not in names} | more


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 19_000,
        b'{"a":' * 4_000,
        b'{"Statement": 1' + b"0" * 5_000 + b"}",
        document(),
        document(1),
        document([RESOURCE]),
        document(RESOURCE, Version="2011-01-01"),
        document(RESOURCE, Version=["2012-10-17"]),
        document(RESOURCE, Id=1),
        document(RESOURCE, Extra=1),
        document({**RESOURCE, "Extra": 1}),
        document({**RESOURCE, "effect": "Deny"}),
        document({**RESOURCE, "Effect": "allow"}),
        document({**RESOURCE, "Effect": ["Allow"]}),
        document(without(RESOURCE, "Effect")),
        document(without(RESOURCE, "Action")),
        document(without(RESOURCE, "Resource")),
        document(without(RESOURCE, "Principal")),
        document({**RESOURCE, "NotAction": "s3:*"}),
        document({**RESOURCE, "NotResource": "arn:aws:s3:::b/*"}),
        document(without(RESOURCE, "Principal", NotPrincipal={"AWS": "111122223333"})),
        document({**RESOURCE, "Action": []}),
        document({**RESOURCE, "Action": [1]}),
        document({**RESOURCE, "Action": ["s3:GetObject", 1]}),
        document({**RESOURCE, "Action": ["s3:GetObject", ""]}),
        document({**RESOURCE, "Action": ""}),
        document({**RESOURCE, "Action": "GetObject"}),
        document({**RESOURCE, "Action": "s3:Get Object"}),
        document({**RESOURCE, "Action": "iam:GetUser"}),
        document({**RESOURCE, "Resource": []}),
        document({**RESOURCE, "Resource": "b/*"}),
        document({**RESOURCE, "Resource": "arn:aws:s3:::c/*"}),
        document({**RESOURCE, "Resource": "arn:aws:s3:::bb/*"}),
        document({**RESOURCE, "Resource": ["arn:aws:s3:::b/*", "arn:aws:s3:::c"]}),
        document({**RESOURCE, "Resource": "arn:aws:sqs:::b"}),
        document({**RESOURCE, "Resource": "arn:aws:s3:::b/${"}),
        document({**RESOURCE, "Principal": ""}),
        document({**RESOURCE, "Principal": "arn:aws:iam::111122223333:root"}),
        document({**RESOURCE, "Principal": {}}),
        document({**RESOURCE, "Principal": {"AWS": []}}),
        document({**RESOURCE, "Principal": {"AWS": "x"}}),
        document({**RESOURCE, "Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}}),
        document({**RESOURCE, "Principal": {"AWS": "arn:aws:iam:::user/a"}}),
        document({**RESOURCE, "Principal": {"AWS": {"a": "b"}}}),
        document({**RESOURCE, "Principal": {"Other": "x"}}),
        document({**RESOURCE, "Principal": {"Service": "*"}}),
        document({**RESOURCE, "Condition": []}),
        document({**RESOURCE, "Condition": {"StringEquals": {}}}),
        document({**RESOURCE, "Condition": {"StringEquals": "a"}}),
        document({**RESOURCE, "Condition": {"StringEquals": {"aws:a": []}}}),
        document({**RESOURCE, "Condition": {"StringEquals": {"aws:a": [[]]}}}),
        document({**RESOURCE, "Condition": {"StringEquals": {"aws:a": None}}}),
        document({**RESOURCE, "Condition": {"StringIsh": {"aws:a": "b"}}}),
        document({**RESOURCE, "Sid": 1}),
        document({**RESOURCE, "Sid": "a"}, {**RESOURCE, "Sid": "a"}),
        b'{"Statement": [], "Statement": [%s]}' % json.dumps(RESOURCE).encode(),
        document({**RESOURCE, "Sid": "a"}).replace(b'"Sid": "a"', b'"Effect": "Deny"'),
        document({**RESOURCE, "Condition": {"NumericEquals": {"aws:a": float("nan")}}}),
    ],
)
def test_what_is_no_policy_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedPolicy) as raised:
        Policy.parse(raw, kind="resource", bucket="b")
    assert raised.value.fields["reason"] == "MalformedPolicy"


@pytest.mark.parametrize(
    "statement",
    [
        RESOURCE,
        {**RESOURCE, "Sid": "Allow Public Access to All Objects"},
        {**RESOURCE, "Resource": "arn:aws:s3:::*"},
        {**RESOURCE, "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]},
        {**RESOURCE, "Resource": "*"},
        {**RESOURCE, "Resource": "arn:aws:s3:::?"},
        {**RESOURCE, "Action": "*"},
        {**RESOURCE, "Principal": {"AWS": "arn:aws:iam::s3tenant1:root"}},
        {**RESOURCE, "Principal": {"AWS": ["*"], "CanonicalUser": "abc"}},
        {**RESOURCE, "Condition": {}},
        {**RESOURCE, "Condition": {"NumericLessThan": {"s3:max-keys": 10}}},
    ],
)
def test_what_s3_takes_is_taken(statement: dict[str, Any]) -> None:
    Policy.parse(document(statement), kind="resource", bucket="b")
    Policy.parse(json.dumps({"Statement": statement}), kind="resource", bucket="b")


def test_a_policy_of_an_identity_names_no_principal() -> None:
    for name in ("Principal", "NotPrincipal"):
        with pytest.raises(MalformedPolicy, match="should not specify a principal"):
            Policy.parse(document({**ALLOW, name: "*"}), kind="identity")


def test_a_trust_policy_names_no_resource() -> None:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "111122223333"}}
    assert Policy.parse(document(trust), kind="trust").statements
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**trust, "Resource": "*"}), kind="trust")
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**trust, "Action": "s3:GetObject"}), kind="trust")


def test_ids_of_statements_are_letters_and_digits_in_iam() -> None:
    assert Policy.parse(document({**ALLOW, "Sid": "A1"}), kind="identity")
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**ALLOW, "Sid": "A 1"}), kind="identity")


def test_a_document_has_a_size() -> None:
    blanks = b" " * POLICY_BYTES_MAX["resource"]
    assert Policy.parse(document(ALLOW) + blanks, kind="identity")
    with pytest.raises(MalformedPolicy):
        Policy.parse(document(RESOURCE) + blanks, kind="resource")
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**ALLOW, "Resource": "arn:" + "x" * 10_240}), kind="identity")


@pytest.mark.parametrize("like", ["*" + "?a" * 400 + "b*", *[["*a?b*", "*c?d*x"] * 10]])
def test_a_policy_that_would_make_requests_slow_is_refused(like: Any) -> None:
    """Whoever owns a bucket chooses its policy, and sends what it is compared with."""
    condition = {"StringLike": {"aws:UserAgent": like}}
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**ALLOW, "Condition": condition}), kind="identity")
    texts = [like] if isinstance(like, str) else like
    with pytest.raises(MalformedPolicy):
        Policy.parse(document({**ALLOW, "Resource": texts}), kind="identity")


def test_it_says_which_keys_it_asks_for() -> None:
    statement = {
        **ALLOW,
        "Resource": "arn:aws:s3:::b/${aws:userid}/*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/Team": "${aws:PrincipalTag/Team}"}},
    }
    policy = Policy.parse(document(statement), kind="identity")
    assert policy.keys == {"aws:userid", "s3:existingobjecttag/team", "aws:principaltag/team"}
    assert policy.mentions("s3:ExistingObjectTag/")
    assert not policy.mentions("s3:RequestObjectTag/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXTS = st.sampled_from(
    ["*", "s3:*", "s3:Get*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/${aws:userid}", "${", "", "a"]
)
ELEMENTS = {
    "Effect": st.sampled_from(["Allow", "Deny", "x"]) | JSON,
    "Action": TEXTS | st.lists(TEXTS, max_size=3) | JSON,
    "Resource": TEXTS | st.lists(TEXTS, max_size=3) | JSON,
    "Principal": TEXTS | st.dictionaries(st.sampled_from(["AWS", "Service"]), TEXTS | JSON) | JSON,
    "Condition": st.dictionaries(
        st.sampled_from(["StringLike", "ForAllValues:ArnLike", "IpAddress", "Null", "DateEquals"]),
        st.dictionaries(st.sampled_from(["aws:a", "b"]), TEXTS | JSON, max_size=2) | JSON,
        max_size=2,
    )
    | JSON,
}


@given(
    statements=st.lists(st.fixed_dictionaries({}, optional=ELEMENTS) | JSON, max_size=3) | JSON,
    kind=st.sampled_from(["identity", "resource", "trust"]),
    value=st.text(max_size=8),
)
def test_any_document_is_a_policy_or_refused(statements: Any, kind: Any, value: str) -> None:
    raw = json.dumps({"Version": "2012-10-17", "Statement": statements})
    try:
        policy = Policy.parse(raw, kind=kind, bucket="b")
    except MalformedPolicy:
        return
    values = Lookup(lambda: {"aws:a": (value,), "aws:userid": (value, value)})
    for identity in (USER, SESSION, ANONYMOUS):
        policy.ask(Asked(identity, "s3:getobject", f"arn:aws:s3:::b/{value}", values))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_refused(raw: bytes) -> None:
    with pytest.raises(MalformedPolicy):
        Policy.parse(raw, kind="resource")
