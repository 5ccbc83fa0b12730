"""Roles and inline policies over HTTP, at a real server: also what a role then may over STS and S3."""

from __future__ import annotations

import contextlib
import json

import pytest

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": "*"}],
}
ROLES = "/v1/accounts/000000000000/roles"


@pytest.fixture
def tell(server):
    """`tell(method, path, said)` as the root → (status, what the JSON says)."""

    def tell_(method, path, said=None):
        body = b"" if said is None else json.dumps(said).encode()
        status, answer = server.ask(method, f"/_admin{path}", server.credentials, body)
        return status, json.loads(answer)

    return tell_


@pytest.fixture
def role(tell):
    """A role `worker`, gone after the test."""
    status, made = tell("POST", ROLES, {"name": "worker", "trust_policy": TRUST, "path": "/a/"})
    assert status == 200
    yield made
    _, shown = tell("GET", f"{ROLES}/worker")
    for arn in shown.get("policies", ()):
        tell("POST", f"{ROLES}/worker/policies/{arn.rpartition('/')[2]}/detach")
    for name in shown.get("inline_policies", ()):
        tell("POST", f"{ROLES}/worker/inline-policies/{name}/delete")
    tell("POST", f"{ROLES}/worker/delete")


def test_a_role_is_made_shown_changed_and_deleted(tell, role):
    assert role["arn"] == "arn:aws:iam::000000000000:role/a/worker"
    assert (role["trust_policy"], role["session_seconds_max"]) == (TRUST, 3600)
    assert (role["policies"], role["inline_policies"], role["tags"]) == ([], [], {})
    assert tell("GET", f"{ROLES}/worker") == (200, role)
    assert tell("GET", f"{ROLES}/WORKER")[1]["name"] == "worker"
    (listed,) = tell("GET", ROLES)[1]["roles"]
    assert listed == {key: role[key] for key in listed}
    status, said = tell("POST", ROLES, {"name": "Worker", "trust_policy": TRUST})
    assert (status, said["error"]["code"]) == (409, "AlreadyExists")

    only_root = json.loads(json.dumps(TRUST).replace('"*"', '"arn:aws:iam::000000000000:root"'))
    changed = {"trust_policy": only_root, "description": "works", "session_seconds_max": 7200}
    status, said = tell("POST", f"{ROLES}/worker/update", changed)
    assert status == 200
    assert {key: said[key] for key in changed} == changed
    status, said = tell("POST", f"{ROLES}/worker/update", {"description": ""})
    assert (said["description"], said["trust_policy"]) == ("", only_root), "the rest stays"
    status, said = tell("POST", f"{ROLES}/worker/update", {"trust_policy": json.dumps(TRUST)})
    assert said["trust_policy"] == TRUST, "a text that has a document is one too"

    status, said = tell("POST", f"{ROLES}/worker/delete")
    assert (status, said["name"]) == (200, "worker")
    assert "trust_policy" not in said
    for path in ("", "/delete", "/update"):
        method = "POST" if path else "GET"
        body = {} if path == "/update" else None
        assert tell(method, f"{ROLES}/worker{path}", body)[0] == 404
    assert tell("GET", ROLES)[1] == {"roles": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "trust_policy": {"Statement": []}, "canary": 1},
        {"name": "x", "trust_policy": {}},
        {"name": "x", "trust_policy": "canary"},
        {"name": "x", "trust_policy": READS},
        {"name": "x y", "trust_policy": TRUST},
        {"name": "x", "trust_policy": TRUST, "path": "a"},
        {"name": "x", "trust_policy": TRUST, "session_seconds_max": 60},
        {"name": "x", "trust_policy": TRUST, "session_seconds_max": 1 << 40},
        {"name": "x", "trust_policy": TRUST, "tags": {"": "a"}},
    ],
)
def test_a_body_that_is_no_role(tell, body):
    assert tell("POST", ROLES, body)[0] == 400
    assert tell("GET", ROLES)[1] == {"roles": []}


