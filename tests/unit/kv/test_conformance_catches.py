"""The key-value suite fails drivers that are broken: each of these breaks one promise.

The suite runs in a pytest of its own, on a module of broken drivers that its child processes can
import too. A driver that passes any of the tests it is named for is a hole in the suite.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = '''
import pickle, threading, time
from pathlib import Path
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.abc.kv import CAP_DURABLE, CAP_FAST_READS, CAP_MULTI_PROCESS, Equals, RangeEmpty
from objectio.kv.memory import MemoryKV


class ForgetsReverse(MemoryKV):
    def scan(self, start, stop, *, reverse=False, limit):
        return super().scan(start, stop, limit=limit)


class StopInclusive(MemoryKV):
    def scan(self, start, stop, *, reverse=False, limit):
        return super().scan(start, stop + b"\\0" if start < stop else stop, reverse=reverse, limit=limit)


class LimitAfterReverse(MemoryKV):
    def scan(self, start, stop, *, reverse=False, limit):
        rows = super().scan(start, stop, limit=limit)
        return rows[::-1] if reverse else rows


class TextOrder(MemoryKV):
    def scan(self, start, stop, *, reverse=False, limit):
        rows = super().scan(start, stop, reverse=reverse, limit=10_000)
        return sorted(rows, key=lambda row: row[0].lower(), reverse=reverse)[:limit]


class DropsEmptyValues(MemoryKV):
    def get(self, key):
        return super().get(key) or None


class WritesBeforeChecks(MemoryKV):
    def _apply(self, commit):
        super()._apply(commit._replace(checks=commit.checks[:1]))
        return super()._apply(commit)


class ChecksWholeBatchFirst(MemoryKV):
    def commit(self, commits):
        failed = [next((c for c in commit.checks if not self._holds(c)), None) for commit in commits]
        for commit, check in zip(commits, failed):
            if check is None:
                self._apply(commit._replace(checks=()))
        return failed


class IgnoresRangeEmpty(MemoryKV):
    def _holds(self, check):
        return isinstance(check, RangeEmpty) or super()._holds(check)


class EqualsOnlyLooksAtLength(MemoryKV):
    def _holds(self, check):
        if isinstance(check, Equals):
            return len(self._rows.get(check.key, b"none of this length")) == len(check.value)
        return super()._holds(check)


class ShortKeys(MemoryKV):
    def get(self, key):
        return super().get(key[:511])

    def _apply(self, commit):
        return super()._apply(commit._replace(writes=[(k[:511], v) for k, v in commit.writes]))


class TornCommits(MemoryKV):
    def commit(self, commits):
        results = []
        for commit in commits:
            results.append(super().commit([commit._replace(writes=())])[0])
            if results[-1] is None:
                for row in commit.writes:
                    super().commit([commit._replace(checks=(), writes=[row])])
                    time.sleep(0)
        return results


class SlowReads(MemoryKV):
    def get(self, key):
        time.sleep(0.002)
        return super().get(key)


class SavesOnClose(MemoryKV):
    """Durable, if only nobody pulls the plug."""

    def __init__(self, path):
        super().__init__()
        self.path = Path(path) / "rows"
        if self.path.exists():
            rows = pickle.loads(self.path.read_bytes())
            super().commit([type("C", (), {"checks": (), "writes": rows})])

    def close(self):
        self.path.write_bytes(pickle.dumps(list(self._rows.items())))


def describe(build, *capabilities):
    return Driver(
        name="broken",
        config=NoConfig,
        open=lambda config, context: build(context),
        capabilities=frozenset(capabilities),
        threads=ThreadModel.PARALLEL,
    )


def plain(kind, *capabilities):
    return describe(lambda context: kind(), *capabilities)


forgets_reverse = plain(ForgetsReverse)
stop_inclusive = plain(StopInclusive)
limit_after_reverse = plain(LimitAfterReverse)
text_order = plain(TextOrder)
drops_empty_values = plain(DropsEmptyValues)
writes_before_checks = plain(WritesBeforeChecks)
checks_whole_batch_first = plain(ChecksWholeBatchFirst)
ignores_range_empty = plain(IgnoresRangeEmpty)
equals_only_looks_at_length = plain(EqualsOnlyLooksAtLength)
short_keys = plain(ShortKeys)
torn_commits = plain(TornCommits)
slow_reads = plain(SlowReads, CAP_FAST_READS)
not_durable = plain(MemoryKV, CAP_DURABLE)
not_shared = plain(MemoryKV, CAP_MULTI_PROCESS)
saves_on_close = describe(lambda context: SavesOnClose(context.data_dir), CAP_DURABLE)
'''

MODEL = "test_as_the_model"
CAUGHT_BY = {
    "forgets_reverse": {MODEL, "test_keys_are_in_byte_order"},
    "stop_inclusive": {"test_scans_keep_their_bounds"},
    "limit_after_reverse": {MODEL, "test_scans_keep_their_bounds"},
    "text_order": {"test_keys_are_in_byte_order"},
    "drops_empty_values": {MODEL, "test_values_are_kept_replaced_and_deleted"},
    "writes_before_checks": {MODEL, "test_a_commit_is_all_or_nothing"},
    "checks_whole_batch_first": {MODEL, "test_commits_of_a_batch_see_those_before_them"},
    "ignores_range_empty": {MODEL, "test_each_check"},
    "equals_only_looks_at_length": {"test_each_check"},
    "short_keys": {MODEL, "test_keys_of_each_length"},
    "torn_commits": {"test_readers_never_see_half_a_commit"},
    "slow_reads": {"test_fast_reads_are_fast"},
    "not_durable": {"test_rows_survive_reopening", "test_acknowledged_commits_survive_sigkill"},
    "not_shared": {"test_processes_share_a_store"},
    "saves_on_close": {
        "test_acknowledged_commits_survive_sigkill",
        "test_a_second_process_is_refused",
    },
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> dict[str, set[str]]:
    """For each broken driver, the tests that failed. One run for all, since starting costs most."""
    folder: Path = tmp_path_factory.mktemp("broken")
    (folder / "broken_kv.py").write_text(BROKEN)
    suites = [
        "from hypothesis import Phase, settings",
        "from objectio.testing.kv import KVConformance",
        "settings.register_profile('unshrunk', phases=[Phase.generate], derandomize=True)",
        "settings.load_profile('unshrunk')",
    ]
    suites += [
        f"class Test_{name}(KVConformance):\n    driver = 'broken_kv:{name}'" for name in CAUGHT_BY
    ]
    (folder / "test_broken.py").write_text("\n".join(suites))
    (folder / "pytest.ini").write_text("[pytest]\npython_classes = Test_*\nasyncio_mode = auto\n")
    wanted = " or ".join(sorted(set().union(*CAUGHT_BY.values())))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rf", "-k", wanted, str(folder)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, set[str]] = {name: set() for name in CAUGHT_BY}
    for name, test in re.findall(r"^FAILED \S*::Test_(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found[name].add(test)
    return found


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_broken_driver_is_caught(failed, name):
    assert failed[name] >= CAUGHT_BY[name]
