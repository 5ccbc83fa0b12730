"""The benchmark's own parts: its client, its yardsticks, its table."""

from __future__ import annotations

import json
import shutil
import socket
import threading

import pytest

from objectio.limits import MIB
from objectio.testing.objects import MemoryObjects

bench = pytest.importorskip("benchmarks.bench")
from benchmarks import fill, load, report, server, yardsticks  # noqa: E402


@pytest.fixture(scope="module")
def null(tmp_path_factory):
    null = server.null_server(tmp_path_factory.mktemp("null"))
    with server.running(null):
        yield null


def test_transfers_of_the_empty_handler(null):
    paths = [f"/stream/{3 * MIB + 8}"] * 3
    assert load.transfer(null.endpoint, "GET", paths, size=3 * MIB + 8, at_once=2) > 0
    assert load.transfer(null.endpoint, "PUT", ["/a", "/b"], size=MIB, at_once=1) > 0


def test_a_transfer_of_the_wrong_length_is_a_failure(null):
    with pytest.raises(load.Failed, match="1000 bytes instead of 1048576"):
        load.transfer(null.endpoint, "GET", ["/stream/1000"], size=MIB, at_once=1)


def test_memory_is_sampled(null):
    with server.MemorySampler(null, interval_seconds=0.001) as sampler:
        load.transfer(null.endpoint, "GET", [f"/stream/{MIB}"], size=MIB, at_once=1)
    assert 5 * MIB < sampler.peak_bytes < 1000 * MIB


@pytest.mark.client
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk(null):
    found = load.wrk(null.endpoint, "PUT", ["/a?x=1", "/b"], seconds=1, body_bytes=100)
    assert found.requests > 100
    assert found.per_second == pytest.approx(found.requests, rel=0.2)


def answer(reply):
    """A server that answers one request with these bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as client:
            client.recv(65536)
            client.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return load.Connection("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    ],
)
def test_bodies_are_read(reply):
    connection = answer(reply)
    assert connection.get("/x", keep=True) == (11, b"hello world")
    connection.close()


def test_an_answer_without_a_body():
    connection = answer(b"HTTP/1.1 204 No Content\r\nx-amz-id-2: a\r\n\r\n")
    assert connection.exchange("DELETE", "/x") == b""
    connection.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"",
    ],
)
def test_anything_else_is_a_failure(reply):
    connection = answer(reply)
    with pytest.raises(load.Failed):
        connection.get("/x?secret")
    connection.close()


def test_yardsticks(tmp_path):
    assert yardsticks.md5_bytes_per_second(0.02) > MIB
    assert yardsticks.device_writes_per_second(tmp_path, 4096, 0.02) > 1
    assert list(tmp_path.iterdir()) == []


async def test_filling_makes_every_key():
    objects = MemoryObjects()
    await fill.put_keys(objects, "bucket", 1234)
    page = await objects.list_objects("bucket", limit=1000)
    rest = await objects.list_objects("bucket", after=page.objects[-1].key, limit=1000)
    names = [each.key.decode() for each in (*page.objects, *rest.objects)]
    assert names == [fill.key_name(number) for number in range(1234)]


def test_the_table_and_the_file(tmp_path, monkeypatch):
    fields = {"value": "1", "yardstick": "2", "ratio": "0.50", "aim": "≥ 0.4"}
    results = [
        bench.Result(name="a", title="first", passed=True, **fields),
        bench.Result(name="b", title="second", passed=False, samples={"ours": [1.0]}, **fields),
        bench.failed("c", "third", "≥ 1", load.Failed("no\nserver")),
    ]
    lines = report.table(results).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["pass", "MISS", "MISS"]
    assert "failed: no server" in lines[4]
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    document = json.loads(report.write(results, bench.QUICK).read_text())
    assert document["results"][1]["samples"] == {"ours": [1.0]}
