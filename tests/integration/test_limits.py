"""Slow and greedy clients of a real server whose limits are configured, and one beside them, at another
address, that notices nothing."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time

import pytest

from objectio.testing.roles import wait_for

MIB = 1 << 20
SECONDS_MAX = 30


@pytest.fixture(autouse=True)
def plugins():
    for plugin in ("api_s3", "kv_lmdb"):
        pytest.importorskip(f"objectio_{plugin}", reason=f"the plugin {plugin} is not installed")


class Client:
    """Presigned requests over connections of its own, from one address of loopback."""

    def __init__(self, server, s3, address):
        self._server, self._s3, self._address = server, s3, address

    def raw(self):
        return contextlib.closing(
            socket.create_connection(
                self._server.address, timeout=SECONDS_MAX, source_address=(self._address, 0)
            )
        )

    def head(self, method, key, *headers):
        url = self._s3.generate_presigned_url(
            f"{method}_object", {"Bucket": "bucket", "Key": key}, HttpMethod=method.upper()
        )
        _, _, host, target = url.split("/", 3)
        lines = [f"{method.upper()} /{target} HTTP/1.1", f"host: {host}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    def status(self, *request):
        with self.raw() as wire:
            wire.sendall(self.head(*request))
            return status_of(wire)


def status_of(wire):
    answer = http.client.HTTPResponse(wire)
    answer.begin()
    answer.read()
    return answer.status


@pytest.fixture
def made(start, connect):
    """`made(**gateway)`: (server, a client that is watched, the same that is not)"""

    def make(**settings):
        server = start(settings={f"gateway.{key}": str(text) for key, text in settings.items()})
        s3 = connect(server, signature_version="s3v4")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="small", Body=b"x")
        s3.put_object(Bucket="bucket", Key="large", Body=bytes(64 * MIB))
        s3.close()
        return server, Client(server, s3, "127.0.0.7"), Client(server, s3, "127.0.0.2")

    return make


@contextlib.contextmanager
def beside(client):
    """A client that asks again and again, and is always served."""
    stop, statuses = threading.Event(), []

    def ask():
        while not stop.is_set():
            statuses.append(client.status("get", "small"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert len(statuses) > 3
    assert set(statuses) == {200}


def test_slow_clients_are_sent_away(made):
    _, slow, normal = made(
        head_seconds_max=1, write_seconds_max=1, body_idle_seconds=1, body_bytes_per_second_min=1000
    )
    with beside(normal):
        with slow.raw() as wire:
            wire.sendall(b"GET / HTTP/1.1\r\n")
            assert status_of(wire) == 408
        with slow.raw() as wire:
            wire.sendall(slow.head("put", "new", "content-length: 1000000"))
            assert drip_until_answered(wire) == 400
        with slow.raw() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.sendall(slow.head("get", "large"))
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            wait_for(lambda: is_gone(wire), "who takes nothing is cut", SECONDS_MAX)
            assert time.monotonic() - began >= 0.9


def drip_until_answered(wire):
    """One byte of the body at a time."""
    deadline = time.monotonic() + SECONDS_MAX
    wire.settimeout(0.02)
    while time.monotonic() < deadline:
        wire.send(b"x")
        with contextlib.suppress(TimeoutError):
            wire.recv(1, socket.MSG_PEEK)
            wire.settimeout(SECONDS_MAX)
            return status_of(wire)
    raise AssertionError("it was taken for ever")


def is_gone(wire):
    """Whether the other end has closed it; nothing is taken of what that has sent."""
    tcp_info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    established = 1  # include/net/tcp_states.h
    return tcp_info[0] != established


def test_one_address_gets_no_more_connections_than_it_may_have(made):
    server, greedy, normal = made(connections_per_address_max=4)
    with contextlib.ExitStack() as stack:
        there = [stack.enter_context(greedy.raw()) for _ in range(4)]
        for wire in there:
            wire.sendall(greedy.head("get", "small"))
            assert status_of(wire) == 200
        with beside(normal):
            assert [greedy.status("get", "small") for _ in range(5)] == [503] * 5
        there[0].sendall(greedy.head("get", "small"))
        assert status_of(there[0]) == 200
        there.pop().close()
        wait_for(lambda: greedy.status("get", "small") == 200, "there is room again", SECONDS_MAX)
    assert "refused 1 connections, the last from 127.0.0.7" in server.log_text()


def test_more_requests_than_there_may_be_are_told_to_slow_down(made):
    _, busy, normal = made(requests_max=1)
    with busy.raw() as wire:
        body = os.urandom(100_000)
        wire.sendall(busy.head("put", "new", f"content-length: {len(body)}"))
        wait_for(lambda: normal.status("get", "small") == 503, "the other is under way")
        wire.sendall(body)
        assert status_of(wire) == 200
    assert normal.status("get", "new") == 200
