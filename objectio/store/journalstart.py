"""Whether the engine and the devices tell one history, and giving the engine what it lost.

Every batch that a device has was in the engine before. So devices that are ahead of the engine say
that the engine is an old copy of itself, or lost its tail; then what it lacks is applied, if all of
it is there. And a higher lineage says that metadata was rebuilt since this engine was used.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

import msgspec

from objectio.errors import ConfigError
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import (
    JournalRecord,
    OsdRecord,
    decode_osd,
    decode_pool,
    encode,
)
from objectio.store.devices import DeviceSet, old_copy_mark
from objectio.store.journalhistory import History

_log: Final = logging.getLogger("objectio.journal")

_HELP: Final = (
    "To take the metadata that the disks have instead, move the metadata directory away, or pass "
    "--replace: objectio meta rebuild"
)


class Start(NamedTuple):
    """`record` as it is to be. `ahead`: the newest batch of the devices, if the engine does not have
    it. `stale`: no checkpoint there can be gone on from."""

    record: JournalRecord
    history: History
    ahead: int
    stale: bool = False


async def parity_of_pools(kv: KVStore) -> int:
    rows = await kv.ascan_prefix(keys.POOLS)
    return max((decode_pool(raw).parity_shards for _, raw in rows), default=0)


def judge(record: JournalRecord | None, history: History, number: int) -> Start:
    """`number` is the engine's last batch. Raises `ConfigError` if the histories do not fit."""
    if record is None:
        if not history.empty:
            raise ConfigError(
                "the disks have a journal of metadata that this metadata directory knows nothing of: "
                f"it is an old copy. {_HELP}"
            )
        return Start(JournalRecord(1, True, []), history, 0, stale=True)
    if history.lineage > record.lineage:
        raise ConfigError(
            "the metadata were rebuilt from the disks since this metadata directory was in use: it is "
            f"an old copy. {_HELP}"
        )
    if not record.on:  # batches went by the journal: it begins anew
        return Start(JournalRecord(record.lineage + 1, True, []), history, 0, stale=True)
    newest = history.newest(record.lineage)
    return Start(record, history, newest if newest > number else 0)


async def roll_forward(kv: KVStore, start: Start, devices: DeviceSet) -> None:
    """Apply what the devices have and the engine does not. Raises `ConfigError` if that is not all
    there: then the engine is as it was at some moment later than it had been."""
    outbox, lineage = kv.outbox, start.record.lineage
    assert outbox is not None, "only a journaled engine can lack what the journal has"
    begin = number = outbox.number
    async for entry in start.history.entries_after(lineage, number):
        writes = [write for write in entry.writes if write[0] != keys.JOURNAL]
        await asyncio.to_thread(outbox.replay, entry.number, writes)
        number = entry.number
    lost = await start.history.lost_behind(lineage, number)
    lost = lost or max(0, start.history.newest_checkpoint(lineage) - number)
    if lost:
        raise ConfigError(
            f"this metadata directory is an old copy: it ends at batch {number}, and the disks have "
            f"{lost} later ones, the last of them {start.ahead}, that do not follow it. {_HELP}"
        )
    _log.warning(
        "the metadata directory was an old copy, or had lost its end: %d batches of commits were "
        "taken from the journal on the disks",
        number - begin,
    )
    outbox.number = max(number, start.ahead)  # the remains of a batch keep their number
    await _keep_devices(kv, devices)


async def _keep_devices(kv: KVStore, devices: DeviceSet) -> None:
    """A device that was taken into service a moment ago, in place of one that the journal still had,
    stays in service, and is refilled."""
    for osd, store in devices.stores.items():
        raw = await kv.aget(keys.osd(osd))
        record = OsdRecord("") if raw is None else decode_osd(raw)
        if record.device_id == store.device_id:
            if 0 < store.opens <= record.opens:  # it was judged by the rows of then
                mark = old_copy_mark(record.device_id, store.opens, record.opens + 1)
                await kv.commit([], [(keys.refill(osd), mark)])
            continue
        record = msgspec.structs.replace(record, device_id=store.device_id, opens=store.opens)
        await kv.commit(
            [],
            [(keys.osd(osd), encode(record)), (keys.refill(osd), store.device_id.encode())],
        )
