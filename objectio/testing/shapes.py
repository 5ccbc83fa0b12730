"""The shapes in which a store can run, for tests that must hold in every one.

    with make_server(tmp_path / "data", shape="roles") as server:
        clients = [boto3.client("s3", **server.s3_settings(n)) for n in range(2)]

`one` is one process, `workers` is `objectio serve --workers 2`, and `roles` are separate processes: one
with the metadata, two with the disks, two gateways with an address each. The environment's
OBJECTIO_TEST_SHAPE is what a test gets that does not say which; `spread` has its clients go to all
gateways in turns.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
import urllib.error
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pytest
from msgspec.structs import replace

from objectio import builtin
from objectio.config import dump_toml, load_config
from objectio.plugin.loader import load_plugins
from objectio.runtime.quickstart import config_path, make_config
from objectio.testing.cluster import STOP_SECONDS_MAX, LocalServer, fetch_metrics, read_metric
from objectio.testing.roles import RoleProcess, free_ports, health, wait_for

Shape = Literal["one", "workers", "roles"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
SHAPES_SLOW: Final = (
    "one",
    *(pytest.param(shape, marks=pytest.mark.slow) for shape in ("workers", "roles")),
)
"""Parameters of a fixture: one process at every run of the tests, the others only with all tests."""
GATEWAYS: Final = 2
OSD_PROCESSES: Final = 2
START_SECONDS_MAX: Final = 60.0
_CLIENTS: Final = 4


def shape_wanted() -> Shape:
    """What the environment says, `one` if it says nothing."""
    wanted = os.environ.get("OBJECTIO_TEST_SHAPE", "one")
    for shape in SHAPES:
        if shape == wanted:
            return shape
    raise ValueError(f"OBJECTIO_TEST_SHAPE={wanted}: one of {', '.join(SHAPES)}")


def make_server(data_dir: Path, *, shape: Shape | None = None, **options: Any) -> LocalServer:
    """A server that is not started; `options` are those of `LocalServer`."""
    shape = shape or shape_wanted()
    if shape == "roles":
        return RoleServer(data_dir, **options)
    if shape == "workers":
        return WorkerServer(data_dir, **options)
    return LocalServer(data_dir, **options)


class WorkerServer(LocalServer):
    """`objectio serve --workers 2`."""

    def __init__(self, data_dir: Path, *, arguments: Sequence[str] = (), **options: Any) -> None:
        workers = ("--workers", str(GATEWAYS), "--osd-processes", str(OSD_PROCESSES))
        super().__init__(data_dir, arguments=(*workers, *arguments), **options)

    def start(self, seconds_max: float = START_SECONDS_MAX) -> None:
        super().start(seconds_max)

    def stop(self, seconds_max: float = 2 * STOP_SECONDS_MAX) -> float:
        return super().stop(seconds_max)

    @property
    def client_endpoints(self) -> list[str]:
        """Whoever has several connections has them with several gateways, most likely."""
        return [self.endpoint] * _CLIENTS

    def pids(self) -> dict[str, int]:
        """The processes by name: supervisor, meta, osd-0, osd-1, gateway-0, gateway-1."""
        return {"supervisor": self.pid, **children_of(self.pid)}


def children_of(pid: int) -> dict[str, int]:
    """The processes that a supervisor runs, by name."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (directory / "cmdline").read_bytes().decode().split("\0")
            if int(parent) == pid and state != "Z" and "--config" in command:
                found[Path(command[command.index("--config") + 1]).stem] = int(directory.name)
    return found


