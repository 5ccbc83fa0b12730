"""Conformance of a shard store, second half: damage, full and lost devices, killed processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from objectio.abc.shardstore import (
    ShardStore,
    ShardStoreFactory,
    StoreState,
)
from objectio.errors import ChecksumMismatch, DeviceFailed, DeviceFull
from objectio.limits import MIB
from objectio.model.stripe import ShardKey
from objectio.testing import shardstore_writer as writer
from objectio.testing.shardstore_calls import (
    CLUSTER,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
    submit_sync,
)

_PATIENCE_SECONDS = 30.0


class ShardStoreFaults:
    """Part of `ShardStoreConformance`, which says how to use it."""

    make: ClassVar[str] = ""
    persistent: ClassVar[bool] = True
    """False if the shards end with the process; the tests that kill one are then skipped."""
    small_device_bytes: ClassVar[int] = 32 * MIB

    @pytest.fixture
    def factory(self, tmp_path: Path) -> ShardStoreFactory:
        return writer.make_factory(self.make, tmp_path / "data")

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        """Where a device may be prepared; nothing is there yet."""
        return str(tmp_path / "device")

    def corrupt(self, factory: ShardStoreFactory, path: str, payload: bytes) -> None:
        """Flip one bit in the middle of every copy of the payload on the device."""
        root = Path(path)
        files = [root] if root.is_file() else [each for each in root.rglob("*") if each.is_file()]
        hits = 0
        for file in files:
            held = file.read_bytes()
            at = held.find(payload)
            while at >= 0:
                with file.open("r+b") as writable:
                    writable.seek(at + len(payload) // 2)
                    writable.write(bytes([payload[len(payload) // 2] ^ 0x10]))
                hits += 1
                at = held.find(payload, at + 1)
        assert hits, "the payload is not on the device as it is; override corrupt()"

    def remove(self, path: str) -> None:
        """Take the device away while it is open."""
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()

    async def opened(self, factory: ShardStoreFactory, path: str) -> ShardStore:
        if factory.probe(path) is None:
            factory.prepare(path, cluster_id=CLUSTER)
        return await factory.open(path, cluster_id=CLUSTER)

    async def reopened(
        self, store: ShardStore, factory: ShardStoreFactory, path: str
    ) -> ShardStore:
        await store.close()
        return await self.opened(factory, path)

    # Damage.

    @pytest.mark.parametrize("length", [100, 5000, 300_000])
    async def test_a_flipped_bit_is_an_error_and_never_wrong_bytes(
        self, factory: ShardStoreFactory, path: str, length: int
    ) -> None:
        store = await self.opened(factory, path)
        payloads = {shard_key(i): noise(length, i) for i in range(5)}
        await asyncio.gather(*(submit(store, key, each) for key, each in payloads.items()))
        await store.close()
        self.corrupt(factory, path, payloads[shard_key(2)])
        store = await self.opened(factory, path)
        with contextlib.suppress(ChecksumMismatch):
            assert store.read_now(shard_key(2)) is None
        with pytest.raises(ChecksumMismatch):
            await store.read(shard_key(2))
        with pytest.raises(ChecksumMismatch):
            await store.read(shard_key(2), length // 2, 1)
        for key in set(payloads) - {shard_key(2)}:
            assert await read(store, key) == payloads[key]
        assert store.state is StoreState.UP
        await submit(store, shard_key(2), payloads[shard_key(2)])
        assert await read(store, shard_key(2)) == payloads[shard_key(2)]
        await store.close()

    async def test_a_bit_flipped_while_open_never_gives_wrong_bytes(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        payload = noise(30_000)
        await submit(store, shard_key(1), payload)
        self.corrupt(factory, path, payload)
        try:
            found = store.read_now(shard_key(1))
            assert bytes(await store.read(shard_key(1)) if found is None else found) == payload
        except ChecksumMismatch:
            pass
        await store.close()

    async def test_a_removed_device_is_noticed_and_acknowledges_nothing(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        await submit(store, shard_key(1), b"before")
        await store.check()
        assert (store.state, store.failure) == (StoreState.UP, None)
        self.remove(path)
        with pytest.raises(DeviceFailed):
            await store.check()
        with pytest.raises(DeviceFailed):
            await submit(store, shard_key(2), b"after")
        assert store.state is StoreState.FAILED
        assert store.failure is not None
        for later in (
            submit(store, shard_key(3), b"later", sync=False),
            submit_delete(store, shard_key(1)),
            submit_sync(store),
        ):
            with pytest.raises(DeviceFailed):
                await later
        await store.close()

    async def test_a_removed_device_can_be_prepared_anew(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        old = store.device_id
        await submit(store, shard_key(1), b"old")
        self.remove(path)
        with pytest.raises(DeviceFailed):
            await submit_sync(store)
        await store.close()
        store = await self.opened(factory, path)
        assert store.device_id != old
        assert await scan_all(store) == []
        await submit(store, shard_key(2), b"new")
        await store.close()

    async def test_a_full_device_refuses_and_still_reads_and_deletes(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        factory.prepare(path, cluster_id=CLUSTER, size_bytes=self.small_device_bytes)
        store = await factory.open(path, cluster_id=CLUSTER)
        payload, held, refused = noise(200_000), list[ShardKey](), 0
        numbers = range(1, 2 + self.small_device_bytes // len(payload))
        for number in numbers:
            try:
                await submit(store, shard_key(number), payload, sync=number % 4 == 0)
                held.append(shard_key(number))
            except DeviceFull:
                refused += 1
        assert refused > 0
        assert len(held) * len(payload) > 0.5 * self.small_device_bytes
        assert store.state is StoreState.FULL
        assert await scan_all(store) == held
        for key in held:
            assert await read(store, key) == payload
        await submit_delete(store, *held)
        assert await scan_all(store) == []
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:  # space comes back, at once or in a while
            try:
                await submit(store, shard_key(999), payload)
                break
            except DeviceFull:
                assert time.monotonic() < deadline, "a device that is empty again stays full"
                await asyncio.sleep(0.05)
        assert await read(store, shard_key(999)) == payload
        await store.close()

    # Ends.

    async def test_close_flushes_and_may_be_repeated(
        self, factory: ShardStoreFactory, path: str
    ) -> None:
        store = await self.opened(factory, path)
        fates = [submit(store, shard_key(i), b"x" * 1000, sync=False) for i in range(10)]
        await store.close()
        await store.close()
        assert store.state is StoreState.CLOSED
        await asyncio.gather(*fates)
        with pytest.raises(DeviceFailed):
            await submit(store, shard_key(11), b"late")
        store = await self.opened(factory, path)
        assert len(await scan_all(store)) == 10
        await store.close()

    @pytest.mark.parametrize("acknowledged", [60, 400, 1500])
    async def test_a_killed_process_loses_nothing_that_it_acknowledged(
        self, factory: ShardStoreFactory, path: str, tmp_path: Path, acknowledged: int
    ) -> None:
        if not self.persistent:
            pytest.skip("the shards end with the process")
        factory.prepare(path, cluster_id=CLUSTER)
        acks = await asyncio.to_thread(self._write_and_kill, tmp_path, path, acknowledged)
        for _ in range(2):
            store = await self.opened(factory, path)
            await self._check_survivors(store, acks)
            await store.close()

    def _write_and_kill(self, tmp_path: Path, path: str, acknowledged: int) -> list[int]:
        """The operations that another process acknowledged before it was killed."""
        module = "objectio.testing.shardstore_writer"
        child = subprocess.Popen(
            [sys.executable, "-m", module, self.make, str(tmp_path / "data"), path, CLUSTER],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert child.stdout is not None
        acks: list[int] = []
        with child, child.stdout as lines:
            for line in lines:
                acks.append(int(line))
                if len(acks) == acknowledged:
                    child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL, "the writer ended by itself"
        return acks

    async def _check_survivors(self, store: ShardStore, acks: Sequence[int]) -> None:
        """Each key holds what its last acknowledged operation left, or a later one that was under
        way. Unsynced operations count once a later synced one was acknowledged."""
        promised = max(i for i in acks if writer.operation(i).sync)
        possible: dict[ShardKey, list[bytes | None]] = {}
        for i in range(max(acks) + writer.IN_FLIGHT + 1):
            key, payload, _ = writer.operation(i)
            if i <= promised:
                possible[key] = []
            possible.setdefault(key, [None]).append(payload)
        held = set(await scan_all(store))
        for key, payloads in possible.items():
            found = await read(store, key) if key in held else None
            assert found in payloads, f"{key} holds neither what was promised nor anything later"
        assert held <= set(possible)
