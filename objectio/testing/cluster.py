"""A whole server in a process of its own, for tests of what a store must survive.

    with LocalServer(tmp_path / "data") as server:
        client = boto3.client("s3", **server.s3_settings())
        ...
        server.kill()       # SIGKILL, as a power cut
        server.start()      # the same data, the same address

The process is the real `objectio serve`; it is ended by its process id, whatever happens to the
test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from objectio.testing.tls import make_certificate

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 20.0
"""The gateway lets requests finish for ten seconds, then the devices write a last checkpoint."""

_MAIN: Final = "import sys; from objectio.cli.app import main; sys.exit(main())"
_ENDPOINT: Final = re.compile(r"^ObjectIO serves (\S+)\n", re.MULTILINE)
"""To its end: who reads a file may see a part of what is just being written to it."""
_PROCESS: Final = re.compile(r'[{,]process="([^"]*)"')
_POLL_SECONDS: Final = 0.02

T = TypeVar("T")


class LocalServer:
    """`objectio serve` on a free port of loopback. A context manager: entering starts it, leaving
    kills what is left of it.

    settings    overrides of the configuration, as `--set` takes them: {"osd.check_seconds": "0.2"}
    disks       how many simulated disks the first start makes
    arguments   further arguments of the command
    tls         serve HTTPS, with a certificate that is made for it: `ca_file` is what to trust
    env         variables of the environment besides the inherited ones; those of the caller that
                begin with OBJECTIO_ are not inherited
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        disks: int = 6,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.ca_file = data_dir.with_name(f"{data_dir.name}.pem") if tls else None
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self.settings = dict(settings or {})
        if self.ca_file is not None:
            self.settings["gateway.tls_cert_file"] = str(self.ca_file.absolute())
        self.endpoint = ""
        self._disks = disks
        self._arguments = tuple(arguments)
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._cleanup: weakref.finalize[..., LocalServer] | None = None

    # Life.

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """Start it, and wait until `/health` answers 200. After the first time it comes back at the
        same address."""
        assert not self.running, "the server runs already"
        listen = self.endpoint.partition("://")[2] or "127.0.0.1:0"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.ca_file is not None and not self.ca_file.exists():
            make_certificate(self.ca_file)
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(listen),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        self._cleanup = weakref.finalize(self, _end, self._process)
        self.endpoint = self._wait_for(
            lambda: self._find_endpoint(begin), "say where it serves", seconds_max
        )
        self._wait_for(self.healthy, "be healthy", seconds_max)

    def command(self, listen: str = "127.0.0.1:0") -> list[str]:
        command = [sys.executable, "-c", _MAIN, "serve", "--data", str(self.data_dir)]
        command += ["--listen", listen, *self._arguments]
        if not (self.data_dir / "objectio.toml").exists():
            command += ["--disks", str(self._disks)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told. No error if it does not run."""
        if self._process is not None:
            _end(self._process)

    def stop(self, seconds_max: float = STOP_SECONDS_MAX) -> float:
        """SIGTERM: asserts that it exits with 0 in time. Returns how long that took."""
        started = time.monotonic()
        self.terminate()
        return self.wait_stopped(seconds_max) - started

    def terminate(self) -> None:
        """Send SIGTERM, and do not wait."""
        assert self._process is not None, "the server was not started"
        self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self, seconds_max: float = STOP_SECONDS_MAX) -> float:
        """After `terminate`: asserts an exit with 0 in time. Returns the monotonic time of it."""
        assert self._process is not None, "the server was not started"
        try:
            code = self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the server did not stop in {seconds_max} s\n{self.log_tail()}"
            ) from None
        assert code == 0, f"the server ended with {code}\n{self.log_tail()}"
        return time.monotonic()

    def restart(self) -> None:
        self.stop()
        self.start()

    # What it says.

    def healthy(self) -> bool:
        try:
            url, context = f"{self.endpoint}/health", self.tls_context()
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str) -> float:
        """One metric on `/metrics`: the sum over all labels; 0 if it is not there. Of several
        processes counters are added up, and a gauge is the largest that one of them shows."""
        return read_metric([fetch_metrics(self.endpoint, self.tls_context())], name)

    def log_text(self) -> str:
        """What it has said since the very first start, standard output and error together."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def memory_bytes(self) -> int:
        """What the process has in RAM (VmRSS of /proc)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, "the server does not run"
        return int(found.group(1)) * 1024

    # How to talk to it.

    @property
    def client_endpoints(self) -> list[str]:
        """Where clients should go that want to reach all of it."""
        return [self.endpoint]

    def pids(self) -> dict[str, int]:
        """Its processes, by name."""
        return {"server": self.pid}

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.endpoint.partition("://")[2].rpartition(":")
        return host, int(port)

    @property
    def credentials(self) -> tuple[str, str]:
        """Access key and secret key of the root."""
        if "OBJECTIO_ROOT_ACCESS_KEY" in self._env:
            return self._env["OBJECTIO_ROOT_ACCESS_KEY"], self._env["OBJECTIO_ROOT_SECRET_KEY"]
        found = json.loads((self.data_dir / "credentials.json").read_text())
        return found["access_key"], found["secret_key"]

    def s3_settings(self) -> dict[str, Any]:
        """Keyword arguments of `boto3.client("s3", …)`."""
        access_key, secret_key = self.credentials
        trusted = {} if self.ca_file is None else {"verify": str(self.ca_file)}
        return {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "region_name": "us-east-1",
            **trusted,
        }

    def tls_context(self) -> ssl.SSLContext | None:
        """What trusts it, for clients; None for plain HTTP."""
        return None if self.ca_file is None else ssl.create_default_context(cafile=self.ca_file)

    def disk(self, number: int) -> Path:
        """The directory of a simulated disk."""
        return self.data_dir / "disks" / str(number)

    # Inside.

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if key[:9] != "OBJECTIO_"}
        return {**inherited, "PYTHONUNBUFFERED": "1", **self._env}

    def _find_endpoint(self, begin: int) -> str:
        found = _ENDPOINT.findall(self.log_path.read_bytes()[begin:].decode(errors="replace"))
        return found[-1] if found else ""

    def _wait_for(self, ask: Callable[[], T], what: str, seconds_max: float) -> T:
        deadline = time.monotonic() + seconds_max
        while not (answer := ask()):
            assert self.running, f"the server ended before it could {what}\n{self.log_tail()}"
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(
                    f"the server did not {what} in {seconds_max} s\n{self.log_tail()}"
                )
            time.sleep(_POLL_SECONDS)
        return answer


def fetch_metrics(endpoint: str, tls: ssl.SSLContext | None = None) -> str:
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=5, context=tls) as answer:
        return str(answer.read().decode())


def read_metric(texts: Iterable[str], name: str) -> float:
    """Out of the metrics of one process each, or of several with a label `process`."""
    sums: dict[tuple[int, str], float] = {}
    gauge = False
    for number, text in enumerate(texts):
        for line in text.splitlines():
            row, _, value = line.rpartition(" ")
            if line.startswith("#"):
                gauge |= line == f"# TYPE {name} gauge"
            elif row.partition("{")[0] == name:
                found = _PROCESS.search(row)
                key = number, found[1] if found else ""
                sums[key] = sums.get(key, 0.0) + float(value)
    return max(sums.values(), default=0.0) if gauge else sum(sums.values())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
