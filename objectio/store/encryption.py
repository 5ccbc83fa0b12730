"""Encryption of what is stored: sealed on its way into a blob, opened on its way out.

Theory of operation. Each version has a data key of 32 bytes (`objectio.store.datakeys` says from
where). Each of its blobs is encrypted by itself, as

    64 KiB of plain bytes ‖ tag,  64 KiB ‖ tag,  …,  the rest (1 byte … 64 KiB) ‖ tag

with AES-256-GCM, whose key is HKDF-SHA-256 (RFC 5869) of the data key with the blob's id as salt, and
whose nonce is the number of the chunk and whether it is the last (the STREAM construction of Hoang,
Reyhanitabar, Rogaway and Vizár, 2015). So

- no (key, nonce) is ever used twice: data keys are random, blob ids are never used again, and a blob
  is written once;
- any range is read by reading the chunks that it touches, and nothing else;
- a byte that was changed, chunks that changed places, within a blob or between blobs, and a blob that
  was cut or goes on behind its end do not open: the reader raises `ChecksumMismatch`, and no byte of
  a chunk leaves here before its tag was checked.

With two layers ("aws:kms:dsse") each chunk is sealed twice, under independent keys: two tags.

The size of a blob follows from that of the plain bytes, so both are known beforehand. Digests (ETag,
checksums) are those of the plain bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import Buffer

from objectio.abc.objects import Payload, PayloadDigests
from objectio.errors import ChecksumMismatch, PayloadIncomplete, PayloadTooLarge
from objectio.limits import KIB
from objectio.meta.records import BlobRef
from objectio.store.memory import ByteBudget

KEY_BYTES: Final = 32
CHUNK_BYTES: Final = 64 * KIB
TAG_BYTES: Final = 16
LAYERS_MAX: Final = 2

AHEAD_BYTES: Final = 4 * 2 * CHUNK_BYTES
"""What an encrypting writer holds beyond one chunk, as long as there is memory for it."""

_BATCH_CHUNKS: Final = 4
"""Enough for one hop to a worker thread to be worth it."""
_LABEL: Final = b"objectio blob v1 layer "
_NONCE: Final = struct.Struct(">QI")  # the chunk's number, 1 for the last


def sealed_size(plain_bytes: int, layers: int) -> int:
    return plain_bytes + _chunks_of(plain_bytes) * TAG_BYTES * layers


def plain_size(sealed_bytes: int, layers: int) -> int:
    """Raises `ChecksumMismatch` for a size that no sealed blob has."""
    chunks = -(-sealed_bytes // (CHUNK_BYTES + TAG_BYTES * layers))
    plain = sealed_bytes - chunks * TAG_BYTES * layers
    if _chunks_of(plain) != chunks:
        raise ChecksumMismatch("an encrypted blob has a size that none can have")
    return plain


def _chunks_of(plain_bytes: int) -> int:
    return -(-plain_bytes // CHUNK_BYTES)


class DataCipher:
    """What a version, or an upload, is encrypted with. Never show the key."""

    __slots__ = ("_key", "layers")

    def __init__(self, key: bytes, layers: int = 1) -> None:
        if len(key) != KEY_BYTES or not 1 <= layers <= LAYERS_MAX:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, and is used once or twice")
        self._key = key
        self.layers = layers

    def blob(self, blob_id: bytes, plain_bytes: int) -> BlobCipher:
        """For one blob of so many plain bytes."""
        pseudorandom = hmac.digest(blob_id, self._key, hashlib.sha256)
        keys = [
            hmac.digest(pseudorandom, _LABEL + bytes((layer, 1)), hashlib.sha256)
            for layer in range(self.layers)
        ]
        return BlobCipher(keys, plain_bytes)

    def blob_of(self, ref: BlobRef) -> BlobCipher:
        return self.blob(ref.blob, plain_size(ref.size, self.layers))


class BlobCipher:
    """Seals and opens the chunks of one blob. May be used in any thread, by one at a time."""

    __slots__ = ("_layers", "chunks", "overhead_bytes", "plain_bytes")

    def __init__(self, keys: Sequence[bytes], plain_bytes: int) -> None:
        self._layers = [AESGCM(key) for key in keys]
        self.overhead_bytes = TAG_BYTES * len(keys)
        self.plain_bytes = plain_bytes
        self.chunks = _chunks_of(plain_bytes)

    @property
    def sealed_bytes(self) -> int:
        return self.plain_bytes + self.chunks * self.overhead_bytes

    @property
    def sealed_chunk_bytes(self) -> int:
        return CHUNK_BYTES + self.overhead_bytes

    def chunk_bytes(self, number: int) -> int:
        """How many plain bytes the chunk has."""
        return min(CHUNK_BYTES, self.plain_bytes - number * CHUNK_BYTES)

    def _nonce(self, number: int) -> bytes:
        return _NONCE.pack(number, int(number == self.chunks - 1))

    def seal(self, first: int, plain: memoryview) -> bytearray:
        """Whole chunks, from number `first` on, one behind the other."""
        count = _chunks_of(len(plain))
        sealed = bytearray(len(plain) + count * self.overhead_bytes)
        to = memoryview(sealed)
        at = 0
        for number in range(first, first + count):
            chunk = plain[(number - first) * CHUNK_BYTES :][:CHUNK_BYTES]
            nonce, end = self._nonce(number), len(chunk) + TAG_BYTES
            self._layers[0].encrypt_into(nonce, chunk, None, to[at : at + end])
            for layer in self._layers[1:]:
                inner = bytes(to[at : at + end])
                end += TAG_BYTES
                layer.encrypt_into(nonce, inner, None, to[at : at + end])
            at += end
        return sealed

    def open(self, number: int, sealed: Buffer, into: memoryview) -> None:
        """One chunk. Raises `ChecksumMismatch`; what `into` holds then means nothing."""
        nonce, inner = self._nonce(number), memoryview(sealed)
        try:
            for layer in self._layers[:0:-1]:
                inner = memoryview(layer.decrypt(nonce, inner, None))
            self._layers[0].decrypt_into(nonce, inner, None, into)
        except InvalidTag:
            raise ChecksumMismatch(
                f"chunk {number} of an encrypted blob does not open: it is not what was written, "
                "or not with this key"
            ) from None


# On the way in.


class SealingPayload:
    """An `objectio.abc.objects.Payload`: another one, encrypted. Plain bytes are digested and sealed a
    few chunks at a time, in a worker thread unless they are few, and the next ones are read meanwhile
    if the budget has memory for it. `close` it when nobody reads any more."""

    def __init__(
        self, payload: Payload, cipher: BlobCipher, executor: Executor, budget: ByteBudget
    ) -> None:
        self.size = cipher.sealed_bytes
        self._payload = payload
        self._cipher = cipher
        self._executor = executor
        self._budget = budget
        self._number = 0
        self._left = payload.size
        self._rest: memoryview = memoryview(b"")
        self._ahead: bytearray | None = None
        self._lent = payload.size > CHUNK_BYTES and budget.try_acquire(AHEAD_BYTES)

    def close(self) -> None:
        if self._lent:
            self._lent = False
            self._budget.release(AHEAD_BYTES)

    def digest(self, data: Buffer) -> None:
        """The plain bytes were digested when they were sealed."""

    def finish(self) -> PayloadDigests:
        return self._payload.finish()

    async def read(self) -> bytes:
        batch, self._ahead = self._ahead or await self._gather(), None
        if not batch:
            if self._rest or await self._payload.read():
                raise PayloadTooLarge("the body is longer than it was declared")
            return b""
        number = self._number
        self._number += _chunks_of(len(batch))
        if len(batch) <= CHUNK_BYTES and not self._lent:
            return self._seal(number, batch)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._executor, self._seal, number, batch)
        try:
            if self._lent and self._left:
                self._ahead = await self._gather()
        finally:
            # Also where the sender failed: the thread must be through before anybody goes on.
            sealed = await asyncio.shield(work)
        return sealed

    def _seal(self, number: int, batch: bytearray) -> bytes:
        view = memoryview(batch)
        self._payload.digest(view)
        return self._cipher.seal(number, view)  # type: ignore[return-value]  # any buffer will do

    async def _gather(self) -> bytearray:
        """The next plain bytes, a whole number of chunks unless they are the last."""
        want = min(self._left, CHUNK_BYTES * (_BATCH_CHUNKS if self._lent else 1))
        batch = bytearray(want)
        at = 0
        while at < want:
            if not self._rest:
                self._rest = memoryview(await self._payload.read())
                if not self._rest:
                    raise PayloadIncomplete(f"the body ended {self._left - at} bytes early")
            count = min(len(self._rest), want - at)
            batch[at : at + count] = self._rest[:count]
            self._rest = self._rest[count:]
            at += count
        self._left -= want
        return batch


class Sealer:
    """Makes payloads into sealed ones, for the writer, who knows the blob's id."""

    __slots__ = ("_budget", "_cipher", "_executor")

    def __init__(self, cipher: DataCipher, executor: Executor, budget: ByteBudget) -> None:
        self._cipher = cipher
        self._executor = executor
        self._budget = budget

    def seal(self, blob_id: bytes, payload: Payload) -> SealingPayload:
        cipher = self._cipher.blob(blob_id, payload.size)
        return SealingPayload(payload, cipher, self._executor, self._budget)