def test_a_role_with_policies_is_not_deleted(tell, role):
    status, said = tell("POST", f"{ROLES}/worker/policies/readonly/attach")
    assert (status, said["policies"]) == (200, ["arn:aws:iam::aws:policy/readonly"])
    assert said["role"] == "worker"
    assert tell("POST", f"{ROLES}/worker/inline-policies/own", {"document": READS})[0] == 200
    status, said = tell("POST", f"{ROLES}/worker/delete")
    assert (status, said["error"]["code"]) == (409, "NotEmpty")
    assert "policy readonly, inline policy own" in said["error"]["message"]
    status, said = tell("POST", f"{ROLES}/worker/policies/readonly/detach")
    assert (status, said["policies"]) == (200, [])
    assert tell("POST", f"{ROLES}/worker/policies/readonly/detach")[0] == 404
    assert tell("POST", f"{ROLES}/worker/policies/lost/attach")[0] == 404
    assert tell("POST", f"{ROLES}/worker/inline-policies/own/delete")[0] == 200
    assert tell("POST", f"{ROLES}/worker/delete")[0] == 200


@pytest.mark.parametrize("kind", ["user", "group", "role"])
def test_inline_policies(tell, kind):
    holders = f"/v1/accounts/000000000000/{kind}s"
    made = {"name": "holder"} | ({"trust_policy": TRUST} if kind == "role" else {})
    assert tell("POST", holders, made)[0] == 200
    path = f"{holders}/holder/inline-policies"
    try:
        empty = {"account": "000000000000", "kind": kind, "holder": "holder", "inline_policies": []}
        assert tell("GET", path) == (200, empty)
        status, said = tell("POST", f"{path}/own", {"document": READS})
        assert (status, said["name"], said["document"]) == (200, "own", READS)
        assert tell("GET", f"{path}/own") == (200, said)
        other = json.loads(json.dumps(READS).replace("Allow", "Deny"))
        assert tell("POST", f"{path}/own", {"document": json.dumps(other)})[1]["document"] == other
        assert tell("GET", path)[1]["inline_policies"] == ["own"]
        assert tell("GET", f"{holders}/holder")[1]["inline_policies"] == ["own"]
        for body in ({}, {"document": {}}, {"document": "canary"}, {"document": TRUST}, {"x": 1}):
            assert tell("POST", f"{path}/bad", body)[0] == 400, body
        status, said = tell("POST", f"{path}/own/delete")
        assert status == 200
        assert said == {"account": "000000000000", "kind": kind, "holder": "holder", "name": "own"}
        for method, end in (("GET", "own"), ("POST", "own/delete")):
            assert tell(method, f"{path}/{end}")[0] == 404
        assert tell("GET", path) == (200, empty)
    finally:
        tell("POST", f"{path}/own/delete")
        assert tell("POST", f"{holders}/holder/delete")[0] == 200
    assert tell("GET", path)[0] == 404
    assert tell("POST", f"{path}/own", {"document": READS})[0] == 404


def test_what_a_role_has_is_what_its_sessions_may(tell, role, server):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("objectio_api_iam", reason="objectio_api_iam is not installed")
    pytest.importorskip("objectio_api_s3", reason="objectio_api_s3 is not installed")
    users = "/v1/accounts/000000000000/users"
    assert tell("POST", users, {"name": "ann"})[0] == 200
    key = tell("POST", f"{users}/ann/keys", {})[1]
    try:
        trusted = json.loads(
            json.dumps(TRUST).replace('"*"', '"arn:aws:iam::000000000000:user/ann"')
        )
        assert tell("POST", f"{ROLES}/worker/update", {"trust_policy": trusted})[0] == 200
        where = server.s3_settings() | {
            "aws_access_key_id": key["access_key"],
            "aws_secret_access_key": key["secret_key"],
        }
        with contextlib.closing(boto3.client("sts", **where)) as sts:
            taken = sts.assume_role(RoleArn=role["arn"], RoleSessionName="session")["Credentials"]
        as_role = server.s3_settings() | {
            "aws_access_key_id": taken["AccessKeyId"],
            "aws_secret_access_key": taken["SecretAccessKey"],
            "aws_session_token": taken["SessionToken"],
        }
        with contextlib.closing(boto3.client("s3", **as_role)) as s3:
            with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
                s3.list_buckets()
            tell("POST", f"{ROLES}/worker/inline-policies/own", {"document": READS})
            assert s3.list_buckets()["Buckets"] == []
    finally:
        tell("POST", f"{users}/ann/keys/{key['access_key']}/delete")
        assert tell("POST", f"{users}/ann/delete")[0] == 200
