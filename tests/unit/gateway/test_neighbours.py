"""The processes of one supervisor, shown by any of them."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from objectio.abc.metrics import NullMetrics
from objectio.gateway.app import GatewayApp
from objectio.gateway.gate import Gate
from objectio.gateway.health import Health
from objectio.gateway.neighbours import Neighbours, ask, merge
from objectio.gateway.server import HttpServer

ONE = """\
# HELP x_total What x counts.
# TYPE x_total counter
x_total 3.0
x_total{op="put",path="{/ }"} 4.0
# HELP h Seconds.
# TYPE h histogram
h_bucket{le="1.0"} 1.0
h_bucket{le="+Inf"} 2.0
h_sum 7.5
"""
TWO = """\
# HELP x_total Told in other words.
# TYPE x_total counter
x_total{} 5.0
# TYPE only_here gauge
only_here 1 1700000000
"""


class Shown:
    metrics = NullMetrics()

    def __init__(self, text, content_type="text/plain; version=0.0.4"):
        self._answer = content_type, text.encode()

    def render(self, accept=""):
        return self._answer


def test_samples_of_all_processes_stand_under_one_head():
    assert merge({"b": TWO, "a": ONE}) == (
        "# HELP x_total What x counts.\n"
        "# TYPE x_total counter\n"
        'x_total{process="a"} 3.0\n'
        'x_total{process="a",op="put",path="{/ }"} 4.0\n'
        'x_total{process="b"} 5.0\n'
        "# HELP h Seconds.\n"
        "# TYPE h histogram\n"
        'h_bucket{process="a",le="1.0"} 1.0\n'
        'h_bucket{process="a",le="+Inf"} 2.0\n'
        'h_sum{process="a"} 7.5\n'
        "# TYPE only_here gauge\n"
        'only_here{process="b"} 1 1700000000\n'
    )


def test_the_merged_text_is_one_that_prometheus_reads():
    parser = pytest.importorskip("prometheus_client.parser")
    families = list(parser.text_string_to_metric_families(merge({"a": ONE, "b": TWO})))
    assert [family.name for family in families] == ["x", "h", "only_here"]
    found = {(sample.labels["process"], sample.value) for sample in families[0].samples}
    assert found == {("a", 3.0), ("a", 4.0), ("b", 5.0)}


@pytest.fixture
async def processes(tmp_path, world):
    """`run(name, text, ok)`: a process whose metrics and health are at its socket."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(name, text, ok=True, host="", **options):
            neighbours = Neighbours(tmp_path, name)
            app = GatewayApp(
                {},
                Gate(world.store),
                health=Health(lambda: {"ok": ok}, neighbours=neighbours),
                exporter=Shown(text),
                neighbours=neighbours,
            )
            also = [f"unix:{tmp_path / name}.http"]
            server = HttpServer(app, host, 0, also=also, **options)
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield run


async def get(server, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET %b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" % path.encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def test_the_port_shows_all_and_the_socket_of_each_only_itself(processes, tmp_path):
    one = await processes("a", ONE, host="127.0.0.1")
    two = await processes("b", TWO, ok=False, host="127.0.0.1")
    gone = await processes("c", TWO)
    await gone.stop()
    (tmp_path / "c.http").touch()  # as a process leaves it that was killed
    status, body = await get(one, "/health")
    assert (status, json.loads(body)) == (
        200,
        {"status": "ok", "processes": {"a": "ok", "b": "unavailable", "c": "down"}},
    )
    status, body = await get(two, "/health")
    assert (status, json.loads(body)["processes"]["a"]) == (503, "ok")
    status, body = await get(one, "/metrics")
    assert b'x_total{process="b"} 5.0' in body
    assert await ask(tmp_path / "a.http", "/health") == (200, b'{"status": "ok"}')
    assert await ask(tmp_path / "b.http", "/health") == (503, b'{"status": "unavailable"}')
    assert await ask(tmp_path / "b.http", "/metrics") == (200, TWO.encode())
    assert await ask(tmp_path / "c.http", "/metrics") is None


async def test_one_shows_the_metrics_of_all(tmp_path):
    """Whoever does not answer is shown as down."""
    shown = Shown(ONE)
    found = Neighbours(tmp_path, "a")
    server = await asyncio.start_unix_server(answer_with(TWO), tmp_path / "b.http")
    (tmp_path / "c.http").touch()
    async with server:
        content_type, text = await found.metrics(shown)
    assert content_type.startswith("text/plain; version=0.0.4")
    lines = text.decode().splitlines()
    assert 'x_total{process="a"} 3.0' in lines
    assert 'x_total{process="b"} 5.0' in lines
    assert 'objectio_process_up{process="b"} 1' in lines
    assert 'objectio_process_up{process="c"} 0' in lines


async def test_another_format_is_shown_alone(tmp_path):
    shown = Shown("anything", "application/x-other")
    assert await Neighbours(tmp_path, "a").metrics(shown) == ("application/x-other", b"anything")


async def test_a_process_that_does_not_answer_is_down(tmp_path, monkeypatch):
    monkeypatch.setattr("objectio.gateway.neighbours.ANSWER_SECONDS_MAX", 0.05)
    release = asyncio.Event()

    async def hang(reader, writer):
        await release.wait()
        writer.close()

    async with await asyncio.start_unix_server(hang, tmp_path / "b.http"):
        assert await Neighbours(tmp_path, "a").health(ok=True) == {"a": "ok", "b": "down"}
        release.set()


def answer_with(text):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = text.encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    return answer
