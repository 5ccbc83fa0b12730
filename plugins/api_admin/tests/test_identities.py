"""Users, keys, groups, policies and buckets: what is made can be seen, used, and taken away."""

from __future__ import annotations

import json

import pytest
from objectio_api_admin import buckets

from objectio.abc.objects import ObjectAttributes
from objectio.testing.objects import BytesPayload

ROOT = "/v1/accounts/000000000000"
READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}],
}
BUILT_IN = ("readonly", "readwrite", "admin", "diagnostics")


@pytest.fixture
def order(ask):
    """`await order(path, **body)`: what a POST answers, which must be 200 unless `status` says
    otherwise."""

    async def order_(path, body=None, status=200):
        sent = b"" if body is None else json.dumps(body).encode()
        found, said = await ask("POST", f"{ROOT}{path}", body=sent)
        assert found == status, said
        return said

    return order_


@pytest.fixture
def look(ask):
    async def look_(path, status=200):
        found, said = await ask("GET", f"{ROOT}{path}")
        assert found == status, said
        return said

    return look_


# Users and keys.


async def test_a_user(order, look):
    made = await order("/users", {"name": "ann@home", "path": "/staff/"})
    assert made["arn"] == "arn:aws:iam::000000000000:user/staff/ann@home"
    await order("/users", {"name": "ANN@home"}, 409)
    assert (await look("/users"))["users"] == [made]
    for spelt in ("ann%40home", "ann@home", "ANN%40HOME"):
        shown = await look(f"/users/{spelt}")
        assert {key: shown[key] for key in made} == made
        assert (shown["groups"], shown["policies"], shown["keys"]) == ([], [], [])
    changed = await order("/users/ann@home/update", {"name": "ann"})
    assert (changed["name"], changed["path"], changed["id"]) == ("ann", "/staff/", made["id"])
    assert await order("/users/ann/delete") == changed
    assert (await look("/users"))["users"] == []
    assert "ann" in (await look("/users/ann", 404))["error"]["message"]


@pytest.mark.parametrize("body", [{"name": "a b"}, {"name": ""}, {"name": "a", "path": "x"}, {}])
async def test_what_is_no_user(order, look, body):
    await order("/users", body, 400)
    assert (await look("/users"))["users"] == []


async def test_what_is_of_no_account(ask):
    for path in ("users", "groups", "policies"):
        status, said = await ask("GET", f"/v1/accounts/123456789012/{path}")
        assert (status, said["error"]["message"]) == (404, "there is no account 123456789012")
    body = json.dumps({"name": "ann"}).encode()
    assert (await ask("POST", "/v1/accounts/123456789012/users", body=body))[0] == 404


async def test_keys(order, look, identities):
    await order("/users", {"name": "ann"})
    made = await order("/users/ann/keys", {})
    assert (made["active"], made["user"], len(made["secret_key"])) == (True, "ann", 40)
    key = made["access_key"]
    given = {"access_key": "OF-ANNS-OWN", "secret_key": "a-secret-of-her-own"}
    assert (await order("/users/ann/keys", given))["secret_key"] == given["secret_key"]
    await order("/users/ann/keys", {}, 409)  # two at most
    shown = await look("/users/ann/keys")
    assert [each["access_key"] for each in shown["keys"]] == [key, "OF-ANNS-OWN"]
    for secret in (made["secret_key"], given["secret_key"]):
        assert secret not in str(shown) + str(await look("/users/ann"))
    assert identities.directory.lookup(key).secret_key == made["secret_key"]
    assert (await order(f"/users/ann/keys/{key}/disable"))["active"] is False
    assert identities.directory.lookup(key) is None
    assert (await order(f"/users/ann/keys/{key}/enable"))["active"] is True
    assert identities.directory.lookup(key) is not None
    refused = await order("/users/ann/delete", status=409)
    assert key in refused["error"]["message"]
    await order(f"/users/ann/keys/{key}/delete")
    await order(f"/users/ann/keys/{key}/delete", status=404)
    await order("/users/ann/keys/OF-ANNS-OWN/delete")
    assert identities.directory.lookup(key) is None
    await order("/users/ann/delete")


async def test_a_key_of_somebody_else(order):
    for name in ("ann", "bob"):
        await order("/users", {"name": name})
    key = (await order("/users/ann/keys", {}))["access_key"]
    for verb in ("enable", "disable", "delete"):
        await order(f"/users/bob/keys/{key}/{verb}", status=404)


