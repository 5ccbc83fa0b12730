"""What nobody is to see or to send: secrets, files outside, headers of ours, other people's scripts."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.iam.credentials import Credential

CANARY = "canary"


async def test_secrets_in_no_log_error_row_or_answer(world, caplog):
    """RGW CVE-2018-16889; RustFS r54g, 8cm2, 333v."""
    caplog.set_level(logging.DEBUG)
    wrong = [
        Credential("AKIAANNA", "canary-of-a-guess-1", world.anna.identity),
        Credential("AKIANOBODY", "canary-of-a-guess-2", world.anna.identity),
    ]
    seen = []
    for by in (world.anna, world.bert, world.user, world.root, None, *wrong):
        for form in ("header", "query"):
            for method, target in (("GET", "/annas/key"), ("GET", "/annas?policy"), ("GET", "/x")):
                seen.append(await world(method, target, by, form=form))

    async def broken(*args, **more):
        raise RuntimeError(f"{world.anna!r} {world.memory.directory.lookup('AKIAANNA')!r}")

    world.objects.get_object = broken
    seen.append(await world("GET", "/annas/key", world.anna))
    assert seen[-1].status == 500
    for answer in seen:
        assert CANARY.encode() not in answer.body
        assert CANARY not in str(answer.headers)
    assert "request_id=" in caplog.text
    assert CANARY not in caplog.text
    for row, value in await world.memory.kv.ascan_prefix(b""):
        assert CANARY.encode() not in row + value
    for thing in (world.memory.directory.lookup("AKIAANNA"), world.memory.directory, world.gate):
        assert CANARY not in repr(thing)


async def test_a_presigned_url_is_in_no_log(world, caplog):
    caplog.set_level(logging.DEBUG)
    query, headers = world.sign(world.anna, "GET", b"/annas/key", form="query")
    assert (await world.send("GET", b"/annas/key", query, headers)).status == 200
    signature = query.rpartition(b"=")[2].decode()
    assert len(signature) == 64
    assert signature not in caplog.text


@pytest.mark.parametrize(
    "prefix",
    ["x-objectio-", "x-internal-", "x-minio-", "x-rgw-", "x-amz-objectio-", "x-seaweedfs-"],
)
async def test_no_header_is_an_order_from_inside(world, prefix):
    """MinIO CVE-2026-34204 (replication headers made objects unreadable), Swift CVE-2026-50221
    (container update), seaweedfs#9120 (a header named the principal)."""
    names = [
        "principal",
        "identity",
        "account",
        "replication",
        "source-version-id",
        "admin",
        "root",
    ]
    headers = {prefix + name: "root" for name in names}
    for by in (None, world.bert):
        assert (await world("GET", "/annas/key", by, headers=headers)).status == 403
        assert (await world("PUT", "/annas/key", by, headers=headers, body=b"x")).status == 403
    await world("PUT", "/annas/new", world.anna, headers=headers, body=b"x")
    info = await world.objects.head_object("annas", b"key")
    assert info.owner == "id-of-anna"
    answer = await world("GET", "/annas/key", world.anna)
    assert answer.body == b"the data of anna"
    assert not [name for name in answer.headers if name.startswith(prefix.encode())]


TRAVERSALS = [
    b"/annas/../berts/secret",
    b"/annas/..%2fberts/secret",
    b"/annas/%2e%2e/berts/secret",
    b"/annas/%2e%2e%2fberts%2fsecret",
    b"/annas//berts/secret",
    b"/annas/./../berts/secret",
    b"/annas/..\\berts\\secret",
    b"/annas/key/../../berts/secret",
    b"/../berts/secret",
    b"/./annas/../berts/secret",
    b"/annas/%00/../berts/secret",
    b"//berts/secret",
    b"/annas%2f..%2fberts/secret",
    b"/annas/../../../../../../etc/passwd",
    b"/annas/%252e%252e/berts/secret",
]


@pytest.mark.parametrize("path", TRAVERSALS, ids=lambda path: path.decode())
async def test_path_traversal_opens_no_other_bucket(world, path):
    """MinIO CVE-2023-28433, CVE-2022-35919; RustFS pq29, 8r6f; S3-Proxy CVE-2026-42882. Dots and
    slashes are bytes of a key."""
    await world.objects.create_bucket("berts", owner="id-of-bert")
    await world.put("berts", b"secret", b"canary")
    await world.allow("s3:*", resource=["annas", "annas/*"])
    for by in (None, world.anna):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            query, headers = world.sign(by, method, path, body=b"x" * (method == "PUT"))
            answer = await world.send(method, path, query, headers, b"x" * (method == "PUT"))
            assert b"canary" not in answer.body
            assert b"root:" not in answer.body
    assert await world.read("berts", b"secret") == b"canary"
    assert [each.name for each in await world.objects.list_buckets()] == ["annas", "berts"]


async def test_path_traversal_in_a_copy_source(world):
    await world.objects.create_bucket("berts", owner="id-of-bert")
    await world.put("berts", b"secret", b"canary")
    for path in TRAVERSALS:
        headers = {"x-amz-copy-source": path.decode()}
        answer = await world("PUT", "/annas/copy", world.anna, headers=headers)
        assert answer.status >= 400, path
        assert b"canary" not in answer.body


async def test_keys_are_any_bytes_and_stay_what_they_are(world):
    for name in ("..", "../x", "a/../b", "a//b", ".", "/", "~", "a\\b", "%2e", "con", "nul"):
        assert (await world("PUT", f"/annas/{name}", world.anna, body=name.encode())).status == 200
        assert (await world("GET", f"/annas/{name}", world.anna)).body == name.encode()


