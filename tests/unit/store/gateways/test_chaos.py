"""Gateways that race on the same keys, while groups move, garbage is collected, devices are swept, and
now and then one of the gateways is taken for dead and comes back."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.abc.objects import CompletePart, ObjectAttributes
from objectio.errors import InvalidRequest, NotFound, ObjectIOError, Unavailable
from objectio.testing.objects import BytesPayload

TURNS = 100
KEYS = (b"a", b"b", b"c")


def make_body(seed, size):
    """It says itself what it must be."""
    head = seed.to_bytes(8, "big") + size.to_bytes(8, "big")
    return head + random.Random(seed).randbytes(size)


def check_body(data):
    parts = 0
    while data:
        seed, size = (int.from_bytes(data[at : at + 8], "big") for at in (0, 8))
        assert data[: 16 + size] == make_body(seed, size)
        data = data[16 + size :]
        parts += 1
    return parts


class Worker:
    """Writes keys that all others write, too, and one that is its own; reads them anywhere."""

    def __init__(self, cluster, gateway, number):
        self.cluster, self.gateway = cluster, gateway
        self.random = random.Random(cluster.seed * 1000 + number)
        self.own, self.own_data = b"own %d" % number, None
        self.did = 0

    def body(self):
        size = self.random.choice((1, 300, 9_000, 30_000))
        return make_body(self.random.getrandbits(60), size)

    async def run(self):
        for _ in range(TURNS):
            action = self.random.choice(
                (self.put, self.put, self.get, self.get, self.delete, self.upload, self.put_own)
            )
            try:
                await action(self.random.choice(KEYS))
                self.did += 1
            except NotFound:
                pass
            except Unavailable as error:
                if error.fields["reason"] not in ("fenced", "session"):
                    raise
            await self.check_own()

    async def put(self, key):
        await self.gateway.put(key, self.body())

    async def get(self, key):
        session = self.gateway.session
        reader = await self.gateway.open_object(key)
        got = b""
        try:
            async for piece in reader.stream(0, reader.info.size):
                got += piece
                await self.gateway.pause()
        except ObjectIOError:
            # Of one that was taken for dead nobody knew that it was reading.
            assert session is None or self.gateway.session != session
            return
        finally:
            reader.close()
        assert check_body(got)

    async def delete(self, key):
        await self.gateway.delete(key)

    async def upload(self, key):
        store = self.gateway.store
        upload = (
            await store.create_upload("bucket", key, ObjectAttributes(), owner="me")
        ).upload_id
        try:
            parts = []
            for number in (1, 2, 3):
                info = await store.put_part(
                    "bucket", key, upload, number, BytesPayload(self.body())
                )
                parts.append(CompletePart(number, info.etag))
                if self.random.random() < 0.2:
                    await store.put_part("bucket", key, upload, number, BytesPayload(self.body()))
            await store.complete_upload("bucket", key, upload, parts[self.random.randrange(2) :])
        except InvalidRequest:  # a part was replaced
            await store.abort_upload("bucket", key, upload)

    async def put_own(self, _):
        """Whether it was refused or not, it is known what is there now."""
        data = self.body()
        await self.gateway.put(self.own, data)
        self.own_data = data

    async def check_own(self):
        if self.own_data is None:
            return
        where = self.random.choice(self.cluster.gateways)
        session = where.session
        try:
            got = await where.get(self.own)
        except ObjectIOError:
            assert session is None or where.session != session
            return
        assert got == self.own_data


async def upkeep(cluster, seed):
    """Groups move here and there; everything is swept, again and again."""
    source, rebalancer = random.Random(seed), cluster.maintenance.rebalancer
    while True:
        osd = source.randrange(8)
        await rebalancer.drain(osd)
        for _ in range(source.randrange(1, 4)):
            await cluster.sweep()
            await cluster.maintenance.collector.collect()
            await asyncio.sleep(0.01)
        await rebalancer.undrain(osd)
        await asyncio.sleep(0.01)


async def kill(cluster, seed, done):
    """Returns how often."""
    source, count = random.Random(seed), 0
    while not done.is_set():
        await asyncio.sleep(source.random() * 0.2)
        gateway = source.choice(cluster.gateways)
        gateway.mute()
        await asyncio.sleep(0.01)
        await cluster.fence(gateway)
        count += 1
        await asyncio.sleep(source.random() * 0.03)
        gateway.unmute()
        await gateway.open()
    return count


@pytest.mark.parametrize(
    ("gateways", "seed", "killing"), [(2, 1, False), (3, 2, False), (3, 3, True)]
)
async def test_gateways_that_race(make_cluster, gateways, seed, killing):
    cluster = await make_cluster(gateways, disks=8, seed=seed)
    workers = [
        Worker(cluster, gateway, 2 * number + twin)
        for number, gateway in enumerate(cluster.gateways)
        for twin in range(2)
    ]
    done, keeper = asyncio.Event(), asyncio.create_task(upkeep(cluster, seed))
    if killing:
        killer = asyncio.create_task(kill(cluster, seed, done))
    try:
        await asyncio.gather(*(worker.run() for worker in workers))
    finally:
        done.set()
        assert not killing or await killer
        keeper.cancel()
        (end,) = await asyncio.gather(keeper, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError), end
    assert cluster.maintenance.rebalancer.status().moved_shards
    assert sum(worker.did for worker in workers) > len(workers) * TURNS // 4
    for osd in range(8):
        await cluster.maintenance.rebalancer.undrain(osd)
    await cluster.settled()
    await check_everything(cluster, workers)


async def check_everything(cluster, workers):
    first, *others = cluster.gateways
    listed = [each.key for each in (await first.store.list_objects("bucket")).objects]
    for other in others:
        assert [each.key for each in (await other.store.list_objects("bucket")).objects] == listed
    for key in listed:
        (data,) = {await gateway.get(key) for gateway in cluster.gateways}
        assert check_body(data)
    for worker in workers:
        if worker.own_data is not None:
            assert await first.get(worker.own) == worker.own_data
    assert not find_missing(cluster)
    for key in listed:
        await first.delete(key)
    for upload in (await first.store.list_uploads("bucket")).uploads:
        await first.store.abort_upload("bucket", upload.key, upload.upload_id)
    await cluster.check_empty()


def find_missing(cluster):
    """Shards that are not where their group is by now."""
    found = []
    for ref in cluster.refs():
        pool = cluster.pools.get(ref.pool)
        for position, osd in enumerate(pool.members(ref.blob)):
            there = {
                key.stripe
                for key in cluster.shards()[osd]
                if key.blob == ref.blob and key.position == position
            }
            if len(there) != pool.stripes(ref.size):
                found.append((ref, position, osd))
    return found
