"""Buckets: their names, life, location and listing."""

from __future__ import annotations

import pytest

from objectio.abc.api import ANONYMOUS, Account, Identity

OTHER = Identity("other", "arn:aws:iam::000000000000:user/other", "OTHERKEY", is_root=True)


async def test_life(s3):
    answer = await s3.put("/first", b"")
    assert answer.headers["location"] == "/first"
    assert (await s3("HEAD", "/first")).headers["x-amz-bucket-region"] == "us-east-1"
    assert (await s3("DELETE", "/first")).status == 204
    answer = await s3("HEAD", "/first")
    assert (answer.status, answer.body) == (404, b"")
    assert await s3.refused("GET", "/first") == (404, "NoSuchBucket")
    assert await s3.refused("DELETE", "/first") == (404, "NoSuchBucket")


async def test_it_exists_already(s3, bucket):
    """us-east-1 lets the owner make the same bucket again."""
    await s3.put("/bucket/key")
    await s3.put("/bucket", b"")
    assert (await s3.get("/bucket/key")).status == 200
    refused = await s3.refused("PUT", "/bucket", identity=OTHER)
    assert refused == (409, "BucketAlreadyExists")


async def test_it_exists_already_elsewhere(objects, make_s3):
    s3 = make_s3(objects, region="eu-north-1")
    await s3.put("/bucket", b"")
    assert await s3.refused("PUT", "/bucket") == (409, "BucketAlreadyOwnedByYou")


async def test_it_exists_already_with_another_acl_or_lock(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    open_, locked = {"x-amz-acl": "public-read"}, {"x-amz-bucket-object-lock-enabled": "true"}
    await s3.put("/private", b"")
    assert await s3.refused("PUT", "/private", headers=open_) == (409, "BucketAlreadyExists")
    assert await s3.refused("PUT", "/private", headers=locked) == (409, "BucketAlreadyExists")
    await s3.put("/public", b"", open_)
    assert await s3.refused("PUT", "/public") == (409, "BucketAlreadyExists")
    await s3.put("/public", b"", open_)


async def test_a_full_bucket_stays(s3, bucket):
    await s3.put("/bucket/key")
    assert await s3.refused("DELETE", "/bucket") == (409, "BucketNotEmpty")
    await s3("POST", "/bucket/key?uploads")
    assert await s3.refused("DELETE", "/bucket") == (409, "BucketNotEmpty")


async def test_unfinished_uploads_keep_no_bucket(s3, bucket):
    for _ in range(3):
        assert (await s3("POST", "/bucket/key?uploads")).status == 200
    assert (await s3("DELETE", "/bucket")).status == 204
    assert (await s3("GET", "/bucket")).status == 404


@pytest.mark.parametrize(
    "name",
    [
        *("ab", "a" * 64, "Upper", "under_score", "-a-", "a-", ".ab", "a..b", "ab."),
        *("a.-b", "a-.b"),
        *("192.168.5.4", "1.2.3.4", "xn--abc", "sthree-x", "abc-s3alias", "abc--ol-s3"),
    ],
)
async def test_names_that_s3_refuses(s3, name):
    assert await s3.refused("PUT", f"/{name}") == (400, "InvalidBucketName")
    assert not s3.objects.snapshot()


@pytest.mark.parametrize("name", ["abc", "a" * 63, "1.2.3", "a.b-c", "0-0", "1.2.3.4.5"])
async def test_names_that_s3_takes(s3, name):
    await s3.put(f"/{name}", b"")


def configuration(region):
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


async def test_location(objects, make_s3):
    here = make_s3(objects, region="eu-north-1")
    await here.put("/here", configuration("eu-north-1"))
    refused = await here.refused("PUT", "/there", body=configuration("us-west-2"))
    assert refused == (400, "InvalidLocationConstraint")
    document = await here.document("/here?location")
    assert (document.name, document.root.text) == ("LocationConstraint", "eu-north-1")
    # us-east-1 is answered as nothing, unless it was named.
    named = make_s3(objects)
    await named.put("/named", configuration("us-east-1"))
    assert (await named.document("/named?location")).root.text == "us-east-1"
    default = make_s3(objects)
    await default.put("/default", b"")
    document = await default.document("/default?location")
    assert (document.name, document.root.text) == ("LocationConstraint", None)
    assert await default.refused("GET", "/missing?location") == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    "body",
    [
        b"<x",
        b"<Other/>",
        b"<CreateBucketConfiguration><Bucket><Type>Directory</Type></Bucket>"
        b"</CreateBucketConfiguration>",
    ],
)
async def test_configurations_that_are_refused(s3, body):
    status, _ = await s3.refused("PUT", "/fresh", body=body)
    assert status == 400
    assert not s3.objects.snapshot()


