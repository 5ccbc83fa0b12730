"""A control server on a real socket, with a cluster of a few values behind it."""

from __future__ import annotations

import asyncio
import contextlib

import grpclib.client
import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubReport,
    ScrubStatus,
)
from objectio.abc.cluster import ClusterStatus, NodeStatus, OsdReport, Registration
from objectio.errors import InvalidRequest, NotFound
from objectio.model.cluster import ClusterMap, Osd, OsdId
from objectio.rpc.auth import NO_TLS
from objectio.rpc.control.client import AccessKey, ControlClient
from objectio.rpc.control.failures import error_of
from objectio.rpc.control.pb import messages as pb
from objectio.rpc.control.proof import HEADER, Caller, Prover
from objectio.rpc.control.raw import RawCodec
from objectio.rpc.control.server import ControlServer
from objectio.rpc.listen import Listeners

SECRET = bytes(range(100, 132))
ROOT = AccessKey(access_key="AKROOT", secret_key="a secret of forty characters or so")

DISK = DiskStatus(
    osd=3,
    path="/disks/3",
    host="h",
    rack="r",
    weight=1.5,
    state="up",
    journal=True,
    groups=7,
    capacity_bytes=2**44,
    used_bytes=0,
)
REPORT = ScrubReport(begun_ms=1_700_000_000_000, blobs=5, healthy=4, corrupt=1)


class Plane:
    """Remembers what it was told."""

    def __init__(self):
        self.map = ClusterMap(epoch=4, osds=(Osd(id=OsdId(0), weight=2.0, in_=False),))
        self.offers = []
        self.reports = []
        self.changed = asyncio.Event()

    async def register(self, offer):
        self.offers.append(offer)
        osds = tuple(range(len(offer.disks)))
        return Registration(cluster_id="c", epoch=4, osds=osds, heartbeat_seconds=2.5)

    async def heartbeat(self, node, osds):
        if not self.offers:
            raise NotFound(f"node {node} is not registered here", kind="node", node=node)
        self.reports.append((node, list(osds)))
        return self.map.epoch

    async def status(self):
        report = OsdReport(osd=3, state="full", reason="no room", used_bytes=10)
        node = NodeStatus(
            node="n1", role="osd", address="a:1", alive=True, seen_ms=9, osds=(report,)
        )
        return ClusterStatus(
            cluster_id="c", epoch=4, state="serving", reason="", pool="4+2", nodes=(node,)
        )

    async def cluster_map(self):
        return self.map

    async def watch(self):
        while True:
            self.changed.clear()
            yield self.map
            await self.changed.wait()

    def change(self):
        self.map = ClusterMap(epoch=self.map.epoch + 1, osds=self.map.osds)
        self.changed.set()


class Admin:
    def __init__(self):
        self.orders = []
        self.going_on = asyncio.Event()
        self.go_on = asyncio.Event()

    async def disks(self):
        return [DISK, DISK]

    async def replace(self, osd):
        self.going_on.set()
        await self.go_on.wait()
        return self._order("replace", osd)

    async def drain(self, osd):
        return self._order("drain", osd)

    async def undrain(self, osd):
        return self._order("undrain", osd)

    async def remove(self, osd):
        raise InvalidRequest(f"OSD {osd} is up: drain it instead", reason="up")

    def _order(self, what, osd):
        if osd != DISK.osd:
            raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd", osd=osd)
        self.orders.append((what, osd))
        return DISK

    async def repair(self):
        return RepairStatus(
            active=True,
            waiting={0: 2, 1: 5},
            blocked=1,
            refilling=[4],
            repaired_shards=1,
            repaired_bytes=2,
            bytes_left=3,
            bytes_per_second=0.5,
            seconds_left=None,
            waiting_for={7: "it is full"},
        )

    async def scrub(self):
        return ScrubStatus(running=True, progress=0.25, current=REPORT, last=None, next_ms=None)

    async def start_scrub(self):
        return ScrubStatus(running=False, progress=0.0, current=None, last=REPORT, next_ms=5)

    async def rebalance(self):
        return RebalanceStatus(
            epoch=4,
            groups=128,
            groups_moving=1,
            groups_waiting=2,
            moved_shards=3,
            moved_bytes=4,
            bytes_left=5,
            bytes_per_second=6.0,
            seconds_left=7.5,
            degraded_spread=["too few racks"],
        )

    async def journal(self):
        return JournalStatus(
            enabled=True,
            copies_wanted=3,
            osds=[1, 2],
            sequence=9,
            checkpoint_sequence=4,
            waiting=0,
            bytes_since_checkpoint=100,
            reason="one disk is away",
        )

    async def doctor(self):
        return [Finding(severity="warning", what="a", meaning="b", action="c")]


class Harness:
    """The server, where it listens, and ways to reach it."""

    secret = SECRET
    root = ROOT
    disk = DISK
    report = REPORT

    def __init__(self):
        self.plane = Plane()
        self.admin = Admin()
        self.keys = {ROOT.access_key: ROOT.secret_key}
        self.orders = lambda: None
        self.server = ControlServer(
            SECRET,
            self.plane,
            self.admin,
            access_keys=lambda name: self.keys.get(name),
            orders=lambda: self.orders(),
        )
        self.listeners = Listeners(self.server.protocol)
        self.address = ""
        self.clients = []

    def client(self, who, **more):
        endpoint = self.address if self.address.startswith("unix:") else f"http://{self.address}"
        client = ControlClient(more.pop("endpoint", endpoint), who, **more)
        self.clients.append(client)
        return client

    @property
    def refused(self):
        return self.server.refused

    async def close(self):
        for client in self.clients:
            await client.close()
        self.listeners.close()
        await self.server.close()
        await self.listeners.wait_closed()


@pytest.fixture
async def harness():
    made = Harness()
    made.address = await made.listeners.add("127.0.0.1:0")
    yield made
    await made.close()


class Raw:
    """Calls whose every byte the test decides."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.channel = grpclib.client.Channel(host, int(port), codec=RawCodec())

    async def call(self, path, request=b"", **metadata):
        """The answer. Raises the error that the server tells."""
        stream = None
        try:
            async with self.channel.request(
                path, Cardinality.UNARY_UNARY, bytes, bytes, metadata=metadata
            ) as stream:
                await stream.send_message(request, end=True)
                answer = await stream.recv_message()
                if answer is not None and path.endswith("/WatchMap"):
                    await stream.cancel()  # which has no end
                return answer
        except GRPCError as error:
            raise error_of(error.status, error.message, stream.trailing_metadata) from error

    async def status_of(self, path, request=b"", **metadata):
        """The status, whatever it is."""
        try:
            async with self.channel.request(
                path, Cardinality.UNARY_UNARY, bytes, bytes, metadata=metadata
            ) as stream:
                await stream.send_message(request, end=True)
                await stream.recv_message()
        except GRPCError as error:
            return error.status
        return Status.OK

    async def challenge(self, role="osd", name="n1", key=SECRET, binding=NO_TLS):
        request = pb.ChallengeRequest(role, name)
        reply = pb.ChallengeReply.parse(
            await self.call("/objectio.v1.Access/Challenge", bytes(request))
        )
        return Prover(key, Caller(role, name), reply.nonce, 1e12, binding)

    async def prove(self, prover, path, request=b""):
        """The call with a proof of it."""
        return await self.call(path, request, **{HEADER: str(prover.prove(path, request))})


@pytest.fixture
async def raw(harness):
    """As many connections as are asked for."""
    with contextlib.ExitStack() as stack:

        def connect():
            made = Raw(harness.address)
            stack.callback(made.channel.close)
            return made

        yield connect