# Groups.


async def test_groups(order, look):
    await order("/users", {"name": "ann"})
    made = await order("/groups", {"name": "readers"})
    assert made["arn"] == "arn:aws:iam::000000000000:group/readers"
    assert (await order("/groups/readers/users/ann/add"))["users"] == ["ann"]
    assert (await order("/groups/readers/users/ann/add"))["users"] == ["ann"]
    assert (await look("/users/ann/groups"))["groups"] == [made]
    assert (await look("/users/ann"))["groups"] == ["readers"]
    assert "user ann" in (await order("/groups/readers/delete", status=409))["error"]["message"]
    assert "readers" in (await order("/users/ann/delete", status=409))["error"]["message"]
    await order("/groups/readers/users/bob/add", status=404)
    await order("/groups/writers/users/ann/add", status=404)
    changed = await order("/groups/readers/update", {"name": "seers", "path": "/staff/"})
    assert changed["arn"] == "arn:aws:iam::000000000000:group/staff/seers"
    assert (await look("/users/ann"))["groups"] == ["seers"]
    await order("/groups/readers/update", {"name": "x"}, 404)
    await order("/groups/seers/update", {"name": "a b"}, 400)
    assert (await order("/groups/seers/update", {"name": "readers"}))["id"] == made["id"]
    said = await order("/groups/readers/policies/readonly/detach", status=404)
    assert said["error"]["message"] == "policy readonly is not attached to group readers"
    assert (await order("/groups/readers/users/ann/remove"))["users"] == []
    await order("/groups/readers/delete")
    assert (await look("/groups"))["groups"] == []


# Policies.


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_policy(order, look, as_text):
    document = json.dumps(READS) if as_text else READS
    made = await order("/policies", {"name": "reads", "document": document, "description": "d"})
    assert (made["document"], made["built_in"]) == (READS, False)
    found = (await look("/policies"))["policies"]
    assert found[0]["name"] == "reads"
    assert [each["name"] for each in found if each["built_in"]][-4:] == [*BUILT_IN]
    for named in ("reads", "READS", made["arn"].replace(":", "%3A").replace("/", "%2F")):
        assert await look(f"/policies/{named}") == made
    await order("/policies", {"name": "reads", "document": READS}, 409)
    await order("/users", {"name": "ann"})
    await order("/groups", {"name": "readers"})
    for holder in ("/users/ann", "/groups/readers"):
        said = await order(f"{holder}/policies/reads/attach")
        assert said["policies"] == [made["arn"]]
        assert (await look(holder))["policies"] == [made["arn"]]
        await order("/policies/reads/delete", status=409)
        assert "reads" in (await order(f"{holder}/delete", status=409))["error"]["message"]
        assert (await order(f"{holder}/policies/reads/detach"))["policies"] == []
        await order(f"{holder}/policies/reads/detach", status=404)
    await order("/policies/reads/delete")
    await look("/policies/reads", 404)


@pytest.mark.parametrize("name", BUILT_IN)
async def test_policies_from_the_beginning(order, look, name):
    shown = await look(f"/policies/{name}")
    assert shown["arn"] == f"arn:aws:iam::aws:policy/{name}"
    assert shown["document"]["Statement"][0]["Effect"] == "Allow"
    assert "stays" in (await order(f"/policies/{name}/delete", status=409))["error"]["message"]
    await order("/policies", {"name": name.upper(), "document": READS}, 409)
    await order("/users", {"name": "ann"})
    assert (await order(f"/users/ann/policies/{name}/attach"))["policies"] == [shown["arn"]]


@pytest.mark.parametrize(
    "document", [{}, "canary", "", 5, {**READS, "canary": 1}, [READS], '{"Version"']
)
async def test_what_is_no_policy(order, look, document):
    await order("/policies", {"name": "own", "document": document}, 400)
    await look("/policies/own", 404)


# Simulation.


async def simulated(order, **said):
    found = await order("/simulate", said)
    return [(each["action"], each["allowed"], each["policies"]) for each in found["results"]]


