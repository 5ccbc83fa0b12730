"""The stream of events: what is told, to whom, and until when. Over real sockets where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time

import msgspec
import pytest
from objectio_api_admin import events, watch
from objectio_api_admin.frontend import AdminFactory

from objectio import errors
from objectio.abc.admin import Finding
from objectio.abc.api import ApiContext
from objectio.abc.cluster import ClusterStatus, NodeStatus
from objectio.abc.metrics import NullMetrics
from objectio.iam.credentials import root_credential
from objectio.iam.signer import sign_request
from objectio.testing.api import NOBODY, call, server_of
from objectio.testing.objects import MemoryObjects

SECONDS_MAX = 20.0
KEYS = "ACCESSKEY", "SECRETSECRET"


def replaced(struct, **fields):
    return msgspec.structs.replace(struct, **fields)


class Changing:
    """An admin whose answers a test changes: `answers` by name; an exception is raised."""

    def __init__(self, written):
        self.asked = 0
        self._written = written
        self.answers = {}

    def __getattr__(self, name):
        async def answer(*_):
            self.asked += 1
            found = self.answers.get(name)
            if isinstance(found, Exception):
                raise found
            return await getattr(self._written, name)() if found is None else found

        return answer


@pytest.fixture
def changing(admin):
    return Changing(admin)


class Served:
    """The front end at a port, with a watch that looks as fast as it can."""

    def __init__(self, changing):
        context = ApiContext(
            objects=MemoryObjects(), metrics=NullMetrics(), admin=changing, cluster=changing
        )
        self.front_end = AdminFactory().build(context)
        self.watch = self.front_end.watch
        self.watch.look_seconds = 0.005
        self.server = server_of(self.front_end, root_credential(*KEYS))

    async def until(self, condition):
        deadline = time.monotonic() + SECONDS_MAX
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


@pytest.fixture
async def served(changing):
    made = Served(changing)
    await made.server.start()
    yield made
    made.front_end.stop()
    await made.server.stop(1.0)


def request(port):
    headers = [(b"host", f"127.0.0.1:{port}".encode())]
    headers = sign_request(
        root_credential(*KEYS),
        "GET",
        b"/_admin/v1/events",
        b"",
        headers,
        content_sha256=b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return b"GET /_admin/v1/events HTTP/1.1\r\n%b\r\n" % lines


class Stream:
    """One client: `await next()` is the data of the next event; lines between events are in `other`."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.other, self.ids = [], []
        self.ended = False

    @classmethod
    async def open(cls, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
        writer.write(request(served.server.port))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS_MAX)
        stream = cls(reader, writer)
        stream.head = head.decode().lower()
        return stream

    async def next(self, *kinds):
        """The next event, or the next that is one of `kinds`. None at the end of the response."""
        async with asyncio.timeout(SECONDS_MAX):
            while (found := await self._next()) is not None:
                if not kinds or found["type"] in kinds:
                    return found
        return None

    async def _next(self):
        fields = {}
        while not self.ended:
            line = await self._line()
            if line == "" and "data" in fields:
                said = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (said["id"], said["type"])
                self.ids.append(said["id"])
                return said
            name, _, value = line.partition(": ")
            if line and not line.startswith(":") and name != "retry":
                fields[name] = value
            elif line:
                self.other.append(line)
        return None

    async def _line(self):
        """Of the chunks (RFC 9112 §7.1), each of which has whole lines."""
        if not getattr(self, "_lines", None):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2].decode()
            if not size:
                self.ended = True
                return ""
            assert chunk.endswith("\n")
            self._lines = chunk[:-1].split("\n")
        return self._lines.pop(0)

    async def close(self):
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@pytest.fixture
async def stream(served):
    opened = await Stream.open(served)
    yield opened
    await opened.close()


# What is told.


