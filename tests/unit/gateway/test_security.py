"""Nobody gets past the gate who should not: every route × every form × every body mode."""

from __future__ import annotations

import hashlib
import logging

import pytest

from objectio.abc.api import Wanted
from objectio.gateway.gate import Gate
from objectio.iam import canonical, signer
from objectio.iam.credentials import Credential

DATA = b"hello, world" * 100
HOST = (b"host", b"localhost:9000")
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
CRC = (b"x-amz-checksum-crc32", b"AAAAAA==")
LITERAL = b"literal"
WRONG_LITERAL = b"wrong literal"
MODES = [
    LITERAL,
    canonical.UNSIGNED_PAYLOAD,
    canonical.STREAMING_SIGNED,
    canonical.STREAMING_SIGNED_TRAILER,
    canonical.STREAMING_UNSIGNED_TRAILER,
]


def encode(mode, by, signed, data=DATA):
    """The body of one mode, its chunks signed from the `authorization` in `signed` on."""
    if mode == canonical.STREAMING_UNSIGNED_TRAILER:
        return b"".join(signer.encode_unsigned_chunks(data, 500, [CRC]))
    if mode.startswith(b"STREAMING"):
        trailers = [CRC] if mode == canonical.STREAMING_SIGNED_TRAILER else None
        return b"".join(signer.ChunkSigner(by, signed).encode(data, 500, trailers))
    return data


def build(form, mode, by, method="PUT", data=DATA, forge=False):
    """(query, headers, body) of a request that `by` signed; `forge` spoils the signature."""
    sha256 = hashlib.sha256(data).hexdigest().encode() if mode == LITERAL else mode
    headers = [HOST]
    if mode.startswith(b"STREAMING"):
        headers.append((b"x-amz-decoded-content-length", b"%d" % len(data)))
    if mode.endswith(b"TRAILER"):
        headers.append((b"x-amz-trailer", CRC[0]))
    query = b""
    if form == "header":
        headers = signer.sign_request(by, method, b"/b/k", b"", headers, content_sha256=sha256)
        value = headers[-1][1]
    else:
        headers.append((b"x-amz-content-sha256", sha256))
        query = signer.presign(by, method, b"/b/k", b"", headers, content_sha256=sha256)
        value = presigned_authorization(query)
    if forge:
        digit = b"0" if value[-1:] != b"0" else b"1"
        value = value[:-1] + digit
        if form == "header":
            headers[-1] = (b"authorization", value)
        else:
            query = query[:-1] + digit
    date = (b"x-amz-date", dict(headers).get(b"x-amz-date") or date_of(query))
    body = encode(mode, by, [date, (b"authorization", value)], data)
    headers.append((b"content-length", b"%d" % len(body)))
    return query, headers, body


def date_of(query):
    return query.partition(b"X-Amz-Date=")[2][:16]


def presigned_authorization(query):
    scope = query.partition(b"X-Amz-Credential=")[2].partition(b"&")[0].replace(b"%2F", b"/")
    return b"AWS4-HMAC-SHA256 Credential=" + scope + b", Signature=" + query[-64:]


@pytest.mark.parametrize("form", ["header", "query"])
@pytest.mark.parametrize("mode", MODES)
async def test_each_mode_works_when_it_is_signed(client, front_end, world, form, mode):
    query, headers, body = build(form, mode, world.root)
    pieces = [body[i : i + 97] for i in range(0, len(body), 97)]
    answer = await client.send("PUT", b"/b/k", query, headers, pieces)
    assert answer.status == 200, answer
    assert b'size="1200"' in answer.body
    assert len(front_end.handled) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["header", "query"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["forged", "unknown", "impostor", "other user"])
async def test_nobody_else_reaches_a_handler(client, front_end, world, method, form, mode, who):
    by, forge, reason = {
        "forged": (world.root, True, "SignatureDoesNotMatch"),
        "unknown": (
            Credential("AKIANOBODY", "some secret", world.root.identity), False,
            "InvalidAccessKeyId",
        ),
        "impostor": (
            Credential(world.root.access_key, "a guess", world.root.identity), False,
            "SignatureDoesNotMatch",
        ),
        "other user": (world.bob, False, "AccessDenied"),
    }[who]  # fmt: skip
    query, headers, body = build(form, mode, by, method, forge=forge)
    answer = await client.send(method, b"/b/k", query, headers, [body])
    assert (answer.status, answer.reason) == (403, reason)
    assert front_end.handled == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [None, *MODES])
