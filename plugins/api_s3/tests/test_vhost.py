"""Virtual hosts: the bucket in the name of the server."""

from __future__ import annotations

import pytest
from objectio_api_s3.config import S3Config
from objectio_api_s3.frontend import S3Factory
from objectio_api_s3.vhost import Host, Hosts

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import call, make_scope

DOMAINS = ("s3.example.org", "localhost")
SITES = ("site.s3.example.org",)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("s3.example.org", Host()),
        ("s3.example.org:9000", Host()),
        ("one.s3.example.org", Host("one")),
        ("One.S3.Example.Org:9000", Host("one")),
        ("a.b.s3.example.org", Host("a.b")),
        ("one.localhost:9000", Host("one")),
        ("one.site.s3.example.org", Host("one", True)),
        ("site.s3.example.org", Host()),
        ("ones3.example.org", Host()),
        (".s3.example.org", Host()),
        ("example.org", Host()),
        ("127.0.0.1:9000", Host()),
        ("[::1]:9000", Host()),
        ("", Host()),
    ],
)
def test_hosts(host, found):
    scope = make_scope("GET", "/", [(b"host", host.encode())])
    assert Hosts(DOMAINS, SITES).find(scope) == found
    assert Hosts((), ()).find(scope) == Host()


@pytest.fixture
def ask(objects):
    context = ApiContext(objects=objects, metrics=NullMetrics())
    front_end = S3Factory(S3Config(domains=DOMAINS)).build(context)

    async def ask(method, host, path, body=b""):
        return await call(front_end, method, path, headers={"host": host}, body=body)

    return ask


async def test_both_styles_are_one_bucket(ask):
    assert (await ask("PUT", "one.s3.example.org", "/")).status == 200
    assert (await ask("PUT", "one.s3.example.org", "/a/%2F..", b"x")).status == 200
    assert (await ask("PUT", "one.localhost", "/one/b", b"y")).status == 200
    assert (await ask("GET", "s3.example.org", "/one/a/%2F..")).body == b"x"
    assert (await ask("GET", "127.0.0.1", "/one/one/b")).body == b"y"
    assert b"<Key>one/b</Key>" in (await ask("GET", "one.localhost", "/?list-type=2")).body
    assert b"<Name>one</Name>" in (await ask("GET", "s3.example.org", "/")).body
    assert b"<Name>one</Name>" not in (await ask("GET", "one.localhost", "/?location")).body
    assert (await ask("DELETE", "one.localhost", "/one/b")).status == 204
    assert (await ask("GET", "two.localhost", "/")).status == 404


async def test_a_name_that_no_bucket_has(ask):
    answer = await ask("GET", "a_b*.localhost", "/")
    assert (answer.status, b"InvalidBucketName" in answer.body) == (400, True)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "A.b", "a..b", "*.a"])
def test_domains_that_are_none(name):
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"domains": [name]}, S3Config)
