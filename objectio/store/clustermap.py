"""The cluster map in the metadata: which OSDs there are, and from when.

The map follows from the configuration, which says what stands where and how much it holds, and from
the membership of each OSD, which operators change. Whenever the two give another map than the one
that is written down, the epoch ascends. An OSD that takes no groups, because it is draining or out,
stands in the map with `in_` False.

An OSD that vanished from the configuration while groups are on it is not dropped: it stays in the map
as it was, its shards count as missing like those of any device that is down, and nothing moves until
an operator says that it will not come back. It may only have been commented out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from objectio.abc.kv import Absent, Check, Equals
from objectio.errors import CommitConflict
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import (
    Membership,
    OsdRecord,
    decode_groups,
    decode_location,
    decode_map,
    decode_move,
    decode_osd,
    encode,
)
from objectio.model.cluster import ClusterMap, Osd, OsdId

_log: Final = logging.getLogger("objectio.store")


async def load_map(kv: KVStore, configured: Sequence[Osd]) -> ClusterMap:
    """The map for the OSDs of the configuration, written down if it is a new one."""
    while True:
        raw = await kv.aget(keys.MAP)
        written = ClusterMap(epoch=0) if raw is None else decode_map(raw)
        osds = await _wanted(kv, configured, written)
        if osds == written.osds and raw is not None:
            return written
        cluster = ClusterMap(epoch=written.epoch + 1, osds=osds)
        try:
            await kv.commit([_unchanged(keys.MAP, raw)], [(keys.MAP, encode(cluster))])
        except CommitConflict:
            continue
        if raw is not None:
            _log.info("the cluster map changed: epoch %d", cluster.epoch)
        return cluster


async def located(kv: KVStore) -> tuple[Osd, ...]:
    """The OSDs that have registered, wherever they are: in place of a configuration, where the devices
    are of other processes."""
    rows = await kv.ascan_prefix(keys.LOCATIONS)
    found = [(decode_uint(row, len(keys.LOCATIONS), 4), decode_location(raw)) for row, raw in rows]
    return tuple(
        Osd(id=OsdId(osd), weight=each.weight, host=each.host, rack=each.rack)
        for osd, each in sorted(found)
    )


async def _wanted(kv: KVStore, configured: Iterable[Osd], written: ClusterMap) -> tuple[Osd, ...]:
    there = {int(osd.id): osd for osd in configured}
    before = {int(osd.id): osd for osd in written.osds}
    for osd in sorted(await _holders(kv) - there.keys()):
        unknown = Osd(id=OsdId(osd), host=f"unknown-{osd}", rack=f"unknown-{osd}")
        there[osd] = before.get(osd, unknown)
        _log.warning(
            "OSD %d is not in the configuration any more, but groups are on it: its shards count as "
            "missing. Put it back, or, if it will not come back: objectio disk remove %d",
            osd,
            osd,
        )
    members = await memberships(kv)
    return tuple(
        msgspec.structs.replace(osd, in_=members.get(number, "in") == "in")
        for number, osd in sorted(there.items())
    )


async def _holders(kv: KVStore) -> set[int]:
    """Every OSD that has a position of a group, or has had it until the group is moved."""
    found: set[int] = set()
    for _, raw in await kv.ascan_prefix(keys.GROUPS):
        found.update(osd for members in decode_groups(raw) for osd in members)
    for _, raw in await kv.ascan_prefix(keys.MOVES):
        found.update(decode_move(raw).former)
    return {osd for osd in found if osd >= 0}


async def memberships(kv: KVStore) -> dict[int, Membership]:
    """By OSD; one that was never in service has none."""
    rows = await kv.ascan_prefix(keys.OSDS)
    return {decode_uint(row, len(keys.OSDS), 4): decode_osd(raw).membership for row, raw in rows}


async def set_membership(
    kv: KVStore, cluster: ClusterMap, osd: int, membership: Membership
) -> ClusterMap:
    """Write down the membership of an OSD of the map, and the map that follows from it, in one
    stroke. Returns the new map; the same one if nothing in it changes."""
    row = keys.osd(osd)
    while True:
        raw_osd, raw_map = await kv.aget(row), await kv.aget(keys.MAP)
        record = OsdRecord("") if raw_osd is None else decode_osd(raw_osd)
        changed = cluster_with(cluster, osd, in_=membership == "in")
        checks: list[Check] = [_unchanged(row, raw_osd), _unchanged(keys.MAP, raw_map)]
        writes: list[tuple[bytes, bytes | None]] = [
            (row, encode(msgspec.structs.replace(record, membership=membership)))
        ]
        if changed is not cluster:
            writes.append((keys.MAP, encode(changed)))
        try:
            await kv.commit(checks, writes)
        except CommitConflict:
            continue  # the device was opened meanwhile, which is counted in its row
        return changed


def cluster_with(cluster: ClusterMap, osd: int, *, in_: bool) -> ClusterMap:
    """The next map, in which the OSD is in or not; the same one if it is so already."""
    osds = tuple(
        msgspec.structs.replace(each, in_=in_) if each.id == osd else each for each in cluster.osds
    )
    if osds == cluster.osds:
        return cluster
    return ClusterMap(epoch=cluster.epoch + 1, osds=osds)


def _unchanged(row: bytes, raw: bytes | None) -> Check:
    return Absent(row) if raw is None else Equals(row, raw)
