"""A power cut takes a whole node at any moment: six devices, their indexes and the metadata, each as it
may have been left. What was acknowledged is there and the same; nothing is half there; when the sweeps
are done, nothing is missing and nothing left over.

The store runs in this process, recorded; then its data directory is built as it may have been after a
cut, and a node is started on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import threading
from collections import Counter

import pytest

from objectio import builtin
from objectio.abc.kv import Commit
from objectio.abc.objects import CompletePart, ObjectAttributes
from objectio.config import load_config
from objectio.errors import NotFound
from objectio.osd import store as stores
from objectio.plugin.loader import load_plugins
from objectio.runtime.node import Node
from objectio.runtime.quickstart import make_config
from objectio.testing.census import take_census
from objectio.testing.context import make_context
from objectio.testing.objects import BytesPayload
from objectio.testing.powercut import Player, Tape, everything, nothing, recording, torn

BUCKET = "faults"
SIZES = [0, 1, 700, 4096, 30_000, 65_536, 65_537, 200_000, 500_000]
SETTINGS = {
    "gateway.listen": "127.0.0.1:0",
    "pool.stripe_size_bytes": str(64 * 1024),
    "pool.placement_groups": "16",
    "store.part_size_bytes_min": "1",
    "store.write_straggler_seconds": "0.05",
    "store.scrub_interval_seconds": "0.05",
    "store.scrub_bytes_per_second": "1e12",
    "osd.log.segment_bytes": str(1024 * 1024),
    "osd.log.checkpoint_changes": "40",
    "osd.log.checkpoint_seconds": "0.3",
    "osd.log.compact_live_share_max": "0.7",
    "osd.log.compact_bytes_per_second": "1e12",
}


@pytest.fixture(autouse=True)
def _busy_upkeep(monkeypatch):
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.01)


@pytest.fixture(scope="module")
def plugins():
    return load_plugins(disabled=(), builtin=(builtin,))


@pytest.fixture
def start(plugins):
    @contextlib.asynccontextmanager
    async def start_(data_dir, **more):
        if not (data_dir / "objectio.toml").exists():
            make_config(data_dir, 6, "127.0.0.1:0", plugins.registry)
        overrides = [f"{key}={value}" for key, value in {**SETTINGS, **more}.items()]
        config = load_config(data_dir / "objectio.toml", env={}, overrides=overrides)
        node = Node(config, plugins)
        await node.start()
        try:
            yield node.part("objects")
        finally:
            await node.stop()

    return start_


@contextlib.contextmanager
def recording_metadata(tape):
    """Note what each commit changed, when it is durable."""
    from objectio_kv_lmdb.driver import LmdbKV

    inner, lock = LmdbKV.commit, threading.Lock()

    def commit(self, commits):
        with lock:
            results = inner(self, commits)
            done = [
                each.writes for each, failed in zip(commits, results, strict=True) if failed is None
            ]
            tape.note("metadata", [write for writes in done for write in writes])
            return results

    LmdbKV.commit = commit
    try:
        yield
    finally:
        LmdbKV.commit = inner


def write_metadata(data_dir, rows):
    from objectio_kv_lmdb.plugin import DRIVER

    kv = DRIVER.open(DRIVER.config(), make_context(data_dir, "meta"))
    kv.commit([Commit([], list(rows.items()))])
    kv.close()


class Promises:
    """Object key → what it may be, by what was asked for and answered before a cut. One call is under
    way for each key at a time."""

    def __init__(self, tape):
        self._tape = tape
        self._asked = []

    @contextlib.contextmanager
    def ask(self, key, data):
        entry = [self._tape.note("asked"), None, key, data]
        self._asked.append(entry)
        yield
        entry[1] = self._tape.note("answered")

    def possible(self, cut):
        held = {}
        for asked, answered, key, data in self._asked:
            if asked >= cut:
                continue
            if answered is not None and answered < cut:
                held[key] = [data]
            else:
                held[key] = [*held.get(key, [None]), data]
        return held


class Worker:
    """Puts, overwrites, copies, assembles and deletes objects of its own."""

    def __init__(self, name, store, promises, source, base):
        self.name = name
        self.store = store
        self.promises = promises
        self.source = source
        self._base = base
        self.held = {}

    async def work(self, steps):
        for _ in range(steps):
            key = b"%s/%d" % (self.name, self.source.randrange(12))
            match self.source.randrange(8):
                case 0 | 1:
                    await self.change(key, None, self.store.delete_object(BUCKET, key))
                case 2:
                    await self.assemble(key, self.data())
                case 3 if self.held:
                    other = self.source.choice(list(self.held))
                    copied = self.store.copy_object(BUCKET, other, BUCKET, key, owner="me")
                    await self.change(key, self.held[other], copied)
                case _:
                    await self.put(key, self.data())

    def data(self):
        size = self.source.choice(SIZES)
        begin = self.source.randrange(len(self._base) - size)
        return (self.source.randbytes(16) + self._base[begin : begin + size])[:size]

    async def change(self, key, data, call):
        with self.promises.ask(key, data):
            await call
        if data is None:
            self.held.pop(key, None)
        else:
            self.held[key] = data

    async def put(self, key, data):
        call = self.store.put_object(
            BUCKET, key, BytesPayload(data), ObjectAttributes(), owner="me"
        )
        await self.change(key, data, call)

    async def assemble(self, key, data):
        store, attributes = self.store, ObjectAttributes()
        upload = (await store.create_upload(BUCKET, key, attributes, owner="me")).upload_id
        parts, step = [], len(data) // 3 + 1
        for number, at in enumerate(range(0, max(len(data), 1), step), 1):
            payload = BytesPayload(data[at : at + step])
            info = await store.put_part(BUCKET, key, upload, number, payload)
            parts.append(CompletePart(number, info.etag))
        await self.change(key, data, store.complete_upload(BUCKET, key, upload, parts))


class Recorded:
    """A node's life on tape, and the directories that a cut may leave of it."""

    def __init__(self, data_dir, tape, promises):
        self.data_dir = data_dir
        self.tape = tape
        self.promises = promises
        self.devices = {str(path): path.name for path in sorted((data_dir / "disks").iterdir())}
        self.indexes = sorted({note.where for note in tape.notes if note.what == "index"})

    def moments(self, first):
        return [at for at in self.tape.moments(*self.devices, *self.indexes) if at >= first]

    def players(self, source, **more):
        lot = source.random()
        return {
            where: Player(
                self.tape,
                where,
                b"",
                discards=lambda number: (number * 0.618) % 1 < lot,
                lies=more.get(name, ()),
            )
            for where, name in self.devices.items()
        }

    def build(self, data_dir, cut, players, source):
        data_dir.mkdir(parents=True)
        for name in ("objectio.toml", "credentials.json"):
            shutil.copy(self.data_dir / name, data_dir / name)
        for where, name in self.devices.items():
            players[where].go_to(cut)
            choice = source.choice([everything, nothing, torn(source)])
            disk = data_dir / "disks" / name
            disk.mkdir(parents=True)
            (disk / "log").write_bytes(players[where].image(choice))
        for where in self.indexes:
            found = self.tape.index_at(where, cut, begun=source.random() < 0.5)
            if found is not None and source.random() < 0.9:
                here = data_dir / "index" / where.rpartition("/")[2]
                here.mkdir(parents=True)
                (here / "data.mdb").write_bytes(found)
        rows = {}
        for note in self.tape.notes[:cut]:
            if note.what == "metadata":
                rows.update(note.value)
        write_metadata(data_dir, {key: value for key, value in rows.items() if value is not None})


