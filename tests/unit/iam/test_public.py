"""What counts as public (S3 user guide, "The meaning of 'public'")."""

from __future__ import annotations

import json
from typing import Any

import pytest

from objectio.iam.policy import Policy
from objectio.iam.public import is_public_acl, is_public_policy
from objectio.model.bucket import ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY, Acl, Grant


def is_public(*statements: dict[str, Any]) -> bool:
    base = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}
    document = {"Version": "2012-10-17", "Statement": [base | item for item in statements]}
    return is_public_policy(Policy.parse(json.dumps(document), kind="resource"))


def under(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        ({}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"AWS": ["111122223333", "*"]}}, True),
        ({"Principal": {"AWS": "111122223333"}}, False),
        ({"Principal": {"AWS": "arn:aws:iam::s3tenant1:root"}}, False),
        ({"Principal": {"CanonicalUser": "abc"}}, False),
        ({"Principal": {"Service": "logging.s3.amazonaws.com"}}, False),
        ({"Effect": "Deny"}, False),
        (under("IpAddress", "aws:SourceIp", "10.0.0.0/32"), False),
        (under("IpAddress", "aws:SourceIp", "10.0.0.0/8"), False),
        (under("IpAddress", "aws:SourceIp", "8.0.0.0/8"), False),
        (under("IpAddress", "aws:SourceIp", "8.0.0.0/7"), True),
        (under("IpAddress", "aws:SourceIp", ["203.0.113.0/24", "0.0.0.0/1"]), True),
        (under("IpAddress", "aws:SourceIp", "2001:db8::/32"), False),
        (under("IpAddress", "aws:SourceIp", "2000::/3"), True),
        (under("NotIpAddress", "aws:SourceIp", "203.0.113.0/24"), True),
        (under("IpAddressIfExists", "aws:SourceIp", "203.0.113.0/24"), True),
        (under("StringEquals", "aws:SourceVpc", "vpc-1"), False),
        (under("StringLike", "aws:SourceVpc", "vpc-*"), True),
        (under("StringLike", "aws:SourceVpc", "vpc-?"), True),
        (under("StringLike", "aws:SourceVpc", ["vpc-1", "vpc-2"]), False),
        (under("StringLike", "aws:SourceVpc", ["vpc-1", "vpc-*"]), True),
        (under("IpAddress", "aws:VpcSourceIp", "10.0.0.1"), True),
        (under("StringEquals", "aws:SourceIp", "10.0.0.1"), True),
        (under("StringEquals", "aws:SourceVpc", "${aws:username}"), True),
        (under("StringEqualsIfExists", "aws:SourceVpc", "vpc-1"), True),
        (under("StringNotEquals", "aws:SourceVpc", "vpc-1"), True),
        (under("ForAllValues:StringEquals", "aws:SourceVpc", "vpc-1"), True),
        (under("ForAnyValue:StringEquals", "aws:SourceVpc", "vpc-1"), False),
        (under("Null", "aws:SourceVpc", "false"), True),
        (under("StringEquals", "aws:PrincipalOrgID", "o-1"), False),
        (under("ArnLike", "aws:SourceArn", "arn:aws:sns:us-east-1:111122223333:*"), False),
        (under("ArnLike", "aws:SourceArn", "arn:aws:sns:us-east-1:*:topic"), True),
        (under("ArnEquals", "aws:SourceArn", "arn:aws:s3:::source"), False),
        (under("ArnLike", "aws:SourceArn", "arn:aws:s3:::source*"), True),
        (under("ArnLike", "aws:PrincipalArn", "arn:aws:iam::111122223333:role/*"), True),
        (under("StringLike", "aws:Referer", "https://example.com/"), True),
        (under("StringEquals", "s3:prefix", "a"), True),
        (under("Bool", "aws:SecureTransport", "true"), True),
    ],
)
def test_policies(statement: dict[str, Any], public: bool) -> None:
    assert is_public(statement) is public


def test_one_public_statement_makes_the_policy_public() -> None:
    named = {"Principal": {"AWS": "111122223333"}}
    assert is_public(named, {})
    assert not is_public(named, {"Effect": "Deny"}, under("IpAddress", "aws:SourceIp", "10.1.1.1"))


@pytest.mark.parametrize(
    ("grant", "public"),
    [
        (Grant(grantee=ALL_USERS, permission="READ", group=True), True),
        (Grant(grantee=AUTHENTICATED_USERS, permission="WRITE_ACP", group=True), True),
        (Grant(grantee=LOG_DELIVERY, permission="WRITE", group=True), False),
        (Grant(grantee=ALL_USERS, permission="READ"), False),
        (Grant(grantee="abc", permission="FULL_CONTROL"), False),
    ],
)
def test_acls(grant: Grant, public: bool) -> None:
    assert is_public_acl(Acl(grants=(grant,))) is public
    assert not is_public_acl(Acl())
