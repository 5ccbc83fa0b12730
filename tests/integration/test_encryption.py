"""Encryption with real servers: keys that are made, rotated, lost and brought back, and shared by
processes; multipart and ranges by boto3; kill -9; what lies on the disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from objectio.testing.cluster import LocalServer
from objectio.testing.roles import LocalCluster, wait_for

boto3 = pytest.importorskip("boto3")
Config = pytest.importorskip("botocore.config").Config
ClientError = pytest.importorskip("botocore.exceptions").ClientError

MIB = 1 << 20
CANARY = b"the canary sings in the clear "
MINE = bytes(range(32))
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": MINE}
_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
QUIET = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")


@pytest.fixture(autouse=True)
def plugins():
    for plugin in ("api_s3", "api_admin", "kv_lmdb"):
        pytest.importorskip(f"objectio_{plugin}", reason=f"the plugin {plugin} is not installed")


def objectio(*words, code=0):
    clean = {key: text for key, text in os.environ.items() if key[:9] != "OBJECTIO_"}
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, *map(str, words)],
        capture_output=True,
        text=True,
        env=clean,
        timeout=60,
    )
    assert done.returncode == code, done
    return done.stdout


def client(server, gateway=None):
    settings = server.s3_settings() if gateway is None else server.s3_settings(gateway)
    return boto3.client("s3", config=QUIET, **settings)


def read(s3, key, **more):
    return s3.get_object(Bucket="bucket", Key=key, **more)["Body"].read()


def refused(call, **arguments):
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["ResponseMetadata"]["HTTPStatusCode"]


def upload(s3, key, data, **asked):
    """In parts of 5 MiB."""
    begun = s3.create_multipart_upload(Bucket="bucket", Key=key, **asked)
    place = {"Bucket": "bucket", "Key": key, "UploadId": begun["UploadId"]}
    mine = {name: value for name, value in asked.items() if name.startswith("SSECustomer")}
    parts = []
    for at in range(0, len(data), 5 * MIB):
        number = at // (5 * MIB) + 1
        part = s3.upload_part(**place, PartNumber=number, Body=data[at : at + 5 * MIB], **mine)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **mine)


def fill(s3):
    """One object for each way to ask for encryption: {key: (body, arguments for reading it)}."""
    s3.create_bucket(Bucket="bucket")
    bodies = {}
    for key, asked in (
        ("sse-s3", {"ServerSideEncryption": "AES256"}),
        ("sse-kms", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "payroll"}),
        ("sse-c", CUSTOMER),
    ):
        body = (CANARY * 60_000)[: MIB + len(key)]
        s3.put_object(Bucket="bucket", Key=key, Body=body, **asked)
        bodies[key] = body, asked if asked is CUSTOMER else {}
        upload(s3, f"{key}-parts", body * 6, **asked)
        bodies[f"{key}-parts"] = body * 6, bodies[key][1]
    return bodies


def check_all(s3, bodies):
    for key, (body, reading) in bodies.items():
        assert read(s3, key, **reading) == body, key
        for start, length in ((0, 1), (65_530, 20), (len(body) - 70_000, 70_000)):
            found = read(s3, key, Range=f"bytes={start}-{start + length - 1}", **reading)
            assert found == body[start : start + length], (key, start)


def test_a_store_that_is_killed_rotated_and_robbed(tmp_path):
    with LocalServer(tmp_path / "data") as server:
        data, ring = server.data_dir, server.data_dir / "keyring.json"
        assert ring.stat().st_mode & 0o777 == 0o600
        objectio("kms", "create", "payroll", "--data", data)
        s3 = client(server)
        bodies = fill(s3)
        s3.put_object(Bucket="bucket", Key="plain", Body=b"plain")
        check_all(s3, bodies)

        server.kill()
        held = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
        assert CANARY not in held
        assert MINE not in held
        server.start()
        check_all(s3, bodies)

        objectio("kms", "rotate", "payroll", "--data", data)
        check_all(s3, bodies)
        asked = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "payroll"}
        s3.put_object(Bucket="bucket", Key="rotated", Body=CANARY * 10_000, **asked)
        bodies["rotated"] = CANARY * 10_000, {}

        # Lost while it runs, and at a start: what needs no key is served, and none is made anew.
        aside = ring.rename(tmp_path / "aside.json")
        for restart in (False, True):
            if restart:
                server.stop()
                server.start()
            assert refused(s3.get_object, Bucket="bucket", Key="sse-s3") == 503
            put = {"Bucket": "bucket", "Key": "new", "Body": b"x"}
            assert refused(s3.put_object, **put, ServerSideEncryption="AES256") == 503
            assert read(s3, "plain") == b"plain"
            assert read(s3, "sse-c", **CUSTOMER) == bodies["sse-c"][0]
            assert not ring.exists()
        found = objectio("doctor", "-e", server.endpoint, "--data", data, "-f", "json", code=2)
        assert any("key ring" in each["what"] for each in json.loads(found))
        assert "key ring" in server.log_text()

        # Another ring is no substitute.
        other = tmp_path / "other"
        with LocalServer(other):
            pass
        shutil.copyfile(other / "keyring.json", ring)
        assert refused(s3.get_object, Bucket="bucket", Key="sse-s3") == 503

        shutil.copyfile(aside, ring)
        check_all(s3, bodies)
        found = objectio("doctor", "-e", server.endpoint, "--data", data, code=1)
        assert "(mode 0644)" in found  # it was copied by hand
        ring.chmod(0o600)


@pytest.mark.slow
def test_workers_share_one_ring(tmp_path):
    arguments = ["--workers", "2"]
    with LocalServer(tmp_path / "data", arguments=arguments) as server:
        objectio("kms", "create", "payroll", "--data", server.data_dir)
        bodies = fill(client(server))
        for _ in range(6):  # over connections of their own, to one gateway or the other
            check_all(client(server), bodies)


@pytest.mark.slow
def test_a_gateway_on_another_machine_needs_a_copy(tmp_path):
    far = tmp_path / "far"
    far.mkdir()
    with LocalCluster(tmp_path / "near", osds=3, gateways=2, meta=["--ec", "2+1"]) as cluster:
        objectio("kms", "create", "payroll", "--data", cluster.data_dir)
        bodies = fill(client(cluster))
        check_all(client(cluster, 1), bodies)

        gateway = cluster.gateways[1]
        gateway.stop()
        for name in ("cluster.secret", "credentials.json"):
            shutil.copy(cluster.data_dir / name, far / name)
        gateway.arguments += ("--data", str(far))
        gateway.start()
        cluster.wait_healthy()
        s3 = client(cluster, 1)
        assert read(s3, "sse-c", **CUSTOMER) == bodies["sse-c"][0]
        assert refused(s3.get_object, Bucket="bucket", Key="sse-s3") == 503
        put = {"Bucket": "bucket", "Key": "new", "Body": b"x"}
        assert refused(s3.put_object, **put, ServerSideEncryption="AES256") == 503
        assert not (far / "keyring.json").exists()
        shutil.copy(cluster.data_dir / "keyring.json", far / "keyring.json")
        wait_for(lambda: read(s3, "sse-s3") == bodies["sse-s3"][0], "read", tail=cluster.tail)
        check_all(s3, bodies)


@pytest.mark.slow
def test_metadata_that_are_made_anew_know_their_key_ring(tmp_path):
    with LocalServer(tmp_path / "data") as server:
        data, ring = server.data_dir, server.data_dir / "keyring.json"
        objectio("kms", "create", "payroll", "--data", data)
        s3 = client(server)
        bodies = fill(s3)
        server.stop()
        shutil.rmtree(data / "meta")
        objectio("meta", "rebuild", "--data", data)
        server.start()
        check_all(s3, bodies)
        server.stop()
        shutil.rmtree(data / "meta")
        ring.unlink()
        objectio("meta", "rebuild", "--data", data)
        server.start()
        assert refused(s3.get_object, Bucket="bucket", Key="sse-s3") == 503
        assert read(s3, "sse-c", **CUSTOMER) == bodies["sse-c"][0]
        assert not ring.exists()
