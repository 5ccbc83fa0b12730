"""Retention and legal holds, and ACLs of objects."""

from __future__ import annotations

import pytest
from objectio_api_s3 import locks

from objectio.errors import AccessDenied
from objectio.model.bucket import Retention

LATER, MUCH_LATER = "2098-01-01T00:00:00Z", "2099-01-01T00:00:00.500Z"
BYPASS = {"x-amz-bypass-governance-retention": "true"}
HOLD = b"<LegalHold><Status>%s</Status></LegalHold>"


def retention(mode, until):
    return (
        f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
    ).encode()


@pytest.fixture
async def locked(s3):
    await s3.put("/bucket", b"", {"x-amz-bucket-object-lock-enabled": "true"})
    return (await s3.put("/bucket/key")).headers["x-amz-version-id"]


async def test_retention(s3, locked):
    refused = await s3.refused("GET", "/bucket/key?retention")
    assert refused == (404, "NoSuchObjectLockConfiguration")
    body = retention("GOVERNANCE", MUCH_LATER)
    answer = await s3("PUT", "/bucket/key?retention", body=body)
    assert (answer.status, answer.headers["x-amz-version-id"]) == (200, locked)
    shown = await s3.document("/bucket/key?retention")
    assert (shown.one("Mode"), shown.one("RetainUntilDate")) == ("GOVERNANCE", MUCH_LATER)
    head = (await s3("HEAD", "/bucket/key")).headers
    assert head["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert head["x-amz-object-lock-retain-until-date"] == MUCH_LATER
    path = f"/bucket/key?versionId={locked}"
    assert await s3.refused("DELETE", path) == (403, "AccessDenied")
    shorter = retention("GOVERNANCE", LATER)
    refused = await s3.refused("PUT", "/bucket/key?retention", body=shorter)
    assert refused == (403, "AccessDenied")
    answer = await s3("PUT", "/bucket/key?retention", body=shorter, headers=BYPASS)
    assert answer.status == 200
    assert (await s3("DELETE", "/bucket/key")).status == 204  # a marker on top harms nothing
    assert (await s3("DELETE", path, headers=BYPASS)).status == 204
    assert await s3.refused("GET", path) == (404, "NoSuchVersion")


async def test_governance_can_be_taken_away(s3, locked):
    body = retention("GOVERNANCE", LATER)
    assert (await s3("PUT", "/bucket/key?retention", body=body)).status == 200
    empty = {"body": b"<Retention/>"}
    refused = await s3.refused("PUT", "/bucket/key?retention", **empty)
    assert refused == (403, "AccessDenied")
    assert (await s3("PUT", "/bucket/key?retention", headers=BYPASS, **empty)).status == 200
    assert (await s3("DELETE", f"/bucket/key?versionId={locked}")).status == 204


async def test_legal_hold(s3, locked):
    assert (await s3.document("/bucket/key?legal-hold")).one("Status") == "OFF"
    assert (await s3("PUT", "/bucket/key?legal-hold", body=HOLD % b"ON")).status == 200
    assert (await s3.document("/bucket/key?legal-hold")).one("Status") == "ON"
    assert (await s3.get("/bucket/key")).headers["x-amz-object-lock-legal-hold"] == "ON"
    path = f"/bucket/key?versionId={locked}"
    assert await s3.refused("DELETE", path, headers=BYPASS) == (403, "AccessDenied")
    assert (await s3("PUT", "/bucket/key?legal-hold", body=HOLD % b"OFF")).status == 200
    assert (await s3("DELETE", path)).status == 204


async def test_locks_of_a_write(s3, locked):
    headers = {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": LATER,
        "x-amz-object-lock-legal-hold": "ON",
    }
    version = (await s3.put("/bucket/new", b"data", headers)).headers["x-amz-version-id"]
    head = (await s3("HEAD", "/bucket/new")).headers
    assert head["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert head["x-amz-object-lock-legal-hold"] == "ON"
    assert (await s3("PUT", "/bucket/new?legal-hold", body=HOLD % b"OFF")).status == 200
    assert (await s3("DELETE", f"/bucket/new?versionId={version}", headers=BYPASS)).status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-object-lock-retain-until-date": LATER},
        {"x-amz-object-lock-mode": "FREE", "x-amz-object-lock-retain-until-date": LATER},
        {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "soon"},
        {
            "x-amz-object-lock-mode": "GOVERNANCE",
            "x-amz-object-lock-retain-until-date": "2001-01-01T00:00:00Z",
        },
        {"x-amz-object-lock-legal-hold": "MAYBE"},
    ],
)
async def test_headers_that_are_refused(s3, locked, headers):
    refused = await s3.refused("PUT", "/bucket/new", headers=headers)
    assert refused == (400, "InvalidArgument")
    refused = await s3.refused("POST", "/bucket/new?uploads", headers=headers)
    assert refused == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("retention", b""),
        ("retention", retention("governance", LATER)),
        ("retention", b"<Retention><Mode>GOVERNANCE</Mode></Retention>"),
        ("legal-hold", HOLD % b"on"),
        ("legal-hold", b"<LegalHold/>"),
    ],
)
async def test_documents_that_are_refused(s3, locked, name, body):
    refused = await s3.refused("PUT", f"/bucket/key?{name}", body=body)
    assert refused == (400, "MalformedXML")


