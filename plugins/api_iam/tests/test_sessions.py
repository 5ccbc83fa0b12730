"""Temporary credentials: roles, session policies, and that no session is more than it was given."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def may(action, **more):
    return {"Effect": "Allow", "Action": action, "Resource": "*", **more}


def trusts(principal, *actions, **more):
    return {
        "Effect": "Allow",
        "Action": list(actions or ["sts:AssumeRole"]),
        "Principal": principal,
        **more,
    }


def refused(call, code):
    with pytest.raises(ClientError) as raised:
        call()
    assert raised.value.response["Error"]["Code"] == code, raised.value.response


@pytest.fixture
def role(account):
    """A role that the account trusts, and that may list users and roles."""
    return make_role(account, trusts({"AWS": account.id}))


def make_role(account, *trusted, name="reader", allowed=("iam:ListUsers", "iam:ListRoles")):
    iam = account.iam
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(*trusted))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document(may(list(allowed))))
    return arn


def assume(keys, arn, **more):
    answer = keys.sts.assume_role(RoleArn=arn, RoleSessionName="one", **more)
    return keys.assumed(answer["Credentials"])


def test_who_one_is(account):
    said = account.sts.get_caller_identity()
    assert said["Arn"] == f"arn:aws:iam::{account.id}:root"
    assert (said["Account"], said["UserId"]) == (account.id, account.id)
    ann = account.user("ann")
    said = ann.sts.get_caller_identity()
    assert said["Arn"] == f"arn:aws:iam::{account.id}:user/ann"
    assert said["UserId"].startswith("AIDA")


def test_a_role_is_assumed(account, role):
    answer = account.sts.assume_role(RoleArn=role, RoleSessionName="one", DurationSeconds=900)
    expected = f"arn:aws:sts::{account.id}:assumed-role/reader/one"
    assert answer["AssumedRoleUser"]["Arn"] == expected
    left = answer["Credentials"]["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=800) < left <= timedelta(seconds=900)
    session = account.assumed(answer["Credentials"])
    said = session.sts.get_caller_identity()
    assert said["Arn"] == expected
    assert said["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    assert session.iam.list_users()["Users"] == []
    refused(session.iam.list_groups, "AccessDenied")


def test_temporary_keys_do_not_work_without_their_token(account, role):
    session = assume(account, role)
    for token in (None, "nonsense", session.token[:-4] + "AAAA"):
        wrong = type(session)(session.endpoint, session.access_key, session.secret_key, token)
        with pytest.raises(ClientError) as raised:
            wrong.sts.get_caller_identity()
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def test_what_takes_a_role_away_takes_it_from_its_sessions(account, role):
    session = assume(account, role)
    session.iam.list_users()
    account.iam.delete_role_policy(RoleName="reader", PolicyName="p")
    refused(session.iam.list_users, "AccessDenied")


def test_a_user_who_is_not_trusted_may_not(account):
    ann, bob = account.user("ann"), account.user("bob", json.loads(document(may("sts:*"))))
    role = make_role(account, trusts({"AWS": f"arn:aws:iam::{account.id}:user/ann"}))
    assert assume(ann, role).iam.list_users()["Users"]
    refused(lambda: assume(bob, role), "AccessDenied")


def test_trust_in_the_account_is_not_trust_in_each_user(account, role):
    refused(lambda: assume(account.user("ann"), role), "AccessDenied")
    given = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}
    assert assume(account.user("bob", json.loads(document(given))), role)


def test_another_account_needs_both_sides(server, account):
    other = server.account()
    role = make_role(account, trusts({"AWS": other.id}))
    assert assume(other, role).sts.get_caller_identity()["Account"] == account.id
    ann = other.user("ann")
    refused(lambda: assume(ann, role), "AccessDenied")
    bob = other.user("bob", json.loads(document(may("sts:AssumeRole"))))
    assert assume(bob, role)
    third = server.account()
    refused(lambda: assume(third, role), "AccessDenied")
    missing = role.replace("/reader", "/missing")
    refused(lambda: assume(third, missing), "AccessDenied")


def test_a_denial_in_the_trust_policy_comes_first(account):
    role = make_role(
        account,
        trusts({"AWS": account.id}),
        trusts(
            {"AWS": account.id}, Effect="Deny", Condition={"StringEquals": {"sts:ExternalId": "no"}}
        ),
    )
    assert assume(account, role, ExternalId="yes")
    refused(lambda: assume(account, role, ExternalId="no"), "AccessDenied")


def test_an_external_id_can_be_wanted(account):
    wanted = {"StringEquals": {"sts:ExternalId": "secret"}}
    role = make_role(account, trusts({"AWS": account.id}, Condition=wanted))
    assert assume(account, role, ExternalId="secret")
    refused(lambda: assume(account, role), "AccessDenied")
    refused(lambda: assume(account, role, ExternalId="guess"), "AccessDenied")


def test_conditions_of_trust_know_where_from(account):
    for address, allowed in (("127.0.0.0/8", True), ("203.0.113.0/24", False)):
        from_there = {"IpAddress": {"aws:SourceIp": address}}
        name = f"from{allowed}"
        role = make_role(account, trusts({"AWS": account.id}, Condition=from_there), name=name)
        if allowed:
            assert assume(account, role)
        else:
            refused(lambda role=role: assume(account, role), "AccessDenied")


def test_a_session_is_narrowed_down(account, role):
    session = assume(account, role, Policy=document(may("iam:ListRoles"), may("iam:ListGroups")))
    assert session.iam.list_roles()["Roles"]
    refused(session.iam.list_users, "AccessDenied")
    refused(session.iam.list_groups, "AccessDenied")


def test_a_managed_policy_narrows_a_session_down(account, role):
    policy = account.iam.create_policy(
        PolicyName="r", PolicyDocument=document(may("iam:ListRoles"))
    )
    session = assume(account, role, PolicyArns=[{"arn": policy["Policy"]["Arn"]}])
    assert session.iam.list_roles()["Roles"]
    refused(session.iam.list_users, "AccessDenied")
    missing = [{"arn": f"arn:aws:iam::{account.id}:policy/missing"}]
    refused(lambda: assume(account, role, PolicyArns=missing), "NoSuchEntity")


def test_a_session_cannot_widen_itself(account):
    """Not by a role that trusts the account, nor by new keys: the narrow session is what asks."""
    allowed = ("iam:*", "sts:*")
    wide = make_role(account, trusts({"AWS": account.id}), name="wide", allowed=allowed)
    session = assume(account, wide, Policy=document(may("iam:ListUsers")))
    refused(lambda: assume(session, wide), "AccessDenied")
    refused(lambda: session.iam.create_user(UserName="mallory"), "AccessDenied")
    refused(lambda: session.iam.create_access_key(UserName="ann"), "AccessDenied")
    refused(session.sts.get_session_token, "AccessDenied")


def test_roles_are_chained_for_an_hour_at_most(account):
    wide = make_role(account, trusts({"AWS": account.id}), name="wide", allowed=("iam:*", "sts:*"))
    account.iam.update_role(RoleName="wide", MaxSessionDuration=7200)
    session = assume(account, wide, DurationSeconds=7200)
    assert assume(session, wide, DurationSeconds=3600).iam.list_roles()
    refused(lambda: assume(session, wide, DurationSeconds=3601), "ValidationError")


def test_sessions_last_no_longer_than_the_role_gives(account, role):
    for seconds in (3601, 43_200):
        refused(
            lambda seconds=seconds: account.sts.assume_role(
                RoleArn=role, RoleSessionName="one", DurationSeconds=seconds
            ),
            "ValidationError",
        )


def test_tags_need_permission_of_their_own(account):
    tags = [{"Key": "team", "Value": "red"}]
    plain = make_role(account, trusts({"AWS": account.id}), name="plain")
    refused(lambda: assume(account, plain, Tags=tags), "AccessDenied")
    both = trusts({"AWS": account.id}, "sts:AssumeRole", "sts:TagSession")
    role = make_role(account, both, name="tagged", allowed=("iam:ListUsers",))
    account.iam.put_role_policy(
        RoleName="tagged",
        PolicyName="p",
        PolicyDocument=document(
            may("iam:ListUsers", Condition={"StringEquals": {"aws:PrincipalTag/team": "red"}})
        ),
    )
    assert assume(account, role, Tags=tags).iam.list_users()["Users"] == []
    blue = assume(account, role, Tags=[{"Key": "team", "Value": "blue"}])
    refused(blue.iam.list_users, "AccessDenied")


def test_what_is_not_built_is_refused(account, role):
    for more in (
        {"SourceIdentity": "me"},
        {"SerialNumber": "arn:aws:iam::1:mfa/x", "TokenCode": "123456"},
        {"TransitiveTagKeys": ["team"]},
    ):
        refused(lambda more=more: assume(account, role, **more), "ValidationError")


def test_a_session_of_ones_own(account):
    ann = account.user("ann", json.loads(document(may("iam:ListUsers"))))
    session = ann.assumed(ann.sts.get_session_token(DurationSeconds=900)["Credentials"])
    assert session.sts.get_caller_identity()["Arn"] == ann.sts.get_caller_identity()["Arn"]
    assert session.iam.list_users()["Users"]
    refused(session.iam.list_roles, "AccessDenied")
    refused(session.sts.get_session_token, "AccessDenied")


def test_a_policy_may_want_temporary_credentials(account):
    lasting = {"BoolIfExists": {"sts:authentication": "false"}}
    policy = document(may("iam:ListUsers"), may("iam:*", Effect="Deny", Condition=lasting))
    ann = account.user("ann", json.loads(policy))
    refused(ann.iam.list_users, "AccessDenied")
    session = ann.assumed(ann.sts.get_session_token()["Credentials"])
    assert session.iam.list_users()["Users"]
