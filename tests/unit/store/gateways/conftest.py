"""Several gateways over one store: each has pools, a session and a view of its own, and everything that
they tell each other takes its time."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from objectio.abc.driver import NoConfig
from objectio.abc.kv import Present
from objectio.abc.objects import ObjectAttributes
from objectio.erasure import reference
from objectio.erasure.code import ErasureCodes
from objectio.errors import CommitConflict, Unavailable
from objectio.meta import keys
from objectio.meta.records import SessionRecord, decode_blob_row, encode
from objectio.placement import rendezvous
from objectio.store import ended, garbage, rebalance
from objectio.store.clustermap import load_map
from objectio.store.journal import Journal
from objectio.store.maintenance import Maintenance
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse, Survey
from objectio.store.service import ObjectStore
from objectio.store.settings import StoreSettings
from objectio.testing.context import make_context
from objectio.testing.objects import BytesPayload


def new_pools(kv, where):
    codec = reference.DRIVER.open(NoConfig(), make_context(where))
    codes = ErasureCodes([(reference.DRIVER.name, 0, reference.DRIVER.threads, codec)])
    placement = rendezvous.DRIVER.open(NoConfig(), make_context(where))
    return Pools(kv, codes, lambda name: placement)


class GatewayKV:
    """The key-value store as a gateway has it: every call takes a while, every commit is fenced."""

    fast_reads = False

    def __init__(self, kv, gateway):
        self._kv = kv
        self._gateway = gateway

    def __getattr__(self, name):
        call = getattr(self._kv, name)

        async def later(*args, **kwargs):
            await self._gateway.pause()
            answer = await call(*args, **kwargs)
            await self._gateway.pause()
            return answer

        return later

    def check_ready(self):
        if self._gateway.fence is None:
            raise Unavailable("no session", reason="session")

    async def commit(self, checks, writes):
        self.check_ready()
        fence = self._gateway.fence
        blobs = {row[len(keys.BLOBS) :] for row, _ in writes if row.startswith(keys.BLOBS)}
        if blobs & self._gateway.lost:
            raise Unavailable("begun in an earlier session", reason="fenced")
        await self._gateway.pause()
        try:
            await self._kv.commit([fence, *checks], writes)
        except CommitConflict as conflict:
            if conflict.fields["check"] == fence:
                if self._gateway.fence == fence:  # and no later one
                    self._gateway.fence = None
                raise Unavailable("fenced", reason="fenced") from None
            raise
        await self._gateway.pause()


class Gateway:
    """One of them, with what a session is to it. `mute`: it answers nothing and tells nothing."""

    def __init__(self, cluster, number):
        self.cluster, self.name = cluster, f"gateway {number}"
        self.random = random.Random(cluster.seed * 100 + number)
        self.fence = None
        self.lost = set()
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.in_use = BlobsInUse()
        self.kv = GatewayKV(cluster.kv, self)
        self.pools = new_pools(self.kv, cluster.where)
        self.store = ObjectStore(
            self.kv,
            cluster.devices,
            self.pools,
            cluster.settings,
            in_use=self.in_use,
            upkeep=self,
        )
        self._telling = set()

    async def pause(self):
        for seconds in self.random.choice(((), (), (0,), (0, 0), (0.001,))):
            await asyncio.sleep(seconds)

    # Its session.

    async def open(self):
        self.fence = None
        row = keys.session(os.urandom(16))
        await self.cluster.kv.commit([], [(row, encode(SessionRecord(self.name, 0)))])
        fenced = self.cluster.sessions[self] = asyncio.Event()
        await self.pools.follow("")
        self.lost = set(self.in_use.active)
        self.fence = Present(row)
        self.row = row
        return fenced

    @property
    def session(self):
        """What surveys know it by; None while they do not."""
        return self.fence if self in self.cluster.sessions else None

    def mute(self):
        self.speaks.clear()

    def unmute(self):
        self.speaks.set()

    async def answer(self):
        """To a survey."""
        await self.speaks.wait()
        await self.pause()
        await self.pools.refresh()
        found = Survey(frozenset(self.in_use.active), frozenset(self.in_use.pins))
        self.lost &= found.active
        await self.pause()
        return found

    async def stop(self):
        self.unmute()
        await self.store.stop()
        for telling in list(self._telling):
            telling.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    # Its upkeep.

    def _tell(self, telling):
        task = asyncio.get_running_loop().create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def abandon(self, ref):
        async def tell():
            while True:
                await self.speaks.wait()
                try:
                    await self.kv.commit([], [])  # no earlier commit happens any more
                    break
                except Unavailable:
                    await asyncio.sleep(0.001)
            self.cluster.maintenance.abandon(ref)
            await self.pause()
            self.in_use.active.discard(ref.blob)

        self._tell(tell())

    def damaged(self, ref, mask, *, examine=False):
        self.cluster.damage.append((ref, mask))
        self.cluster.maintenance.damaged(ref, mask, examine=examine)

    def garbage(self):
        asyncio.get_running_loop().call_soon(self.cluster.maintenance.garbage)

    def repairs(self):
        asyncio.get_running_loop().call_soon(self.cluster.maintenance.repairs)

    # Calls as tests make them.

    async def put(self, key, data=b"", *, payload=None, **more):
        payload = payload or BytesPayload(data)
        return await self.store.put_object(
            "bucket", key, payload, ObjectAttributes(), owner="me", **more
        )

    async def open_object(self, key):
        return await self.store.get_object("bucket", key)

    async def get(self, key):
        reader = await self.open_object(key)
        try:
            return await read(reader)
        finally:
            reader.close()

    async def delete(self, key):
        return await self.store.delete_object("bucket", key)


async def read(reader):
    return b"".join([bytes(each) async for each in reader.stream(0, reader.info.size)])


class SlowPayload(BytesPayload):
    """Stands still before its last piece, until it is let go."""

    def __init__(self, data):
        super().__init__(data, piece_size_bytes=8192)
        self.gate = asyncio.Event()
        self.stuck = asyncio.Event()

    async def read(self):
        if len(self._pieces) == 1:
            self.stuck.set()
            await self.gate.wait()
        return await super().read()


@pytest.fixture
def slow_payload():
    return SlowPayload


@pytest.fixture
def make_pools(tmp_path):
    return lambda kv: new_pools(kv, tmp_path)


@pytest.fixture(name="read")
def _read():
    return read


@pytest.fixture(autouse=True)
def _impatient_here(monkeypatch):
    monkeypatch.setattr(rebalance, "_LINGER_SECONDS", 0.005)
    monkeypatch.setattr(rebalance, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(ended, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(garbage, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(garbage, "_SWEEP_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(garbage, "_PAUSE_SECONDS", 0.001)


@pytest.fixture
async def make_cluster(make_kit, tmp_path):
    base = make_kit.kit_class

    class Cluster(base):
        """Serving is the gateways'; upkeep runs once, beside the store of keys and values."""

        def __init__(self, where, *, gateways, seed=0, **more):
            super().__init__(where, **more)
            self.seed, self.count = seed, gateways
            self.sessions, self.damage, self.surveys = {}, [], 0
            self.settings = StoreSettings(**{**self._settings, "read_hedge_seconds": 0})

        async def start_store(self):
            self.topology = self.pools.cluster.osds
            self.pools.cluster = await load_map(self.kv, self.topology)
            self.maintenance = Maintenance(
                self.kv,
                self.devices,
                self.pools,
                self.settings,
                presence=self,
                journal=Journal(self.kv, self.devices),
            )
            self.gateways = [Gateway(self, number) for number in range(self.count)]
            for gateway in self.gateways:
                await gateway.open()
            await self.maintenance.start()
            await self.gateways[0].store.create_bucket("bucket", owner="me")

        async def stop(self):
            for gateway in self.gateways:
                await gateway.stop()
            await self.maintenance.stop()
            await self.devices.stop()
            await self.kv.close()

        # The presence.

        async def survey(self):
            """Of all sessions there are; one that is fenced meanwhile is not waited for."""
            self.surveys += 1
            found = Survey(frozenset(), frozenset())
            for gateway, fenced in list(self.sessions.items()):
                answer = asyncio.ensure_future(gateway.answer())
                end = asyncio.ensure_future(fenced.wait())
                try:
                    await asyncio.wait((answer, end), return_when=asyncio.FIRST_COMPLETED)
                    if not fenced.is_set():
                        told = answer.result()
                        found = Survey(found.active | told.active, found.pinned | told.pinned)
                finally:
                    answer.cancel()
                    end.cancel()
                    await asyncio.gather(answer, end, return_exceptions=True)
            return found

        async def fence(self, gateway):
            """It was not heard of for a while."""
            await self.kv.commit([], [(gateway.row, None)])
            self.sessions.pop(gateway).set()

        # Looks behind the scenes.

        async def until(self, ask, seconds=30):
            deadline = time.monotonic() + seconds
            while not ask():
                assert time.monotonic() < deadline, self.explain()
                await asyncio.sleep(0.002)

        def explain(self):
            active = {each.name: set(each.in_use.active) for each in self.gateways}
            rows = [row for row in self.rows() if row[:1] in (b"g", b"x", b"e")]
            upkeep = self.maintenance
            return (
                upkeep.rebalancer._moving,
                upkeep.rebalancer.status(),
                upkeep.repairer.status(),
                upkeep.collector.backlog,
                active,
                rows,
            )

        async def settled(self):
            upkeep = self.maintenance
            await self.until(
                lambda: (
                    not any(gateway.store.cleaning for gateway in self.gateways)
                    and not any(gateway._telling for gateway in self.gateways)
                    and not upkeep.rebalancer.backlog
                    and not upkeep.repairer.backlog
                    and not upkeep.collector.backlog
                    and not any(row[:1] in (b"g", b"x", b"e") for row in self.rows())
                )
            )

        async def sweep(self):
            """Returns how many orphans there were."""
            collector = self.maintenance.collector
            return sum([await collector.sweep(osd) for osd in list(self.devices.stores)])

        def refs(self):
            rows = self.kv.scan_prefix(keys.BLOBS)
            return [decode_blob_row(raw).ref for _, raw in rows]

        def held(self):
            """All shards, by OSD."""
            return {osd: shards for osd, shards in self.shards().items() if shards}

        async def check_empty(self):
            """After everything was deleted: no shard, no row but the cluster's, and nobody has
            anything in use."""
            await self.settled()
            await self.sweep()
            assert not self.held()
            assert {row[:1] for row in self.rows()} <= {b"c", b"B"}
            for gateway in self.gateways:
                assert not gateway.in_use.active
                assert not gateway.in_use.pins

    made = []

    async def make(gateways=2, **more):
        made.append(Cluster(tmp_path / f"cluster{len(made)}", gateways=gateways, **more))
        made[-1].where.mkdir()
        return await made[-1].start()

    yield make
    for cluster in made:
        await cluster.stop()
