"""An engine, devices and their journal, all real, without the store above; it can die at any moment
and be looked at from its copies."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid

import pytest

from objectio.abc.driver import ThreadModel
from objectio.errors import DeviceFailed, DeviceFull
from objectio.kv.store import KVStore
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import ClusterRecord, PoolRecord, encode
from objectio.model.cluster import Osd, OsdId
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.store import journal as journals
from objectio.store.devices import Devices, Slot
from objectio.store.journal import Journal
from objectio.store.journalformat import Name
from objectio.store.journalhistory import look_at_all
from objectio.store.rebuild import rebuild
from objectio.testing.context import make_context

CLUSTER = str(uuid.UUID(int=7))
OWN = (b"j/", b"c/journal", b"c/osd/", b"c/refill/")


class Unruly:
    """A device that keeps what it is given, or fails it, when told to."""

    def __init__(self, store):
        self._store = store
        self._held = []
        self.holding = False
        self.kinds = None
        """Only shards of these kinds are held."""
        self.fails = None
        self.submitted = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def submit(self, shard, done):
        self.submitted += 1
        if self.fails is not None:
            asyncio.get_running_loop().call_soon(done, self.fails)
        elif self.holding and (self.kinds is None or Name.of(shard.key).kind in self.kinds):
            self._held.append((shard, done))
        else:
            self._store.submit(shard, done)

    def let_go(self, count=None):
        """What was held back goes on; the first `count` of it."""
        if count is None:
            self.holding, count = False, len(self._held)
        held, self._held = self._held[:count], self._held[count:]
        for shard, done in held:
            self._store.submit(shard, done)


class Kit:
    def __init__(
        self, where, *, disks=5, parity=2, journaled=True, straggler=30.0, size=None, factory=None
    ):
        self.where, self.parity, self.disks, self.size = where, parity, disks, size
        self.journaled, self.straggler = journaled, straggler
        self.lmdb = pytest.importorskip("objectio_kv_lmdb.plugin").DRIVER
        self.factory = factory or LogStoreFactory(
            LogStoreConfig(segment_bytes=MIB, compact_bytes_per_second=1e12),
            make_context(where, "index"),
        )
        self.unruly = {}
        self.running = False

    def open_kv(self, name="meta", journaled=False):
        driver = self.lmdb.open(self.lmdb.config(), make_context(self.where, name))
        return KVStore(driver, self.lmdb.capabilities, ThreadModel.PARALLEL, journaled=journaled)

    def _wrap(self, osd, store):
        self.unruly[osd] = Unruly(store)
        return self.unruly[osd]

    async def start(self, *, attach=True):
        self.kv = self.open_kv(journaled=self.journaled)
        if self.kv.get(keys.CLUSTER) is None:
            pool = PoolRecord("rs", 2, self.parity, 4096, "disk", 8, "rendezvous")
            await self.kv.commit(
                [],
                [(keys.CLUSTER, encode(ClusterRecord(CLUSTER, 0))), (keys.pool(1), encode(pool))],
            )
        slots = [
            Slot(osd, str(self.where / f"disk{osd}"), self.size, replace_blank=True)
            for osd in range(self.disks)
        ]
        self.devices = Devices(
            self.kv, self.factory, slots, CLUSTER, wrap=self._wrap, check_seconds=3600
        )
        await self.devices.start()
        osds = [Osd(id=OsdId(osd)) for osd in range(self.disks)]
        self.journal = Journal(self.kv, self.devices, osds, straggler_seconds=self.straggler)
        self.running = True
        await self.journal.open(self.parity)
        if attach:
            await self.journal.attach()
        return self

    async def stop(self):
        if not self.running:
            return
        self.running = False
        for unruly in self.unruly.values():
            unruly.fails = None
            unruly.let_go()
        await self.journal.stop()
        await self.devices.stop()
        await self.kv.close()

    # What tests do.

    async def put(self, *writes):
        await self.kv.commit([], writes)

    def begin(self, *writes):
        return asyncio.ensure_future(self.put(*writes))

    def copy(self, name, *, lose=(), **options):
        """What a power cut would leave now, as a kit that was not started."""
        to = self.where.with_name(name)
        shutil.copytree(self.where, to)
        for what in lose:
            path = to / (what if isinstance(what, str) else f"disk{what}")
            path.unlink() if path.is_file() else shutil.rmtree(path)
        options = {"disks": self.disks, "parity": self.parity, **options}
        return Kit(to, **options)

    def rows(self, kv=None):
        """Everything but what the journal, and opening devices, change by themselves."""
        return {key: value for key, value in (kv or self.kv).scan() if not key.startswith(OWN)}

    def outbox_rows(self):
        return self.kv.scan_prefix(b"j/")

    async def stores(self):
        """The devices of a kit that was not started."""
        found = {}
        for osd in range(self.disks):
            path = str(self.where / f"disk{osd}")
            if self.factory.cluster_of(path) is not None:
                found[osd] = await self.factory.open(path, cluster_id=CLUSTER)
        return found

    async def rebuilt(self, *, install=False):
        """(report, rows) of a rebuild from the devices alone."""
        stores = await self.stores()

        def fresh():
            shutil.rmtree(self.where / "fresh", ignore_errors=True)
            return self.open_kv("fresh")

        try:
            made, kv = await rebuild(await look_at_all(stores), fresh)
            rows = self.rows(kv)
            await kv.close()
        finally:
            for store in stores.values():
                await store.close()
        if install:
            shutil.rmtree(self.where / "meta", ignore_errors=True)
            (self.where / "fresh").rename(self.where / "meta")
        return made, rows

    async def until(self, condition, what=""):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what or self.journal.status()
            await asyncio.sleep(0.002)

    async def until_whole(self):
        """Every member has all of it, and there are enough of them."""
        status = self.journal.status
        await self.until(
            lambda: (
                self.journal._whole
                and not self.journal._short
                and len(status().osds) == status().copies_wanted
            )
        )


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(journals, "_TEND_SECONDS", 0.05)
    monkeypatch.setattr(journals, "_BAN_SECONDS", 0.2)


@pytest.fixture
async def make_kit(tmp_path):
    made = []

    def make(name="kit", **options):
        made.append(Kit(tmp_path / name, **options))
        made[-1].where.mkdir(exist_ok=True)
        return made[-1]

    make.made = made
    yield make
    for kit in made:
        await kit.stop()


@pytest.fixture
async def kit(make_kit):
    return await make_kit().start()


@pytest.fixture
async def copy_of(make_kit):
    """`copy_of(kit, name, lose=…)`: as `kit.copy`, stopped with the test."""

    def copy(kit, name="copy", **options):
        make_kit.made.append(kit.copy(name, **options))
        return make_kit.made[-1]

    return copy


@pytest.fixture
def device_down():
    return DeviceFailed("no good")


@pytest.fixture
def device_full():
    return DeviceFull("no room")


@pytest.fixture
def kit_class():
    """For tests that run their own loops."""
    return Kit