async def record(start, data_dir, source, steps):
    """Work on a new store until it has been stopped. Returns it and the moment it was ready."""
    tape = Tape()
    promises = Promises(tape)
    base = source.randbytes(1 << 20)
    # A device is prepared before its first note: its files are made, and empty.
    with recording(tape), recording_metadata(tape):
        async with start(data_dir) as store:
            await store.create_bucket(BUCKET, owner="me")
            ready = tape.note("ready")
            workers = [
                Worker(b"%d" % number, store, promises, random.Random(source.random()), base)
                for number in range(4)
            ]
            await asyncio.gather(*(worker.work(steps) for worker in workers))
    return Recorded(data_dir, tape, promises), ready


async def read_object(store, key):
    try:
        reader = await store.get_object(BUCKET, key)
    except NotFound:
        return None
    try:
        pieces = [bytes(piece) async for piece in reader.stream(0, reader.info.size)]
    finally:
        reader.close()
    return b"".join(pieces)


async def check_objects(store, possible):
    """Every object is what it may be; returns what each is."""
    found = {}
    for key, allowed in possible.items():
        found[key] = await read_object(store, key)
        if found[key] not in allowed:
            sizes = [None if data is None else len(data) for data in allowed]
            pytest.fail(f"{key} is {found[key] and len(found[key])} bytes, not one of {sizes}")
    listed = [each.key for each in (await store.list_objects(BUCKET)).objects]
    assert listed == sorted(key for key, data in found.items() if data is not None)
    return found


