"""The conformance suite of key-value drivers.

    class TestMine(KVConformance):
        driver = "objectio_kv_mine.plugin:DRIVER"

It tests what the descriptor declares, and a declared capability that does not hold fails:

- every driver: the four checks, order, bounds, limits, batches, atomicity to readers in other
  threads, keys and values up to the limits, and a model machine against the memory engine;
- `durable`: reopening, SIGKILL of a process that commits, a device that refuses writes;
- `multi_process`: two processes on one store; and without it, that a second one is refused;
- `fast_reads`: that they are.

A process that is killed is no power cut: the page cache survives it. That a driver syncs before it
answers is for its author to show.

`OBJECTIO_TEST_DEPTH` multiplies the number of examples (default 1).
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from objectio.abc.driver import AnyDriver, ThreadModel
from objectio.abc.kv import (
    CAP_DURABLE,
    CAP_FAST_READS,
    CAP_MULTI_NODE,
    CAP_MULTI_PROCESS,
    Absent,
    Check,
    Commit,
    Equals,
    KVDriver,
    Present,
    RangeEmpty,
)
from objectio.kv.keys import KEY_END
from objectio.kv.store import KVStore
from objectio.limits import KV_KEY_BYTES_MAX, KV_SCAN_ROWS_MAX, KV_VALUE_BYTES_MAX
from objectio.testing import kv_child
from objectio.testing.kv_machine import KVStateMachine, kv_state_machine

__all__ = ["KVConformance", "KVStateMachine", "kv_state_machine"]

DEPTH = int(os.environ.get("OBJECTIO_TEST_DEPTH", "1"))
DEADLINE_SECONDS = 60.0
FAST_READ_SECONDS = 0.001

OpenDriver = Callable[[], KVDriver]


def put(*rows: tuple[bytes, bytes | None]) -> Commit:
    return Commit([], rows)


class KVConformance:
    """Set `driver`, and `settings` if it needs any; or override the fixtures."""

    driver: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}

    # Fixtures.

    @pytest.fixture
    def descriptor(self) -> AnyDriver:
        return kv_child.load(self.driver)

    @pytest.fixture
    def capabilities(self, descriptor: AnyDriver) -> frozenset[str]:
        return descriptor.capabilities

    @pytest.fixture
    def threads(self, descriptor: AnyDriver) -> ThreadModel:
        return descriptor.threads

    @pytest.fixture
    def data_dir(self, tmp_path: Path) -> Path:
        return tmp_path / "kv"

    @pytest.fixture
    def open_driver(self, descriptor: AnyDriver, data_dir: Path) -> OpenDriver:
        """Opens the same store each time; the one before must be closed."""
        return lambda: kv_child.open_at(descriptor, self.settings, data_dir)

    @pytest.fixture
    def kv(self, open_driver: OpenDriver) -> Iterator[KVDriver]:
        driver = open_driver()
        yield driver
        driver.close()

    @pytest.fixture
    def child(self, data_dir: Path) -> Callable[[str], subprocess.Popen[str]]:
        """Starts another process on the same store."""

        def start(job: str) -> subprocess.Popen[str]:
            spec = {
                "target": self.driver,
                "settings": self.settings,
                "data_dir": str(data_dir),
            }
            command = [sys.executable, "-m", "objectio.testing.kv_child", json.dumps(spec), job]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        return start

    # One store.

    def test_an_empty_store_has_nothing(self, kv: KVDriver) -> None:
        assert kv.get(b"k") is None
        assert kv.get_many([b"a", b"b"]) == [None, None]
        assert kv.get_many([]) == []
        assert kv.scan(b"", KEY_END, limit=10) == []
        assert kv.commit([]) == []

    def test_values_are_kept_replaced_and_deleted(self, kv: KVDriver) -> None:
        assert kv.commit([put((b"k", b"one"), (b"empty", b""))]) == [None]
        assert kv.get_many([b"k", b"none", b"empty", b"k"]) == [b"one", None, b"", b"one"]
        assert kv.get(b"empty") == b""
        assert kv.commit([put((b"k", b"two"), (b"empty", None), (b"none", None))]) == [None]
        assert kv.get(b"k") == b"two"
        assert kv.get(b"empty") is None
        assert kv.scan(b"", KEY_END, limit=10) == [(b"k", b"two")]

    def test_keys_are_in_byte_order(self, kv: KVDriver) -> None:
        keys = [
            bytes([first, second]) for first in range(0, 256, 15) for second in (0, 1, 128, 255)
        ]
        keys += [bytes([first]) for first in range(0, 256, 15)]
        shuffled = random.Random(7).sample(keys, len(keys))
        kv.commit([put((key, key[::-1])) for key in shuffled])
        want = [(key, key[::-1]) for key in sorted(keys)]
        assert kv.scan(b"", KEY_END, limit=KV_SCAN_ROWS_MAX) == want
        assert kv.scan(b"", KEY_END, reverse=True, limit=KV_SCAN_ROWS_MAX) == want[::-1]

    def test_scans_keep_their_bounds(self, kv: KVDriver) -> None:
        rows = [(b"%02d" % number, b"") for number in range(20)]
        kv.commit([put(*rows)])
        assert kv.scan(b"05", b"08", limit=10) == rows[5:8]
        assert kv.scan(b"05", b"08", reverse=True, limit=10) == rows[7:4:-1]
        assert kv.scan(b"05", b"08\x00", limit=10) == rows[5:9]
        assert kv.scan(b"05\x00", KEY_END, limit=2) == rows[6:8]
        assert kv.scan(b"", b"05", reverse=True, limit=2) == rows[4:2:-1]
        for stop in (b"05\x00", b"06"):
            assert kv.scan(b"05", stop, limit=10) == rows[5:6]
            assert kv.scan(b"05", stop, reverse=True, limit=10) == rows[5:6]
        assert kv.scan(b"05", b"05", limit=10) == []
        assert kv.scan(b"08", b"05", limit=10) == []
        assert kv.scan(b"08", b"05", reverse=True, limit=10) == []
        assert kv.scan(b"", b"", limit=10) == []

    def test_each_check(self, kv: KVDriver) -> None:
        kv.commit([put((b"k", b"v"), (b"empty", b""))])
        holding: list[Check] = [
            Absent(b"none"),
            Present(b"k"),
            Present(b"empty"),
            Equals(b"k", b"v"),
            Equals(b"empty", b""),
            RangeEmpty(b"l", KEY_END),
            RangeEmpty(b"f", b"k"),
            RangeEmpty(b"k\x00", b"l"),
            RangeEmpty(b"z", b"a"),
        ]
        failing: list[Check] = [
            Absent(b"k"),
            Absent(b"empty"),
            Present(b"none"),
            Equals(b"k", b"w"),
            Equals(b"k", b""),
            Equals(b"none", b""),
            RangeEmpty(b"k", b"l"),
            RangeEmpty(b"", KEY_END),
        ]
        for number, check in enumerate(holding):
            assert kv.commit([Commit([check], [(b"done/%d" % number, b"")])]) == [None]
            kv.commit([put((b"done/%d" % number, None))])
        for check in failing:
            assert kv.commit([Commit([check], [(b"never", b"")])]) == [check]
        assert kv.commit([Commit([*holding, failing[0], failing[2]], [])]) == [failing[0]]
        assert kv.get(b"never") is None

    def test_a_commit_is_all_or_nothing(self, kv: KVDriver) -> None:
        kv.commit([put((b"a", b"0"), (b"b", b"0"))])
        refused = Commit([Equals(b"a", b"0"), Present(b"none")], [(b"a", None), (b"c", b"1")])
        assert kv.commit([refused]) == [Present(b"none")]
        assert kv.scan(b"", KEY_END, limit=9) == [(b"a", b"0"), (b"b", b"0")]

    def test_commits_of_a_batch_see_those_before_them(self, kv: KVDriver) -> None:
        kv.commit([put((b"range/old", b""))])
        batch = [
            put((b"a", b"1")),
            Commit([Equals(b"a", b"1")], [(b"a", b"2")]),
            Commit([Equals(b"a", b"1")], [(b"wrong", b"")]),
            Commit([Absent(b"wrong"), Equals(b"a", b"2")], [(b"a", None)]),
            Commit([Absent(b"a"), RangeEmpty(b"a", b"b")], [(b"b", b"1")]),
            Commit([RangeEmpty(b"b", b"c")], [(b"wrong", b"")]),
            Commit([RangeEmpty(b"range/", b"range0")], [(b"wrong", b"")]),
            put((b"range/old", None)),
            Commit([RangeEmpty(b"range/", b"range0")], [(b"range/new", b"")]),
            Commit([RangeEmpty(b"range/", b"range0")], [(b"wrong", b"")]),
        ]
        refused = {2, 5, 6, 9}
        results = kv.commit(batch)
        assert [index for index, check in enumerate(results) if check is not None] == sorted(
            refused
        )
        assert results[2] == Equals(b"a", b"1")
        assert kv.scan(b"", KEY_END, limit=9) == [(b"b", b"1"), (b"range/new", b"")]

    @pytest.mark.parametrize("length", [1, 2, 255, 256, 480, 481, 511, 512, 1024, 4095, 4096])
    def test_keys_of_each_length(self, kv: KVDriver, length: int) -> None:
        assert length <= KV_KEY_BYTES_MAX
        keys = [
            bytes([byte]) * (length - 1) + bytes([last])
            for byte in (0, 97, 255)
            for last in (0, 255)
        ]
        rows = sorted({key: b"%d" % index for index, key in enumerate(keys)}.items())
        kv.commit([put(*rows)])
        assert kv.get_many([key for key, _ in rows]) == [value for _, value in rows]
        assert kv.scan(b"", KEY_END, limit=9) == rows
        assert kv.scan(b"", KEY_END, reverse=True, limit=9) == rows[::-1]
        checks = [Equals(key, value) for key, value in rows]
        assert kv.commit([Commit(checks, [(rows[0][0], None)])]) == [None]
        assert kv.scan(b"", KEY_END, limit=9) == rows[1:]

    def test_the_largest_values(self, kv: KVDriver) -> None:
        value = random.Random(3).randbytes(KV_VALUE_BYTES_MAX)
        kv.commit([put((b"a", value), (b"b" * KV_KEY_BYTES_MAX, value))])
        assert kv.get(b"a") == value
        assert kv.commit([Commit([Equals(b"b" * KV_KEY_BYTES_MAX, value)], [(b"a", b"")])]) == [
            None
        ]
        assert kv.scan(b"", KEY_END, limit=9) == [(b"a", b""), (b"b" * KV_KEY_BYTES_MAX, value)]

    def test_many_rows(self, kv: KVDriver) -> None:
        rows = [(b"%06d" % number, b"%d" % number) for number in range(5000)]
        for start in range(0, len(rows), 1000):
            kv.commit([put(*rows[start : start + 1000])])
        assert kv.scan(b"", KEY_END, limit=KV_SCAN_ROWS_MAX) == rows
        assert kv.scan(b"001000", KEY_END, limit=7) == rows[1000:1007]
        assert kv.scan(b"", b"001000", reverse=True, limit=7) == rows[999:992:-1]

    def test_numbers_for_the_operator(self, kv: KVDriver) -> None:
        kv.commit([put((b"k", b"v"))])
        assert all(type(name) is str and type(number) is int for name, number in kv.stats().items())

    def test_as_the_model(self, open_driver: OpenDriver, capabilities: frozenset[str]) -> None:
        machine = kv_state_machine(open_driver, durable=CAP_DURABLE in capabilities)
        profile = settings(
            max_examples=25 * DEPTH,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=profile)

    # Threads.

    def test_readers_never_see_half_a_commit(
        self, kv: KVDriver, capabilities: frozenset[str], threads: ThreadModel
    ) -> None:
        store = KVStore(kv, capabilities, threads)
        names = [b"a", b"m" * 600, b"z"]
        stop = threading.Event()
        torn: list[object] = []
        reads = [0, 0]

        def read(which: int) -> None:
            while not stop.is_set():
                if which:
                    found = [value for _, value in store.scan(limit=9)]
                else:
                    found = [value for value in store.get_many(names) if value is not None]
                reads[which] += 1
                if found and (len(found) != 3 or len(set(found)) != 1):
                    torn.append(found)
                    return

        readers = [threading.Thread(target=read, args=(which,)) for which in (0, 1)]
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + DEADLINE_SECONDS
        number = 0
        while not torn and (number < 300 or min(reads) < 100) and time.monotonic() < deadline:
            number += 1
            store.commit_sync([], [(name, b"%d" % number) for name in names])
        stop.set()
        for reader in readers:
            reader.join()
        assert torn == []
        assert min(reads) >= 100
        assert number >= 300

    def test_fast_reads_are_fast(self, kv: KVDriver, capabilities: frozenset[str]) -> None:
        if CAP_FAST_READS not in capabilities:
            pytest.skip("does not declare fast_reads")
        kv.commit([put(*((b"%04d" % number, b"v" * 200) for number in range(1000)))])
        seconds = []
        for number in range(300):
            began = time.perf_counter()
            kv.get(b"%04d" % number)
            seconds.append(time.perf_counter() - began)
        assert statistics.median(seconds) < FAST_READ_SECONDS

    # Durability.

    def test_rows_survive_reopening(
        self, open_driver: OpenDriver, capabilities: frozenset[str]
    ) -> None:
        if CAP_DURABLE not in capabilities:
            pytest.skip("does not declare durable")
        rows = sorted([(b"a", b""), (b"b", b"2"), (b"c" * KV_KEY_BYTES_MAX, b"3" * 5000)])
        driver = open_driver()
        driver.commit([put(*rows, (b"gone", b"1"))])
        driver.commit([put((b"gone", None))])
        for _ in range(2):
            driver.close()
            driver = open_driver()
            assert driver.scan(b"", KEY_END, limit=9) == rows
        driver.close()

    def test_acknowledged_commits_survive_sigkill(
        self,
        open_driver: OpenDriver,
        child: Callable[[str], subprocess.Popen[str]],
        capabilities: frozenset[str],
    ) -> None:
        if CAP_DURABLE not in capabilities:
            pytest.skip("does not declare durable")
        for _ in range(3):
            with child("acknowledge") as process:
                assert process.stdout is not None
                said = [process.stdout.readline() for _ in range(random.randint(1, 150))]
                assert said[-1], "the process ended by itself"
                process.kill()
                said += process.stdout.read().split("\n")[:-1]
                assert process.wait(DEADLINE_SECONDS) == -9
            last = int(said[-1])
            driver = open_driver()
            for number in range(1, last + 1):
                value = b"%d" % number * 40
                assert driver.get_many(kv_child.row(number)) == [value, value], (
                    f"{number} of {last}"
                )
            beyond = [driver.get_many(kv_child.row(last + more)) for more in range(1, 9)]
            assert all(left == right for left, right in beyond), "half a commit"
            driver.close()

    def test_a_refused_write_leaves_the_store_whole(
        self,
        open_driver: OpenDriver,
        child: Callable[[str], subprocess.Popen[str]],
        capabilities: frozenset[str],
    ) -> None:
        """Files that cannot grow: the batch fails, nothing of it shows, and service returns."""
        if CAP_DURABLE not in capabilities:
            pytest.skip("does not declare durable")
        with child("fill") as process:
            out, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == -9, "the process did not get through"
        report = json.loads(out)
        if not report["refused"]:
            pytest.skip("its files are elsewhere")
        assert report["shown"] == [], "a failed commit is visible"
        assert report["lost"] == [], "a failed commit took others with it"
        driver = open_driver()
        for number in report["acknowledged"]:
            assert all(driver.get_many(kv_child.row(number))), (
                f"{number} was acknowledged and is lost"
            )
        driver.close()

    # Processes.

    def test_processes_share_a_store(
        self,
        kv: KVDriver,
        child: Callable[[str], subprocess.Popen[str]],
        capabilities: frozenset[str],
    ) -> None:
        if not capabilities & {CAP_MULTI_PROCESS, CAP_MULTI_NODE}:
            pytest.skip("declares neither multi_process nor multi_node")
        with child("count") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            done = 0
            while done < 100:
                done += kv_child.increment(kv)
            assert process.stdout.readline() == "done\n"
        assert kv.get(kv_child.COUNTER) == b"200"

    def test_a_second_process_is_refused(
        self,
        kv: KVDriver,
        child: Callable[[str], subprocess.Popen[str]],
        capabilities: frozenset[str],
    ) -> None:
        if CAP_DURABLE not in capabilities or capabilities & {CAP_MULTI_PROCESS, CAP_MULTI_NODE}:
            pytest.skip("may be shared, or is private")
        with child("open") as process:
            out, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert out.startswith("unavailable "), "a second process opened the store"
        assert kv.commit([put((b"k", b"v"))]) == [None]
