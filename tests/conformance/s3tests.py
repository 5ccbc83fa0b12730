"""Run the public S3 test suite (ceph/s3-tests) against a server of our own.

    python -m tests.conformance.s3tests CHECKOUT                  all, compared with the lists
    python -m tests.conformance.s3tests CHECKOUT -k versioning    a part
    python -m tests.conformance.s3tests CHECKOUT test_s3::test_bucket_list_empty
    python -m tests.conformance.s3tests CHECKOUT --serve          a server to try things on

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from objectio.testing.cluster import LocalServer
from tests.conformance import accounts, report
from tests.conformance.lists import FOLDER, Lists, function_of, per_function

HERE = Path(__file__).resolve().parent
COMMIT = "8f0ae7b404a3a2fcf7038bf1e6bf29544fe9b6a3"
DAY_SECONDS = 10
TEST_SECONDS_MAX = 400
ALONE = ("::test_list_buckets_paginated",)
"""Tests that look at all buckets of an account, for which there must be no others. Those of IAM change what
one user may, and run alone too."""

SETTINGS = {
    "gateway.object_ownership": "ObjectWriter",  # the suite is of the time before April 2023
    "store.lifecycle_day_seconds": str(DAY_SECONDS),
    "store.lifecycle_interval_seconds": "2",
    "kms.require_key_id": "true",  # AWS has a key for who names none; the suite's server has not
}


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    checkout = options.checkout.resolve()
    _check_commit(checkout, options.any_commit)
    options.work.mkdir(parents=True, exist_ok=True)
    alone = (options.work / "lock").open("w")  # held until the process ends
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another run uses {options.work}: give this one a --work") from None
    lists = Lists.read()
    lists.follow(checkout)
    tests = _choose(lists, options.names)
    python = options.python or _make_venv(options.work / "venv", checkout)
    config = options.work / "s3tests.conf"
    with _server(options, config):
        if options.serve:
            return _wait(config, python)
        rounds = [
            _run(options, checkout, python, config, tests, number)
            for number in range(options.rounds)
        ]
    return _judge(options, lists, rounds)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.s3tests", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("checkout", type=Path, help=f"a checkout of the suite at {COMMIT[:12]}")
    add("names", nargs="*", help="only these functions: test_s3::test_name, test_s3 or test_name")
    add("-k", dest="expression", default="", help="only what pytest's -k chooses of them")
    add("-n", dest="workers", type=int, default=1, help="workers of pytest-xdist")
    add("-x", dest="fail_fast", action="store_true", help="stop at the first failure")
    add("--config", type=Path, help="use this S3TEST_CONF, and the server that it names")
    add("--serve", action="store_true", help="start the server, say how to use it, and wait")
    add("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where our server listens")
    add("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    add("--python", type=Path, help="a Python with the suite's requirements; else one is made")
    add("--work", type=Path, default=HERE / ".work", help="for data, results and that Python")
    add("--rounds", type=int, default=1, help="run all of it so many times")
    add("--report", type=Path, help="write a table of the failures by area")
    add(
        "--update", action="store_true", help="let the lists say what passed in each of >= 2 rounds"
    )
    add("--any-commit", action="store_true", help="take another commit of the suite")
    options = parser.parse_intermixed_args(argv)
    if options.update and options.rounds < 2:
        parser.error("--update wants --rounds 2: expected is what passed twice")
    return options


def _check_commit(checkout: Path, any_commit: bool) -> None:
    asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if found != COMMIT and not any_commit:
        raise SystemExit(f"{checkout} is at {found or 'no commit'}, the lists are of {COMMIT}")


def _choose(lists: Lists, names: Sequence[str]) -> list[str]:
    """What to run: all that is not excluded, or what is named, excluded or not."""
    if not names:
        return sorted(lists.expected | lists.planned)
    every = lists.expected | lists.planned | lists.excluded
    chosen = []
    for name in names:
        found = [test for test in every if name in (test, *test.split("::"))]
        if not found:
            raise SystemExit(f"the suite has no {name}")
        # A whole file is what is run of it; a single test is run in any case.
        chosen += [test for test in found if len(found) == 1 or test not in lists.excluded]
    return sorted(set(chosen))


def _make_venv(directory: Path, checkout: Path) -> Path:
    python = directory / "bin/python"
    done = directory / ".done"
    if not done.exists():
        venv.create(directory, with_pip=True, clear=True)
        packages = ["-r", str(checkout / "requirements.txt"), "pytest-xdist", "pytest-timeout"]
        quiet = ["--disable-pip-version-check", "-q"]
        subprocess.run([python, "-m", "pip", *quiet, "install", *packages], check=True)
        done.touch()
    return python


# The server.


@contextlib.contextmanager
def _server(options: argparse.Namespace, config: Path) -> Iterator[None]:
    """A new server with the accounts, and `config` written for it; or the one that is given."""
    if options.config is not None:
        for path in (config, _for_iam(config)):
            shutil.copyfile(options.config, path)
        yield
        return
    data = options.work / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.with_name("data.log").unlink(missing_ok=True)
    settings = SETTINGS | dict(each.split("=", 1) for each in options.settings)
    server = LocalServer(data, settings=settings, arguments=("--listen", options.listen))
    with server:
        accounts.create_keys(server)
        alternate = accounts.create(server)
        days = {"lc_debug_interval": str(DAY_SECONDS)}
        accounts.write_config(config, server, None, days)
        accounts.write_config(_for_iam(config), server, alternate, days)
        yield


def _for_iam(config: Path) -> Path:
    """The configuration for tests of IAM and STS, beside that for all others."""
    return config.with_name(f"{config.stem}-iam.conf")


def _wait(config: Path, python: Path) -> int:
    print(f"S3TEST_CONF={config.resolve()} {python} -m pytest {FOLDER}/test_s3.py -k …", flush=True)
    print("Control-C ends the server.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    return 0


# The run.


def _run(
    options: argparse.Namespace,
    checkout: Path,
    python: Path,
    config: Path,
    tests: Sequence[str],
    number: int,
) -> list[dict]:
    """One round: each item's outcome, as `outcomes.py` writes them."""
    outcomes = options.work.resolve() / f"outcomes-{number}.jsonl"
    outcomes.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "-q"]
    command += ["--tb=short", f"--timeout={TEST_SECONDS_MAX}", "-W", "ignore"]
    command += ["-k", options.expression] * bool(options.expression)
    command += ["-x"] * options.fail_fast
    workers = ["-n", str(options.workers), "--dist", "worksteal"] * (options.workers > 1)
    iam = [test for test in tests if test.startswith(("test_iam::", "test_sts::"))]
    alone = [test for test in tests if workers and test.endswith(ALONE)]
    together = [test for test in tests if test not in (*iam, *alone)]
    phases = (together, config, workers), (alone, config, []), (iam, _for_iam(config), [])
    with (options.work / f"pytest-{number}.log").open("wb") as log:
        for chosen, told, more in phases:
            if chosen:
                (options.work / "tests.txt").write_text(
                    "".join(f"{FOLDER}/{_node_id(test)}\n" for test in _slow_first(chosen))
                )
                subprocess.run(
                    [*command, *more, f"@{(options.work / 'tests.txt').resolve()}"],
                    cwd=checkout,
                    env=_environment(told, outcomes),
                    stdout=log,
                    stderr=log,
                )
    if not outcomes.exists():
        raise SystemExit(f"nothing ran: see {log.name}")
    items = [json.loads(line) for line in outcomes.read_text().splitlines()]
    return [{**item, "test": function_of(item["id"])} for item in items]


