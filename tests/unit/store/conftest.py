"""A whole object store on devices in memory, each of which can be made slow, failing or absent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import threading
import time
import uuid
from pathlib import Path

import pytest

from objectio.abc.driver import NoConfig, ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.abc.objects import ObjectAttributes
from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.erasure import reference, replicate
from objectio.erasure.code import ErasureCodes
from objectio.errors import ConfigError, DeviceFailed, DeviceFull
from objectio.filters.passthrough import ShardStoreFilter
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.limits import KIB, MIB
from objectio.meta import keys
from objectio.meta.records import PoolRecord, decode_blob_row, decode_repair
from objectio.model.cluster import ClusterMap, Osd, OsdId
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.placement import rendezvous
from objectio.store import garbage
from objectio.store.answers import answered, submitted
from objectio.store.devices import Devices, Slot
from objectio.store.journal import Journal
from objectio.store.maintenance import Maintenance
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse
from objectio.store.service import ObjectStore
from objectio.store.settings import StoreSettings
from objectio.store.verify import mask_of
from objectio.testing.context import make_context
from objectio.testing.damage import flip_payload_bytes
from objectio.testing.objects import BytesPayload
from objectio.testing.shardstore import MemoryShardStoreFactory

CLUSTER = str(uuid.UUID(int=7))
STRIPE_BYTES = 8 * KIB


class Unruly:
    """A shard store that does as it is told to: `hold` keeps items back, `fails` makes them fail."""

    def __init__(self, store):
        self._store = store
        self._held = []
        self.holding = False
        self.fails = None
        self.lent = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def submit(self, shard, done):
        if self.fails is not None:
            asyncio.get_running_loop().call_soon(done, self.fails)
        elif self.holding:
            self.lent.append((shard, b"".join(shard.payload)))
            self._held.append((shard, done))
        else:
            self._store.submit(shard, done)

    def let_go(self):
        """What was held back goes on, with the bytes that are in the buffers now."""
        self.holding = False
        for shard, done in self._held:
            self._store.submit(shard, done)
        self._held.clear()


class Kit:
    def __init__(
        self,
        where,
        *,
        disks=6,
        k=4,
        m=2,
        family="rs-vandermonde-0x11d",
        kv=None,
        factory=None,
        fast=True,
        codecs=(),
        stripe_bytes=STRIPE_BYTES,
        keys=None,
        **more,
    ):
        self.where = where
        self.keys = keys
        self.factory = MemoryShardStoreFactory() if factory is None else factory
        driver = MemoryKV() if kv is None else kv
        capabilities = frozenset({CAP_FAST_READS}) if fast else frozenset()
        self.kv = KVStore(driver, capabilities, ThreadModel.PARALLEL)
        self.unruly = {}
        self.slots = [
            Slot(osd, str(where / f"disk{osd}"), replace_blank=True) for osd in range(disks)
        ]
        self.devices = Devices(
            self.kv, self.factory, self.slots, CLUSTER, wrap=self._wrap, check_seconds=3600
        )
        self._codecs = (reference.DRIVER, replicate.DRIVER, *codecs)
        self._shape = (family, k, m, stripe_bytes)
        self._settings = {
            "part_size_bytes_min": 16,
            "repair_interval_seconds": 3600,
            "write_straggler_seconds": 0.05,
            "scrub_interval_seconds": 0,
            **more,
        }

    def _wrap(self, osd, store):
        self.unruly[osd] = Unruly(store)
        return self.unruly[osd]

    async def start(self):
        await self.devices.start()
        codes = ErasureCodes(
            (each.name, each.rank, each.threads, each.open(each.config(), make_context(self.where)))
            for each in self._codecs
        )
        placement = rendezvous.DRIVER.open(NoConfig(), make_context(self.where))
        self.pools = Pools(self.kv, codes, lambda name: placement)
        record = PoolRecord(*self._shape, "disk", 8, "rendezvous")
        osds = tuple(Osd(id=OsdId(slot.osd)) for slot in self.slots)
        await self.pools.load(record, ClusterMap(epoch=1, osds=osds), "")
        await self.start_store()
        return self

    async def start_store(self):
        """Serving and upkeep in one process."""
        settings, slow = StoreSettings(**self._settings), set()
        self.in_use = BlobsInUse()
        self.maintenance = Maintenance(
            self.kv,
            self.devices,
            self.pools,
            settings,
            presence=self.in_use,
            in_use=self.in_use,
            journal=Journal(self.kv, self.devices),
            slow=slow,
        )
        self.store = ObjectStore(
            self.kv,
            self.devices,
            self.pools,
            settings,
            in_use=self.in_use,
            upkeep=self.maintenance,
            slow=slow,
            keys=self.keys,
        )
        await self.maintenance.start()

    async def stop(self):
        await self.store.stop()
        await self.maintenance.stop()
        await self.devices.stop()
        await self.kv.close()

    # Calls as tests make them.

    async def put(self, key, data=b"data", *, bucket="bucket", payload=None, **more):
        return await self.store.put_object(
            bucket, key, payload or BytesPayload(data), ObjectAttributes(), owner="me", **more
        )

    async def get(self, key, *, bucket="bucket"):
        reader = await self.store.get_object(bucket, key)
        try:
            return await read_all(reader)
        finally:
            reader.close()

    # Looks behind the scenes.

    def rows(self):
        return dict(self.kv.scan())

    def shards(self):
        """OSD → its shard keys, without those whose device is gone or just being prepared."""
        found = {}
        for slot in self.slots:
            with contextlib.suppress(ConfigError):
                found[slot.osd] = set(self.factory._find(slot.path).shards)
        return found

    async def settle(self):
        """Until the collector and repair have nothing to do."""
        deadline = time.monotonic() + 20
        while True:
            left = [row for row in self.rows() if row[:1] in (b"g", b"x", b"e")]
            if not left and not self.maintenance.collector._abandoned:
                return
            assert time.monotonic() < deadline, left
            self.maintenance.collector.wake()
            self.maintenance.repairer.wake()
            await asyncio.sleep(0.002)

    async def refilled(self):
        """Until no OSD is to be refilled and nothing is to be repaired."""
        deadline = time.monotonic() + 20
        while left := [row for row in self.rows() if row.startswith((keys.REFILLS, keys.REPAIRS))]:
            assert time.monotonic() < deadline, left
            self.maintenance.repairer.wake()
            await asyncio.sleep(0.002)

    async def take_out(self, osd):
        """The device is gone."""
        path = Path(self.slots[osd].path)
        path.rename(path.with_suffix(".out"))
        await self.devices._let_go(self.slots[osd], "taken out")

    async def put_back(self, *osds):
        for osd in osds:
            path = Path(self.slots[osd].path)
            path.with_suffix(".out").rename(path)
        await self.devices.look()

    async def replace(self, osd):
        """A new disk in place of the old one."""
        if osd in self.devices.stores:
            await self.take_out(osd)
        shutil.rmtree(Path(self.slots[osd].path).with_suffix(".out"))
        await self.devices.look()


class SlowDevice(ShardStoreFilter):
    """A log store whose reads stand still while `gate` is closed. `cached`: what the page cache has
    is answered all the same. `remote`: it is not on this machine."""

    def __init__(self, inner):
        super().__init__(inner)
        self.gate = threading.Event()
        self.gate.set()
        self.cached = False
        self.remote = False
        self.plans = 0
        self.reads = 0
        self.stuck = 0
        self.stuck_most = 0

    def read_now(self, key, offset=0, length=None):
        return self._inner.read_now(key, offset, length) if self.cached else None

    def plan_read(self, key, offset=0, length=None):
        plan = self._inner.plan_read(key, offset, length)
        self.plans += 1

        def read():
            self.reads += 1
            if not self.gate.is_set():
                self.stuck += 1
                self.stuck_most = max(self.stuck, self.stuck_most)
                self.gate.wait()
                self.stuck -= 1
            return plan()

        return None if self.remote else read

    async def read(self, key, offset=0, length=None):
        self.reads += 1
        while not self.gate.is_set():
            await asyncio.sleep(0.002)
        return await self._inner.read(key, offset, length)


class SlowKit(Kit):
    """On log stores in files, each behind a `SlowDevice`; nothing moves or repairs by itself."""

    def __init__(self, where, **more):
        self.gates, self.damage = {}, []
        config = LogStoreConfig(segment_bytes=MIB)
        factory = LogStoreFactory(config, make_context(where.parent, f"{where.name}-index"))
        super().__init__(where, factory=factory, **more)

    def _wrap(self, osd, store):
        self.gates[osd] = SlowDevice(super()._wrap(osd, store))
        return self.gates[osd]

    async def start(self):
        await super().start()
        await self.maintenance.rebalancer.stop()  # the moves are made by hand
        await self.store.create_bucket("bucket", owner="me")
        self.store.reads._damaged = lambda ref, mask: self.damage.append(mask)
        return self

    def close(self, *osds):
        """Reads of these stand still."""
        for osd in osds:
            self.gates[osd].gate.clear()

    def release(self, *osds):
        for osd in osds or self.gates:
            self.gates[osd].gate.set()

    def refs(self):
        """The blobs that there are, in the order in which they were written."""
        rows = self.rows()
        return [
            decode_blob_row(rows[row]).ref for row in sorted(rows) if row.startswith(keys.BLOBS)
        ]

    def members(self, number=0):
        return self.store.pools.current.members(self.refs()[number].blob)

    async def shards_at(self, osd):
        return await self.devices.stores[osd].scan(None, 10_000)

    async def remove_shard(self, key, osd):
        done = asyncio.get_running_loop().create_future()
        self.devices.stores[osd].submit_delete([key], done.set_result)
        assert await done is None


async def read_all(reader, start=0, length=None):
    length = reader.info.size - start if length is None else length
    pieces = [bytes(piece) async for piece in reader.stream(start, length)]
    return b"".join(pieces)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(garbage, "_PAUSE_SECONDS", 0.001)


@pytest.fixture
async def make_kit(tmp_path):
    made = []

    async def make(**more):
        made.append(Kit(tmp_path / f"kit{len(made)}", **more))
        made[-1].where.mkdir()
        await made[-1].start()
        await made[-1].store.create_bucket("bucket", owner="me")
        return made[-1]

    make.kit_class = Kit  # for tests that run their own loops
    yield make
    for kit in made:
        for unruly in kit.unruly.values():
            unruly.let_go()
        await kit.stop()


@pytest.fixture
async def kit(make_kit):
    return await make_kit()


@pytest.fixture(name="read_all")
def read_all_fixture():
    return read_all


@pytest.fixture
def device_failed():
    return DeviceFailed("no good")


@pytest.fixture
def device_full():
    return DeviceFull("no room")


class Watch:
    """Everything that the mender does, in order. `gate` holds it up before each blob."""

    def __init__(self, lab):
        self.blobs = []
        self.reads = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.before = None
        repairer = lab.maintenance.repairer
        mend, read = repairer._mender.mend, repairer._mender._checks.read

        async def watched_mend(ref, suspects, *, examine, margin):
            self.blobs.append((ref, margin()))
            if self.before is not None:
                await self.before(ref)
            await self.gate.wait()
            return await mend(ref, suspects, examine=examine, margin=margin)

        async def watched_read(ref, survey, positions):
            positions = list(positions)
            self.reads += [(ref, survey.stripe, position) for position in positions]
            return await read(ref, survey, positions)

        repairer._mender.mend = watched_mend
        repairer._mender._checks.read = watched_read

    @property
    def margins(self):
        return [margin for _, margin in self.blobs]


class Lab:
    """A store whose devices are logs on files, and a hand in each of them."""

    def __init__(self, make):
        self._make = make
        self.kit = None

    async def open(self, **more):
        """A store; the second time the same one, as after a restart of the process."""
        if self.kit is None:
            self.kit = await self._make(**more)
        else:
            old = self.kit
            self.kit = await self._make(kv=old.kv._driver, where=old.where, **more)
        return self.kit

    async def fill(self, sizes=(100, 5000, 8192, 20_000, 70_000), each=2):
        """Objects of one stripe and of many. Returns their contents by key."""
        objects = {
            b"%d/%d" % (size, i): random.Random(size + i).randbytes(size)
            for size in sizes
            for i in range(each)
        }
        for key, data in objects.items():
            await self.kit.put(key, data)
        return objects

    async def check(self, objects):
        for key, data in objects.items():
            assert await self.kit.get(key) == data

    @property
    def refs(self):
        rows = self.kit.kv.scan_prefix(keys.BLOBS)
        return [decode_blob_row(raw).ref for _, raw in rows]

    @property
    def store(self):
        return self.kit.store

    @property
    def maintenance(self):
        return self.kit.maintenance

    def ref(self, size):
        return next(ref for ref in self.refs if ref.size == size)

    def members(self, ref):
        return self.kit.pools.get(ref.pool).members(ref.blob)

    def device(self, ref, position):
        osd = self.kit.pools.get(ref.pool).members(ref.blob)[position]
        return self.kit.devices.stores[osd]

    def key(self, ref, stripe, position):
        return ShardKey(BlobId(ref.blob), stripe, position)

    async def read(self, ref, stripe, position):
        return bytes(await self.device(ref, position).read(self.key(ref, stripe, position)))

    async def write(self, ref, stripe, position, payload, *, at=None, generation=0):
        """Put a payload behind the store's back: under the position's name, or at another OSD."""
        pool = self.kit.pools.get(ref.pool)
        size = pool.stripe_bytes(ref.size, stripe)
        coordinates = ShardCoordinates(pool.family, pool.code.k, pool.code.m, size, generation)
        device = self.device(ref, position) if at is None else self.kit.devices.stores[at]
        write = ShardWrite(self.key(ref, stripe, position), (payload,), coordinates)
        assert await answered(submitted(lambda done: device.submit(write, done))) is None

    async def delete(self, ref, stripe, position):
        device = self.device(ref, position)
        names = [self.key(ref, stripe, position)]
        assert await answered(submitted(lambda done: device.submit_delete(names, done))) is None

    async def lose(self, ref, *positions):
        """The shards at these positions, of all stripes."""
        for position in positions:
            for stripe in range(self.kit.pools.get(ref.pool).stripes(ref.size)):
                await self.delete(ref, stripe, position)

    def report(self, ref, *positions):
        self.maintenance.repairer.damaged(ref, mask_of(positions))

    def watch(self):
        return Watch(self)

    @property
    def repair_rows(self):
        rows = self.kit.kv.scan_prefix(keys.REPAIRS)
        return {key[len(keys.REPAIRS) :]: decode_repair(raw) for key, raw in rows}

    async def has_all(self, osd):
        """Whether an OSD has every shard that it should."""
        for ref in self.refs:
            if osd not in self.members(ref):
                continue
            position = self.members(ref).index(osd)
            stripes = range(self.kit.pools.get(ref.pool).stripes(ref.size))
            names = [self.key(ref, stripe, position) for stripe in stripes]
            if None in await self.kit.devices.stores[osd].stat(names):
                return False
        return True

    def flip(self, ref, stripe, position):
        """Change a byte on the disk."""
        osd = self.kit.pools.get(ref.pool).members(ref.blob)[position]
        wanted = self.key(ref, stripe, position).pack()
        flipped = flip_payload_bytes(
            Path(self.kit.slots[osd].path), random.Random(1), lambda record: record.key == wanted
        )
        assert flipped == 1

    async def scrub(self):
        """A pass, from its begin to its end. Returns its report."""
        scrubber = self.kit.maintenance.scrubber
        before = scrubber.finished
        scrubber.start_now()
        await self.until(lambda: scrubber.finished > before)
        return scrubber.status().last

    async def until(self, ask, seconds=20):
        deadline = time.monotonic() + seconds
        while not ask():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)

    async def repaired(self):
        await self.until(lambda: self.kit.maintenance.repairer.backlog == 0)

    async def clean(self):
        """Nothing is wrong any more, and that was read."""
        await self.repaired()
        report = await self.scrub()
        assert report.findings == 0, report
        assert report.healthy == report.blobs == len(self.refs)
        assert not [row for row in self.kit.rows() if row[:1] in (b"x", b"g")]


@pytest.fixture
async def lab(make_log_kit):
    return Lab(make_log_kit)


@pytest.fixture
async def make_log_kit(tmp_path):
    """Stores on real logs; the same `where` opens the same one again."""
    made = []

    async def make(where=None, **more):
        fresh = where is None
        if fresh:
            where = tmp_path / f"logs{len(made)}"
            where.mkdir()
        elif made:
            await made.pop().stop()
        config = LogStoreConfig(segment_bytes=MIB)
        factory = LogStoreFactory(config, make_context(where, "index"))
        # A busy processor makes nothing slow: what is repaired and read can be counted.
        more = {
            "scrub_bytes_per_second": 1e12,
            "write_straggler_seconds": 20,
            "read_hedge_seconds": 0,
            **more,
        }
        made.append(await Kit(where, factory=factory, **more).start())
        if fresh:
            await made[-1].store.create_bucket("bucket", owner="me")
        return made[-1]

    yield make
    for kit in made:
        for unruly in kit.unruly.values():
            unruly.let_go()
        await kit.stop()


@pytest.fixture
async def make_slow(tmp_path):
    """Makes stores whose reads stand still while they are told to."""
    kits = []

    async def make(**more):
        kits.append(SlowKit(tmp_path / f"slow{len(kits)}", **more))
        kits[-1].where.mkdir()
        return await kits[-1].start()

    yield make
    for kit in kits:
        kit.release()
        await kit.stop()
