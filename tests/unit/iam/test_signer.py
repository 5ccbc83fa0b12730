"""Our signer and verifier against botocore's signers, and against AWS's published examples."""

from __future__ import annotations

import calendar
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from objectio.iam import canonical, signer
from objectio.iam.credentials import StaticCredentials, root_credential
from objectio.iam.sigv4 import SigV4Verifier, collect_headers

ALICE = root_credential("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
BOTO = Credentials(ALICE.access_key, ALICE.secret_key)

PATHS = [
    "/",
    "/bucket",
    "/bucket/",
    "/bucket/key",
    "//bucket//key//",
    "/bucket/./a/../b",
    "/bucket/..",
    "/bucket/a%2Fb",
    "/bucket/%E2%82%AC%20%F0%9F%98%80",
    "/bucket/with%20space",
    "/bucket/a+b",
    "/bucket/a%2Bb",
    "/bucket/~tilde",
    "/bucket/%7Etilde",
    "/bucket/%00%FF",
    "/bucket/!$&'()*,;=:@",
    "/bucket/%25",
]
QUERIES = [
    "",
    "acl",
    "acl=",
    "list-type=2&prefix=a%2Fb&delimiter=%2F",
    "b=2&a=1",
    "a=2&a=1&a",
    "prefix=a%20b&marker=%E2%82%AC",
    "prefix=a+b",
    "prefix=~",
    "Z=1&a=1&A=1",
    "a-b=1&a=1&a.b=1",
]
HOSTS = [
    "http://localhost",
    "http://localhost:9000",
    "https://s3.example.com:8443",
    "http://[::1]:9",
]


def verify(method, url, headers):
    parts = urlsplit(url)
    check = SigV4Verifier(StaticCredentials([ALICE]))
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    if not any(name == b"host" for name, _ in pairs):
        pairs.append((b"host", parts.netloc.encode()))
    return check.verify(method, parts.path.encode(), parts.query.encode(), collect_headers(pairs))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_botocore_header_form_is_accepted(path, query):
    url = f"http://localhost:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest("GET", url, headers={"x-amz-meta-a": "two  words", "User-Agent": "x"})
    S3SigV4Auth(BOTO, "s3", "us-east-1").add_auth(request)
    assert verify("GET", url, request.headers).credential is ALICE


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "acl", "versionId=a%2Fb&partNumber=1", "prefix=%7E"])
def test_botocore_query_form_is_accepted(path, query):
    url = f"http://localhost:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest("GET", url, headers={})
    S3SigV4QueryAuth(BOTO, "s3", "us-east-1", expires=60).add_auth(request)
    signed = verify("GET", request.url, {})
    assert signed.credential is ALICE
    assert signed.presigned


@pytest.mark.parametrize("origin", HOSTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "POST", "DELETE"])
def test_botocore_hosts_and_methods(origin, method):
    url = f"{origin}/bucket/key"
    data = b"hello" if method in ("PUT", "POST") else b""
    request = AWSRequest(
        method, url, headers={"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="}, data=data
    )
    S3SigV4Auth(BOTO, "s3", "us-east-1").add_auth(request)
    assert verify(method, url, request.headers).credential is ALICE
    presigned = AWSRequest(method, url, headers={})
    S3SigV4QueryAuth(BOTO, "s3", "us-east-1").add_auth(presigned)
    assert verify(method, presigned.url, {}).credential is ALICE


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_our_signatures_are_botocores(path, query):
    url = f"http://localhost:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest("GET", url, headers={"x-amz-meta-a": " b  c "})
    S3SigV4Auth(BOTO, "s3", "us-east-1").add_auth(request)
    timestamp = request.headers["X-Amz-Date"]
    now = calendar.timegm(
        tuple(int(timestamp[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)))
    )
    ours = signer.sign_request(
        ALICE,
        "GET",
        path.encode(),
        query.encode(),
        [(b"host", b"localhost:9000"), (b"x-amz-meta-a", b" b  c ")],
        now=now,
    )
    assert dict(ours)[b"authorization"].decode() == request.headers["Authorization"]


def test_our_presigned_urls_are_accepted_and_botocores():
    headers = [(b"host", b"localhost")]
    query = signer.presign(ALICE, "GET", b"/b/k", b"versionId=1", headers, expires_seconds=300)
    assert verify("GET", "http://localhost/b/k?" + query.decode(), {}).credential is ALICE


# -- examples that AWS publishes with the specification, all of 20130524T000000Z

MAY_24 = calendar.timegm((2013, 5, 24, 0, 0, 0))
EXAMPLE_HOST = (b"host", b"examplebucket.s3.amazonaws.com")


def signature(headers):
    return dict(headers)[b"authorization"].rpartition(b"=")[2]


def test_aws_example_get_object():
    headers = [EXAMPLE_HOST, (b"range", b"bytes=0-9")]
    signed = signer.sign_request(ALICE, "GET", b"/test.txt", b"", headers, now=MAY_24)
    assert signature(signed) == b"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


def test_aws_example_get_bucket_lifecycle_and_list():
    for query, expected in (
        (b"lifecycle", b"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            b"max-keys=2&prefix=J",
            b"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ):
        signed = signer.sign_request(ALICE, "GET", b"/", query, [EXAMPLE_HOST], now=MAY_24)
        assert signature(signed) == expected


def test_aws_example_presigned():
    query = signer.presign(
        ALICE, "GET", b"/test.txt", b"", [EXAMPLE_HOST], expires_seconds=86400, now=MAY_24
    )
    assert query.endswith(b"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def streaming_headers(mode, *extra):
    headers = [
        (b"host", b"s3.amazonaws.com"),
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
        (b"content-encoding", b"aws-chunked"),
        (b"x-amz-decoded-content-length", b"66560"),
        *extra,
    ]
    path = b"/examplebucket/chunkObject.txt"
    return signer.sign_request(ALICE, "PUT", path, b"", headers, content_sha256=mode, now=MAY_24)


def test_aws_example_signed_chunks():
    headers = streaming_headers(canonical.STREAMING_SIGNED, (b"content-length", b"66824"))
    assert signature(headers).startswith(b"4f232c4386841ef7")
    chunks = signer.ChunkSigner(ALICE, headers)
    seen = [chunks.signature for _ in chunks.encode(b"a" * 66560, 65536)]
    assert seen[0] == b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
    assert seen[1] == b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
    assert seen[2] == b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"


def test_aws_example_signed_chunks_with_trailer():
    headers = streaming_headers(
        canonical.STREAMING_SIGNED_TRAILER, (b"x-amz-trailer", b"x-amz-checksum-crc32c")
    )
    assert signature(headers).startswith(b"106e2a8a18243abc")
    chunks = signer.ChunkSigner(ALICE, headers)
    trailers = [(b"x-amz-checksum-crc32c", b"sOO8/Q==")]
    seen = [chunks.signature for _ in chunks.encode(b"a" * 66560, 65536, trailers)]
    assert seen[2] == b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"
    assert seen[3] == b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