def _environment(config: Path, outcomes: Path) -> dict[str, str]:
    """Of the suite: nothing that somebody has set for other programs."""
    foreign = ("AWS_", "OBJECTIO_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | {
        "S3TEST_CONF": str(config.resolve()),
        "S3TEST_OUTCOMES": str(outcomes),
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _node_id(test: str) -> str:
    name, _, function = test.partition("::")
    return f"{name}.py::{function}"


def _slow_first(tests: Sequence[str]) -> list[str]:
    """Those that wait for days of the lifecycle first, so that workers end together."""
    return sorted(tests, key=lambda test: ("lifecycle" not in test, test))


def _judge(options: argparse.Namespace, lists: Lists, rounds: Sequence[list[dict]]) -> int:
    # An item that failed in any round has failed.
    items: dict[str, str] = {}
    for item in (item for found in rounds for item in found):
        if items.get(item["id"], "passed") == "passed":
            items[item["id"]] = item["outcome"]
    outcomes = per_function(items)
    every = [item for found in rounds for item in found]
    head = f"s3-tests at {time.strftime('%H:%M')}, commit {_our_commit()}"
    if options.report:
        options.report.write_text(report.table(outcomes, every, head))
    for test, outcome in sorted(outcomes.items()):
        if outcome != "passed":
            cause = next(
                i["message"] for i in every if i["test"] == test and i["outcome"] == outcome
            )
            print(f"{outcome:8} {test}: {cause}")
    print(report.counts(outcomes))
    if options.update:
        lists.learn(outcomes)
        lists.write()
        return 0
    for test in lists.surprises(outcomes):
        print(f"passes, and is not expected to: {test}")
    regresses = lists.regresses(outcomes)
    for test in regresses:
        print(f"REGRESS: {test}")
    print(f"{len(regresses)} regresses")
    failed = options.names and set(outcomes.values()) != {"passed"}
    return 1 if regresses or failed else 0


def _our_commit() -> str:
    asked = ["git", "-C", str(HERE), "log", "-1", "--format=%h"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
