"""Which code and status an error has, and what is told about it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from objectio_api_s3.codes import CODES
from objectio_api_s3.errors import _BY_CLASS, explain, refuse

from objectio import errors
from objectio.testing.api import make_scope


def leaves(kind):
    below = kind.__subclasses__()
    return [kind] if not below else [leaf for sub in below for leaf in leaves(sub)]


def test_every_code_that_a_class_has_is_known():
    assert set(_BY_CLASS.values()) <= set(CODES)


@pytest.mark.parametrize("kind", leaves(errors.StorageError) + leaves(errors.AccessError))
def test_no_storage_or_access_error_is_a_mystery(kind):
    """Only what is our own fault may be an InternalError."""
    if kind in (errors.ChecksumMismatch, errors.NotFound) or "objectio_api_s3" in kind.__module__:
        return
    assert explain(kind("x")).status != 500


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.NotFound(kind="bucket"), 404, "NoSuchBucket"),
        (errors.NotFound(kind="shard"), 500, "InternalError"),
        (errors.NotFound(), 500, "InternalError"),
        (errors.InvalidRequest(reason="EntityTooSmall"), 400, "EntityTooSmall"),
        (errors.InvalidRequest(reason="KeyTooLongError"), 400, "KeyTooLongError"),
        (errors.InvalidRequest(reason="who knows"), 400, "InvalidRequest"),
        (errors.InvalidRequest(), 400, "InvalidRequest"),
        (errors.InsufficientShards(), 503, "SlowDown"),
        (errors.WriteQuorumFailed(), 503, "ServiceUnavailable"),
        (errors.Unavailable(), 503, "ServiceUnavailable"),
        (errors.DeviceFull(), 507, "InsufficientStorage"),
        (errors.ChecksumMismatch(), 500, "InternalError"),
        (errors.PayloadDigestMismatch(digest="md5"), 400, "BadDigest"),
        (errors.PayloadDigestMismatch(digest="sha256-header"), 400, "XAmzContentSHA256Mismatch"),
        (errors.PayloadDigestMismatch(digest="chunk-signature"), 403, "SignatureDoesNotMatch"),
        (errors.SignatureMismatch(), 403, "SignatureDoesNotMatch"),
        (errors.UnknownAccessKey(), 403, "InvalidAccessKeyId"),
        (errors.ClockSkewed(), 403, "RequestTimeTooSkewed"),
        (errors.CredentialsMalformed(), 400, "AuthorizationHeaderMalformed"),
        (errors.PayloadMalformed(reason="MissingContentLength"), 411, "MissingContentLength"),
        (errors.OperationNotImplemented(), 501, "NotImplemented"),
        (errors.MethodNotAllowed(), 405, "MethodNotAllowed"),
        (RuntimeError("x"), 500, "InternalError"),
    ],
    ids=repr,
)
def test_codes(s3, error, status, code):
    assert explain(error)[:2] == (code, status)
    response = s3.front_end.error(error, make_scope("GET", "/b/k"), "R1")
    assert response.status == status
    assert ET.fromstring(response.body).findtext("Code") == code
    headers = dict(response.headers)
    assert (b"retry-after" in headers) == (status == 503)


async def test_a_document(s3, bucket):
    answer = await s3("GET", "/bucket/a%20%3C%26")
    root = ET.fromstring(answer.body)
    tags = [node.tag for node in root if node.tag != "BucketName"]  # a whole store says that too
    assert tags == ["Code", "Message", "Key", "Resource", "RequestId", "HostId"]
    assert root.findtext("Key") == "a <&"
    assert root.findtext("Resource") == "/bucket/a%20%3C%26"
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["x-amz-id-2"] == root.findtext("HostId")
    answer = await s3("GET", "/missing/key")
    assert ET.fromstring(answer.body).findtext("BucketName") == "missing"


def test_refusals_must_have_a_code():
    with pytest.raises(errors.InvalidRequest) as caught:
        refuse("InvalidRange")
    assert explain(caught.value).status == 416


async def test_a_header_sent_twice_is_refused_as_any_other_mistake(s3, bucket):
    headers = [("x-amz-copy-source", "bucket/key"), ("x-amz-copy-source", "bucket/key")]
    assert (await s3.refused("PUT", "/bucket/copy", headers=headers))[0] == 400
