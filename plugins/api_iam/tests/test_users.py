"""Users, keys, groups, roles, policies and providers, by boto3."""

from __future__ import annotations

import json
import time

import pytest
from botocore.exceptions import ClientError


def allow(action="*", resource="*", **more):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(principal):
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(call, *, code, status):
    with pytest.raises(ClientError) as raised:
        call()
    response = raised.value.response
    assert response["Error"]["Code"] == code, response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["Error"]["Message"]
    return response


def test_a_user_comes_and_goes(account):
    iam = account.iam
    made = iam.create_user(UserName="ann", Path="/eng/", Tags=[{"Key": "team", "Value": "<a&b>"}])
    user = made["User"]
    assert user["Arn"] == f"arn:aws:iam::{account.id}:user/eng/ann"
    assert user["UserId"].startswith("AIDA")
    found = iam.get_user(UserName="ann")["User"]
    assert found["Tags"] == [{"Key": "team", "Value": "<a&b>"}]
    assert found["CreateDate"].year >= 2026
    assert [item["UserName"] for item in iam.list_users()["Users"]] == ["ann"]
    assert iam.list_users(PathPrefix="/ops/")["Users"] == []
    iam.update_user(UserName="ann", NewUserName="anna", NewPath="/")
    assert iam.get_user(UserName="anna")["User"]["UserId"] == user["UserId"]
    iam.delete_user(UserName="anna")
    refused(lambda: iam.get_user(UserName="anna"), code="NoSuchEntity", status=404)


def test_tags_of_a_user_and_a_role(account):
    iam = account.iam
    iam.create_user(UserName="ann")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust({"AWS": account.id}))
    for name, who in (("user", {"UserName": "ann"}), ("role", {"RoleName": "r"})):
        tag, untag = getattr(iam, f"tag_{name}"), getattr(iam, f"untag_{name}")
        tags = getattr(iam, f"list_{name}_tags")
        tag(**who, Tags=[{"Key": "A", "Value": "1"}, {"Key": "b", "Value": "2"}])
        tag(**who, Tags=[{"Key": "a", "Value": "3"}])
        assert tags(**who)["Tags"] == [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}]
        untag(**who, TagKeys=["A"])
        assert tags(**who)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_errors_have_the_codes_of_iam(account):
    iam = account.iam
    iam.create_user(UserName="ann")
    refused(lambda: iam.create_user(UserName="Ann"), code="EntityAlreadyExists", status=409)
    refused(lambda: iam.create_user(UserName="a b"), code="ValidationError", status=400)
    refused(lambda: iam.create_user(UserName="../root"), code="ValidationError", status=400)
    refused(lambda: iam.delete_user(UserName="bob"), code="NoSuchEntity", status=404)
    refused(
        lambda: iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument="{}"),
        code="MalformedPolicyDocument",
        status=400,
    )
    refused(
        lambda: iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(allow())),
        code="MalformedPolicyDocument",
        status=400,
    )
    iam.create_access_key(UserName="ann")
    refused(lambda: iam.delete_user(UserName="ann"), code="DeleteConflict", status=409)
    refused(
        lambda: iam.create_user(UserName="x", PermissionsBoundary="arn:aws:iam::aws:policy/Admin"),
        code="ValidationError",
        status=400,
    )


def test_keys_of_a_user(account):
    ann = account.user("ann", allow("iam:*AccessKey*"))
    shown = ann.iam.list_access_keys()["AccessKeyMetadata"]
    assert [item["AccessKeyId"] for item in shown] == [ann.access_key]
    assert shown[0]["UserName"] == "ann"
    second = ann.iam.create_access_key()["AccessKey"]
    assert second["UserName"] == "ann"
    account.iam.update_access_key(
        UserName="ann", AccessKeyId=second["AccessKeyId"], Status="Inactive"
    )
    keys = {item["AccessKeyId"]: item for item in ann.iam.list_access_keys()["AccessKeyMetadata"]}
    assert keys[second["AccessKeyId"]]["Status"] == "Inactive"
    assert "SecretAccessKey" not in keys[second["AccessKeyId"]]
    other = type(ann)(ann.endpoint, second["AccessKeyId"], second["SecretAccessKey"])
    refused(other.sts.get_caller_identity, code="InvalidClientTokenId", status=403)
    ann.iam.delete_access_key(AccessKeyId=second["AccessKeyId"])
    assert len(ann.iam.list_access_keys()["AccessKeyMetadata"]) == 1


