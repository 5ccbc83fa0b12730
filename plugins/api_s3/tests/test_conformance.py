"""The S3 front end is one."""

from __future__ import annotations

import asyncio

import pytest

from objectio.testing.api import FrontEndConformance, Sample

_DELETE = b"<Delete><Object><Key>a</Key></Object></Delete>"
_PARTS = (
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
    b"</CompleteMultipartUpload>"
)


_DOCUMENTS = {
    "accelerate": "AccelerateConfiguration",
    "abac": "AbacStatus",
    "acl": "AccessControlPolicy",
    "cors": "CORSConfiguration",
    "encryption": "ServerSideEncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "logging": "BucketLoggingStatus",
    "notification": "NotificationConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "ownershipControls": "OwnershipControls",
    "policy": "",
    "publicAccessBlock": "PublicAccessBlockConfiguration",
    "requestPayment": "RequestPaymentConfiguration",
    "tagging": "Tagging",
    "versioning": "VersioningConfiguration",
    "website": "WebsiteConfiguration",
}
_DELETABLE = (
    *("cors", "encryption", "lifecycle", "ownershipControls", "policy", "publicAccessBlock"),
    *("replication", "tagging", "website"),
)
_REPORTS = ("analytics", "inventory", "metrics", "intelligent-tiering")


def _configuration():
    """Each operation on a sub-resource of a bucket. The documents are empty: most are refused, and
    only after it is known who may."""
    for name, root in _DOCUMENTS.items():
        yield Sample("GET", f"/present?{name}")
        body = f"<{root}/>".encode() if root else b"{}"
        yield Sample("PUT", f"/present?{name}", body=body)
    yield Sample("GET", "/present?policyStatus")
    yield Sample("GET", "/present?replication")
    for name in _DELETABLE:
        yield Sample("DELETE", f"/present?{name}")
    for name in _REPORTS:
        yield Sample("GET", f"/present?{name}")
        yield Sample("DELETE", f"/present?{name}&id=one")


class TestS3(FrontEndConformance):
    @pytest.fixture
    def front_end(self, objects, make_s3):
        s3 = make_s3(objects)

        async def fill():
            await s3.put("/present", b"")
            await s3.put("/present/a")
            await s3.put("/other", b"")
            await s3.put("/other/source")

        asyncio.run(fill())
        return s3.front_end

    @pytest.fixture
    def samples(self):
        upload = "uploadId=upload0000000001"
        return [
            Sample("GET", "/"),
            Sample("PUT", "/fresh"),
            Sample("HEAD", "/present"),
            Sample("GET", "/present"),
            Sample("GET", "/present?list-type=2"),
            Sample("GET", "/present?versions"),
            Sample("GET", "/present?uploads"),
            Sample("GET", "/present?location"),
            *_configuration(),
            Sample("OPTIONS", "/present/a", {"origin": "https://one"}, public=True),
            Sample("PUT", "/present/b", body=b"data"),
            Sample("PUT", "/present/c", {"x-amz-copy-source": "/other/source"}),
            Sample("PUT", "/present/c", {"x-amz-copy-source": "/other/source?versionId=null"}),
            Sample("GET", "/present/a"),
            Sample("GET", "/present/a?versionId=null"),
            Sample("GET", "/present/a?partNumber=1"),
            Sample("HEAD", "/present/a"),
            Sample("POST", "/present/m?uploads"),
            Sample("PUT", f"/present/m?partNumber=1&{upload}", body=b"data"),
            Sample("GET", f"/present/m?{upload}"),
            Sample("POST", f"/present/m?{upload}", body=_PARTS),
            Sample("DELETE", f"/present/m?{upload}"),
            Sample("POST", "/present?delete", body=_DELETE),
            Sample("DELETE", "/present/a"),
            Sample("DELETE", "/present/a?versionId=null"),
            Sample("DELETE", "/present"),
        ]

    @pytest.fixture
    def unknown(self):
        body = b"<x/>"
        return [
            Sample("DELETE", "/present?acl"),
            Sample("DELETE", "/present?versioning"),
            Sample("PUT", "/present?policyStatus", body=body),
            Sample("POST", "/present?cors", body=body),
            Sample("GET", "/present?policy&acl"),
            Sample("PUT", "/present/a?cors", body=body),
            Sample("OPTIONS", "/"),
            Sample("PUT", "/present/a?tagging", body=body),
            Sample("DELETE", "/present/a?tagging"),
            Sample("PUT", "/present/a?somethingNew", body=body),
            Sample("PUT", "/present/a?some=thing", body=body),
            Sample("GET", "/present/a?somethingNew"),
            Sample("PATCH", "/present/a"),
            Sample("PUT", "/", body=body),
            Sample("DELETE", "/"),
            Sample("POST", "/present/a", body=body),
            Sample("PUT", "/present/a%zz", body=body),
            Sample("PUT", "/present/%ff", body=body),
            Sample("PUT", "/pre%2Fsent", body=body),
            Sample("GET", "//a"),
        ]
