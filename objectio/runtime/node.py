"""The composition root: configuration → drivers → roles → serve → stop.

Start goes from the bottom up, stop from the top down. Whatever a start fails at, everything that
had been started is stopped again before the error is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from objectio.abc.api import FrontEndFactory
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver
from objectio.abc.filter import FilterKind
from objectio.abc.kms import KeyManager
from objectio.abc.kv import CAP_DURABLE, CAP_FAST_READS, CAP_MULTI_NODE, CAP_MULTI_PROCESS
from objectio.abc.metrics import Exporter, Metrics, NullMetrics
from objectio.abc.placement import Placement
from objectio.abc.role import RoleFactory, Service
from objectio.abc.shardstore import ShardStore, ShardStoreFactory
from objectio.abc.sinks import EventSink
from objectio.config import Config, check_drivers
from objectio.config.shown import shown
from objectio.erasure.code import ErasureCodes
from objectio.errors import ConfigError, DriverUnavailable, PluginError
from objectio.hookspecs.lifecycle import EventKind, NodeEvent
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.plugin.loader import Plugins
from objectio.rpc.tls import Certificates
from objectio.runtime.identity import client_tls, founder_identity, member_identity, server_tls
from objectio.runtime.link import MetaLink
from objectio.runtime.lock import DirectoryLock
from objectio.runtime.looplag import LoopLag

_log: Final = logging.getLogger("objectio.runtime")


class Events:
    """Announces what happens on this node to all plugins."""

    def __init__(self, plugins: Plugins, node: str) -> None:
        self._plugins = plugins
        self._node = node

    def emit(self, kind: EventKind, **details: object) -> None:
        self._plugins.emit(NodeEvent(kind, self._node, details))

    def up(self, osd: int, *, blank: bool) -> None:
        self.emit(EventKind.OSD_UP, osd=osd, blank=blank)

    def down(self, osd: int, reason: str) -> None:
        self.emit(EventKind.OSD_DOWN, osd=osd, reason=reason)

    def old_copy(self, osd: int, opens: int, expected: int) -> None:
        self.emit(EventKind.OSD_OLD_COPY, osd=osd, opens=opens, expected=expected)


class Node:
    """One process of ObjectIO; implements `objectio.abc.role.NodeParts`."""

    def __init__(self, config: Config, plugins: Plugins) -> None:
        check_drivers(config, plugins.registry)
        self.config = config
        self.plugins = plugins
        self.registry = plugins.registry
        self.events = Events(plugins, config.node.name)
        self.exporter: Exporter | None = None
        self.metrics: Metrics = NullMetrics()
        self.certificates = Certificates()
        self._parts: dict[str, Any] = {"certificates": self.certificates}
        self._services: list[tuple[str, Service]] = []
        self._link: MetaLink | None = None
        self._kms: KeyManager | None = None
        self._lag: LoopLag | None = None
        self._lock = DirectoryLock(config.data_dir, config.node.name if self._has_link else "")

    # Life-cycle.

    @property
    def _has_link(self) -> bool:
        """Whether the metadata are another process'."""
        return "meta" not in self.config.node.roles and bool(self.config.cluster.meta_endpoint)

    async def start(self) -> None:
        self._open_exporter()
        self.config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        try:
            self._lag = LoopLag(self.metrics)
            self._lag.start()
            self._open_kms()
            await self._join_cluster()
            for name, role in self._roles_in_order():
                service = role.build(self, self._context("role", name))
                self._services.append((name, service))
                await service.start()
        except BaseException:
            await self.stop()
            raise
        self.events.emit(EventKind.STARTED)

    async def _join_cluster(self) -> None:
        """Provide what a process needs that is one of several."""
        config, certificates = self.config, self.certificates
        joins = self._has_link or bool(config.meta.listen)
        client = certificates.add(client_tls(config)) if joins else None
        if self._has_link:
            if {"osd", "gateway"} <= set(config.node.roles):
                raise ConfigError(
                    "a process with the roles osd and gateway must have the role meta too: run them "
                    "as two processes, or leave cluster.meta_endpoint empty"
                )
            identity = await member_identity(config)
            link = self._link = MetaLink(
                config.cluster.meta_endpoint,
                identity,
                tls=client,
                metrics=self.metrics,
                near=self._open_near_kv if self._reads_near else None,
            )
            await link.start()
            for name in ("kv", "cluster", "identity"):
                self.provide(name, getattr(link, name))
            self.provide("link", link)
            key_set = await link.kv.aget(keys.KEY_SET)
            if self._kms is not None and key_set is not None:
                await self._kms.start(key_set.decode())
        elif config.meta.listen:
            self.provide("identity", founder_identity(config))
        if self.has("identity"):
            self.provide("server_tls", certificates.add(server_tls(config)))
            self.provide("client_tls", client)

    async def stop(self) -> None:
        if self._services:
            self.events.emit(EventKind.STOPPING)
        while self._services:
            name, service = self._services.pop()
            try:
                await service.stop()
            except Exception:
                _log.exception("stopping the role %s", name)
        if self._link is not None:
            await self._link.close()
        if self._kms is not None:
            await self._kms.close()
        if self._lag is not None:
            self._lag.stop()
        self._lock.release()

    def health(self) -> Mapping[str, Any]:
        roles = {name: dict(service.health()) for name, service in self._services}
        if self._link is not None:
            roles["link"] = dict(self._link.health())
        ok = bool(roles) and all(role.get("ok") for role in roles.values())
        degraded = any(role.get("degraded") for role in roles.values())
        return {"ok": ok, "degraded": degraded, "node": self.config.node.name, "roles": roles}

    def shown_config(self) -> Mapping[str, Any]:
        return shown(self.config, self.registry)

    def _roles_in_order(self) -> list[tuple[str, RoleFactory]]:
        left = self._open_roles()
        ordered: list[tuple[str, RoleFactory]] = []
        while left:
            ready = [name for name, role in left.items() if not set(role.after) & set(left)]
            if not ready:
                raise ConfigError(f"these roles wait for each other: {', '.join(left)}")
            ordered += [(name, left.pop(name)) for name in ready]
        return ordered

    def _open_roles(self) -> dict[str, RoleFactory]:
        """Those of the configuration, those that they bring, and a host for health and metrics in a
        process that has no gateway to show them."""
        opened: dict[str, RoleFactory] = {}
        wanted = list(self.config.node.roles)
        while wanted or self._needs_host(opened):
            name = wanted.pop(0) if wanted else HOST_ROLE
            if name in opened:
                continue
            driver = self.registry.get("role", name)
            role = opened[name] = driver.open(driver.config(), self._context("role", name))
            if (brings := getattr(role, "brings", None)) is not None:
                wanted += brings(self.config)
        return opened

    def _needs_host(self, opened: Mapping[str, RoleFactory]) -> bool:
        hosts = {"gateway", HOST_ROLE} & set(opened)
        return not hosts and bool(self.config.metrics.listen or self.config.meta.listen)

    # Parts that roles provide to each other.

    def part(self, name: str) -> Any:
        try:
            return self._parts[name]
        except KeyError:
            raise ConfigError(
                f"this node has nothing that provides {name!r}: add the role to node.roles"
            ) from None

    def has(self, name: str) -> bool:
        return name in self._parts

    def provide(self, name: str, part: Any) -> None:
        self._parts[name] = part

    # Drivers.

    def _context(self, kind: str, name: str) -> Context:
        directory = self.config.data_dir / _DIRECTORIES.get(kind, f"{kind}-{name}")
        return Context(
            name=name,
            data_dir=directory,
            log=logging.getLogger(f"objectio.{kind}.{name}"),
            metrics=self.metrics,
        )

    def _open(self, section: str, kind: str, driver: AnyDriver) -> Any:
        context = self._context(kind, driver.name)
        if kind in _DIRECTORIES:
            context.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return driver.open(self.config.driver_settings(section, driver), context)

    def _choose(self, kind: str, name: str) -> AnyDriver:
        return self.registry.get(kind, name) if name else self.registry.best(kind)

    def best_name(self, kind: str) -> str:
        return self.registry.best(kind).name

    def _open_exporter(self) -> None:
        name = self.config.metrics.exporter
        if not name and not self.registry.names("exporter"):
            return
        self.exporter = self._open("metrics", "exporter", self._choose("exporter", name))
        assert self.exporter is not None
        self.metrics = self.exporter.metrics
        self.certificates.show(self.metrics)

    def _open_kms(self) -> None:
        """Where it is needed. Whoever knows the cluster's set of keys starts it: the metadata role, or
        the link to the process that has it."""
        if {"meta", "gateway"} & set(self.config.node.roles):
            self._kms = self._open("kms", "kms", self._choose("kms", self.config.kms.driver))
            self.provide("kms", self._kms)

    @property
    def kv_driver(self) -> AnyDriver:
        return self._choose("kv", self.config.kv.driver)

    @property
    def metadata_dir(self) -> Path:
        """Where the key-value engine keeps its files."""
        path = getattr(self.config.driver_settings("kv", self.kv_driver), "path", "")
        return Path(path) if path else self.config.data_dir / _DIRECTORIES["kv"]

    def open_kv_at(self, directory: Path) -> KVStore:
        """The engine in another directory, bare: no filters, no journal."""
        driver = self.kv_driver
        settings = self.config.driver_settings("kv", driver)
        if getattr(settings, "path", ""):
            settings = msgspec.structs.replace(settings, path="")
        context = replace(self._context("kv", driver.name), data_dir=directory)
        return KVStore(driver.open(settings, context), driver.capabilities, driver.threads)

    @property
    def _reads_near(self) -> bool:
        near = self.config.kv.near and "gateway" in self.config.node.roles
        return near and CAP_MULTI_PROCESS in self.kv_driver.capabilities

    def _open_near_kv(self) -> KVStore:
        """The engine's files that another process of this machine has open, to read them."""
        if not self.metadata_dir.is_dir():
            raise ConfigError(f"there are no metadata in {self.metadata_dir}")
        return self.open_kv_at(self.metadata_dir)

    def open_kv(self) -> KVStore:
        driver = self.kv_driver
        opened = self._open("kv", "kv", driver)
        for name in reversed(self.config.kv.filters):
            each = self.registry.get_filter(FilterKind.KV, name)
            opened = each.open(
                self.config.filter_settings(each), self._context("filter", name), opened
            )
        capabilities = driver.capabilities
        if self.config.kv.filters:  # a filter may wait: reads must leave the event loop
            capabilities -= {CAP_FAST_READS}
        return KVStore(
            opened,
            capabilities,
            driver.threads,
            metrics=self.metrics,
            journaled=self.config.kv.journal and has_one_copy(driver),
            directory=self.metadata_dir if has_one_copy(driver) else None,
        )

    def open_shardstores(self) -> ShardStoreFactory:
        driver = self._choose("shardstore", self.config.osd.driver)
        factory: ShardStoreFactory = self._open("osd", "shardstore", driver)
        return factory

    def wrap_shardstore(self, osd: int, store: ShardStore) -> ShardStore:
        for name in reversed(self.config.osd.filters):
            each = self.registry.get_filter(FilterKind.SHARDSTORE, name)
            context = self._context("filter", f"{name}-osd{osd}")
            store = each.open(self.config.filter_settings(each), context, store)
        return store

    def open_codecs(self) -> ErasureCodes:
        """Every codec that can be opened here; one that cannot is passed over unless it is named."""
        opened = []
        for name in self.registry.names("codec"):
            try:
                driver = self.registry.get("codec", name)
                factory = self._open("codec", "codec", driver)
            except (DriverUnavailable, PluginError, ImportError) as error:
                if name == self.config.pool.codec:
                    raise
                _log.warning("codec %s is not available: %s", name, error)
                continue
            opened.append((name, driver.rank, driver.threads, factory))
        return ErasureCodes(opened)

    def open_placement(self, name: str) -> Placement:
        driver = self._choose("placement", name)
        placement: Placement = self._open("placement", "placement", driver)
        return placement

    def open_sinks(self) -> Mapping[str, EventSink]:
        tables = self.config.driver_tables.get("sinks", {})
        return {
            name: self._open("sinks", "sink", self.registry.get("sink", name)) for name in tables
        }

    def open_apis(self) -> Mapping[str, FrontEndFactory]:
        names = self.config.gateway.apis or self.registry.names("api")
        return {name: self._open("api", "api", self.registry.get("api", name)) for name in names}


