"""Bearer tokens at a real server: who gets one, what it opens, and when it ends."""

from __future__ import annotations

import contextlib
import http.client
import json

import pytest

USERS = "/v1/accounts/000000000000/users"


def policy(*actions):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.fixture
def tell(server):
    """`tell(method, path, said, keys)`, as the root unless told otherwise → (status, the JSON)."""

    def tell_(method, path, said=None, keys=None):
        body = b"" if said is None else json.dumps(said).encode()
        status, answer = server.ask(method, f"/_admin{path}", keys or server.credentials, body)
        return status, json.loads(answer)

    return tell_


@pytest.fixture
def show(server):
    """`show(token, method, path)`: a request with the token in place of a signature."""

    def show_(token, method="GET", path="/_admin/v1/disks", scheme="Bearer", more=()):
        host, port = server.address
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
            connection.putrequest(method, path)
            connection.putheader("Authorization", f"{scheme} {token}")
            for name, value in more:
                connection.putheader(name, value)
            if method == "POST":
                connection.putheader("Content-Length", "0")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read()

    return show_


@pytest.fixture
def ann(tell):
    """A user with a key; `ann(*actions)` says what it may do."""
    assert tell("POST", USERS, {"name": "ann"})[0] == 200
    made = tell("POST", f"{USERS}/ann/keys", {})[1]

    def allow(*actions):
        path = f"{USERS}/ann/inline-policies/own"
        assert tell("POST", path, {"document": policy(*actions)})[0] == 200

    allow.keys = made["access_key"], made["secret_key"]
    allow.path = f"{USERS}/ann/keys/{made['access_key']}"
    yield allow
    tell("POST", f"{USERS}/ann/inline-policies/own/delete")
    tell("POST", f"{allow.path}/delete")
    assert tell("POST", f"{USERS}/ann/delete")[0] == 200


def test_a_token_opens_what_its_key_does(tell, show, server):
    status, made = tell("POST", "/v1/tokens", {"seconds": 60})
    assert status == 200
    assert made["access_key"] == server.credentials[0]
    status, body = show(made["token"])
    assert status == 200
    assert len(json.loads(body)["disks"]) == 6
    assert show(made["token"], "POST", "/_admin/v1/scrub")[0] == 200
    assert show(made["token"], scheme="bearer")[0] == 200, "RFC 9110 §11.1: in any case"


def test_how_long(tell):
    now = [tell("POST", "/v1/tokens", {"seconds": seconds})[1] for seconds in (60, 3600)]
    assert now[1]["expires_ms"] - now[0]["expires_ms"] == pytest.approx(3_540_000, abs=5_000)
    default = tell("POST", "/v1/tokens", {})[1]
    assert default["expires_ms"] - now[0]["expires_ms"] == pytest.approx(840_000, abs=5_000)
    for wrong in (0, 59, 3601, -1, 1 << 70, "60", None, 60.5):
        status, said = tell("POST", "/v1/tokens", {"seconds": wrong})
        assert (status, said["error"]["code"]) == (400, "MalformedRequest"), wrong


def test_a_token_is_good_for_this_api_only_and_makes_no_other(tell, show):
    token = tell("POST", "/v1/tokens", {})[1]["token"]
    assert show(token, "POST", "/_admin/v1/tokens")[0] in (400, 403)
    for path in ("/", "/bucket", "/bucket/key", "/metrics", "/health"):
        assert show(token, path=path)[0] in (400, 403, 404), path
    assert show(token, path=f"/_admin/v1/disks?token={token}")[0] == 400


@pytest.mark.parametrize("change", ["cut", "longer", "flipped", "other", "empty"])
def test_what_is_no_token(tell, show, change):
    token = tell("POST", "/v1/tokens", {})[1]["token"]
    middle = len(token) // 2
    flipped = "A" if token[middle] != "A" else "B"
    wrong = {
        "cut": token[:-4],
        "longer": token + "AAAA",
        "flipped": token[:middle] + flipped + token[middle + 1 :],
        "other": "x" * 200,
        "empty": "",
    }[change]
    status, body = show(wrong)
    assert status in (400, 403)
    assert "error" in json.loads(body)
    assert token.encode() not in body


