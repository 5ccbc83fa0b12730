"""Conformance of a shard store.

    def make_factory(data_dir: Path) -> ShardStoreFactory: ...

    class TestMine(ShardStoreConformance):
        make = "my_tests.factory:make_factory"

`make` is "module:name" and not the function itself, since one test kills a process that writes. A
store on fixed-size devices says in `small_device_bytes` how small one can be for the test that
fills it. Override `factory` and `corrupt` where the default does not fit.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from typing_extensions import Buffer

from objectio.abc.shardstore import (
    ShardCoordinates,
    ShardStoreFactory,
    ShardWrite,
)
from objectio.errors import ConfigError, DeviceFailed
from objectio.limits import KIB, MIB
from objectio.model.stripe import ShardKey
from objectio.testing.shardstore_calls import (
    CLUSTER,
    OTHER_CLUSTER,
    missing,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)
from objectio.testing.shardstore_faults import ShardStoreFaults


class ShardStoreConformance(ShardStoreFaults):
    """Subclass, set `make`; every test must pass."""

    # Preparing, finding and refusing devices.

    def test_nothing_is_found_where_nothing_is(self, factory: ShardStoreFactory, path: str) -> None:
        assert factory.probe(path) is None
        assert factory.cluster_of(path) is None
        Path(path).mkdir()
        assert factory.probe(path) is None
        assert factory.cluster_of(path) is None

    def test_prepared_device_is_found(self, factory: ShardStoreFactory, path: str) -> None:
        device_id = factory.prepare(path, cluster_id=CLUSTER)
        assert device_id
        assert factory.probe(path) == device_id
        assert factory.cluster_of(path) == CLUSTER

    def test_an_empty_directory_can_be_prepared(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        Path(path).mkdir()
        assert factory.prepare(path, cluster_id=CLUSTER) == factory.probe(path)

    async def test_openings_are_counted(self, factory: ShardStoreFactory, path: str) -> None:
        assert factory.opens_of(path) == 0
        factory.prepare(path, cluster_id=CLUSTER)
        assert factory.opens_of(path) == 0
        counted = []
        for opens_min in (0, 0, 7, 3):
            store = await factory.open(path, cluster_id=CLUSTER, opens_min=opens_min)
            counted.append(store.opens)
            await store.close()
            assert factory.opens_of(path) == counted[-1]
        assert counted in ([1, 2, 8, 9], [0, 0, 0, 0]), "they are counted, or they are not"

    def test_ids_are_unique(self, factory: ShardStoreFactory, path: str) -> None:
        ids = {factory.prepare(f"{path}{i}", cluster_id=CLUSTER) for i in range(3)}
        assert len(ids) == 3

    @pytest.mark.parametrize("cluster_id", [CLUSTER, OTHER_CLUSTER])
    def test_prepared_device_is_not_prepared_again(
        self, factory: ShardStoreFactory, path: str, cluster_id: str
    ) -> None:
        device_id = factory.prepare(path, cluster_id=CLUSTER)
        with pytest.raises(ConfigError):
            factory.prepare(path, cluster_id=cluster_id)
        assert factory.probe(path) == device_id

    @pytest.mark.parametrize("name", ["notes.txt", ".hidden", "log", "lost+found"])
    def test_a_directory_with_other_contents_is_left_alone(
        self, factory: ShardStoreFactory, path: str, name: str
    ) -> None:
        other = Path(path) / name
        other.parent.mkdir()
        other.write_bytes(b"precious " * 2000)
        with pytest.raises(ConfigError):
            factory.prepare(path, cluster_id=CLUSTER)
        with pytest.raises(ConfigError):
            factory.probe(path)
        assert [each.name for each in Path(path).iterdir()] == [name]
        assert other.read_bytes() == b"precious " * 2000

    def test_a_file_with_other_contents_is_left_alone(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        Path(path).write_bytes(b"precious " * 2000)
        with pytest.raises(ConfigError):
            factory.prepare(path, cluster_id=CLUSTER)
        with pytest.raises(ConfigError):
            factory.prepare(path, cluster_id=CLUSTER, size_bytes=self.small_device_bytes)
        with pytest.raises(ConfigError):
            factory.probe(path)
        assert Path(path).read_bytes() == b"precious " * 2000

    async def test_other_contents_are_not_opened(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        other = Path(path) / "log"
        other.parent.mkdir()
        other.write_bytes(b"precious " * 2000)
        with pytest.raises((ConfigError, DeviceFailed)):
            await factory.open(path, cluster_id=CLUSTER)
        assert other.read_bytes() == b"precious " * 2000

    async def test_an_absent_device_is_not_opened(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        with pytest.raises((ConfigError, DeviceFailed)):
            await factory.open(path, cluster_id=CLUSTER)
        assert factory.probe(path) is None

    async def test_a_device_of_another_cluster_is_refused(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        device_id = factory.prepare(path, cluster_id=CLUSTER)
        with pytest.raises(ConfigError):
            await factory.open(path, cluster_id=OTHER_CLUSTER)
        store = await factory.open(path, cluster_id=CLUSTER)
        assert store.device_id == device_id
        await store.close()

    async def test_the_id_survives_reopening_and_moving(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        device_id = store.device_id
        await submit(store, shard_key(1), b"here")
        await store.close()
        Path(path).rename(f"{path}-moved")
        assert factory.probe(path) is None
        store = await self.opened(factory, f"{path}-moved")
        assert store.device_id == device_id
        assert await read(store, shard_key(1)) == b"here"
        await store.close()

    # Writing and reading.

    @pytest.mark.parametrize(
        "length",
        [0, 1, 2, 511, 512, 4095, 4096, 4097, 64 * KIB, 64 * KIB + 1, 200_001, MIB, 8 * MIB],
    )
    async def test_a_shard_of_any_length_comes_back(
        self, factory: ShardStoreFactory, path: str, length: int
    ) -> None:
        store = await self.opened(factory, path)
        payload = noise(length)
        await submit(store, shard_key(1), payload)
        assert await read(store, shard_key(1)) == payload
        (info,) = await store.scan(None, 10)
        assert (info.key, info.length) == (shard_key(1), length)
        store = await self.reopened(store, factory, path)
        assert await read(store, shard_key(1)) == payload
        await store.close()

    @pytest.mark.parametrize("length", [5000, 64 * KIB * 2, MIB + 77])
    async def test_ranges(self, factory: ShardStoreFactory, path: str, length: int) -> None:
        store = await self.opened(factory, path)
        payload = noise(length)
        await submit(store, shard_key(1), payload)
        source = random.Random(length)
        spans = [(0, 0), (0, 1), (length - 1, 1), (0, length), (length, 0), (1, length - 1)]
        spans += [(64 * KIB - 1, 2), (64 * KIB, 64 * KIB)] if length > 128 * KIB else []
        for _ in range(30):
            offset = source.randrange(length)
            spans.append((offset, source.randrange(length - offset + 1)))
        for offset, count in spans:
            expected = payload[offset : offset + count]
            assert await read(store, shard_key(1), offset, count) == expected
        assert await read(store, shard_key(1), 1234) == payload[1234:]
        assert await read(store, shard_key(1), length - 3, 100) == payload[-3:]
        await store.close()

    async def test_a_payload_in_pieces_is_one_run(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        whole = noise(300_000)
        view = memoryview(whole)
        pieces: list[Buffer] = [
            view[:1],
            b"",
            bytearray(view[1:5000]),
            view[5000:70_001],
            view[70_001:],
        ]
        await submit(store, shard_key(1), *pieces)
        await submit(store, shard_key(2))
        assert await read(store, shard_key(1)) == whole
        assert await read(store, shard_key(2)) == b""
        await store.close()

    async def test_a_payload_is_lent_until_done_only(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        for number, length in enumerate((100, 100_000)):
            buffer = bytearray(noise(length))
            await submit(store, shard_key(number), buffer)
            buffer[:] = bytes(length)
            assert await read(store, shard_key(number)) == noise(length)
        await store.close()

    async def test_keys_that_differ_little_are_different(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        keys = [
            shard_key(1),
            shard_key(1, 0, 1),
            shard_key(1, 1, 0),
            shard_key(2),
            shard_key(2**128 - 1, 2**32 - 1, 255),
            shard_key(0, 2**32 - 1, 0),
        ]
        await asyncio.gather(*(submit(store, key, repr(key).encode()) for key in keys))
        for key in keys:
            assert await read(store, key) == repr(key).encode()
        await store.close()

    async def test_what_is_not_there_is_not_found(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        assert await missing(store, shard_key(1))
        await submit(store, shard_key(1), b"x")
        assert await missing(store, shard_key(1, 0, 1))
        assert not await missing(store, shard_key(1))
        await store.close()

    async def test_submitting_a_key_again_replaces_the_shard(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        for generation, length in enumerate((5000, 10, 200_000, 0, 7)):
            payload = noise(length, generation)
            await submit(store, shard_key(1), payload, generation=generation)
            assert await read(store, shard_key(1)) == payload
            (info,) = await store.scan(None, 10)
            assert (info.length, info.generation) == (length, generation)
            assert store.usage().shards == 1
        store = await self.reopened(store, factory, path)
        assert await read(store, shard_key(1)) == noise(7, 4)
        (info,) = await store.scan(None, 10)
        assert info.generation == 4
        await store.close()

    async def test_items_take_effect_in_order(self, factory: ShardStoreFactory, path: str) -> None:
        """Put, put, delete, put of one key, all submitted at once; and ending in a delete."""
        store = await self.opened(factory, path)
        fates = []
        for number in range(50):
            key = shard_key(number)
            fates += [submit(store, key, b"first"), submit(store, key, b"second", sync=False)]
            fates += [submit_delete(store, key)]
            if number % 2:
                fates.append(submit(store, key, b"third %d" % number))
        await asyncio.gather(*fates)
        for _ in range(2):
            for number in range(50):
                if number % 2:
                    assert await read(store, shard_key(number)) == b"third %d" % number
                else:
                    assert await missing(store, shard_key(number))
            store = await self.reopened(store, factory, path)
        await store.close()

    async def test_unsynced_shards_are_readable_and_made_durable_by_a_sync(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        await submit(store, shard_key(1), b"one", sync=False)
        assert await read(store, shard_key(1)) == b"one"
        await submit_sync(store)
        await submit(store, shard_key(2), b"two", sync=False)
        await submit(store, shard_key(3), b"three", sync=True)
        store = await self.reopened(store, factory, path)
        assert [key.blob[-1] for key in await scan_all(store)] == [1, 2, 3]
        await store.close()

    async def test_a_sync_of_nothing_is_done(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        await asyncio.gather(*(submit_sync(store) for _ in range(3)))
        await store.close()

    async def test_done_is_called_on_the_loop_and_not_within_submit(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        loop, seen = asyncio.get_running_loop(), []
        future = loop.create_future()

        def done(error: BaseException | None) -> None:
            seen.append(asyncio.get_running_loop() is loop)
            future.set_result(error)

        coordinates = ShardCoordinates("replicate", 1, 0, 1)
        store.submit(ShardWrite(shard_key(1), [b"x"], coordinates), done)
        assert seen == []
        assert await future is None
        assert seen == [True]
        await store.close()

    async def test_many_small_shards(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        keys = [shard_key(number, number % 7, number % 3) for number in range(2000)]
        await asyncio.gather(*(submit(store, key, key.pack() * 12) for key in keys))
        for _ in range(2):
            assert await scan_all(store) == keys
            for key in keys:
                found = store.read_now(key)
                assert bytes(await store.read(key) if found is None else found) == key.pack() * 12
            assert store.usage().shards == 2000
            store = await self.reopened(store, factory, path)
        await store.close()

    async def test_large_shards_at_once(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        payloads = {shard_key(i): noise(MIB, i) for i in range(24)}
        await asyncio.gather(*(submit(store, key, each) for key, each in payloads.items()))
        store = await self.reopened(store, factory, path)
        for key, payload in payloads.items():
            assert await read(store, key) == payload
        await store.close()

    # Deleting.

    async def test_a_deleted_shard_is_gone_and_stays_so(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        keys = [shard_key(i) for i in range(20)]
        await asyncio.gather(*(submit(store, key, b"x" * 5000) for key in keys))
        await submit_delete(store, *keys[:10])
        for _ in range(2):
            assert await scan_all(store) == keys[10:]
            for key in keys[:10]:
                assert await missing(store, key)
            for key in keys[10:]:
                assert await read(store, key) == b"x" * 5000
            store = await self.reopened(store, factory, path)
        await store.close()

    async def test_deleting_what_is_not_there_is_no_error(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        await submit(store, shard_key(2), b"stays")
        await submit_delete(store, shard_key(1))
        await submit_delete(store, shard_key(1), shard_key(1), shard_key(3))
        await submit_delete(store)
        assert await scan_all(store) == [shard_key(2)]
        await store.close()

    async def test_a_deleted_key_can_be_written_again(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        await submit(store, shard_key(1), b"old")
        await submit_delete(store, shard_key(1))
        await submit(store, shard_key(1), b"new")
        store = await self.reopened(store, factory, path)
        assert await read(store, shard_key(1)) == b"new"
        await store.close()

    # Listing and counting.

    async def test_scan_is_in_key_order_and_pages(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        keys = [shard_key(n, s, p) for n in (0, 1, 255, 256) for s in (0, 1, 256) for p in (0, 5)]
        shuffled = random.Random(1).sample(keys, len(keys))
        await asyncio.gather(*(submit(store, key, b"x") for key in shuffled))
        for limit in (1, 5, len(keys), 1000):
            assert await scan_all(store, limit) == keys
        assert [info.key for info in await store.scan(keys[3], 2)] == keys[4:6]
        between = keys[3]._replace(position=200)
        assert [info.key for info in await store.scan(between, 1)] == [keys[4]]
        assert await store.scan(keys[-1], 10) == []
        await store.close()

    async def test_scan_of_an_empty_store(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        assert await store.scan(None, 10) == []
        await store.close()

    async def test_usage_follows_what_is_held(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        empty = store.usage()
        assert (empty.shards, empty.live_bytes) == (0, 0)
        for i in range(10):
            await submit(store, shard_key(i), noise(50_000, i))
        full = store.usage()
        assert full.shards == 10
        assert 500_000 <= full.live_bytes < 600_000
        assert full.live_bytes <= full.used_bytes <= full.capacity_bytes
        await submit_delete(store, *(shard_key(i) for i in range(5)))
        half = store.usage()
        assert half.shards == 5
        assert 250_000 <= half.live_bytes < 300_000
        store = await self.reopened(store, factory, path)
        assert store.usage().shards == 5
        assert store.usage().live_bytes == half.live_bytes
        await store.close()

    # A long life.

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_random_operations_agree_with_a_dict(
        self, factory: ShardStoreFactory, path: str, seed: int
    ) -> None:
        store = await self.opened(factory, path)
        source, model = random.Random(seed), dict[ShardKey, bytes]()
        for step in range(40):
            fates = []
            for i in range(source.randrange(1, 30)):
                key = shard_key(source.randrange(60))
                if source.random() < 0.3:
                    fates.append(submit_delete(store, key))
                    model.pop(key, None)
                else:
                    length = source.choice((0, 1, 300, 5000, 5000, 80_000))
                    model[key] = noise(length, 1000 * step + i)
                    sync = source.random() < 0.5
                    fates.append(submit(store, key, model[key], sync=sync))
            await asyncio.gather(*fates)
            if source.random() < 0.15:
                store = await self.reopened(store, factory, path)
            assert await scan_all(store, source.choice((7, 1000))) == sorted(model)
            for key in source.sample(sorted(model), min(10, len(model))):
                assert await read(store, key) == model[key]
        for key, payload in model.items():
            assert await read(store, key) == payload
        await store.close()

    async def test_reads_during_writes(self, factory: ShardStoreFactory, path: str) -> None:
        store = await self.opened(factory, path)
        payloads = {shard_key(i): noise(20_000, i) for i in range(20)}
        await asyncio.gather(*(submit(store, key, each) for key, each in payloads.items()))

        async def rewrite() -> None:
            for _ in range(10):
                pairs = payloads.items()
                await asyncio.gather(*(submit(store, key, each) for key, each in pairs))

        writing = asyncio.create_task(rewrite())
        while not writing.done():
            for key, payload in payloads.items():
                assert await read(store, key) == payload
        await writing
        await store.close()
