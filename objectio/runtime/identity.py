"""Who this process is to the others of its cluster, and the secret that proves it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Final

from objectio.config import Config
from objectio.rpc.auth import Identity, load_secret, make_secret
from objectio.rpc.tls import Renewable, client_context, server_context

SAY_SECONDS: Final = 10.0
"""How often whoever waits says so."""
_LOOK_SECONDS: Final = 0.1
_ROLES: Final = ("meta", "osd", "gateway")

_log: Final = logging.getLogger("objectio.runtime")


def role_of(config: Config) -> str:
    """What this process calls itself to others: the first of its roles that they know."""
    roles = config.node.roles
    return next((role for role in _ROLES if role in roles), roles[0] if roles else "none")


def founder_identity(config: Config) -> Identity:
    """That of the process with the metadata, which makes the secret where there is none."""
    path = config.beside_data(config.cluster.secret_file)
    with contextlib.suppress(FileExistsError):
        _make(path)
    return Identity(secret=load_secret(path), role=role_of(config), node=config.node.name)


async def member_identity(config: Config) -> Identity:
    """That of any other process. Waits for the secret to be made, or to be brought here."""
    path = config.beside_data(config.cluster.secret_file)
    say_at = time.monotonic() + 1.0
    while not path.exists():
        if time.monotonic() >= say_at:
            say_at = time.monotonic() + SAY_SECONDS
            _log.warning(
                "waiting for the secret of the cluster in %s: the process with the metadata makes "
                "it; copy it here if that runs elsewhere",
                path,
            )
        await asyncio.sleep(_LOOK_SECONDS)
    return Identity(secret=load_secret(path), role=role_of(config), node=config.node.name)


def _make(path: Path) -> None:
    """All of the file or nothing, so that whoever waits for it never reads a part of it."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_secret(fresh)
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def server_tls(config: Config) -> Renewable | None:
    """For what this process listens on for others; None: no TLS."""
    cluster = config.cluster
    if not cluster.tls_cert_file:
        return None
    certificate = config.beside_data(cluster.tls_cert_file)
    key = config.beside_data(cluster.tls_key_file)
    return Renewable("cluster.tls_cert_file", lambda: server_context(certificate, key), certificate)


def client_tls(config: Config) -> Renewable | None:
    """For connections to other processes; None: no TLS. Processes of one cluster have it all, or
    none has."""
    cluster = config.cluster
    if not (cluster.tls_ca_file or cluster.tls_cert_file):
        return None
    authorities = config.beside_data(cluster.tls_ca_file) if cluster.tls_ca_file else None
    return Renewable("cluster.tls_ca_file", lambda: client_context(authorities))