HEADERS_OF_OBJECTS = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-meta-a",
    "x-amz-website-redirect-location",
]


@pytest.mark.parametrize("name", HEADERS_OF_OBJECTS)
async def test_no_stored_value_splits_a_response(world, name):
    """RGW CVE-2020-10753, CVE-2021-3524: CR and LF in a stored value."""
    for bad in ("a\r\nset-cookie: x=y", "a\nb", "a\rb", "a\0b", "a\x7fb"):
        answer = await world("PUT", "/annas/bad", world.anna, headers={name: bad}, body=b"x")
        got = await world("GET", "/annas/bad", world.anna)
        for value in (*answer.headers.values(), *got.headers.values()):
            assert not set(value) & {0, 10, 13}
        assert b"set-cookie" not in got.headers


@pytest.mark.parametrize("name", ["content-type", "content-disposition", "cache-control"])
async def test_no_value_of_a_query_splits_a_response(world, name):
    for bad in ("a%0d%0aset-cookie:%20x=y", "a%0ab", "a%00b"):
        answer = await world("GET", f"/annas/key?response-{name}={bad}", world.anna, form="query")
        for value in answer.headers.values():
            assert not set(value) & {0, 10, 13}
        assert b"set-cookie" not in answer.headers


async def test_who_is_nobody_sets_no_header_of_an_answer(world):
    """S3: response-* need a signature, else whoever makes a link chooses the type of anybody's
    public object (stored scripts)."""
    await world.allow("s3:GetObject")
    answer = await world("GET", "/annas/key?response-content-type=text/html")
    assert answer.status == 400


async def test_no_origin_is_let_in_that_nobody_named(world):
    """RustFS x5xv: the Origin reflected, with credentials."""
    await world.allow("s3:GetObject")
    for origin in ("https://evil.example", "null"):
        answer = await world("GET", "/annas/key", headers={"origin": origin})
        assert b"access-control-allow-origin" not in answer.headers
        answer = await world(
            "OPTIONS",
            "/annas/key",
            headers={"origin": origin, "access-control-request-method": "GET"},
        )
        assert answer.status == 403
        assert b"access-control-allow-origin" not in answer.headers


XML_BOMBS = {
    "entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&e;</Key>'
    b"</Object></Delete>",
    "billion laughs": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><Delete><Object><Key>&j;</Key></Object></Delete>",
    "external dtd": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><Delete/>',
    "depth": b"<a>" * 50_000,
    "attributes": b"<Delete " + b" ".join(b'a%d="x"' % i for i in range(20_000)) + b"/>",
    "not xml": b"\xff\xfe\x00",
    "nothing": b"",
    "open": b"<Delete><Object><Key>",
}


@pytest.mark.parametrize("name", XML_BOMBS)
async def test_xml_bombs(world, name):
    """Swift CVE-2022-47950 (XXE); RGW CVE-2022-3854 and others: parsers that fall."""
    body = XML_BOMBS[name]
    targets = [
        "delete",
        "tagging",
        "versioning",
        "acl",
        "cors",
        "lifecycle",
        "encryption",
        "policy",
    ]
    for target in targets:
        method = "POST" if target == "delete" else "PUT"
        answer = await world(method, f"/annas?{target}", world.anna, body=body)
        assert answer.status in (200, 400, 403), (target, answer.body)
        assert b"root:" not in answer.body
        if answer.status == 200:
            assert not body or target == "acl"
    assert await world.read("annas", b"key") == b"the data of anna"


@pytest.mark.parametrize(
    "query",
    [
        "max-keys=99999999999999999999",
        "max-keys=-1",
        "list-type=2&max-keys=2147483648",
        "list-type=2&continuation-token=x",
        "list-type=2&start-after=" + "a" * 3000,
        "prefix=" + "%ff" * 100,
        "delimiter=" + "/" * 3000,
        "encoding-type=x",
        "versions&version-id-marker=x",
        "uploads&upload-id-marker=x&max-uploads=1e9",
        "location&location",
        "acl&policy",
    ],
)
async def test_queries_beyond_measure(world, query):
    """RGW CVE-2018-7262, 2019-10222 and others: a number or a name that ended the process."""
    answer = await world("GET", f"/annas?{query}", world.anna, form="query")
    assert answer.status in (200, 400, 501)


async def test_header_fuzz(world):
    """Swift CVE-2026-71190 (a slow Accept): nothing that is sent takes long or breaks something."""
    values = st.text(st.characters(max_codepoint=255), max_size=300)
    names = st.sampled_from(
        [
            *("accept", "range", "if-match", "if-none-match", "if-modified-since", "content-type"),
            *("x-amz-acl", "x-amz-grant-read", "x-amz-tagging", "x-amz-copy-source", "referer"),
            *("x-amz-copy-source-range", "x-amz-checksum-crc32", "x-amz-storage-class", "origin"),
            *("x-amz-object-lock-mode", "x-amz-server-side-encryption", "cookie", "user-agent"),
            *("x-forwarded-for", "x-amz-website-redirect-location", "expect", "content-encoding"),
        ]
    )
    calls = []

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, values, max_size=4), st.sampled_from(["GET", "PUT"]))
    def collect(headers, method):
        calls.append((headers, method))

    collect()
    for headers, method in calls:
        for by in (None, world.anna):
            answer = await world(method, "/annas/fuzz", by, headers=headers)
            assert answer.status not in (500, 0), (method, headers, answer.body)
            assert by is not None or answer.status >= 400