async def test_a_bucket_without_locks(s3):
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key")
    for name, body in (("retention", retention("GOVERNANCE", LATER)), ("legal-hold", HOLD % b"ON")):
        path = f"/bucket/key?{name}"
        assert await s3.refused("PUT", path, body=body) == (400, "InvalidRequest")
        assert await s3.refused("GET", path) == (400, "InvalidRequest")
    headers = {"x-amz-object-lock-legal-hold": "ON"}
    refused = await s3.refused("PUT", "/bucket/key", headers=headers)
    assert refused == (400, "InvalidRequest")


def kept(mode, hours):
    """Made when the tests are collected, which may be long before one is run."""
    return Retention(mode=mode, until_ms=locks.now_ms() + hours * 3_600_000)


@pytest.mark.parametrize(
    ("old", "new", "bypass", "allowed"),
    [
        (None, kept("COMPLIANCE", 100), False, True),
        (None, None, False, True),
        (kept("COMPLIANCE", 100), kept("COMPLIANCE", 200), False, True),
        (kept("COMPLIANCE", 100), kept("COMPLIANCE", 50), True, False),
        (kept("COMPLIANCE", 100), kept("GOVERNANCE", 200), True, False),
        (kept("COMPLIANCE", 100), None, True, False),
        (kept("COMPLIANCE", -1), None, False, True),
        (kept("GOVERNANCE", 100), kept("GOVERNANCE", 200), False, True),
        (kept("GOVERNANCE", 100), kept("GOVERNANCE", 50), False, False),
        (kept("GOVERNANCE", 100), kept("GOVERNANCE", 50), True, True),
        (kept("GOVERNANCE", 100), kept("COMPLIANCE", 200), False, False),
        (kept("GOVERNANCE", 100), kept("COMPLIANCE", 200), True, True),
        (kept("GOVERNANCE", 100), None, False, False),
        (kept("GOVERNANCE", 100), None, True, True),
    ],
)
def test_who_may_change_what(old, new, bypass, allowed):
    if allowed:
        locks.check_change(old, new, bypass=bypass)
    else:
        with pytest.raises(AccessDenied):
            locks.check_change(old, new, bypass=bypass)


OWNER = "<Owner><ID>root</ID></Owner>"


async def test_acls_of_objects(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key", b"data", {"x-amz-acl": "public-read"})
    shown = await s3.document("/bucket/key?acl")
    assert shown.all("AccessControlList/Grant/Permission") == ["READ", "FULL_CONTROL"]
    answer = await s3("PUT", "/bucket/key?acl", headers={"x-amz-acl": "private"})
    assert answer.status == 200
    shown = await s3.document("/bucket/key?acl")
    assert shown.all("AccessControlList/Grant/Permission") == ["FULL_CONTROL"]
    body = f"<AccessControlPolicy>{OWNER}<AccessControlList/></AccessControlPolicy>".encode()
    assert (await s3("PUT", "/bucket/key?acl", body=body)).status == 200
    assert (await s3.document("/bucket/key?acl")).count("AccessControlList/Grant") == 0
    assert await s3.refused("PUT", "/bucket/key?acl") == (400, "MissingSecurityHeader")
    both = {"x-amz-acl": "private"}
    refused = await s3.refused("PUT", "/bucket/key?acl", headers=both, body=body)
    assert refused == (400, "UnexpectedContent")
    refused = await s3.refused("PUT", "/bucket/none?acl", headers=both)
    assert refused == (404, "NoSuchKey")


async def test_where_acls_are_disabled(s3, bucket):
    await s3.put("/bucket/key", b"data", {"x-amz-acl": "bucket-owner-full-control"})
    await s3.put("/bucket/key", b"data", {"x-amz-acl": "private"})  # which is the same here
    shown = await s3.document("/bucket/key?acl")
    assert shown.all("AccessControlList/Grant/Permission") == ["FULL_CONTROL"]
    for value in ("public-read", "private"):
        headers = {"x-amz-acl": value}
        refused = await s3.refused("PUT", "/bucket/key?acl", headers=headers)
        assert refused == (400, "AccessControlListNotSupported")
    for method, path in (("PUT", "/bucket/key"), ("POST", "/bucket/key?uploads")):
        refused = await s3.refused(method, path, headers={"x-amz-acl": "public-read"})
        assert refused == (400, "AccessControlListNotSupported")


async def test_public_acls_are_blocked(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    await s3.put("/bucket", b"")
    await s3.put("/bucket/key")
    body = (
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>"
        b"</PublicAccessBlockConfiguration>"
    )
    await s3.put("/bucket?publicAccessBlock", body)
    for value in ("public-read", "public-read-write", "authenticated-read"):
        headers = {"x-amz-acl": value}
        assert await s3.refused("PUT", "/bucket/new", headers=headers) == (403, "AccessDenied")
        refused = await s3.refused("PUT", "/bucket/key?acl", headers=headers)
        assert refused == (403, "AccessDenied")
    await s3.put("/bucket/new", b"", {"x-amz-acl": "private"})
