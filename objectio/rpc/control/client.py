"""The calling end of the control plane: for processes with devices, tools and people.

    client = ControlClient("http://127.0.0.1:9100", identity)
    print(await client.status())
    await client.close()

Every call is proved; see `proof`. A connection that ends is made anew with the next call.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import betterproto2
import grpclib.client
import msgspec
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
)
from objectio.abc.cluster import ClusterStatus, NodeOffer, OsdReport, Registration
from objectio.errors import ConfigError, RemoteProtocolError, Unauthenticated, Unavailable
from objectio.model.cluster import ClusterMap
from objectio.rpc.address import Address, parse_address
from objectio.rpc.auth import Identity
from objectio.rpc.connection import binding_of
from objectio.rpc.control.convert import parse, to_message, to_value
from objectio.rpc.control.failures import error_of
from objectio.rpc.control.pb import messages as pb
from objectio.rpc.control.proof import (
    ANSWER_HEADER,
    HEADER,
    METHOD,
    Caller,
    Prover,
)
from objectio.rpc.control.raw import RawCodec
from objectio.rpc.control.roles import ADMIN

CALL_SECONDS: Final = 30.0
ORDER_SECONDS: Final = 1_800.0
"""Preparing and opening a device may take minutes."""
RENEW_SECONDS: Final = 60.0
"""A challenge is not used any more when it is about to expire."""
_BROKEN: Final = (GRPCError, OSError, StreamTerminatedError, H2Error)
_SETTINGS: Final = Configuration(
    # A machine that went away without a word is noticed.
    _keepalive_time=10.0,
    _keepalive_timeout=10.0,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=5.0,
)

M = TypeVar("M", bound=betterproto2.Message)
V = TypeVar("V", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessKey:
    """Of a person who administers the cluster."""

    access_key: str
    secret_key: str = field(repr=False)


def parse_endpoint(endpoint: str) -> tuple[Address, bool]:
    """(address, whether by TLS) of http://HOST:PORT, https://HOST:PORT or unix:PATH."""
    if endpoint.startswith("unix:"):
        return parse_address(endpoint), False
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
        raise ConfigError(f"{endpoint!r} is no endpoint: http://HOST:PORT or unix:PATH")
    return parse_address(url.netloc), url.scheme == "https"


