"""TLS between the processes of a cluster: contexts from the files that `[cluster]` names.

Who may speak is decided by the secret of the cluster (see `objectio.rpc.auth`), so clients need no
certificates. TLS hides what is said; version 1.3, whose sessions the proofs are bound to.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from objectio.errors import ConfigError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For whoever listens. It offers HTTP/2 and HTTP/1.1 to clients that ask (ALPN, RFC 7301): the
    port with the metadata speaks both beside the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(f"TLS from {certificate} and {key}: {error}") from error
    return context


def client_context(authorities: Path | None) -> ssl.SSLContext:
    """For whoever connects: certificates must be signed by one of `authorities`, or by one that
    this machine trusts, and name the host that was connected to."""
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else authorities)
    except OSError as error:
        raise ConfigError(f"TLS authorities from {authorities}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
