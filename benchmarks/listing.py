"""Listing: a page of 1,000 keys costs the same in a bucket of ten thousand and of a million."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.bench import Bench, Result, Samples
from benchmarks.fill import fill_keys, key_name
from benchmarks.load import Connection, Failed
from objectio.limits import LIST_KEYS_MAX

SLOWDOWN_MAX: Final = 1.5
KEYS_PER_SECOND_MIN: Final = 100_000


class ListKeys:
    name = "list"
    aim = f"same time within {SLOWDOWN_MAX} ×, ≥ {KEYS_PER_SECOND_MIN:,} keys/s"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()
        self._random = random.Random(1)
        few, many = bench.settings.list_keys
        self._buckets = {"few": ("bench-list-few", few), "many": ("bench-list-many", many)}
        self.title = f"list 1,000 keys, of {few:,} and of {many:,}"

    def prepare(self) -> None:
        """The server is stopped meanwhile: a million PUTs would take longer than all the rest."""
        fill_keys(self._bench.server, dict(self._buckets.values()))

    def round(self) -> None:
        """Pages of both buckets in turns, from anywhere in them, on one connection."""
        connection = Connection("127.0.0.1", self._bench.server.port)
        pages = {name: self._paths(*where) for name, where in self._buckets.items()}
        for name, (path, *_) in pages.items():
            _, body = connection.get(path, keep=True)
            if body.count(b"<Key>") != LIST_KEYS_MAX:
                raise Failed(f"{name}: {body.count(b'<Key>')} keys in a page: {body[:300]!r}")
        for few, many in zip(pages["few"], pages["many"], strict=True):
            for name, path in (("few", few), ("many", many)):
                started = time.perf_counter()
                connection.get(path)
                self._samples.add(name, time.perf_counter() - started)
        connection.close()

    def result(self) -> Result:
        few, many = self._samples.median("few"), self._samples.median("many")
        per_second = LIST_KEYS_MAX / many
        return Result(
            name=self.name,
            title=self.title,
            value=f"{many * 1e3:.1f} ms, {per_second:,.0f} keys/s",
            yardstick=f"{few * 1e3:.1f} ms",
            ratio=f"{many / few:.2f}",
            aim=self.aim,
            passed=many <= SLOWDOWN_MAX * few and per_second >= KEYS_PER_SECOND_MIN,
            samples=self._samples.by_name,
        )

    def _paths(self, bucket: str, keys: int) -> Sequence[str]:
        starts = [
            self._random.randrange(keys - LIST_KEYS_MAX)
            for _ in range(self._bench.settings.list_pages)
        ]
        return [
            self._bench.server.path(
                "GET", f"/{bucket}", f"list-type=2&max-keys=1000&start-after={key_name(start)}"
            )
            for start in starts
        ]