async def test_anonymous_reaches_no_handler(client, front_end, method, mode):
    headers = [HOST, (b"content-length", b"%d" % len(DATA))]
    if mode is not None:
        headers.append((b"x-amz-content-sha256", mode))
        headers.append((b"x-amz-decoded-content-length", b"%d" % len(DATA)))
    answer = await client.send(method, b"/b/k", b"", headers, [DATA])
    assert (answer.status, answer.reason) == (403, "AccessDenied")
    assert front_end.handled == []


async def test_unknown_operations_never_reach_a_handler(client, front_end, world):
    for by in (None, world.root):
        answer = await client.call("TRACE", by=by)
        assert answer.status == 501
    assert front_end.handled == []


async def test_public_operations_need_no_credentials_but_no_wrong_ones(client, front_end, world):
    answer = await client.call("PATCH", by=None)
    assert (answer.status, answer.headers[b"x-caller"]) == (200, b"anonymous")
    wrong = Credential("AKIAROOT", "a guess", world.root.identity)
    assert (await client.call("PATCH", by=wrong)).status == 403
    assert len(front_end.handled) == 1


async def test_what_else_is_touched_is_authorized_too(client, front_end):
    source = (b"x-amz-copy-source", b"/other/key")
    answer = await client.call("PATCH", by=None, headers=[source])
    assert (answer.status, answer.reason) == (403, "AccessDenied")
    assert front_end.handled == []


async def test_handlers_can_ask_again(client, front_end, world):
    asked = []

    async def ask(scope, receive, send):
        request = scope["objectio"]
        await request.trust(Wanted("s3:DeleteObject", "b/k2"))
        asked.append(request.identity.name)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    front_end.responses[b"/ask"] = ask
    assert (await client.call("PATCH", path=b"/ask")).status == 204
    for by in (None, world.bob):
        answer = await client.call("PATCH", path=b"/ask", by=by)
        assert (answer.status, answer.reason) == (403, "AccessDenied")
    assert asked == ["root"]


async def test_a_body_other_than_the_signed_one(client, front_end, world):
    for form in ("header", "query"):
        for method in ("PUT", "POST"):
            query, headers, body = build(form, LITERAL, world.root, method)
            front_end.handled.clear()
            answer = await client.send(method, b"/b/k", query, headers, [body[:-1] + b"X"])
            assert (answer.status, answer.reason) == (400, "XAmzContentSHA256Mismatch")
            assert len(front_end.handled) == (1 if method == "PUT" else 0)


@pytest.mark.parametrize("form", ["header", "query"])
@pytest.mark.parametrize("mode", [canonical.STREAMING_SIGNED, canonical.STREAMING_SIGNED_TRAILER])
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_chunk_other_than_the_signed_one(client, world, form, mode, method):
    query, headers, body = build(form, mode, world.root, method)
    for old, new in ((b"hello", b"jello"), (b";chunk-signature=", b";chunk-signature=")):
        forged = body.replace(old, new, 1)
        if old == new:  # the first digit of the last chunk's signature
            at = body.rindex(b"0;chunk-signature=") + len(b"0;chunk-signature=")
            forged = body[:at] + (b"1" if body[at : at + 1] != b"1" else b"2") + body[at + 1 :]
        assert forged != body
        answer = await client.send(method, b"/b/k", query, headers, [forged])
        assert (answer.status, answer.reason) == (400, "SignatureDoesNotMatch")


async def test_chunks_of_another_request_do_not_fit(client, world):
    query, headers, _ = build("header", canonical.STREAMING_SIGNED, world.root)
    other = signer.sign_request(
        world.root, "PUT", b"/b/other", b"", [HOST], content_sha256=canonical.STREAMING_SIGNED
    )
    body = encode(canonical.STREAMING_SIGNED, world.root, other)
    answer = await client.send("PUT", b"/b/k", query, headers, [body])
    assert (answer.status, answer.reason) == (400, "SignatureDoesNotMatch")


