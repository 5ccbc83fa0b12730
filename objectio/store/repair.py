"""Repair: making up for shards that are missing or damaged.

What must be repaired stands in rows of the metadata, so a restart forgets nothing: a row for each
blob with a mask of positions, written in the commit of a write that could not reach every device,
or when a read finds damage; and a row for each OSD that came back blank, whose share of all blobs is
then walked through once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from typing_extensions import Buffer

from objectio.abc.kv import Absent, Equals
from objectio.abc.shardstore import ShardCoordinates, ShardStore, ShardWrite
from objectio.errors import CommitConflict, InsufficientShards, NotFound, ObjectIOError
from objectio.kv.keys import decode_uint, prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, decode_blob_row, decode_mask, encode
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.devices import Devices
from objectio.store.pools import Pools
from objectio.store.read import BlobReads

_log: Final = logging.getLogger("objectio.store")

_AT_ONCE: Final = 8
_PAGE: Final = 500


class Repairer:
    """Runs in the background; a `store.devices.Listener` and the place where damage is reported."""

    def __init__(
        self, kv: KVStore, devices: Devices, pools: Pools, interval_seconds: float
    ) -> None:
        self.repaired_shards = 0
        self._kv = kv
        self._devices = devices
        self._pools = pools
        self._interval_seconds = interval_seconds
        self._reads: BlobReads | None = None
        self._reported: dict[bytes, int] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._working = False
        self._rows_left = 0

    def start(self, reads: BlobReads) -> None:
        self._reads = reads
        self._work.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # What must be repaired.

    def damaged(self, ref: BlobRef, mask: int) -> None:
        """A read found shards missing or damaged on devices that are up."""
        self._reported[ref.blob] = self._reported.get(ref.blob, 0) | mask
        self._work.set()

    def wake(self) -> None:
        self._work.set()

    def up(self, osd: int, *, blank: bool) -> None:
        self._work.set()

    def down(self, osd: int, reason: str) -> None:
        """Nothing to do: a device that is down may come back with everything."""

    @property
    def backlog(self) -> int:
        """Blobs to repair and OSDs to refill, as far as the last pass knows; at least 1 while there
        is something to look at. 0 says that nothing is left to do."""
        at_work = self._working or self._work.is_set()
        return max(self._rows_left + len(self._reported), int(at_work))

    async def pending(self) -> tuple[int, int]:
        """(blobs to repair, up to 10,000; OSDs being refilled)."""
        blobs = await self._kv.ascan_prefix(keys.REPAIRS)
        refills = await self._kv.ascan_prefix(keys.REFILLS)
        return len(blobs), len(refills)

    async def _write_reported(self) -> None:
        reported, self._reported = self._reported, {}
        for blob, mask in reported.items():
            row = keys.repair(blob)
            raw = await self._kv.aget(row)
            old = 0 if raw is None else decode_mask(raw)
            if old | mask == old:
                continue
            check = Absent(row) if raw is None else Equals(row, raw)
            try:
                await self._kv.commit([check], [(row, encode(old | mask))])
            except CommitConflict:
                self._reported[blob] = self._reported.get(blob, 0) | mask

    # Doing it.

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval_seconds):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._working = True
            self._work.clear()
            try:
                await self._write_reported()
                await self._repair_rows()
                await self._refill_all()
                self._rows_left = sum(await self.pending())
            except Exception:
                _log.exception("repair")
                await asyncio.sleep(1)
            finally:
                self._working = False

    async def _repair_rows(self) -> None:
        start, stop = keys.REPAIRS, prefix_end(keys.REPAIRS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            start = rows[-1][0] + b"\0"
            for at in range(0, len(rows), _AT_ONCE):
                await asyncio.gather(
                    *(self._repair_row(row, raw) for row, raw in rows[at : at + _AT_ONCE])
                )

    async def _repair_row(self, row: bytes, raw: bytes) -> None:
        owner = await self._kv.aget(keys.blob(row[len(keys.REPAIRS) :]))
        left = 0
        if owner is not None:
            mask = decode_mask(raw)
            positions = [at for at in range(mask.bit_length()) if mask >> at & 1]
            ref = decode_blob_row(owner).ref
            mended = await self._mend(ref, positions)
            left = mask & ~sum(1 << position for position in mended)
            if left == mask:
                return
        try:
            await self._kv.commit([Equals(row, raw)], [(row, encode(left) if left else None)])
        except CommitConflict:
            self._work.set()  # more was found meanwhile

    async def _mend(self, ref: BlobRef, positions: Sequence[int]) -> list[int]:
        """Rebuild shards of every stripe of a blob. Returns the positions that are whole now."""
        pool = self._pools.get(ref.pool)
        members = pool.members(ref.blob)
        targets: dict[int, ShardStore] = {}
        for position in positions:
            store = self._devices.stores.get(members[position])
            if store is not None:
                targets[position] = store
        if not targets or self._reads is None:
            return []
        try:
            for stripe in range(pool.stripes(ref.size)):
                made = await self._reads.mend(ref, stripe, list(targets))
                await self._store(ref, stripe, targets, made)
                self.repaired_shards += len(made)
        except InsufficientShards as error:
            _log.error("blob %s cannot be repaired now: %s", ref.blob.hex(), error.message)
            return []
        except ObjectIOError as error:
            _log.warning("repair of blob %s: %s", ref.blob.hex(), error.message)
            return []
        if await self._kv.aget(keys.blob(ref.blob)) is None:  # deleted while we were at it
            await self._remove(ref, targets)
        return list(targets)

    async def _store(
        self, ref: BlobRef, stripe: int, targets: dict[int, ShardStore], made: dict[int, Buffer]
    ) -> None:
        pool = self._pools.get(ref.pool)
        size = pool.stripe_bytes(ref.size, stripe)
        coordinates = ShardCoordinates(pool.family, pool.code.k, pool.code.m, size)
        loop = asyncio.get_running_loop()
        waits: list[asyncio.Future[BaseException | None]] = []
        for position, shard in made.items():
            wait: asyncio.Future[BaseException | None] = loop.create_future()
            waits.append(wait)
            targets[position].submit(
                ShardWrite(ShardKey(BlobId(ref.blob), stripe, position), (shard,), coordinates),
                wait.set_result,
            )
        for wait in waits:
            error = await asyncio.shield(wait)
            if error is not None:
                raise error

    async def _remove(self, ref: BlobRef, targets: dict[int, ShardStore]) -> None:
        stripes = range(self._pools.get(ref.pool).stripes(ref.size))
        for position, store in targets.items():
            shards = [ShardKey(BlobId(ref.blob), stripe, position) for stripe in stripes]
            wait: asyncio.Future[BaseException | None]
            wait = asyncio.get_running_loop().create_future()
            store.submit_delete(shards, wait.set_result)
            await asyncio.shield(wait)

    # Refilling a blank OSD.

    async def _refill_all(self) -> None:
        for row, cursor in await self._kv.ascan_prefix(keys.REFILLS):
            osd = decode_uint(row, len(keys.REFILLS), 4)
            if osd in self._devices.stores:
                await self._refill(osd, row, cursor)

    async def _refill(self, osd: int, row: bytes, cursor: bytes) -> None:
        """Walk through all blobs from where the walk stood; mend what the OSD does not have."""
        _log.info("refilling OSD %d", osd)
        start = cursor if cursor.startswith(keys.BLOBS) else keys.BLOBS
        stop = prefix_end(keys.BLOBS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            missing: list[tuple[BlobRef, int]] = []
            for _, raw in rows:
                ref = decode_blob_row(raw).ref
                members = self._pools.get(ref.pool).members(ref.blob)
                if osd in members and not self._has(osd, ref, members.index(osd)):
                    missing.append((ref, members.index(osd)))
            unmended = False
            for at in range(0, len(missing), _AT_ONCE):
                done = await asyncio.gather(
                    *(self._mend(ref, [position]) for ref, position in missing[at : at + _AT_ONCE])
                )
                for (ref, position), mended in zip(missing[at : at + _AT_ONCE], done, strict=True):
                    if not mended:
                        unmended = True
                        self.damaged(ref, 1 << position)
            if unmended:
                await self._write_reported()
            if osd not in self._devices.stores:
                return
            start = rows[-1][0] + b"\0"
            if not await self._advance(row, cursor, start):
                return
            cursor = start
            await asyncio.sleep(0)
        if await self._advance(row, cursor, None):
            _log.info("OSD %d is refilled", osd)

    async def _advance(self, row: bytes, cursor: bytes, new: bytes | None) -> bool:
        """Write down how far a refill got. False if the OSD was replaced again meanwhile: then the
        row is as new, and the walk begins anew."""
        try:
            await self._kv.commit([Equals(row, cursor)], [(row, new)])
        except CommitConflict:
            self._work.set()
            return False
        return True

    def _has(self, osd: int, ref: BlobRef, position: int) -> bool:
        store = self._devices.stores.get(osd)
        if store is None:
            return False
        try:
            for stripe in range(self._pools.get(ref.pool).stripes(ref.size)):
                store.plan_read(ShardKey(BlobId(ref.blob), stripe, position))
        except NotFound:
            return False
        return True
