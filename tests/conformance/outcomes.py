"""A pytest plugin that runs inside the public suite: each item's outcome, a line of JSON each.

It is imported by the suite's own Python (`-p outcomes`), so it needs nothing but pytest, and it
writes as it goes: a run that is cut short still says what it saw.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

_PATH = os.environ.get("S3TEST_OUTCOMES", "")
_parts: dict[str, list] = {}


def pytest_configure(config):
    if _PATH and not hasattr(config, "workerinput"):  # of several workers, only their head writes
        config.pluginmanager.register(_Writer(), "objectio-outcomes")


class _Writer:
    def pytest_runtest_logreport(self, report):
        _parts.setdefault(report.nodeid, []).append(report)
        if report.when == "teardown":
            line = json.dumps(_summary(report.nodeid, _parts.pop(report.nodeid)))
            with open(_PATH, "a", encoding="utf-8") as file:
                file.write(line + "\n")


def _summary(node_id, reports):
    bad = [each for each in reports if each.failed]
    outcome, message = "passed", ""
    if bad:
        outcome = "failed" if bad[0].when == "call" else "error"
        message = f"({bad[0].when}) " * (bad[0].when != "call") + _cause(bad[0])
    elif any(each.skipped for each in reports):
        outcome = "skipped"
    return {
        "id": node_id,
        "outcome": outcome,
        "message": message,
        "seconds": round(sum(each.duration for each in reports), 2),
        "at": round(time.time(), 1),
    }


def _cause(report):
    """Where in the test it went wrong, and how, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return str(report.longrepr).strip().splitlines()[-1][:300] if report.longrepr else ""
    line = crash.lineno
    for entry in report.longrepr.reprtraceback.reprentries:
        where = getattr(entry, "reprfileloc", None)
        if where is not None and Path(where.path).name.startswith("test_"):
            line = where.lineno
    return f"line {line}: {' '.join(crash.message.split())[:300]}"
