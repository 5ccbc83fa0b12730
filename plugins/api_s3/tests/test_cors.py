"""CORS: preflights, and what every response to another origin says."""

from __future__ import annotations

import pytest
from objectio_api_s3.configuration.cors import matches

from objectio.abc.api import ANONYMOUS

RULES = (
    "<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://*.one</AllowedOrigin>"
    "<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>"
    "<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>"
    "<AllowedOrigin>https://two</AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader>"
    "<AllowedHeader>Content-Type</AllowedHeader></CORSRule>"
    "<CORSRule><AllowedMethod>HEAD</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>"
)
ALLOW = "access-control-allow-"


@pytest.fixture
async def shared(s3, bucket):
    await s3.put("/bucket/key")
    await s3.put("/bucket?cors", f"<CORSConfiguration>{RULES}</CORSConfiguration>".encode())
    return s3


def said(answer):
    found = {
        name: value for name, value in answer.headers.items() if name.startswith("access-control-")
    }
    if found:
        assert "Origin" in answer.headers["vary"]
    return found


async def ask(s3, path, origin, method, headers=None):
    sent = {"origin": origin, "access-control-request-method": method}
    if headers is not None:
        sent["access-control-request-headers"] = headers
    return await s3("OPTIONS", path, headers=sent)


async def test_preflight(shared):
    answer = await ask(shared, "/bucket/key", "https://a.one", "GET")
    assert (answer.status, answer.body) == (200, b"")
    assert said(answer) == {
        ALLOW + "origin": "https://a.one",
        ALLOW + "methods": "GET",
        ALLOW + "credentials": "true",
        "access-control-expose-headers": "ETag",
        "access-control-max-age": "60",
    }
    answer = await ask(shared, "/bucket", "https://two", "PUT", "X-Amz-Date, content-type")
    assert said(answer)[ALLOW + "headers"] == "x-amz-date, content-type"
    assert said(answer)[ALLOW + "methods"] == "GET, PUT"
    answer = await ask(shared, "/bucket/missing", "null", "HEAD")
    assert said(answer) == {ALLOW + "origin": "*", ALLOW + "methods": "HEAD"}


async def test_a_preflight_needs_no_credentials(objects, make_s3):
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    await s3.put("/bucket?cors", f"<CORSConfiguration>{RULES}</CORSConfiguration>".encode())
    headers = {"origin": "https://two", "access-control-request-method": "PUT"}
    path = "/bucket/key?X-Amz-Signature=no&AWSAccessKeyId=no&policy"
    answer = await s3("OPTIONS", path, headers=headers, identity=ANONYMOUS)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "origin", "method", "headers"),
    [
        ("/bucket/key", "https://one", "GET", None),
        ("/bucket/key", "https://a.one", "PUT", None),
        ("/bucket/key", "https://a.one.evil", "GET", None),
        ("/bucket/key", "https://a.one", "GET", "x-amz-date"),
        ("/bucket/key", "https://two", "GET", "x-other"),
        ("/bucket/key", "https://two", "GET", "x-amz-a b"),
        ("/bucket/key", "https://three", "GET", None),
        ("/other/key", "https://two", "GET", None),
        ("/missing/key", "https://two", "GET", None),
    ],
)
async def test_preflights_that_are_refused(shared, path, origin, method, headers):
    await shared.put("/other", b"")
    answer = await ask(shared, path, origin, method, headers)
    assert (answer.status, shared.code(answer)) == (403, "AccessForbidden")
    assert not said(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://two"},
        {"origin": "https://two", "access-control-request-method": "get"},
        {"access-control-request-method": "GET"},
    ],
)
async def test_preflights_that_are_none(shared, headers):
    answer = await shared("OPTIONS", "/bucket/key", headers=headers)
    assert (answer.status, shared.code(answer)) == (400, "BadRequest")


async def test_responses(shared):
    for path in ("/bucket/key", "/bucket", "/bucket?cors", "/bucket/missing", "/bucket?website"):
        answer = await shared.get(path, origin="https://two")
        assert said(answer)[ALLOW + "origin"] == "https://two", path
        assert not said(await shared.get(path, origin="https://three"))
        assert not said(await shared.get(path))
    answer = await shared("HEAD", "/bucket/key", headers={"origin": "https://three"})
    assert said(answer)[ALLOW + "origin"] == "*"
    answer = await shared("GET", "/", headers={"origin": "https://two"})
    assert not said(answer)


async def test_a_refusal_can_be_read(objects, make_s3):
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    await s3.put("/bucket?cors", f"<CORSConfiguration>{RULES}</CORSConfiguration>".encode())
    answer = await s3(
        "PUT", "/bucket/key", headers={"origin": "https://two"}, identity=ANONYMOUS, body=b"x"
    )
    assert answer.status == 403
    assert said(answer)[ALLOW + "origin"] == "https://two"
    answer = await s3("GET", "/bucket/a%zz", headers={"origin": "https://two"})
    assert answer.status == 400


async def test_an_origin_cannot_add_headers(shared):
    body = f"<CORSConfiguration>{RULES.replace('https://two', 'https://*')}</CORSConfiguration>"
    await shared.put("/bucket?cors", body.encode())
    for origin in (
        "https://a\tset-cookie: b",
        "https://a b",
        "https://\xe4",
        "https://" + "a" * 5000,
    ):
        assert ALLOW + "origin" not in said(await shared.get("/bucket/key", origin=origin))


@pytest.mark.parametrize(
    ("pattern", "value", "result"),
    [
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b", "axb", True),
        ("a*b", "axbc", False),
        ("*x", "ax", True),
        ("x*", "ax", False),
        ("x", "x", True),
        ("x", "xx", False),
    ],
)
def test_wildcards(pattern, value, result):
    assert matches(pattern, value) is result
