"""What is on a device, byte for byte: superblock, log segments, records. Format version 1.

Theory of operation
-------------------
A device is a superblock and a row of equal log segments. A segment is filled from its start with
records, one behind the other, each at a multiple of 8 bytes; when the next record does not fit, the
log goes on in another segment. A segment begins with a SEGMENT record that carries its *sequence
number*, which is never used twice on a device; every record in the segment repeats it, so what an
earlier use of the same span left behind is never mistaken for live.

    0        4096     8192            1 MiB
    | super  | super  | unused        | segment 0 | segment 1 | …
      block    copy

A record is self-describing: header, checksum of the payload in blocks, name of the codec family,
checksum of all that, payload. All integers are little-endian; checksums are XXH3-64 with seed 0.

    offset  size  field
         0     4  magic  "OIR1"
         4     1  kind   1 SEGMENT, 2 SHARD, 3 TOMBSTONE, 4 FREE
         5     1  block_log2: the payload is checksummed in blocks of 2^block_log2 bytes
         6     2  header_bytes: from magic up to and including the header checksum
         8     8  segment_sequence
        16     8  record_sequence (ascends over the whole device; a record that does not ascend
                  within its segment is the remains of a write that was refused, and does not count)
        24    16  blob id               } the shard key
        40     4  stripe                }
        44     1  position              }
        45     1  k, data shards
        46     1  m, parity shards
        47     1  length of the family name
        48     8  generation
        56     4  stripe_bytes: bytes of the object in this stripe
        60     4  payload_bytes
        64   8·b  XXH3-64 of each of the b = ceil(payload_bytes / 2^block_log2) blocks
         …     n  family name, ASCII
         …     8  XXH3-64 of the header up to here
    then payload_bytes of payload, then zeroes to a multiple of 8.

The superblock: magic "OBJECTIO", format version (u32), how often the device was opened (u32),
segment_bytes (u64), size_bytes (u64), cluster id (16), device id (16), Unix milliseconds of its
making (u64), XXH3-64 of all that. Of the two copies the one that counts more openings is right.

A SEGMENT record's blob id is the device id. A TOMBSTONE's payload is 16 bytes: the index (u64) and
sequence number (u64) of the segment that holds the record it kills. It kills what its key has in
that segment and in those with lower sequence numbers, and nothing newer, for compaction may have
moved the tombstone behind a newer record. When none of those segments holds a record of the key the
tombstone has no more work. A FREE record overwrites the SEGMENT record of a segment that was given
back: nothing behind it counts. Sequence numbers begin at a random number, so that nobody can store
bytes that would pass for records of the log.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from typing_extensions import Buffer
from xxhash import xxh3_64_intdigest

from objectio.errors import ChecksumMismatch, ConfigError
from objectio.limits import MIB

FORMAT_VERSION: Final = 1
SUPERBLOCK_BYTES: Final = 4096
SUPERBLOCK_COPIES: Final = (0, SUPERBLOCK_BYTES)
DATA_OFFSET: Final = MIB
ALIGNMENT: Final = 8
BLOCK_LOG2: Final = 16
"""64 KiB: the least that is read to verify any byte; 16 checksums for a shard of 1 MiB."""

KIND_SEGMENT: Final = 1
KIND_SHARD: Final = 2
KIND_TOMBSTONE: Final = 3
KIND_FREE: Final = 4

MAGIC: Final = b"OIR1"
_FIXED: Final = struct.Struct("<4sBBHQQ16sIBBBBQII")
_U64: Final = struct.Struct("<Q")
_KEY: Final = struct.Struct(">16sIB")
_SMALL: Final = struct.Struct("<4s20x16sIB19xQ")
"""What of a record of one block a small read looks at: magic, key, first checksum."""
TOMBSTONE_TARGET: Final = struct.Struct("<QQ")
HEADER_BYTES_MIN: Final = _FIXED.size + 8
HEADER_BYTES_MAX: Final = 65_535

_SUPER: Final = struct.Struct("<8sIIQQ16s16sQ")
SUPERBLOCK_MAGIC: Final = b"OBJECTIO"


class Superblock(NamedTuple):
    """Ids are 16 raw bytes. `size_bytes` 0 means that the device grows as far as it can.
    `opens` counts openings, so that an index which missed one is known to be out of date."""

    format_version: int
    segment_bytes: int
    size_bytes: int
    cluster_id: bytes
    device_id: bytes
    created_ms: int
    opens: int = 0

    def pack(self) -> bytes:
        body = _SUPER.pack(
            SUPERBLOCK_MAGIC,
            self.format_version,
            self.opens,
            self.segment_bytes,
            self.size_bytes,
            self.cluster_id,
            self.device_id,
            self.created_ms,
        )
        body += _U64.pack(xxh3_64_intdigest(body))
        return body.ljust(SUPERBLOCK_BYTES, b"\0")

    @classmethod
    def unpack(cls, raw: bytes) -> Superblock | None:
        """None if the bytes are not a superblock; raises `ConfigError` for a newer format."""
        if len(raw) < _SUPER.size + 8 or raw[:8] != SUPERBLOCK_MAGIC:
            return None
        body = raw[: _SUPER.size]
        if _U64.unpack_from(raw, _SUPER.size)[0] != xxh3_64_intdigest(body):
            return None
        _, version, opens, segment_bytes, size, cluster, device, created = _SUPER.unpack(body)
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"the device has on-disk format {version}; this release reads format "
                f"{FORMAT_VERSION}. Use the release that wrote it, or a newer one."
            )
        return cls(version, segment_bytes, size, cluster, device, created, opens)


class Record(NamedTuple):
    """A parsed header. Integers as in the module's table."""

    kind: int
    block_log2: int
    header_bytes: int
    segment_sequence: int
    record_sequence: int
    blob: bytes
    stripe: int
    position: int
    data_shards: int
    parity_shards: int
    generation: int
    stripe_bytes: int
    payload_bytes: int
    block_checksums: tuple[int, ...]
    family: str

    @property
    def key(self) -> bytes:
        """The packed shard key."""
        return _KEY.pack(self.blob, self.stripe, self.position)

    @property
    def total_bytes(self) -> int:
        return record_bytes(self.header_bytes, self.payload_bytes)