async def test_what_a_user_may(order):
    await order("/users", {"name": "ann"})
    await order("/groups", {"name": "readers"})
    await order("/groups/readers/users/ann/add")
    asked = {
        "user": "ann",
        "actions": ["s3:GetObject", "s3:PutObject"],
        "resources": ["arn:aws:s3:::b/k"],
    }
    nothing = [("s3:GetObject", False, []), ("s3:PutObject", False, [])]
    assert await simulated(order, **asked) == nothing
    await order("/groups/readers/policies/readonly/attach")
    by_group = ["readonly of group readers"]
    assert await simulated(order, **asked) == [
        ("s3:GetObject", True, by_group),
        ("s3:PutObject", False, []),
    ]
    denies = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    denies["Condition"] = {"StringEquals": {"aws:username": "ann"}}
    deny = {"Version": "2012-10-17", "Statement": [denies]}
    assert await simulated(order, **asked, documents=[deny]) == [
        ("s3:GetObject", False, ["document 1"]),
        ("s3:PutObject", False, ["document 1"]),
    ]
    denies["Condition"] = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    assert (await simulated(order, **asked, documents=[deny]))[0][1] is True
    context = {"aws:SOURCEIP": ["10.1.2.3"]}
    assert (await simulated(order, **asked, documents=[deny], context=context))[0][1] is False
    of_bucket = {"Version": "2012-10-17", "Statement": [{**READS["Statement"][0]}]}
    of_bucket["Statement"][0] |= {"Action": "s3:PutObject", "Principal": "*"}
    allowed = await simulated(order, **asked, resource_policy=of_bucket)
    assert allowed[1] == ("s3:PutObject", True, ["the resource's policy"])


async def test_what_a_key_may(order):
    for name in ("ann", "bob"):
        await order("/users", {"name": name})
    await order("/users/ann/policies/readwrite/attach")
    plain = await order("/users/ann/keys", {})
    narrow = await order("/users/ann/keys", {"policy": READS})
    asked = {"actions": ["s3:GetObject", "s3:PutObject"], "resources": ["arn:aws:s3:::b/k"]}
    of_user = "readwrite of user ann"
    for said in ({"key": plain["access_key"]}, {"user": "ann"}):
        found = await simulated(order, **asked, **said)
        assert [each[1:] for each in found] == [(True, [of_user])] * 2
    for said in ({}, {"user": "Ann"}):
        found = await simulated(order, **asked, key=narrow["access_key"], **said)
        assert found == [
            ("s3:GetObject", True, [of_user, "the key's policy"]),
            ("s3:PutObject", False, []),
        ]
    denies = {"Effect": "Deny", "Action": "s3:Put*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [*READS["Statement"], denies]}
    denied = await order("/users/ann/keys", {"policy": policy})
    found = await simulated(order, **asked, key=denied["access_key"])
    assert found[1] == ("s3:PutObject", False, ["the key's policy"])
    # What allows it to the user alone does not to the key.
    of_bucket = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/k"}
    of_bucket = {"Statement": [of_bucket | {"Principal": "*"}]}
    said = asked | {"key": narrow["access_key"], "resource_policy": of_bucket}
    assert [each[1] for each in await simulated(order, **said)] == [True, False]
    await order("/simulate", asked | {"key": narrow["access_key"], "user": "bob"}, 404)
    await order("/simulate", asked | {"key": "AKIANOBODY"}, 404)
    await order(f"/users/ann/keys/{narrow['access_key']}/disable")
    said = await order("/simulate", asked | {"key": narrow["access_key"]}, 409)
    assert "disabled" in said["error"]["message"]


async def test_documents_alone(order):
    asked = {"documents": [READS], "actions": ["s3:getobject"]}
    assert await simulated(order, **asked, resources=["arn:aws:s3:::b/k", "arn:aws:s3:::c/k"]) == [
        ("s3:getobject", True, ["document 1"]),
        ("s3:getobject", False, []),
    ]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": everything}
    asked = {"documents": [document], "actions": ["admin:GetDisk"], "resources": ["*"]}
    assert await simulated(order, **asked) == [("admin:GetDisk", True, ["document 1"])]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"actions": ["s3:*"]}, 400),
        ({"actions": []}, 400),
        ({"resources": ["b/k"]}, 400),
        ({"documents": []}, 400),
        ({"documents": [{}]}, 400),
        ({"documents": [5]}, 400),
        ({"resource_policy": READS}, 400),
        ({"context": {"a": "b"}}, 400),
        ({"actions": ["s3:GetObject"] * 100, "resources": ["*"] * 100}, 400),
        ({"user": "lost"}, 404),
    ],
)
async def test_what_cannot_be_simulated(order, wrong, status):
    asked = {"documents": [READS], "actions": ["s3:GetObject"], "resources": ["*"]}
    await order("/simulate", asked | wrong, status)


