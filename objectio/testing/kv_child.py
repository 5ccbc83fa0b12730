"""The other process of the key-value suites: `python -m objectio.testing.kv_child SPEC JOB`.

SPEC is JSON: the descriptor as "module:ATTRIBUTE", its settings, and the data directory. Answers are
lines on stdout. It knows nothing of pytest, so that it starts quickly.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver
from objectio.abc.kv import Absent, Commit, Equals, KVDriver
from objectio.errors import DriverUnavailable, ObjectIOError

COUNTER = b"counter"
REFUSED_VALUE = b"v" * 65_536
ROUNDS_MAX = 400


def load(target: str) -> AnyDriver:
    """The descriptor that "module:ATTRIBUTE" names."""
    module, _, attribute = target.partition(":")
    descriptor: AnyDriver = getattr(importlib.import_module(module), attribute)
    return descriptor


def open_at(descriptor: AnyDriver, settings: dict[str, Any], data_dir: Path) -> KVDriver:
    data_dir.mkdir(parents=True, exist_ok=True)
    config = msgspec.convert(settings, descriptor.config)
    driver: KVDriver = descriptor.open(config, Context(name=descriptor.name, data_dir=data_dir))
    return driver


def row(number: int) -> tuple[bytes, bytes]:
    """The two keys that each numbered commit writes, to tell a half from a whole."""
    return b"left/%012d" % number, b"right/%012d" % number


def increment(driver: KVDriver) -> bool:
    """One step of a counter that several processes share; False if another was faster."""
    seen = driver.get(COUNTER)
    value = b"%d" % (int(seen or b"0") + 1)
    check = Absent(COUNTER) if seen is None else Equals(COUNTER, seen)
    return driver.commit([Commit([check], [(COUNTER, value)])]) == [None]


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _acknowledge(driver: KVDriver, data_dir: Path) -> None:
    """Commit for ever, in batches; say the last number after each batch."""
    number = 0
    while True:
        batch = []
        for _ in range(1 + number % 5):
            number += 1
            value = b"%d" % number * 40
            batch.append(Commit([], [(key, value) for key in row(number)]))
        if any(check is not None for check in driver.commit(batch)):
            raise SystemExit("a commit without checks was refused")
        _say(number)


def _count(driver: KVDriver, data_dir: Path) -> None:
    """Raise the shared counter by 100."""
    _say("ready")
    done = 0
    while done < 100:
        done += increment(driver)
    driver.close()
    _say("done")


def _fill(driver: KVDriver, data_dir: Path) -> None:
    """Commit until a write of a file is refused; then again, without the limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    driver.commit([Commit([], [(b"first", b"1")])])
    sizes = [path.stat().st_size for path in data_dir.rglob("*") if path.is_file()]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (max([0, *sizes]) + 300_000, hard))
    acknowledged: list[int] = []
    refused: list[int] = []
    for number in range(ROUNDS_MAX):
        try:
            driver.commit([Commit([], [(key, REFUSED_VALUE) for key in row(number)])])
        except (OSError, ObjectIOError):
            refused.append(number)
            if len(refused) == 3:
                break
        else:
            acknowledged.append(number)
    shown = [number for number in refused if any(driver.get_many(row(number)))]
    lost = [number for number in acknowledged if not all(driver.get_many(row(number)))]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = range(ROUNDS_MAX, ROUNDS_MAX + 20)
    for number in after:
        driver.commit([Commit([], [(key, b"after") for key in row(number)])])
        acknowledged.append(number)
    report = {"acknowledged": acknowledged, "refused": refused, "shown": shown, "lost": lost}
    _say(json.dumps(report))
    os.kill(os.getpid(), signal.SIGKILL)  # what the log holds must do


_JOBS: dict[str, Callable[[KVDriver, Path], None]] = {
    "acknowledge": _acknowledge,
    "count": _count,
    "fill": _fill,
}


def main(spec_json: str, job: str) -> None:
    spec = json.loads(spec_json)
    data_dir = Path(spec["data_dir"])
    try:
        driver = open_at(load(spec["target"]), spec["settings"], data_dir)
    except DriverUnavailable as error:
        _say("unavailable", str(error).replace("\n", " "))
        return
    if job == "open":
        driver.close()
        _say("opened")
        return
    _JOBS[job](driver, data_dir)


if __name__ == "__main__":
    main(*sys.argv[1:])