def test_a_user_may_manage_only_what_it_is_given(account):
    own = allow("iam:*AccessKey*", f"arn:aws:iam::{account.id}:user/${{aws:username}}")
    ann = account.user("ann", own)
    account.user("bob")
    assert ann.iam.list_access_keys()["AccessKeyMetadata"]
    for name in ("bob", "nobody"):
        refused(
            lambda name=name: ann.iam.list_access_keys(UserName=name),
            code="AccessDenied",
            status=403,
        )


def test_nobody_becomes_who_they_may_not_make(account):
    """Policies go by names, and some outlive whom they were written for."""
    own = f"arn:aws:iam::{account.id}:user/ann"
    ann = account.user("ann", allow("iam:UpdateUser", own))
    for new in ({"NewUserName": "boss"}, {"NewPath": "/bosses/"}):
        refused(
            lambda new=new: ann.iam.update_user(UserName="ann", **new),
            code="AccessDenied",
            status=403,
        )
    ann.iam.update_user(UserName="ann", NewUserName="ann", NewPath="/")
    account.iam.create_group(GroupName="few")
    account.iam.put_user_policy(
        UserName="ann",
        PolicyName="more",
        PolicyDocument=json.dumps(allow("iam:UpdateGroup", f"arn:aws:iam::{account.id}:group/few")),
    )
    refused(
        lambda: ann.iam.update_group(GroupName="few", NewGroupName="many"),
        code="AccessDenied",
        status=403,
    )
    account.iam.update_user(UserName="ann", NewUserName="boss")
    account.iam.update_group(GroupName="few", NewGroupName="many")


def test_the_root_may_ask_for_itself(account):
    user = account.iam.get_user()["User"]
    assert user["Arn"] == f"arn:aws:iam::{account.id}:root"
    assert user["UserId"] == account.id
    keys = account.iam.list_access_keys()["AccessKeyMetadata"]
    assert [item["AccessKeyId"] for item in keys] == [account.access_key]


def test_groups_give_their_policies(account):
    iam = account.iam
    ann = account.user("ann")
    refused(ann.iam.list_users, code="AccessDenied", status=403)
    group = iam.create_group(GroupName="staff", Path="/x/")["Group"]
    assert group["Arn"] == f"arn:aws:iam::{account.id}:group/x/staff"
    iam.put_group_policy(
        GroupName="staff", PolicyName="p", PolicyDocument=json.dumps(allow("iam:ListUsers"))
    )
    iam.add_user_to_group(GroupName="staff", UserName="ann")
    assert [item["UserName"] for item in iam.get_group(GroupName="staff")["Users"]] == ["ann"]
    assert [item["GroupName"] for item in iam.list_groups_for_user(UserName="ann")["Groups"]] == [
        "staff"
    ]
    assert [item["UserName"] for item in ann.iam.list_users()["Users"]] == ["ann"]
    iam.remove_user_from_group(GroupName="staff", UserName="ann")
    refused(ann.iam.list_users, code="AccessDenied", status=403)
    iam.update_group(GroupName="staff", NewGroupName="crew")
    assert [item["GroupName"] for item in iam.list_groups()["Groups"]] == ["crew"]
    iam.delete_group_policy(GroupName="crew", PolicyName="p")
    iam.delete_group(GroupName="crew")