@pytest.mark.parametrize("mode", MODES[2:])
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_truncated_body_is_refused_and_ends(client, world, mode, method):
    query, headers, body = build("header", mode, world.root, method)
    for end in (0, 1, 300, len(body) - 1):
        answer = await client.send(method, b"/b/k", query, headers, [body[:end]])
        assert (answer.status, answer.reason) == (400, "IncompleteBody")


@pytest.mark.parametrize(
    "mode",
    [
        b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
        b"STREAMING-ANYTHING",
    ],
)
async def test_unknown_streaming_modes(client, front_end, mode):
    answer = await client.call("PUT", body=DATA, content_sha256=mode)
    assert (answer.status, answer.reason) == (501, "NotImplemented")
    assert front_end.handled == []


@pytest.mark.parametrize("mode", [b"unsigned-payload", b"x", b"0" * 63, b"g" * 64])
async def test_invalid_content_hash(client, front_end, mode):
    answer = await client.call("PUT", body=DATA, content_sha256=mode)
    assert (answer.status, answer.reason) == (403, "InvalidArgument")
    assert front_end.handled == []


async def test_unsigned_payload_over_http_can_be_forbidden(make_client, world):
    strict = make_client(Gate(world.store, unsigned_payload_over_http=False))
    for form in ("header", "query"):
        for mode in MODES:
            query, headers, body = build(form, mode, world.root)
            for scheme in ("http", "https"):
                answer = await strict.send("PUT", b"/b/k", query, headers, [body], scheme=scheme)
                covered = b"UNSIGNED" not in mode
                assert answer.status == (200 if covered or scheme == "https" else 403)
    query, headers, _ = build("query", canonical.UNSIGNED_PAYLOAD, world.root, "GET", b"")
    assert (await strict.send("GET", b"/b/k", query, headers, [b""])).status == 200


async def test_no_auth_mode_makes_everybody_root(make_client, world):
    open_door = make_client(Gate(world.store, auth_enabled=False))
    for form in ("header", "query"):
        for mode in MODES:
            for by in (world.root, world.bob, Credential("AKIAX", "guess", world.bob.identity)):
                query, headers, body = build(form, mode, by, forge=True)
                answer = await open_door.send("PUT", b"/b/k", query, headers, [body])
                assert (answer.status, answer.headers[b"x-caller"]) == (200, b"root")
                assert b'size="1200"' in answer.body
    assert (await open_door.call(by=None)).status == 200


async def test_no_auth_mode_still_checks_what_protects_the_data(make_client, world):
    open_door = make_client(Gate(world.store, auth_enabled=False))
    query, headers, body = build("header", LITERAL, world.root)
    answer = await open_door.send("PUT", b"/b/k", query, headers, [body[:-1] + b"X"])
    assert answer.reason == "XAmzContentSHA256Mismatch"
    query, headers, body = build("header", canonical.STREAMING_SIGNED, world.root)
    answer = await open_door.send("PUT", b"/b/k", query, headers, [body[:-5]])
    assert answer.reason == "IncompleteBody"
    forged = body.replace(b"chunk-signature=", b"chunk-signature=0", 1)
    answer = await open_door.send("PUT", b"/b/k", query, headers, [forged])
    assert answer.reason == "InvalidRequest"


async def test_no_secret_reaches_a_log_or_a_response(client, front_end, world, caplog):
    caplog.set_level(logging.DEBUG)

    async def broken(scope, receive, send):
        credential = world.root
        raise RuntimeError(f"details that are nobody's business: {credential!r}")

    front_end.responses[b"/broken"] = broken
    seen = []
    for form in ("header", "query"):
        for mode in MODES:
            for forge in (False, True):
                query, headers, body = build(form, mode, world.root, forge=forge)
                seen.append(await client.send("PUT", b"/b/k", query, headers, [body]))
    seen += [
        await client.call("GET", path=b"/broken", by=by) for by in (world.root, world.bob, None)
    ]
    presigned = signer.presign(world.root, "GET", b"/broken", b"", [HOST])
    seen.append(await client.send("GET", b"/broken", presigned, [HOST], [b""]))
    assert "request_id=" in caplog.text
    assert world.canary not in caplog.text
    assert presigned[-64:].decode() not in caplog.text
    for answer in seen:
        assert world.canary.encode() not in answer.body
        assert b"nobody's business" not in answer.body
    assert seen[-1].status == 500