class ControlClient:
    """`endpoint` as `cluster.meta_endpoint` says it. `who` is this process, or a person. Errors are
    those of the contracts, and `Unavailable` where nobody answers in `call_seconds`, or for orders
    in `order_seconds`."""

    def __init__(
        self,
        endpoint: str,
        who: Identity | AccessKey,
        *,
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
        call_seconds: float = CALL_SECONDS,
        order_seconds: float = ORDER_SECONDS,
    ) -> None:
        self.endpoint = endpoint
        where, secure = parse_endpoint(endpoint)
        if secure and tls is None:
            raise ConfigError(f"{endpoint} asks for TLS: say whom to trust")
        if isinstance(who, AccessKey):
            self._key, self._caller = who.secret_key.encode(), Caller(ADMIN, who.access_key)
        else:
            self._key, self._caller = who.secret, Caller(who.role, who.node)
        self._call_seconds = call_seconds
        self._order_seconds = order_seconds
        self._channel = grpclib.client.Channel(
            None if where.path else where.host,
            None if where.path else where.port,
            path=where.path or None,
            ssl=tls if secure else None,
            codec=RawCodec(),
            config=replace(_SETTINGS, ssl_target_name_override=tls_name),
        )
        self._prover: tuple[object, Prover] | None = None
        """With the connection that it is of."""
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        self._channel.close()

    # The cluster: `abc.cluster.ControlPlane`.

    async def register(self, offer: NodeOffer) -> Registration:
        message = to_message(offer, pb.NodeOffer)
        return to_value(
            await self._call("Cluster/Register", message, pb.Registration), Registration
        )

    async def heartbeat(self, node: str, osds: Sequence[OsdReport]) -> int:
        request = pb.HeartbeatRequest(node, [to_message(osd, pb.OsdReport) for osd in osds])
        return (await self._call("Cluster/Heartbeat", request, pb.HeartbeatReply)).epoch

    async def status(self) -> ClusterStatus:
        return to_value(
            await self._call("Cluster/Status", pb.StatusRequest(), pb.ClusterStatus), ClusterStatus
        )

    async def cluster_map(self) -> ClusterMap:
        return to_value(await self._call("Cluster/Map", pb.MapRequest(), pb.ClusterMap), ClusterMap)

    async def watch(self) -> AsyncGenerator[ClusterMap, None]:
        """The map now, and each later one. Ends with an exception when the connection does. The
        stream says when there is another map, and the map itself is asked for: answers to such
        calls are proved."""
        path, request = "/objectio.v1.Cluster/WatchMap", bytes(pb.MapRequest())
        try:
            prover = await self._ready()
            proof = prover.prove(path, request)
            async with self._channel.request(
                path, Cardinality.UNARY_STREAM, bytes, bytes, metadata={HEADER: str(proof)}
            ) as stream:
                await stream.send_message(request, end=True)
                epoch = -1
                while await stream.recv_message() is not None:
                    cluster = await self.cluster_map()
                    if cluster.epoch > epoch:
                        epoch = cluster.epoch
                        yield cluster
        except _BROKEN as error:
            raise self._failure(error, None) from error
        raise Unavailable("the watch ended", reason="closed")

    # The storage: `abc.admin.StorageAdmin`.

    async def disks(self) -> Sequence[DiskStatus]:
        reply = await self._call("Admin/Disks", pb.DisksRequest(), pb.DisksReply)
        return [to_value(disk, DiskStatus) for disk in reply.disks]

    async def replace(self, osd: int) -> DiskStatus:
        return await self._order("Replace", osd)

    async def drain(self, osd: int) -> DiskStatus:
        return await self._order("Drain", osd)

    async def undrain(self, osd: int) -> DiskStatus:
        return await self._order("Undrain", osd)

    async def remove(self, osd: int) -> DiskStatus:
        return await self._order("Remove", osd)

    async def repair(self) -> RepairStatus:
        return to_value(
            await self._call("Admin/Repair", pb.RepairRequest(), pb.RepairStatus), RepairStatus
        )

    async def scrub(self) -> ScrubStatus:
        return to_value(
            await self._call("Admin/Scrub", pb.ScrubRequest(), pb.ScrubStatus), ScrubStatus
        )

    async def start_scrub(self) -> ScrubStatus:
        return to_value(
            await self._call("Admin/StartScrub", pb.ScrubRequest(), pb.ScrubStatus), ScrubStatus
        )

    async def rebalance(self) -> RebalanceStatus:
        return to_value(
            await self._call("Admin/Rebalance", pb.RebalanceRequest(), pb.RebalanceStatus),
            RebalanceStatus,
        )

    async def journal(self) -> JournalStatus:
        return to_value(
            await self._call("Admin/Journal", pb.JournalRequest(), pb.JournalStatus), JournalStatus
        )

    async def doctor(self) -> Sequence[Finding]:
        reply = await self._call("Admin/Doctor", pb.DoctorRequest(), pb.DoctorReply)
        return [to_value(finding, Finding) for finding in reply.findings]

    async def _order(self, what: str, osd: int) -> DiskStatus:
        request = pb.OsdRequest(osd)
        reply = await self._call(f"Admin/{what}", request, pb.DiskStatus, self._order_seconds)
        return to_value(reply, DiskStatus)

    # Calling.

    async def _call(
        self, method: str, request: betterproto2.Message, kind: type[M], seconds: float = 0.0
    ) -> M:
        path, raw, seconds = f"/objectio.v1.{method}", bytes(request), seconds or self._call_seconds
        try:
            return parse(kind, await self._call_once(path, raw, seconds))
        except Unauthenticated as error:
            if error.fields.get("reason") != "challenge":
                raise
        # The connection was another one by then, or the server has let the challenge go. What was
        # refused did not happen.
        self._prover = None
        return parse(kind, await self._call_once(path, raw, seconds))

    async def _call_once(self, path: str, raw: bytes, seconds: float) -> bytes:
        stream: Any = None
        try:
            async with asyncio.timeout(seconds):
                prover = await self._ready()
                proof = prover.prove(path, raw)
                async with self._channel.request(
                    path, Cardinality.UNARY_UNARY, bytes, bytes, metadata={HEADER: str(proof)}
                ) as stream:
                    await stream.send_message(raw, end=True)
                    answer = await stream.recv_message()
                    await stream.recv_trailing_metadata()
        except TimeoutError:
            raise Unavailable(f"{self.endpoint} does not answer", reason="deadline") from None
        except _BROKEN as error:
            raise self._failure(error, stream) from error
        if answer is None:
            raise RemoteProtocolError("a call without an answer", reason="malformed")
        prover.check_answer(proof, stream.trailing_metadata.get(ANSWER_HEADER), answer)
        return bytes(answer)

    async def _ready(self) -> Prover:
        """A challenge of the present connection."""
        async with self._turn:
            connection = await self._channel.__connect__()
            known = self._prover
            if known is not None and known[0] is connection and known[1].is_fresh:
                return known[1]
            prover = await self._ask(binding_of(connection.connection._transport))
            self._prover = (connection, prover)
            return prover

    async def _ask(self, binding: Any) -> Prover:
        request = bytes(pb.ChallengeRequest(self._caller.role, self._caller.name))
        async with self._channel.request(
            "/objectio.v1.Access/Challenge", Cardinality.UNARY_UNARY, bytes, bytes
        ) as stream:
            await stream.send_message(request, end=True)
            reply = parse(pb.ChallengeReply, await stream.recv_message() or b"")
        if reply.method != METHOD:
            raise Unauthenticated(f"the server wants proofs by {reply.method!r}", reason="method")
        expires = time.monotonic() + reply.valid_seconds - RENEW_SECONDS
        return Prover(self._key, self._caller, reply.nonce, expires, binding)

    def _failure(self, error: BaseException, stream: Any) -> BaseException:
        if isinstance(error, GRPCError):
            metadata = getattr(stream, "trailing_metadata", None)
            return error_of(error.status, error.message, metadata)
        return Unavailable(f"{self.endpoint}: {error}", reason="closed")