def record_bytes(header_bytes: int, payload_bytes: int) -> int:
    """What a record takes in the log, with its padding."""
    return (header_bytes + payload_bytes + ALIGNMENT - 1) & -ALIGNMENT


def block_checksums(payload: Buffer, block_log2: int = BLOCK_LOG2) -> list[int]:
    view = memoryview(payload)
    size = len(view)
    block = 1 << block_log2
    if size <= block:
        return [xxh3_64_intdigest(view)] if size else []
    return [xxh3_64_intdigest(view[at : at + block]) for at in range(0, size, block)]


def header_bytes_for(payload_bytes: int, family: bytes, block_log2: int = BLOCK_LOG2) -> int:
    blocks = (payload_bytes + (1 << block_log2) - 1) >> block_log2
    return HEADER_BYTES_MIN + 8 * blocks + len(family)


def pack_header(
    kind: int,
    segment_sequence: int,
    record_sequence: int,
    blob: bytes,
    stripe: int = 0,
    position: int = 0,
    data_shards: int = 0,
    parity_shards: int = 0,
    generation: int = 0,
    stripe_bytes: int = 0,
    payload_bytes: int = 0,
    checksums: Sequence[int] = (),
    family: bytes = b"",
    block_log2: int = BLOCK_LOG2,
) -> bytes:
    """One header, with its checksum."""
    head = (
        _FIXED.pack(
            MAGIC,
            kind,
            block_log2,
            HEADER_BYTES_MIN + 8 * len(checksums) + len(family),
            segment_sequence,
            record_sequence,
            blob,
            stripe,
            position,
            data_shards,
            parity_shards,
            len(family),
            generation,
            stripe_bytes,
            payload_bytes,
        )
        + struct.pack(f"<{len(checksums)}Q", *checksums)
        + family
    )
    return head + _U64.pack(xxh3_64_intdigest(head))


