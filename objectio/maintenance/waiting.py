"""Whether enough OSDs of other processes are there for the store to begin."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import PoolRecord, decode_pool
from objectio.model.cluster import Osd
from objectio.store.clustermap import memberships

PATIENCE_SECONDS: Final = 10.0
"""So long those are waited for without which some objects cannot be read. They may be lost."""


class Waiting:
    """For a pool that is to be made, as many OSDs as a stripe has shards.

    For a store that there is already, all but as many as may be lost: any of them may have metadata
    later than the engine's, and the journal can only be gone on with when one can be sure that none
    has. If those do not come, it begins with what there is as soon as anything can be read at all, as
    a process does whose disks are its own.
    """

    def __init__(self, kv: KVStore, up: Collection[int], wanted: PoolRecord) -> None:
        self._kv = kv
        self._up = up
        self._wanted = wanted
        self._readable_since: float | None = None

    async def lacking(self, topology: Sequence[Osd], now: float) -> str:
        """What is waited for, in a sentence; empty: nothing."""
        pools = [decode_pool(raw) for _, raw in await self._kv.ascan_prefix(keys.POOLS)]
        members = await memberships(self._kv)
        lacking = self._for_old(pools, {osd for osd, each in members.items() if each != "out"}, now)
        if lacking or self._wanted in pools:
            return lacking
        usable = {
            int(osd.id)
            for osd in topology
            if osd.weight > 0 and members.get(int(osd.id), "in") == "in"
        }
        return self._for_new(usable)

    def _for_new(self, usable: Collection[int]) -> str:
        data, parity = self._wanted.data_shards, self._wanted.parity_shards
        needed = f"of {data + parity} OSDs, which the pool of {data}+{parity} needs"
        up = sum(osd in self._up for osd in usable)
        if len(usable) < data + parity:
            return f"{len(usable)} {needed}, have registered"
        return "" if up >= data + parity else f"{up} {needed}, are up"

    def _for_old(self, pools: Sequence[PoolRecord], known: Collection[int], now: float) -> str:
        if not pools:
            return ""
        up = sum(osd in self._up for osd in known)
        if len(known) - up <= min(pool.parity_shards for pool in pools):
            return ""
        if up < min(pool.data_shards for pool in pools):
            self._readable_since = None
        elif self._readable_since is None:
            self._readable_since = now
        if self._readable_since is not None and now - self._readable_since >= PATIENCE_SECONDS:
            return ""
        return f"{up} of {len(known)} OSDs are up"
