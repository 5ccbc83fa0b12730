"""Rates of a key-value engine through `KVStore`: `python benchmarks/kv.py [MODULE:ATTRIBUTE …]`.

Each engine is opened in a directory of its own under the current one, which must be on the device
that is to be measured.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from objectio.abc.kv import Absent
from objectio.kv import KVStore
from objectio.testing.kv_child import load, open_at

ENGINES = [
    "objectio.kv.memory:DRIVER",
    "objectio_kv_lmdb.plugin:DRIVER",
    "objectio_kv_leveldb.plugin:DRIVER",
]
ROWS = 20_000
VALUE = b"v" * 300


def key(number: int) -> bytes:
    return b"objects/bucket/some/prefix/%010d" % (number * 7919 % ROWS)


def reads(store: KVStore) -> None:
    began = perf_counter()
    for number in range(ROWS):
        store.get(key(number))
    print(f"  get            {ROWS / (perf_counter() - began):>12,.0f}/s")
    began = perf_counter()
    for _ in range(50):
        rows = store.scan(limit=1000)
    print(f"  scan 1000 rows {50 * len(rows) / (perf_counter() - began):>12,.0f} rows/s")


async def commits(store: KVStore, callers: int, total: int) -> None:
    numbers = iter(range(total))

    async def caller(prefix: bytes) -> None:
        for number in numbers:
            await store.commit([Absent(prefix)], [(prefix + b"%d" % number, VALUE)])

    began = perf_counter()
    await asyncio.gather(*(caller(b"w/%d/%d/" % (callers, which)) for which in range(callers)))
    print(f"  commit by {callers:<4} {total / (perf_counter() - began):>12,.0f}/s")


async def measure(target: str, directory: Path) -> None:
    descriptor = load(target)
    store = KVStore(open_at(descriptor, {}, directory), descriptor.capabilities, descriptor.threads)
    print(target)
    for start in range(0, ROWS, 5000):
        store.commit_sync([], [(key(number), VALUE) for number in range(start, start + 5000)])
    reads(store)
    for callers, total in ((1, 1000), (16, 8000), (64, 20_000), (256, 40_000)):
        await commits(store, callers, total)
    await store.close()


def main() -> None:
    for number, target in enumerate(sys.argv[1:] or ENGINES):
        with tempfile.TemporaryDirectory(dir=".") as directory:
            asyncio.run(measure(target, Path(directory) / str(number)))


if __name__ == "__main__":
    main()