# Buckets.


async def test_buckets(ask):
    body = json.dumps({"name": "123456789012", "object_lock": True}).encode()
    status, made = await ask("POST", "/v1/buckets", body=body)
    assert (status, made["account"], made["versioning"]) == (200, "000000000000", "Enabled")
    assert (made["bytes_max"], made["bytes"]) == (0, None)
    status, held = await ask("GET", "/v1/buckets/123456789012")
    assert (held["bytes"], held["objects"], held["counted_ms"] > made["created_ms"] - 1) == (
        0,
        0,
        True,
    )
    assert (await ask("POST", "/v1/buckets", body=body))[0] == 409
    bounds = json.dumps({"bytes_max": 7}).encode()
    assert (await ask("POST", "/v1/buckets/123456789012/quota", body=bounds))[0] == 200
    shown = made | {"bytes_max": 7}
    assert await ask("GET", "/v1/buckets") == (200, {"buckets": [shown]})
    status, held = await ask("GET", "/v1/buckets/123456789012")
    counted = {"bytes": 0, "objects": 0, "counted_ms": held["counted_ms"]}
    assert (status, held) == (200, shown | counted)
    assert (await ask("POST", "/v1/buckets/123456789012/delete"))[0] == 200
    assert (await ask("POST", "/v1/buckets/123456789012/delete"))[0] == 404
    assert (await ask("GET", "/v1/buckets/123456789012"))[0] == 404
    assert await ask("GET", "/v1/buckets") == (200, {"buckets": []})


@pytest.mark.parametrize(
    ("body", "status"),
    [({"name": "No Bucket"}, 400), ({}, 400), ({"name": "abc", "account": "123456789012"}, 404)],
)
async def test_what_is_no_bucket(ask, body, status):
    assert (await ask("POST", "/v1/buckets", body=json.dumps(body).encode()))[0] == status


async def test_what_a_bucket_holds_is_counted(ask, front_end, objects, monkeypatch):
    name = "123456789012"
    await objects.create_bucket(name, owner="root")
    await objects.set_versioning(name, "Enabled")
    for key, size in ((b"a", 5), (b"a", 7), (b"b", 1)):
        data = BytesPayload(bytes(size))
        await objects.put_object(name, key, data, ObjectAttributes(), owner="root")
    await objects.delete_object(name, b"a")
    upload = await objects.create_upload(name, b"c", ObjectAttributes(), owner="root")
    for number in (1, 2):
        await objects.put_part(name, b"c", upload.upload_id, number, BytesPayload(bytes(10)))
    monkeypatch.setattr(buckets, "_PAGE", 1)  # as if there were a great many
    _, held = await ask("GET", f"/v1/buckets/{name}")
    assert (held["bytes"], held["objects"]) == (33, 3)
    monkeypatch.setattr(buckets, "_PAGES_COUNTED_MAX", 3)
    _, held = await ask("GET", f"/v1/buckets/{name}")
    assert (held["bytes"], held["objects"], held["counted_ms"]) == (None, None, None)


# At a real server: who they are counts at once.


def test_a_user_may_what_its_policies_say(server):
    def order(path, body=None, keys=server.credentials, status=200):
        sent = b"" if body is None else json.dumps(body).encode()
        found, answer = server.ask("POST", f"/_admin{path}", keys, sent)
        assert found == status, answer
        return json.loads(answer)

    def get(keys):
        return server.ask("GET", "/readable", keys)[0]

    order("/v1/buckets", {"name": "readable"})
    order(f"{ROOT}/users", {"name": "ann"})
    made = order(f"{ROOT}/users/ann/keys", {})
    keys = made["access_key"], made["secret_key"]
    assert get(keys) == 403
    order(f"{ROOT}/users/ann/policies/readonly/attach")
    assert get(keys) == 200
    # A user of the root's account orders what its policies say.
    order(f"{ROOT}/users", {"name": "bob"}, keys, status=403)
    order(f"{ROOT}/users/ann/policies/admin/attach")
    order(f"{ROOT}/users", {"name": "bob"}, keys)
    order(f"{ROOT}/users/ann/keys/{keys[0]}/disable")
    assert get(keys) == 403
    assert made["secret_key"].encode() not in server.log_path.read_bytes()
