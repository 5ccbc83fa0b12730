"""The S3 front end is one."""

from __future__ import annotations

import asyncio

import pytest

from objectio.abc.api import ANONYMOUS
from objectio.testing.api import NOBODY, FrontEndConformance, Sample

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


_BYPASS = {"x-amz-bypass-governance-retention": "true"}
_LOCKED = {
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
}
_TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
_RETENTION = (
    b"<Retention><Mode>GOVERNANCE</Mode>"
    b"<RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
)
_FORM = (
    b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nform\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ndata\r\n--b--\r\n'
)
_HOLD = b"<LegalHold><Status>ON</Status></LegalHold>"

# What is touched stands in the body, so that the handler asks whether it may.
_LATE = [
    Sample("POST", "/present?delete", body=_DELETE, public=True),
    Sample("PUT", "/present/a?tagging", body=_TAGGING, public=True),
    Sample("PUT", "/present/a?tagging&versionId=null", body=_TAGGING, public=True),
    Sample("PUT", "/present/a?retention", body=_RETENTION, public=True),
    Sample("PUT", "/present/a?retention", _BYPASS, body=_RETENTION, public=True),
    Sample("PUT", "/present/a?legal-hold", body=_HOLD, public=True),
    Sample(
        *("POST", "/present", {"content-type": "multipart/form-data; boundary=b"}),
        body=_FORM,
        public=True,
    ),
]


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
            Sample("GET", "/", public=True),  # of nobody: see test_whose_buckets_are_listed
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
            *_LATE,
            *(
                Sample("GET", f"/present/a?{name}")
                for name in (
                    *("acl", "tagging", "retention", "legal-hold", "acl&versionId=null"),
                    "torrent",
                )
            ),
            Sample("PUT", "/present/a?acl", {"x-amz-acl": "bucket-owner-full-control"}),
            Sample("DELETE", "/present/a?tagging"),
            Sample("DELETE", "/present/a?tagging&versionId=null"),
            Sample("GET", "/present/a?attributes", {"x-amz-object-attributes": "ETag"}),
            Sample("PUT", "/present/d", {"x-amz-tagging": "a=b"}, body=b"data"),
            Sample("PUT", "/present/d", _LOCKED, body=b"data"),
            Sample("POST", "/present/d?uploads", {"x-amz-object-lock-legal-hold": "ON"}),
            Sample(
                *("PUT", f"/present/m?partNumber=2&{upload}"),
                {"x-amz-copy-source": "/other/source"},
            ),
            Sample("DELETE", "/present/b?versionId=null", _BYPASS),
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
            Sample("PUT", "/present/a?torrent", body=body),
            Sample("PUT", "/present/a?renameObject", body=body),
            Sample("DELETE", "/present/a?acl"),
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

    @pytest.mark.parametrize("sample", _LATE, ids=str)
    @pytest.mark.parametrize("identity", [ANONYMOUS, NOBODY], ids=["anonymous", "nobody"])
    async def test_strangers_are_refused_late(self, front_end, objects, sample, identity):
        before = objects.snapshot()
        answer = await self.send(front_end, sample, identity=identity)
        if answer.status == 200:  # each key by itself
            assert "<Code>AccessDenied</Code>" in answer.text
            assert "<Deleted>" not in answer.text
        else:
            assert answer.status == 403
        assert objects.snapshot() == before

    async def test_who_bypasses_retention_must_be_allowed_to(self, front_end, objects):
        before = objects.snapshot()
        for sample in (
            Sample("PUT", "/present/a?retention", _BYPASS, body=_RETENTION),
            Sample("POST", "/present?delete", _BYPASS, body=_DELETE),
            Sample("DELETE", "/present/a?versionId=null", _BYPASS),
        ):
            asked = set()

            def allows(action, resource, asked=asked):
                asked.add((action, resource))
                return action != "s3:BypassGovernanceRetention"

            answer = await self.send(front_end, sample, identity=NOBODY, allows=allows)
            assert answer.status == 403 or "<Code>AccessDenied</Code>" in answer.text
            assert ("s3:BypassGovernanceRetention", "arn:aws:s3:::present/a") in asked
        assert objects.snapshot() == before
