"""Load from other processes: many small requests by wrk, few large ones by a plain socket."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from objectio.limits import MIB

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_GRACE_SECONDS: Final = 60.0
_PIECE_BYTES: Final = MIB


class Failed(Exception):
    """The server did not do what was measured; the number would mean nothing."""


class WrkResult(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int


def wrk(
    endpoint: str,
    method: str,
    paths: Sequence[str],
    *,
    seconds: float,
    connections: int = 32,
    body_bytes: int = 0,
) -> WrkResult:
    """Send `paths` in turn for some seconds, one request at a time on each connection."""
    program = shutil.which("wrk")
    if program is None:
        raise Failed("wrk is not installed: make clients")
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as list_of_paths:
        list_of_paths.write("\n".join(paths) + "\n")
        list_of_paths.flush()
        command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "30s", "-s", str(_SCRIPT), endpoint, "--"]
        command += [method, str(body_bytes), list_of_paths.name]
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _GRACE_SECONDS,
        )
    line = next((each for each in ended.stdout.splitlines() if each.startswith("JSON ")), None)
    if ended.returncode or line is None:
        raise Failed(f"wrk: {ended.stdout}{ended.stderr}")
    found = json.loads(line.removeprefix("JSON "))
    if found["bad_status"] or found["broken"] or not found["requests"]:
        raise Failed(f"{method} {endpoint}: {line}")
    rate = found["requests"] / found["seconds"]
    return WrkResult(rate, found["p50_ms"], found["p99_ms"], found["requests"])


def transfer(endpoint: str, method: str, paths: Sequence[str], *, size: int, at_once: int) -> float:
    """Bytes per second of whole transfers of `size` bytes, by another process: `paths` are spread
    over `at_once` connections."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    job = {
        "host": host,
        "port": int(port),
        "method": method,
        "paths": list(paths),
        "size": size,
        "at_once": at_once,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if ended.returncode:
        raise Failed(ended.stderr.strip()[-2000:])
    return float(json.loads(ended.stdout)["bytes_per_second"])


class Connection:
    """A keep-alive HTTP connection that costs nearly nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._host = f"{host}:{port}"
        self._socket = socket.create_connection((host, port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_PIECE_BYTES)

    def close(self) -> None:
        self._socket.close()

    def put(self, path: str, body: memoryview) -> None:
        self._send("PUT", path, f"Content-Length: {len(body)}\r\n")
        for start in range(0, len(body), _PIECE_BYTES):
            self._socket.sendall(body[start : start + _PIECE_BYTES])
        self._receive(path)

    def get(self, path: str, keep: bool = False) -> tuple[int, bytes]:
        """The length of the body, and the body itself if it is to be kept."""
        self._send("GET", path)
        return self._receive(path, keep)

    def exchange(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer to any request with a small body."""
        self._send(method, path, f"Content-Length: {len(body)}\r\n")
        self._socket.sendall(body)
        return self._receive(path, keep=True)[1]

    def _send(self, method: str, path: str, headers: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{headers}\r\n"
        self._socket.sendall(head.encode())

    def _receive(self, path: str, keep: bool = False) -> tuple[int, bytes]:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            piece = self._socket.recv(65536)
            if not piece:
                raise Failed(f"connection closed in the answer to {path}")
            head += piece
        lines, _, first = bytes(head).partition(b"\r\n\r\n")
        status, *fields = lines.split(b"\r\n")
        headers = dict(field.lower().split(b": ", 1) for field in fields)
        kept = bytearray(first)
        if b"content-length" in headers:
            left = int(headers[b"content-length"]) - len(first)
            total = len(first) + self._drain(left, kept if keep else None)
        elif status.startswith(b"HTTP/1.1 204"):  # which has no body (RFC 9112 §6.3)
            total = 0
        else:
            total = self._chunked(kept, path)
        if not status.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")):
            where = path.partition("?")[0]
            raise Failed(f"{where}: {status.decode()} {bytes(kept[:300])!r}")
        return total, bytes(kept) if keep else b""

    def _drain(self, left: int, kept: bytearray | None) -> int:
        view, total = memoryview(self._buffer), 0
        while total < left:
            count = self._socket.recv_into(view[: min(left - total, _PIECE_BYTES)])
            if count == 0:
                raise Failed("connection closed in the middle of a body")
            if kept is not None:
                kept += view[:count]
            total += count
        return total

    def _chunked(self, kept: bytearray, path: str) -> int:
        """A body in HTTP's chunks (RFC 9112 §7.1), for listings."""
        body, raw = bytearray(), kept
        while True:
            while b"\r\n" not in raw:
                self._more(raw, path)
            line, _, rest = bytes(raw).partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            raw[:] = rest
            while len(raw) < size + 2:
                self._more(raw, path)
            body += raw[:size]
            del raw[: size + 2]
            if size == 0:
                kept[:] = body
                return len(body)

    def _more(self, raw: bytearray, path: str) -> None:
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise Failed(f"connection closed in the answer to {path}")
        raw += piece


def _run(job: dict[str, Any]) -> float:
    """Bytes per second of all transfers together, from the first byte to the last."""
    body = memoryview(b"objectio" * (job["size"] // 8))
    problems: list[BaseException] = []

    def work(connection: Connection, paths: Sequence[str]) -> None:
        try:
            for path in paths:
                if job["method"] == "PUT":
                    connection.put(path, body)
                else:
                    size, _ = connection.get(path)
                    if size != job["size"]:
                        raise Failed(f"{path}: {size} bytes instead of {job['size']}")
        except BaseException as error:
            problems.append(error)

    at_once = job["at_once"]
    connections = [Connection(job["host"], job["port"]) for _ in range(at_once)]
    threads = [
        threading.Thread(target=work, args=(connection, job["paths"][i::at_once]))
        for i, connection in enumerate(connections)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    if problems:
        raise problems[0]
    return float(len(job["paths"]) * job["size"] / seconds)


if __name__ == "__main__":
    print(json.dumps({"bytes_per_second": _run(json.load(sys.stdin))}))
