"""The audit log of a real server: what it says of S3, IAM and the operators' API, and after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from objectio.errors import AccessError
from objectio.rpc.control.client import AccessKey, ControlClient
from objectio.testing.cluster import LocalServer
from objectio.testing.shapes import SHAPES_SLOW

for needed in ("objectio_api_admin", "objectio_api_iam", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
exceptions = pytest.importorskip("botocore.exceptions")

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
_KEYS = ("OBJECTIO_ACCESS_KEY", "OBJECTIO_SECRET_KEY")
ALLOW = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)


@pytest.fixture(params=SHAPES_SLOW)
def shape(request):
    return request.param


def client(server, service, pair=None, **more):
    from botocore.config import Config

    access_key, secret_key = pair or server.credentials
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
        **more,
    )


def lines(server, kind="admin"):
    """Of all processes; a line that is not whole would not be read."""
    found = []
    for path in (server.data_dir / "audit").glob(f"*.{kind}*.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found += [json.loads(line) for line in path.read_bytes().splitlines()]
    return sorted(found, key=lambda each: each["time"])


def done(server):
    return [(each["action"], each["status"]) for each in lines(server) if each["event"] == "done"]


def make_user_by_command(server):
    """What the command says that is refused."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, "user", "create", "carol", "-e", server.endpoint],
        env={**os.environ, **dict(zip(_KEYS, server.credentials, strict=True))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    return done.stderr


def eventually(ask, seconds_max=20):
    deadline = time.monotonic() + seconds_max
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def test_who_changes_what(start):
    server = start()
    s3, iam = client(server, "s3"), client(server, "iam")
    answer = s3.create_bucket(Bucket="audited")
    (begun, ended) = lines(server)  # there is no waiting: it was there before the answer
    assert (begun["event"], ended["event"], ended["status"]) == ("begun", "done", 200)
    assert begun["request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert begun["resource"] == "arn:aws:s3:::audited"
    assert (begun["identity"], begun["access_key"]) == (
        "arn:aws:iam::000000000000:root",
        server.credentials[0],
    )
    assert begun["source_ip"] == "127.0.0.1"
    assert "oto" in begun["user_agent"]
    s3.put_object(Bucket="audited", Key="k", Body=b"x" * 1000)
    s3.get_object(Bucket="audited", Key="k")
    s3.put_bucket_versioning(Bucket="audited", VersioningConfiguration={"Status": "Enabled"})
    s3.delete_objects(Bucket="audited", Delete={"Objects": [{"Key": "k"}]})
    iam.create_user(UserName="alice")
    iam.put_user_policy(UserName="alice", PolicyName="all", PolicyDocument=ALLOW)
    iam.get_user(UserName="alice")
    key = iam.create_access_key(UserName="alice")["AccessKey"]
    alice = key["AccessKeyId"], key["SecretAccessKey"]
    client(server, "sts", alice).get_session_token()
    with pytest.raises(exceptions.ClientError):
        iam.delete_user(UserName="nobody")
    assert done(server) == [
        ("s3:CreateBucket", 200),
        ("s3:PutBucketVersioning", 200),
        ("iam:CreateUser", 200),
        ("iam:PutUserPolicy", 200),
        ("iam:CreateAccessKey", 200),
        ("iam:DeleteUser", 404),
    ]
    by = {each["action"]: each for each in lines(server)}
    assert by["iam:CreateUser"]["resource"] == "arn:aws:iam::000000000000:user/alice"
    (given,) = lines(server, "credentials")
    assert (given["event"], given["action"]) == ("done", "sts:GetSessionToken")
    assert given["identity"] == "arn:aws:iam::000000000000:user/alice"
    assert given["access_key"] == alice[0]


def test_who_lifts_a_lock(start):
    """What makes a lock last longer is data, as the object is."""
    server = start()
    s3 = client(server, "s3")
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": "2098-01-01T00:00:00Z"}
    versions = {}
    for key in ("a", "b", "c"):
        versions[key] = s3.put_object(Bucket="locked", Key=key, Body=b"x", **lock)["VersionId"]
    longer = {"Mode": "GOVERNANCE", "RetainUntilDate": "2099-01-01T00:00:00Z"}
    s3.put_object_retention(Bucket="locked", Key="a", Retention=longer)
    s3.put_object_legal_hold(Bucket="locked", Key="a", LegalHold={"Status": "ON"})
    before = len(lines(server))
    s3.put_object_legal_hold(Bucket="locked", Key="a", LegalHold={"Status": "OFF"})
    shorter = longer | {"RetainUntilDate": "2097-01-01T00:00:00Z"}
    bypass = {"BypassGovernanceRetention": True}
    s3.put_object_retention(Bucket="locked", Key="a", Retention=shorter, **bypass)
    s3.delete_object(Bucket="locked", Key="a", VersionId=versions["a"], **bypass)
    s3.delete_objects(
        Bucket="locked",
        Delete={"Objects": [{"Key": key, "VersionId": versions[key]} for key in "bc"]},
        **bypass,
    )
    lifted, where = "s3:BypassGovernanceRetention", "arn:aws:s3:::locked"
    assert [
        (each["event"], each["action"], each["resource"]) for each in lines(server)[before:]
    ] == [
        (event, action, resource)
        for action, resource in (
            ("s3:PutObjectLegalHold", f"{where}/a"),
            (lifted, f"{where}/a"),
            (lifted, f"{where}/a"),
            (lifted, where),
        )
        for event in ("begun", "done")
    ]


def test_orders_on_the_control_plane(tmp_path):
    """They come to the process that has the metadata, without HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"meta.listen": f"127.0.0.1:{port}"}
    with LocalServer(tmp_path / "data", settings=settings) as server:
        pair = dict(zip(("access_key", "secret_key"), server.credentials, strict=True))

        async def order(**key):
            client = ControlClient(f"http://127.0.0.1:{port}", AccessKey(**key))
            try:
                return await client.start_scrub()
            finally:
                await client.close()

        asyncio.run(order(**pair))
        begun, ended = lines(server)
        assert (begun["event"], begun["action"]) == ("begun", "admin:StartScrub")
        assert (ended["status"], ended["resource"]) == ("OK", "arn:objectio:admin:::scrub")
        assert ended["access_key"] == pair["access_key"]
        with pytest.raises(AccessError):
            asyncio.run(order(**pair | {"secret_key": "x" * 40}))
        (denied,) = eventually(lambda: lines(server, "denied"))
        assert (denied["code"], denied["access_key"]) == ("proof", pair["access_key"])


def test_who_is_denied(start):
    server = start()
    s3, iam = client(server, "s3"), client(server, "iam")
    s3.create_bucket(Bucket="audited")
    s3.put_object(Bucket="audited", Key="k", Body=b"x")
    iam.create_user(UserName="bob")
    key = iam.create_access_key(UserName="bob")["AccessKey"]
    bob = key["AccessKeyId"], key["SecretAccessKey"]
    before = len(lines(server))
    for call, arguments in (
        (client(server, "s3", bob).get_object, {"Bucket": "audited", "Key": "k"}),
        (client(server, "s3", bob).delete_bucket, {"Bucket": "audited"}),
        (client(server, "iam", bob).create_user, {"UserName": "mallory"}),
        (client(server, "s3", (bob[0], "x" * 40)).list_buckets, {}),
    ):
        with pytest.raises(exceptions.ClientError) as caught:
            call(**arguments)
        last = caught.value.response["ResponseMetadata"]["RequestId"]
    said = client(server, "s3", bob).delete_objects(
        Bucket="audited", Delete={"Objects": [{"Key": f"k{n}"} for n in range(3)]}
    )
    assert len(said["Errors"]) == 3
    found = eventually(lambda: len(them := lines(server, "denied")) >= 5 and them)
    assert [(each["action"], each["status"], each["code"]) for each in found] == [
        ("s3:GetObject", 403, "AccessDenied"),
        ("s3:DeleteBucket", 403, "AccessDenied"),
        ("iam:CreateUser", 403, "AccessDenied"),
        ("s3:ListAllMyBuckets", 403, "SignatureDoesNotMatch"),
        ("s3:DeleteObject", 200, "AccessDenied"),
    ]
    assert found[3]["request_id"] == last
    assert found[4]["count"] == 3
    assert {each["access_key"] for each in found} == {bob[0]}
    assert found[2]["resource"] == "arn:aws:iam::000000000000:user/mallory"
    assert len(lines(server)) == before


def test_a_log_that_cannot_be_written_stops_changes_and_nothing_else(start):
    server = start()
    s3 = client(server, "s3")
    s3.create_bucket(Bucket="audited")
    audit = server.data_dir / "audit"
    audit.rename(server.data_dir / "away")
    audit.touch()
    with pytest.raises(exceptions.ClientError) as caught:
        s3.create_bucket(Bucket="refused")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert "audit log cannot be written" in make_user_by_command(server)
    with pytest.raises(exceptions.ClientError):
        client(server, "iam").create_user(UserName="refused")
    s3.put_object(Bucket="audited", Key="k", Body=b"x")
    assert s3.get_object(Bucket="audited", Key="k")["Body"].read() == b"x"
    s3.delete_object(Bucket="audited", Key="k")  # what makes room may be done
    assert "cannot be written" in server.log_text()
    audit.unlink()
    (server.data_dir / "away").rename(audit)
    assert [each["Name"] for each in s3.list_buckets()["Buckets"]] == ["audited"]
    s3.create_bucket(Bucket="allowed")
    actions = [each["resource"] for each in lines(server) if each["event"] == "done"]
    assert actions == [f"arn:aws:s3:::{name}" for name in ("audited", "allowed")]


def test_nothing_is_changed_without_a_line_when_it_is_killed(start):
    server = start()
    server.stop()
    for path in server.data_dir.glob("audit/*"):
        with path.open("ab") as torn:
            torn.write(b'{"time":"2026-01-01T00:00:00.000000Z","event":"beg')
    server.start()
    stop = threading.Event()

    def make():
        iam = client(server, "iam")
        for number in range(10_000):
            if stop.is_set():
                return
            try:
                iam.create_user(UserName=f"user-{number}")
            except (exceptions.ClientError, exceptions.BotoCoreError):
                return

    worker = threading.Thread(target=make)
    worker.start()
    try:
        eventually(lambda: len(done(server)) > 20)
        for pid in server.pids().values():
            os.kill(pid, signal.SIGKILL)
    finally:
        stop.set()
        worker.join(60)
        server.kill()
    server.start()
    there = {
        user["UserName"]
        for page in client(server, "iam").get_paginator("list_users").paginate()
        for user in page["Users"]
    }
    begun = {
        each["resource"].rpartition("/")[2] for each in lines(server) if each["event"] == "begun"
    }
    ended = {
        each["resource"].rpartition("/")[2] for each in lines(server) if each["event"] == "done"
    }
    assert len(there) > 20
    assert ended <= there <= begun
    assert len(begun - ended) <= 1
    repaired = [each for each in lines(server) if each["event"] == "repaired"]
    assert repaired
    assert all('"event":"beg' in each["cut"] for each in repaired[:1])


def test_it_can_be_turned_off(start):
    server = start(settings={"audit.enabled": "false"})
    client(server, "s3").create_bucket(Bucket="unseen")
    assert not (server.data_dir / "audit").exists()


def test_health(start):
    """Live, ready, and whether everything can be read and written: as many disks as 4+2 needs."""
    server = start(settings={"osd.check_seconds": "0.2"})
    server.stop()
    config = server.data_dir / "objectio.toml"
    config.write_text(config.read_text().replace("replace_blank = true", "replace_blank = false"))
    server.start()

    def ask(path):
        try:
            with urllib.request.urlopen(f"{server.endpoint}/health{path}") as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    for path in ("", "/live", "/ready", "/cluster"):
        assert ask(path)[0] == 200
    status, said = ask("/cluster")
    assert said.items() >= {"osds": 6, "osds_up": 6, "groups_unreadable": 0}.items()
    disks = sorted((server.data_dir / "disks").iterdir())
    shutil.move(disks[0], server.data_dir / "gone0")
    eventually(lambda: ask("/cluster")[1]["osds_up"] == 5)
    assert ask("/cluster")[0] == 200
    shutil.move(disks[1], server.data_dir / "gone1")
    status, said = eventually(lambda: ask("/cluster")[0] == 503 and ask("/cluster"))
    assert (said["status"], said["groups_unreadable"]) == ("unavailable", 0)
    assert said["groups_unwritable"] == said["groups"]
    assert ask("/ready")[0] == 200  # what is there can be read
    for number in (0, 1):
        shutil.move(server.data_dir / f"gone{number}", disks[number])
    eventually(lambda: ask("/cluster")[0] == 200)


def test_the_log_has_the_id_that_the_client_has(start):
    server = start(settings={"log.requests": "true", "log.format": "json"})
    ids = {
        "s3:ListAllMyBuckets": client(server, "s3").list_buckets(),
        "iam:ListUsers": client(server, "iam").list_users(),
        "sts:GetCallerIdentity": client(server, "sts").get_caller_identity(),
    }
    ids = {action: answer["ResponseMetadata"]["RequestId"] for action, answer in ids.items()}
    try:
        urllib.request.urlopen(f"{server.endpoint}/_admin/v1/cluster")
    except urllib.error.HTTPError as error:
        with error:
            ids["admin:GetCluster"] = error.headers["x-objectio-request-id"]

    def logged():
        found = [json.loads(line) for line in server.log_text().splitlines() if line[:1] == "{"]
        return {each["action"]: each["request_id"] for each in found if "request_id" in each}

    eventually(lambda: logged().items() >= ids.items())
