"""What each operation asks of policies: action, resource, version, further actions, condition keys."""

from __future__ import annotations

import pytest

from objectio.testing.api import encode_headers, make_scope

OBJECT = "arn:aws:s3:::bucket/key"
SOURCE = "arn:aws:s3:::other/source"


def classify(make_s3, objects, method, path, **headers):
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    front_end = make_s3(objects).front_end
    return front_end.classify(make_scope(method, path, encode_headers(pairs)))


@pytest.mark.parametrize(
    ("method", "path", "action", "version_id"),
    [
        ("GET", "/bucket/key", "GetObject", None),
        ("HEAD", "/bucket/key?versionId=v", "GetObjectVersion", "v"),
        ("DELETE", "/bucket/key", "DeleteObject", None),
        ("DELETE", "/bucket/key?versionId=v", "DeleteObjectVersion", "v"),
        ("GET", "/bucket/key?acl", "GetObjectAcl", None),
        ("PUT", "/bucket/key?acl&versionId=v", "PutObjectVersionAcl", "v"),
        ("GET", "/bucket/key?tagging&versionId=v", "GetObjectVersionTagging", "v"),
        ("PUT", "/bucket/key?tagging", "PutObjectTagging", None),
        ("DELETE", "/bucket/key?tagging&versionId=v", "DeleteObjectVersionTagging", "v"),
        ("GET", "/bucket/key?retention&versionId=v", "GetObjectRetention", "v"),
        ("PUT", "/bucket/key?legal-hold", "PutObjectLegalHold", None),
        ("GET", "/bucket/key?attributes&versionId=v", "GetObjectVersionAttributes", "v"),
        ("POST", "/bucket/key?uploads", "PutObject", None),
        ("PUT", "/bucket/key?uploadId=u&partNumber=1", "PutObject", None),
        ("POST", "/bucket/key?uploadId=u", "PutObject", None),
        ("DELETE", "/bucket/key?uploadId=u", "AbortMultipartUpload", None),
        ("GET", "/bucket/key?uploadId=u", "ListMultipartUploadParts", None),
    ],
)
def test_actions(make_s3, objects, method, path, action, version_id):
    access = classify(make_s3, objects, method, path)
    assert (access.action, access.resource) == (f"s3:{action}", OBJECT)
    assert access.version_id == version_id


@pytest.mark.parametrize(
    ("method", "path", "headers", "wanted"),
    [
        ("PUT", "/bucket/key", {"x_amz_tagging": "a=b"}, [("PutObjectTagging", OBJECT)]),
        ("PUT", "/bucket/key", {"x_amz_tagging": ""}, []),
        ("POST", "/bucket/key?uploads", {"x_amz_tagging": "a=b"}, [("PutObjectTagging", OBJECT)]),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_object_lock_mode": "GOVERNANCE", "x_amz_object_lock_legal_hold": "OFF"},
            [("PutObjectRetention", OBJECT), ("PutObjectLegalHold", OBJECT)],
        ),
        (
            *("DELETE", "/bucket/key?versionId=v"),
            {"x_amz_bypass_governance_retention": "TRUE"},
            [("BypassGovernanceRetention", OBJECT)],
        ),
        (
            *("DELETE", "/bucket/key?versionId=v"),
            {"x_amz_bypass_governance_retention": "false"},
            [],
        ),
        ("GET", "/bucket/key?attributes", {}, [("GetObject", OBJECT)]),
        ("GET", "/bucket/key?attributes&versionId=v", {}, [("GetObjectVersion", OBJECT)]),
        ("PUT", "/bucket/key", {"x_amz_copy_source": "other/source"}, [("GetObject", SOURCE)]),
        (
            *("PUT", "/bucket/key?uploadId=u&partNumber=1"),
            {"x_amz_copy_source": "/other/source?versionId=v"},
            [("GetObjectVersion", SOURCE)],
        ),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_copy_source": "other/source", "x_amz_tagging": "a=b"},
            [("GetObject", SOURCE), ("PutObjectTagging", OBJECT)],
        ),
    ],
)
def test_further_actions(make_s3, objects, method, path, headers, wanted):
    access = classify(make_s3, objects, method, path, **headers)
    found = [(each.action.removeprefix("s3:"), each.resource) for each in access.also]
    assert found == wanted


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/bucket/key", {}, {}),
        ("GET", "/bucket/key?versionId=v", {}, {"s3:VersionId": ("v",)}),
        (
            *("GET", "/bucket?prefix=a%2F&delimiter=/&max-keys=7", {}),
            {"s3:prefix": ("a/",), "s3:delimiter": ("/",), "s3:max-keys": ("7",)},
        ),
        ("GET", "/bucket?list-type=2&prefix=", {}, {"s3:prefix": ("",)}),
        ("GET", "/bucket?versions&prefix=x", {}, {"s3:prefix": ("x",)}),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_acl": "public-read", "x_amz_storage_class": "STANDARD"},
            {"s3:x-amz-acl": ("public-read",), "s3:x-amz-storage-class": ("STANDARD",)},
        ),
        (
            *("PUT", "/bucket/key?x-amz-acl=public-read", {}),  # presigned
            {"s3:x-amz-acl": ("public-read",)},
        ),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_grant_full_control": "id=x"},
            {"s3:x-amz-grant-full-control": ("id=x",)},
        ),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_tagging": "a=1&b=2"},
            {
                "s3:RequestObjectTag/a": ("1",),
                "s3:RequestObjectTag/b": ("2",),
                "s3:RequestObjectTagKeys": ("a", "b"),
            },
        ),
        (
            *("PUT", "/bucket/key"),
            {
                "x_amz_server_side_encryption": "aws:kms",
                "x_amz_server_side_encryption_aws_kms_key_id": "k",
            },
            {
                "s3:x-amz-server-side-encryption": ("aws:kms",),
                "s3:x-amz-server-side-encryption-aws-kms-key-id": ("k",),
            },
        ),
        (
            *("PUT", "/bucket/key"),
            {"x_amz_copy_source": "/other/%73ource", "x_amz_metadata_directive": "COPY"},
            {
                "s3:x-amz-copy-source": ("other/source",),
                "s3:x-amz-metadata-directive": ("COPY",),
            },
        ),
        ("PUT", "/bucket/key", {"if_none_match": "*"}, {"s3:if-none-match": ("*",)}),
    ],
)
def test_condition_keys(make_s3, objects, method, path, headers, expected):
    access = classify(make_s3, objects, method, path, **headers)
    assert access.conditions is not None
    assert dict(access.conditions()) == expected


