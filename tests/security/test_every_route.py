"""Default deny, of all there is: every row of the tables of all front ends, and what is answered before them.

The tables are the only way in, so a route that is added is tried here without anybody thinking of it.
"""

from __future__ import annotations

import json

import pytest

from objectio.gateway.health import PATHS as HEALTH

VALUES = {"uploadId": "x", "partNumber": "1", "versionId": "null", "id": "x", "restore": ""}
# Where what is asked for stands in the body, that is read before anybody can say who may.
BODIES = {
    "delete": b"<Delete><Object><Key>key</Key></Object></Delete>",
    "tagging": b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    "retention": b"<Retention><Mode>GOVERNANCE</Mode>"
    b"<RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>",
    "legal-hold": b"<LegalHold><Status>ON</Status></LegalHold>",
}
OTHERS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["admin:*", "iam:*", "sns:*"], "Resource": "*"}
        ],
    }
)


def s3_routes():
    router = pytest.importorskip("objectio_api_s3.router", reason="api_s3 is not installed")
    routes = pytest.importorskip("objectio_api_s3.routes")
    paths = {routes.SERVICE: "/", routes.BUCKET: "/annas", routes.OBJECT: "/annas/key"}
    for method, level, subresources in sorted(router.IMPLEMENTED, key=str):
        if (method, level, subresources) == ("POST", routes.BUCKET, frozenset()):
            continue  # form uploads: test_forms.py
        query = "&".join(
            f"{name}={VALUES[name]}" if VALUES.get(name) else name for name in sorted(subresources)
        )
        body = next((BODIES[name] for name in subresources if name in BODIES), b"")
        target = paths[level] + (f"?{query}" if query else "")
        yield method, target, body if method in ("PUT", "POST") else b""


async def test_every_route_of_s3(world):
    """Nobody, another account's root, a user without policies, one with policies about all but S3."""
    other = await world.make_user(world.annas_account, "other", OTHERS)
    before, seen = world.objects.snapshot(), 0
    for method, target, body in s3_routes():
        for by in (None, world.bert, world.user, other):
            answer = await world(method, target, by, body=body)
            seen += 1
            what = method, target, by and by.access_key, answer.status, answer.body
            assert b"the data of anna" not in answer.body, what
            if target == "/annas?delete":  # each key has its own fate
                assert b"AccessDenied" in answer.body, what
                assert b"<Deleted>" not in answer.body, what
            elif (method, target) == ("GET", "/") and by in (None, world.bert):
                assert (answer.status, b"annas" in answer.body) == (200, False), what
            elif (method, target, by) == ("PUT", "/annas", world.bert):  # who may make buckets
                assert answer.code == "BucketAlreadyExists", what
            else:
                assert answer.status == 403, what
            assert world.objects.snapshot() == before, what
    assert seen > 4 * 80


async def test_every_route_of_the_operators(world):
    routes = pytest.importorskip("objectio_api_admin.routes", reason="api_admin is not installed")
    shapes = pytest.importorskip("objectio_api_admin.shapes")
    everything = json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    root = "000000000000"
    callers = [None, world.anna, world.bert, world.user]
    callers.append(await world.make_user(world.annas_account, "all", everything))
    for number, actions in enumerate((["s3:*", "iam:Get*"], ["administrator:*", "admin:NoSuch*"])):
        document = {"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        callers.append(await world.make_user(root, f"op{number}", json.dumps(document)))
    before = world.objects.snapshot(), await world.memory.kv.ascan_prefix(b"I")
    words = {**dict.fromkeys(shapes.PARAMETERS, "it"), shapes.OSD: "1", shapes.NAME: root}
    assert any(route.streams for route in routes.ROUTES)
    assert {"GetOpenApi", "GetConfig", "GetEvents"} <= {route.action for route in routes.ROUTES}
    for route in routes.ROUTES:
        path = "/".join(words.get(word, word) for word in route.path.split("/"))
        for by in callers:
            body = {} if route.body is not None else None
            answer = await world.admin(route.method, path, by, body)
            code = answer.said["error"]["code"]
            assert answer.status == 403, (route, by, answer.body)
            assert code == ("Unauthenticated" if by is None else "AccessDenied"), (route, by)
    assert (world.objects.snapshot(), await world.memory.kv.ascan_prefix(b"I")) == before


async def test_what_is_said_to_who_asks_how_it_is(world):
    """It is as much as whether it works; with credentials or a query it is a bucket's name, to S3."""
    for path in (*sorted(HEALTH), b"/metrics"):
        answer = await world.send("GET", path, b"", [(b"host", b"localhost:9000")])
        if path == b"/metrics":
            assert answer.status == 404  # nothing exports any here: it is a bucket's name
        else:
            assert set(json.loads(answer.body)) == {"status"}, answer.body
        for method, query, headers in (
            ("GET", b"list-type=2", []),
            ("PUT", b"", [(b"content-length", b"0")]),
            ("GET", b"", [(b"authorization", b"Bearer x")]),
        ):
            answer = await world.send(method, path, query, [(b"host", b"h"), *headers])
            assert answer.status in (400, 403, 404), (path, method, query)
            assert b"status" not in answer.body
        for by in (world.anna, world.user):
            assert (await world("GET", path.decode(), by)).status in (403, 404)
