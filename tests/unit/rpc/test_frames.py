"""Frames: any split of the bytes gives the same frames, and no bytes do anything but fail."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.errors import LocalProtocolError, RemoteProtocolError
from objectio.rpc.frames import (
    DIRECT_BYTES_MIN,
    FRAME_BYTES_MAX,
    HANDSHAKE_FRAME_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEADER_BYTES,
    JOINED_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RECEIVE_BUFFER_BYTES,
    FrameReader,
    Header,
    Kind,
    encode,
)


class Memory:
    """Allocates; `room` says how often it may before it has none."""

    def __init__(self, room=None):
        self.room = room
        self.allocated = []

    def allocate(self, header, head, payload_bytes):
        if self.room == 0:
            return None
        if self.room is not None:
            self.room -= 1
        self.allocated.append((header, head, payload_bytes))
        return memoryview(bytearray(payload_bytes))


def reader_of(memory=None):
    reader = FrameReader(memory or Memory())
    reader.frame_bytes_max = FRAME_BYTES_MAX
    return reader


def bytes_of(*encoded):
    return b"".join(bytes(part) for each in encoded for part in each.parts)


def feed(reader, raw, sizes=()):
    """Give the bytes in pieces of these sizes at most, then in what the reader takes."""
    sizes, view, frames = iter(sizes), memoryview(raw), []
    while view:
        buffer = reader.get_buffer()
        assert buffer.nbytes > 0
        count = min(buffer.nbytes, len(view), next(sizes, len(view)))
        buffer[:count] = view[:count]
        view = view[count:]
        for header, head, payload in reader.received(count):
            frames.append((header, head, bytes(payload)))
    return frames


headers = st.builds(
    Header,
    st.sampled_from(list(Kind)),
    st.sampled_from([0, 1]),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
lengths = st.one_of(
    st.integers(0, 200),
    st.sampled_from(
        [
            JOINED_BYTES_MAX,
            JOINED_BYTES_MAX + 1,
            DIRECT_BYTES_MIN - 1,
            DIRECT_BYTES_MIN,
            RECEIVE_BUFFER_BYTES,
            3 * RECEIVE_BUFFER_BYTES + 5,
        ]
    ),
)
frames = st.tuples(
    headers,
    st.one_of(st.binary(max_size=80), st.just(b"h" * HEAD_BYTES_MAX)),
    st.lists(lengths.map(lambda count: bytes(range(256)) * (count // 256) + b"x" * (count % 256))),
)
sizes = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 100_000)), max_size=60)


@given(st.lists(frames, max_size=6), sizes)
def test_any_split_gives_the_same_frames(sent, pieces):
    raw = bytes_of(*(encode(*frame) for frame in sent))
    got = feed(reader_of(), raw, pieces)
    assert got == [(header, head, b"".join(payload)) for header, head, payload in sent]


def test_byte_by_byte():
    sent = (Header(Kind.REPLY, call_id=9), b"head", [bytes(DIRECT_BYTES_MIN)])
    raw = bytes_of(encode(*sent), encode(Header(Kind.PING)))
    got = feed(reader_of(), raw, [1] * len(raw))
    assert [frame[0].kind for frame in got] == [Kind.REPLY, Kind.PING]


@given(st.binary(max_size=3000), sizes)
def test_noise_never_does_anything_but_fail(noise, pieces):
    with contextlib.suppress(RemoteProtocolError):
        feed(reader_of(), noise, pieces)


@given(st.data(), frames, sizes)
def test_a_flipped_bit_is_noticed(data, sent, pieces):
    raw = bytearray(bytes_of(encode(*sent), encode(Header(Kind.PING))))
    length = len(raw) - HEADER_BYTES
    at = data.draw(st.one_of(st.integers(0, HEADER_BYTES - 1), st.integers(0, length - 1)))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    header, head, payload = sent
    try:
        got = feed(reader_of(), raw, pieces)
    except RemoteProtocolError:
        return
    # A length that grew, so that more must come; never another frame.
    assert got == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 0),
        ("kind", len(Kind) + 1),
        ("flags", 2),
        ("length", HEADER_BYTES - 1),
        ("length", FRAME_BYTES_MAX + 1),
        ("length", 2**32 - 1),
        ("head_bytes", 1),
        ("head_bytes", HEAD_BYTES_MAX + 1),
    ],
)
def test_what_is_no_header_is_refused_before_anything_is_allocated(field, value):
    raw = bytearray(bytes_of(encode(Header(Kind.CALL))))
    at, size = {"length": (8, 4), "kind": (12, 1), "flags": (13, 1), "head_bytes": (20, 4)}[field]
    raw[at : at + size] = value.to_bytes(size, "little")
    memory = Memory()
    with pytest.raises(RemoteProtocolError) as raised:
        feed(reader_of(memory), raw)
    assert raised.value.fields["reason"] == "malformed"
    assert memory.allocated == []


def test_a_stranger_gets_small_frames_only():
    reader = FrameReader(Memory())
    fits = HANDSHAKE_FRAME_BYTES_MAX - HEADER_BYTES
    assert len(feed(reader, bytes_of(encode(Header(Kind.HELLO), b"h" * fits)))) == 1
    with pytest.raises(RemoteProtocolError):
        feed(reader, bytes_of(encode(Header(Kind.HELLO), b"h" * (fits + 1))))


@pytest.mark.parametrize("pieces", [(), (1000,) * 200])
def test_without_memory_it_waits_and_goes_on(pieces):
    memory = Memory(room=0)
    reader = reader_of(memory)
    large = encode(Header(Kind.CALL, call_id=1), b"h", [b"p" * DIRECT_BYTES_MIN])
    raw = bytes_of(encode(Header(Kind.PING)), large, encode(Header(Kind.PONG)))
    got, sizes = [], iter(pieces)
    while raw and not reader.blocked:
        buffer = reader.get_buffer()
        count = min(buffer.nbytes, len(raw), next(sizes, len(raw)))
        buffer[:count] = raw[:count]
        raw = raw[count:]
        got += list(reader.received(count))
    assert reader.blocked
    assert [frame.header.kind for frame in got] == [Kind.PING]
    assert list(reader.resume()) == []
    assert reader.blocked
    memory.room = 1
    got += list(reader.resume())
    assert not reader.blocked
    got += feed(reader, raw)
    assert [frame[0].kind for frame in got] == [Kind.PING, Kind.CALL, Kind.PONG]


def test_the_rest_of_a_payload_goes_elsewhere_when_its_owner_has_gone():
    given = bytearray(100_000)

    class Given:
        def allocate(self, header, head, payload_bytes):
            return memoryview(given)

    reader = reader_of(Given())
    raw = bytes_of(encode(Header(Kind.REPLY, call_id=5), b"", [b"p" * 100_000]))
    assert feed(reader, raw[:70_000]) == []
    assert reader.redirect(4) is None
    assert reader.redirect(5) is not None
    given[:] = bytes(100_000)
    with pytest.raises(RemoteProtocolError):  # the checksum covers what went to the old place
        feed(reader, raw[70_000:-1] + b"q")
    assert given == bytes(100_000)


def test_limits_of_what_is_sent():
    encode(Header(Kind.CALL), b"h" * HEAD_BYTES_MAX)
    with pytest.raises(LocalProtocolError):
        encode(Header(Kind.CALL), b"h" * (HEAD_BYTES_MAX + 1))
    half = memoryview(bytearray(PAYLOAD_BYTES_MAX // 2 + 1))
    with pytest.raises(LocalProtocolError):
        encode(Header(Kind.CALL), b"", [half, half])


def test_large_payloads_are_not_copied():
    memory = bytearray(JOINED_BYTES_MAX + 1)
    parts = encode(Header(Kind.CALL), b"h", [memory]).parts
    memory[0] = 7
    assert bytes(parts[1])[0] == 7
