"""A store in separate processes, each of which can be killed and started again.

    with LocalCluster(tmp_path, osds=6, meta=["--ec", "4+2"]) as cluster:
        client = boto3.client("s3", **cluster.s3_settings())
        cluster.osd(3).kill()
        cluster.osd(3).start()

The processes are the real commands, with all of their defaults; they find each other by TCP on
loopback and share one directory. They are ended by their process ids, whatever happens to the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0

_MAIN: Final = "import sys; from objectio.cli.app import main; sys.exit(main())"
_POLL_SECONDS: Final = 0.02

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    """Ports that are free, as are the next ones: processes show their metrics there."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port + 1)))
                found.append(port)
    return found


def wait_for(
    ask: Callable[[], T], what: str, seconds_max: float = START_SECONDS_MAX, tail: Any = None
) -> T:
    """What `ask` answers once that is true. `tail()` is shown if it never is."""
    deadline = time.monotonic() + seconds_max
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {seconds_max} s\n{tail() if tail else ''}")
        time.sleep(_POLL_SECONDS)
    return answer


def health(endpoint: str) -> int:
    """The status of `/health`, 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"{endpoint}/health", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (urllib.error.URLError, OSError):
        return 0


class RoleProcess:
    """`objectio ROLE` with just these arguments, in a directory. `env` is added to what is inherited."""

    def __init__(
        self, directory: Path, name: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.arguments = arguments
        self._env = dict(env or {})
        self.log_path = directory / f"{name}.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """What it ended with."""
        return None if self._process is None else self._process.poll()

    def start(self) -> RoleProcess:
        """Does not wait for anything."""
        assert not self.running, f"{self.name} runs already"
        inherited = {key: text for key, text in os.environ.items() if key[:9] != "OBJECTIO_"}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, *self.arguments],
                cwd=self._directory,
                env={**inherited, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        weakref.finalize(self, _end, self._process)
        return self

    def kill(self) -> None:
        if self._process is not None:
            _end(self._process)

    def stop(self) -> None:
        """SIGTERM: asserts that it exits with 0 in time."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop\n{self.log_tail()}") from None
        assert code == 0, f"{self.name} ended with {code}\n{self.log_tail()}"

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        text = "\n".join(self.log_text().splitlines()[-lines:])
        return f"--- {self.name}\n{text}"


class LocalCluster:
    """One process with metadata, `osds` with a disk each, and `gateways`.

    meta, osd, gateway      further arguments of the commands
    common                  those of all three
    scheme                  http or https, between the processes
    """

    def __init__(
        self,
        directory: Path,
        *,
        osds: int = 6,
        gateways: int = 1,
        meta: Sequence[str] = (),
        osd: Sequence[str] = ("--size", "1G"),
        gateway: Sequence[str] = (),
        common: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "objectio-data"
        directory.mkdir(parents=True, exist_ok=True)
        meta_port, *ports = free_ports(1 + osds + gateways)
        self.meta_endpoint = f"{scheme}://127.0.0.1:{meta_port}"
        find = ("--meta-endpoint", self.meta_endpoint)
        where = [("--listen", f"127.0.0.1:{port}") for port in ports]
        at = ("--listen", f"127.0.0.1:{meta_port}")
        self.meta = RoleProcess(directory, "meta", "meta", "--node-id", "1", *at, *meta, *common)
        self.osds = [
            RoleProcess(
                directory,
                f"osd-{n}",
                "osd",
                *where[n],
                *find,
                "--disks",
                f"disk{n}.img",
                *osd,
                *common,
            )
            for n in range(osds)
        ]
        self.gateways = [
            RoleProcess(
                directory, f"gateway-{n}", "gateway", *where[osds + n], *find, *gateway, *common
            )
            for n in range(gateways)
        ]
        self.endpoints = [f"http://127.0.0.1:{port}" for port in ports[osds:]]

    @property
    def processes(self) -> list[RoleProcess]:
        return [self.meta, *self.osds, *self.gateways]

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """All that do not run; waits until every gateway serves."""
        for process in self.processes:
            if not process.running:
                process.start()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        for endpoint in self.endpoints:
            wait_for(partial(_serves, endpoint), f"{endpoint}/health", tail=self.tail)

    def stop(self) -> None:
        """Gateways, metadata, disks."""
        for process in (*self.gateways, self.meta, *self.osds):
            process.stop()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def tail(self) -> str:
        return "\n".join(process.log_tail() for process in self.processes)

    @property
    def credentials(self) -> tuple[str, str]:
        found = json.loads((self.data_dir / "credentials.json").read_text())
        return found["access_key"], found["secret_key"]

    def s3_settings(self, gateway: int = 0) -> dict[str, Any]:
        """Keyword arguments of `boto3.client("s3", …)`."""
        access_key, secret_key = self.credentials
        return {
            "endpoint_url": self.endpoints[gateway],
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "region_name": "us-east-1",
        }


def _serves(endpoint: str) -> bool:
    return health(endpoint) == 200


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
