"""Sealed blobs: what goes in comes out, by any range; what was touched does not open."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from objectio.abc.objects import PayloadDigests
from objectio.errors import ChecksumMismatch, PayloadIncomplete, PayloadTooLarge
from objectio.meta.records import BlobRef
from objectio.store.encryption import (
    AHEAD_BYTES,
    CHUNK_BYTES,
    TAG_BYTES,
    DataCipher,
    OpeningReads,
    Sealer,
    plain_size,
    sealed_size,
)
from objectio.store.memory import ByteBudget

KEY = bytes(range(32))
BLOB = b"blob-blob-blob-1"
SIZES = [1, 15, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 1_000_001]

around_chunks = st.builds(
    lambda chunks, more: max(chunks * CHUNK_BYTES + more, 1),
    st.integers(0, 9),
    st.integers(-20, 20),
)


@pytest.fixture(scope="module")
def executor():
    with ThreadPoolExecutor(2) as executor:
        yield executor


async def drain(payload):
    while await payload.read():
        pass


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


class Sent:
    """A payload that comes in pieces of the given sizes, the last of which repeats."""

    def __init__(self, data, pieces=(100_000,), size=None):
        self.size = len(data) if size is None else size
        self._pieces = [*pieces]
        self._data = data
        self.md5 = hashlib.md5()
        self.pieces_out = 0

    async def read(self):
        size = self._pieces.pop(0) if len(self._pieces) > 1 else self._pieces[0]
        piece, self._data = self._data[:size], self._data[size:]
        self.pieces_out += 1
        return piece

    def digest(self, data):
        self.md5.update(data)

    def finish(self):
        return PayloadDigests(self.md5.hexdigest())


class Disk:
    """Sealed blobs by id, as `BlobReads` would read them, in pieces of a size."""

    def __init__(self, piece=1 << 20):
        self.blobs = {}
        self.piece = piece
        self.read_bytes = 0
        self.closed = 0

    def read_now(self, ref, start, length):
        self.read_bytes += length
        return memoryview(self.blobs[ref.blob])[start : start + length]

    async def stream(self, refs, start, length):
        whole = b"".join(self.blobs[ref.blob] for ref in refs)
        try:
            for at in range(start, start + length, self.piece):
                piece = whole[at : min(at + self.piece, start + length)]
                self.read_bytes += len(piece)
                yield memoryview(piece)
        finally:
            self.closed += 1


async def seal(data, executor, *, cipher=None, blob=BLOB, budget=1 << 30, pieces=(100_000,)):
    cipher = cipher or DataCipher(KEY)
    memory = ByteBudget(budget)
    sent = Sent(data, pieces)
    sealing = Sealer(cipher, executor, memory).seal(blob, sent)
    out = b""
    while piece := await sealing.read():
        sealing.digest(piece)
        out += piece
    assert len(out) == sealing.size == sealed_size(len(data), cipher.layers)
    assert sealing.finish().etag == hashlib.md5(data).hexdigest()
    sealing.close()
    assert memory.used_bytes == 0
    return out


async def stored(datas, executor, *, cipher=None, piece=1 << 20):
    """A disk with one blob for each of `datas`, and their refs."""
    disk, refs = Disk(piece), []
    for number, data in enumerate(datas):
        blob = BLOB[:-1] + bytes((number,))
        disk.blobs[blob] = await seal(data, executor, cipher=cipher, blob=blob)
        refs.append(BlobRef(blob, len(disk.blobs[blob]), 0))
    return disk, refs


async def read(disk, refs, start, length, executor, *, cipher=None):
    reads = OpeningReads(disk, cipher or DataCipher(KEY), executor)
    return b"".join([bytes(piece) async for piece in reads.stream(refs, start, length)])


# Sizes.


@given(st.integers(0, 1 << 50), st.integers(1, 2))
def test_the_size_of_a_blob_says_that_of_the_plain_bytes(size, layers):
    assert plain_size(sealed_size(size, layers), layers) == size


@given(st.integers(1, 10 * CHUNK_BYTES), st.integers(1, 2))
def test_a_size_that_no_blob_has_is_refused(sealed, layers):
    sizes = {sealed_size(plain, layers) for plain in range(max(0, sealed - 400), sealed)}
    if sealed not in sizes:
        with pytest.raises(ChecksumMismatch):
            plain_size(sealed, layers)


@pytest.mark.parametrize(("key", "layers"), [(b"short", 1), (KEY + b"x", 1), (KEY, 0), (KEY, 3)])
def test_a_cipher_wants_a_whole_key(key, layers):
    with pytest.raises(ValueError):
        DataCipher(key, layers)


# There and back.


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("size", SIZES)
async def test_what_goes_in_comes_out(size, budget, layers, executor):
    data, cipher, disk = noise(size), DataCipher(KEY, layers), Disk()
    disk.blobs[BLOB] = await seal(data, executor, cipher=cipher, budget=budget)
    refs = [BlobRef(BLOB, len(disk.blobs[BLOB]), 0)]
    assert await read(disk, refs, 0, size, executor, cipher=cipher) == data
    assert disk.closed == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(around_chunks, min_size=1, max_size=4),
    piece=st.sampled_from([777, 65_536, 65_552, 65_560, 262_144, 1 << 20]),
    layers=st.integers(1, 2),
    data=st.data(),
)
def test_any_range_of_any_blobs_is_what_was_written(sizes, piece, layers, data):
    async def check():
        datas = [noise(size, number) for number, size in enumerate(sizes)]
        whole = b"".join(datas)
        cipher = DataCipher(KEY, layers)
        with ThreadPoolExecutor(1) as executor:
            disk, refs = await stored(datas, executor, cipher=cipher, piece=piece)
            start = data.draw(st.integers(0, len(whole)))
            length = data.draw(st.integers(0, len(whole) - start))
            found = await read(disk, refs, start, length, executor, cipher=cipher)
        assert found == whole[start : start + length]
        # No more is read than the chunks that the range touches.
        assert (
            disk.read_bytes
            <= length
            + (2 * CHUNK_BYTES + 32)
            + (length // CHUNK_BYTES + 2 * len(sizes) + 2) * TAG_BYTES * layers
        )

    asyncio.run(check())


@settings(max_examples=30, deadline=None)
@given(pieces=st.lists(st.integers(100, 200_000), min_size=1, max_size=8), size=around_chunks)
@example(pieces=[1, 200_000], size=CHUNK_BYTES)
def test_it_does_not_matter_in_which_pieces_a_body_comes(pieces, size):
    async def check():
        data = noise(size)
        with ThreadPoolExecutor(1) as executor:
            assert await seal(data, executor, pieces=pieces) == await seal(data, executor, budget=0)

    asyncio.run(check())


async def test_a_small_range_is_read_at_once(executor):
    data = noise(3 * CHUNK_BYTES + 100)
    disk, [ref] = await stored([data], executor)
    reads = OpeningReads(disk, DataCipher(KEY), executor)
    for start, length in [(0, 1), (5, 1000), (CHUNK_BYTES, CHUNK_BYTES), (3 * CHUNK_BYTES, 100)]:
        assert bytes(reads.read_now(ref, start, length)) == data[start : start + length]
    assert reads.read_now(ref, CHUNK_BYTES - 1, 2) is None
    disk.read_now = lambda ref, start, length: None
    assert reads.read_now(ref, 0, 1) is None


async def test_plain_bytes_show_nowhere(executor):
    data = b"canary " * 30_000
    sealed = await seal(data, executor)
    assert b"canary" not in sealed
    assert KEY not in sealed


# Keys.


async def test_the_same_bytes_are_sealed_in_another_way_each_time(executor):
    one = await seal(noise(1000), executor)
    assert one != await seal(noise(1000), executor, blob=b"another blob!!!!")
    assert one != await seal(noise(1000), executor, cipher=DataCipher(os.urandom(32)))


async def test_each_layer_has_a_key_of_its_own(executor):
    # Were it the same one, the second layer would take the key stream off again.
    plain = noise(CHUNK_BYTES)
    once = await seal(plain, executor, cipher=DataCipher(KEY, 1))
    twice = await seal(plain, executor, cipher=DataCipher(KEY, 2))
    assert twice[:CHUNK_BYTES] not in (plain, once[:CHUNK_BYTES])


async def test_another_key_opens_nothing(executor):
    disk, refs = await stored([noise(100)], executor)
    for cipher in (DataCipher(bytes(32)), DataCipher(KEY[::-1])):
        with pytest.raises(ChecksumMismatch):
            await read(disk, refs, 0, 100, executor, cipher=cipher)
        with pytest.raises(ChecksumMismatch):
            OpeningReads(disk, cipher, executor).read_now(refs[0], 0, 1)


# Tampering.


@pytest.mark.parametrize("layers", [1, 2])
async def test_no_byte_may_change(layers, executor):
    cipher, data = DataCipher(KEY, layers), noise(2 * CHUNK_BYTES + 50)
    disk, refs = await stored([data], executor, cipher=cipher)
    sealed = disk.blobs[refs[0].blob]
    for at in {0, 1, CHUNK_BYTES, CHUNK_BYTES + 15, CHUNK_BYTES + 16, len(sealed) - 1} | set(
        random.Random(2).sample(range(len(sealed)), 40)
    ):
        changed = bytearray(sealed)
        changed[at] ^= 1 << (at % 8)
        disk.blobs[refs[0].blob] = bytes(changed)
        with pytest.raises(ChecksumMismatch):
            await read(disk, refs, 0, len(data), executor, cipher=cipher)


async def test_what_is_whole_is_given_out_before_what_is_not(executor):
    data = noise(2 * CHUNK_BYTES)
    disk, refs = await stored([data], executor, piece=CHUNK_BYTES + TAG_BYTES)
    changed = bytearray(disk.blobs[refs[0].blob])
    changed[-1] ^= 1
    disk.blobs[refs[0].blob] = bytes(changed)
    stream = OpeningReads(disk, DataCipher(KEY), executor).stream(refs, 0, len(data))
    assert bytes(await anext(stream)) == data[:CHUNK_BYTES]
    with pytest.raises(ChecksumMismatch):
        await anext(stream)
    assert disk.closed == 1
    # And a range that does not touch it can be read.
    assert await read(disk, refs, 10, 1000, executor) == data[10:1010]


async def test_chunks_may_not_change_places(executor):
    data = noise(3 * CHUNK_BYTES)
    disk, refs = await stored([data], executor)
    sealed, step = disk.blobs[refs[0].blob], CHUNK_BYTES + TAG_BYTES
    one, two, three = sealed[:step], sealed[step : 2 * step], sealed[2 * step :]
    for order in (two + one + three, one + three + two, one + one + three, three + two + one):
        disk.blobs[refs[0].blob] = order
        with pytest.raises(ChecksumMismatch):
            await read(disk, refs, 0, len(data), executor)


@pytest.mark.parametrize("cut", [1, TAG_BYTES, CHUNK_BYTES, CHUNK_BYTES + TAG_BYTES])
async def test_a_blob_that_was_cut_does_not_open(cut, executor):
    data = noise(3 * CHUNK_BYTES)
    disk, [ref] = await stored([data], executor)
    disk.blobs[ref.blob] = disk.blobs[ref.blob][:-cut]
    shorter = ref._replace(size=ref.size - cut)
    with pytest.raises(ChecksumMismatch):  # as long as it was, say the metadata
        await read(disk, [ref], 0, len(data), executor)
    with pytest.raises(ChecksumMismatch):  # as long as it is
        await read(disk, [shorter], 0, len(data) - cut, executor)
    with pytest.raises(ChecksumMismatch):  # and its last chunk alone
        await read(disk, [shorter], plain_size(shorter.size, 1) - 5, 5, executor)


async def test_a_blob_that_goes_on_does_not_open(executor):
    data = noise(CHUNK_BYTES)
    disk, [ref] = await stored([data], executor)
    disk.blobs[ref.blob] *= 2
    with pytest.raises(ChecksumMismatch):
        await read(disk, [ref._replace(size=2 * ref.size)], 0, 2 * CHUNK_BYTES, executor)


async def test_blobs_may_not_change_places(executor):
    datas = [noise(CHUNK_BYTES, 1), noise(CHUNK_BYTES, 2)]
    disk, [one, two] = await stored(datas, executor)
    other = Disk()
    other.blobs = {one.blob: disk.blobs[two.blob], two.blob: disk.blobs[one.blob]}
    with pytest.raises(ChecksumMismatch):
        await read(other, [one, two], 0, 2 * CHUNK_BYTES, executor)


async def test_a_version_that_lost_a_blob_does_not_end_early(executor):
    disk, refs = await stored([noise(1000, 1), noise(1000, 2)], executor)
    with pytest.raises(ChecksumMismatch):
        await read(disk, refs[:1], 0, 2000, executor)


async def test_a_disk_that_gives_less_than_was_asked_for_is_found_out(executor):
    disk, refs = await stored([noise(2 * CHUNK_BYTES)], executor)
    stream = disk.stream
    disk.stream = lambda refs, start, length: stream(refs, start, length - 1)
    with pytest.raises(ChecksumMismatch):
        await read(disk, refs, 0, 2 * CHUNK_BYTES, executor)


# Senders that do not keep their word.


@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("size", [10, CHUNK_BYTES, 5 * CHUNK_BYTES])
async def test_a_body_that_ends_early_or_late_is_refused(size, budget, executor):
    memory = ByteBudget(budget)
    for declared, error in ((size + 1, PayloadIncomplete), (size - 1, PayloadTooLarge)):
        sent = Sent(noise(size), size=declared)
        sealing = Sealer(DataCipher(KEY), executor, memory).seal(BLOB, sent)
        with pytest.raises(error):
            await drain(sealing)
        sealing.close()
        sealing.close()
        assert memory.used_bytes == 0


# Memory.


async def test_no_more_is_read_ahead_than_there_is_memory_for(executor):
    memory = ByteBudget(AHEAD_BYTES)
    data = noise(100 * CHUNK_BYTES)
    sealer = Sealer(DataCipher(KEY), executor, memory)
    sents = [Sent(data, (10_000,)) for _ in range(3)]
    first, second, third = (sealer.seal(BLOB, sent) for sent in sents)
    assert memory.used_bytes == AHEAD_BYTES
    for sealing in (first, second, third):
        await sealing.read()
    assert sents[0].pieces_out * 10_000 <= AHEAD_BYTES + 10_000
    assert sents[1].pieces_out * 10_000 <= CHUNK_BYTES + 10_000
    assert sents[2].pieces_out * 10_000 <= CHUNK_BYTES + 10_000
    first.close()
    assert memory.used_bytes == 0


async def test_large_bodies_are_sealed_off_the_event_loop(executor):
    threads = set()
    data = noise(8 * CHUNK_BYTES)
    sent = Sent(data)
    digest = sent.digest

    def watched(piece):
        import threading

        threads.add(threading.current_thread().name)
        digest(piece)

    sent.digest = watched
    sealing = Sealer(DataCipher(KEY), executor, ByteBudget(1 << 30)).seal(BLOB, sent)
    await drain(sealing)
    assert "MainThread" not in threads
