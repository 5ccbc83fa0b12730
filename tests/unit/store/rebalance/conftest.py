"""A store whose disks come and go: real log stores on files, in a process that can die at any step."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from objectio.abc.driver import NoConfig
from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.erasure import reference
from objectio.erasure.code import ErasureCodes
from objectio.errors import DeviceFailed, DeviceFull, Unavailable
from objectio.kv.memory import MemoryKV
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import PoolRecord, decode_blob_row, decode_map, decode_osd
from objectio.model.cluster import Osd, OsdId
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.placement import rendezvous
from objectio.placement.spread import Spread
from objectio.store import garbage, rebalance
from objectio.store.clustermap import load_map
from objectio.store.devices import Devices, Slot
from objectio.store.pools import Pools
from objectio.testing.context import make_context

GROUPS = 16


class Life:
    """Counts what is written; when `steps_left` is used up the process is dead: nothing is written
    any more, and nobody is told."""

    def __init__(self):
        self.steps_left = None
        self.steps = 0
        self.dead = False

    def step(self):
        """Whether there is life left for one more."""
        if not self.dead and self.steps_left is not None and self.steps >= self.steps_left:
            self.dead = True
        self.steps += not self.dead
        return not self.dead


class MortalStore:
    def __init__(self, store, life, osd):
        self._store = store
        self._life = life
        self.osd = osd
        self.full = False
        self.broken = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def submit(self, shard, done):
        if self.broken:
            raise DeviceFailed("broken")
        if self.full:
            asyncio.get_running_loop().call_soon(done, DeviceFull("no room"))
        elif self._life.step():
            self._store.submit(shard, done)

    def submit_delete(self, names, done):
        if self._life.step():
            self._store.submit_delete(names, done)

    def submit_sync(self, done):
        if self._life.step():
            self._store.submit_sync(done)


class MortalKV:
    def __init__(self, driver, life):
        self._driver = driver
        self._life = life

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def commit(self, commits):
        if not self._life.step():
            raise Unavailable("dead")
        return self._driver.commit(commits)

    def close(self):
        """The rows outlive the process."""


def plain(*osds):
    return [Osd(id=OsdId(osd)) for osd in osds]


def on_hosts(hosts, each):
    """`hosts` hosts of so many disks, numbered along the hosts."""
    return [
        Osd(id=OsdId(host * each + disk), host=f"h{host}")
        for host in range(hosts)
        for disk in range(each)
    ]


@pytest.fixture(name="plain")
def _plain():
    return plain


@pytest.fixture(name="on_hosts")
def _on_hosts():
    return on_hosts


@pytest.fixture(autouse=True)
def _impatient_here(monkeypatch):
    monkeypatch.setattr(rebalance, "_LINGER_SECONDS", 0.005)
    monkeypatch.setattr(rebalance, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(garbage, "_SWEEP_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(garbage, "_PAUSE_SECONDS", 0.001)


@pytest.fixture
def write_shard():
    async def write(store, key, payload=b"x" * 25):
        answer = asyncio.get_running_loop().create_future()
        coordinates = ShardCoordinates("rs-vandermonde-0x11d", 4, 2, 100)
        store.submit(ShardWrite(key, (payload,), coordinates), answer.set_result)
        assert await answer is None

    return write


@pytest.fixture
async def cluster(make_kit, tmp_path):
    base = make_kit.kit_class

    class Cluster(base):
        """A store whose configuration may be another one at each start."""

        def __init__(self, osds, *, domain="disk", groups=GROUPS, k=4, m=2, **more):
            self.driver = MemoryKV()
            self.shape = PoolRecord(
                "rs-vandermonde-0x11d", k, m, 8192, domain, groups, "rendezvous"
            )
            self.more = more
            self.model = {}
            self.configure(osds)

        def configure(self, osds):
            self.osds = sorted(osds, key=lambda osd: osd.id)
            self.life = Life()
            config = LogStoreConfig(segment_bytes=MIB, cache_bytes=0)
            factory = LogStoreFactory(config, make_context(tmp_path, "index"))
            super().__init__(
                tmp_path, kv=MortalKV(self.driver, self.life), factory=factory, **self.more
            )
            self.slots = [
                Slot(osd.id, str(tmp_path / f"disk{osd.id}"), replace_blank=True)
                for osd in self.osds
            ]
            self.by_osd = {slot.osd: slot for slot in self.slots}
            self.devices = Devices(
                self.kv,
                factory,
                self.slots,
                "00000000-0000-0000-0000-000000000007",
                wrap=lambda osd, store: MortalStore(store, self.life, osd),
                check_seconds=3600,
            )

        async def start(self, wait=True):
            await self.devices.start()
            codec = reference.DRIVER.open(reference.DRIVER.config(), make_context(tmp_path))
            codes = ErasureCodes([(reference.DRIVER.name, 0, reference.DRIVER.threads, codec)])
            placement = rendezvous.DRIVER.open(NoConfig(), make_context(tmp_path))
            self.pools = Pools(self.kv, codes, lambda name: placement)
            await self.pools.load(self.shape, await load_map(self.kv, self.osds), "")
            await self.start_store()
            if wait:
                await self.settled()
            return self

        async def restart(self, osds=None, wait=True):
            await self.stop()
            self.configure(self.osds if osds is None else osds)
            return await self.start(wait)

        async def reconfigure(self, *osds, **kwargs):
            return await self.restart(osds, **kwargs)

        # What is done to it.

        async def write(self, key, data):
            await self.put(key, data)
            self.model[key] = data

        async def fill(self, count=40, seed=1):
            source = random.Random(seed)
            for number in range(count):
                size = source.choice((1, 700, 8192, 30_000))
                await self.write(b"%d.%d" % (seed, number), source.randbytes(size))

        async def lose(self, *osds):
            for osd in osds:
                await self.devices._let_go(self.by_osd[osd], "lost")

        async def find(self, *osds):
            await self.devices.look()
            assert set(osds) <= self.devices.stores.keys()

        # What it should be like.

        async def until(self, ask, seconds=20):
            deadline = time.monotonic() + seconds
            while not ask():
                assert time.monotonic() < deadline, self.maintenance.rebalancer.status()
                await asyncio.sleep(0.002)

        async def settled(self):
            upkeep = self.maintenance
            await self.until(
                lambda: (
                    not upkeep.rebalancer.backlog
                    and not upkeep.collector.backlog
                    and not upkeep.repairer.backlog
                )
            )

        async def check_objects(self):
            for key, data in self.model.items():
                assert await self.get(key) == data, key
            page = await self.store.list_objects("bucket")
            assert [each.key for each in page.objects] == sorted(self.model)

        async def census(self):
            """Each blob must be whole at its group's old or new members. Nothing happens meanwhile:
            an index answers without waiting."""
            for raw in [raw for row, raw in self.driver.scan(b"r", b"s", limit=10_000)]:
                ref = decode_blob_row(raw).ref
                pool = self.pools.get(ref.pool)
                sets = [pool.members(ref.blob), pool.former(ref.blob)]
                assert any([await self.whole(ref, pool, each) for each in sets if each]), (
                    ref,
                    sets,
                )

        async def whole(self, ref, pool, members):
            for position, osd in enumerate(members):
                names = [
                    ShardKey(BlobId(ref.blob), stripe, position)
                    for stripe in range(pool.stripes(ref.size))
                ]
                if None in await self.devices.stores[osd].stat(names):
                    return False
            return len(set(members)) == len(members)

        async def held(self):
            """OSD → its shards."""
            return {
                osd: {info.key for info in await store.scan(None, 100_000)}
                for osd, store in self.devices.stores.items()
            }

        async def check_settled(self):
            """Everything is where it belongs, and nothing else is anywhere."""
            assert not self.pools.current.moving
            assert not self.driver.scan(keys.MOVES, keys.MOVES + b"\xff", limit=10)
            await self.check_objects()
            await self.census()
            held = await self.held()
            wanted = {osd: set() for osd in held}
            for raw in [raw for row, raw in self.driver.scan(b"r", b"s", limit=10_000)]:
                ref = decode_blob_row(raw).ref
                for position, osd in enumerate(self.pools.get(ref.pool).members(ref.blob)):
                    wanted[osd] |= {
                        ShardKey(BlobId(ref.blob), stripe, position)
                        for stripe in range(self.pools.get(ref.pool).stripes(ref.size))
                    }
            for osd, shards in held.items():
                assert not wanted[osd] - shards, f"OSD {osd} lacks"
                assert not shards - wanted[osd], f"OSD {osd} has left over"
            spread = Spread(self.pools.cluster, self.pools.rule(self.pools.current.id))
            assert not any(spread.crowded(members) for members in self.pools.current.groups)

        def positions(self):
            return Counter(osd for members in self.pools.current.groups for osd in members)

        def membership(self, osd):
            return decode_osd(self.kv.get(keys.osd(osd))).membership

        @property
        def epoch(self):
            return decode_map(self.kv.get(keys.MAP)).epoch

        def out(self, osd):
            return lambda: self.membership(osd) == "out"

    made = []

    async def make(osds, **more):
        made.append(Cluster(osds, **more))
        await made[-1].start()
        await made[-1].store.create_bucket("bucket", owner="me")
        return made[-1]

    yield make
    for each in made:
        each.life.dead = False
        await each.stop()