# On the way out.


class Reads(Protocol):
    """What `store.read.BlobReads` is, and `OpeningReads` too."""

    def read_now(self, ref: BlobRef, start: int, length: int) -> Buffer | None: ...

    def stream(
        self, refs: Sequence[BlobRef], start: int, length: int
    ) -> AsyncGenerator[Buffer, None]: ...


class _Chunk(NamedTuple):
    """`begin` and `end` say which of its plain bytes are wanted."""

    cipher: BlobCipher
    number: int
    begin: int
    end: int

    @property
    def sealed_bytes(self) -> int:
        return self.cipher.chunk_bytes(self.number) + self.cipher.overhead_bytes

    def open(self, sealed: Buffer) -> memoryview:
        plain = memoryview(bytearray(self.cipher.chunk_bytes(self.number)))
        self.cipher.open(self.number, sealed, plain)
        return plain[self.begin : self.end]


class OpeningReads:
    """Reads blobs of one version in the clear: the face of `BlobReads`, in plain bytes."""

    def __init__(self, reads: Reads, cipher: DataCipher, executor: Executor) -> None:
        self._reads = reads
        self._cipher = cipher
        self._executor = executor

    def read_now(self, ref: BlobRef, start: int, length: int) -> Buffer | None:
        """Whatever lies in one chunk."""
        cipher = self._cipher.blob_of(ref)
        number = start // CHUNK_BYTES
        if start + length > (number + 1) * CHUNK_BYTES:
            return None
        begin = start - number * CHUNK_BYTES
        chunk = _Chunk(cipher, number, begin, begin + length)
        sealed = self._reads.read_now(ref, number * cipher.sealed_chunk_bytes, chunk.sealed_bytes)
        return None if sealed is None else chunk.open(sealed)

    async def stream(
        self, refs: Sequence[BlobRef], start: int, length: int
    ) -> AsyncGenerator[Buffer, None]:
        first, sealed_bytes, chunks = self._plan(refs, start, start + length)
        if not sealed_bytes:
            return
        pieces = self._reads.stream(refs, first, sealed_bytes)
        loop = asyncio.get_running_loop()
        cutter = _Cutter(chunks)
        try:
            async for piece in pieces:
                for batch in cutter.feed(memoryview(piece)):
                    if len(batch) == 1:
                        opened = _open_all(batch)
                    else:
                        opened = await loop.run_in_executor(self._executor, _open_all, batch)
                    for plain in opened:
                        yield plain
        finally:
            await pieces.aclose()
        cutter.end()

    def _plan(
        self, refs: Sequence[BlobRef], start: int, end: int
    ) -> tuple[int, int, Iterator[_Chunk]]:
        """Where the range begins in the sealed blobs, put one behind the other, how long it is there,
        and its chunks."""
        first, sealed_bytes = 0, 0
        base, sealed_base = 0, 0
        wanted: list[tuple[BlobRef, int, int]] = []
        for ref in refs:
            size = plain_size(ref.size, self._cipher.layers)
            begin, stop = max(start - base, 0), min(end - base, size)
            if begin < stop:
                sealed_chunk = CHUNK_BYTES + TAG_BYTES * self._cipher.layers
                sealed_begin = begin // CHUNK_BYTES * sealed_chunk
                sealed_end = min(ref.size, _chunks_of(stop) * sealed_chunk)
                if not wanted:
                    first = sealed_base + sealed_begin
                sealed_bytes += sealed_end - sealed_begin
                wanted.append((ref, begin, stop))
            base += size
            sealed_base += ref.size
        if end > base:
            raise ChecksumMismatch("an encrypted version has fewer bytes than it had")
        return first, sealed_bytes, self._walk(wanted)

    def _walk(self, wanted: Sequence[tuple[BlobRef, int, int]]) -> Iterator[_Chunk]:
        for ref, begin, end in wanted:
            cipher = self._cipher.blob_of(ref)
            for number in range(begin // CHUNK_BYTES, _chunks_of(end)):
                base = number * CHUNK_BYTES
                yield _Chunk(cipher, number, max(begin - base, 0), min(end - base, CHUNK_BYTES))


_Batch = list[tuple[_Chunk, Buffer]]


def _open_all(batch: _Batch) -> list[memoryview]:
    return [chunk.open(sealed) for chunk, sealed in batch]


class _Cutter:
    """Cuts what is read into sealed chunks. Copies only those that came in two pieces or more."""

    def __init__(self, chunks: Iterator[_Chunk]) -> None:
        self._chunks = chunks
        self._next = next(chunks, None)
        self._partial = bytearray()

    def feed(self, piece: memoryview) -> Iterator[_Batch]:
        batch: _Batch = []
        while self._next is not None:
            need = self._next.sealed_bytes - len(self._partial)
            if len(piece) < need:
                break
            sealed: Buffer = piece[:need]
            if self._partial:
                self._partial += sealed
                sealed, self._partial = self._partial, bytearray()
            batch.append((self._next, sealed))
            self._next = next(self._chunks, None)
            piece = piece[need:]
            if len(batch) == _BATCH_CHUNKS:
                yield batch
                batch = []
        if batch:
            yield batch
        self._partial += piece

    def end(self) -> None:
        if self._next is not None or self._partial:
            raise ChecksumMismatch("an encrypted blob is shorter than it was, or longer")
