"""Users, keys, groups, policies and buckets from the shell, and what they then may over S3."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from objectio.testing.shapes import SHAPES_SLOW, make_server

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")


@pytest.fixture(scope="module", params=SHAPES_SLOW)
def server(request, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        data_dir = tmp_path_factory.mktemp("server") / "data"
        yield stack.enter_context(make_server(data_dir, shape=request.param))


@pytest.fixture
def user(show):
    """A user of the name, and its keys; both are gone after the test."""
    made = []

    def make(name):
        show("user", "create", name)
        key = show("key", "create", name)
        made.append((name, key["access_key"]))
        return key["access_key"], key["secret_key"]

    yield make
    for name, key in made:
        for policy in show("user", "show", name)["policies"]:
            show("policy", "detach", policy, "--user", name)
        show("key", "delete", name, key)
        show("user", "delete", name)


def test_a_user_may_what_policies_say_and_no_more(objectio, show, user, tmp_path):
    ann = user("ann@home")
    show("bucket", "create", "annas")
    (tmp_path / "file").write_text("text")
    said = objectio("object", "put", "annas", "key", "file", keys=ann, code=4)[1]
    assert "refuses" in said
    assert "(credentials: OBJECTIO_ACCESS_KEY)" in said
    show("policy", "attach", "readonly", "--user", "ann@home")
    asked = ("policy", "simulate", "--user", "ann@home", "--resource", "arn:aws:s3:::annas/key")
    assert show(*asked, "--action", "s3:GetObject")[0]["allowed"] is True
    (refused,) = show(*asked, "--action", "s3:PutObject", code=4)
    assert (refused["allowed"], refused["policies"]) == (False, [])
    objectio("object", "put", "annas", "key", "file", keys=ann, code=4)
    show("policy", "attach", "arn:aws:iam::aws:policy/readwrite", "--user", "ann@home")
    assert show(*asked, "--action", "s3:PutObject")[0]["policies"] == ["readwrite of user ann@home"]
    (tmp_path / "narrow.json").write_text(
        '{"Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}'
    )
    key = show("key", "create", "ann@home", "--policy", "narrow.json")["access_key"]
    asked = ("policy", "simulate", "--key", key, *asked[4:])
    assert show(*asked, "--action", "s3:GetObject")[0]["policies"][-1] == "the key's policy"
    show(*asked, "--action", "s3:PutObject", code=4)
    show("key", "delete", "ann@home", key)
    objectio("object", "put", "annas", "key", "file", keys=ann)
    assert objectio("object", "get", "annas", "key", "-", keys=ann)[0] == "text"
    objectio("object", "delete", "annas", "key", keys=ann)
    show("bucket", "delete", "annas")


def test_temporary_credentials(objectio, show, user, server):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("objectio_api_iam", reason="objectio_api_iam is not installed")
    ann = user("ann")
    show("policy", "attach", "readwrite", "--user", "ann")
    show("bucket", "create", "short")
    where = server.s3_settings() | {"aws_access_key_id": ann[0], "aws_secret_access_key": ann[1]}
    with contextlib.closing(boto3.client("sts", **where)) as sts:
        made = sts.get_session_token()["Credentials"]
    keys = made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]
    objectio("object", "put", "short", "key", stdin="text", keys=keys)
    assert objectio("object", "get", "short", "key", "-", keys=keys)[0] == "text"
    objectio("object", "get", "short", "key", "-", keys=keys[:2], code=4)
    objectio("object", "delete", "short", "key", keys=keys)
    show("bucket", "delete", "short")


OPERATORS = (
    ("user", "list"),
    ("key", "create", "ann"),
    ("policy", "list"),
    ("role", "list"),
    ("group", "list"),
    ("bucket", "list"),
    ("bucket", "create", "mine"),
    ("policy", "simulate", "--user", "ann", "--action", "s3:GetObject"),
    ("disk", "list"),
    ("node", "list"),
    ("cluster", "topology"),
    ("user", "update", "ann", "--name", "root"),
)


def test_who_administers(objectio, show, user):
    ann = user("ann")
    objectio("policy", "attach", "readwrite", "--user", "ann")
    for words in OPERATORS:
        assert "This identity may not do that" in objectio(*words, keys=ann, code=4)[1]
    said = objectio("user", "list", keys=ann, code=4)[1]
    assert "admin:ListUsers of arn:objectio:admin:::account/000000000000/user/*" in said
    objectio("policy", "attach", "admin", "--user", "ann")
    assert show("user", "list", keys=ann)[0]["name"] == "ann"
    assert show("node", "list", keys=ann)


def test_keys_are_rotated(objectio, show, user):
    old = user("bob")
    show("policy", "attach", "readwrite", "--user", "bob")
    show("bucket", "create", "bobs")
    new = show("key", "create", "bob")
    keys = new["access_key"], new["secret_key"]
    for each in (old, keys):
        objectio("object", "list", "bobs", keys=each)
    objectio("key", "create", "bob", code=1)  # two at most
    listed = show("key", "list", "bob")
    assert [(key["access_key"], key["active"]) for key in listed] == [
        (old[0], True),
        (keys[0], True),
    ]
    assert new["secret_key"] not in json.dumps(listed) + json.dumps(show("user", "show", "bob"))
    assert show("key", "disable", "bob", keys[0])["active"] is False
    objectio("object", "list", "bobs", keys=keys, code=4)
    assert show("key", "enable", "bob", keys[0])["active"] is True
    objectio("object", "list", "bobs", keys=keys)
    show("key", "delete", "bob", keys[0])
    objectio("object", "list", "bobs", keys=keys, code=4)
    assert "cannot be found" in objectio("key", "delete", "bob", keys[0], code=3)[1]
    show("bucket", "delete", "bobs")


def test_a_group_gives_what_it_has(objectio, show, user):
    cat = user("cat")
    show("bucket", "create", "shared")
    show("group", "create", "readers", "--path", "/staff/")
    show("policy", "attach", "readonly", "--group", "readers")
    objectio("object", "list", "shared", keys=cat, code=4)
    assert show("group", "add-user", "readers", "cat")["users"] == ["cat"]
    assert objectio("object", "list", "shared", "-f", "csv", keys=cat)[0].startswith('"key"')
    (group,) = show("group", "user-groups", "cat")
    assert group["arn"] == "arn:aws:iam::000000000000:group/staff/readers"
    changed = show("group", "update", "readers", "--name", "lookers", "--path", "/")
    assert changed["arn"] == "arn:aws:iam::000000000000:group/lookers"
    assert objectio("object", "list", "shared", "-f", "csv", keys=cat)[0].startswith('"key"')
    assert show("group", "show", "lookers")["users"] == ["cat"]
    assert show("group", "update", "lookers", "--name", "readers")["id"] == changed["id"]
    assert "user cat" in objectio("group", "delete", "readers", code=1)[1]
    assert "readers" in objectio("user", "delete", "cat", code=1)[1]
    assert show("group", "remove-user", "readers", "cat")["users"] == []
    objectio("object", "list", "shared", keys=cat, code=4)
    show("policy", "detach", "readonly", "--group", "readers")
    said = objectio("policy", "detach", "readonly", "--group", "readers", code=3)[1]
    assert said == "objectio: policy readonly is not attached to group readers\n"
    show("group", "delete", "readers")
    assert show("group", "list") == []
    show("bucket", "delete", "shared")


def test_a_policy_of_ones_own(objectio, show, user, tmp_path):
    user("dan")
    statement = {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::${aws:username}/*",
        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    (tmp_path / "own.json").write_text(json.dumps(document, indent=2))
    asked = ("policy", "simulate", "--action", "s3:GetObject", "--resource", "arn:aws:s3:::dan/k")
    inside = ("--context", "aws:SourceIp=10.1.2.3")
    show(*asked, *inside, "--document", "own.json", code=4)  # who has it has no such name
    assert show(*asked, *inside, "--document", "own.json", "--user", "dan")[0]["allowed"]
    shown = show("policy", "create", "own", "-", stdin=json.dumps(document))
    assert shown["document"] == document
    assert objectio("policy", "show", "own", "-f", "value", "-c", "arn")[0] == f"{shown['arn']}\n"
    show("policy", "attach", "own", "--user", "dan")
    assert show(*asked, *inside, "--user", "dan")[0]["policies"] == ["own of user dan"]
    show(*asked, "--user", "dan", code=4)
    assert "attached" in objectio("policy", "delete", "own", code=1)[1]
    show("policy", "detach", "own", "--user", "dan")
    show("policy", "delete", "own")
    assert "there is no policy own" in objectio("policy", "show", "own", code=3)[1]


def test_users_of_another_account(objectio, show):
    account = show("account", "create", "--display-name", "Other")["id"]
    of = ("--account", account)
    made = show("user", "create", "ann", *of)
    assert made["arn"] == f"arn:aws:iam::{account}:user/ann"
    assert [each["name"] for each in show("user", "list", *of)] == ["ann"]
    assert "ann" not in [each["name"] for each in show("user", "list")]
    show("bucket", "create", "theirs", *of)
    assert [each["name"] for each in show("bucket", "list", *of)] == ["theirs"]
    shown = show("bucket", "show", "theirs")
    assert (shown["account"], shown["versioning"]) == (account, "")
    assert "owns buckets: theirs" in objectio("account", "delete", account, code=1)[1]
    show("bucket", "delete", "theirs")
    show("user", "delete", "ann", *of)
    show("account", "delete", account)
    assert "there is no account" in objectio("user", "list", *of, code=3)[1]


def test_buckets(objectio, show):
    made = show("bucket", "create", "locked", "--object-lock")
    assert (made["versioning"], made["object_lock"]) == ("Enabled", True)
    assert "locked" in objectio("bucket", "create", "locked", code=1)[1]
    show("bucket", "quota", "locked", "--bytes", "1MiB")
    assert show("bucket", "show", "locked")["bytes_max"] == 1 << 20
    assert [(b["name"], b["bytes_max"]) for b in show("bucket", "list")] == [("locked", 1 << 20)]
    objectio("object", "put", "locked", "key", stdin="text")
    show("bucket", "quota", "locked", "--none")
    shown = show("bucket", "show", "locked")
    assert (shown["bytes"], shown["objects"]) == (4, 1)
    assert "is not empty" in objectio("bucket", "delete", "locked", code=1)[1]
    version = show("object", "stat", "locked", "key")["version_id"]
    objectio("object", "delete", "locked", "key", "--version-id", version)
    show("bucket", "delete", "locked")
    assert "there is no bucket locked" in objectio("bucket", "show", "locked", code=3)[1]


def test_a_user_gets_another_name(objectio, show, user):
    keys = user("old")
    show("policy", "attach", "readonly", "--user", "old")
    show("bucket", "create", "named")
    changed = show("user", "update", "old", "--name", "new", "--path", "/staff/")
    assert changed["arn"] == "arn:aws:iam::000000000000:user/staff/new"
    shown = show("user", "show", "new")
    assert (shown["keys"], shown["id"]) == ([keys[0]], changed["id"])
    objectio("object", "list", "named", keys=keys)
    assert "cannot be found" in objectio("user", "show", "old", code=3)[1]
    assert show("user", "update", "new", "--name", "old", "--path", "/")["name"] == "old"
    show("bucket", "delete", "named")


READS = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
ANYBODY = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::000000000000:user/eve"},
    "Action": "sts:AssumeRole",
}


def document(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_service_account_has_less_than_its_user(objectio, show, user):
    user("fay")
    show("policy", "attach", "readwrite", "--user", "fay")
    show("bucket", "create", "fays")
    limits = ("--policy", "-", "--description", "backup", "--expires", "1h")
    made = show("key", "create", "fay", *limits, stdin=document(READS))
    assert (made["description"], made["policy"]["Statement"]) == ("backup", [READS])
    assert 0 < made["expires_ms"] - made["created_ms"] <= 3_700_000
    keys = made["access_key"], made["secret_key"]
    objectio("object", "list", "fays", keys=keys)
    objectio("object", "put", "fays", "key", stdin="text", keys=keys, code=4)
    shown = show("key", "show", "fay", keys[0])
    assert shown == {name: value for name, value in made.items() if name != "secret_key"}
    assert show("key", "list", "fay")[1] == shown
    objectio("key", "show", "fay", "AKIANOBODYHASTHISKEY", code=3)
    show("key", "delete", "fay", keys[0])
    objectio("object", "list", "fays", keys=keys, code=4)
    brief = show("key", "create", "fay", "--expires", "1s")
    keys = brief["access_key"], brief["secret_key"]
    said = until_refused(lambda **more: objectio("object", "list", "fays", keys=keys, **more))
    assert "does not exist" in said  # as one that is not there
    show("key", "delete", "fay", keys[0])
    show("bucket", "delete", "fays")


def until_refused(ask):
    """What is said when it is."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask(code=4)[1]
        except AssertionError:
            assert time.monotonic() < deadline


