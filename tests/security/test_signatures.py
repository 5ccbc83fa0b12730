"""Every form of a signature, forged, at every operation that writes; and the verifier's checklist.

The verifier by itself is tested in tests/unit/iam/test_sigv4.py and test_chunked.py, the gate with
a front end of a few lines in tests/unit/gateway/test_security.py. Here it is the real S3 front end.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest

from objectio.iam import canonical, signer
from objectio.iam.credentials import Credential

DATA = b"hello, world" * 100
CRC = (b"x-amz-checksum-crc32", b"AAAAAA==")
LITERAL = b"literal"
MODES = [
    LITERAL,
    canonical.UNSIGNED_PAYLOAD,
    canonical.STREAMING_SIGNED,
    canonical.STREAMING_SIGNED_TRAILER,
    canonical.STREAMING_UNSIGNED_TRAILER,
    b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
]
TAGGING = b"<Tagging><TagSet></TagSet></Tagging>"
HANDLERS = [
    ("PUT", b"/annas/new", b"", DATA),
    ("PUT", b"/annas/up", b"partNumber=1&uploadId=U", DATA),
    ("PUT", b"/annas/copy", b"", b""),
    ("POST", b"/annas/up", b"uploads=", b""),
    ("POST", b"/annas/up", b"uploadId=U", b"<CompleteMultipartUpload/>"),
    ("DELETE", b"/annas/up", b"uploadId=U", b""),
    ("DELETE", b"/annas/key", b"", b""),
    ("POST", b"/annas", b"delete=", b"<Delete><Object><Key>key</Key></Object></Delete>"),
    ("PUT", b"/annas/key", b"tagging=", TAGGING),
    ("PUT", b"/annas/key", b"acl=", b""),
    ("PUT", b"/annas", b"policy=", b"{}"),
    ("PUT", b"/annas", b"versioning=", b"<VersioningConfiguration/>"),
    ("PUT", b"/annas", b"tagging=", TAGGING),
    ("DELETE", b"/annas", b"", b""),
    ("PUT", b"/another", b"", b""),
]
IMPOSTORS = [
    ("AKIAANNA", "not-annas-secret"),
    ("AKIAROOT", "not-the-roots-secret"),
    ("AKIANOBODY", "canary-anna-secret-77c0"),
    ("AKIAANNA", ""),
]


def build(world, by, form, mode, handler):
    """(query, headers, body)."""
    method, path, query, data = handler
    sha256 = hashlib.sha256(data).hexdigest().encode() if mode == LITERAL else mode
    more = []
    if path == b"/annas/copy":
        more.append((b"x-amz-copy-source", b"/annas/key"))
    if mode.startswith(b"STREAMING"):
        more.append((b"x-amz-decoded-content-length", b"%d" % len(data)))
    if mode.endswith(b"TRAILER"):
        more.append((b"x-amz-trailer", CRC[0]))
    headers = [(b"host", b"localhost:9000"), *more]
    if form == "query":
        headers.append((b"x-amz-content-sha256", sha256))
        query = signer.presign(
            by, method, path, query, headers, content_sha256=sha256, now=world.clock
        )
    else:
        headers = signer.sign_request(
            by, method, path, query, headers, content_sha256=sha256, now=world.clock
        )
    body = data
    if mode == canonical.STREAMING_UNSIGNED_TRAILER:
        body = b"".join(signer.encode_unsigned_chunks(data, 500, [CRC]))
    elif mode.startswith(b"STREAMING") and form == "header":
        trailers = [CRC] if mode.endswith(b"TRAILER") else None
        body = b"".join(signer.ChunkSigner(by, headers).encode(data, 500, trailers))
    return query, [*headers, (b"content-length", b"%d" % len(body))], body


@pytest.mark.parametrize("form", ["header", "query"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.decode())
async def test_forged_signatures_at_every_write(world, form, mode):
    """MinIO CVE-2025-31489, CVE-2026-40344, CVE-2026-41145; SeaweedFS #7912, #7954, #2180: a form of
    body, a handler, or a place of the credentials at which the signature was not verified."""
    before = world.objects.snapshot()
    for handler in HANDLERS:
        for access_key, secret_key in IMPOSTORS:
            by = Credential(access_key, secret_key, world.anna.identity)
            query, headers, body = build(world, by, form, mode, handler)
            answer = await world.send(handler[0], handler[1], query, headers, body)
            assert answer.code in ("SignatureDoesNotMatch", "InvalidAccessKeyId"), (
                handler,
                answer.body,
            )
    assert world.objects.snapshot() == before


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.decode())
async def test_a_declared_body_without_credentials_is_nobodys(world, mode):
    """MinIO CVE-2026-41145: no Authorization header, and taken for authenticated."""
    before = world.objects.snapshot()
    for handler in HANDLERS:
        query, headers, body = build(world, world.anna, "header", mode, handler)
        kept = [pair for pair in headers if pair[0] != b"authorization"]
        answer = await world.send(handler[0], handler[1], handler[2], kept, body)
        each = b"AccessDenied" in answer.body and b"<Deleted>" not in answer.body
        assert answer.status in (400, 403, 501) or each, (handler, answer.body)
    assert world.objects.snapshot() == before


@pytest.mark.parametrize(
    "authorization",
    [
        b"AWS AKIAANNA:c2lnbmF0dXJl",
        b"Basic YW5uYTphbm5h",
        b"Bearer eyJhbGciOiJub25lIn0.e30.",
        b"AWS4-ECDSA-P256-SHA256 Credential=AKIAANNA/20231114/s3/aws4_request",
        b"",
        b" ",
    ],
)
async def test_an_unknown_kind_of_credentials_is_refused_and_not_nobody(world, authorization):
    """Also where nobody could have read it."""
    await world.allow("s3:GetObject")
    assert (await world("GET", "/annas/key")).status == 200
    headers = {"authorization": authorization.decode()}
    answer = await world("GET", "/annas/key", headers=headers)
    assert answer.status in (400, 403)


async def test_a_signature_is_for_one_request_only(world):
    query, headers = world.sign(world.anna, "GET", b"/annas/key")
    assert (await world.send("GET", b"/annas/key", query, headers)).status == 200
    for method, path, query in (
        ("PUT", b"/annas/key", b""),
        ("DELETE", b"/annas/key", b""),
        ("GET", b"/annas/other", b""),
        ("GET", b"/annas//key", b""),
        ("GET", b"/annas/./key", b""),
        ("GET", b"/annas/x/../key", b""),
        ("GET", b"/annas%2Fkey", b""),
        ("GET", b"/annas/key", b"acl="),
        ("GET", b"/annas/key", b"versionId=1"),
    ):
        answer = await world.send(method, path, query, headers)
        codes = ("SignatureDoesNotMatch", "MissingContentLength", "InvalidBucketName")
        assert answer.code in codes, (method, path, query)


@pytest.mark.parametrize(
    "header",
    [
        b"x-amz-copy-source",
        b"x-amz-acl",
        b"x-amz-tagging",
        b"x-amz-meta-a",
        b"x-amz-server-side-encryption",
        b"x-amz-bypass-governance-retention",
        b"x-amz-security-token",
        b"x-amz-grant-full-control",
    ],
)
@pytest.mark.parametrize("form", ["header", "query"])
async def test_no_header_can_be_added_to_what_was_signed(world, header, form):
    """Swift CVE-2026-71191, seaweedfs#9121: an unsigned x-amz-copy-source on a presigned PUT."""
    query, headers = world.sign(world.anna, "PUT", b"/annas/new", form=form)
    answer = await world.send("PUT", b"/annas/new", query, [*headers, (header, b"/annas/key")])
    assert answer.status in (400, 403), answer.body
    assert (await world("GET", "/annas/new", world.anna)).code == "NoSuchKey"


