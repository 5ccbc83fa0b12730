"""What a receiver is told of each S3 call that changes a bucket."""

from __future__ import annotations

import time
from urllib.parse import unquote_plus

import pytest

from objectio.testing.receiver import receiving

for needed in ("objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

TARGET = "arn:aws:sns:us-east-1:000000000000:hook"
KEY = "a b/é+.jpg"
BUCKET = {"Bucket": "told-bucket"}
ONE = {**BUCKET, "Key": KEY}


@pytest.fixture
def receiver():
    with receiving() as each:
        yield each


@pytest.fixture
def s3(start, connect, receiver):
    hook = f"[{{arn = {TARGET!r}, url = {receiver.url!r}}}]"
    client = connect(start(settings={"sinks.webhook.target": hook}))
    client.create_bucket(**BUCKET)
    wanted = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put"]
    filters = [{"Name": "prefix", "Value": "a b/"}, {"Name": "suffix", "Value": ".jpg"}]
    client.put_bucket_notification_configuration(
        **BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": "rule",
                    "QueueArn": TARGET,
                    "Events": wanted,
                    "Filter": {"Key": {"FilterRules": filters}},
                }
            ]
        },
    )
    return client


def told(receiver, count):
    deadline = time.monotonic() + 30
    while len(receiver.records) < count:
        assert time.monotonic() < deadline, receiver.records
        time.sleep(0.02)
    return [(each["eventName"], each["s3"]["object"]) for each in receiver.records]


def test_each_call(s3, receiver):
    put = s3.put_object(**ONE, Body=b"12345")
    s3.put_object(**BUCKET, Key="elsewhere.jpg", Body=b"1")
    s3.copy_object(**BUCKET, Key="a b/copy.jpg", CopySource=ONE)
    upload = s3.create_multipart_upload(**ONE)["UploadId"]
    part = s3.upload_part(**ONE, UploadId=upload, PartNumber=1, Body=b"123456")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**ONE, UploadId=upload, MultipartUpload=parts)
    s3.put_object_tagging(**ONE, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    s3.delete_object_tagging(**ONE)
    s3.delete_object(**ONE)
    s3.delete_object(**ONE)  # there is nothing to tell
    s3.delete_objects(**BUCKET, Delete={"Objects": [{"Key": "a b/copy.jpg"}]})
    got = told(receiver, 7)
    assert [name for name, _ in got] == [
        "ObjectCreated:Put",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "ObjectRemoved:Delete",
        "ObjectRemoved:Delete",
    ]
    first = got[0][1]
    assert unquote_plus(first["key"]) == KEY
    assert (first["size"], first["eTag"]) == (5, put["ETag"].strip('"'))
    assert "versionId" not in first
    record = receiver.records[0]
    assert record["s3"]["configurationId"] == "rule"
    assert record["requestParameters"]["sourceIPAddress"] == "127.0.0.1"
    assert record["userIdentity"]["principalId"]
    request_id = put["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
    assert record["responseElements"]["x-amz-request-id"] == request_id
    of_key = [each["sequencer"] for _, each in got if unquote_plus(each["key"]) == KEY]
    assert of_key == sorted(of_key)
    assert len(set(of_key)) == len(of_key)


def test_versions(s3, receiver):
    s3.put_bucket_versioning(**BUCKET, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(**ONE, Body=b"1")["VersionId"]
    marker = s3.delete_object(**ONE)["VersionId"]
    s3.delete_object(**ONE, VersionId=marker)
    s3.delete_object(**ONE, VersionId=version)
    assert [(name, each["versionId"]) for name, each in told(receiver, 4)] == [
        ("ObjectCreated:Put", version),
        ("ObjectRemoved:DeleteMarkerCreated", marker),
        ("ObjectRemoved:Delete", marker),
        ("ObjectRemoved:Delete", version),
    ]
