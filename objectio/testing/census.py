"""Counting what is on the devices of a stopped node against what its metadata says.

Nothing may be missing, nothing may be left over: every shard belongs to a live object or to a part
of a live upload, and each of these has all of its shards, readable. While a placement group moves,
its blobs have all of them at the old or at the new members, and may have copies at the others. For
simulated or real disks of one node whose server does not run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from objectio import builtin
from objectio.abc.shardstore import ShardStore
from objectio.config import Config, load_config
from objectio.errors import ObjectIOError
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import (
    BlobRef,
    PoolRecord,
    decode_blob_row,
    decode_cluster,
    decode_groups,
    decode_manifest,
    decode_move,
    decode_object,
    decode_part,
    decode_pool,
    decode_repair,
)
from objectio.model.stripe import BlobId, ShardKey, is_reserved
from objectio.placement.groups import group_of
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node
from objectio.testing.census_versions import version_problems

_PAGE: Final = 1000


@dataclass(slots=True)
class Census:
    """`problems` are sentences; an empty list is a clean store. `lost` are those of them that are
    about shards that should be there: a crash may leave what nobody needs, never too little. A shard
    that the metadata knows to be missing is a problem, and not lost. `moving` counts groups."""

    objects: int = 0
    uploads: int = 0
    blobs: int = 0
    shards: int = 0
    moving: int = 0
    problems: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Metadata:
    pools: dict[int, tuple[PoolRecord, list[list[int]]]]
    former: dict[tuple[int, int], list[int]]
    """By pool and group: where it comes from."""
    owned: dict[bytes, BlobRef]
    """By blob id: what objects and parts refer to."""
    repairs: dict[bytes, int]
    """Masks of positions that are known to be missing."""

    def sets(self, ref: BlobRef) -> list[list[int]]:
        """The members of the blob's group; while it moves, the old ones as well."""
        _, groups = self.pools[ref.pool]
        group = group_of(ref.blob, len(groups))
        sets = [groups[group]]
        if (ref.pool, group) in self.former:
            sets.append(self.former[ref.pool, group])
        return sets


def take_census(data_dir: Path) -> Census:
    """Count the store that `objectio serve --data DIR` keeps."""
    config = load_config(data_dir / "objectio.toml", env={})
    return asyncio.run(_take(config))


async def _take(config: Config) -> Census:
    node = Node(config, load_plugins(disabled=(), builtin=(builtin,)))
    kv = node.open_kv()
    census = Census()
    try:
        metadata = _read_metadata(kv, census)
        cluster_row = kv.get(keys.CLUSTER)
        assert cluster_row is not None, "the node was never started"
        cluster_id = decode_cluster(cluster_row).cluster_id
        census.moving = len(metadata.former)
        factory = node.open_shardstores()
        found: dict[int, set[ShardKey]] = {}
        for disk in config.osd.disk:
            store = await factory.open(str(config.disk_path(disk)), cluster_id=cluster_id)
            try:
                found[disk.id] = await _look_at(disk.id, store, metadata, census)
            finally:
                await store.close()
        _compare(metadata, found, census)
    finally:
        await kv.close()
    return census


async def _look_at(
    osd: int, store: ShardStore, metadata: _Metadata, census: Census
) -> set[ShardKey]:
    """The shards on an OSD that can be read, or need not be."""
    found: set[ShardKey] = set()
    after: ShardKey | None = None
    while page := await store.scan(after, _PAGE):
        after = page[-1].key
        for info in page:
            if is_reserved(info.key.blob):
                continue
            census.shards += 1
            found.add(info.key)
            if info.key.blob not in metadata.owned:
                continue
            try:
                await store.read(info.key)
            except ObjectIOError as error:
                _lose(census, f"OSD {osd}, {_name(info.key)}: {error}")
    return found