def test_a_bearer_token_administers_for_a_while(objectio, show):
    made = show("token", "create", "--seconds", "60")
    with_it = {"keys": (), "OBJECTIO_TOKEN": made["token"]}
    show("user", "create", "gus", **with_it)
    assert "gus" in [each["name"] for each in show("user", "list", **with_it)]
    assert "a token makes no token" in objectio("token", "create", code=2, **with_it)[1]
    assert "objects need" in objectio("object", "list", "bucket", code=2, **with_it)[1]
    show("user", "delete", "gus", **with_it)
    wrong = {"keys": (), "OBJECTIO_TOKEN": made["token"][:-4] + "AAAA"}
    said = objectio("user", "list", code=4, **wrong)[1]
    assert "(credentials: OBJECTIO_TOKEN)" in said
    assert made["token"][:20] not in said


@pytest.mark.parametrize("kind", ["user", "group", "role"])
def test_a_policy_of_one_holder_alone(objectio, show, kind):
    made = ("--trust", "-") if kind == "role" else ()
    show(kind, "create", "holder", *made, stdin=document(ANYBODY))
    of = (f"--{kind}", "holder")
    assert show("policy", "list", *of) == []
    put = show("policy", "put", "Own", "-", *of, stdin=document(READS))
    assert (put["kind"], put["holder"], put["document"]["Statement"]) == (kind, "holder", [READS])
    denies = {**READS, "Effect": "Deny"}
    show("policy", "put", "Own", "-", *of, stdin=document(denies))
    assert show("policy", "show", "Own", *of)["document"]["Statement"] == [denies]
    show("policy", "attach", "readonly", *of)
    listed = [(each["name"], each["inline"]) for each in show("policy", "list", *of)]
    assert listed == [("readonly", False), ("Own", True)]
    assert "inline policy Own" in objectio(kind, "delete", "holder", code=1)[1]
    assert "there is no policy Own" in objectio("policy", "show", "Own", code=3)[1]
    show("policy", "delete", "Own", *of)
    objectio("policy", "show", "Own", *of, code=3)
    show("policy", "detach", "readonly", *of)
    show(kind, "delete", "holder")