def test_policies_are_shown_as_they_were_put(account):
    iam = account.iam
    iam.create_user(UserName="ann")
    document = allow("s3:GetObject", "arn:aws:s3:::b/${aws:username}/*")
    iam.put_user_policy(UserName="ann", PolicyName="one", PolicyDocument=json.dumps(document))
    iam.put_user_policy(UserName="ann", PolicyName="two", PolicyDocument=json.dumps(allow()))
    found = iam.get_user_policy(UserName="ann", PolicyName="one")
    assert found["PolicyDocument"] == document
    assert found["UserName"] == "ann"
    assert iam.list_user_policies(UserName="ann")["PolicyNames"] == ["one", "two"]
    iam.delete_user_policy(UserName="ann", PolicyName="two")
    assert iam.list_user_policies(UserName="ann")["PolicyNames"] == ["one"]
    refused(
        lambda: iam.delete_user_policy(UserName="ann", PolicyName="two"),
        code="NoSuchEntity",
        status=404,
    )


def test_managed_policies(account):
    iam = account.iam
    ann = account.user("ann")
    policy = iam.create_policy(PolicyName="readers", PolicyDocument=json.dumps(allow("iam:Get*")))[
        "Policy"
    ]
    assert policy["Arn"] == f"arn:aws:iam::{account.id}:policy/readers"
    assert [item["Arn"] for item in iam.list_policies(Scope="Local")["Policies"]] == [policy["Arn"]]
    assert iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["PolicyId"] == policy["PolicyId"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])[
        "PolicyVersion"
    ]
    assert version["Document"] == allow("iam:Get*")
    assert len(iam.list_policy_versions(PolicyArn=policy["Arn"])["Versions"]) == 1
    refused(ann.iam.get_user, code="AccessDenied", status=403)
    iam.attach_user_policy(UserName="ann", PolicyArn=policy["Arn"])
    assert ann.iam.get_user()["User"]["UserName"] == "ann"
    attached = iam.list_attached_user_policies(UserName="ann")["AttachedPolicies"]
    assert attached == [{"PolicyName": "readers", "PolicyArn": policy["Arn"]}]
    refused(lambda: iam.delete_policy(PolicyArn=policy["Arn"]), code="DeleteConflict", status=409)
    iam.detach_user_policy(UserName="ann", PolicyArn=policy["Arn"])
    iam.delete_policy(PolicyArn=policy["Arn"])
    refused(lambda: iam.get_policy(PolicyArn=policy["Arn"]), code="NoSuchEntity", status=404)


def test_policies_that_are_there_from_the_beginning(account):
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    assert account.iam.get_policy(PolicyArn=arn)["Policy"]["Arn"] == arn
    ann = account.user("ann")
    account.iam.attach_user_policy(UserName="ann", PolicyArn=arn)
    assert ann.iam.list_users()["Users"]


def test_roles(account):
    iam = account.iam
    document = trust({"AWS": account.id})
    role = iam.create_role(
        RoleName="reader",
        Path="/svc/",
        AssumeRolePolicyDocument=document,
        Description="reads",
        MaxSessionDuration=7200,
    )["Role"]
    assert role["Arn"] == f"arn:aws:iam::{account.id}:role/svc/reader"
    found = iam.get_role(RoleName="reader")["Role"]
    assert found["AssumeRolePolicyDocument"] == json.loads(document)
    assert (found["Description"], found["MaxSessionDuration"]) == ("reads", 7200)
    iam.update_role(RoleName="reader", Description="still reads")
    found = iam.get_role(RoleName="reader")["Role"]
    assert (found["Description"], found["MaxSessionDuration"]) == ("still reads", 7200)
    changed = trust({"AWS": "999999999999"})
    iam.update_assume_role_policy(RoleName="reader", PolicyDocument=changed)
    found = iam.get_role(RoleName="reader")["Role"]
    assert found["AssumeRolePolicyDocument"] == json.loads(changed)
    assert [item["RoleName"] for item in iam.list_roles(PathPrefix="/svc/")["Roles"]] == ["reader"]
    iam.put_role_policy(RoleName="reader", PolicyName="p", PolicyDocument=json.dumps(allow()))
    assert iam.get_role_policy(RoleName="reader", PolicyName="p")["PolicyDocument"] == allow()
    refused(lambda: iam.delete_role(RoleName="reader"), code="DeleteConflict", status=409)
    iam.delete_role_policy(RoleName="reader", PolicyName="p")
    iam.delete_role(RoleName="reader")
    assert iam.list_roles()["Roles"] == []


