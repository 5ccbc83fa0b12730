"""boto3 and the AWS CLI with their defaults, over http and https, against a real server.

They compute checksums in two ways: in a header over http, and as a trailer behind an unsigned,
chunked body over https. Behind the front end is a store in memory, or a whole one in every shape that
it can have.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import boto3
import botocore.config
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from objectio_api_s3.frontend import S3Factory

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.limits import MIB
from objectio.testing.objects import MemoryObjects
from objectio.testing.serving import ACCESS_KEY, SECRET_KEY, FrontEndServer, make_tls
from objectio.testing.shapes import SHAPES, Spread, make_server

pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
ROOT_KEYS = {"OBJECTIO_ROOT_ACCESS_KEY": ACCESS_KEY, "OBJECTIO_ROOT_SECRET_KEY": SECRET_KEY}
LARGE = hashlib.shake_128(b"seed").digest(12 * MIB + 123)


@pytest.fixture(
    scope="module",
    params=["http", "https", pytest.param("one", marks=pytest.mark.slow), "workers", "roles"],
)
def server(request, tmp_path_factory):
    if request.param in SHAPES:
        if find_spec("objectio_kv_lmdb") is None:
            pytest.skip("a whole store needs metadata that lasts: objectio_kv_lmdb")
        directory = tmp_path_factory.mktemp(request.param) / "data"
        with make_server(directory, shape=request.param, env=ROOT_KEYS) as found:
            yield found
        return
    tls = make_tls(tmp_path_factory.mktemp("tls")) if request.param == "https" else None
    context = ApiContext(objects=MemoryObjects(), metrics=NullMetrics())
    with FrontEndServer({"s3": S3Factory().build(context)}, tls) as found:
        yield found


def connect(server, endpoint=None, **config):
    return boto3.client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        verify=False,
        config=botocore.config.Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config
        ),
    )


@pytest.fixture
def client(server):
    """Calls go to all gateways in turns, if there are several."""
    endpoints = getattr(server, "client_endpoints", [server.endpoint])
    found = Spread([connect(server, endpoint) for endpoint in endpoints])
    yield found
    for bucket in found.list_buckets()["Buckets"]:
        name = bucket["Name"]
        for page in found.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for upload in page.get("Uploads", ()):
                found.abort_multipart_upload(
                    Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        for page in found.get_paginator("list_object_versions").paginate(Bucket=name):
            listed = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in page.get("Versions", ())
            ]
            if listed:
                found.delete_objects(
                    Bucket=name, Delete={"Objects": listed}, BypassGovernanceRetention=True
                )
        found.delete_bucket(Bucket=name)
    found.close()


@pytest.fixture
def bucket(client):
    client.create_bucket(Bucket="bucket")
    return "bucket"


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_objects(client, bucket):
    put = client.put_object(
        Bucket=bucket, Key="a b/\u00fc+~", Body=b"data", Metadata={"k": "v"}, ContentType="text/x"
    )
    assert put["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'
    assert put["ChecksumCRC32"]
    assert put["ChecksumType"] == "FULL_OBJECT"
    got = client.get_object(Bucket=bucket, Key="a b/\u00fc+~")
    assert got["Body"].read() == b"data"
    assert got["Metadata"] == {"k": "v"}
    assert got["ContentType"] == "text/x"
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"]  # boto3 asks for it, and verifies it
    assert client.head_object(Bucket=bucket, Key="a b/\u00fc+~")["ContentLength"] == 4
    part = client.get_object(Bucket=bucket, Key="a b/\u00fc+~", Range="bytes=1-2")
    assert part["Body"].read() == b"at"
    client.delete_object(Bucket=bucket, Key="a b/\u00fc+~")
    missing = refused(client.get_object, Bucket=bucket, Key="a b/\u00fc+~")
    assert missing == (404, "NoSuchKey")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(client, bucket, algorithm):
    for body in (b"", b"x" * 300_000):
        put = client.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
        got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert got["Body"].read() == body
        assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def test_awkward_keys(client, bucket):
    keys = [
        "a",
        "a/b",
        "a/",
        "a//b",
        "/x",
        "..",
        "../y",
        "a/../b",
        "%41",
        "a+b",
        "\u20ac",
        "\n\x01",
    ]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    for name in ("list_objects", "list_objects_v2"):
        listed = getattr(client, name)(Bucket=bucket)["Contents"]
        assert [item["Key"] for item in listed] == sorted(keys, key=str.encode)
    listed = client.list_object_versions(Bucket=bucket)["Versions"]
    assert {item["VersionId"] for item in listed} == {"null"}
    client.delete_object(Bucket=bucket, Key=keys.pop())  # XML, and so DeleteObjects, cannot name it
    deleted = client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]}
    )
    assert [item["Key"] for item in deleted["Deleted"]] == keys


def test_pagination(client, bucket):
    keys = [f"{number % 7}/{number:03d}" for number in range(50)]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    for name in ("list_objects", "list_objects_v2"):
        paginator = client.get_paginator(name)
        pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 9}))
        assert len(pages) == 6
        assert [item["Key"] for page in pages for item in page["Contents"]] == sorted(keys)
        pages = list(
            paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
        )
        found = [group["Prefix"] for page in pages for group in page["CommonPrefixes"]]
        assert found == [f"{number}/" for number in range(7)]


def test_multipart_upload_by_the_transfer_manager(client, bucket, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    client.upload_file(str(source), bucket, "large", Config=config)
    client.download_file(bucket, "large", str(target), Config=config)
    assert target.read_bytes() == LARGE
    head = client.head_object(Bucket=bucket, Key="large", ChecksumMode="ENABLED")
    assert head["ETag"].endswith('-3"')
    assert head["ChecksumCRC32"].endswith("-3") == (head["ChecksumType"] == "COMPOSITE")
    part = client.get_object(Bucket=bucket, Key="large", PartNumber=3)
    assert part["PartsCount"] == 3
    assert part["Body"].read() == LARGE[10 * MIB :]
    client.copy_object(CopySource={"Bucket": bucket, "Key": "large"}, Bucket=bucket, Key="copy")
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == LARGE


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC64NVME", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"), ("SHA256", "COMPOSITE")],
)
def test_multipart_checksums(client, bucket, algorithm, kind):
    names = {"Bucket": bucket, "Key": "key"}
    made = client.create_multipart_upload(**names, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    upload = {**names, "UploadId": made["UploadId"]}
    parts = []
    for number, body in enumerate((LARGE[: 5 * MIB], b"rest"), 1):
        part = client.upload_part(
            **upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
        )
        field = f"Checksum{algorithm}"
        parts.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    assert len(client.list_parts(**upload)["Parts"]) == 2
    done = client.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": parts}, ChecksumType=kind
    )
    assert done["ChecksumType"] == kind
    got = client.get_object(**names, ChecksumMode="ENABLED")
    assert got["Body"].read() == LARGE[: 5 * MIB] + b"rest"
    assert got[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"]


def test_refusals(client, bucket):
    assert refused(client.head_bucket, Bucket="missing")[0] == 404
    client.create_bucket(Bucket=bucket)  # as us-east-1 has it
    assert refused(client.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")
    assert refused(client.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")
    payer = {"Payer": "Requester"}
    refusal = refused(
        client.put_bucket_request_payment, Bucket=bucket, RequestPaymentConfiguration=payer
    )
    assert refusal == (501, "NotImplemented")
    client.head_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"", IfNoneMatch="*")
    again = refused(client.put_object, Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*")
    assert again == (412, "PreconditionFailed")
    assert refused(client.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)


CONFIGURATIONS = [
    (
        "bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        {
            "Rules": [
                {
                    "ID": "old",
                    "Status": "Enabled",
                    "Filter": {"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}},
                    "Expiration": {"Days": 3},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                },
                {
                    "ID": "parts",
                    "Status": "Disabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
                },
            ]
        },
    ),
    (
        "bucket_cors",
        "CORSConfiguration",
        {
            "CORSRules": [
                {
                    "AllowedMethods": ["GET", "PUT"],
                    "AllowedOrigins": ["https://*.example"],
                    "AllowedHeaders": ["*"],
                    "ExposeHeaders": ["ETag"],
                    "MaxAgeSeconds": 5,
                }
            ]
        },
    ),
    ("bucket_tagging", "Tagging", {"TagSet": [{"Key": "a", "Value": "b"}]}),
    (
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        {
            "Rules": [
                {
                    "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
                    "BucketKeyEnabled": False,
                }
            ]
        },
    ),
    (
        "bucket_website",
        "WebsiteConfiguration",
        {
            "IndexDocument": {"Suffix": "index.html"},
            "RoutingRules": [
                {
                    "Condition": {"KeyPrefixEquals": "old/"},
                    "Redirect": {"ReplaceKeyPrefixWith": "new/", "HttpRedirectCode": "302"},
                }
            ],
        },
    ),
    (
        "public_access_block",
        "PublicAccessBlockConfiguration",
        {
            "BlockPublicAcls": True,
            "IgnorePublicAcls": False,
            "BlockPublicPolicy": False,
            "RestrictPublicBuckets": True,
        },
    ),
    (
        "bucket_ownership_controls",
        "OwnershipControls",
        {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
    ),
    (
        "bucket_notification_configuration",
        "NotificationConfiguration",
        {
            "TopicConfigurations": [
                {
                    "Id": "one",
                    "TopicArn": "arn:aws:sns:us-east-1:000000000000:one",
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}},
                }
            ]
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "parameter", "value"), CONFIGURATIONS, ids=[row[0] for row in CONFIGURATIONS]
)
def test_settings_of_a_bucket(client, bucket, name, parameter, value):
    """What a client writes, it reads."""
    getattr(client, f"put_{name}")(Bucket=bucket, **{parameter: value})
    found = getattr(client, f"get_{name}")(Bucket=bucket)
    found = found.get(parameter, found)
    assert {key: found[key] for key in value} == value


def test_bucket_pages(client):
    for number in range(5):
        client.create_bucket(Bucket=f"many-{number}")
    pages = list(
        client.get_paginator("list_buckets").paginate(
            Prefix="many-", PaginationConfig={"PageSize": 2}
        )
    )
    assert len(pages) == 3
    assert sum(len(page["Buckets"]) for page in pages) == 5


def test_presigned(server, client, bucket):
    context = ssl._create_unverified_context()
    names = {"Bucket": bucket, "Key": "a b"}
    url = client.generate_presigned_url("put_object", names)
    assert "AWSAccessKeyId=" in url  # boto3's default away from AWS is still the old signature
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(
            urllib.request.Request(url, b"signed", method="PUT"), context=context
        )
    assert b"Please use AWS4-HMAC-SHA256" in caught.value.read()
    client = connect(server, signature_version="s3v4")
    url = client.generate_presigned_url("put_object", names)
    request = urllib.request.Request(url, b"signed", method="PUT")
    urllib.request.urlopen(request, context=context).close()
    url = client.generate_presigned_url("get_object", {**names, "ResponseContentType": "text/html"})
    with urllib.request.urlopen(url, context=context) as answer:
        assert answer.read() == b"signed"
        assert answer.headers["content-type"] == "text/html"
    client.close()


@pytest.mark.client
@pytest.mark.slow
def test_aws_cli(server, client, bucket, tmp_path):
    program = shutil.which(
        "aws", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("aws, the AWS CLI, is not installed")
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "PYTHONWARNINGS": "ignore",
    }

    def aws(*arguments):
        done = subprocess.run(
            [program, "--endpoint-url", server.endpoint, "--no-verify-ssl", *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "large").write_bytes(LARGE)
    (tree / "sub" / "small file").write_text("small")
    aws("s3", "sync", str(tree), f"s3://{bucket}/tree")
    assert "small file" in aws("s3", "ls", "--recursive", f"s3://{bucket}/tree/")
    aws("s3", "sync", f"s3://{bucket}/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "large").read_bytes() == LARGE
    aws("s3", "mv", f"s3://{bucket}/tree/sub/small file", f"s3://{bucket}/moved")
    assert aws("s3", "cp", f"s3://{bucket}/moved", "-") == "small"
    aws("s3", "rm", "--recursive", f"s3://{bucket}/")
    assert aws("s3", "ls", f"s3://{bucket}/") == ""
