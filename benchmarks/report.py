"""The table for people, and the file for machines."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import objectio
from benchmarks.bench import Result, Settings

RESULTS = Path(__file__).with_name("results")
_HEADINGS = ("", "subject", "found", "yardstick", "ratio", "aim")
_MARKS = {True: "pass", False: "MISS", None: ""}


def table(results: Sequence[Result]) -> str:
    rows = [_HEADINGS, *(_row(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write(results: Sequence[Result], settings: Settings) -> Path:
    """One JSON file for each run; the directory is not under version control."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    document = {
        "version": objectio.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "settings": asdict(settings),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def _row(result: Result) -> tuple[str, ...]:
    return (
        _MARKS[result.passed],
        result.title,
        result.value,
        result.yardstick,
        result.ratio,
        result.aim,
    )
