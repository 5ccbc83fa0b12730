"""Small objects: requests per second, and what one costs on the devices."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.bench import Bench, Result, Samples, numbered
from benchmarks.load import Connection, Failed, WrkResult, transfer, wrk
from objectio.limits import KIB

BUCKET: Final = "bench-small"
OBJECT_BYTES: Final = 4 * KIB
OBJECTS: Final = 2_000
PUT_KEYS: Final = 20_000
CONNECTIONS: Final = 32
_SETTLED_SECONDS: Final = 12.0  # a device writes a checkpoint, which frees space, every ten
_SETTLE_SECONDS_MAX: Final = 90.0


def make_bucket(bench: Bench, bucket: str) -> None:
    connection = Connection("127.0.0.1", bench.server.port)
    connection.put(bench.server.path("PUT", f"/{bucket}"), memoryview(b""))
    connection.close()


class _Rate:
    """Requests per second of ours and of the empty handler, by the same requests."""

    name: str
    title: str
    method: str
    share: float
    body_bytes: int

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()
        self._paths: list[str] = []

    @property
    def aim(self) -> str:
        return f"≥ {self.share:.2f} × empty handler"

    def round(self) -> None:
        for name, endpoint in (
            ("null", self._bench.null.endpoint),
            ("ours", self._bench.server.endpoint),
        ):
            found = self._wrk(endpoint)
            self._samples.add(name, found.per_second)
            self._samples.add(f"{name}_p50_ms", found.p50_ms)
            self._samples.add(f"{name}_p99_ms", found.p99_ms)

    def _wrk(self, endpoint: str) -> WrkResult:
        return wrk(
            endpoint,
            self.method,
            self._paths,
            seconds=self._bench.settings.seconds,
            connections=CONNECTIONS,
            body_bytes=self.body_bytes,
        )

    def result(self) -> Result:
        ours, null = self._samples.median("ours"), self._samples.median("null")
        p99_ms = self._samples.median("ours_p99_ms")
        return Result(
            name=self.name,
            title=self.title,
            value=f"{ours:,.0f}/s (p99 {p99_ms:.1f} ms)",
            yardstick=f"{null:,.0f}/s",
            ratio=f"{ours / null:.2f}",
            aim=self.aim,
            passed=ours >= self.share * null,
            samples=self._samples.by_name,
        )


class GetSmall(_Rate):
    name = "get4k"
    title = f"GET 4 KiB, {CONNECTIONS} connections"
    method = "GET"
    share = 0.22
    body_bytes = 0

    def prepare(self) -> None:
        server = self._bench.server
        make_bucket(self._bench, BUCKET)
        paths = numbered(f"/{BUCKET}/get-", OBJECTS)
        body = memoryview(b"objectio" * (OBJECT_BYTES // 8))
        connection = Connection("127.0.0.1", server.port)
        for path in paths:
            connection.put(server.path("PUT", path), body)
        for path in paths[:: OBJECTS // 10]:
            _, held = connection.get(server.path("GET", path), keep=True)
            if held != body:
                raise Failed(f"{path} is not what was put")
        connection.close()
        self._paths = [server.path("GET", path) for path in paths]


class PutSmall(_Rate):
    name = "put4k"
    title = f"PUT 4 KiB durable, {CONNECTIONS} connections"
    method = "PUT"
    share = 0.15
    body_bytes = OBJECT_BYTES

    def prepare(self) -> None:
        make_bucket(self._bench, f"{BUCKET}-put")
        paths = numbered(f"/{BUCKET}-put/put-", PUT_KEYS)
        self._paths = [self._bench.server.path("PUT", path) for path in paths]


class SmallSpace:
    """Bytes of the devices for each object of 1 KiB, all told: shards, headers, metadata."""

    name = "space1k"
    title = "device bytes of a 1 KiB object"
    aim = "≤ 8,192 B"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()
        self._round = 0

    def prepare(self) -> None:
        make_bucket(self._bench, f"{BUCKET}-space")

    def round(self) -> None:
        server, count = self._bench.server, self._bench.settings.small_objects
        start, self._round = self._round * count, self._round + 1
        paths = numbered(f"/{BUCKET}-space/o-", count, start)
        before = self._settled_bytes()
        put_each(self._bench, [server.path("PUT", path) for path in paths], KIB)
        self._samples.add("bytes", (server.disk_bytes() - before) / count)

    def _settled_bytes(self) -> int:
        """Once what was overwritten before is collected and its space given back."""
        deadline = time.monotonic() + _SETTLE_SECONDS_MAX
        since, seen = time.monotonic(), self._bench.server.disk_bytes()
        while time.monotonic() < min(deadline, since + _SETTLED_SECONDS):
            time.sleep(0.5)
            now = self._bench.server.disk_bytes()
            if now != seen:
                since, seen = time.monotonic(), now
        return seen

    def result(self) -> Result:
        found = self._samples.median("bytes")
        return Result(
            name=self.name,
            title=self.title,
            value=f"{found:,.0f} B",
            yardstick="1,024 B",
            ratio=f"{found / 1024:.2f}",
            aim=self.aim,
            passed=found <= 8192,
            samples=self._samples.by_name,
        )


def put_each(bench: Bench, paths: list[str], size: int) -> None:
    """Every path exactly once, over as many connections as the rate is measured with."""
    transfer(bench.server.endpoint, "PUT", paths, size=size, at_once=CONNECTIONS)