def test_without_rights_there_is_no_token(tell, server, ann):
    assert server.ask("POST", "/_admin/v1/tokens", sent=b"{}")[0] == 403
    wrong = server.credentials[0], "x" * 40
    assert tell("POST", "/v1/tokens", {}, wrong)[0] == 403
    assert tell("POST", "/v1/tokens", {}, ann.keys)[0] == 403
    ann("admin:ListDisks", "s3:*", "iam:*", "sts:*")
    assert tell("POST", "/v1/tokens", {}, ann.keys)[0] == 403


def test_a_token_may_what_the_user_may_then(tell, show, ann):
    ann("admin:CreateToken", "admin:ListDisks")
    status, made = tell("POST", "/v1/tokens", {}, ann.keys)
    assert (status, made["access_key"]) == (200, ann.keys[0])
    token = made["token"]
    assert show(token)[0] == 200
    assert show(token, path="/_admin/v1/cluster")[0] == 403
    assert show(token, "POST", "/_admin/v1/scrub")[0] == 403
    ann("admin:CreateToken", "admin:GetCluster")
    assert show(token)[0] == 403, "what it could when it was made does not matter"
    assert show(token, path="/_admin/v1/cluster")[0] == 200


def test_a_token_ends_with_its_key(tell, show, ann):
    ann("admin:*")
    token = tell("POST", "/v1/tokens", {}, ann.keys)[1]["token"]
    assert show(token)[0] == 200
    assert tell("POST", f"{ann.path}/disable")[0] == 200
    assert show(token)[0] == 403
    assert tell("POST", f"{ann.path}/enable")[0] == 200
    assert show(token)[0] == 200
    assert tell("POST", f"{ann.path}/delete")[0] == 200
    assert show(token)[0] == 403


def test_a_token_of_a_narrowed_key_is_as_narrow(tell, show, ann):
    ann("admin:*")
    narrow = {"policy": policy("admin:CreateToken", "admin:ListDisks")}
    status, key = tell("POST", f"{USERS}/ann/keys", narrow)
    assert status == 200
    try:
        keys = key["access_key"], key["secret_key"]
        token = tell("POST", "/v1/tokens", {}, keys)[1]["token"]
        assert show(token)[0] == 200
        assert show(token, path="/_admin/v1/cluster")[0] == 403
    finally:
        assert tell("POST", f"{USERS}/ann/keys/{key['access_key']}/delete")[0] == 200


def test_a_token_of_a_session(tell, show, server, ann):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("objectio_api_iam", reason="objectio_api_iam is not installed")
    ann("admin:*", "sts:*")
    where = server.s3_settings() | {
        "aws_access_key_id": ann.keys[0],
        "aws_secret_access_key": ann.keys[1],
    }
    with contextlib.closing(boto3.client("sts", **where)) as sts:
        made = sts.get_session_token(DurationSeconds=900)["Credentials"]
    status, body = server.ask(
        "POST",
        "/_admin/v1/tokens",
        (made["AccessKeyId"], made["SecretAccessKey"]),
        b'{"seconds": 3600}',
        session_token=made["SessionToken"],
    )
    assert status == 200, body
    said = json.loads(body)
    ends_ms = made["Expiration"].timestamp() * 1000  # in whole seconds
    assert said["expires_ms"] < ends_ms + 1000, "no longer than the session"
    assert show(said["token"])[0] == 200
    ann("s3:*")
    assert show(said["token"])[0] == 403


def test_events_by_a_token(tell, server):
    token = tell("POST", "/v1/tokens", {})[1]["token"]
    host, port = server.address
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
        connection.request("GET", "/_admin/v1/events", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        lines = [answer.readline() for _ in range(4)]
        assert b"event: state\n" in lines


def test_tokens_are_written_nowhere(tell, show, server):
    token = tell("POST", "/v1/tokens", {})[1]["token"]
    assert show(token)[0] == 200
    assert show(token, path="/bucket")[0] in (400, 403)
    for path in (server.log_path, *server.data_dir.rglob("*")):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
