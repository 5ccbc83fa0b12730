"""aws-chunked: any split gives the same, and nothing but `PayloadError` comes out of garbage."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from objectio.errors import (
    LocalProtocolError,
    PayloadDigestMismatch,
    PayloadError,
    PayloadIncomplete,
    PayloadMalformed,
)
from objectio.iam import canonical, signer
from objectio.iam.chunked import LINE_BYTES_MAX, TRAILER_BYTES_MAX, ChunkedDecoder, ChunkSignatures
from objectio.iam.credentials import root_credential

ALICE = root_credential("AKIAALICE", "alice-has-a-secret")
HEADERS = signer.sign_request(
    ALICE,
    "PUT",
    b"/b/k",
    b"",
    [(b"host", b"h")],
    content_sha256=canonical.STREAMING_SIGNED,
    now=1e9,
)
CRC = (b"x-amz-checksum-crc32", b"AAAAAA==")
SHA = (b"x-amz-checksum-sha256", b"ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")
FORMS = ["signed", "signed trailer", "unsigned trailer"]


def signatures():
    fresh = signer.ChunkSigner(ALICE, HEADERS)
    scope = b"20010909/us-east-1/s3/aws4_request"
    return ChunkSignatures(fresh._key, b"20010909T014640Z", scope, fresh.signature)


def encode(form, data, chunk_bytes=7, trailers=(CRC,)):
    if form == "unsigned trailer":
        return b"".join(signer.encode_unsigned_chunks(data, chunk_bytes, trailers))
    own = signer.ChunkSigner(ALICE, HEADERS)
    return b"".join(own.encode(data, chunk_bytes, None if form == "signed" else trailers))


def make(form, size, trailers=(CRC,), chain=None):
    declared = [name.decode() for name, _ in trailers] if form != "signed" else []
    return ChunkedDecoder(
        size,
        signed=form != "unsigned trailer",
        with_trailer=form != "signed",
        declared_trailers=declared,
        signatures=chain,
    )


def decode(form, pieces, size, trailers=(CRC,), checked=True):
    chain = signatures() if checked and form != "unsigned trailer" else None
    decoder = make(form, size, trailers, chain)
    found = b""
    for piece in pieces:
        data = decoder.feed(piece)
        if chain is not None:
            chain.digest(data)
        found += data
    decoder.finish()
    decoder.verify()
    return found, decoder.trailers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 14, 100])
def test_round_trip(form, size):
    data = bytes(range(size))
    found, trailers = decode(form, [encode(form, data)], size)
    assert found == data
    assert trailers == ({} if form == "signed" else {"x-amz-checksum-crc32": "AAAAAA=="})


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=64), chunk_bytes=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_any_split_gives_the_same(form, data, chunk_bytes, seed):
    stream = encode(form, data, chunk_bytes)
    cuts = sorted(random.Random(seed).choices(range(len(stream) + 1), k=seed % 12))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(form, pieces, len(data)) == decode(form, [stream], len(data))
    assert decode(form, pieces, len(data))[0] == data


@pytest.mark.parametrize("form", FORMS)
def test_byte_by_byte(form):
    stream = encode(form, b"hello, world", 5)
    assert decode(form, [bytes([byte]) for byte in stream], 12)[0] == b"hello, world"


@pytest.mark.parametrize("form", FORMS)
def test_truncated_anywhere_is_incomplete(form):
    stream = encode(form, b"hello, world", 5)
    for end in range(len(stream)):
        with pytest.raises(PayloadIncomplete) as caught:
            decode(form, [stream[:end]], 12)
        assert caught.value.fields["reason"] == "IncompleteBody"


@pytest.mark.parametrize("form", FORMS)
def test_any_changed_byte_is_noticed(form):
    """In signed forms, all of the stream; without signatures, what is not data or a trailer."""
    data = b"hello, world"
    stream = encode(form, data, 5)
    for index in range(len(stream)):
        changed = bytearray(stream)
        changed[index] ^= 0x01
        try:
            found = decode(form, [bytes(changed)], len(data))
        except PayloadError:
            continue
        if form == "unsigned trailer":
            continue
        # Only what reads the same may pass: "1A" and "1a", ":" alone may not change.
        assert found == decode(form, [stream], len(data)), (index, stream[index : index + 1])


@pytest.mark.parametrize("form", ["signed", "signed trailer"])
def test_chunks_swapped_dropped_or_repeated(form):
    own = signer.ChunkSigner(ALICE, HEADERS)
    chunks = list(own.encode(b"aaaabbbbcccc", 4, None if form == "signed" else [CRC]))
    for order in ([1, 0, 2], [0, 2], [0, 0, 2], [0, 1, 1]):
        stream = b"".join([*(chunks[i] for i in order), *chunks[3:]])
        with pytest.raises(PayloadError):
            decode(form, [stream], 4 * len(order))


def test_the_last_chunk_is_signed_too():
    stream = encode("signed", b"aaaa", 4)
    head, last = stream.rsplit(b"0;chunk-signature=", 1)
    forged = head + b"0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
    assert len(last) == 68
    with pytest.raises(PayloadDigestMismatch) as caught:
        decode("signed", [forged], 4)
    assert caught.value.fields["digest"] == "chunk-signature"
    assert caught.value.fields["reason"] == "SignatureDoesNotMatch"


def test_forged_trailers():
    stream = encode("signed trailer", b"aaaa", 4)
    for old, new in ((b"AAAAAA==", b"AAAAAQ=="), (stream[-68:-4], b"0" * 64)):
        with pytest.raises(PayloadDigestMismatch):
            decode("signed trailer", [stream.replace(old, new)], 4)
    without = stream[: stream.rindex(b"x-amz-trailer-signature")] + b"\r\n"
    with pytest.raises(PayloadIncomplete):
        decode("signed trailer", [without], 4)


def test_minio_go_writes_an_empty_line_before_the_signature():
    stream = encode("signed trailer", b"aaaa", 4)
    stream = stream.replace(b"AAAAAA==\r\n", b"AAAAAA==\n\r\n")
    assert decode("signed trailer", [stream], 4)[1] == {"x-amz-checksum-crc32": "AAAAAA=="}


def test_several_trailers_signed_as_sent_or_sorted():
    for trailers in ([CRC, SHA], [SHA, CRC]):
        own = signer.ChunkSigner(ALICE, HEADERS)
        stream = b"".join(own.encode(b"aaaa", 4, trailers))
        assert len(decode("signed trailer", [stream], 4, trailers)[1]) == 2
    own = signer.ChunkSigner(ALICE, HEADERS)
    stream = b"".join(own.encode(b"aaaa", 4, [CRC, SHA]))
    lines = [b"%b:%b\r\n" % item for item in (CRC, SHA)]
    swapped = stream.replace(b"".join(lines), b"".join(lines[::-1]))
    assert swapped != stream
    assert len(decode("signed trailer", [swapped], 4, [CRC, SHA])[1]) == 2


@pytest.mark.parametrize("form", ["signed trailer", "unsigned trailer"])
@pytest.mark.parametrize(
    ("sent", "declared"),
    [
        ([CRC], []),
        ([SHA], [CRC]),
        ([CRC, SHA], [CRC]),
        ([CRC, CRC], [CRC]),
        ([], [CRC]),
        ([(b"x-amz-checksum-crc32", b"")], [CRC]),
        ([(b"bad name", b"v")], [CRC]),
        ([(b"x-amz-checksum-crc32", b"a\x00b")], [CRC]),
        ([(b"", b"v")], [CRC]),
    ],
)
def test_trailers_must_be_as_declared(form, sent, declared):
    stream = encode(form, b"aaaa", 4, sent)
    with pytest.raises(PayloadMalformed) as caught:
        decode(form, [stream], 4, declared)
    assert caught.value.fields["reason"] == "MalformedTrailerError"


def test_a_signature_trailer_in_the_unsigned_form_is_undeclared():
    stream = encode("unsigned trailer", b"aaaa", 4, [CRC, (b"x-amz-trailer-signature", b"0" * 64)])
    with pytest.raises(PayloadMalformed):
        decode("unsigned trailer", [stream], 4)


def test_no_trailers_declared_and_none_sent():
    stream = encode("unsigned trailer", b"aaaa", 4, ())
    assert decode("unsigned trailer", [stream], 4, ()) == (b"aaaa", {})


def test_a_trailer_where_the_form_has_none():
    stream = encode("signed", b"aaaa", 4)[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    with pytest.raises(PayloadMalformed):
        decode("signed", [stream], 4)


@pytest.mark.parametrize(
    "stream",
    [
        b"4\naaaa\r\n0\r\n\r\n",
        b" 4\r\naaaa\r\n0\r\n\r\n",
        b"+4\r\naaaa\r\n0\r\n\r\n",
        b"-4\r\naaaa\r\n0\r\n\r\n",
        b"0x4\r\naaaa\r\n0\r\n\r\n",
        b"4_0\r\naaaa\r\n0\r\n\r\n",
        b"\r\naaaa\r\n0\r\n\r\n",
        b"4;ext=1\r\naaaa\r\n0\r\n\r\n",
        b"4;chunk-signature=" + b"0" * 64 + b"\r\naaaa\r\n0\r\n\r\n",
        b"4\r\naaaaX\r\n0\r\n\r\n",
        b"4\r\naaaa\n0\r\n\r\n",
        b"4\r\naaaa0\r\n\r\n",
        b"4\r\naaaa\r\n0\r\n\r\nmore",
        b"4\r\naaaa\r\n0\r\n\r\n\r\n",
        b"5\r\naaaaa\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\naaaa",
        b"fffffffffffffffff\r\naaaa",
        b"00000000000000004\r\naaaa",
        b"4\r\naaaa\r\n1\r\na\r\n0\r\n\r\n",
        b"1" * (LINE_BYTES_MAX + 1),
        "٤\r\naaaa\r\n0\r\n\r\n".encode(),
    ],
)
def test_malformed_framing(stream):
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        with pytest.raises(PayloadMalformed):
            decode("unsigned trailer", pieces, 4, ())


@pytest.mark.parametrize(
    "header",
    [
        b"4",
        b"4;chunk-signature=",
        b"4;chunk-signature=" + b"0" * 63,
        b"4;chunk-signature=" + b"0" * 65,
        b"4;chunk-signature=" + b"G" * 64,
        b"4; chunk-signature=" + b"0" * 64,
        b"4;chunk-signature=" + b"0" * 64 + b";x=y",
    ],
)
def test_malformed_signed_headers(header):
    with pytest.raises(PayloadMalformed):
        decode("signed", [header + b"\r\naaaa\r\n"], 4)


def test_fewer_bytes_than_declared():
    for form in FORMS:
        with pytest.raises(PayloadIncomplete):
            decode(form, [encode(form, b"aaaa", 4)], 5)


def test_trailers_are_bounded():
    decoder = make("unsigned trailer", 0, ())
    decoder.feed(b"0\r\n")
    with pytest.raises(PayloadMalformed):
        decoder.feed(b"a" * TRAILER_BYTES_MAX)
    blank = make("signed trailer", 0, ())
    blank.feed(b"0;chunk-signature=" + b"0" * 64 + b"\r\n")
    with pytest.raises(PayloadMalformed):
        blank.feed(b"\r\n" * TRAILER_BYTES_MAX)


def test_undigested_data_cannot_be_verified():
    chain = signatures()
    decoder = make("signed", 4, (), chain)
    decoder.feed(encode("signed", b"aaaa", 4))
    decoder.finish()
    with pytest.raises(LocalProtocolError):
        decoder.verify()
    with pytest.raises(LocalProtocolError):
        signatures().digest(b"never announced")


def test_without_a_chain_signatures_are_skipped_and_framing_is_not():
    stream = encode("signed", b"aaaa", 4).replace(b"chunk-signature=", b"chunk-signature=", 1)
    forged = stream[:20] + b"0" * 10 + stream[30:]
    assert decode("signed", [forged], 4, checked=False)[0] == b"aaaa"
    with pytest.raises(PayloadMalformed):
        decode("signed", [b"4\r\naaaa\r\n0\r\n\r\n"], 4, checked=False)


FRAGMENTS = [
    b"0\r\n", b"4\r\naaaa\r\n", b"\r\n", b"\n", b"\r", b";chunk-signature=" + b"0" * 64, b"4",
    b"0;chunk-signature=" + b"a" * 64 + b"\r\n", b"x-amz-checksum-crc32:AAAAAA==\r\n", b"ffffffff",
    b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n", b"aaaa",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300)
@given(
    pieces=st.lists(st.binary(max_size=40) | st.sampled_from(FRAGMENTS), max_size=12),
    size=st.integers(0, 20),
)
@example(pieces=[b""], size=0)
def test_garbage_raises_nothing_but_payload_errors(form, pieces, size):
    try:
        found, _ = decode(form, pieces, size)
    except PayloadError as error:
        assert "reason" in error.fields  # noqa: PT017 - whether it raises is not what is asked
    else:
        assert len(found) == size


def test_large_bodies_cost_no_more_per_byte():
    """Quadratic buffering would take minutes here, work per byte seconds."""
    data = bytes(8 << 20)
    stream = encode("unsigned trailer", data, 1 << 20)
    started = time.perf_counter()
    pieces = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    decoder = make("unsigned trailer", len(data))
    assert sum(len(decoder.feed(piece)) for piece in pieces) == len(data)
    assert decoder.done
    assert time.perf_counter() - started < 2.0
