"""Small objects as programs use them: a mix of requests, and writes that keep what they replace."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from benchmarks.bench import Bench, Result, Samples, numbered
from benchmarks.load import Connection, Failed, wrk
from benchmarks.small import CONNECTIONS, OBJECT_BYTES, OBJECTS, make_bucket

BUCKET: Final = "bench-mixed"
REQUESTS: Final = 20_000
SHARES: Final = {"GET": 70, "PUT": 20, "LIST": 5, "DELETE": 5}
"""In percent. wrk cannot read the answer to a HEAD."""
LISTED_KEYS: Final = 10
MIXED_MIN: Final = 0.15
VERSIONED_MIN: Final = 0.70
VERSIONED_KEYS: Final = 2_000


class Mixed:
    """What is read stays; what is written is overwritten, and deleted, at random."""

    name = "mixed4k"
    title = f"mix of 4 KiB, {CONNECTIONS} connections"
    aim = f"≥ {MIXED_MIN:.2f} × empty handler"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()
        self._lines: list[str] = []

    def prepare(self) -> None:
        server = self._bench.server
        make_bucket(self._bench, BUCKET)
        kept = numbered(f"/{BUCKET}/get-", OBJECTS)
        connection = Connection("127.0.0.1", server.port)
        body = memoryview(b"objectio" * (OBJECT_BYTES // 8))
        for path in kept:
            connection.put(server.path("PUT", path), body)
        connection.close()
        self._lines = mix(self._bench, kept, numbered(f"/{BUCKET}/put-", OBJECTS))

    def round(self) -> None:
        for name, endpoint in (
            ("null", self._bench.null.endpoint),
            ("ours", self._bench.server.endpoint),
        ):
            found = wrk(
                endpoint,
                "GET",
                self._lines,
                seconds=self._bench.settings.seconds,
                connections=CONNECTIONS,
                body_bytes=OBJECT_BYTES,
            )
            self._samples.add(name, found.per_second)
            self._samples.add(f"{name}_p99_ms", found.p99_ms)

    def result(self) -> Result:
        ours, null = self._samples.median("ours"), self._samples.median("null")
        return Result(
            name=self.name,
            title=self.title,
            value=f"{ours:,.0f}/s (p99 {self._samples.median('ours_p99_ms'):.1f} ms)",
            yardstick=f"{null:,.0f}/s",
            ratio=f"{ours / null:.2f}",
            aim=self.aim,
            passed=ours >= MIXED_MIN * null,
            samples=self._samples.by_name,
        )


def mix(bench: Bench, kept: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Lines for wrk: requests in the shares above, the same at each run."""
    chosen, server = random.Random(1), bench.server
    lines = []
    for what in chosen.choices(list(SHARES), list(SHARES.values()), k=REQUESTS):
        if what == "GET":
            lines.append(f"GET {server.path('GET', chosen.choice(kept))}")
        elif what == "LIST":
            after = chosen.choice(kept).rpartition("/")[2]
            query = f"list-type=2&max-keys={LISTED_KEYS}&start-after={after}"
            lines.append(f"GET {server.path('GET', f'/{BUCKET}', query)}")
        else:
            lines.append(f"{what} {server.path(what, chosen.choice(changed))}")
    return lines


class PutVersioned:
    """Overwriting keys of a bucket with versions, beside the same in one without."""

    name = "versioned4k"
    title = f"PUT 4 KiB over versions, {CONNECTIONS} connections"
    aim = f"≥ {VERSIONED_MIN:.2f} × without versions"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()
        self._paths: dict[str, list[str]] = {}

    def prepare(self) -> None:
        server = self._bench.server
        for name in ("plain", "versioned"):
            bucket = f"{BUCKET}-{name}"
            make_bucket(self._bench, bucket)
            paths = numbered(f"/{bucket}/put-", VERSIONED_KEYS)
            self._paths[name] = [server.path("PUT", path) for path in paths]
        connection = Connection("127.0.0.1", server.port)
        document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        path = server.path("PUT", f"/{BUCKET}-versioned", "versioning")
        connection.exchange("PUT", path, document)
        found = connection.exchange("GET", server.path("GET", f"/{BUCKET}-versioned", "versioning"))
        connection.close()
        if b"Enabled" not in found:
            raise Failed(f"versions are not kept: {found!r}")

    def round(self) -> None:
        for name, paths in self._paths.items():
            found = wrk(
                self._bench.server.endpoint,
                "PUT",
                paths,
                seconds=self._bench.settings.seconds,
                connections=CONNECTIONS,
                body_bytes=OBJECT_BYTES,
            )
            self._samples.add(name, found.per_second)

    def result(self) -> Result:
        ours, plain = self._samples.median("versioned"), self._samples.median("plain")
        return Result(
            name=self.name,
            title=self.title,
            value=f"{ours:,.0f}/s",
            yardstick=f"{plain:,.0f}/s",
            ratio=f"{ours / plain:.2f}",
            aim=self.aim,
            passed=ours >= VERSIONED_MIN * plain,
            samples=self._samples.by_name,
        )
