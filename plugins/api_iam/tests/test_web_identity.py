"""Web identities: which tokens are believed, which are not, and what is asked of whom for it."""

from __future__ import annotations

import base64
import hmac
import json
import time

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ACTION = "sts:AssumeRoleWithWebIdentity"


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def may(action, **more):
    return {"Effect": "Allow", "Action": action, "Resource": "*", **more}


class Federation:
    """An account with a provider and a role that trusts it."""

    def __init__(self, server, issuer, account):
        self.account = account
        self.issuer = issuer
        self.provider = account.iam.create_open_id_connect_provider(
            Url=issuer.url, ClientIDList=["app"]
        )["OpenIDConnectProviderArn"]
        self.sts = boto3.client(
            "sts",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
        )
        self.role = self.make_role("web")

    def make_role(self, name, *actions, **more):
        trusted = {
            "Effect": "Allow",
            "Action": list(actions or [ACTION]),
            "Principal": {"Federated": self.provider},
            **more,
        }
        iam = self.account.iam
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trusted))["Role"]
        iam.put_role_policy(
            RoleName=name, PolicyName="p", PolicyDocument=document(may("iam:ListUsers"))
        )
        return role["Arn"]

    def ask(self, token, role=None, **more):
        return self.sts.assume_role_with_web_identity(
            RoleArn=role or self.role, RoleSessionName="one", WebIdentityToken=token, **more
        )

    def assume(self, token, role=None, **more):
        return self.account.assumed(self.ask(token, role, **more)["Credentials"])

    def refused(self, token, code="InvalidIdentityToken", role=None, **more):
        with pytest.raises(ClientError) as raised:
            self.ask(token, role, **more)
        assert raised.value.response["Error"]["Code"] == code, raised.value.response


@pytest.fixture
def web(server, issuer, account):
    """A server that has not yet asked the issuer."""
    front_end = server.front_end
    front_end._verifier._issuers.clear()
    return Federation(server, issuer, account)


def test_a_token_is_a_credential(web, issuer, account):
    answer = web.ask(issuer.token())
    assert answer["SubjectFromWebIdentityToken"] == "s1"
    assert answer["Audience"] == "app"
    assert answer["Provider"] == web.provider
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{account.id}:assumed-role/web/one"
    session = account.assumed(answer["Credentials"])
    assert session.iam.list_users()["Users"] == []
    with pytest.raises(ClientError):
        session.iam.list_roles()


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256"])
def test_algorithms_of_rsa(web, issuer, algorithm):
    assert web.ask(issuer.token(algorithm=algorithm))


def test_algorithms_of_curves(web, issuer):
    assert web.ask(issuer.token(key=issuer.ec_key, algorithm="ES256", headers={"kid": "ec"}))


def test_the_token_must_be_signed_by_the_issuer(web, issuer):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    web.refused(issuer.token(key=other))
    header, claims, signature = issuer.token().split(".")
    _, others, _ = issuer.token(sub="root").split(".")
    web.refused(f"{header}.{others}.{signature}")
    web.refused(f"{header}.{claims}.")


def test_no_algorithm_is_no_signature(web, issuer):
    web.refused(jwt.encode(issuer.claims(), None, "none", {"kid": "rsa"}))