async def test_times(world):
    query, headers = world.sign(world.anna, "GET", b"/annas/key")
    for shift, code in ((899, ""), (901, "RequestTimeTooSkewed"), (-901, "RequestTimeTooSkewed")):
        world.clock = 1_700_000_000.0 + shift
        assert (await world.send("GET", b"/annas/key", query, headers)).code == code
    world.clock = 1_700_000_000.0
    query, headers = world.sign(world.anna, "GET", b"/annas/key", form="query", expires_seconds=60)
    for shift, status in ((60, 200), (61, 403), (-901, 403)):
        world.clock = 1_700_000_000.0 + shift
        assert (await world.send("GET", b"/annas/key", query, headers)).status == status


@pytest.mark.parametrize("service", ["iam", "sts", "s3express", ""])
async def test_a_signature_for_another_service_opens_nothing(world, service):
    query, headers = world.sign(world.anna, "GET", b"/annas/key", service=service)
    answer = await world.send("GET", b"/annas/key", query, headers)
    assert answer.code == "AuthorizationHeaderMalformed"


async def test_credentials_in_both_places_are_refused(world):
    query, _ = world.sign(world.anna, "GET", b"/annas/key", form="query")
    _, headers = world.sign(world.anna, "GET", b"/annas/key", query)
    assert (await world.send("GET", b"/annas/key", query, headers)).code == "InvalidArgument"


async def test_secrets_are_compared_in_constant_time(world, monkeypatch):
    """RustFS 3p3x: an early exit. All comparisons of digests go through `hmac.compare_digest`, of
    full length, for known and unknown keys alike."""
    seen = []
    real = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: (seen.append((len(a), len(b))), real(a, b))[1]
    )
    counts = []
    for access_key in ("AKIAANNA", "AKIANOBODY"):
        seen.clear()
        by = Credential(access_key, "wrong", world.anna.identity)
        assert (await world("GET", "/annas/key", by)).status == 403
        counts.append(list(seen))
    assert counts[0] == counts[1]
    assert set(counts[0]) == {(64, 64)}


async def test_a_truncated_stream_ends(world):
    """Swift CVE-2026-49017: it looped for ever."""
    handler = ("PUT", b"/annas/new", b"", DATA)
    for mode in MODES[2:5]:
        query, headers, body = build(world, world.anna, "header", mode, handler)
        for cut in (0, 1, 80, len(body) // 2, len(body) - 1):
            shorter = [
                (name, b"%d" % cut if name == b"content-length" else value)
                for name, value in headers
            ]
            answer = await world.send("PUT", b"/annas/new", query, shorter, body[:cut])
            assert answer.status == 400, (mode, cut)
    assert (await world("GET", "/annas/new", world.anna)).code == "NoSuchKey"
