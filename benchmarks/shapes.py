"""The same store as one process, as workers under a supervisor, and as separate roles, side by side:
`python -m benchmarks.shapes [--rounds 3] [--seconds 5] [--workers 2] [--dir DIR]`.

All of them run at once, each with a directory of its own, and are measured in turns; those that are not
being measured have nothing to do. The empty handler is the yardstick, as in the table of one process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench, Result, Settings, Subject, work_directory
from benchmarks.large import GetLarge, PutLarge
from benchmarks.server import ObjectIOServer, RoleServers, null_server, running
from benchmarks.small import GetSmall, PutSmall

SUBJECTS: Final = (GetSmall, PutSmall, GetLarge, PutLarge)


def main() -> int:
    arguments = _arguments()
    settings = replace(Settings(), rounds=arguments.rounds, seconds=arguments.seconds)
    with work_directory(arguments.dir) as directory:
        print(run(directory, settings, arguments.workers))
    return 0


def run(directory: Path, settings: Settings, workers: int = 2) -> str:
    """The table."""
    with ExitStack() as stack:
        null = null_server(directory)
        stack.enter_context(running(null))
        shapes: dict[str, list[Subject]] = {}
        for name, server in _servers(directory, workers).items():
            stack.enter_context(running(server))
            place = directory / f"work-{server.data_dir.name}"
            place.mkdir()
            bench = Bench(settings=settings, work_dir=place, server=server, null=null)
            shapes[name] = [make(bench) for make in SUBJECTS]
        return _table(_measure(shapes, settings.rounds))


def _servers(directory: Path, workers: int) -> dict[str, ObjectIOServer]:
    return {
        "one process": ObjectIOServer(directory / "one"),
        f"--workers {workers}": ObjectIOServer(
            directory / "workers", more=["--workers", str(workers)]
        ),
        "roles": RoleServers(directory / "roles"),
    }


def _measure(shapes: dict[str, list[Subject]], rounds: int) -> dict[str, list[Result]]:
    for name, subjects in shapes.items():
        for subject in subjects:
            print(f"… {subject.name} prepare {name}", file=sys.stderr, flush=True)
            subject.prepare()
    for number in range(rounds):
        for at, subject in enumerate(SUBJECTS):
            for name, subjects in shapes.items():
                which = f"{number + 1}/{rounds}"
                print(f"… {subject.name} {name} {which}", file=sys.stderr, flush=True)
                subjects[at].round()
    return {name: [each.result() for each in subjects] for name, subjects in shapes.items()}


def _table(found: dict[str, list[Result]]) -> str:
    rows: list[Sequence[str]] = [("subject", *found)]
    for results in zip(*found.values(), strict=True):
        cells = [f"{each.value} = {each.ratio} ×" for each in results]
        rows.append((results[0].title, *cells))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, f"\n{os.cpu_count()} cores; × is the ratio to the yardstick"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one small measurement")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dir", type=Path, help="where the stores go (the device!)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