def has_one_copy(driver: AnyDriver) -> bool:
    """Whether metadata in this engine lasts, and would be lost with one machine."""
    return CAP_DURABLE in driver.capabilities and CAP_MULTI_NODE not in driver.capabilities


_DIRECTORIES: Final = {"kv": "meta", "shardstore": "index", "kms": "."}
"""Kinds of drivers that keep files, and where below the node's data directory."""

HOST_ROLE: Final = "http"
"""The role that shows health and metrics."""


async def serve(
    config: Config,
    plugins: Plugins,
    stop: asyncio.Event,
    ready: Callable[[Node], None],
    parts: Mapping[str, Any] = MappingProxyType({}),
    renew: asyncio.Event | None = None,
) -> None:
    """Run a node until `stop` is set, also while it starts; `ready(node)` is called once it serves.
    `parts` are what it is given by whoever runs it. Each time that `renew` is set the files of its
    certificates are read again."""
    node = Node(config, plugins)
    for name, part in parts.items():
        node.provide(name, part)
    starting = asyncio.ensure_future(node.start())
    stopping = asyncio.ensure_future(stop.wait())
    renewing = None if renew is None else asyncio.ensure_future(_renew(node, renew))
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        await starting
        ready(node)
        await stopping
    finally:
        stopping.cancel()
        if renewing is not None:
            renewing.cancel()
        await node.stop()


async def _renew(node: Node, asked: asyncio.Event) -> None:
    """Also while it starts: what that has not read yet it reads later."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            await node.certificates.renew()
        except Exception:
            _log.exception("reading certificates anew")
