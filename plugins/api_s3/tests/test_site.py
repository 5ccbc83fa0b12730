"""Buckets as websites."""

from __future__ import annotations

import pytest
from objectio_api_s3.config import S3Config
from objectio_api_s3.frontend import S3Factory

from objectio.abc.api import ANONYMOUS, ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import call
from objectio.testing.objects import MemoryObjects

HOST = "pages.site.example:9000"
RULES = (
    "<RoutingRules><RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition>"
    "<Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule>"
    "<RoutingRule><Condition><KeyPrefixEquals>lost/</KeyPrefixEquals>"
    "<HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>"
    "<Redirect><Protocol>https</Protocol><HostName>found.example</HostName>"
    "<ReplaceKeyWith>here</ReplaceKeyWith><HttpRedirectCode>307</HttpRedirectCode></Redirect>"
    "</RoutingRule></RoutingRules>"
)


def configuration(*parts):
    inner = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>" + "".join(parts)
    return f"<WebsiteConfiguration>{inner}</WebsiteConfiguration>".encode()


ERROR = "<ErrorDocument><Key>oops.html</Key></ErrorDocument>"


class Site:
    def __init__(self, objects):
        context = ApiContext(objects=objects, metrics=NullMetrics())
        config = S3Config(website_domains=("site.example",))
        self.front_end = S3Factory(config).build(context)
        self.readable = True
        self.listable = True

    async def put(self, path, body=b"", headers=None):
        answer = await call(self.front_end, "PUT", path, headers=headers or {}, body=body)
        assert answer.status == 200, answer

    def _allows(self, action, resource):
        if action == "s3:ListBucket":
            return self.listable
        return self.readable and action == "s3:GetObject" and not resource.endswith("/secret")

    async def __call__(self, path, method="GET", host=HOST, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await call(
            self.front_end,
            method,
            path,
            headers={"host": host, **named},
            identity=ANONYMOUS,
            allows=self._allows,
        )


@pytest.fixture(params=["at once", "in pieces"])
async def site(request):
    """Sent from memory, or as streams."""
    objects = MemoryObjects()
    if request.param == "in pieces":
        objects = MemoryObjects(read_now_bytes_max=0, piece_size_bytes=3)
    found = Site(objects)
    await found.put("/pages")
    for key in ("index.html", "a/index.html", "oops.html", "page", "secret"):
        await found.put(f"/pages/{key}", key.encode(), {"content-type": "text/html"})
    await found.put("/pages?website", configuration(ERROR, RULES))
    yield found
    assert not objects.open_readers


async def test_index_documents(site):
    for path, body in (
        ("/", b"index.html"),
        ("/a/", b"a/index.html"),
        ("/page", b"page"),
        ("/page?acl&utm=1", b"page"),
    ):
        answer = await site(path)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["content-type"] == "text/html"
    answer = await site("/a/", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "12")


async def test_a_folder_without_its_slash(site):
    answer = await site("/a")
    assert (answer.status, answer.headers["location"]) == (302, "/a/")


async def test_conditions_and_ranges(site):
    answer = await site("/page", range="bytes=1-2")
    assert (answer.status, answer.body) == (206, b"ag")
    etag = answer.headers["etag"]
    assert (await site("/page", if_none_match=etag)).status == 304


async def test_errors(site):
    for path in ("/missing", "/missing/", "/a/missing?x"):
        answer = await site(path, range="bytes=1-2", if_none_match="*")
        assert (answer.status, answer.body) == (404, b"oops.html")
    answer = await site("/secret")
    assert (answer.status, answer.body) == (403, b"oops.html")
    answer = await site("/missing", "HEAD")
    assert (answer.status, answer.body) == (404, b"")


async def test_who_may_not_list_is_not_told(site):
    site.listable = False
    assert (await site("/missing")).status == 403


async def test_errors_without_a_page(site):
    await site.put("/pages?website", configuration())
    answer = await site("/missing%3Cscript%3E")
    assert (answer.status, answer.headers["x-amz-error-code"]) == (404, "NoSuchKey")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<h1>404 Not Found</h1>" in answer.body
    assert b"<script>" not in answer.body
    site.readable = False
    answer = await site("/")
    assert (answer.status, answer.headers["x-amz-error-code"]) == (403, "AccessDenied")
    assert (await site("/", "HEAD")).body == b""


async def test_what_is_no_site(site):
    await site.put("/other")
    answer = await site("/", host="other.site.example")
    found = (answer.status, answer.headers["x-amz-error-code"])
    assert found == (404, "NoSuchWebsiteConfiguration")
    answer = await site("/", host="missing.site.example")
    assert (answer.status, answer.headers["x-amz-error-code"]) == (404, "NoSuchBucket")


async def test_rules(site):
    answer = await site("/old/a%20b/c?x")
    location = "http://pages.site.example:9000/new/a%20b/c"
    assert (answer.status, answer.headers["location"]) == (301, location)
    answer = await site("/lost/x")
    assert (answer.status, answer.headers["location"]) == (307, "https://found.example/here")


async def test_everything_elsewhere(site):
    body = (
        b"<WebsiteConfiguration><RedirectAllRequestsTo><HostName>new.example</HostName>"
        b"</RedirectAllRequestsTo></WebsiteConfiguration>"
    )
    await site.put("/pages?website", body)
    answer = await site("/a/b")
    assert (answer.status, answer.headers["location"]) == (301, "http://new.example/a/b")


async def test_objects_that_are_elsewhere(site):
    headers = {"x-amz-website-redirect-location": "/page"}
    await site.put("/pages/moved", b"old bytes", headers)
    answer = await site("/moved")
    assert (answer.status, answer.headers["location"], answer.body) == (301, "/page", b"")


async def test_it_cannot_be_changed(site):
    for method in ("PUT", "POST", "DELETE"):
        answer = await site("/page", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_nothing_ends_a_header(site):
    for path in ("/old/%0d%0aset-cookie:%20a", "/lost/%0d%0a", "/%0d%0a"):
        answer = await site(path)  # the call checks every header
        assert "set-cookie" not in answer.headers
