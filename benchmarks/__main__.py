"""`python -m benchmarks`, which is what `make bench` runs. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import report, rpc, shapes
from benchmarks.bench import (
    QUICK,
    Bench,
    Result,
    Settings,
    Subject,
    failed,
    work_directory,
)
from benchmarks.large import GetDegraded, GetLarge, PutLarge
from benchmarks.listing import ListKeys
from benchmarks.load import Failed
from benchmarks.memory import Memory
from benchmarks.mixed import Mixed, PutVersioned
from benchmarks.multipart import PutParts
from benchmarks.server import ObjectIOServer, null_server, running
from benchmarks.small import GetSmall, PutSmall, SmallSpace

INTERLEAVED = (
    *(GetSmall, PutSmall, Mixed, PutVersioned),
    *(GetLarge, PutLarge, PutParts, SmallSpace, Memory, ListKeys),
)
LAST = (GetDegraded,)
"""Leaves a store with two disks fewer."""


def main() -> int:
    arguments = _arguments()
    settings = QUICK if arguments.quick else Settings()
    if arguments.rounds:
        settings = replace(settings, rounds=arguments.rounds)
    with work_directory(arguments.data_dir) as directory:
        server, null = ObjectIOServer(directory / "store"), null_server(directory)
        with running(null), running(server):
            bench = Bench(settings=settings, work_dir=directory, server=server, null=null)
            results = _measure(bench, arguments.only)
    print(report.table(results))
    print(f"\nwritten to {report.write(results, settings)}")
    good = all(result.passed is not False for result in results)
    if not arguments.only:
        good = rpc.run(settings.rounds, min(1.0, settings.seconds)) and good
        with work_directory(arguments.data_dir) as directory:
            print("\n" + shapes.run(directory, settings))
    return 0 if good else 1


def _measure(bench: Bench, only: Sequence[str]) -> list[Result]:
    """Rounds of all subjects in turns, then the destructive ones. A failure ends its subject."""
    chosen: list[Subject] = [make(bench) for make in INTERLEAVED if not only or make.name in only]
    last: list[Subject] = [make(bench) for make in LAST if not only or make.name in only]
    broken: dict[str, Result] = {}
    # What restarts the server comes first: a subject signs its requests for one run of it.
    for subject in sorted(chosen, key=lambda each: each.name != ListKeys.name):
        _step(subject, "prepare", broken)
    for number in range(bench.settings.rounds):
        for subject in chosen:
            _step(subject, "round", broken, f"{number + 1}/{bench.settings.rounds}")
    for subject in last:
        _step(subject, "prepare", broken)
        _step(subject, "round", broken)
    return [broken.get(each.name) or each.result() for each in (*chosen, *last)]


def _step(subject: Subject, step: str, broken: dict[str, Result], which: str = "") -> None:
    if subject.name in broken:
        return
    print(f"… {subject.name} {step} {which}".rstrip(), file=sys.stderr, flush=True)
    try:
        getattr(subject, step)()
    except (Failed, OSError, RuntimeError) as error:
        traceback.print_exc()
        broken[subject.name] = failed(subject.name, subject.title, subject.aim, error)


def _arguments() -> argparse.Namespace:
    names = [subject.name for subject in (*INTERLEAVED, *LAST)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="does it run at all? (a minute)")
    parser.add_argument("--rounds", type=int, help="measurements of each subject (3)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--data-dir", type=Path, help="where the store and the yardstick file go (the device!)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