def test_condition_keys_of_locks(make_s3, objects):
    access = classify(
        *(make_s3, objects, "PUT", "/bucket/key"),
        x_amz_object_lock_mode="COMPLIANCE",
        x_amz_object_lock_retain_until_date="2099-01-01T00:00:00Z",
    )
    found = access.conditions()
    assert found["s3:object-lock-mode"] == ("COMPLIANCE",)
    assert int(found["s3:object-lock-remaining-retention-days"][0]) > 10_000


async def test_tags_in_documents_are_shown_to_policies(make_s3, objects):
    """What is to be set is asked about with its values."""
    from objectio.testing.api import NOBODY

    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key")
    asked = []

    def allows(action, resource):
        asked.append((action, resource))
        return True

    body = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    for path in ("/bucket/key?tagging", "/bucket/key?tagging&versionId=null"):
        answer = await s3("PUT", path, body=body, identity=NOBODY, allows=allows)
        assert answer.status == 200
    assert asked == [
        ("s3:PutObjectTagging", OBJECT),
        ("s3:PutObjectVersionTagging", OBJECT),
    ]


async def test_tags_are_copied_by_who_may_read_and_write_them(make_s3, objects):
    from objectio.testing.api import NOBODY

    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    await s3.put("/other", b"")
    await s3.put("/other/source", b"data", {"x-amz-tagging": "a=b"})
    source = {"x-amz-copy-source": "other/source"}
    for denied in (("s3:GetObjectTagging", SOURCE), ("s3:PutObjectTagging", OBJECT)):

        def allows(action, resource, denied=denied):
            return (action, resource) != denied

        more = {"identity": NOBODY, "allows": allows}
        assert (await s3("PUT", "/bucket/key", headers=source, **more)).status == 403
        replaced = {**source, "x-amz-tagging-directive": "REPLACE"}
        assert (await s3("PUT", "/bucket/key", headers=replaced, **more)).status == 200


async def test_locks_and_tags_are_told_to_who_may_know(make_s3, objects):
    from objectio.testing.api import NOBODY

    s3 = make_s3(objects)
    await s3.put("/bucket", b"", {"x-amz-bucket-object-lock-enabled": "true"})
    headers = {
        "x-amz-tagging": "a=b",
        "x-amz-object-lock-legal-hold": "ON",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
    }
    await s3.put("/bucket/key", b"data", headers)
    told = {
        "s3:GetObjectTagging": "x-amz-tagging-count",
        "s3:GetObjectLegalHold": "x-amz-object-lock-legal-hold",
        "s3:GetObjectRetention": "x-amz-object-lock-mode",
    }
    for denied, header in told.items():

        def allows(action, resource, denied=denied):
            return action != denied

        for method in ("GET", "HEAD"):
            answer = await s3(method, "/bucket/key", identity=NOBODY, allows=allows)
            assert answer.status == 200
            assert {name for name in told.values() if name in answer.headers} == (
                set(told.values()) - {header}
            )