class RoleServer(LocalServer):
    """`objectio meta`, `osd` and `gateway`, on the directory that `objectio serve` makes, and with the
    numbers that its disks have there.

    Each is one of `processes`, by name: meta, osd-0, …, gateway-0, …; `endpoints` are the gateways'.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        disks: int = 6,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        gateways: int = GATEWAYS,
        osd_processes: int = OSD_PROCESSES,
    ) -> None:
        super().__init__(data_dir, settings=settings, disks=disks, arguments=arguments, env=env)
        self._gateways = gateways
        self._osd_processes = osd_processes
        meta, *ports = free_ports(1 + gateways + osd_processes)
        self.meta_endpoint = f"http://127.0.0.1:{meta}"
        self._meta_port, self._osd_ports = meta, ports[gateways:]
        self.endpoints = [f"http://127.0.0.1:{port}" for port in ports[:gateways]]
        self.endpoint = self.endpoints[0]
        self.processes: dict[str, RoleProcess] = {}

    @property
    def client_endpoints(self) -> list[str]:
        return self.endpoints

    # Life.

    @property
    def running(self) -> bool:
        return bool(self.processes) and all(each.running for each in self.processes.values())

    @property
    def pid(self) -> int:
        return self.processes["meta"].pid

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.processes.items()}

    def start(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """All of them; waits until every gateway serves."""
        assert not any(each.running for each in self.processes.values()), "it runs already"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if not config_path(self.data_dir).exists():
            registry = load_plugins(disabled=(), builtin=(builtin,)).registry
            make_config(self.data_dir, self._disks, "127.0.0.1:0", registry)
        self.processes = self._make_processes()
        for process in self.processes.values():
            process.start()
        try:
            self._wait_for(self.healthy, "be healthy", seconds_max)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Those first that clients talk to: to them it is one power cut."""
        for process in reversed(self.processes.values()):
            process.kill()

    def stop(self, seconds_max: float = 2 * STOP_SECONDS_MAX) -> float:
        started = time.monotonic()
        for role in ("gateway", "meta", "osd"):
            group = [each for name, each in self.processes.items() if name.startswith(role)]
            for process in group:
                os.kill(process.pid, signal.SIGTERM)
            for process in group:
                wait_for(
                    partial(_has_ended, process),
                    f"{process.name} stops",
                    seconds_max,
                    self.log_tail,
                )
                assert process.code == 0, f"{process.name}: {process.code}\n{self.log_tail()}"
        return time.monotonic() - started

    def terminate(self) -> None:
        raise NotImplementedError("several processes are stopped one after the other: stop()")

    def wait_stopped(self, seconds_max: float = STOP_SECONDS_MAX) -> float:
        raise NotImplementedError("several processes are stopped one after the other: stop()")

    def _make_processes(self) -> dict[str, RoleProcess]:
        config = load_config(config_path(self.data_dir), env={})
        shared = ["--secret", str(self.data_dir / "cluster.secret")]
        for key, value in self.settings.items():
            shared += ["--set", f"{key}={value}"]
        find = ["--meta-endpoint", self.meta_endpoint]
        at: dict[str, tuple[str, int, list[str]]] = {"meta": ("meta", self._meta_port, [])}
        at |= {f"osd-{n}": ("osd", port, find) for n, port in enumerate(self._osd_ports)}
        ports = [int(endpoint.rpartition(":")[2]) for endpoint in self.endpoints]
        at |= {
            f"gateway-{n}": ("gateway", port, [*find, *self._arguments])
            for n, port in enumerate(ports)
        }
        files = self.data_dir.with_name(f"{self.data_dir.name}-roles")
        files.mkdir(exist_ok=True)
        made = {}
        for name, (role, port, more) in at.items():
            disks = config.osd.disk if role != "gateway" else ()
            if role == "osd":
                disks = disks[int(name[4:]) :: self._osd_processes]
            own = replace(
                config,
                node=replace(config.node, name=name, data_dir=str(config.data_dir)),
                osd=replace(config.osd, disk=disks, host=config.osd.host or "localhost"),
            )
            (files / f"{name}.toml").write_text(dump_toml(own), encoding="utf-8")
            made[name] = RoleProcess(
                files,
                name,
                role,
                *("--config", str(files / f"{name}.toml"), "--listen", f"127.0.0.1:{port}"),
                *more,
                *shared,
                env=self._env,
            )
            made[name].log_path = self.log_path
        return made

    # What they say.

    def healthy(self) -> bool:
        return all(health(endpoint) == 200 for endpoint in self.endpoints)

    @property
    def metrics_endpoints(self) -> dict[str, str]:
        """Where each process shows /metrics and /health."""
        ports = {"meta": self._meta_port}
        ports |= {f"osd-{n}": port for n, port in enumerate(self._osd_ports)}
        behind = {name: f"http://127.0.0.1:{port + 1}" for name, port in ports.items()}
        return {f"gateway-{n}": each for n, each in enumerate(self.endpoints)} | behind

    def metric(self, name: str) -> float:
        """As of a `LocalServer`. Processes with disks, and gateways, may be gone."""
        texts = []
        for process, endpoint in self.metrics_endpoints.items():
            try:
                texts.append(fetch_metrics(endpoint))
            except urllib.error.URLError:
                if process == "meta":
                    raise
        return read_metric(texts, name)

    def s3_settings(self, gateway: int = 0) -> dict[str, Any]:
        return {**super().s3_settings(), "endpoint_url": self.endpoints[gateway]}


def _has_ended(process: RoleProcess) -> bool:
    return not process.running


class Spread:
    """Clients that are taken in turns, one for each call: what one gateway was told is asked of
    another."""

    def __init__(self, clients: Sequence[Any]) -> None:
        self.clients = clients
        self._turns = itertools.cycle(clients)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turns), name)

    def close(self) -> None:
        for client in self.clients:
            client.close()