async def sweep(store, seconds_max=30):
    """Until two scrubs have looked at everything, and repair and the collector are done."""
    deadline = asyncio.get_running_loop().time() + seconds_max
    upkeep = store.upkeep
    passes = upkeep.scrubber.finished + 2

    def busy():
        scrubbing = upkeep.scrubber.finished < passes
        return scrubbing or upkeep.repairer.backlog or store.cleaning or upkeep.collector.backlog

    while busy():
        assert asyncio.get_running_loop().time() < deadline, "the sweeps do not end"
        await asyncio.sleep(0.01)


async def abort_uploads(store):
    while uploads := (await store.list_uploads(BUCKET)).uploads:
        for each in uploads:
            await store.abort_upload(BUCKET, each.key, each.upload_id)


async def reopen_and_check(start, data_dir, possible, source):
    async with start(data_dir) as store:
        found = await check_objects(store, possible)
        promises = Promises(Tape())
        worker = Worker(b"later", store, promises, source, source.randbytes(1 << 20))
        await worker.work(4)
        await abort_uploads(store)
        await sweep(store)
        await check_objects(store, {key: [data] for key, data in (found | worker.held).items()})
    census = await asyncio.to_thread(take_census, data_dir)
    assert not census.problems, "\n".join(census.problems[:20])
    return found


async def cut_node(start, tmp_path, seed, *, steps, cuts):
    source = random.Random(f"{seed}:{steps}")
    recorded, ready = await record(start, tmp_path / "life", source, steps)
    players = recorded.players(source)
    states = Counter()
    moments = recorded.moments(ready)
    for number, cut in enumerate(sorted(source.sample(moments, min(cuts, len(moments))))):
        data_dir = tmp_path / f"cut{number}"
        recorded.build(data_dir, cut, players, source)
        possible = recorded.promises.possible(cut)
        found = await reopen_and_check(start, data_dir, possible, source)
        states[len(found)] += 1
        shutil.rmtree(data_dir)
    assert len(states) > 1, "every cut found the same"


async def test_a_sample_of_power_cuts_of_a_node(start, tmp_path, seed):
    await cut_node(start, tmp_path, seed, steps=8, cuts=4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_power_cuts_of_a_node(start, tmp_path, seed):
    await cut_node(start, tmp_path, seed, steps=60, cuts=150)


# A disk which says that it has synced, and has not.


def lies_of(recorded, name, cut, source):
    """The last acknowledged writes of a device, all of them or some."""
    (where,) = (where for where, each in recorded.devices.items() if each == name)
    honest = Player(recorded.tape, where, b"").operations
    stable = [each.number for each in honest if each.stable < cut and each.data is not None]
    # Not those of its making: without a superblock there is no device.
    last = stable[-source.randrange(1, max(2, len(stable) - 6)) :]
    return last if source.random() < 0.5 else source.sample(last, len(last) // 2 + 1)


async def lie(start, tmp_path, seed, *, steps, cuts):
    source = random.Random(f"{seed}:lies:{steps}")
    recorded, ready = await record(start, tmp_path / "life", source, steps)
    moments = recorded.moments(ready)
    lied = 0
    for number, liar in zip(range(cuts), itertools.cycle("025134")):
        cut = source.choice(moments)
        lies = lies_of(recorded, liar, cut, source)
        lied += len(lies)
        data_dir = tmp_path / f"lie{number}"
        recorded.build(data_dir, cut, recorded.players(source, **{liar: lies}), source)
        await reopen_and_check(start, data_dir, recorded.promises.possible(cut), source)
        shutil.rmtree(data_dir)
    assert lied


async def test_a_disk_that_lies_about_syncs(start, tmp_path, seed):
    await lie(start, tmp_path, seed, steps=8, cuts=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_disks_that_lie_about_syncs(start, tmp_path, seed):
    await lie(start, tmp_path, seed, steps=60, cuts=60)
