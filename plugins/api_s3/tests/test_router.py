"""What is not built is refused, and changes nothing."""

from __future__ import annotations

import itertools
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objectio_api_s3 import router

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
LEVELS = {router.SERVICE: "/", router.BUCKET: "/bucket", router.OBJECT: "/bucket/key"}

KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200).filter(
    lambda key: len(key.encode()) <= 1024
)


def unbuilt():
    singles = [(name,) for name in sorted(router.SUBRESOURCES)]
    pairs = [
        *itertools.combinations(("acl", "uploadId", "partNumber", "uploads", "delete", "policy"), 2)
    ]
    for method, level in itertools.product(METHODS, LEVELS):
        for names in singles + pairs:
            if (method, level, frozenset(names)) not in router.IMPLEMENTED:
                yield method, level, names


async def test_every_unbuilt_subresource_is_refused(s3, bucket):
    await s3.put("/bucket/key")
    before = s3.objects.snapshot()
    cases = list(unbuilt())
    assert len(cases) > 500
    for method, level, names in cases:
        for query in ("&".join(names), "&".join(f"{name}=1" for name in names)):
            answer = await s3(method, f"{LEVELS[level]}?{query}", body=b"<x/>")
            assert answer.status == 501, (method, level, query, answer)
            if method != "HEAD":
                assert s3.code(answer) == "NotImplemented"
    assert s3.objects.snapshot() == before


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_change_with_an_unknown_parameter_is_refused(s3, bucket, method):
    await s3.put("/bucket/key")
    before = s3.objects.snapshot()
    for path in ("/bucket", "/bucket/key"):
        for query in ("brandNew", "brandNew=", "some=thing", "versionId2=x"):
            answer = await s3(method, f"{path}?{query}", body=b"<x/>")
            assert answer.status in (405, 501), (path, query)
    assert s3.objects.snapshot() == before


async def test_a_read_ignores_a_parameter_with_a_value(s3, bucket):
    """As S3 does: people add them against caches."""
    await s3.put("/bucket/key", b"x")
    assert (await s3("GET", "/bucket/key?cache=off")).body == b"x"
    assert (await s3.refused("GET", "/bucket/key?brandNew")) == (501, "NotImplemented")


async def test_operation_names_and_signing_parameters_are_no_subresources(s3, bucket):
    query = "x-id=PutObject&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab&X-Amz-Expires=5"
    await s3.put(f"/bucket/key?{query}")


async def test_headers_in_the_query_count_as_headers(s3, bucket):
    await s3.put("/bucket/key?x-amz-meta-color=dark%20blue&X-Amz-Storage-Class=REDUCED_REDUNDANCY")
    headers = (await s3("HEAD", "/bucket/key")).headers
    assert headers["x-amz-meta-color"] == "dark blue"
    assert headers["x-amz-storage-class"] == "REDUCED_REDUNDANCY"
    refused = await s3.refused("PUT", "/bucket/key?x-amz-acl=public-read")
    assert refused == (400, "AccessControlListNotSupported")
    refused = await s3.refused("PUT", "/bucket/key?x-amz-meta-a=b%0d%0ac:%20d")
    assert refused == (400, "InvalidArgument")
    refused = await s3.refused("PUT", "/bucket/key?x-amz-meta-a%0d%0ac:%20d=b")
    assert refused == (400, "InvalidArgument")


async def test_a_repeated_parameter_is_refused(s3, bucket):
    refused = await s3.refused("GET", "/bucket?prefix=a&prefix=b")
    assert refused == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-copy-source-server-side-encryption-customer-key", "x"),
        ("x-amz-if-match-size", "4"),
        ("x-amz-write-offset-bytes", "3"),
        ("x-amz-checksum-xxhash64", "AAAAAAAAAAA="),
    ],
)
async def test_headers_that_would_mean_more_are_refused(s3, bucket, name, value):
    before = s3.objects.snapshot()
    for method, path in (
        ("PUT", "/fresh"),
        ("PUT", "/bucket/key"),
        ("POST", "/bucket/key?uploads"),
        ("GET", "/bucket/key"),
    ):
        refused = await s3.refused(method, path, headers={name: value})
        assert refused == (501, "NotImplemented")
    assert s3.objects.snapshot() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-acl", "private"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-object-ownership", "BucketOwnerEnforced"),
        ("x-amz-request-payer", "requester"),
        ("x-amz-user-agent", "anything"),
    ],
)
async def test_headers_that_ask_for_what_is_so_anyway_are_taken(s3, bucket, name, value):
    await s3.put("/bucket/key", headers={name: value})


