"""Large objects: bytes per second, whole and with two disks gone."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Final

from benchmarks.bench import Bench, Result, Samples, numbered, rate
from benchmarks.load import Connection, Failed, transfer
from benchmarks.server import remove_disks
from benchmarks.small import make_bucket
from benchmarks.yardsticks import device_writes_per_second, md5_bytes_per_second
from objectio.limits import KIB, MIB

OBJECT_BYTES: Final = 64 * MIB
BUCKET: Final = "bench-large"
LOST_DISKS: Final = (1, 4)
NOTICED_SECONDS: Final = 60.0
EXPANSION: Final = 1.5  # 4+2: six bytes on the devices for four of the object


def put_one(bench: Bench, path: str, body: bytes) -> None:
    connection = Connection("127.0.0.1", bench.server.port)
    try:
        connection.put(bench.server.path("PUT", path), memoryview(body))
    finally:
        connection.close()


def _check_one(bench: Bench, path: str, body: bytes) -> None:
    connection = Connection("127.0.0.1", bench.server.port)
    _, held = connection.get(bench.server.path("GET", path), keep=True)
    connection.close()
    if held != body:
        raise Failed(f"{path} is not what was put")


def _get_rate(bench: Bench, path: str) -> float:
    """One object after the other on one connection, as one client would."""
    paths = [bench.server.path("GET", path)] * bench.settings.large_transfers
    return transfer(bench.server.endpoint, "GET", paths, size=OBJECT_BYTES, at_once=1)


class GetLarge:
    name = "get64m"
    title = "GET 64 MiB"
    aim = "≥ 0.50 × empty handler that streams"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()

    def prepare(self) -> None:
        make_bucket(self._bench, BUCKET)
        body = random.Random(1).randbytes(OBJECT_BYTES)
        put_one(self._bench, f"/{BUCKET}/get", body)
        _check_one(self._bench, f"/{BUCKET}/get", body)

    def round(self) -> None:
        bench = self._bench
        paths = [f"/stream/{OBJECT_BYTES}"] * bench.settings.large_transfers
        null = transfer(bench.null.endpoint, "GET", paths, size=OBJECT_BYTES, at_once=1)
        self._samples.add("null", null)
        self._samples.add("ours", _get_rate(bench, f"/{BUCKET}/get"))

    def result(self) -> Result:
        ours, null = self._samples.median("ours"), self._samples.median("null")
        return Result(
            name=self.name,
            title=self.title,
            value=rate(ours),
            yardstick=rate(null),
            ratio=f"{ours / null:.2f}",
            aim=self.aim,
            passed=ours >= 0.50 * null,
            samples=self._samples.by_name,
        )


class PutLarge:
    """The yardstick is what cannot be beaten: MD5 for the ETag, HTTP in, the devices."""

    name = "put64m"
    title = "PUT 64 MiB durable"
    aim = "≥ 0.60 × min(MD5, empty handler, device/1.5)"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()

    def prepare(self) -> None:
        make_bucket(self._bench, f"{BUCKET}-put")

    def round(self) -> None:
        bench, samples = self._bench, self._samples
        seconds = min(2.0, bench.settings.seconds)
        samples.add("md5", md5_bytes_per_second(seconds))
        device = device_writes_per_second(bench.work_dir, 4 * MIB, seconds)
        samples.add("device", 4 * MIB * device)
        syncs = device_writes_per_second(bench.work_dir, 4 * KIB, seconds)
        samples.add("device_syncs_per_second", syncs)
        count = bench.settings.large_transfers
        paths = numbered(f"/{BUCKET}-put/put-", count)
        signed = [bench.server.path("PUT", path) for path in paths]
        for name, endpoint in (("null", bench.null.endpoint), ("ours", bench.server.endpoint)):
            found = transfer(endpoint, "PUT", signed, size=OBJECT_BYTES, at_once=1)
            samples.add(name, found)

    def result(self) -> Result:
        median = self._samples.median
        parts = {
            "MD5": median("md5"),
            "empty handler": median("null"),
            "device/1.5": median("device") / EXPANSION,
        }
        floor = min(parts, key=lambda name: parts[name])
        ours = median("ours")
        return Result(
            name=self.name,
            title=self.title,
            value=rate(ours),
            yardstick=f"{rate(parts[floor])} ({floor})",
            ratio=f"{ours / parts[floor]:.2f}",
            aim=self.aim,
            passed=ours >= 0.60 * parts[floor],
            samples=self._samples.by_name,
        )


class GetDegraded:
    """The directories of two disks are removed while the server runs.

    The server still has their files open, and Linux lets it read them: so the measurement begins
    when the server's log calls both down, which a write makes it notice at the latest.
    """

    name = "degraded"
    title = "GET 64 MiB, 2 disks missing"
    aim = "≥ 0.60 × GET 64 MiB with all"

    def __init__(self, bench: Bench) -> None:
        self._body = random.Random(2).randbytes(OBJECT_BYTES)
        self._bench = bench
        self._samples = Samples()

    def prepare(self) -> None:
        make_bucket(self._bench, f"{BUCKET}-degraded")
        for path in self._paths():
            put_one(self._bench, path, self._body)

    def round(self) -> None:
        """All rounds at once: disks do not come back."""
        for _ in range(self._bench.settings.rounds):
            self._measure("healthy")
        log_bytes = self._bench.server.log.stat().st_size
        remove_disks(self._bench.server, LOST_DISKS)
        self._wait_until_noticed(log_bytes)
        for path in self._paths():
            _check_one(self._bench, path, self._body)
        for _ in range(self._bench.settings.rounds):
            self._measure("degraded")

    def result(self) -> Result:
        degraded, healthy = self._samples.median("degraded"), self._samples.median("healthy")
        return Result(
            name=self.name,
            title=self.title,
            value=rate(degraded),
            yardstick=rate(healthy),
            ratio=f"{degraded / healthy:.2f}",
            aim=self.aim,
            passed=degraded >= 0.60 * healthy,
            samples=self._samples.by_name,
        )

    def _paths(self) -> list[str]:
        """Several objects, since it is chance which of an object's shards are on the lost disks."""
        return list(numbered(f"/{BUCKET}-degraded/get-", 6))

    def _measure(self, name: str) -> None:
        bench = self._bench
        paths = [bench.server.path("GET", path) for path in self._paths()]
        found = transfer(bench.server.endpoint, "GET", paths, size=OBJECT_BYTES, at_once=1)
        self._samples.add(name, found)

    def _wait_until_noticed(self, since: int) -> None:
        server = self._bench.server
        deadline = time.monotonic() + NOTICED_SECONDS
        attempt = 0
        while len(down := server.osds_down(since)) < len(LOST_DISKS):
            if time.monotonic() > deadline:
                raise Failed(f"disks {LOST_DISKS} are gone and the log calls down: {down}")
            attempt += 1
            # Without two disks a write may be refused; that it was tried is what matters.
            with contextlib.suppress(Failed):
                put_one(self._bench, f"/{BUCKET}-degraded/notice-{attempt}", b"objectio")
            time.sleep(0.1)