def _compare(metadata: _Metadata, found: dict[int, set[ShardKey]], census: Census) -> None:
    may_be: dict[int, set[ShardKey]] = {}
    for ref in metadata.owned.values():
        pool, _ = metadata.pools[ref.pool]
        stripes = range(-(-ref.size // pool.stripe_size_bytes))
        lacks: list[list[tuple[int, ShardKey]]] = []
        for members in metadata.sets(ref):
            wanted = [
                (osd, ShardKey(BlobId(ref.blob), stripe, position))
                for position, osd in enumerate(members)
                for stripe in stripes
            ]
            for osd, key in wanted:
                may_be.setdefault(osd, set()).add(key)
            lacks.append([each for each in wanted if each[1] not in found.get(each[0], ())])
        for osd, key in min(lacks, key=len):
            sentence = f"OSD {osd} lacks {_name(key)}"
            if metadata.repairs.get(ref.blob, 0) >> key.position & 1:
                census.problems.append(sentence)
            else:
                _lose(census, sentence)
    for osd, shards in found.items():
        census.problems += [
            f"OSD {osd} has left over {_name(key)}"
            for key in sorted(shards - may_be.get(osd, set()))
        ]


def _lose(census: Census, sentence: str) -> None:
    census.lost.append(sentence)
    census.problems.append(sentence)


def _read_metadata(kv: KVStore, census: Census) -> _Metadata:
    pools = {
        decode_uint(row, len(keys.POOLS), 4): decode_pool(raw) for row, raw in _rows(kv, keys.POOLS)
    }
    groups = {
        decode_uint(row, len(keys.GROUPS), 4): decode_groups(raw)
        for row, raw in _rows(kv, keys.GROUPS)
    }
    manifests = {row[1:]: decode_manifest(raw).blobs for row, raw in _rows(kv, b"m")}
    owned: dict[bytes, BlobRef] = {}
    refs: list[BlobRef] = []
    kinds = [list(_rows(kv, kind)) for kind in (b"o", b"d", b"v", b"n")]
    census.problems += version_problems(itertools.chain(*kinds))
    for _, raw in kinds[0] + kinds[2]:
        record = decode_object(raw)
        census.objects += not record.delete_marker
        refs += manifests.pop(record.manifest) if record.manifest else record.blobs
    uploads = {row[-16:] for row, _ in _rows(kv, b"u")}
    census.uploads = len(uploads)
    for row, raw in _rows(kv, b"p"):
        if row[1:17] not in uploads:
            census.problems.append(f"a part of no upload: {row[1:].hex()}")
        refs += decode_part(raw).blobs
    for ref in refs:
        if ref.blob in owned:
            census.problems.append(f"blob {ref.blob.hex()} has two owners")
        owned[ref.blob] = ref
    census.blobs = len(owned)
    rows = {decode_blob_row(raw).ref.blob for _, raw in _rows(kv, keys.BLOBS)}
    problems = census.problems
    problems += [f"a manifest of no object: {each.hex()}" for each in manifests]
    problems += [f"blob {each.hex()} has no row" for each in owned.keys() - rows]
    problems += [f"a row of blob {each.hex()}, which nobody has" for each in rows - owned.keys()]
    for prefix, what in (
        (keys.GARBAGE, "garbage"),
        (keys.ENDED, "an upload that was not cleaned up"),
        (keys.REPAIRS, "a repair that is not done"),
        (keys.REFILLS, "a refill that is not done"),
        (keys.MOVES, "a group that is not moved"),
    ):
        problems += [f"{what}: {row.hex()}" for row, _ in _rows(kv, prefix)]
    return _Metadata(
        {number: (pools[number], groups[number]) for number in pools},
        {
            (
                decode_uint(row, len(keys.MOVES), 4),
                decode_uint(row, len(keys.MOVES) + 4, 4),
            ): decode_move(raw).former
            for row, raw in _rows(kv, keys.MOVES)
        },
        owned,
        {row[len(keys.REPAIRS) :]: decode_repair(raw).mask for row, raw in _rows(kv, keys.REPAIRS)},
    )


def _rows(kv: KVStore, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while page := kv.scan_prefix(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1][0]


def _name(key: ShardKey) -> str:
    return f"shard {key.position} of stripe {key.stripe} of blob {key.blob.hex()}"