def test_a_public_key_is_no_secret(web, issuer):
    """RFC 8725 §2.1: an RSA key taken for the secret of an HMAC."""
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unsigned = jwt.encode(issuer.claims(), b"x" * 32, "HS256", {"kid": "rsa"}).rpartition(".")[0]
    digest = hmac.digest(public, unsigned.encode(), "sha256")
    web.refused(f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")


def test_a_symmetric_key_of_the_issuer_is_not_used(web, issuer):
    secret = b"s" * 32
    shown = json.loads(jwt.algorithms.HMACAlgorithm.to_jwk(secret)) | {"kid": "oct"}
    issuer.show("/keys", {"keys": [shown]})
    web.refused(jwt.encode(issuer.claims(), secret, "HS256", {"kid": "oct"}))


def test_a_key_is_for_its_algorithm(web, issuer):
    web.refused(issuer.token(headers={"kid": "ec"}))
    curve = ec.generate_private_key(ec.SECP384R1())
    web.refused(issuer.token(key=curve, algorithm="ES384", headers={"kid": "ec"}))


def test_a_key_that_comes_with_the_token_is_nobodys(web, issuer):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = issuer.shown(other, jwt.algorithms.RSAAlgorithm, "mine")
    url = "http://127.0.0.1:9/keys"
    web.refused(issuer.token(key=other, headers={"kid": "mine", "jwk": shown, "jku": url}))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1}, "ExpiredTokenException"),
        ({"exp": None}, "InvalidIdentityToken"),
        ({"iat": None}, "InvalidIdentityToken"),
        ({"sub": None}, "InvalidIdentityToken"),
        ({"iss": None}, "InvalidIdentityToken"),
        ({"iss": "https://other.example.com"}, "InvalidIdentityToken"),
        ({"aud": None}, "InvalidIdentityToken"),
        ({"aud": "other"}, "InvalidIdentityToken"),
        ({"aud": ["other", "another"]}, "InvalidIdentityToken"),
        ({"azp": "other"}, "InvalidIdentityToken"),
        ({"nbf": int(time.time()) + 3600}, "InvalidIdentityToken"),
        ({"sub": ["s1"]}, "InvalidIdentityToken"),
        ({"https://aws.amazon.com/tags": "x"}, "InvalidIdentityToken"),
        (
            {"https://aws.amazon.com/tags": {"principal_tags": {"a": ["b", "c"]}}},
            "InvalidIdentityToken",
        ),
    ],
)
def test_claims_that_do_not_do(web, issuer, claims, code):
    web.refused(issuer.token(**claims), code)


def test_an_audience_among_several(web, issuer):
    assert web.ask(issuer.token(aud=["other", "app"]))["Audience"] == "app"
    assert web.ask(issuer.token(aud="account", azp="app"))["Audience"] == "app"


@pytest.mark.parametrize("token", ["abcd", "a.b.c", "e30.e30.e30", "W10.W10.", "x" * 20_001])
def test_what_is_no_token(web, token):
    web.refused(token)


def test_a_provider_of_another_account_is_not_believed(server, web, issuer):
    other = server.account()
    trusted = {"Effect": "Allow", "Action": ACTION, "Principal": "*"}
    role = other.iam.create_role(RoleName="any", AssumeRolePolicyDocument=document(trusted))
    web.refused(issuer.token(), role=role["Role"]["Arn"])
    assert issuer.asked == []


def test_a_provider_without_clients_is_of_no_use(web, issuer):
    web.account.iam.remove_client_id_from_open_id_connect_provider(
        OpenIDConnectProviderArn=web.provider, ClientID="app"
    )
    web.refused(issuer.token())


def test_the_role_must_trust_the_provider(web, issuer, account):
    trusted = {"Effect": "Allow", "Action": "sts:*", "Principal": {"AWS": account.id}}
    role = account.iam.create_role(RoleName="x", AssumeRolePolicyDocument=document(trusted))["Role"]
    web.refused(issuer.token(), "AccessDenied", role=role["Arn"])
    web.refused(issuer.token(), "AccessDenied", role=web.role + "x")
    only_role = web.make_role("y", "sts:AssumeRole")
    web.refused(issuer.token(), "AccessDenied", role=only_role)


def test_trust_may_ask_for_claims(web, issuer):
    key = f"{issuer.name}:sub"
    role = web.make_role(
        "sub", Condition={"StringEquals": {key: "s1", f"{issuer.name}:aud": "app"}}
    )
    assert web.ask(issuer.token(), role)
    web.refused(issuer.token(sub="s2"), "AccessDenied", role=role)
    groups = {"ForAnyValue:StringEquals": {f"{issuer.name}:groups": "ops"}}
    role = web.make_role("groups", Condition=groups)
    assert web.ask(issuer.token(groups=["dev", "ops"]), role)
    web.refused(issuer.token(groups=["dev"]), "AccessDenied", role=role)
    web.refused(issuer.token(), "AccessDenied", role=role)


