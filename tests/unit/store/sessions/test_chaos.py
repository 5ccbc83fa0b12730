"""Gateways write, read and move while connections are cut, gateways sleep, and the metadata restarts.

A model of the store: shards are a set that everybody shares, and upkeep takes from it what the protocol
says may go. Whatever a row says must be there in the end, whoever was shut out on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from objectio.abc.kv import Present
from objectio.errors import CommitConflict, ObjectIOError, Unavailable
from objectio.meta import keys
from objectio.meta.records import BlobRef

# Of connections that come while a server closes: before Python 3.12 asyncio forgets them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(function _SelectorTransport|socket.socket)"
    ":pytest.PytestUnraisableExceptionWarning"
)

SECONDS = 1.5
NAMES = 12


class World:
    def __init__(self, meta, seed):
        self.meta = meta
        self.random = random.Random(seed)
        self.shards = {}
        """By blob: the epoch of the pools that it was written by."""
        self.adopted = 0
        """An epoch that everybody has taken over."""
        self.written = self.swept = self.collected = self.refused = self.reads = self.moves = 0
        self.busy = True

    def abandon(self, ref):
        asyncio.get_running_loop().create_task(self._give_up(ref))

    async def _give_up(self, ref):
        await self.meta.kv.commit([], [])
        if self.meta.kv.get(keys.blob(ref.blob)) is None:
            self.shards.pop(ref.blob, None)

    def damaged(self, ref, mask, *, examine=False): ...

    def garbage(self): ...

    def repairs(self): ...

    async def enough(self):
        """Some time, and until something of everything has happened."""
        await asyncio.sleep(SECONDS)
        while min(self.written, self.refused, self.reads, self.moves, self.collected) < 5:
            await asyncio.sleep(0.01)
        self.busy = False

    async def nap(self):
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.003]))

    # Gateways.

    async def write(self, gateway):
        """An object: shards, then the row of the blob and the row that refers to it."""
        while self.busy:
            await self.nap()
            ref = gateway.begin()
            epoch, needed = int(gateway.pools.value or 0), self.adopted
            await self.nap()
            self.shards[ref.blob] = epoch
            await self.nap()
            name = b"o%d" % self.random.randrange(NAMES)
            try:
                old = await gateway.kv.aget(name)
                writes = [(name, ref.blob), (keys.blob(ref.blob), b"%d" % epoch)]
                if old is not None:
                    writes.append((keys.GARBAGE + old, old))
                checks = [Present(keys.blob(old))] if old is not None else []
                await gateway.kv.commit(checks, writes)
            except (CommitConflict, Unavailable):
                self.refused += 1
                gateway.session.abandon(ref)
            else:
                assert epoch >= needed, "written by pools that everybody had given up"
                self.written += 1
                gateway.in_use.active.discard(ref.blob)

    async def read(self, gateway):
        while self.busy:
            await self.nap()
            session = gateway.id
            name = b"o%d" % self.random.randrange(NAMES)
            with contextlib.suppress(Unavailable):
                blob = await gateway.kv.aget(name)
                if blob is None or session is None:
                    continue
                ref = BlobRef(blob, 1, 1)
                gateway.in_use.pin([ref])
                try:
                    if await gateway.kv.aget(name) != blob:
                        continue
                    await self.nap()
                    if gateway.id == session and session in self.meta.row_ids():
                        assert blob in self.shards, "taken away from under a reader"
                        self.reads += 1
                finally:
                    gateway.in_use.unpin([ref])

    # Upkeep.

    async def sweep(self):
        while self.busy:
            await self.nap()
            page = list(self.shards)
            with contextlib.suppress(Unavailable):
                active = (await self.meta.sessions.survey()).active
                rows = self.meta.kv.get_many([keys.blob(blob) for blob in page])
                for blob, row in zip(page, rows, strict=True):
                    if row is None and blob not in active:
                        self.swept += self.shards.pop(blob, None) is not None

    async def collect(self):
        while self.busy:
            await self.nap()
            rows = await self.meta.kv.ascan_prefix(keys.GARBAGE)
            with contextlib.suppress(Unavailable):
                pinned = (await self.meta.sessions.survey()).pinned
                for row, blob in rows:
                    if blob not in pinned:
                        await self.meta.kv.commit([], [(row, None), (keys.blob(blob), None)])
                        self.collected += self.shards.pop(blob, None) is not None

    async def move(self):
        epoch = 0
        while self.busy:
            await self.nap()
            epoch += 1
            await self.meta.touch(b"%d" % epoch)
            with contextlib.suppress(Unavailable):
                await self.meta.sessions.survey()
                self.adopted = epoch
                self.moves += 1

    # Trouble.

    async def trouble(self, gateways):
        while self.busy:
            await asyncio.sleep(self.random.choice([0.01, 0.03, 0.05]))
            gateway = self.random.choice(gateways)
            what = self.random.randrange(6)
            if what == 0:
                await self.meta.restart(serve=False)
                self.meta.sessions.serve(self)
            elif what == 1:
                gateway.freeze()
                await asyncio.sleep(self.random.choice([0.02, 0.35]))
                gateway.wake()
            elif what == 2:
                with contextlib.suppress(ValueError):
                    transport = self.meta.connection_of(gateway)._transport
                    transport.pause_reading()
                    await asyncio.sleep(self.random.choice([0.02, 0.3]))
                    with contextlib.suppress(RuntimeError):
                        transport.resume_reading()
            elif gateway.channel.connection is not None:
                gateway.cut()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_that_is_owned_is_taken_away(make_meta, make_gateway, seed):
    meta = await make_meta(0.2, 0.2)
    world = meta.notes = World(meta, seed)
    meta.sessions.serve(world)
    gateways = [await make_gateway(meta, f"g{number}").open() for number in range(3)]
    works = [world.sweep(), world.collect(), world.move()]
    works += [world.write(gateway) for gateway in gateways for _ in range(3)]
    works += [world.read(gateway) for gateway in gateways for _ in range(2)]
    async with asyncio.timeout(60):
        await asyncio.gather(world.trouble(gateways), world.enough(), *works)
        for gateway in gateways:
            await gateway.session._quiet.wait()
            with contextlib.suppress(ObjectIOError):
                await gateway.kv.barrier()
        await meta.sessions.survey()
    for row, blob in await meta.kv.ascan_prefix(b"o"):
        assert blob in world.shards, f"{row} lost its shards"