def test_a_role_is_taken_on(objectio, show, user, server):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("objectio_api_iam", reason="objectio_api_iam is not installed")
    eve = user("eve")
    show("bucket", "create", "roles")
    made = show("role", "create", "reader", "--trust", "-", "--tag", "a=b", stdin=document(ANYBODY))
    assert (made["tags"], made["session_seconds_max"]) == ({"a": "b"}, 3600)
    show("policy", "put", "reads", "-", "--role", "reader", stdin=document(READS))
    where = server.s3_settings() | {"aws_access_key_id": eve[0], "aws_secret_access_key": eve[1]}
    assume = {"RoleArn": made["arn"], "RoleSessionName": "eve"}
    with contextlib.closing(boto3.client("sts", **where)) as sts:
        given = sts.assume_role(**assume)["Credentials"]
        changed = show(
            "role",
            "update",
            "reader",
            "--trust",
            "-",
            stdin=document({**ANYBODY, "Effect": "Deny"}),
        )
        assert changed["trust_policy"]["Statement"][0]["Effect"] == "Deny"
        with pytest.raises(sts.exceptions.ClientError, match="AccessDenied"):
            sts.assume_role(**assume)
    keys = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    objectio("object", "list", "roles", keys=keys)
    objectio("object", "put", "roles", "key", stdin="text", keys=keys, code=4)
    shown = show(
        "role", "update", "reader", "--description", "reads", "--session-seconds-max", "7200"
    )
    assert (shown["description"], shown["session_seconds_max"]) == ("reads", 7200)
    assert [each["name"] for each in show("role", "list")] == ["reader"]
    show("policy", "delete", "reads", "--role", "reader")
    show("role", "delete", "reader")
    assert "reader" in objectio("role", "show", "reader", code=3)[1]
    show("bucket", "delete", "roles")


