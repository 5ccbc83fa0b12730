"""Processes with devices, without a cluster around them: for tests of what is far away.

`Numbers` is the registry of the control plane, without its port. `OsdProcess`
runs the OSD role in a process of its own, which can be killed; `OsdNode` runs it in this one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from objectio.abc.cluster import NodeOffer, OsdReport, Registration
from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.abc.metrics import NullMetrics
from objectio.abc.shardstore import ShardStore, ShardStoreFactory
from objectio.config import Config
from objectio.config.schema import DiskSection, NodeSection, OsdSection
from objectio.control.registry import Registry
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta.records import ClusterRecord
from objectio.osd.config import LogStoreConfig
from objectio.osd.service import OsdService
from objectio.osd.store import LogStoreFactory
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.kv_service import KVService
from objectio.rpc.server import Server
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import CLUSTER

SECRET: Final = bytes(range(50, 82))
LEASE_SECONDS: Final = 0.6


Wrap = Callable[[int, ShardStore], ShardStore]
"""What is put around each device that is opened."""


class Numbers(Registry):
    """The registry of the control plane, and a look into it. `offers` are all that came."""

    def __init__(self, kv: KVStore | RemoteKV) -> None:
        # It needs no more of a store than a remote one has.
        super().__init__(cast(KVStore, kv), CLUSTER, lease_seconds=LEASE_SECONDS)
        self.offers: list[NodeOffer] = []

    async def register(self, offer: NodeOffer) -> Registration:
        registration = await super().register(offer)
        self.offers.append(offer)
        return registration

    def reports(self, node: str) -> dict[int, OsdReport]:
        """What a node said last of its OSDs."""
        return self._nodes[node].reports if node in self._nodes else {}

    def forget(self) -> None:
        """As after a restart of the process with the metadata."""
        self._nodes.clear()


class NoEvents:
    """Nobody hears of OSDs."""

    def up(self, osd: int, *, blank: bool) -> None: ...

    def down(self, osd: int, reason: str) -> None: ...

    def old_copy(self, osd: int, opens: int, expected: int) -> None: ...


class OsdParts:
    """The `NodeParts` that the OSD role needs."""

    exporter = None

    def __init__(
        self,
        config: Config,
        factory: ShardStoreFactory,
        parts: Mapping[str, Any],
        wrap: Wrap | None = None,
    ) -> None:
        self.config = config
        self.metrics = NullMetrics()
        self.events = NoEvents()
        self._factory = factory
        self._parts = dict(parts)
        self._wrap = wrap

    def part(self, name: str) -> Any:
        return self._parts[name]

    def has(self, name: str) -> bool:
        return name in self._parts

    def provide(self, name: str, part: Any) -> None:
        self._parts[name] = part

    def open_shardstores(self) -> ShardStoreFactory:
        return self._factory

    def wrap_shardstore(self, osd: int, store: ShardStore) -> ShardStore:
        return store if self._wrap is None else self._wrap(osd, store)


def osd_config(node: str, where: Path, listen: str, disks: Sequence[Mapping[str, Any]]) -> Config:
    """Of a process with these `[[osd.disk]]`, whose data directory is `where`."""
    return Config(
        node=NodeSection(name=node, data_dir=str(where), roles=("osd",)),
        osd=OsdSection(
            listen=listen,
            host=node,
            check_seconds=0.1,
            disk=tuple(DiskSection(**disk) for disk in disks),
        ),
    )


def osd_factory(config: Config, segment_bytes: int = 1 << 20) -> LogStoreFactory:
    """Real devices; their indexes are in the data directory."""
    return LogStoreFactory(
        LogStoreConfig(segment_bytes=segment_bytes), make_context(config.data_dir, "index")
    )


class MetaServer:
    """The metadata of a test, for processes to connect to."""

    def __init__(self, kv: KVStore, address: str) -> None:
        self.address = address
        self.kv = kv
        self._server: Server | None = None

    async def start(self) -> None:
        identity = Identity(secret=SECRET, role="meta", node="m")
        self._server = Server(identity, roles=("osd", "gateway"))
        KVService(self._server, self.kv)
        self.address = await self._server.listen(self.address)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.close(0)
            self._server = None


class OsdNode:
    """The OSD role in this process, over a connection to the metadata."""

    def __init__(
        self,
        config: Config,
        meta_address: str,
        *,
        numbers: Numbers | None = None,
        factory: ShardStoreFactory | None = None,
        wrap: Wrap | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.config = config
        self._wrap = wrap
        self._tls = tls
        self._numbers = numbers
        self._factory = factory or osd_factory(config)
        self._identity = Identity(secret=SECRET, role="osd", node=config.node.name)
        self._channel = Channel(
            meta_address, self._identity, wanted_role="meta", backoff_seconds_max=0.2
        )
        self.service: OsdService

    async def start(self) -> None:
        self._channel.start()
        kv = RemoteKV(self._channel)
        parts = {
            "kv": kv,
            "cluster": ClusterRecord(CLUSTER, 0),
            "identity": self._identity,
            "link": self._numbers or Numbers(kv),
            "server_tls": self._tls,
        }
        self.service = OsdService(OsdParts(self.config, self._factory, parts, self._wrap))  # type: ignore[arg-type]
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()
        await self._channel.close()


class OsdProcess:
    """The same in a process of its own. `stop` is SIGTERM, `kill` is SIGKILL."""

    def __init__(
        self,
        node: str,
        where: Path,
        listen: str,
        disks: Sequence[Mapping[str, Any]],
        meta_address: str,
    ) -> None:
        self._arguments = json.dumps([node, str(where), listen, list(disks), meta_address])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the devices are served."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._arguments], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        self._reap()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        if self.process is None:
            return 0
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class OsdCluster:
    """The metadata in memory, and nodes with devices in this process or in others, on Unix sockets in
    a directory of their own."""

    def __init__(self, where: Path, *, kv: KVStore | None = None, wrap: Wrap | None = None) -> None:
        self.where = where
        self.sockets = Path(tempfile.mkdtemp(prefix="objectio-"))  # a socket's path has 107 bytes
        self._owns_kv = kv is None
        self._wrap = wrap
        self.tls: ssl.SSLContext | None = None
        """Of what nodes in this process listen on, if that is TCP."""
        self.kv = kv or KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
        self.numbers = Numbers(self.kv)
        self.meta = MetaServer(self.kv, f"unix:{self.sockets}/meta")
        self.nodes: dict[str, OsdNode] = {}
        self.processes: dict[str, OsdProcess] = {}

    async def start(self) -> None:
        await self.meta.start()

    async def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        await self.meta.stop()
        if self._owns_kv:
            await self.kv.close()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def listen(self, node: str) -> str:
        return f"unix:{self.sockets}/{node}"

    def config(self, node: str, disks: Sequence[Mapping[str, Any]]) -> Config:
        return osd_config(node, self.where / node, self.listen(node), disks)

    async def add_node(
        self,
        node: str,
        disks: Sequence[Mapping[str, Any]],
        factory: ShardStoreFactory | None = None,
    ) -> OsdNode:
        """Start the OSD role in this process; a second time, it is a restart."""
        if node in self.nodes:
            await self.nodes.pop(node).stop()
        config = self.config(node, disks)
        made = OsdNode(
            config,
            self.meta.address,
            numbers=self.numbers,
            factory=factory,
            wrap=self._wrap,
            tls=self.tls,
        )
        self.nodes[node] = made
        await made.start()
        return made

    async def add_process(self, node: str, disks: Sequence[Mapping[str, Any]]) -> OsdProcess:
        process = OsdProcess(node, self.where / node, self.listen(node), disks, self.meta.address)
        self.processes[node] = process
        await asyncio.to_thread(process.start)
        return process


async def _main(arguments: str) -> None:
    node, where, listen, disks, meta_address = json.loads(arguments)
    config = osd_config(node, Path(where), listen, disks)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = OsdNode(config, meta_address)
    await running.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    await running.stop()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1]))
