"""HTTP as bytes on a socket, where clients would hide what is wrong."""

from __future__ import annotations

import re
import socket
from contextlib import closing

import pytest

from objectio.testing.shapes import SHAPES_SLOW

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")


@pytest.fixture(params=SHAPES_SLOW)
def shape(request):
    return request.param


class Wire:
    """One connection to a server."""

    def __init__(self, server):
        self.host = server.endpoint.removeprefix("http://")
        self.socket = socket.create_connection(server.address, timeout=10)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, method, target, *headers):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def status(self):
        """The status of the next response head; its body, if it has one, is read too."""
        status = int(re.fullmatch(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n", self.file.readline())[1])
        size = 0
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        self.body = self.file.read(size)
        return status


@pytest.fixture
def server(start):
    return start(arguments=["--no-auth"])


@pytest.fixture
def wire(server):
    with closing(Wire(server)) as found:
        found.send("PUT", "/bucket", "Content-Length: 0")
        assert found.status() == 200
        yield found


EXPECT = "Expect: 100-continue"


def test_expect_is_answered_before_an_empty_body(wire):
    """botocore sends Expect with empty bodies too. Without the 100 it takes the 200 for it, and
    waits a minute for an answer to its next request."""
    wire.send("PUT", "/bucket/empty", "Content-Length: 0", EXPECT)
    assert [wire.status(), wire.status()] == [100, 200]
    # The connection is in step: the next answer is that of the next request.
    wire.send("GET", "/bucket/empty")
    assert wire.status() == 200
    assert wire.body == b""


def test_expect_is_answered_before_a_body(wire):
    wire.send("PUT", "/bucket/full", "Content-Length: 5", EXPECT)
    assert wire.status() == 100
    wire.socket.sendall(b"bytes")
    assert wire.status() == 200
    wire.send("GET", "/bucket/full")
    assert (wire.status(), wire.body) == (200, b"bytes")


def test_what_is_refused_is_refused_before_its_body(wire):
    wire.send("PUT", "/no-such-bucket/key", "Content-Length: 5", EXPECT)
    assert wire.status() == 404
    assert b"NoSuchBucket" in wire.body


def test_who_is_refused_is_refused_before_the_body(start, connect):
    server = start()
    connect(server).create_bucket(Bucket="bucket")
    with closing(Wire(server)) as wire:
        wire.send("PUT", "/bucket/key", "Content-Length: 5", EXPECT)
        assert wire.status() == 403
        assert b"AccessDenied" in wire.body


def test_a_crowd_of_empty_objects_over_one_connection(start, connect):
    """The same by botocore itself: a minute for each would be a long test."""
    s3 = connect(start())
    s3.create_bucket(Bucket="bucket")
    for number in range(20):
        s3.put_object(Bucket="bucket", Key=f"empty/{number}", Body=b"")
    assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 20
