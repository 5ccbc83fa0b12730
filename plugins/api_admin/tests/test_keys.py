"""Keys of service accounts: what they are narrowed down to, and until when, is shown and holds."""

from __future__ import annotations

import json
import time

import pytest
from objectio_api_admin.routes import ROUTES
from objectio_api_admin.shapes import PARAMETERS

USERS = "/v1/accounts/000000000000/users"
READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::*"}],
}


@pytest.fixture
async def make(ask):
    """`await make(**said)`: the status and the answer of making a key of the user ann."""
    assert (await ask("POST", USERS, body=b'{"name": "ann"}'))[0] == 200

    async def make_(**said):
        return await ask("POST", f"{USERS}/ann/keys", body=json.dumps(said).encode())

    return make_


def in_an_hour_ms():
    return int(time.time() * 1000) + 3_600_000


@pytest.mark.parametrize("as_text", [False, True])
async def test_what_a_key_is_narrowed_down_to_is_shown(ask, make, as_text):
    policy = json.dumps(READS) if as_text else READS
    end = in_an_hour_ms()
    status, made = await make(policy=policy, description="backups", expires_ms=end)
    assert status == 200
    shown = {name: value for name, value in made.items() if name != "secret_key"}
    assert (shown["policy"], shown["description"], shown["expires_ms"]) == (READS, "backups", end)
    assert await ask("GET", f"{USERS}/ann/keys") == (200, {"keys": [shown]})
    assert (await ask("GET", f"{USERS}/ann"))[1]["keys"] == [shown]
    key = made["access_key"]
    off = {**shown, "active": False}
    assert await ask("POST", f"{USERS}/ann/keys/{key}/disable") == (200, off)
    assert await ask("POST", f"{USERS}/ann/keys/{key}/enable") == (200, shown)


@pytest.mark.parametrize("said", [{}, {"policy": None}, {"description": "", "expires_ms": 0}])
async def test_a_key_that_is_not_narrowed_down(make, said):
    status, made = await make(**said)
    assert status == 200
    assert (made["policy"], made["description"], made["expires_ms"]) == (None, "", 0)


@pytest.mark.parametrize(
    "said",
    [
        {"policy": {}},
        {"policy": "canary"},
        {"policy": ""},
        {"policy": " "},
        {"policy": 5},
        {"policy": [READS]},
        {"policy": {**READS, "canary": 1}},
        {"expires_ms": 1},
        {"expires_ms": -1},
        {"expires_ms": 1 << 53},
        {"expires_ms": "soon"},
        {"description": "x" * 257},
        {"description": "\n"},
        {"access_key": "ASIA1234"},
        {"secret_key": "short"},
    ],
)
async def test_what_is_no_key(ask, make, said):
    assert (await make(**said))[0] == 400
    assert await ask("GET", f"{USERS}/ann/keys") == (200, {"keys": []})


def test_a_key_of_a_service_account_may_no_more_than_its_policy_says(server):
    def order(path, said=None):
        sent = b"" if said is None else json.dumps(said).encode()
        status, body = server.ask("POST", f"/_admin{path}", server.credentials, sent)
        assert status == 200, body
        return json.loads(body)

    order("/v1/buckets", {"name": "narrowed"})
    order(USERS, {"name": "wide"})
    order(f"{USERS}/wide/policies/admin/attach")
    wide = order(f"{USERS}/wide/keys", {})
    narrow = order(f"{USERS}/wide/keys", {"policy": READS})
    found = {}
    for name, made in (("wide", wide), ("narrow", narrow)):
        keys = made["access_key"], made["secret_key"]
        found[name] = [
            server.ask("GET", path, keys)[0] for path in ("/narrowed", "/_admin/v1/disks")
        ]
    assert found == {"wide": [200, 200], "narrow": [200, 403]}


def test_no_path_is_of_two_routes():
    templates = {tuple(route.path.split("/")) for route in ROUTES}
    for one in templates:
        for other in templates - {one}:
            same = len(one) == len(other) and all(
                a == b or a in PARAMETERS or b in PARAMETERS
                for a, b in zip(one, other, strict=True)
            )
            assert not same, (one, other)
