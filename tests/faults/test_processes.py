"""kill -9 of each process of a store under load: what clients see, and that nothing is lost.

pytest tests/faults/test_processes.py -s        # shows the tables
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectio.testing.cluster import fetch_metrics, read_metric
from objectio.testing.load import HalfSent, Load, summary
from objectio.testing.shapes import RoleServer, WorkerServer, children_of

AWAY_SECONDS = 2.0
"""For how long a process that nobody looks after is gone."""
QUIET_SECONDS = 1.0
SERVED_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 10.0
"""Nobody waits longer for an answer, whatever is killed."""
AT_ONCE_SECONDS = 1.0
SETTINGS = {"osd.check_seconds": "0.2", "store.repair_interval_seconds": "0.5"}
FEW = {"gateway-0", "osd-0", "meta"}
ALL = {"gateway-0", "gateway-1", "osd-0", "osd-1", "meta"}


@pytest.fixture(scope="module")
def shape():
    """Of the server that most of these tests share; its disks are counted when the last is over."""
    return "roles"


@pytest.fixture(scope="module")
def shared_settings():
    return SETTINGS


@pytest.fixture
def store(shared_store):
    return shared_store


@pytest.fixture
def start(tmp_path, store_of):
    """`start(kind, **options)`: a `Store` on a server of its own."""
    opened = []

    def make(kind, **options):
        options = {"settings": SETTINGS, **options}
        server = kind(tmp_path / f"data{len(opened)}", **options)
        server.start()
        opened.append(store_of(server))
        opened[-1].make_bucket()
        return opened[-1]

    yield make
    for store in opened:
        store.close()
        store.server.kill()


def longest_gap(calls, began, ended, kind):
    """The longest time in which nothing of a kind was served, to any client."""
    moments = sorted(
        call.ended
        for call in calls
        if not call.error and call.kind == kind and began < call.ended < ended
    )
    return max(b - a for a, b in zip([began, *moments], [*moments, ended], strict=True))


class Table:
    """What was killed, and what clients saw of it."""

    def __init__(self, title):
        self.lines = [
            title,
            f"{'killed':12}{'requests':>9}{'errors':>8}{'longest':>9}{'no reads':>10}{'no writes':>10}"
            f"{'all served':>12}  which errors",
        ]

    def add(self, name, load, killed, started, served):
        """`started`: when the process was started again; `served`: when the last error was."""
        calls = load.since(killed)
        errors = [call for call in calls if call.error]
        slowest = max(call.seconds for call in calls)
        gaps = [longest_gap(calls, killed, time.monotonic(), kind) for kind in ("read", "write")]
        which = ", ".join(f"{n} {what}" for what, n in sorted(summary(errors).items()))
        self.lines.append(
            f"{name:12}{len(calls):9}{len(errors):8}{slowest:7.2f} s{gaps[0]:8.2f} s{gaps[1]:8.2f} s"
            f"{max(0.0, served - started) if errors else 0.0:10.2f} s  {which}"
        )
        assert slowest < ANSWER_SECONDS_MAX, self.lines[-1]

    def show(self):
        print("\n" + "\n".join(self.lines))


def check_all(store, load):
    """What was acknowledged is there, and nothing else is."""
    load.verify()
    store.abort_uploads()
    assert store.keys() == load.keys()


def wait_healthy(store, eventually):
    eventually(store.server.healthy, SERVED_SECONDS_MAX, "every gateway serves")


@pytest.mark.parametrize(
    "names",
    [pytest.param(FEW, id="few"), pytest.param(ALL, id="all", marks=pytest.mark.slow)],
)
def test_separate_processes_are_killed_in_turn(store, seed, eventually, names):
    """Each is gone for a while, and then started again by hand."""
    processes = store.server.processes
    table = Table(f"separate processes, gone for {AWAY_SECONDS} s each, then started again")
    load = Load(store.s3.clients, store.bucket, seed=seed, part_size_bytes=5 << 20)
    with load:
        load.wait_served(QUIET_SECONDS, SERVED_SECONDS_MAX)
        for name in sorted(names):
            killed = time.monotonic()
            processes[name].kill()
            time.sleep(AWAY_SECONDS)
            started = time.monotonic()
            processes[name].start()
            wait_healthy(store, eventually)
            table.add(name, load, killed, started, load.wait_served(1.0, SERVED_SECONDS_MAX))
    table.show()
    check_all(store, load)


@pytest.mark.slow
def test_workers_are_killed_in_turn_and_then_their_supervisor(
    start, seed, eventually, assert_clean
):
    """The supervisor starts again what was killed; when it is killed, all is, at once."""
    store = start(WorkerServer)
    server = store.server
    table = Table("serve --workers 2")
    load = Load(store.s3.clients, store.bucket, seed=seed)
    with load:
        load.wait_served(QUIET_SECONDS, SERVED_SECONDS_MAX)
        for name in [*sorted(ALL), "supervisor"]:
            pid, children = server.pids()[name], children_of(server.pid)
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            if name == "supervisor":
                eventually(lambda: not any(map(is_there, children.values())), 5, "children end")  # noqa: B023
                server.kill()  # reaps it
                server.start()
            else:
                eventually(
                    lambda: children_of(server.pid).get(name, pid) != pid,  # noqa: B023
                    SERVED_SECONDS_MAX,
                    f"{name} is started again",
                )
            wait_healthy(store, eventually)
            table.add(name, load, killed, killed, load.wait_served(1.0, SERVED_SECONDS_MAX))
    table.show()
    check_all(store, load)
    assert_clean(store)


def is_there(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def answers(calls):
    """The status of each call, and the longest time that one took."""
    from botocore.exceptions import ClientError

    def timed(call):
        began = time.monotonic()
        try:
            status = call()["ResponseMetadata"]["HTTPStatusCode"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status, time.monotonic() - began

    with ThreadPoolExecutor(len(calls)) as pool:
        rows = list(pool.map(timed, calls))
    return [status for status, _ in rows], max(seconds for _, seconds in rows)


def reads_and_writes(s3, bucket, key):
    where = {"Bucket": bucket, "Key": key}
    return {
        "get": lambda: read(s3, **where),
        "put": lambda: s3.put_object(Body=os.urandom(100_000), Bucket=bucket, Key="other"),
    }


def about_metadata(s3, bucket, key):
    return {
        "head": lambda: s3.head_object(Bucket=bucket, Key=key),
        "list": lambda: s3.list_objects_v2(Bucket=bucket),
        "delete": lambda: s3.delete_object(Bucket=bucket, Key="nothing"),
        "upload": lambda: s3.create_multipart_upload(Bucket=bucket, Key=key),
        "buckets": lambda: s3.list_buckets(),
    }


def read(s3, **where):
    answer = s3.get_object(**where)
    answer["Body"].read()
    return answer


def test_a_gateway_without_metadata_refuses_at_once(store, eventually):
    store.put("key", os.urandom(300_000))
    meta = store.server.processes["meta"]
    meta.kill()
    for _ in range(3):  # at the very moment, and later
        for s3 in store.s3.clients:
            calls = reads_and_writes(s3, store.bucket, "key")
            calls |= about_metadata(s3, store.bucket, "key")
            statuses, seconds = answers([*calls.values()])
            assert set(statuses) == {503}, dict(zip(calls, statuses, strict=True))
            assert seconds < AT_ONCE_SECONDS
        time.sleep(0.5)
    assert not store.server.healthy()
    meta.start()
    wait_healthy(store, eventually)
    for s3 in store.s3.clients:
        calls = reads_and_writes(s3, store.bucket, "key") | about_metadata(s3, store.bucket, "key")
        statuses, _ = answers([*calls.values()])
        assert set(statuses) <= {200, 204}, dict(zip(calls, statuses, strict=True))
    store.abort_uploads()
    assert store.keys() == ["key", "other"]


def test_without_half_of_the_disks_reads_and_writes_are_refused_at_once(store, eventually):
    """Three of six are more than 4+2 can miss. What is about metadata alone goes on."""
    store.put("key", os.urandom(300_000))
    osd = store.server.processes["osd-1"]
    osd.kill()
    for _ in range(3):
        for s3 in store.s3.clients:
            calls = reads_and_writes(s3, store.bucket, "key")
            statuses, seconds = answers([*calls.values()])
            assert statuses == [503, 503]
            assert seconds < AT_ONCE_SECONDS
            statuses, _ = answers([*about_metadata(s3, store.bucket, "key").values()])
            assert set(statuses) <= {200, 204}
        time.sleep(0.5)
    osd.start()
    for s3 in store.s3.clients:
        eventually(
            lambda: answers([*reads_and_writes(s3, store.bucket, "key").values()])[0] == [200, 200],  # noqa: B023
            SERVED_SECONDS_MAX,
            "reads and writes go on",
        )
    store.abort_uploads()
    assert store.keys() == ["key", "other"]


@pytest.mark.slow
def test_with_one_of_six_osd_processes_gone_all_goes_on(start, seed, eventually, assert_clean):
    store = start(RoleServer, osd_processes=6)
    osds = [process for name, process in store.server.processes.items() if name[:3] == "osd"]
    table = Table(f"one of six processes with disks, gone for {AWAY_SECONDS} s, then started again")
    load = Load(store.s3.clients, store.bucket, seed=seed)
    with load:
        for osd in osds[:3]:
            load.wait_served(QUIET_SECONDS, SERVED_SECONDS_MAX)
            killed = time.monotonic()
            osd.kill()
            time.sleep(AWAY_SECONDS)
            started = time.monotonic()
            osd.start()
            eventually(
                lambda: store.server.metric("objectio_store_osds_up") == 6, SERVED_SECONDS_MAX
            )
            served = load.wait_served(1.0, SERVED_SECONDS_MAX)
            table.add(osd.name, load, killed, started, served)
            store.wait_repaired()
    table.show()
    assert not [call for call in load.calls if call.error]
    check_all(store, load)
    assert_clean(store)


# A gateway that stands still for longer than it is waited for.


def test_a_gateway_that_stood_still_for_too_long_changes_nothing(
    start, eventually, blob_of_bytes, assert_clean
):
    """Another has overwritten and deleted meanwhile what it was about to write."""
    store = start(RoleServer, settings=SETTINGS | {"cluster.lease_seconds": "2"})
    server, bucket = store.server, store.bucket
    still, other = store.s3.clients
    keys = [f"key-{number}" for number in range(16)]
    stop = threading.Event()

    def overwrite(key):
        """Until told to stop; the last answer."""
        answer = None
        while not stop.is_set():
            body = blob_of_bytes(20_000)
            put = lambda body=body: still.put_object(Bucket=bucket, Key=key, Body=body)  # noqa: E731
            answer = answers([put])[0][0]
        return answer

    large = blob_of_bytes(12 << 20)
    other.put_object(Bucket=bucket, Key="read", Body=large)
    with ThreadPoolExecutor(len(keys)) as pool:
        overwritten = [pool.submit(overwrite, key) for key in keys]
        half = HalfSent(still, bucket, "half", blob_of_bytes(12 << 20))
        reading = still.get_object(Bucket=bucket, Key="read")["Body"]
        first = reading.read(100_000)
        eventually(lambda: len(store.keys("key-")) == len(keys), what="all were written once")
        process = server.processes["gateway-0"]
        os.kill(process.pid, signal.SIGSTOP)
        stop.set()
        try:
            meta = server.metrics_endpoints["meta"]
            eventually(
                lambda: read_metric([fetch_metrics(meta)], "objectio_sessions_fenced_total") == 1,
                what="it is taken for dead",
            )
            last = {key: blob_of_bytes(30_000) for key in [*keys[4:], "half"]}
            for key, body in last.items():
                other.put_object(Bucket=bucket, Key=key, Body=body)
            for key in [*keys[:4], "read"]:
                other.delete_object(Bucket=bucket, Key=key)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert half.finish() in (0, 503)
        statuses = {each.result(ANSWER_SECONDS_MAX) for each in overwritten}
        assert statuses <= {200, 503}  # 200: it was done before
    rest = read_rest(reading)
    assert (first + rest) == large[: 100_000 + len(rest)]
    eventually(server.healthy, what="it has a new session")
    for s3 in (still, other):
        listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert [entry["Key"] for entry in listed] == sorted(last)
        for key, body in last.items():
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    still.put_object(Bucket=bucket, Key="again", Body=b"again")
    assert other.get_object(Bucket=bucket, Key="again")["Body"].read() == b"again"
    assert_clean(store)


def read_rest(body):
    """As much as comes."""
    from botocore.exceptions import IncompleteReadError, ResponseStreamingError

    pieces = []
    try:
        while piece := body.read(100_000):
            pieces.append(piece)
    except (IncompleteReadError, ResponseStreamingError):
        pass
    return b"".join(pieces)
