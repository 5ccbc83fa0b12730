"""Counting what is on the devices of a stopped node against what its metadata says.

Nothing may be missing, nothing may be left over: every shard belongs to a live object or to a part
of a live upload, and each of these has all of its shards, readable. For simulated or real disks of
one node whose server does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from objectio import builtin
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
    decode_object,
    decode_part,
    decode_pool,
)
from objectio.model.stripe import BlobId, ShardKey, is_reserved
from objectio.placement.groups import group_of
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node

_PAGE: Final = 1000


@dataclass(slots=True)
class Census:
    """`problems` are sentences; an empty list is a clean store."""

    objects: int = 0
    uploads: int = 0
    blobs: int = 0
    shards: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Metadata:
    pools: dict[int, tuple[PoolRecord, list[list[int]]]]
    owned: dict[bytes, BlobRef]
    """By blob id: what objects and parts refer to."""


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
        factory = node.open_shardstores()
        expected = _expected_shards(metadata)
        for disk in config.osd.disk:
            store = await factory.open(str(config.disk_path(disk)), cluster_id=cluster_id)
            try:
                found: set[ShardKey] = set()
                after: ShardKey | None = None
                while page := await store.scan(after, _PAGE):
                    after = page[-1].key
                    found.update(info.key for info in page if not is_reserved(info.key.blob))
                census.shards += len(found)
                wanted = expected.get(disk.id, set())
                _report(census, f"OSD {disk.id} lacks", wanted - found)
                _report(census, f"OSD {disk.id} has left over", found - wanted)
                for key in found & wanted:
                    try:
                        await store.read(key)
                    except ObjectIOError as error:
                        census.problems.append(f"OSD {disk.id}, {_name(key)}: {error}")
            finally:
                await store.close()
    finally:
        await kv.close()
    return census


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
    for _, raw in _rows(kv, b"o"):
        census.objects += 1
        record = decode_object(raw)
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
    ):
        problems += [f"{what}: {row.hex()}" for row, _ in _rows(kv, prefix)]
    return _Metadata({number: (pools[number], groups[number]) for number in pools}, owned)


def _rows(kv: KVStore, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while page := kv.scan_prefix(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1][0]


def _expected_shards(metadata: _Metadata) -> dict[int, set[ShardKey]]:
    expected: dict[int, set[ShardKey]] = {}
    for ref in metadata.owned.values():
        pool, groups = metadata.pools[ref.pool]
        stripes = -(-ref.size // pool.stripe_size_bytes)
        for position, osd in enumerate(groups[group_of(ref.blob, len(groups))]):
            expected.setdefault(osd, set()).update(
                ShardKey(BlobId(ref.blob), stripe, position) for stripe in range(stripes)
            )
    return expected


def _report(census: Census, what: str, shards: Iterable[ShardKey]) -> None:
    census.problems += [f"{what} {_name(key)}" for key in sorted(shards)]


def _name(key: ShardKey) -> str:
    return f"shard {key.position} of stripe {key.stripe} of blob {key.blob.hex()}"
