"""Reads while one disk takes two seconds for each: `python -m benchmarks.slow`.

The p99 of GETs with one disk so slow over the p99 with all of them well, in turns in the same run;
each round begins at the moment at which the disk becomes slow. The aim is a ratio below 3. The disk
is slowed by the filter `fault`, which is there in both cases.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.load import Connection, wrk
from benchmarks.server import ObjectIOServer, running
from objectio.filters.faultrules import FaultRule, write_rules
from objectio.limits import KIB, MIB

READ_MS: Final = 2000.0
SLOW_OSD: Final = 2
RATIO_MAX: Final = 3.0
BUCKET: Final = "bench-slow"
_WELL_SECONDS_MAX: Final = 120.0


class Load(NamedTuple):
    """What is read, by how many clients at once. `disk_ms` is what each read of each disk takes at
    least, as if it came from a turning disk; 0: from the page cache."""

    title: str
    size: int
    objects: int
    connections: int
    disk_ms: float = 0.0


LOADS: Final = (
    Load("4 KiB", 4 * KIB, 500, 32),
    Load("256 KiB", 256 * KIB, 100, 16),
    Load("4 MiB", 4 * MIB, 20, 4),
    Load("64 KiB from disks of 2 ms", 64 * KIB, 200, 8, 2.0),
)


class Disks:
    def __init__(self, path: Path, server: ObjectIOServer) -> None:
        self._path = path
        self._server = server

    def set(self, disk_ms: float, slow: Sequence[int] = ()) -> None:
        rules = [FaultRule(operation="read", device=f"osd{osd}", delay_ms=READ_MS) for osd in slow]
        if disk_ms:
            rules += [
                FaultRule(operation="read", device=f"osd{osd}", delay_ms=disk_ms)
                for osd in range(6)
                if osd not in slow
            ]
        write_rules(self._path, *rules)

    def wait_well(self) -> None:
        deadline = time.monotonic() + _WELL_SECONDS_MAX
        while self._slow_osds():
            if time.monotonic() > deadline:
                raise RuntimeError("the disk does not become well again")
            time.sleep(0.1)

    def _slow_osds(self) -> float:
        with urllib.request.urlopen(f"{self._server.endpoint}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        name = "objectio_store_slow_osds "
        return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def measure(server: ObjectIOServer, disks: Disks, load: Load, rounds: int, seconds: float) -> bool:
    paths = [f"/{BUCKET}/{load.size}-{load.disk_ms:g}-{i}" for i in range(load.objects)]
    connection = Connection("127.0.0.1", server.port)
    for number, path in enumerate(paths):
        body = random.Random(number).randbytes(load.size)
        connection.put(server.path("PUT", path), memoryview(body))
    connection.close()
    signed = [server.path("GET", path) for path in paths]
    found: dict[str, list[float]] = {"well": [], "slow": []}
    rates: dict[str, list[float]] = {"well": [], "slow": []}
    for number in range(rounds):
        for name in found if number % 2 == 0 else reversed(found):
            disks.set(load.disk_ms, [SLOW_OSD] if name == "slow" else [])
            if name == "well":
                disks.wait_well()
            result = wrk(
                server.endpoint, "GET", signed, seconds=seconds, connections=load.connections
            )
            found[name].append(result.p99_ms)
            rates[name].append(result.per_second)
    well, slow = (statistics.median(found[name]) for name in ("well", "slow"))
    print(
        f"| {load.title} | {load.connections} | {well:.1f} ms | {slow:.1f} ms | {slow / well:.2f} | "
        f"{statistics.median(rates['well']):,.0f}/s | {statistics.median(rates['slow']):,.0f}/s |",
        flush=True,
    )
    return slow < RATIO_MAX * well


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="objectio-bench-", dir=Path.cwd())
        where = Path(stack.enter_context(folder))
        rules = where / "faults.toml"
        server = ObjectIOServer(
            where / "store", settings={"osd.filters": "fault", "filter.fault.path": str(rules)}
        )
        stack.enter_context(running(server))
        connection = Connection("127.0.0.1", server.port)
        connection.put(server.path("PUT", f"/{BUCKET}"), memoryview(b""))
        connection.close()
        print("| GET | clients | p99, all well | p99, one slow | ratio | rate, well | rate, slow |")
        print("|---|---|---|---|---|---|---|")
        disks = Disks(rules, server)
        passed = [
            measure(server, disks, load, arguments.rounds, arguments.seconds) for load in LOADS
        ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
