"""The metadata journal as it is on devices: shards with reserved keys.

A shard's blob id is

    ff ff ff ff ff ff   kind (1 byte)   lineage (3)   number (6)

and its stripe the count of the chunk; all big-endian. The kinds:

    1  ENTRY       a batch of commits, cut in chunks. `number` is that of the batch.
    2  CHECKPOINT  a chunk of a copy of all rows, begun when `number` was the last batch.
    3  COMPLETE    the last shard of a checkpoint; where it is missing, the copy is not whole.

Numbers ascend within a *lineage*, and none is used twice in it. The lineage is one higher each time
that metadata was rebuilt from a journal, or that the journal begins anew because batches went by it:
what a former lineage has must not be mixed with the new one.

A payload is a header and a piece of a body. All integers are little-endian:

    offset  size  field
         0     4  magic "OIJ1"
         4     1  kind
         5     3  zero
         8     4  lineage
        12     4  chunk
        16     4  chunks; 0 in a CHECKPOINT
        20     4  zero
        24     8  number
        32     8  first: an ENTRY stands for the batches from `first` to `number`
        40     8  Unix milliseconds
        48     8  XXH3-64 of the body; in a CHECKPOINT, of this chunk's piece

The body of an ENTRY is the MessagePack of [[key, value or nil], …], in the order of the commits. The
pieces of a CHECKPOINT, one after the other, are rows in key order: lengths of key (u16) and value
(u32), key, value; a row may go on in the next piece. The body of COMPLETE is the MessagePack of the
fields of `Checkpoint`, as an array.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import xxhash
from typing_extensions import Buffer

from objectio.abc.shardstore import ShardCoordinates
from objectio.errors import ChecksumMismatch
from objectio.limits import KIB
from objectio.model.stripe import RESERVED_PREFIX, BlobId, ShardKey

ENTRY: Final = 1
CHECKPOINT: Final = 2
COMPLETE: Final = 3

CHUNK_BYTES: Final = 256 * KIB
"""Of a body in one shard: small devices have log segments of 1 MiB."""
SHARD_OVERHEAD_BYTES: Final = 128
"""About what a device adds to a payload."""
LINEAGE_MAX: Final = (1 << 24) - 1
NUMBER_MAX: Final = (1 << 48) - 1
FAMILY: Final = "journal"

_MAGIC: Final = b"OIJ1"
_HEADER: Final = struct.Struct("<4sB3xIII4xQQQQ")
_ROW: Final = struct.Struct("<HI")

Row = tuple[bytes, bytes]


class Name(NamedTuple):
    """What a reserved key says. Sorts by kind, lineage, number."""

    kind: int
    lineage: int
    number: int

    def key(self, chunk: int = 0) -> ShardKey:
        raw = self.kind << 72 | self.lineage << 48 | self.number
        return ShardKey(BlobId(RESERVED_PREFIX + raw.to_bytes(10, "big")), chunk, 0)

    @classmethod
    def of(cls, key: ShardKey) -> Name:
        raw = int.from_bytes(key.blob[len(RESERVED_PREFIX) :], "big")
        return cls(raw >> 72, raw >> 48 & LINEAGE_MAX, raw & NUMBER_MAX)


class Chunk(NamedTuple):
    """A shard of the journal, read. `checksum` is of what the header says."""

    name: Name
    chunk: int
    chunks: int
    first: int
    written_ms: int
    checksum: int
    piece: memoryview


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """A whole copy: begun after batch `number`, its last row read before batch `end` + 1, so that it
    is consistent once all batches up to `end` are applied to it. `checksum` is the XXH3-64 of all
    pieces in order; `osds` had the copy when it was made."""

    lineage: int
    number: int
    end: int
    chunks: int
    rows: int
    bytes: int
    checksum: int
    osds: list[int]
    written_ms: int


pack_checkpoint: Final = msgspec.msgpack.Encoder().encode
unpack_checkpoint: Final = msgspec.msgpack.Decoder(Checkpoint).decode

first_key: Final = Name(0, 0, 0).key()
"""Below every key of the journal, and above every blob's."""


def coordinates(payload_bytes: int) -> ShardCoordinates:
    return ShardCoordinates(FAMILY, 1, 0, payload_bytes)


def cut(name: Name, first: int, written_ms: int, body: bytes) -> list[tuple[ShardKey, bytes]]:
    """A body as shards."""
    checksum = xxhash.xxh3_64_intdigest(body)
    chunks = max(1, -(-len(body) // CHUNK_BYTES))
    shards = []
    for chunk in range(chunks):
        head = _HEADER.pack(
            _MAGIC, name.kind, name.lineage, chunk, chunks, name.number, first, written_ms, checksum
        )
        piece = body if chunks == 1 else body[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
        shards.append((name.key(chunk), head + piece))
    return shards


def pack_piece(name: Name, chunk: int, written_ms: int, piece: bytes) -> bytes:
    """The payload of one chunk of a checkpoint."""
    checksum = xxhash.xxh3_64_intdigest(piece)
    head = _HEADER.pack(
        _MAGIC, name.kind, name.lineage, chunk, 0, name.number, 0, written_ms, checksum
    )
    return head + piece


def parse(key: ShardKey, payload: Buffer) -> Chunk:
    """Raises `ChecksumMismatch` for what is not the shard of this key."""
    view = memoryview(payload)
    if len(view) < _HEADER.size:
        raise ChecksumMismatch("a shard of the journal is cut short", key=key.pack().hex())
    magic, kind, lineage, chunk, chunks, number, first, written_ms, checksum = _HEADER.unpack_from(
        view
    )
    name = Name(kind, lineage, number)
    if magic != _MAGIC or name != Name.of(key) or chunk != key.stripe:
        raise ChecksumMismatch("a shard is not what its key says", key=key.pack().hex())
    found = Chunk(name, chunk, chunks, first, written_ms, checksum, view[_HEADER.size :])
    if (kind == CHECKPOINT or chunks == 1) and xxhash.xxh3_64_intdigest(found.piece) != checksum:
        raise ChecksumMismatch("a shard of the journal is damaged", key=key.pack().hex())
    return found


def join(pieces: Sequence[memoryview], checksum: int) -> bytes:
    """The body of an entry. Raises `ChecksumMismatch` if the pieces are not of one entry."""
    body = b"".join(pieces)
    if xxhash.xxh3_64_intdigest(body) != checksum:
        raise ChecksumMismatch("chunks of a journal entry do not fit together")
    return body


def pack_rows(rows: Sequence[Row]) -> bytes:
    pack = _ROW.pack
    return b"".join(
        part for key, value in rows for part in (pack(len(key), len(value)), key, value)
    )


class RowReader:
    """Rows from pieces that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: Buffer) -> Iterator[Row]:
        data = self._rest + bytes(piece)
        at, end = 0, len(data)
        while at + _ROW.size <= end:
            key_bytes, value_bytes = _ROW.unpack_from(data, at)
            start = at + _ROW.size
            stop = start + key_bytes + value_bytes
            if stop > end:
                break
            yield data[start : start + key_bytes], data[start + key_bytes : stop]
            at = stop
        self._rest = data[at:]

    @property
    def done(self) -> bool:
        """No row is cut off at the end."""
        return not self._rest
