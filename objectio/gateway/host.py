"""The HTTP server of a process, with whatever that process has to show; and the role of it alone.

A process that serves objects has all front ends there. One that does not, because it keeps metadata or
devices for others, shows `/health` and `/metrics`, and the operators' API if it manages the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from objectio.abc.admin import ClusterView
from objectio.abc.api import ApiContext, FrontEnd
from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig
from objectio.abc.role import NodeParts, Service
from objectio.errors import OperationNotImplemented
from objectio.gateway.app import GatewayApp
from objectio.gateway.arrivals import Arrivals
from objectio.gateway.audit import Audit
from objectio.gateway.body import Pace
from objectio.gateway.gate import Gate
from objectio.gateway.guard import Guard
from objectio.gateway.health import Health
from objectio.gateway.identities import Callers
from objectio.gateway.protocol import Patience
from objectio.gateway.server import HttpServer
from objectio.gateway.tls import gateway_tls, metrics_tls
from objectio.rpc.tls import Certificates
from objectio.store.reach import ReachOfStripes
from objectio.store.standalone import Standalone

OPERATORS_API: Final = "admin"
AUDIT_DIRECTORY: Final = "audit"


class HttpHost:
    """Provides `endpoint` and `http`: a function that makes a protocol for an HTTP connection which
    somebody else has accepted.

    parts that it takes, if they are there: `listener` and `metrics_listener`, sockets that are bound
    already, in place of `gateway.listen` and `metrics.listen`; `neighbours`, the other processes of the
    same supervisor; `certificates`, who is told which files are to be read anew
    """

    def __init__(
        self,
        parts: NodeParts,
        front_ends: Mapping[str, FrontEnd],
        callers: Callers,
        listen: str,
    ) -> None:
        """`listen` may be empty."""
        config = parts.config
        self._parts = parts
        self._front_ends = front_ends
        self._audit = open_audit(parts)
        app = GatewayApp(
            front_ends,
            Gate(
                callers.credentials,
                guard=Guard(
                    parts.part("objects"),
                    callers.directory,
                    parts.config.gateway.object_ownership,
                )
                if parts.has("objects")
                else None,
                region=config.gateway.region,
                auth_enabled=config.gateway.auth,
                trusted_proxies=config.gateway.trusted_proxies,
            ),
            metrics=parts.metrics,
            health=health_of(parts),
            exporter=parts.exporter,
            neighbours=parts.part("neighbours") if parts.has("neighbours") else None,
            audit=self._audit,
            log_requests=config.log.requests,
            metrics_public=config.gateway.metrics_public,
            requests_max=config.gateway.requests_max,
            body_pace=Pace(
                config.gateway.body_idle_seconds, config.gateway.body_bytes_per_second_min
            ),
        )
        host, _, port = listen.rpartition(":")
        also = config.metrics.listen
        if parts.has("metrics_listener"):
            also = parts.part("metrics_listener")
        has_files = parts.has("certificates")
        certificates = parts.part("certificates") if has_files else Certificates()
        arrivals = Arrivals(
            config.gateway.connections_max,
            config.gateway.connections_per_address_max,
            config.gateway.trusted_proxies,
        )
        arrivals.show(parts.metrics)
        self._server = HttpServer(
            app,
            host.strip("[]"),
            int(port or 0),
            listener=parts.part("listener") if parts.has("listener") else None,
            also=[also] if also else [],
            arrivals=arrivals,
            patience=Patience(config.gateway.head_seconds_max, config.gateway.write_seconds_max),
            tls=certificates.add(gateway_tls(config) if listen else None),
            also_tls=certificates.add(metrics_tls(config) if also else None),
        )

    async def start(self) -> None:
        if self._audit is not None:
            await self._audit.start()
            self._parts.provide("orders", self._audit)
        await self._server.start()
        self._parts.provide("endpoint", self._server.endpoint)
        self._parts.provide("http", self._server.make_protocol)

    async def stop(self) -> None:
        for front_end in self._front_ends.values():
            if (end := getattr(front_end, "stop", None)) is not None:
                end()
        await self._server.stop()
        if self._audit is not None:
            await self._audit.stop()


def open_audit(parts: NodeParts) -> Audit | None:
    config = parts.config
    if not config.audit.enabled:
        return None
    return Audit(
        config.data_dir / AUDIT_DIRECTORY,
        config.node.name,
        file_bytes_max=config.audit.file_bytes_max,
        files_max=config.audit.files_max,
        denied_per_second_max=config.audit.denied_per_second_max,
        metrics=parts.metrics,
    )


def health_of(parts: NodeParts) -> Health:
    """Pools and devices are the store's, in a gateway, or those of who keeps the store in order."""
    reach = None
    if parts.has("objects"):
        objects = parts.part("objects")
        reach = ReachOfStripes(objects.pools, objects.devices)
    elif parts.has("pools"):
        reach = ReachOfStripes(parts.part("pools"), parts.part("devices"))
    neighbours = parts.part("neighbours") if parts.has("neighbours") else None
    return Health(parts.health, reach, neighbours)


def cluster_view(parts: NodeParts, pool: str) -> ClusterView | None:
    """Whoever knows who is in the cluster, as seen from this process."""
    for name in ("registry", "link"):
        if parts.has(name):
            found: ClusterView = parts.part(name)
            return found
    if not parts.has("admin"):
        return None
    return Standalone(
        parts.part("admin"), parts.part("cluster").cluster_id, parts.config.node.name, pool
    )


class HostService:
    """The server of a process without front ends."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._callers = Callers(parts)
        self._host: HttpHost | None = None

    async def start(self) -> None:
        parts, callers = self._parts, self._callers
        await callers.start()
        front_ends = {}
        if parts.has("admin") and OPERATORS_API in (apis := parts.open_apis()):
            context = ApiContext(
                NoObjects(),
                parts.metrics,
                parts.config.gateway.region,
                admin=parts.part("admin"),
                cluster=cluster_view(parts, ""),
                directory=callers.directory,
                identities=callers.identities,
                configuration=parts.shown_config(),
            )
            front_ends[OPERATORS_API] = apis[OPERATORS_API].build(context)
        self._host = HttpHost(parts, front_ends, callers, "")
        await self._host.start()

    async def stop(self) -> None:
        if self._host is not None:
            await self._host.stop()
        await self._callers.stop()

    def health(self) -> Mapping[str, Any]:
        return {"ok": self._host is not None}


class NoObjects:
    """In place of the object service where a process has none."""

    def __getattr__(self, name: str) -> Any:
        raise OperationNotImplemented(
            "this process serves no objects: ask a gateway", reason="elsewhere"
        )


class HostRole:
    after = ("meta", "control", "osd", "maintenance")

    def build(self, parts: NodeParts, context: Context) -> Service:
        return HostService(parts)


DRIVER = Driver(
    name="http",
    config=NoConfig,
    open=lambda config, context: HostRole(),
    summary="Shows the health and the metrics of a process that is no gateway",
)
