"""Nothing is swept while it is not known whether the metadata are the newest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from objectio.abc.driver import NoConfig, ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Commit
from objectio.erasure.code import ErasureCodes
from objectio.errors import ConfigError, DeviceFailed
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta.records import PoolRecord
from objectio.model.cluster import Osd, OsdId
from objectio.placement import rendezvous
from objectio.store import journal as journals
from objectio.store.clustermap import load_map
from objectio.store.journal import Journal
from objectio.store.maintenance import Maintenance
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse
from objectio.store.service import ObjectStore
from objectio.store.settings import StoreSettings
from objectio.testing.context import make_context
from objectio.testing.shardstore import MemoryShardStoreFactory


class Rows(MemoryKV):
    def close(self):
        """They outlive the process."""

    def copied(self):
        new = Rows()
        new.commit([Commit((), self.scan(b"", b"\xff" * 99, reverse=False, limit=100_000))])
        return new


@pytest.fixture
def journaled(make_kit, tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_TEND_SECONDS", 0.05)
    base, factory, made = make_kit.kit_class, MemoryShardStoreFactory(), []

    class Kit(base):
        """As `maintenance.service` puts it together where the disks are of this process."""

        async def start(self):
            self.kv = KVStore(
                self.kv._driver, frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL, journaled=True
            )
            self.devices._kv = self.kv
            await self.devices.start()
            osds = tuple(Osd(id=OsdId(slot.osd)) for slot in self.slots)
            self.journal = Journal(self.kv, self.devices, osds, straggler_seconds=5.0)
            self.in_use, settings = BlobsInUse(), StoreSettings(**self._settings)
            codes = ErasureCodes(
                (
                    each.name,
                    each.rank,
                    each.threads,
                    each.open(each.config(), make_context(self.where)),
                )
                for each in self._codecs
            )
            placement = rendezvous.DRIVER.open(NoConfig(), make_context(self.where))
            self.pools = Pools(self.kv, codes, lambda name: placement)
            self.maintenance = Maintenance(
                self.kv,
                self.devices,
                self.pools,
                settings,
                presence=self.in_use,
                in_use=self.in_use,
                journal=self.journal,
            )
            self.store = ObjectStore(
                self.kv,
                self.devices,
                self.pools,
                settings,
                in_use=self.in_use,
                upkeep=self.maintenance,
            )
            await self.journal.open(2)
            record = PoolRecord(*self._shape, "disk", 8, "rendezvous")
            await self.pools.load(record, await load_map(self.kv, osds), "")
            await self.between()
            await self.maintenance.start()
            made.append(self)
            return self

        async def between(self):
            pass

        async def stop(self):
            made.remove(self)
            await super().stop()

        def away(self, *osds):
            for osd in osds:
                path = Path(self.slots[osd].path)
                path.rename(path.with_suffix(".away"))
                path.write_bytes(b"not mounted")

        def back(self, *osds):
            for osd in osds:
                path = Path(self.slots[osd].path)
                path.unlink()
                path.with_suffix(".away").rename(path)

    def make(rows):
        where = tmp_path / "journaled"
        where.mkdir(exist_ok=True)
        return Kit(where, kv=rows, factory=factory)

    make.made = made
    return make


@pytest.fixture
async def stopped(journaled):
    yield
    for kit in list(journaled.made):
        await kit.stop()


async def test_nothing_is_swept_while_a_disk_might_know_of_later_metadata(journaled, stopped):
    rows = Rows()
    kit = await journaled(rows).start()
    await kit.store.create_bucket("bucket", owner="me")
    await kit.put(b"old", b"old" * 3000)
    await kit.stop()
    backup = rows.copied()

    kit = await journaled(rows).start()
    for number in range(5):
        await kit.put(b"%d" % number, b"%d" % number * 9000)
    members = kit.journal.status().osds
    assert len(members) == 3
    await kit.stop()

    # The backup is put back, and the disks with the journal are late.
    kit = journaled(backup)
    kit.away(*members)
    await kit.start()
    assert not kit.journal.status().osds
    await asyncio.sleep(0.5)
    kit.back(*members)
    await kit.devices.look()
    await asyncio.sleep(0.5)
    await kit.stop()

    kit = await journaled(backup).start()  # as it said
    for number in range(5):
        assert await kit.get(b"%d" % number) == b"%d" % number * 9000


async def test_an_old_backup_behind_which_there_is_a_checkpoint_only(journaled, stopped):
    """docs/howto/restore-metadata.md: "It never goes on from an old state." """
    rows = Rows()
    kit = await journaled(rows).start()
    await kit.store.create_bucket("bucket", owner="me")
    await kit.put(b"old", b"old" * 3000)
    await kit.stop()
    backup = rows.copied()

    kit = await journaled(rows).start()
    for number in range(5):
        await kit.put(b"%d" % number, b"%d" % number * 9000)
    kit.journal.damaged()  # a scrub found damage in the journal, say, or a disk was replaced
    before = kit.journal.checkpoint
    async with asyncio.timeout(5):
        while kit.journal.checkpoint is before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    newest = rows.copied()
    await kit.stop()

    try:
        kit = await journaled(backup).start()
    except ConfigError:
        return
    await asyncio.sleep(0.5)
    await kit.stop()
    kit = await journaled(newest).start()  # the right metadata, which were found after all
    for number in range(5):
        assert await kit.get(b"%d" % number) == b"%d" % number * 9000


async def with_a_backup(journaled):
    """(the rows of a backup, the rows since, the OSDs with the journal)"""
    rows = Rows()
    kit = await journaled(rows).start()
    await kit.store.create_bucket("bucket", owner="me")
    await kit.put(b"old", b"old" * 3000)
    await kit.stop()
    backup = rows.copied()
    kit = await journaled(rows).start()
    for number in range(5):
        await kit.put(b"%d" % number, b"%d" % number * 9000)
    members = kit.journal.status().osds
    await kit.stop()
    return backup, rows, members


async def all_there(kit):
    for number in range(5):
        assert await kit.get(b"%d" % number) == b"%d" % number * 9000


async def test_disks_that_come_between_open_and_attach(journaled, stopped):
    backup, newest, members = await with_a_backup(journaled)
    kit = journaled(backup)
    kit.away(*members)

    async def between():
        kit.back(*members)
        await kit.devices.look()

    kit.between = between
    try:
        await kit.start()
    except ConfigError:
        return
    await asyncio.sleep(0.5)
    await kit.stop()
    await all_there(await journaled(newest).start())


async def test_indexes_that_do_not_answer_when_the_journal_is_opened(journaled, stopped):
    backup, newest, members = await with_a_backup(journaled)
    kit = journaled(backup)
    wrap, bad = kit._wrap, []

    def broken(osd, store):
        unruly = wrap(osd, store)
        if osd in members:

            async def scan(after, limit):
                raise DeviceFailed("no answer in 30 seconds")

            unruly.scan = scan
            bad.append(unruly)
        return unruly

    async def between():
        for unruly in bad:
            del unruly.scan

    kit.devices._wrap, kit.between = broken, between
    try:
        await kit.start()
    except ConfigError:
        return
    await asyncio.sleep(0.5)
    await kit.stop()
    await all_there(await journaled(newest).start())
