"""Each route: what it asks of the store, what it answers, and who may not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from objectio_api_admin.frontend import AdminFactory
from objectio_api_admin.routes import ROUTES
from objectio_api_admin.shapes import NAME

from objectio import errors
from objectio.abc.api import ANONYMOUS, ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import NOBODY, call
from objectio.testing.objects import MemoryObjects

ACCOUNT_ROOT = NOBODY._replace(
    arn="arn:aws:iam::123456789012:root", account="123456789012", canonical_id="c"
)

every_route = pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.method} {route.path}"
)


# Who may not. The table is the only way in, so no route can be forgotten here.


@every_route
def test_without_a_signature_a_route_is_closed(server, route, path_of):
    status, body = server.ask(route.method, path_of(route))
    assert status == 403
    assert json.loads(body)["error"]["code"] == "Unauthenticated"


@every_route
def test_with_a_wrong_secret_a_route_is_closed(server, route, path_of):
    access_key, secret_key = server.credentials
    wrong = secret_key[:-1] + ("a" if secret_key[-1] != "a" else "b")
    for keys, code in (
        ((access_key, wrong), "SignatureMismatch"),
        (("SOMEBODYELSE", secret_key), "UnknownAccessKey"),
    ):
        status, body = server.ask(route.method, path_of(route), keys)
        assert status == 403
        assert json.loads(body)["error"]["code"] == code


@every_route
async def test_nobody_but_the_root_gets_to_the_store(admin, ask, route, path_of):
    for identity in (ANONYMOUS, NOBODY, ACCOUNT_ROOT):
        status, said = await ask(route.method, path_of(route)[len("/_admin") :], identity=identity)
        assert status == 403
        assert said["error"]["code"] in ("Unauthenticated", "AccessDenied")
    assert admin.asked == []


@every_route
async def test_a_route_asks_the_gate_for_its_action(front_end, admin, route, path_of, fill):
    asked = []
    answer = await call(
        front_end,
        route.method,
        path_of(route),
        identity=NOBODY,
        allows=lambda action, resource: asked.append((action, resource)) or False,
    )
    assert answer.status == 403
    resource = f"arn:objectio:admin:::{fill(route.resource, escaped=False)}"
    assert asked == [(f"admin:{route.action}", resource)]
    assert admin.asked == []


def test_no_two_routes_are_one_action():
    assert len({route.action for route in ROUTES}) == len(ROUTES)


def test_changes_are_no_gets():
    assert {route.method for route in ROUTES} == {"GET", "POST"}
    reads = ("List", "Get", "Diagnose")
    for route in ROUTES:
        assert (route.method == "GET") == route.action.startswith(reads), route


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.method == "GET" and not route.streams],
    ids=lambda route: route.path,
)
def test_a_real_store_answers_each_question(server, route, path_of):
    status, body = server.ask(route.method, path_of(route), server.credentials)
    assert status == (404 if NAME in route.path else 200)  # there is nothing of a name yet
    assert json.loads(body)


def test_s3_does_not_see_it(server):
    pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
    for path in ("/_admin", "/_admin/", "/_admin/some/key"):
        status, body = server.ask("GET", path, server.credentials)
        assert status == 404
        assert json.loads(body)["error"]["code"] == "NotFound"
    status, body = server.ask("GET", "/_administer", server.credentials)
    assert b"<Error>" in body, "another name is a bucket's"


# What is asked and answered.


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/v1/disks", ("disks",)),
        ("GET", "/v1/disks/2", ("disks",)),
        ("POST", "/v1/disks/3/replace", ("replace", 3)),
        ("POST", "/v1/disks/2/drain", ("drain", 2)),
        ("POST", "/v1/disks/2/undrain", ("undrain", 2)),
        ("POST", "/v1/disks/2/remove", ("remove", 2)),
        ("GET", "/v1/repair", ("repair",)),
        ("GET", "/v1/scrub", ("scrub",)),
        ("POST", "/v1/scrub", ("start_scrub",)),
        ("GET", "/v1/rebalance", ("rebalance",)),
        ("GET", "/v1/journal", ("journal",)),
        ("GET", "/v1/doctor", ("doctor",)),
        ("GET", "/v1/cluster", ("status",)),
        ("GET", "/v1/cluster/map", ("cluster_map",)),
    ],
)
async def test_a_route_asks_the_store_for_one_thing(admin, ask, method, path, asked):
    status, _ = await ask(method, path)
    assert status == 200
    assert admin.asked == [asked]


async def test_answers_are_the_statuses(ask):
    _, said = await ask("GET", "/v1/disks")
    assert [disk["osd"] for disk in said["disks"]] == list(range(6))
    _, said = await ask("GET", "/v1/disks/3")
    assert (said["osd"], said["state"], said["capacity_bytes"]) == (3, "down", None)
    _, said = await ask("GET", "/v1/repair")
    assert said["waiting"] == {"0": 1, "2": 7}
    _, said = await ask("POST", "/v1/scrub")
    assert (said["running"], said["current"]["begun_ms"], said["last"]) == (True, 5, None)
    _, said = await ask("GET", "/v1/doctor")
    assert said["findings"] == [{"severity": "warning", "what": "w", "meaning": "m", "action": "a"}]
    _, said = await ask("GET", "/v1/cluster")
    assert (said["state"], said["reason"], said["nodes"]) == ("waiting", "for disks", [])
    _, said = await ask("GET", "/v1/cluster/map")
    assert (said["epoch"], said["osds"][0]["host"]) == (3, "h")


# Errors.


@pytest.mark.parametrize("path", ["/v1/disks/77", "/v1/disks/77/replace"])
async def test_an_osd_that_is_not_configured(ask, path):
    status, said = await ask("POST" if path.endswith("e") else "GET", path)
    assert (status, said["error"]["code"]) == (404, "NotFound")
    assert "77" in said["error"]["message"]


async def test_what_cannot_be_done_now_is_a_conflict_with_its_sentence(ask):
    assert await ask("POST", "/v1/disks/1/replace") == (
        409,
        {"error": {"code": "InvalidRequest", "message": "OSD 1 is in service"}},
    )


async def test_another_method_is_told_the_right_ones(front_end):
    answer = await call(front_end, "DELETE", "/_admin/v1/scrub")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


async def test_a_query_is_refused(ask):
    status, said = await ask("GET", "/v1/disks?all=1")
    assert (status, said["error"]["code"]) == (400, "MalformedRequest")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"canary",
        b'{"display_name": "x", "secret_key": 5}',
        b'{"display_name": "x", "canary": 1}',
        b'["canary"]',
        b'{"display_name": "canary',
        b"\xff",
    ],
)
async def test_a_body_that_is_no_account(ask, body):
    status, said = await ask("POST", "/v1/accounts", body=body)
    assert (status, said["error"]["code"]) == (400, "MalformedRequest")
    assert b"canary" not in body or body.startswith(b"{") or "canary" not in str(said)


async def test_a_body_is_refused(ask, admin):
    status, _ = await ask("POST", "/v1/scrub", body=b"{}")
    assert status == 413
    assert admin.asked == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.CommitConflict("x"), 503),
        (errors.Unavailable("x"), 503),
        (errors.DeviceFailed("x"), 503),
        (errors.ConfigError("secret"), 500),
        (RuntimeError("secret"), 500),
    ],
)
async def test_failures_of_the_store(ask, admin, error, status):
    admin.fails = error
    found, said = await ask("GET", "/v1/repair")
    assert found == status
    assert "secret" not in said["error"]["message"]


async def test_a_node_that_manages_no_storage_says_so():
    front_end = AdminFactory().build(ApiContext(objects=MemoryObjects(), metrics=NullMetrics()))
    for path in ("disks", "cluster"):
        assert (await call(front_end, "GET", f"/_admin/v1/{path}")).status == 501


def test_the_readme_names_every_route():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    rows = set(re.findall(r"^\| (GET|POST) \| `([^`]+)` \| `admin:(\w+)`", readme, re.MULTILINE))
    assert rows == {(route.method, route.path, route.action) for route in ROUTES}


# Quotas.


async def test_a_quota_is_set_and_ended(ask):
    for what in ("buckets/123456789012", "accounts/000000000000"):
        said = {"bytes_max": 1 << 40, "objects_max": 7}
        status, shown = await ask("POST", f"/v1/{what}/quota", body=json.dumps(said).encode())
        assert status == 200
        assert (shown["bytes_max"], shown["objects_max"], shown["bytes"]) == (1 << 40, 7, None)
        assert await ask("GET", f"/v1/{what}/quota") == (200, shown)
        status, shown = await ask("POST", f"/v1/{what}/quota", body=b"{}")
        assert (status, shown["bytes_max"], shown["objects_max"]) == (200, 0, 0)


@pytest.mark.parametrize("what", ["buckets/lost", "accounts/123456789012"])
async def test_a_quota_of_nothing(ask, what):
    assert (await ask("GET", f"/v1/{what}/quota"))[0] == 404
    assert (await ask("POST", f"/v1/{what}/quota", body=b"{}"))[0] == 404


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"bytes_max": -1}', b'{"bytes": 1}', b'{"objects_max": 1e30}']
)
async def test_a_body_that_is_no_quota(ask, body):
    assert (await ask("POST", "/v1/accounts/000000000000/quota", body=body))[0] == 400


# Accounts, at a real server.


def test_accounts(server):
    def ask(method, path, said=None):
        body = b"" if said is None else json.dumps(said).encode()
        status, answer = server.ask(method, f"/_admin/v1{path}", server.credentials, body)
        return status, json.loads(answer)

    wanted = {"display_name": "Anna", "email": "anna@example.com"}
    status, made = ask("POST", "/accounts", wanted)
    assert status == 200
    assert re.fullmatch("[0-9]{12}", made["id"])
    assert (len(made["access_key"]), len(made["secret_key"])) == (20, 40)
    assert ask("POST", "/accounts", wanted)[0] == 409
    assert ask("POST", "/accounts", wanted | {"email": "", "id": made["id"]})[0] == 409
    status, said = ask("GET", "/accounts")
    assert [each["email"] for each in said["accounts"]] == ["anna@example.com"]
    assert made["secret_key"] not in str(said)
    keys = made["access_key"], made["secret_key"]
    status, body = server.ask("GET", "/_admin/v1/accounts", keys)
    assert (status, json.loads(body)["error"]["code"]) == (403, "AccessDenied")
    assert ask("POST", f"/accounts/{made['id']}/delete")[0] == 200
    assert ask("POST", f"/accounts/{made['id']}/delete")[0] == 404
    status, body = server.ask("GET", "/_admin/v1/accounts", keys)
    assert json.loads(body)["error"]["code"] == "UnknownAccessKey"
    assert ask("GET", "/accounts") == (200, {"accounts": []})
    assert made["secret_key"].encode() not in server.log_path.read_bytes()
    written = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())
    assert made["access_key"].encode() in written
    assert made["secret_key"].encode() not in written
