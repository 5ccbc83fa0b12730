"""Real clients against a real server: directories go up, are synchronized, and come back the same."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from objectio.iam.credentials import root_credential
from objectio.iam.signer import presign
from objectio.limits import KIB, MIB
from objectio.testing.shapes import SHAPES_SLOW, Spread, make_server

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
pytestmark = pytest.mark.client

PART_BYTES = 5 * MIB
SECONDS_MAX = 60

TREE = {
    "empty": 0,
    "one": 1,
    "hundred.bin": 100 * KIB,
    "large.bin": 20 * MIB + 7,  # four parts and a bit
    "a name with  spaces.txt": 11,
    "plus+and%percent%20.txt": 12,
    "ampersand & question? #hash=.txt": 13,
    "grüße/日本語 – ñ.txt": 14,
    "/".join(["deep"] * 40) + "/file": 15,
    "same/a/b": 16,
    "same/a.b": 17,
}


def content(name, size):
    return hashlib.shake_128(name.encode()).digest(size)


def make_tree(directory, names=TREE):
    """Files of a minute ago: S3 tells times in whole seconds, and what a client finds newer than
    that it sends again."""
    for name, size in names.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, size))
        os.utime(path, (time.time() - 60,) * 2)
    return directory


def digests(directory):
    """What a directory holds: {path: digest}."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def stored(s3, bucket):
    """What a bucket holds: {key: digest}."""
    return {
        key: hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
        for key in keys_of(s3, bucket)
    }


def keys_of(s3, bucket, **options):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


@pytest.fixture(scope="module", params=SHAPES_SLOW)
def server(request, tmp_path_factory):
    settings = {"log.requests": "true", "store.part_size_bytes_min": "1"}
    directory = tmp_path_factory.mktemp("clients") / "data"
    with make_server(directory, shape=request.param, settings=settings) as found:
        yield found


@pytest.fixture
def s3(server, connect):
    """Calls go to all gateways in turns, if there are several."""
    gateways = range(len(set(server.client_endpoints)))
    return Spread([connect(server, number, signature_version="s3v4") for number in gateways])


@pytest.fixture
def bucket(s3, request):
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:63].strip("-")
    s3.create_bucket(Bucket=name)
    return name


class Stores:
    """What was stored since this was made, by the server's own log: paths of requests."""

    def __init__(self, server):
        self._server = server
        self._begin = len(server.log_text())

    def paths(self):
        text = self._server.log_text()[self._begin :]
        return set(re.findall(r" path=(\S+) status=200 action=s3:PutObject ", text))


class Program:
    """A client program: `up` and `down` synchronize a directory and a bucket."""

    def __init__(self, server, home):
        self.home = home
        self.access_key, self.secret_key = server.credentials
        self.server = server
        self.program = shutil.which(
            self.name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        if self.program is None:
            pytest.skip(f"{self.name} is not installed: `make clients`")
        self.set_up()

    def run(self, *arguments, **more):
        kept = ("PATH", "LD_LIBRARY_PATH")
        env = {key: os.environ[key] for key in kept if key in os.environ}
        env |= {"HOME": str(self.home), "LC_ALL": "C.UTF-8", **self.environment}
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            env=env,
            capture_output=True,
            timeout=SECONDS_MAX,
            **more,
        )
        told = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{arguments}\n{told}\n{self.server.log_tail()}"
        return done.stdout


class AwsCli(Program):
    name = "aws"

    def set_up(self):
        config = self.home / "aws.ini"
        config.write_text(
            "[default]\nregion = us-east-1\ns3 =\n"
            "    signature_version = s3v4\n"
            f"    multipart_threshold = {PART_BYTES}\n    multipart_chunksize = {PART_BYTES}\n"
        )
        self.environment = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": str(config),
            "AWS_ENDPOINT_URL": self.server.endpoint,
        }

    def up(self, directory, bucket):
        self.run("s3", "sync", "--delete", directory, f"s3://{bucket}")

    def down(self, bucket, directory):
        self.run("s3", "sync", "--delete", f"s3://{bucket}", directory)

    def names(self, bucket):
        listed = self.run("s3", "ls", "--recursive", f"s3://{bucket}").decode()
        return {line.split(maxsplit=3)[3] for line in listed.splitlines()}


class S3cmd(Program):
    name = "s3cmd"

    def set_up(self):
        self.environment = {}
        host = self.server.endpoint.removeprefix("http://")
        (self.home / ".s3cfg").write_text(
            "[default]\n"
            f"access_key = {self.access_key}\nsecret_key = {self.secret_key}\n"
            f"host_base = {host}\nhost_bucket = {host}\nuse_https = False\n"
            f"multipart_chunk_size_mb = {PART_BYTES // MIB}\nprogress_meter = False\n"
        )

    def up(self, directory, bucket):
        self.run("sync", "--delete-removed", f"{directory}/", f"s3://{bucket}/")

    def down(self, bucket, directory):
        directory.mkdir(exist_ok=True)
        self.run("sync", "--delete-removed", f"s3://{bucket}/", f"{directory}/")

    def names(self, bucket):
        listed = self.run("ls", "--recursive", f"s3://{bucket}").decode()
        return {line.partition(f"s3://{bucket}/")[2] for line in listed.splitlines()}


