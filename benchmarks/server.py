"""The servers under test, as processes: ours as a user starts it, and the empty one beside it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from objectio.abc.api import Identity
from objectio.iam.credentials import Credential
from objectio.iam.signer import presign

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
ACCESS_KEY: Final = "AKIABENCHMARKS000000"
SECRET_KEY: Final = "benchmarks+only+on+the+loopback+interface"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Process:
    """One started program, with what it says in a log."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "OBJECTIO_ROOT_ACCESS_KEY": ACCESS_KEY,
            "OBJECTIO_ROOT_SECRET_KEY": SECRET_KEY,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def resident_bytes(self) -> int:
        """Of the process and all that it started."""
        assert self._process is not None
        return sum(_resident_bytes(pid) for pid in _family(self._process.pid))


class Server(Process):
    """One started process that answers HTTP on `port`."""

    def __init__(self, command: Sequence[str], port: int, ready: str, log: Path) -> None:
        super().__init__(command, log)
        self.port = port
        self._ready = f"http://127.0.0.1:{port}{ready}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(self._command)} did not start:\n{tail}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._ready, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class ObjectIOServer(Server):
    """`objectio serve --data DIR --listen 127.0.0.1:PORT`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        auth: bool = True,
        settings: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
    ) -> None:
        port = free_port()
        command = [str(Path(sys.executable).with_name("objectio")), "serve"]
        command += ["--data", str(data_dir), "--listen", f"127.0.0.1:{port}"]
        command += [] if auth else ["--no-auth"]
        command += [f"--set={key}={value}" for key, value in (settings or {}).items()]
        command += more
        super().__init__(command, port, "/health", data_dir.with_name(f"{data_dir.name}.log"))
        self.data_dir = data_dir
        self._credential = Credential(
            ACCESS_KEY, SECRET_KEY, Identity("root", "arn:aws:iam::0:root", ACCESS_KEY, True)
        )

    @property
    def disks(self) -> list[Path]:
        return sorted((self.data_dir / "disks").iterdir())

    def path(self, method: str, path: str, query: str = "") -> str:
        """Path and presigned query of a request."""
        host = f"127.0.0.1:{self.port}".encode()
        signed = presign(
            self._credential,
            method,
            path.encode(),
            query.encode(),
            [(b"host", host)],
            expires_seconds=86_400,
        )
        return f"{path}?{signed.decode()}"

    def osds_down(self, since: int = 0) -> set[str]:
        """The OSDs that the log, from that byte on, calls down."""
        lines = self.log.read_bytes()[since:].decode(errors="replace")
        return set(re.findall(r"OSD (\d+) is down", lines))

    def disk_bytes(self) -> int:
        """What the devices take of the file system."""
        files = (file for disk in self.disks for file in disk.rglob("*") if file.is_file())
        return sum(file.stat().st_blocks * 512 for file in files)


class RoleServers(ObjectIOServer):
    """The gateway, and behind it one process with the metadata and one with six disks at 4+2."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        meta, osd = free_port(), free_port()
        data_dir.mkdir(parents=True)
        common = ["--data", str(data_dir), "--metrics-listen", ""]
        disks = [str(data_dir / "disks" / str(number)) for number in range(6)]
        endpoint = ["--meta-endpoint", f"http://127.0.0.1:{meta}"]
        self._behind = [
            Process(_role("meta", meta, common, ["--ec", "4+2"]), self.log),
            Process(_role("osd", osd, common, [*endpoint, "--disks", *disks]), self.log),
        ]
        self._command = _role("gateway", self.port, ["--data", str(data_dir)], endpoint)

    def start(self) -> None:
        for process in self._behind:
            process.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        for process in self._behind:
            process.stop()

    def resident_bytes(self) -> int:
        return super().resident_bytes() + sum(each.resident_bytes() for each in self._behind)


def _role(role: str, port: int, common: Sequence[str], more: Sequence[str]) -> list[str]:
    program = str(Path(sys.executable).with_name(f"objectio-{role}"))
    return [program, "--listen", f"127.0.0.1:{port}", *common, *more]


def null_server(log_dir: Path) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.nullserver", str(port)]
    return Server(command, port, "/", log_dir / "nullserver.log")


class MemorySampler:
    """The highest resident size of a server while the `with` block runs."""

    def __init__(self, server: Server, interval_seconds: float = 0.05) -> None:
        self._server = server
        self._interval_seconds = interval_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak_bytes = 0

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            self.peak_bytes = max(self.peak_bytes, self._server.resident_bytes())


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def remove_disks(server: ObjectIOServer, indexes: Sequence[int]) -> None:
    """Remove disks, and leave in each place something that is no disk: a blank one would be taken
    back into service and rebuilt."""
    for disk in [server.disks[index] for index in indexes]:
        shutil.rmtree(disk)
        disk.write_text("removed by the benchmark\n")


def _resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(int(child)))]