async def test_the_first_event_is_the_state(stream):
    assert " 200 ok" in stream.head.splitlines()[0]
    assert "content-type: text/event-stream" in stream.head
    assert "cache-control: no-store" in stream.head
    assert "x-objectio-request-id: " in stream.head
    said = await stream.next()
    assert stream.other == ["retry: 1000"]
    assert said["type"] == "state"
    assert said["cluster"]["state"] == "waiting"
    assert [disk["osd"] for disk in said["disks"]] == list(range(6))
    assert said["repair"]["repaired_shards"] == 5
    assert (said["scrub"]["running"], said["rebalance"]["epoch"]) == (False, 3)
    assert [each["what"] for each in said["findings"]] == ["w"]
    assert said["unknown"] == []
    assert msgspec.json.decode(json.dumps(said), type=events.Event), (
        "of the type that is documented"
    )


async def test_what_changes_is_told_and_nothing_else(stream, changing, served):
    await stream.next("state")
    asked = changing.asked
    await served.until(lambda: changing.asked > asked + 60)  # several looks: nothing has changed
    disks = await changing.disks()
    disks[3] = replaced(disks[3], state="up", slow=True, capacity_bytes=1 << 40)
    disks[4] = replaced(disks[4], capacity_bytes=9, used_bytes=7, live_bytes=7, shards=7)
    changing.answers["disks"] = disks
    said = await stream.next()
    assert (said["type"], said["osd"]) == ("disk", 3)
    assert said["changed"] == ["state", "slow"]
    assert (said["before"]["state"], said["now"]["state"]) == ("down", "up")

    changing.answers["disks"] = [*disks[:5], replaced(disks[0], osd=9)]
    gone, came = await stream.next(), await stream.next()
    assert (gone["osd"], gone["now"], gone["before"]["osd"]) == (5, None, 5)
    assert (came["osd"], came["before"], came["now"]["osd"]) == (9, None, 9)

    repair = await changing.repair()
    changing.answers["repair"] = replaced(repair, repaired_shards=6)
    assert (await stream.next())["now"]["repaired_shards"] == 6
    changing.answers["scrub"] = await changing.start_scrub()
    said = await stream.next()
    assert (said["type"], said["now"]["running"]) == ("scrub", True)
    changing.answers["rebalance"] = replaced(await changing.rebalance(), groups_moving=9)
    said = await stream.next()
    assert (said["type"], said["now"]["groups_moving"]) == ("rebalance", 9)


async def test_nodes_and_the_map(stream, changing):
    await stream.next("state")
    node = NodeStatus(node="n2", role="osd", address="a:1", alive=True, seen_ms=1)
    status = await changing.status()
    changing.answers["status"] = ClusterStatus(
        cluster_id="c", epoch=4, state="serving", reason="", pool="p", nodes=(node,)
    )
    said = [await stream.next() for _ in range(3)]
    assert [each["type"] for each in said] == ["cluster", "map", "node"]
    assert (said[0]["state"], said[0]["reason"]) == ("serving", "")
    assert (said[1]["epoch"], said[1]["epoch_before"]) == (4, status.epoch)
    assert (said[2]["node"], said[2]["before"], said[2]["now"]["address"]) == ("n2", None, "a:1")
    later = replaced(changing.answers["status"], nodes=(replaced(node, seen_ms=5),))
    changing.answers["status"] = later
    changing.answers["status"] = replaced(later, nodes=(replaced(node, alive=False, seen_ms=6),))
    said = await stream.next()
    assert (said["before"]["alive"], said["now"]["alive"]) == (True, False)


async def test_findings_that_come_and_go(stream, changing):
    await stream.next("state")
    (first,) = await changing.doctor()
    second = Finding(severity="critical", what="x", meaning="m", action="a")
    changing.answers["doctor"] = [second]
    said = await stream.next()
    assert [each["what"] for each in said["findings"]] == ["x"]
    assert [each["what"] for each in said["new"]] == ["x"]
    assert [each["what"] for each in said["gone"]] == [first.what]