class Rclone(Program):
    name = "rclone"

    def set_up(self):
        self.environment = {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.server.endpoint,
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": self.access_key,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": self.secret_key,
            "RCLONE_S3_UPLOAD_CUTOFF": f"{PART_BYTES}B",
            "RCLONE_S3_CHUNK_SIZE": f"{PART_BYTES}B",
            "RCLONE_RETRIES": "1",
        }

    def up(self, directory, bucket):
        self.run("sync", directory, f"store:{bucket}")

    def down(self, bucket, directory):
        self.run("sync", f"store:{bucket}", directory)

    def names(self, bucket):
        listed = self.run("lsf", "-R", "--files-only", f"store:{bucket}").decode()
        return set(listed.splitlines())


@pytest.fixture(params=[AwsCli, S3cmd, Rclone], ids=lambda kind: kind.name)
def program(request, server, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return request.param(server, home)


@pytest.fixture
def aws(server, tmp_path):
    home = tmp_path / "aws"
    home.mkdir()
    return AwsCli(server, home)


def test_a_directory_goes_up_and_comes_back(program, server, s3, bucket, tmp_path):
    tree = make_tree(tmp_path / "tree")
    program.up(tree, bucket)
    assert set(keys_of(s3, bucket)) == set(TREE)
    assert program.names(bucket) == set(TREE)
    assert "-" in s3.head_object(Bucket=bucket, Key="large.bin")["ETag"]  # it went up in parts
    program.down(bucket, tmp_path / "copy")
    assert digests(tmp_path / "copy") == digests(tree)
    # What is the same on both sides is left alone.
    stores = Stores(server)
    program.up(tree, bucket)
    assert stores.paths() == set()


def test_changes_are_synchronized(program, server, s3, bucket, tmp_path):
    tree = make_tree(tmp_path / "tree", {"kept": 5, "changed": 100, "sub/removed": 7, "grown": 1})
    program.up(tree, bucket)
    stores = Stores(server)
    (tree / "changed").write_bytes(b"shorter")
    (tree / "grown").write_bytes(content("grown", PART_BYTES + 1))
    (tree / "sub/removed").unlink()
    (tree / "sub/new").write_bytes(b"new")
    program.up(tree, bucket)
    assert stores.paths() == {f"/{bucket}/{name}" for name in ("changed", "grown", "sub/new")}
    assert stored(s3, bucket) == digests(tree)
    # And the other way, over a directory that has something else.
    copy = make_tree(tmp_path / "copy", {"kept": 5, "stale": 9})
    program.down(bucket, copy)
    assert digests(copy) == digests(tree)


def test_boto3_copies_a_directory(s3, bucket, tmp_path):
    from boto3.s3.transfer import TransferConfig

    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
    tree, copy = make_tree(tmp_path / "tree"), tmp_path / "copy"
    for name in TREE:
        s3.upload_file(str(tree / name), bucket, name, Config=transfer)
    for name in keys_of(s3, bucket, PaginationConfig={"PageSize": 3}):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, name, str(copy / name), Config=transfer)
    assert digests(copy) == digests(tree)
    assert stored(s3, bucket) == digests(tree)
    s3.put_object(Bucket=bucket, Key="large.bin", Body=b"small now")
    assert s3.get_object(Bucket=bucket, Key="large.bin")["Body"].read() == b"small now"
    for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 4}
    ):
        listed = [{"Key": item["Key"]} for item in page["Contents"]]
        assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": listed})
    s3.delete_bucket(Bucket=bucket)


# No file system would keep these apart; a store must.
KEYS = [
    *("a", "a/", "a/b", "a//b", "/a", "//", "a/b/", "a/./b", "a/../b", ".", "..", "../a"),
    *(" ", "  ", "+", "%", "%2F", "%2f", "a b", "a+b", "a%20b", "?", "#", "&", "=", ";", ":", "\\"),
    *("é", "e\u0301", "日本語", "\U0001f600", "\x01", "a\nb", "a\tb", "<&>\"'", "]]>", "\u200b"),
    *("x" * 1024, "é" * 512),
]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_every_name_is_a_name_of_its_own(s3, bucket, version):
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in KEYS:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    pages = s3.get_paginator(version).paginate(Bucket=bucket, PaginationConfig={"PageSize": 5})
    listed = [item["Key"] for page in pages for item in page["Contents"]]
    assert listed == sorted(KEYS, key=str.encode)
    folded = getattr(s3, version)(Bucket=bucket, Prefix="a", Delimiter="/")
    assert [item["Prefix"] for item in folded["CommonPrefixes"]] == ["a/"]
    assert "a" in [item["Key"] for item in folded["Contents"]]
    s3.delete_object(Bucket=bucket, Key="a")
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"a/b"