class Accounts:
    def by_canonical_id(self, canonical_id):
        return Account("111111111111", canonical_id, "one")


async def test_the_expected_owner_may_be_named_by_account(objects, make_s3):
    s3 = make_s3(objects, directory=Accounts())
    await s3.put("/bucket", b"")
    for name, status in (("111111111111", 200), ("root", 200), ("222222222222", 403)):
        headers = {"x-amz-expected-bucket-owner": name}
        assert (await s3("HEAD", "/bucket", headers=headers)).status == status


async def test_who_is_refused_learns_the_region(objects, make_s3):
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    answer = await s3("HEAD", "/bucket", identity=ANONYMOUS)
    assert (answer.status, answer.headers["x-amz-bucket-region"]) == (403, "us-east-1")
    answer = await s3("HEAD", "/bucket/key", identity=ANONYMOUS)
    assert "x-amz-bucket-region" not in answer.headers


async def test_expected_owner(s3, bucket):
    await s3.put("/bucket/key")
    for method, path in (
        ("GET", "/bucket"),
        ("HEAD", "/bucket"),
        ("GET", "/bucket/key"),
        ("PUT", "/bucket/key"),
        ("DELETE", "/bucket/key"),
        ("DELETE", "/bucket"),
        ("POST", "/bucket/key?uploads"),
        ("GET", "/bucket?versions"),
    ):
        answer = await s3(method, path, headers={"x-amz-expected-bucket-owner": "someone"})
        assert answer.status == 403, (method, path)
    answer = await s3("GET", "/bucket/key", headers={"x-amz-expected-bucket-owner": "root"})
    assert answer.status == 200


