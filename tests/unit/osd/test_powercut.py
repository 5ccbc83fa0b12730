"""Power cuts at block level: at any moment of a device's life, whatever part of what was not synced
the disk kept, a store that is opened on it has what it promised, and nothing wrong.

A run is recorded once; then the device is built as each moment of it may have left it, and opened
with the index of that moment and without any. What was opened lives on, and is cut again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.errors import DeviceFull
from objectio.limits import MIB
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd import store as stores
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.testing.context import make_context
from objectio.testing.powercut import Player, Tape, everything, nothing, recording, torn
from objectio.testing.shardstore_calls import CLUSTER, fate

SIZES = [0, 1, 100, 700, 4000, 4096, 30_000, 65_536, 65_537, 200_000, 350_000]
CONFIG = LogStoreConfig(
    segment_bytes=MIB,
    free_bytes_min=0,
    checkpoint_changes=20,
    checkpoint_seconds=0.2,
    compact_live_share_max=0.7,
    compact_bytes_per_second=1e12,
)
PAGE = Path(__file__).resolve().parents[3] / "docs/explanation/on-disk.md"


@pytest.fixture(autouse=True)
def _busy_upkeep(monkeypatch):
    monkeypatch.setattr(stores, "_UPKEEP_SECONDS", 0.005)


@pytest.fixture
def seed():
    number = int(os.environ.get("OBJECTIO_TEST_SEED", "20"))
    print(f"OBJECTIO_TEST_SEED={number}")
    return number


class Promises:
    """What was asked of a store, in order, and when it was promised; `start` is what it had before."""

    def __init__(self, tape, start=None):
        self._tape = tape
        self._start = {} if start is None else {key: {held} for key, held in start.items()}
        self._asked = []
        self._answers = {}

    def ask(self, changes, *, sync):
        """`changes`: key → payload, or None to delete it. Returns what `done` is to call."""
        number = len(self._asked)
        self._asked.append((self._tape.note("asked"), changes, sync))

        def answered(error):
            self._answers[number] = (self._tape.note("answered"), error)

        return answered

    def possible(self, cut):
        """Key → what it may hold after a cut; None stands for nothing. What was asked for up to
        the last promise before the cut has happened, what was asked for later may have."""
        answers = {n: error for n, (at, error) in self._answers.items() if at < cut}
        promised = max(
            (n for n, error in answers.items() if error is None and self._asked[n][2]), default=-1
        )
        held = {key: set(each) for key, each in self._start.items()}
        for number, (asked, changes, _) in enumerate(self._asked):
            if asked >= cut:
                break
            if isinstance(answers.get(number), DeviceFull):
                continue  # refused: nothing of it has happened
            for key, payload in changes.items():
                if number <= promised:
                    held[key] = {payload}
                else:
                    before = held.setdefault(key, {None})
                    # A shard that takes another's place comes behind the other's tombstone.
                    before |= {payload, None}
        return held


class Driver:
    """Asks a store for this and that at random, and writes down what was promised. It has moods, each
    for a while: a `lazy` one asks for no sync, so that a cut may take much; what a `lasting` one
    puts is seldom deleted, so that there are old segments which stay while newer ones go."""

    def __init__(self, store, promises, source, first=0):
        self.store = store
        self.promises = promises
        self.source = source
        self.keys = []
        self.lasting = []
        self.refused = 0
        self._blobs = itertools.count(first)
        self._mood = (False, False)

    def put(self, key, *, sync=True, reserve=False, size=None):
        size = self.source.choice(SIZES) if size is None else size
        payload = self.source.randbytes(size)
        coordinates = ShardCoordinates("replicate", 1, 0, size)
        answered = self.promises.ask({key: payload}, sync=sync)
        split = self.source.randrange(size + 1)
        parts = (payload,) if self.source.random() < 0.7 else (payload[:split], payload[split:])
        write = ShardWrite(key, parts, coordinates, sync, reserve)
        if key not in self.keys and key not in self.lasting:
            (self.lasting if self._mood[1] else self.keys).append(key)
        return self._fate(lambda done: self.store.submit(write, done), answered)

    def fresh(self, stripe=0):
        return ShardKey(BlobId(next(self._blobs).to_bytes(16, "big")), stripe, 0)

    def delete(self, *keys):
        answered = self.promises.ask(dict.fromkeys(keys), sync=True)
        self.keys = [key for key in self.keys if key not in keys]
        self.lasting = [key for key in self.lasting if key not in keys]
        return self._fate(lambda done: self.store.submit_delete(keys, done), answered)

    def sync(self):
        answered = self.promises.ask({}, sync=True)
        return self._fate(self.store.submit_sync, answered)

    async def _fate(self, call, answered):
        def noted(done):
            def both(error):
                answered(error)
                done(error)

            return both

        try:
            await fate(lambda done: call(noted(done)))
        except DeviceFull:
            self.refused += 1

    def some(self):
        """The next thing to ask for, as coroutines that run side by side."""
        source = self.source
        if source.random() < 0.08:
            self._mood = (source.random() < 0.4, source.random() < 0.4 and len(self.lasting) < 60)
        if self._mood[0]:
            return [self.put(self.fresh(), sync=False) for _ in range(source.randrange(1, 5))]
        match source.randrange(13):
            case 12 if self.lasting:
                return [self.delete(source.choice(self.lasting))]
            case 0 | 1 if self.keys:
                return [self.delete(*source.sample(self.keys, min(len(self.keys), 3)))]
            case 2 if self.keys:
                return [self.put(source.choice(self.keys))]
            case 3:  # a long object: stripes without a sync, and one with
                blob = self.fresh()
                last = source.randrange(2, 6)
                return [
                    self.put(blob._replace(stripe=stripe), sync=stripe == last)
                    for stripe in range(last + 1)
                ]
            case 4:
                return [self.put(self.fresh(), sync=False) for _ in range(source.randrange(1, 4))]
            case 5:
                return [self.sync()]
            case 6:
                return [self.put(self.fresh(), reserve=True, size=300)]
            case _:
                return [self.put(self.fresh()) for _ in range(source.randrange(1, 5))]

    async def work(self, asks, held_max):
        """So many questions; beyond so many keys the older ones are deleted."""
        under_way = set()
        for _ in range(asks):
            for each in self.some():
                under_way.add(asyncio.ensure_future(each))
            if len(self.keys) > held_max:
                doomed = self.source.sample(self.keys[: held_max // 2], held_max // 4)
                under_way.add(asyncio.ensure_future(self.delete(*doomed)))
            while len(under_way) > 12 or (under_way and self.source.random() < 0.5):
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        await asyncio.gather(*under_way)


class Life:
    """A recorded life of a device that was prepared at `path`."""

    def __init__(self, where, size_bytes, source):
        self.tape = Tape()
        self.promises = Promises(self.tape)
        self.path = where / "device"
        self.factory = LogStoreFactory(CONFIG, make_context(where / "index"))
        self.device_id = self.factory.prepare(
            str(self.path), cluster_id=CLUSTER, size_bytes=size_bytes
        )
        self.file = self.path / "log" if self.path.is_dir() else self.path
        self.before = self.file.read_bytes()
        self.source = source

    @property
    def index(self):
        return str(self.factory._index_path(self.device_id))

    async def live(self, asks, held_max):
        with recording(self.tape):
            store = await self.factory.open(str(self.path), cluster_id=CLUSTER)
            driver = Driver(store, self.promises, self.source)
            await driver.work(asks, held_max)
            used = store.usage()
            await store.close()
        return driver, used


class Recovery:
    """Opens images of a device again and again."""

    def __init__(self, where, *, grows):
        self.where = where
        self.grows = grows
        self._numbers = itertools.count()

    def place(self, image, device_id, index):
        """A device with these bytes, and a factory that has this index of it."""
        here = self.where / str(next(self._numbers))
        path = here / "device"
        (path if self.grows else here).mkdir(parents=True)
        (path / "log" if self.grows else path).write_bytes(image)
        factory = LogStoreFactory(CONFIG, make_context(here / "index"))
        if index is not None:
            factory._index_path(device_id).mkdir(parents=True)
            (factory._index_path(device_id) / "data.mdb").write_bytes(index)
        return here, path, factory

    async def check(self, image, device_id, index, possible, source=None):
        """What is held; if there is a `source` of chance, the store lives on and is cut again."""
        here, path, factory = self.place(image, device_id, index)
        tape = Tape()
        with recording(tape):
            store = await factory.open(str(path), cluster_id=CLUSTER)
            try:
                held = await read_all(store)
                agree(held, possible)
                promises = Promises(tape, held)
                if source is not None:
                    driver = Driver(store, promises, source, first=1 << 40)
                    driver.keys = list(held)[:8]
                    driver.lasting = list(held)[8:]
                    await driver.work(6, 1000)
            finally:
                await store.close()
        if source is not None:
            cut = source.choice(tape.moments(str(path), str(factory._index_path(device_id))))
            player = Player(tape, str(path), bytes(image))
            player.go_to(cut)
            choice = source.choice([everything, nothing, torn(source)])
            where = str(factory._index_path(device_id))
            later = source.choice([index_of(tape, where, cut, source, before=index), None])
            await self.check(player.image(choice), device_id, later, promises.possible(cut))
        shutil.rmtree(here)
        return held


def index_of(tape, where, cut, source, before=None):
    found = tape.index_at(where, cut, begun=source.random() < 0.5)
    return before if found is None else found


async def read_all(store):
    held, after = {}, None
    while page := await store.scan(after, 1000):
        for info in page:
            payload = bytes(store.plan_read(info.key)())
            assert len(payload) == info.length
            held[info.key] = payload
        after = page[-1].key
    assert store.usage().shards == len(held)
    return held


def agree(held, possible):
    assert set(held) <= set(possible), "a shard that nobody wrote"
    for key, payloads in possible.items():
        if held.get(key) not in payloads:
            sizes = [None if each is None else len(each) for each in payloads]
            found = held.get(key)
            what = "nothing" if found is None else f"{len(found)} other bytes"
            pytest.fail(f"{key} holds {what}, and should hold one of {sizes} bytes")


def cuts_of(life, source, number):
    moments = life.tape.moments(str(life.path), life.index)
    if number is None or number >= len(moments):
        return moments
    return sorted(source.sample(moments, number))


async def cut_everywhere(life, where, source, *, number=None, torn_times=1, discards="zeroes"):
    """Returns how many devices were built and opened."""
    recovery = Recovery(where, grows=life.path.is_dir())
    fates = {"zeroes": lambda n: True, "kept": lambda n: False, "mixed": lambda n: n % 2 == 0}
    player = Player(life.tape, str(life.path), life.before, discards=fates[discards])
    built = 0
    for cut in cuts_of(life, source, number):
        player.go_to(cut)
        possible = life.promises.possible(cut)
        choices = [everything, nothing] if player.loose() else [everything]
        choices += [torn(source) for _ in range(torn_times if player.loose() else 0)]
        for choice in choices:
            image = player.image(choice)
            later = source if source.random() < 0.25 else None
            for index in (index_of(life.tape, life.index, cut, source), None):
                await recovery.check(image, life.device_id, index, possible, later)
                built += 1
    return built


SHAPES = {"directory": None, "image": 14 * MIB}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_tape_that_is_played_to_its_end_gives_the_device(tmp_path, shape, seed):
    """Nothing is written past the recorder: without this the other tests would prove little."""
    life = Life(tmp_path, SHAPES[shape], random.Random(seed))
    await life.live(60, 40)
    player = Player(life.tape, str(life.path), life.before)
    player.go_to(len(life.tape.notes))
    image, found = player.image(everything), life.file.read_bytes()
    assert len(found) - len(image) >= 0
    assert found == image + bytes(len(found) - len(image))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_sample_of_power_cuts(tmp_path, shape, seed):
    source = random.Random(f"{seed}:{shape}")
    life = Life(tmp_path / "life", SHAPES[shape], source)
    await life.live(90, 40)
    await cut_everywhere(life, tmp_path / "cut", source, number=12, discards="mixed")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("discards", "number"), [("mixed", None), ("zeroes", 150), ("kept", 150)])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_power_cut_at_every_moment(tmp_path, shape, discards, number, seed):
    source = random.Random(f"{seed}:{shape}:{discards}")
    life = Life(tmp_path / "life", SHAPES[shape], source)
    driver, _ = await life.live(250, 60)
    begun = {each.offset for each in Player(life.tape, str(life.path), b"").operations}
    assert len(begun) > 100
    print(driver.refused, "were refused for want of room")
    built = await cut_everywhere(
        life, tmp_path / "cut", source, number=number, torn_times=2, discards=discards
    )
    print(built, "devices were built and opened")


@pytest.mark.parametrize(("asks", "cuts"), [(15, 3), pytest.param(90, 10, marks=pytest.mark.slow)])
async def test_the_reader_of_the_page_agrees(tmp_path, seed, asks, cuts):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    source = random.Random(f"{seed}:page")
    life = Life(tmp_path / "life", None, source)
    await life.live(asks, 20)
    player = Player(life.tape, str(life.path), life.before)
    recovery = Recovery(tmp_path / "cut", grows=True)
    for cut in cuts_of(life, source, cuts):
        player.go_to(cut)
        image = player.image(torn(source))
        held = await recovery.check(image, life.device_id, None, life.promises.possible(cut))
        assert names["live_shards"](bytes(image)) == {tuple(k): v for k, v in held.items()}
