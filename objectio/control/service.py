"""The control role: other processes find the metadata, each other and the operators' calls here.

It listens at `meta.listen`, in the process that has the metadata. Processes with devices may register,
and read and write metadata, as soon as it runs; gateways once the store is kept in order.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from objectio.abc.admin import StorageAdmin
from objectio.abc.cluster import ClusterState, NodeStatus
from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.orders import OrderLog
from objectio.abc.role import NodeParts, Service
from objectio.errors import ObjectIOError, Unavailable

if TYPE_CHECKING:
    from objectio.control.port import Port
    from objectio.control.registry import Registry
    from objectio.rpc.control.server import ControlServer
    from objectio.rpc.server import Server
    from objectio.store.remote_admin import AdminService
    from objectio.store.session_service import SessionService


class LateAdmin:
    """`abc.admin.StorageAdmin`, before there is one: what keeps the store in order starts later."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            if not self._parts.has("admin"):
                raise Unavailable("the store is not ready yet", reason="starting")
            return await getattr(self._parts.part("admin"), name)(*arguments)

        return call


class ControlService:
    """Provides

    sessions        the `SessionService`, which takes sessions once `serve` was called
    presence        the same: what all processes use
    in_use          the `BlobsInUse` of this process, which count with the others'
    rpc_server      the framed wire's server, for further methods
    registry        the `Registry`
    meta_address    where it listens, with the port that was taken
    """

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._server: Server | None = None
        self._orders: AdminService | None = None
        self._sessions: SessionService | None = None
        self._grpc: ControlServer | None = None
        self._port: Port | None = None
        self._registry: Registry | None = None
        self._address = ""

    async def start(self) -> None:
        from objectio.control.port import Port
        from objectio.control.registry import Registry
        from objectio.rpc.control.server import ControlServer

        parts, config = self._parts, self._parts.config
        identity = parts.part("identity")
        admin = cast(StorageAdmin, LateAdmin(parts))
        self._serve_frames(admin)
        assert self._server is not None
        registry = self._registry = Registry(
            parts.part("kv"),
            parts.part("cluster").cluster_id,
            lease_seconds=config.cluster.lease_seconds,
            state=self._state,
            pool=self._pool,
            others=self._others,
        )
        self._grpc = ControlServer(
            identity.secret,
            registry,
            admin,
            access_keys=self._access_keys(),
            metrics=parts.metrics,
            orders=self._order_log,
        )
        assert self._sessions is not None
        await self._sessions.start()
        self._port = Port(
            frames=self._server.protocol,
            grpc=self._grpc.protocol,
            http=self._http,
            metrics=parts.metrics,
        )
        # On a Unix socket nobody asks for TLS.
        tls = None if config.meta.listen.startswith("unix:") else parts.part("server_tls")
        self._address = await self._port.listen(config.meta.listen, tls)
        parts.provide("registry", registry)
        parts.provide("meta_address", self._address)

    def _serve_frames(self, admin: StorageAdmin) -> None:
        from objectio.rpc.kv_service import KVService
        from objectio.rpc.server import Server
        from objectio.store.presence import BlobsInUse
        from objectio.store.remote_admin import AdminService
        from objectio.store.session_service import SessionService

        parts = self._parts
        kv = parts.part("kv")
        server = self._server = Server(
            parts.part("identity"), roles=("osd", "gateway"), metrics=parts.metrics
        )
        in_use = BlobsInUse()
        metadata = KVService(server, kv)
        sessions = self._sessions = SessionService(
            server,
            kv,
            lease_seconds=parts.config.cluster.lease_seconds,
            local=in_use,
            metrics=parts.metrics,
        )
        metadata.admit = sessions.admit
        self._orders = AdminService(server, admin)
        parts.provide("in_use", in_use)
        parts.provide("sessions", sessions)
        parts.provide("presence", sessions)
        parts.provide("rpc_server", server)

    def _access_keys(self) -> Callable[[str], str | None]:
        """Only the root may administer the cluster."""
        from objectio.iam.credentials import RootCredentials

        credentials = RootCredentials.load(self._parts.config.data_dir)

        def secret_of(access_key: str) -> str | None:
            found = credentials.lookup(access_key)
            return found.secret_key if found is not None and found.identity.is_root else None

        return secret_of

    def _order_log(self) -> OrderLog | None:
        """Kept by who answers HTTP here, which starts later."""
        if not self._parts.config.audit.enabled:
            return None
        if not self._parts.has("orders"):
            raise Unavailable("the audit log is not open yet", reason="starting")
        log: OrderLog = self._parts.part("orders")
        return log

    def _http(self) -> Any:
        parts = self._parts
        return parts.part("http")() if parts.has("http") else None

    def _state(self) -> tuple[ClusterState, str]:
        if not self._parts.has("maintenance"):
            return "waiting", "the store is not ready yet"
        state: tuple[ClusterState, str] = self._parts.part("maintenance").state
        return state

    def _pool(self) -> str:
        try:
            return str(self._parts.part("pools").current.code.profile)
        except ObjectIOError:  # there is none yet
            return ""

    def _others(self) -> Iterable[NodeStatus]:
        assert self._sessions is not None
        name, now_ms = self._parts.config.node.name, _now_ms()
        yield NodeStatus(node=name, role="meta", address=self._address, alive=True, seen_ms=now_ms)
        for session in self._sessions.sessions:
            yield NodeStatus(
                node=session.name,
                role="gateway",
                address=session.address,
                alive=session.alive,
                seen_ms=session.seen_ms,
            )

    async def stop(self) -> None:
        if self._port is not None:
            self._port.close()
        if self._sessions is not None:
            await self._sessions.stop()
        if self._orders is not None:
            await self._orders.stop()
        if self._grpc is not None:
            await self._grpc.close()
        if self._server is not None:
            await self._server.close()
        if self._port is not None:
            await self._port.wait_closed()

    def health(self) -> Mapping[str, Any]:
        return {"ok": bool(self._address), "address": self._address}


def _now_ms() -> int:
    return int(time.time() * 1000)


class ControlRole:
    after = ("meta",)

    def build(self, parts: NodeParts, context: Context) -> Service:
        return ControlService(parts)


DRIVER = Driver(
    name="control",
    config=NoConfig,
    open=lambda config, context: ControlRole(),
    summary="Lets other processes find the metadata and each other",
)