@pytest.mark.parametrize("count", [16, 17, 40])
def test_objects_of_many_small_parts(s3, bucket, count):
    """Above 16 parts, their places are kept in a row of their own."""
    body = content("parts", count * 1000 - 1)
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=piece, **upload)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]
    pages = s3.get_paginator("list_parts").paginate(PaginationConfig={"PageSize": 7}, **upload)
    listed = [(part["PartNumber"], part["ETag"]) for page in pages for part in page["Parts"]]
    assert listed == [(part["PartNumber"], part["ETag"]) for part in parts]
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    whole = hashlib.md5(b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts))
    assert done["ETag"] == f'"{whole.hexdigest()}-{count}"'
    place = {"Bucket": bucket, "Key": "parts"}
    assert s3.get_object(**place)["Body"].read() == body
    assert s3.get_object(Range="bytes=990-2010", **place)["Body"].read() == body[990:2011]
    last = s3.get_object(PartNumber=count, **place)
    assert (last["Body"].read(), last["PartsCount"]) == (pieces[-1], count)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=place)
    s3.delete_object(**place)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body


def test_the_aws_cli_streams_moves_and_removes(aws, s3, bucket):
    body = content("stream", PART_BYTES + 17)
    aws.run("s3", "cp", "-", f"s3://{bucket}/large", input=body)
    assert aws.run("s3", "cp", f"s3://{bucket}/large", "-") == body
    body = b"from a pipe"
    aws.run("s3", "cp", "-", f"s3://{bucket}/from/stdin", input=body)
    aws.run("s3", "rm", f"s3://{bucket}/large")
    aws.run("s3", "mv", f"s3://{bucket}/from/stdin", f"s3://{bucket}/to/here")
    assert keys_of(s3, bucket) == ["to/here"]
    assert s3.get_object(Bucket=bucket, Key="to/here")["Body"].read() == body
    aws.run("s3", "rb", "--force", f"s3://{bucket}")
    assert bucket not in [found["Name"] for found in s3.list_buckets()["Buckets"]]


# Presigned URLs.


def fetch(url, method="GET", body=None):
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_presigned_urls_of_boto3(s3, bucket):
    place = {"Bucket": bucket, "Key": "shared/a name + ü.txt"}
    put = s3.generate_presigned_url("put_object", Params=place)
    assert fetch(put, "PUT", b"by whoever has the link")[0] == 200
    get = s3.generate_presigned_url("get_object", Params=place)
    assert fetch(get) == (200, b"by whoever has the link")
    named = s3.generate_presigned_url(
        "get_object", Params={**place, "ResponseContentDisposition": 'attachment; filename="a b"'}
    )
    with urllib.request.urlopen(named, timeout=30) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a b"'
    status, told = fetch(get, "DELETE")
    assert status == 403
    assert b"SignatureDoesNotMatch" in told
    status, told = fetch(get.replace("shared", "stolen"))
    assert status == 403
    assert fetch(urllib.parse.urlsplit(get)._replace(query="").geturl())[0] == 403


def test_presigned_urls_end(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    root = root_credential(*server.credentials)
    host = server.endpoint.removeprefix("http://")

    def presigned_an_hour_ago(seconds):
        query = presign(
            root,
            "GET",
            f"/{bucket}/k".encode(),
            headers=[(b"host", host.encode())],
            expires_seconds=seconds,
            now=time.time() - 3600,
        )
        return f"{server.endpoint}/{bucket}/k?{query.decode()}"

    assert fetch(presigned_an_hour_ago(7200)) == (200, b"x")
    status, told = fetch(presigned_an_hour_ago(60))
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in told
    assert b"expired" in told


def test_presigned_urls_of_the_aws_cli(aws, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b", Body=b"shared")
    url = aws.run("s3", "presign", f"s3://{bucket}/a b", "--expires-in", "60").decode().strip()
    assert "X-Amz-Signature" in url
    assert fetch(url) == (200, b"shared")


def test_old_signatures_are_refused_with_a_reason(server, connect, s3, bucket):
    """botocore signs URLs by SigV2 for other regions' sake unless it is told `s3v4`."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = connect(server, signature_version="s3").generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "k"}
    )
    status, told = fetch(url)
    assert status in (400, 403)
    assert b"AWS4-HMAC-SHA256" in told
