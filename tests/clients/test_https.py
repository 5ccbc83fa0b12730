"""By HTTPS boto3 and the AWS CLI send what they send AWS: bodies in aws-chunked, not signed but with a
checksum behind them in a trailer, which they never do by plain HTTP."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import socket
import ssl
import sys
import warnings
import zlib
from pathlib import Path

import pytest

from objectio.limits import MIB

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
pytestmark = pytest.mark.client

ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


@pytest.fixture
def server(https_server):
    return https_server


def content(size):
    return hashlib.shake_128(b"https").digest(size)


@pytest.fixture
def sent(s3):
    """Headers of the requests that boto3 sends."""
    found = []
    s3.meta.events.register("before-send.s3", lambda request, **_: found.append(request.headers))
    return found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksums_behind_the_body(s3, place, sent, algorithm):
    where = {"Bucket": place.bucket, "Key": "k"}
    body = content(300_000)
    answer = s3.put_object(**where, Body=io.BytesIO(body), ChecksumAlgorithm=algorithm)
    assert sent[-1]["x-amz-content-sha256"] == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert sent[-1]["x-amz-trailer"].decode() == f"x-amz-checksum-{algorithm.lower()}"
    got = s3.get_object(**where, ChecksumMode="ENABLED")
    name = f"Checksum{algorithm}"
    assert answer[name] == got[name]
    assert got["ChecksumType"] == "FULL_OBJECT"
    assert got["Body"].read() == body  # boto3 compares it with the checksum
    if algorithm == "CRC32":
        wanted = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert got[name] == wanted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksums_of_parts(s3, place, tmp_path, algorithm):
    from boto3.s3.transfer import TransferConfig

    body = content(11 * MIB + 3)
    (tmp_path / "file").write_bytes(body)
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    more = {"ExtraArgs": {"ChecksumAlgorithm": algorithm}, "Config": transfer}
    s3.upload_file(str(tmp_path / "file"), place.bucket, "large", **more)
    s3.download_file(place.bucket, "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == body
    found = s3.head_object(Bucket=place.bucket, Key="large", ChecksumMode="ENABLED")
    whole = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    assert found["ChecksumType"] == whole
    assert found[f"Checksum{algorithm}"].endswith("-3") == (whole == "COMPOSITE")


def test_a_false_trailer_is_refused(s3, place, server):
    """The same request as boto3's, with another checksum behind the body."""
    from botocore.exceptions import ClientError

    def falsify(request, **_):
        kept = request.body.read()
        line = b"x-amz-checksum-crc32:"
        at = kept.index(line) + len(line)
        request.body = kept[:at] + b"AAAAAA==" + kept[at + 8 :]

    s3.meta.events.register("before-send.s3.PutObject", falsify)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=place.bucket, Key="k", Body=io.BytesIO(b"true"))
    assert refused.value.response["Error"]["Code"] in ("BadDigest", "InvalidRequest")
    assert s3.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 0


def test_old_tls_is_not_spoken(server):
    context = server.tls_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(server.address) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_the_aws_cli_by_https(s3, place, tmp_path):
    program = Path(sys.executable).with_name("aws")
    if shutil.which(program) is None:
        pytest.skip("aws is not installed")
    trust = {"AWS_CA_BUNDLE": place.ca_file, "AWS_ENDPOINT_URL": place.server.endpoint}
    tree = tmp_path / "tree"
    for name, size in {"a": 1, "sub/b": 10_000, "sub/large": 9 * MIB}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content(size))
    place.run(str(program), "s3", "sync", tree, f"s3://{place.bucket}", env=trust)
    place.run(str(program), "s3", "sync", f"s3://{place.bucket}", tmp_path / "copy", env=trust)
    for path in tree.rglob("*"):
        if path.is_file():
            copied = tmp_path / "copy" / path.relative_to(tree)
            assert copied.read_bytes() == path.read_bytes()
    found = s3.head_object(Bucket=place.bucket, Key="sub/b", ChecksumMode="ENABLED")
    assert any(name.startswith("Checksum") for name in found)


@pytest.mark.slow
def test_rclone_by_https(place, tmp_path):
    access_key, secret_key = place.server.credentials
    env = {
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENDPOINT": place.server.endpoint,
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": access_key,
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": secret_key,
        "RCLONE_CA_CERT": place.ca_file,
        "RCLONE_S3_UPLOAD_CUTOFF": "5M",
        "RCLONE_S3_CHUNK_SIZE": "5M",
    }
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/large").write_bytes(content(12 * MIB))
    (tmp_path / "tree/small").write_bytes(b"small")
    place.run("rclone", "copy", tmp_path / "tree", f"store:{place.bucket}", env=env)
    place.run("rclone", "check", "--download", tmp_path / "tree", f"store:{place.bucket}", env=env)


# polars, DuckDB and delta-rs trust only what the machine trusts.
@pytest.mark.slow
@pytest.mark.parametrize("program", ["fsspec_s3.py", "arrow.py"])
def test_a_library_finds_what_it_wrote(place, program):
    place.run_python(program)
