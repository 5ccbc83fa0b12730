"""Nothing is done for who may not: every action, for callers of every wrong kind."""

from __future__ import annotations

import http.client
import json
from hashlib import sha256
from urllib.parse import urlencode, urlsplit

import pytest
from objectio_api_iam.routes import ROUTES

from objectio.iam.credentials import root_credential
from objectio.iam.signer import presign, sign_request

# Enough that each action gets as far as to what it is about.
FIELDS = {
    "UserName": "victim",
    "GroupName": "staff",
    "RoleName": "role",
    "PolicyName": "p",
    "PolicyDocument": '{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess",
    "VersionId": "v1",
    "AssumeRolePolicyDocument": "{}",
    "AccessKeyId": "AKIAX",
    "Status": "Active",
    "OpenIDConnectProviderArn": "arn:aws:iam::123456789012:oidc-provider/idp.example.com",
    "Url": "https://idp.example.com",
    "ClientID": "app",
    "RoleArn": "arn:aws:iam::123456789012:role/role",
    "RoleSessionName": "session",
    "WebIdentityToken": "e30.e30.e30",
    "Tags.member.1.Key": "a",
    "Tags.member.1.Value": "b",
}
# What needs no policy at all, only to be known (STS API reference).
_OF_ONESELF = {"GetSessionToken", "GetCallerIdentity"}


def ask(
    server,
    action,
    *,
    keys=None,
    service=None,
    fields=FIELDS,
    tamper=False,
    digest=None,
    in_query=False,
):
    """(status, body) of a request by hand, signed by `keys` for `service` or not at all."""
    sent = {
        name: value for name, value in fields.items() if action != "CreateRole" or name != "Tags"
    }
    body = urlencode({"Action": action, **sent}).encode()
    host = urlsplit(server.endpoint).netloc
    headers = [
        (b"host", host.encode()),
        (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8"),
    ]
    path, service = "/", service or (ROUTES[action].service if action in ROUTES else "iam")
    if in_query:
        credential = root_credential(keys.access_key, keys.secret_key)
        query = presign(credential, "POST", b"/", b"", headers, service=service)
        path = f"/?{query.decode()}"
    elif keys is not None:
        credential = root_credential(keys.access_key, keys.secret_key)
        headers = sign_request(
            credential,
            "POST",
            b"/",
            b"",
            headers,
            content_sha256=digest or sha256(body).hexdigest().encode(),
            service=service,
        )
    if tamper:
        body = body.replace(b"victim", b"others")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
        for name, value in [*headers, (b"content-length", b"%d" % len(body))]:
            connection.putheader(name.decode(), value.decode())
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


SIGNED = sorted(name for name, route in ROUTES.items() if not route.anonymous)


@pytest.fixture(scope="module")
def shared(server):
    return server.account()


@pytest.fixture(scope="module")
def stranger(shared):
    return shared.user("stranger")


@pytest.mark.parametrize("action", SIGNED)
def test_nobody_may(server, action):
    status, body = ask(server, action)
    assert status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in body


@pytest.mark.parametrize("action", sorted(set(SIGNED) - _OF_ONESELF))
def test_a_user_without_policies_may_not(server, stranger, action):
    status, body = ask(server, action, keys=stranger)
    assert status == 403, body
    assert "<Code>AccessDenied</Code>" in body


@pytest.mark.parametrize("action", SIGNED)
def test_a_signature_for_another_service_does_not_do(server, shared, action):
    other = "sts" if ROUTES[action].service == "iam" else "iam"
    status, body = ask(server, action, keys=shared, service=other)
    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in body
    assert ask(server, action, keys=shared, service="s3")[0] == 400


def test_a_body_that_was_changed_on_its_way_does_nothing(server, shared):
    status, body = ask(server, "CreateUser", keys=shared, tamper=True)
    assert status == 403, body
    assert all(item["UserName"] != "others" for item in shared.iam.list_users()["Users"])


def test_a_signature_that_does_not_cover_the_body_does_nothing(server, shared):
    for digest in (b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"x" * 64):
        status, body = ask(server, "CreateUser", keys=shared, digest=digest)
        assert status in (400, 403), body
    status, body = ask(server, "CreateUser", keys=shared, in_query=True)
    assert status == 400, body
    assert all(item["UserName"] != "victim" for item in shared.iam.list_users()["Users"])


def test_a_wrong_secret_does_nothing(server, shared):
    wrong = type(shared).__mro__[1](shared.endpoint, shared.access_key, "x" * 40)
    status, body = ask(server, "ListUsers", keys=wrong)
    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in body


def test_who_may_not_ask_learns_nothing(server, shared, stranger):
    shared.iam.create_user(UserName="there", Path="/secret/")
    answers = []
    for name in ("there", "missing"):
        status, body = ask(server, "GetUser", keys=stranger, fields={"UserName": name})
        assert status == 403
        assert "secret" not in body
        answers.append(body.partition("<RequestId>")[0])
    assert answers[0] == answers[1]


def test_an_administrator_of_users_is_not_one_of_roles(server, shared):
    statement = {"Effect": "Allow", "Action": "iam:*User*", "Resource": "*"}
    admin = shared.user("usersadmin", {"Version": "2012-10-17", "Statement": [statement]})
    assert ask(server, "ListUsers", keys=admin)[0] == 200
    for action in ("ListRoles", "CreateRole", "PutRolePolicy", "CreatePolicy", "AssumeRole"):
        assert ask(server, action, keys=admin)[0] == 403


@pytest.mark.parametrize(
    ("fields", "code", "status"),
    [
        ({}, "InvalidAction", 400),
        ({"UserName.member.1": "x"}, "ValidationError", 400),
    ],
)
def test_what_is_not_understood(server, shared, fields, code, status):
    action = "GetUser" if fields else "Nothing"
    if action in ROUTES:
        answer = ask(server, "TagUser", keys=shared, fields=fields)
    else:
        answer = ask(server, action, keys=shared, service="iam", fields=fields)
    assert answer[0] == status
    assert f"<Code>{code}</Code>" in answer[1]


def test_a_session_policy_that_says_nothing_is_none(server, shared):
    """Whoever sends one wants a session of less than all."""
    statement = {"Effect": "Allow", "Principal": {"AWS": shared.id}, "Action": "sts:AssumeRole"}
    arn = shared.iam.create_role(
        RoleName="narrowed",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )["Role"]["Arn"]
    fields = {"RoleArn": arn, "RoleSessionName": "one"}
    assert ask(server, "AssumeRole", keys=shared, fields=fields)[0] == 200
    for more in ({"Policy": ""}, {"PolicyArns.member.1": "x"}, {"PolicyArns.member.1.arn": ""}):
        assert ask(server, "AssumeRole", keys=shared, fields={**fields, **more})[0] >= 400
