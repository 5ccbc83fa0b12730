"""Reading shards: from the page cache or a cache of our own, else from the device; all verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from typing_extensions import Buffer

from objectio.errors import ChecksumMismatch, DeviceFailed, NotFound
from objectio.limits import KIB
from objectio.osd.cache import ArcCache
from objectio.osd.format import verify_blocks, verify_small
from objectio.osd.index import ENTRY
from objectio.osd.log import Log

_BLOCK_BYTES: Final = 64 * KIB
_NOW_BLOCKS_MAX: Final = 4
"""What is copied together on the event loop."""
_AT_ONCE_BLOCKS_MAX: Final = 4
"""A read of more blocks is one of a large object: they are cached when it is read again."""
_HEADER: Final = -1
_unpack: Final = ENTRY.unpack

_Place = tuple[bytes, bytes, int]
"""Of a record: key, index entry, sequence number of the segment. With the number of a block it is the
block's name in the cache. A place in the log is written once in each use of a segment, and each use
has a number of its own: what has such a name never changes, and what was moved or replaced has
another."""


class Reader:
    """`locate` and `read_now` on the event loop, what `plan` returns in any thread."""

    def __init__(self, log: Log, cache: ArcCache | None) -> None:
        self.cache = cache
        self.closed = False
        self._log = log
        self._index = log.index
        self._device = log.device

    def locate(self, key: bytes) -> bytes:
        if self.closed:
            raise DeviceFailed(f"{self._device.path} was closed")
        entry = self._index.get(key)
        if entry is None:
            raise NotFound("no such shard on this device", kind="shard")
        return entry

    def read_now(self, key: bytes, offset: int, length: int | None) -> Buffer | None:
        """None if that would block."""
        entry = self.locate(key)
        if self.cache is not None:
            return self._cached(self.cache, key, entry, offset, length)
        at, payload_bytes, header_bytes, _ = _unpack(entry)
        if payload_bytes > _BLOCK_BYTES:
            return None
        raw = self._device.pread_now(header_bytes + payload_bytes, at)
        if raw is None:
            return None
        try:
            payload = verify_small(memoryview(raw), header_bytes, payload_bytes, key)
        except ChecksumMismatch:
            return None  # the record may have moved; the slow path looks twice
        if offset or length is not None:
            return payload[offset : None if length is None else offset + length]
        return payload

    def _cached(
        self, cache: ArcCache, key: bytes, entry: bytes, offset: int, length: int | None
    ) -> Buffer | None:
        payload_bytes = _unpack(entry)[1]
        stop = payload_bytes if length is None else min(payload_bytes, offset + length)
        first, last = offset // _BLOCK_BYTES, -(-stop // _BLOCK_BYTES)
        if not 0 < last - first <= _NOW_BLOCKS_MAX:
            return None
        sequence = self._sequence_of(entry)
        blocks: list[bytes] = []
        for number in range(first, last):
            block = cache.get((key, entry, sequence, number))
            if block is None:
                return None
            blocks.append(block)
        whole = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return memoryview(whole)[offset - first * _BLOCK_BYTES : stop - first * _BLOCK_BYTES]

    def plan(self, key: bytes, offset: int, length: int | None) -> Callable[[], Buffer]:
        self.locate(key)

        def read() -> Buffer:
            with self._log.guard:
                entry = self.locate(key)
                sequence = self._sequence_of(entry)
                while True:
                    try:
                        return self._read_at((key, entry, sequence), offset, length)
                    except ChecksumMismatch:
                        now = self.locate(key)
                        if (now, self._sequence_of(now)) == (entry, sequence):
                            raise
                        entry = now  # compaction moved it while we read
                        sequence = self._sequence_of(entry)

        return read

    def _read_at(self, place: _Place, offset: int, length: int | None) -> Buffer:
        """Blocking: the payload's bytes from `offset` on, verified block by block."""
        payload_bytes = _unpack(place[1])[1]
        stop = payload_bytes if length is None else min(payload_bytes, offset + length)
        if offset >= stop:
            return b""
        first, last = offset // _BLOCK_BYTES, -(-stop // _BLOCK_BYTES)
        if self.cache is None:
            whole = self._from_device(place, first, last)
        else:
            whole = self._through(self.cache, place, first, last)
        return whole[offset - first * _BLOCK_BYTES : stop - first * _BLOCK_BYTES]

    def _through(self, cache: ArcCache, place: _Place, first: int, last: int) -> memoryview:
        """The blocks, of which the device is asked for what the cache lacks."""
        names = [(*place, number) for number in range(first, last)]
        blocks: list[Buffer | None] = [cache.get(name) for name in names]
        lacking = [i for i, block in enumerate(blocks) if block is None]
        if lacking:
            low, high = lacking[0], lacking[-1] + 1
            read = self._from_device(place, first + low, first + high)
            at_once = high - low <= _AT_ONCE_BLOCKS_MAX
            for i in lacking:
                begin = (i - low) * _BLOCK_BYTES
                cache.offer(names[i], read[begin : begin + _BLOCK_BYTES], at_once=at_once)
            blocks[low:high] = [read]
        found = [block for block in blocks if block is not None]
        return memoryview(found[0] if len(found) == 1 else b"".join(found))

    def _from_device(self, place: _Place, first: int, last: int) -> memoryview:
        """Blocks from number `first` up to before `last`."""
        key, entry, sequence = place
        at, payload_bytes, header_bytes, _ = _unpack(entry)
        begin, end = first * _BLOCK_BYTES, min(last * _BLOCK_BYTES, payload_bytes)
        header: Buffer | None = None
        if first == 0:
            raw = memoryview(self._device.pread(header_bytes + end, at))
            header, blocks = raw[:header_bytes], raw[header_bytes:]
        else:
            if self.cache is not None:
                header = self.cache.get((*place, _HEADER), counted=False)
            if header is None:
                header = self._device.pread(header_bytes, at)
            blocks = memoryview(self._device.pread(end - begin, at + header_bytes + begin))
        if len(blocks) != end - begin:
            raise ChecksumMismatch("a shard on the device is cut short", key=key.hex())
        written = verify_blocks(header, key, blocks, first, payload_bytes)
        if self.cache is not None:
            if written != sequence:  # the segment was given back, and is in use anew
                raise ChecksumMismatch("a shard on the device was moved", key=key.hex())
            if first:
                self.cache.offer((*place, _HEADER), header, counted=False)
        return blocks

    def _sequence_of(self, entry: bytes) -> int:
        log = self._log
        return log.segments[log.segment_of(_unpack(entry)[0])].sequence