@pytest.mark.parametrize(
    "words",
    [
        ("user", "show", ""),
        ("user", "list", "--account", "12"),
        ("user", "update", "ann"),
        ("user", "update", "ann", "--name", ""),
        ("role", "update", "reader"),
        ("role", "create", "reader", "--trust", "/dev/null", "--tag", "novalue"),
        ("policy", "put", "own", "-", "--user", ""),
        ("node", "show", ""),
        ("node", "show"),
        ("disk", "list", "-f", "xml"),
        ("policy", "attach", "readonly"),
        ("policy", "put", "own", "-", "--user", "a", "--group", "b"),
        ("key", "create", "ann", "--expires", "2020-01-01"),
        ("key", "create", "ann", "--expires", "soon"),
        ("key", "create", "ann", "--policy", "/dev/null"),
        ("token", "create", "--seconds", "59"),
        ("bucket", "show", "a/b"),
        ("policy", "simulate", "--action", "s3:GetObject"),
        ("policy", "simulate", "--user", "u", "--action", "s3:GetObject", "--context", "x"),
        ("object", "stat", "bucket", ""),
        ("object", "list", "a/b"),
        ("object", "list", "bucket", "--limit", "0"),
        ("object", "get", "bucket", "ends/with/"),
        ("object", "put", "bucket", "key", "--metadata", "novalue"),
        ("object", "put", "bucket", "k" * 1025),
        ("object", "delete", "bucket", "a", "b", "--version-id", "v"),
    ],
)
def test_wrong_usage(objectio, words):
    assert objectio(*words, code=2)[1].startswith("objectio: ")


def test_what_the_server_refuses_it_explains(objectio, tmp_path):
    assert "alphanumeric" in objectio("user", "create", "a b", code=1)[1]
    assert "is not a bucket name" in objectio("bucket", "create", "No_Bucket", code=1)[1]
    (tmp_path / "wrong.json").write_text('{"Statement": []}')
    assert "Statement" in objectio("policy", "create", "own", "wrong.json", code=1)[1]
    assert "No such file" in objectio("policy", "create", "own", "lost.json", code=1)[1]
