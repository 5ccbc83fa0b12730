"""A receiver of events: a real HTTP server that fails when it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """`requests` are (headers with names in lower case, body), whatever they were answered with;
    `records` those of requests that were answered 200. `answers` are the next statuses, then 200; 0
    closes the connection without an answer."""

    url: str
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        with self.lock:
            self.requests.append((headers, body))
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                self.records += json.loads(body)["Records"]
            return status

    def keys(self, event: str = "") -> list[str]:
        """The object keys told of, in the order in which they came."""
        with self.lock:
            return [
                each["s3"]["object"]["key"]
                for each in self.records
                if each["eventName"].startswith(event)
            ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of the test's business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.receiver.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.receiver.take(headers, body)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at `Receiver.requests`."""


@contextlib.contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1, as long as the block runs."""
    server = _Server(("127.0.0.1", port), _Handler)
    receiver = server.receiver = Receiver(f"http://127.0.0.1:{server.server_port}/events?a=b")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
