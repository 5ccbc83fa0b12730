"""Memory: 32 uploads of 64 MiB at once, twice, and how much the server holds meanwhile."""

from __future__ import annotations

from typing import Final

from benchmarks.bench import Bench, Result, Samples, numbered
from benchmarks.large import OBJECT_BYTES
from benchmarks.load import transfer
from benchmarks.server import MemorySampler
from benchmarks.small import make_bucket
from objectio.limits import MIB

BUCKET: Final = "bench-memory"
AT_ONCE: Final = 32
PEAK_BYTES_MAX: Final = 400 * MIB
GROWTH_MAX: Final = 1.10


class Memory:
    name = "memory"
    title = f"resident memory, {AT_ONCE} × PUT 64 MiB at once"
    aim = "≤ 400 MiB, and no more the second time"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()

    def prepare(self) -> None:
        make_bucket(self._bench, BUCKET)

    def round(self) -> None:
        """Two waves in the first round are enough: what grows, grows from one to the next."""
        if self._samples.by_name:
            return
        server = self._bench.server
        paths = [server.path("PUT", path) for path in numbered(f"/{BUCKET}/put-", AT_ONCE)]
        self._samples.add("idle", server.resident_bytes())
        for wave in ("first", "second"):
            with MemorySampler(server) as sampler:
                found = transfer(server.endpoint, "PUT", paths, size=OBJECT_BYTES, at_once=AT_ONCE)
            self._samples.add(wave, sampler.peak_bytes)
            self._samples.add("bytes_per_second", found)

    def result(self) -> Result:
        idle, first, second = (self._samples.median(name) for name in ("idle", "first", "second"))
        return Result(
            name=self.name,
            title=self.title,
            value=f"{first / MIB:,.0f} MiB, then {second / MIB:,.0f} MiB",
            yardstick=f"{idle / MIB:,.0f} MiB before",
            ratio=f"{second / first:.2f}",
            aim=self.aim,
            passed=max(first, second) <= PEAK_BYTES_MAX and second <= GROWTH_MAX * first,
            samples=self._samples.by_name,
        )