@functools.cache
def _small_header(family_bytes: int) -> struct.Struct:
    return struct.Struct(f"{_FIXED.format}Q{family_bytes}s")


def pack_small_header(
    segment_sequence: int,
    record_sequence: int,
    key: bytes,
    shape: tuple[int, int, int, int],
    payload: Buffer,
    payload_bytes: int,
    family: bytes,
) -> bytes:
    """`pack_header` for a SHARD of at most one block, in one go: most records are of this kind."""
    k, m, generation, stripe_bytes = shape
    named = len(family)
    head = _small_header(named).pack(
        MAGIC,
        KIND_SHARD,
        BLOCK_LOG2,
        HEADER_BYTES_MIN + 8 + named,
        segment_sequence,
        record_sequence,
        key[:16],
        int.from_bytes(key[16:20], "big"),
        key[20],
        k,
        m,
        named,
        generation,
        stripe_bytes,
        payload_bytes,
        xxh3_64_intdigest(payload),
        family,
    )
    return head + _U64.pack(xxh3_64_intdigest(head))


def parse_header(raw: Buffer, offset: int = 0) -> Record | None:
    """The record header at `offset`, or None if there is none (whole, and with its checksum)."""
    view = memoryview(raw)[offset:]
    if len(view) < HEADER_BYTES_MIN:
        return None
    fields = _FIXED.unpack_from(view)
    if fields[0] != MAGIC:
        return None
    (_, kind, log2, size, sequence, number, blob, stripe, position, k, m, named, generation) = (
        fields[:13]
    )
    stripe_bytes, payload_bytes = fields[13:]
    if not 9 <= log2 <= 30:
        return None
    blocks = (payload_bytes + (1 << log2) - 1) >> log2
    if size != HEADER_BYTES_MIN + 8 * blocks + named or len(view) < size:
        return None
    if _U64.unpack_from(view, size - 8)[0] != xxh3_64_intdigest(view[: size - 8]):
        return None
    checksums = struct.unpack_from(f"<{blocks}Q", view, _FIXED.size)
    family = bytes(view[size - 8 - named : size - 8]).decode("ascii", "replace")
    return Record(
        kind,
        log2,
        size,
        sequence,
        number,
        blob,
        stripe,
        position,
        k,
        m,
        generation,
        stripe_bytes,
        payload_bytes,
        checksums,
        family,
    )


def verify_payload(record: Record, payload: Buffer) -> bool:
    return tuple(block_checksums(payload, record.block_log2)) == record.block_checksums


def verify_small(raw: memoryview, header_bytes: int, payload_bytes: int, key: bytes) -> memoryview:
    """The payload of a whole record of at most one block, checked: the hot path of small reads.

    The record's own key and the payload's checksum are compared, nothing else is interpreted.
    Raises `ChecksumMismatch`.
    """
    payload = raw[header_bytes : header_bytes + payload_bytes]
    magic, blob, stripe, position, checksum = _SMALL.unpack_from(raw)
    if (
        magic != MAGIC
        or blob != key[:16]
        or position != key[20]
        or stripe != int.from_bytes(key[16:20], "big")
        or (payload_bytes and checksum != xxh3_64_intdigest(payload))
    ):
        raise ChecksumMismatch("a shard on the device is not what was written", key=key.hex())
    return payload


def verify_blocks(
    header: Buffer, key: bytes, blocks: memoryview, first_block: int, payload_bytes: int
) -> int:
    """Check whole blocks from `first_block` on against the table in the header. Returns the sequence
    number of the segment that the record was written to."""
    record = parse_header(header)
    if record is not None and record.payload_bytes == payload_bytes:
        found = record.key
        wanted = block_checksums(blocks, record.block_log2)
        stored = record.block_checksums[first_block : first_block + len(wanted)]
        if found == key and tuple(wanted) == stored:
            return record.segment_sequence
    raise ChecksumMismatch("a shard on the device is not what was written", key=key.hex())