def test_claims_cannot_stand_for_what_is_known(web, issuer):
    inside = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    role = web.make_role("inside", Condition=inside)
    web.refused(issuer.token(**{"aws:SourceIp": "203.0.113.9"}), "AccessDenied", role=role)


def test_a_claim_cannot_stand_for_one_of_another_case(web, issuer):
    role = web.make_role("sub", Condition={"StringEquals": {f"{issuer.name}:sub": "s2"}})
    assert web.ask(issuer.token(sub="s2", SUB="s1"), role)
    web.refused(issuer.token(sub="s1", SUB="s2"), "AccessDenied", role=role)


def test_tags_of_a_token(web, issuer, account):
    tags = {"https://aws.amazon.com/tags": {"principal_tags": {"Team": ["red"]}}}
    web.refused(issuer.token(**tags), "AccessDenied")
    wanted = {"StringEquals": {"aws:RequestTag/Team": "red"}}
    role = web.make_role("tagged", ACTION, "sts:TagSession", Condition=wanted)
    web.refused(issuer.token(), "AccessDenied", role=role)
    by_tag = may("iam:ListUsers", Condition={"StringEquals": {"aws:PrincipalTag/Team": "red"}})
    account.iam.put_role_policy(RoleName="tagged", PolicyName="p", PolicyDocument=document(by_tag))
    assert web.assume(issuer.token(**tags), role).iam.list_users()["Users"] == []


def test_a_session_knows_its_provider(web, issuer, account):
    for value, allowed in ((web.provider, True), (web.provider + "x", False)):
        federated = {"StringEquals": {"aws:FederatedProvider": value, f"{issuer.name}:sub": "s1"}}
        account.iam.put_role_policy(
            RoleName="web",
            PolicyName="p",
            PolicyDocument=document(may("iam:ListUsers", Condition=federated)),
        )
        session = web.assume(issuer.token())
        if allowed:
            session.iam.list_users()
        else:
            with pytest.raises(ClientError):
                session.iam.list_users()


def test_a_session_can_be_narrowed_down(web, issuer):
    session = web.assume(issuer.token(), Policy=document(may("iam:ListRoles")))
    for call in (session.iam.list_users, session.iam.list_roles):
        with pytest.raises(ClientError):
            call()


# What is asked of the issuer.


def test_keys_are_kept(web, issuer):
    for _ in range(3):
        web.ask(issuer.token())
    assert len(issuer.asked) == 2


def test_a_stranger_makes_no_work_for_an_issuer(web, issuer):
    for number in range(5):
        web.refused(issuer.token(headers={"kid": f"unknown{number}"}))
    assert len(issuer.asked) == 2


def test_an_issuer_that_does_not_answer(web, issuer):
    issuer.paths.clear()
    web.refused(issuer.token(), "IDPCommunicationError")
    web.refused(issuer.token())
    assert len(issuer.asked) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        {},
        {"issuer": "https://other.example.com", "jwks_uri": "{url}/keys"},
        {"issuer": "{url}"},
        {"issuer": "{url}", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "{url}", "jwks_uri": "http://127.0.0.1:1/keys"},
        {"issuer": "{url}", "jwks_uri": "http://[::1/keys"},
        {"issuer": "{url}", "jwks_uri": "https://169.254.169.254/latest"},
        {"issuer": "{url}", "jwks_uri": "{url}/missing"},
        {"issuer": "{url}", "jwks_uri": "{url}/large"},
    ],
)
def test_an_issuer_that_says_nonsense(web, issuer, metadata):
    text = json.dumps(metadata).replace("{url}", issuer.url)
    issuer.show("/.well-known/openid-configuration", json.loads(text))
    issuer.show("/large", {"keys": ["x" * 300_000]})
    web.refused(issuer.token(), "IDPCommunicationError")


@pytest.mark.parametrize(
    "keys", [None, 1, [1], [{}], [{"kty": "RSA"}], [{"kty": "RSA", "n": "!", "e": "AQAB"}]]
)
def test_keys_that_are_none(web, issuer, keys):
    issuer.show("/keys", {"keys": keys})
    web.refused(issuer.token())
