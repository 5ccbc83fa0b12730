"""What a benchmark is: subjects that are measured in turns, next to a yardstick, against an aim.

A number alone says more about the machine than about the program. So every subject is a ratio to
what the same machine does at the same time without us, the rounds of all subjects are interleaved,
and the median counts.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.server import ObjectIOServer, Server


@dataclass(frozen=True, kw_only=True)
class Settings:
    rounds: int = 3
    seconds: float = 5.0
    """Of one measurement of small requests."""
    large_transfers: int = 6
    list_keys: tuple[int, int] = (10_000, 1_000_000)
    list_pages: int = 40
    small_objects: int = 20_000
    multipart_parts: int = 64
    """Of 16 MiB: 1 GiB."""
    quick: bool = False


QUICK = Settings(
    rounds=1,
    seconds=1.0,
    large_transfers=2,
    list_keys=(2_000, 20_000),
    list_pages=6,
    small_objects=2_000,
    multipart_parts=8,
    quick=True,
)


@dataclass(kw_only=True)
class Bench:
    """What the subjects share."""

    settings: Settings
    work_dir: Path
    server: ObjectIOServer
    null: Server


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table. `passed` None: measured without an aim."""

    name: str
    title: str
    value: str
    yardstick: str
    ratio: str
    aim: str
    passed: bool | None
    samples: dict[str, list[float]] = field(default_factory=dict)


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def aim(self) -> str: ...

    def prepare(self) -> None: ...

    def round(self) -> None: ...

    def result(self) -> Result: ...


class Samples:
    """What was measured in the rounds, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.by_name.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.by_name[name])


def failed(name: str, title: str, aim: str, error: BaseException) -> Result:
    return Result(
        name=name,
        title=title,
        value=f"failed: {error}".replace("\n", " ")[:80],
        yardstick="",
        ratio="",
        aim=aim,
        passed=False,
    )


def rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:,.0f} MB/s"


def numbered(prefix: str, count: int, start: int = 0) -> Sequence[str]:
    return [f"{prefix}{i:07d}" for i in range(start, start + count)]


@contextlib.contextmanager
def work_directory(parent: Path | None) -> Iterator[Path]:
    """A fresh directory, removed at the end. Not on a tmpfs by accident: that syncs nothing."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="objectio-bench-", dir=parent or Path.cwd()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
