"""The storage engine below the API: `python -m benchmarks.engine [--only repair] [--scale 0.1]`.

repair  one of six disks is wiped under the running server: how fast its shards are made anew, beside
        what the device writes and what the codec computes
scrub   how fast everything is read and verified with the limit off, beside reading the same files
        from front to back with the same checksum
cache   hit rates of a device's cache under a zipfian load, with a scan in the middle
local   what one lost shard costs of Reed-Solomon and of a locally repairable code

Yardsticks are measured in the same rounds; medians count. At scale 1 it writes about 20 GB to the
current directory, or to --dir.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from benchmarks import codecs_repair, engine_cache
from benchmarks.bench import rate
from benchmarks.codecs import time_us
from benchmarks.load import Connection
from benchmarks.server import ObjectIOServer, running
from benchmarks.yardsticks import device_writes_per_second
from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import FAMILY_RS_CAUCHY, CodecProfile
from objectio.erasure import ErasureCode
from objectio.limits import GIB, KIB, MIB

K, M, DISKS = 4, 2, 6
WIPED: Final = 3
BUCKET: Final = "bench-engine"
UNLIMITED: Final = str(10**15)
_PATIENCE_SECONDS: Final = 900.0
_LOOK_SECONDS: Final = 0.005


class Objects(NamedTuple):
    title: str
    size: int
    total: int


SIZES: Final = (
    Objects("64 MiB", 64 * MIB, 2 * GIB),
    Objects("1 MiB", MIB, 2 * GIB),
    Objects("16 KiB", 16 * KIB, GIB),
)


class Store:
    """A server with objects of one size. `bytes_per_disk` are of shards, without headers."""

    def __init__(
        self, work_dir: Path, objects: Objects, scale: float, settings: dict[str, str]
    ) -> None:
        self.server = ObjectIOServer(work_dir / "store", settings=settings)
        self._objects = objects
        self._count = max(2, int(objects.total * scale / objects.size))
        self.data_bytes = self._count * objects.size
        self.bytes_per_disk = self.data_bytes * (K + M) / K / DISKS

    def fill(self) -> None:
        connection = Connection("127.0.0.1", self.server.port)
        body = bytearray(random.Random(1).randbytes(self._objects.size))
        connection.put(self.server.path("PUT", f"/{BUCKET}"), memoryview(b""))
        for number in range(self._count):
            body[:8] = number.to_bytes(8, "big")
            path = self.server.path("PUT", f"/{BUCKET}/{number:07d}")
            connection.put(path, memoryview(body))
        connection.close()

    def log_lines(self, pattern: str) -> int:
        return len(re.findall(pattern, self.server.log.read_text(errors="replace")))

    def metric(self, name: str) -> float:
        connection = Connection("127.0.0.1", self.server.port)
        _, text = connection.get("/metrics", keep=True)
        connection.close()
        return next(
            float(line.split()[-1])
            for line in text.decode().splitlines()
            if line.startswith(f"{name} ")
        )


def repair(work_dir: Path, scale: float, rounds: int) -> Iterator[str]:
    decode = restored_per_second()
    yield f"{'objects of':<18} {'a disk holds':>12} {'restored':>12} {'to device':>10} {'to codec':>10}"
    settings = {
        "store.repair_bytes_per_second": UNLIMITED,
        "store.scrub_interval_seconds": "0",
        "osd.check_seconds": "0.05",
    }
    for objects in SIZES:
        store = Store(_fresh(work_dir), objects, scale, settings)
        found, written = [], []
        with running(store.server):
            store.fill()
            for number in range(rounds):
                found.append(store.bytes_per_disk / _wipe(store, number + 1))
                written.append(4 * MIB * device_writes_per_second(work_dir, 4 * MIB, 2.0))
        speed, device = statistics.median(found), statistics.median(written)
        yield (
            f"{objects.title:<18} {store.bytes_per_disk / MIB:>8,.0f} MiB {rate(speed):>12} "
            f"{speed / device:>8.2f} × {speed / decode:>8.3f} ×"
        )
    yield f"the device writes {rate(device)}; the codec restores {rate(decode)} of one lost shard"


def _wipe(store: Store, nth: int) -> float:
    """Seconds from the moment the disk is missed until it is refilled."""
    shutil.rmtree(store.server.disks[WIPED])
    _wait(lambda: store.log_lines(f"OSD {WIPED} is down") >= nth)
    began = time.perf_counter()
    _wait(lambda: store.log_lines(f"OSD {WIPED} is refilled") >= nth)
    return time.perf_counter() - began


def restored_per_second() -> float:
    """Bytes of one lost shard of 4+2 that the codec makes, in stripes of 4 MiB, one thread."""
    from objectio_ec_isal.codec import IsalFactory

    codec = IsalFactory().codec(CodecProfile(FAMILY_RS_CAUCHY, K, M))
    code = ErasureCode(codec, ThreadModel.PARALLEL)
    length = code.shard_length(4 * MIB)
    stripes = []
    for number in range(16):
        buffer = memoryview(bytearray(random.Random(number).randbytes(K * length)))
        shards = dict(enumerate(map(bytes, code.encode_stripe(buffer, 4 * MIB))))
        stripes.append({i: shards[i] for i in range(1, K + 1)})
    turn = 0

    def call() -> None:
        nonlocal turn
        turn += 1
        code.reconstruct(stripes[turn % len(stripes)], [0], 4 * MIB)

    return length / time_us(call, 1.0) * 1e6


def scrub(work_dir: Path, scale: float, rounds: int) -> Iterator[str]:
    yield f"{'objects of':<18} {'a pass reads':>12} {'scrubbed':>12} {'raw, verified':>14} {'ratio':>8}"
    settings = {
        "store.scrub_bytes_per_second": UNLIMITED,
        "store.scrub_interval_seconds": "0.001",
    }
    for objects in SIZES:
        store = Store(_fresh(work_dir), objects, scale, settings)
        with running(store.server):
            store.fill()
            found = [DISKS * store.bytes_per_disk / _pass(store) for _ in range(rounds)]
        raw = [raw_bytes_per_second(store.server.disks) for _ in range(rounds)]
        speed, yardstick = statistics.median(found), statistics.median(raw)
        yield (
            f"{objects.title:<18} {DISKS * store.bytes_per_disk / MIB:>8,.0f} MiB {rate(speed):>12} "
            f"{rate(yardstick):>14} {speed / yardstick:>6.2f} ×"
        )


def _pass(store: Store) -> float:
    """Seconds of one whole pass: from the end of one to the end of the next."""
    name = "objectio_store_scrub_passes_total"
    first = store.metric(name) + 1  # what is under way has begun before this
    _wait(lambda: store.metric(name) > first)
    began, passes = time.perf_counter(), store.metric(name)
    _wait(lambda: store.metric(name) > passes)
    return (time.perf_counter() - began) / (store.metric(name) - passes)


def raw_bytes_per_second(disks: Sequence[Path]) -> float:
    """One thread: files from front to back, and the checksum that the log has of each 64 KiB."""
    began, size = time.perf_counter(), 0
    buffer = memoryview(bytearray(4 * MIB))
    for disk in disks:
        fd = os.open(disk / "log", os.O_RDONLY)
        try:
            while count := os.readv(fd, [buffer]):
                for at in range(0, count, 64 * KIB):
                    xxh3_64_intdigest(buffer[at : min(at + 64 * KIB, count)])
                size += count
        finally:
            os.close(fd)
    return size / (time.perf_counter() - began)


def cache(work_dir: Path, scale: float, rounds: int) -> Iterator[str]:
    return engine_cache.measure(_fresh(work_dir), scale)


def local(work_dir: Path, scale: float, rounds: int) -> Iterator[str]:
    yield from codecs_repair.report(codecs_repair.run()).splitlines()


SUBJECTS: Final[dict[str, Callable[[Path, float, int], Iterator[str]]]] = {
    "repair": repair,
    "scrub": scrub,
    "cache": cache,
    "local": local,
}


def main() -> int:
    arguments = _arguments()
    for name in arguments.only:
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="objectio-bench-") as work_dir:
            for line in SUBJECTS[name](Path(work_dir), arguments.scale, arguments.rounds):
                print(line, flush=True)
    return 0


def _wait(ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not ask():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {_PATIENCE_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _fresh(work_dir: Path) -> Path:
    for each in work_dir.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    return work_dir


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SUBJECTS),
        metavar="NAME,…",
        help=", ".join(SUBJECTS),
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the data that is stored (1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path(), help="where the store goes")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