async def test_storage_classes(s3, bucket):
    for name in ("GLACIER", "STANDARD_IA", "standard", ""):
        refused = await s3.refused("PUT", "/bucket/key", headers={"x-amz-storage-class": name})
        assert refused == (400, "InvalidStorageClass")


async def test_methods(s3, bucket):
    for method, path in (("PUT", "/"), ("DELETE", "/"), ("POST", "/"), ("POST", "/bucket/key")):
        answer = await s3(method, path, body=b"x")
        assert (answer.status, s3.code(answer)) == (405, "MethodNotAllowed")
        assert method not in answer.headers["allow"]
    assert (await s3("PATCH", "/bucket/key")).headers["allow"] == "DELETE, GET, HEAD, PUT"
    assert await s3.refused("OPTIONS", "/bucket/key") == (400, "BadRequest")
    assert await s3.refused("OPTIONS", "/") == (405, "MethodNotAllowed")
    # A form upload must not become anything else.
    assert await s3.refused("POST", "/bucket", body=b"form") == (412, "PreconditionFailed")


@pytest.mark.parametrize(
    "path", ["/bucket/%zz", "/bucket/a%", "/bucket/%ff", "/bucket/%c3%28", "/bucket/%ed%a0%80"]
)
async def test_paths_that_are_no_utf8(s3, bucket, path):
    assert await s3.refused("PUT", path, body=b"x") == (400, "InvalidURI")


@pytest.mark.parametrize("name", ["a%2Fb", "a%00b", "b%C3%BCcket", "a%20b", "a:b", "*", "?"])
async def test_names_that_no_bucket_has(s3, name):
    for method in ("GET", "PUT", "DELETE"):
        refused = await s3.refused(method, "/" + quote(name, "%"))
        assert refused == (400, "InvalidBucketName")


async def test_keys_are_not_normalised(s3, bucket):
    paths = (
        "a",
        "a/b",
        "a/",
        "a//b",
        "/a",
        "//",
        "..",
        "../x",
        "a/../b",
        "./a",
        ".",
        "a%2Fc",
        "%00",
        "%0d%0a",
        "a+b",
        "a%20b",
        "%252F",
        "~",
        "*'()",
        "%E2%82%AC",
        "a%3Fb",
        "\u00e9",
    )
    for path in paths:
        await s3.put(f"/bucket/{quote(path, '/%+')}", path.encode())
    for path in paths:
        assert (await s3("GET", f"/bucket/{quote(path, '/%+')}")).body == path.encode()
    document = await s3.document("/bucket?encoding-type=url")
    assert document.count("Contents") == len(paths)


async def test_the_longest_key(s3, bucket):
    await s3.put("/bucket/" + "k" * 1024)
    for method in ("PUT", "GET", "DELETE"):
        refused = await s3.refused(method, "/bucket/" + "k" * 1025)
        assert refused == (400, "KeyTooLongError")
    await s3.put("/bucket/" + "%E2%82%AC" * 341)
    refused = await s3.refused("PUT", "/bucket/" + "%E2%82%AC" * 342)
    assert refused == (400, "KeyTooLongError")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=KEYS, safe=st.sampled_from(["", "/", "/+*~!$'(),;:@="]))
async def test_any_key_comes_back(s3, key, safe):
    path = "/bucket/" + quote(key, safe)
    await s3("PUT", "/bucket")
    await s3.put(path, key.encode())
    assert (await s3("GET", "/bucket/" + quote_from_bytes(key.encode()))).body == key.encode()
    document = await s3.document("/bucket?list-type=2&encoding-type=url")
    from urllib.parse import unquote

    assert [unquote(shown) for shown in document.all("Contents/Key")] == [key]
    assert (await s3("DELETE", path)).status == 204
    assert (await s3.document("/bucket")).count("Contents") == 0
