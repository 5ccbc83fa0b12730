"""The body alone: sizes, digests, timeouts, and what `finish` refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib

import pytest

from objectio.errors import (
    LocalProtocolError,
    PayloadDigestMismatch,
    PayloadIncomplete,
    PayloadMalformed,
    PayloadTimeout,
    PayloadTooLarge,
)
from objectio.gateway.body import UNSIZED_BYTES_MAX, Pace, open_body, undeclared_body
from objectio.iam import canonical, signer

DATA = bytes(range(256)) * 40


def source(pieces, end=True):
    """An ASGI receive over `pieces`; without `end` the client disconnects after them."""
    messages = [
        {"type": "http.request", "body": piece, "more_body": not end or i < len(pieces) - 1}
        for i, piece in enumerate(pieces)
    ]
    messages.append({"type": "http.disconnect"})
    iterator = iter(messages)

    async def receive():
        return next(iterator)

    return receive


def make(pieces=(DATA,), headers=None, end=True, payload=True, **settings):
    headers = {b"content-length": b"%d" % sum(map(len, pieces)), **(headers or {})}
    headers = {name: value for name, value in headers.items() if value is not None}
    return open_body(source(list(pieces), end), headers, None, payload=payload, **settings)


async def consume(body):
    found = b""
    while data := await body.read():
        body.digest(data)
        found += data
    return found, body.finish()


CHUNKED = {b"content-length": None, b"transfer-encoding": b"chunked"}


@pytest.mark.parametrize("pieces", [[b""], [b"", DATA, b"", b"x"], [bytes(UNSIZED_BYTES_MAX)]])
async def test_a_size_that_nobody_declared_is_found_out_first(pieces):
    data = b"".join(pieces)
    sha256 = hashlib.sha256(data).hexdigest().encode()
    body = make(pieces, {**CHUNKED, b"x-amz-content-sha256": sha256})
    assert body.must_be_read
    assert body.is_unsized
    await body.settle()
    assert body.size == len(data)
    md5 = body.md5
    found, digests = await consume(body)
    assert (found, digests.etag) == (data, md5.hexdigest())


async def test_of_an_undeclared_size_only_so_much_is_kept():
    body = make([bytes(UNSIZED_BYTES_MAX), b"x", DATA], CHUNKED)
    with pytest.raises(PayloadMalformed) as caught:
        await body.settle()
    assert caught.value.fields["reason"] == "MissingContentLength"


async def test_an_undeclared_size_hides_no_other_body():
    body = make([DATA], {**CHUNKED, b"x-amz-content-sha256": canonical.EMPTY_SHA256})
    await body.settle()
    with pytest.raises(PayloadDigestMismatch):
        await consume(body)
    body = make([DATA], CHUNKED, end=False)
    with pytest.raises(PayloadIncomplete):
        await body.settle()


async def test_pieces_come_as_they_are_and_md5_is_the_default_etag():
    body = make([DATA[:1000], DATA[1000:]])
    md5 = body.md5
    assert body.size == len(DATA)
    first = await body.read()
    assert first == DATA[:1000]
    body.digest(memoryview(first))
    found, digests = await consume(body)
    assert first + found == DATA
    assert digests.etag == md5.hexdigest() == hashlib.md5(DATA).hexdigest()
    assert await body.read() == b""
    assert body.unread == 0


async def test_no_md5_unless_somebody_wants_it():
    body = make()
    assert (await consume(body))[1].etag == ""


async def test_added_digests_checks_and_etag():
    body = make()
    crc = 0

    def update(data):
        nonlocal crc
        crc = zlib.crc32(data, crc)

    seen = []
    body.add_digest("crc32", update)
    body.add_check(lambda trailers: seen.append(dict(trailers)))
    body.set_etag(lambda: "my-etag", lambda: {"CRC32": f"{crc:x}"})
    digests = (await consume(body))[1]
    assert digests == ("my-etag", {"CRC32": f"{zlib.crc32(DATA):x}"})
    assert seen == [{}]


async def test_a_check_that_raises():
    body = make()

    def refuse(trailers):
        raise PayloadDigestMismatch("no", digest="crc32")

    body.add_check(refuse)
    with pytest.raises(PayloadDigestMismatch):
        await consume(body)


async def test_content_md5_shares_the_digest():
    right = base64.b64encode(hashlib.md5(DATA).digest())
    body = make(headers={b"content-md5": right})
    before = len(body._updates)
    assert body.md5 is body.md5
    assert len(body._updates) == before == 1
    assert (await consume(body))[1].etag == hashlib.md5(DATA).hexdigest()
    wrong = make(headers={b"content-md5": base64.b64encode(bytes(16))})
    with pytest.raises(PayloadDigestMismatch) as caught:
        await consume(wrong)
    assert caught.value.fields["reason"] == "BadDigest"


@pytest.mark.parametrize("value", [b"", b"x", b"YWJj", b"!" * 24, base64.b64encode(bytes(17))])
def test_content_md5_that_is_none(value):
    with pytest.raises(PayloadMalformed) as caught:
        make(headers={b"content-md5": value})
    assert caught.value.fields["reason"] == "InvalidDigest"


async def test_literal_hash():
    right = hashlib.sha256(DATA).hexdigest().encode()
    for value in (right, right.upper()):
        await consume(make(headers={b"x-amz-content-sha256": value}))
    for data, value in ((DATA, b"0" * 64), (b"", right)):
        with pytest.raises(PayloadDigestMismatch) as caught:
            await consume(make([data], headers={b"x-amz-content-sha256": value}))
        assert caught.value.fields["digest"] == "sha256-header"
    await consume(make([b""], headers={b"x-amz-content-sha256": canonical.EMPTY_SHA256}))


async def test_undigested_bytes_cannot_be_finished():
    body = make()
    while await body.read():
        pass
    with pytest.raises(LocalProtocolError):
        body.finish()
    early = make([DATA[:10], DATA[10:]])
    early.digest(await early.read())
    with pytest.raises(PayloadIncomplete):
        early.finish()


async def test_digests_are_added_before_the_first_byte():
    body = make()
    body.digest(await body.read())
    with pytest.raises(LocalProtocolError):
        body.add_digest("late", lambda data: None)
    with pytest.raises(LocalProtocolError):
        _ = body.md5


@pytest.mark.parametrize("framed", [False, True])
async def test_disconnect(framed):
    if framed:
        stream = b"".join(signer.encode_unsigned_chunks(DATA, 1000))
        headers = {
            b"x-amz-content-sha256": canonical.STREAMING_UNSIGNED_TRAILER,
            b"x-amz-decoded-content-length": b"%d" % len(DATA),
            b"content-length": b"%d" % len(stream),
        }
        body = make([stream[:500]], headers, end=False)
    else:
        body = make([DATA], {b"content-length": b"99999"}, end=False)
    with pytest.raises(PayloadIncomplete) as caught:
        await consume(body)
    assert caught.value.fields["reason"] == "IncompleteBody"
    assert body.unread == 0


async def test_silence_times_out_and_progress_does_not():
    asked = 0

    async def drip():
        nonlocal asked
        asked += 1
        if asked > 6:
            await asyncio.Event().wait()
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    body = open_body(drip, {b"content-length": b"10"}, None, payload=True, pace=Pace(0.08))
    with pytest.raises(PayloadTimeout) as caught:
        await consume(body)
    assert asked == 7
    assert caught.value.fields["reason"] == "RequestTimeout"
    assert asyncio.current_task().cancelling() == 0


async def test_cancellation_from_elsewhere_is_not_a_timeout():
    async def never():
        await asyncio.Event().wait()

    body = open_body(never, {b"content-length": b"10"}, None, payload=True, pace=Pace(30))
    task = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("headers", "payload", "reason"),
    [
        ({}, True, "MissingContentLength"),
        ({b"transfer-encoding": b"chunked"}, False, "MissingContentLength"),
        ({b"content-length": b"-1"}, True, "InvalidArgument"),
        ({b"content-length": b"1e3"}, True, "InvalidArgument"),
        ({b"content-length": b""}, True, "InvalidArgument"),
        ({b"content-length": "١".encode()}, True, "InvalidArgument"),
        (
            {
                b"x-amz-content-sha256": canonical.STREAMING_UNSIGNED_TRAILER,
                b"content-length": b"5",
            },
            True,
            "MissingContentLength",
        ),
        (
            {
                b"x-amz-content-sha256": canonical.STREAMING_SIGNED,
                b"x-amz-decoded-content-length": b"x",
            },
            True,
            "InvalidArgument",
        ),
        (
            {
                b"x-amz-content-sha256": canonical.STREAMING_SIGNED,
                b"x-amz-decoded-content-length": b"0",
                b"x-amz-trailer": b"x-amz-checksum-crc32",
            },
            True,
            "InvalidRequest",
        ),
        (
            {
                b"x-amz-content-sha256": canonical.STREAMING_UNSIGNED_TRAILER,
                b"x-amz-decoded-content-length": b"0",
                b"x-amz-trailer": b",".join(b"x-%d" % i for i in range(17)),
            },
            True,
            "InvalidRequest",
        ),
    ],
)
def test_sizes_and_trailers_that_are_refused(headers, payload, reason):
    with pytest.raises(PayloadMalformed) as caught:
        open_body(source([]), headers, None, payload=payload)
    assert caught.value.fields["reason"] == reason


def test_size_limit_is_checked_before_a_byte_is_read():
    for payload, reason in ((True, "EntityTooLarge"), (False, "MaxMessageLengthExceeded")):
        with pytest.raises(PayloadTooLarge) as caught:
            make([DATA], payload=payload, bytes_max=len(DATA) - 1)
        assert caught.value.fields["reason"] == reason
    assert make([DATA], bytes_max=len(DATA)).size == len(DATA)


def framed_headers(stream, size, **extra):
    return {
        b"x-amz-content-sha256": canonical.STREAMING_UNSIGNED_TRAILER,
        b"x-amz-decoded-content-length": b"%d" % size,
        b"content-length": b"%d" % len(stream),
        b"x-amz-trailer": b"X-Amz-Checksum-Crc32 , x-amz-other",
        **extra,
    }


TRAILERS = [(b"x-amz-checksum-crc32", b"AAAAAA=="), (b"x-amz-other", b"1")]


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("length", ["content-length", "chunked transfer"])
async def test_framed_body(step, length):
    stream = b"".join(signer.encode_unsigned_chunks(DATA, 3000, TRAILERS))
    headers = framed_headers(stream, len(DATA))
    if length != "content-length":
        headers[b"content-length"] = None
        headers[b"transfer-encoding"] = b"chunked"
    body = make([stream[i : i + step] for i in range(0, len(stream), step)], headers)
    assert body.size == len(DATA)
    assert body.declared_trailers == ("x-amz-checksum-crc32", "x-amz-other")
    seen = {}
    body.add_check(seen.update)
    # A store that counts bytes and never asks for the end must have all of the framing as well.
    found = b""
    while len(found) < body.size:
        data = await body.read()
        body.digest(data)
        found += data
    body.finish()
    assert found == DATA
    assert seen == {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-other": "1"}
    assert body.bytes_in == len(stream)


async def test_framed_body_of_no_bytes_is_read_by_settle():
    stream = b"".join(signer.encode_unsigned_chunks(b"", 3000, TRAILERS))
    body = make([stream], framed_headers(stream, 0))
    await body.settle()
    assert body.finish().etag == ""
    cut = make([stream[:-2]], framed_headers(stream, 0))
    with pytest.raises(PayloadIncomplete):
        await cut.settle()


async def test_bytes_behind_the_framing():
    stream = b"".join(signer.encode_unsigned_chunks(DATA, 3000, TRAILERS))
    for pieces in ([stream + b"x"], [stream, b"x"]):
        headers = framed_headers(stream + b"x", len(DATA))
        with pytest.raises(PayloadMalformed):
            await consume(make(pieces, headers))


async def test_more_bytes_than_declared():
    with pytest.raises((PayloadMalformed, PayloadIncomplete)):
        await consume(make([DATA, DATA], {b"content-length": b"%d" % (len(DATA) + 1)}))


async def test_read_all_may_be_repeated_and_extended():
    body = make([DATA[:5], DATA[5:]], payload=False)
    assert await body.read_all() == DATA
    assert await body.read_all() is await body.read_all()
    assert body.md5.hexdigest() == hashlib.md5(DATA).hexdigest()
    seen = []
    body.add_digest("late", seen.append)
    assert seen == [DATA]
    body.add_check(lambda trailers: seen.append("checked"))
    await body.read_all()
    await body.read_all()
    assert seen == [DATA, "checked"]


async def test_asgi_receive_gives_only_what_is_verified():
    body = make(payload=False)
    with pytest.raises(LocalProtocolError):
        await body.receive()
    await body.read_all()
    assert await body.receive() == {"type": "http.request", "body": DATA, "more_body": False}
    assert await body.receive() == {"type": "http.disconnect"}


async def test_unread():
    body = make([DATA[:10], DATA[10:]])
    assert body.unread == len(DATA)
    await body.read()
    assert body.unread == len(DATA) - 10
    for headers, unread in (
        ([], 0),
        ([(b"content-length", b"7")], 7),
        ([(b"content-length", b"x")], None),
        ([(b"transfer-encoding", b"chunked")], None),
    ):
        assert undeclared_body(source([]), headers).unread == unread