async def test_what_cannot_be_asked_is_unknown_until_it_can(stream, changing, served):
    await stream.next("state")
    disks = await changing.disks()
    for name in ("disks", "doctor"):
        changing.answers[name] = errors.Unavailable("no connection")
    seen = set()
    while seen != {"disks", "findings"}:
        said = await stream.next()
        assert said["type"] == "unknown", "a disk that nobody can ask is not gone"
        seen = set(said["unknown"])
    other = await Stream.open(served)
    said = await other.next("state")
    assert (said["disks"], said["findings"]) == (None, None)
    assert set(said["unknown"]) == {"disks", "findings"}
    changing.answers["disks"] = [replaced(disks[0], state="failed"), *disks[1:]]
    said = [await stream.next(), await stream.next()]
    assert [(each["type"], each.get("osd")) for each in said] == [("disk", 0), ("unknown", None)]
    assert said[1]["unknown"] == ["findings"]
    assert (await other.next("disk"))["before"]["state"] == "up", (
        "compared with what was known last"
    )
    await other.close()


async def test_a_failure_of_ours_is_unknown_too(stream, changing, caplog):
    await stream.next("state")
    changing.answers["repair"] = ValueError("a bug")
    assert (await stream.next())["unknown"] == ["repair"]
    changing.answers.clear()
    assert (await stream.next())["unknown"] == []
    assert "asking for repair" in caplog.text


async def test_ids_are_unique_and_ascend(stream, changing, served):
    other = await Stream.open(served)
    for number in range(5):
        changing.answers["repair"] = replaced(await changing.repair(), repaired_bytes=number)
        await stream.next("repair")
    await other.next("repair")
    for each in (stream, other):
        numbers = [int(one.rpartition("-")[2]) for one in each.ids]
        assert numbers == sorted(set(numbers))
        assert {one.rpartition("-")[0] for one in each.ids} == {stream.ids[0].rpartition("-")[0]}
    await other.close()


# To whom, and until when.


async def test_nobody_looks_while_nobody_listens(served, changing):
    assert changing.asked == 0
    streams = [await Stream.open(served) for _ in range(3)]
    for each in streams:
        await each.next("state")
    assert served.watch.listeners == 3
    for each in streams:
        await each.close()
    await served.until(lambda: served.watch.listeners == 0)
    asked = changing.asked
    await asyncio.sleep(0.1)  # twenty looks
    assert changing.asked == asked
    again = await Stream.open(served)
    assert (await again.next())["type"] == "state"
    await again.close()


async def test_a_heartbeat_keeps_a_silent_connection(served):
    served.watch.heartbeat_seconds = 0.01
    stream = await Stream.open(served)
    await stream.next("state")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await stream._next()
    assert stream.other.count(":") >= 2
    await stream.close()


async def test_it_ends_in_time_for_the_client_to_ask_again(served):
    served.watch.stream_seconds_max = 0.2
    stream = await Stream.open(served)
    await stream.next("state")
    assert await stream.next() is None
    assert served.watch.listeners == 0
    await stream.close()


async def test_it_ends_when_the_server_stops(served):
    streams = [await Stream.open(served) for _ in range(2)]
    for each in streams:
        await each.next("state")
    started = time.monotonic()
    served.front_end.stop()
    await served.server.stop()
    assert time.monotonic() - started < 3.0
    for each in streams:
        assert await each.next() is None
        await each.close()
    answer = await call(served.front_end, "GET", "/_admin/v1/events")
    assert answer.status == 503


async def test_so_many_may_listen_and_no_more(served, monkeypatch):
    monkeypatch.setattr(watch, "LISTENERS_MAX", 2)
    streams = [await Stream.open(served) for _ in range(2)]
    for each in streams:
        await each.next("state")
    refused = await Stream.open(served)
    assert " 503 " in refused.head.splitlines()[0]
    assert "retry-after: 1" in refused.head
    await refused.close()
    await streams[0].close()
    await served.until(lambda: served.watch.listeners == 1)
    again = await Stream.open(served)
    assert (await again.next())["type"] == "state"
    for each in (again, streams[1]):
        await each.close()