def test_providers(account):
    iam = account.iam
    url = "https://idp.example.com/realms/one"
    arn = iam.create_open_id_connect_provider(
        Url=url, ClientIDList=["app"], ThumbprintList=["a" * 40]
    )["OpenIDConnectProviderArn"]
    assert arn == f"arn:aws:iam::{account.id}:oidc-provider/idp.example.com/realms/one"
    refused(
        lambda: iam.create_open_id_connect_provider(Url=url),
        code="EntityAlreadyExists",
        status=409,
    )
    for _ in range(2):
        iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="two")
    iam.update_open_id_connect_provider_thumbprint(
        OpenIDConnectProviderArn=arn, ThumbprintList=["b" * 40]
    )
    found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert found["Url"] == "idp.example.com/realms/one"
    assert found["ClientIDList"] == ["app", "two"]
    assert found["ThumbprintList"] == ["b" * 40]
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="app")
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"] == ["two"]
    shown = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert shown == [{"Arn": arn}]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []


def test_long_lists_come_in_pages(account):
    iam = account.iam
    names = ["a1", "A2", "a3", "B", "c", "D1", "d2"]
    for name in reversed(names):
        iam.create_user(UserName=name)
    first = iam.list_users(MaxItems=3)
    assert first["IsTruncated"]
    assert len(first["Users"]) == 3
    pages = iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 3})
    assert [item["UserName"] for page in pages for item in page["Users"]] == names
    refused(lambda: iam.list_users(MaxItems=1001), code="ValidationError", status=400)


def test_accounts_do_not_see_each_other(server, account):
    other = server.account()
    account.iam.create_user(UserName="ann")
    policy = account.iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(allow()))["Policy"]
    provider = account.iam.create_open_id_connect_provider(Url="https://idp.example.com")
    assert other.iam.list_users()["Users"] == []
    refused(lambda: other.iam.get_user(UserName="ann"), code="NoSuchEntity", status=404)
    for call in (
        lambda: other.iam.get_policy(PolicyArn=policy["Arn"]),
        lambda: other.iam.delete_policy(PolicyArn=policy["Arn"]),
        lambda: other.iam.delete_open_id_connect_provider(
            OpenIDConnectProviderArn=provider["OpenIDConnectProviderArn"]
        ),
    ):
        refused(call, code="AccessDenied", status=403)
    other.iam.create_user(UserName="bob")
    refused(
        lambda: other.iam.attach_user_policy(UserName="bob", PolicyArn=policy["Arn"]),
        code="NoSuchEntity",
        status=404,
    )


def test_a_key_that_has_expired_is_shown_as_inactive(server, account):
    identities = server.identities.identities
    soon_ms = int(time.time() * 1000) + 300
    made = server.run(identities.create_access_key(account.id, "", expires_ms=soon_ms))
    deadline = time.monotonic() + 30
    while {key["Status"] for key in account.iam.list_access_keys()["AccessKeyMetadata"]} != {
        "Active",
        "Inactive",
    }:
        assert time.monotonic() < deadline
    keys = type(account).__base__
    gone = keys(account.endpoint, made.key.access_key, made.secret_key)
    refused(gone.iam.list_users, code="InvalidClientTokenId", status=403)