async def test_what_is_created_with_a_bucket(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    body = (
        b"<CreateBucketConfiguration><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
        b"</CreateBucketConfiguration>"
    )
    headers = {
        "x-amz-bucket-object-lock-enabled": "true",
        "x-amz-object-ownership": "BucketOwnerPreferred",
        "x-amz-grant-read": 'id="root", uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    }
    await s3.put("/whole", body, headers)
    assert (await s3.document("/whole?versioning")).one("Status") == "Enabled"
    assert (await s3.document("/whole?object-lock")).one("ObjectLockEnabled") == "Enabled"
    ownership = await s3.document("/whole?ownershipControls")
    assert ownership.one("Rule/ObjectOwnership") == "BucketOwnerPreferred"
    granted = (await s3.document("/whole?acl")).all("AccessControlList/Grant/Permission")
    assert granted == ["READ", "READ"]
    assert (await s3.document("/whole?tagging")).all("TagSet/Tag/Key") == ["a"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-acl": "public-read"}, "InvalidBucketAclWithObjectOwnership"),
        ({"x-amz-acl": "nonsense"}, "InvalidArgument"),
        ({"x-amz-object-ownership": "Nobody"}, "InvalidArgument"),
        ({"x-amz-bucket-object-lock-enabled": "maybe"}, "InvalidArgument"),
        ({"x-amz-grant-read": "id=unknown"}, "InvalidArgument"),
    ],
)
async def test_headers_of_a_new_bucket_that_are_refused(s3, headers, code):
    assert await s3.refused("PUT", "/fresh", headers=headers) == (400, code)
    assert not s3.objects.snapshot()


@pytest.mark.parametrize(
    ("headers", "action"),
    [
        ({"x-amz-acl": "public-read"}, "s3:PutBucketAcl"),
        ({"x-amz-grant-read": "id=root"}, "s3:PutBucketAcl"),
        ({"x-amz-object-ownership": "ObjectWriter"}, "s3:PutBucketOwnershipControls"),
        ({"x-amz-bucket-object-lock-enabled": "true"}, "s3:PutBucketVersioning"),
        ({"x-amz-bucket-object-lock-enabled": "True"}, "s3:PutBucketObjectLockConfiguration"),
    ],
)
async def test_what_headers_of_a_new_bucket_want(objects, make_s3, headers, action):
    s3 = make_s3(objects, object_ownership="ObjectWriter")

    def allows(wanted, resource):
        return wanted != action

    refused = await s3.refused("PUT", "/fresh", headers=headers, identity=OTHER, allows=allows)
    assert refused == (403, "AccessDenied")
    assert not objects.snapshot()
    idle = {"x-amz-acl": "private", "x-amz-bucket-object-lock-enabled": "false"}
    await s3.put("/fresh", b"", idle, identity=OTHER, allows=allows)


async def test_a_private_acl_is_none(s3):
    await s3.put("/bucket", b"", {"x-amz-acl": "private"})
    shown = await s3.document("/bucket?ownershipControls")
    assert shown.one("Rule/ObjectOwnership") == "BucketOwnerEnforced"


async def test_list(s3):
    empty = await s3.document("/")
    assert (empty.name, empty.count("Buckets/Bucket")) == ("ListAllMyBucketsResult", 0)
    for name in ("bbb", "aaa", "abc", "ccc"):
        await s3.put(f"/{name}", b"")
    document = await s3.document("/")
    assert document.all("Buckets/Bucket/Name") == ["aaa", "abc", "bbb", "ccc"]
    assert document.all("Buckets/Bucket/BucketRegion") == ["us-east-1"] * 4
    assert document.one("Owner/ID") == "root"
    assert document.one("ContinuationToken") is None
    assert document.one("Buckets/Bucket/CreationDate").endswith("Z")
    document = await s3.document("/?prefix=a")
    assert document.all("Buckets/Bucket/Name") == ["aaa", "abc"]
    assert document.one("Prefix") == "a"
    document = await s3.document("/?bucket-region=eu-west-1")
    assert document.all("Buckets/Bucket/Name") == []


async def test_whose_buckets_are_listed(objects, make_s3):
    s3 = make_s3(objects)
    await s3.put("/ours", b"")
    nobody = await s3.document("/", identity=ANONYMOUS)
    assert nobody.count("Buckets/Bucket") == 0
    someone = Identity("a", "arn:aws:iam::111111111111:root", "KEY", canonical_id="a" * 64)
    assert await s3.refused("GET", "/", identity=someone) == (403, "AccessDenied")

    def allows(action, resource):
        return (action, resource) == ("s3:ListAllMyBuckets", "arn:aws:s3:::*")

    theirs = await s3.document("/", identity=someone, allows=allows)
    assert theirs.count("Buckets/Bucket") == 0
    assert theirs.one("Owner/ID") == "a" * 64


async def test_list_by_pages(s3):
    names = [f"bucket-{number:02d}" for number in range(7)]
    for name in names:
        await s3.put(f"/{name}", b"")
    found, query = [], ""
    for _ in range(10):
        document = await s3.document(f"/?max-buckets=3{query}")
        found += document.all("Buckets/Bucket/Name")
        token = document.one("ContinuationToken")
        if token is None:
            break
        query = f"&continuation-token={token}"
    assert found == names


@pytest.mark.parametrize(
    "query", ["max-buckets=0", "max-buckets=x", "continuation-token=bbb", "prefix=%ff"]
)
async def test_list_with_nonsense(s3, query):
    assert await s3.refused("GET", f"/?{query}") == (400, "InvalidArgument")