async def test_who_does_not_read_is_cut_off_and_costs_the_others_nothing(
    served, changing, monkeypatch
):
    monkeypatch.setattr(watch, "QUEUE_MAX", 50)
    disks = await changing.disks()
    many = [replaced(disks[0], osd=osd, reason="x" * 1000) for osd in range(20)]
    changing.answers["disks"] = many
    loop = asyncio.get_running_loop()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    await loop.sock_connect(slow, ("127.0.0.1", served.server.port))
    await loop.sock_sendall(slow, request(served.server.port))
    await served.until(lambda: served.watch.listeners == 1)
    normal = await Stream.open(served)
    await normal.next("state")
    assert served.watch.listeners == 2
    number, deadline = 0, time.monotonic() + SECONDS_MAX
    while served.watch.listeners == 2:
        assert time.monotonic() < deadline
        number += 1
        changing.answers["disks"] = [replaced(each, reason=f"{number}" * 500) for each in many]
        for _ in many:
            await normal.next("disk")
    assert served.watch.listeners == 1
    changing.answers["disks"] = disks
    assert (await normal.next("disk"))["now"]["reason"] == ""
    slow.close()
    await normal.close()


async def test_one_does_not_keep_all_others_from_listening(changing):
    watched = Served(changing).watch
    for _ in range(watch.LISTENERS_OF_ONE_MAX):
        listener = watched.listen("arn:one")
    with pytest.raises(errors.Unavailable):
        watched.listen("arn:one")
    others = [watched.listen("arn:other") for _ in range(5)]
    listener.close()
    assert watched.listen("arn:one").whose == "arn:one"
    assert len(others) == 5


async def test_who_takes_nothing_for_long_is_cut_off(changing):
    served = Served(changing)
    served.watch.send_seconds_max = 0.05
    listener = served.watch.listen()
    sent = []

    async def send(message):
        sent.append(message)
        if len(sent) > 2:
            await asyncio.Event().wait()

    with pytest.raises(errors.Unavailable):
        await watch.send_events(listener, "R", asyncio.Event().wait, send)
    assert served.watch.listeners == 0


async def test_it_may_be_stopped_while_a_client_does_not_read(changing):
    served = Served(changing)
    listener = served.watch.listen()
    blocked = asyncio.Event()

    async def send(message):
        blocked.set()
        await asyncio.Event().wait()

    sending = asyncio.ensure_future(
        listener.hand_over(send({"type": "http.response.body", "body": b""}))
    )
    await blocked.wait()
    served.front_end.stop()
    with pytest.raises(errors.Unavailable):
        await asyncio.wait_for(sending, 5.0)
    listener.close()


async def test_without_anything_to_look_at():
    front_end = AdminFactory().build(ApiContext(objects=MemoryObjects(), metrics=NullMetrics()))
    assert (await call(front_end, "GET", "/_admin/v1/events")).status == 501


async def test_who_may_not_is_not_let_in(served):
    for identity in (NOBODY, NOBODY._replace(account="123456789012")):
        answer = await call(served.front_end, "GET", "/_admin/v1/events", identity=identity)
        assert answer.status == 403
        assert answer.headers["content-type"] == "application/json"
    assert served.watch.listeners == 0


# What is different: the pure part.


def test_a_part_that_nothing_was_known_of_is_all_new():
    finding = Finding(severity="info", what="w", meaning="m", action="a")
    made = list(events.changes({}, {"findings": []}, lambda kind, **fields: (kind, fields))) + list(
        events.changes({}, {"findings": [finding]}, lambda kind, **fields: (kind, fields))
    )
    assert [fields["new"] for _, fields in made] == [[], [finding]]


@pytest.mark.parametrize("part", ["repair", "rebalance"])
async def test_a_rate_alone_is_no_change(part, admin):
    status = await getattr(admin, part)()
    sinks = replaced(status, bytes_per_second=status.bytes_per_second + 1, seconds_left=77.0)
    moves = replaced(sinks, bytes_left=status.bytes_left + 1)
    told = [
        [fields["now"] for _, fields in events.changes({part: status}, {part: now}, _pair)]
        for now in (sinks, moves)
    ]
    assert told == [[], [moves]]


def _pair(kind, **fields):
    return kind, fields


def test_a_frame_has_its_data_in_one_line():
    event = events.ClusterEvent(id="a-1", time_ms=1, state="waiting", reason="a\nb\r\n", pool="")
    lines = events.frame(event).split(b"\n")
    assert lines[:2] == [b"id: a-1", b"event: cluster"]
    assert lines[3:] == [b"", b""]
    assert b"\r" not in events.frame(event)
    assert json.loads(lines[2].removeprefix(b"data: "))["reason"] == "a\nb\r\n"
