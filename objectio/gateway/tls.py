"""HTTPS: the contexts from the files that `[gateway]` and `[metrics]` name."""

from __future__ import annotations

import ssl
from pathlib import Path

from objectio.config import Config
from objectio.config.schema import GatewaySection, MetricsSection
from objectio.rpc.tls import Renewable, load_certificate


def gateway_tls(config: Config) -> Renewable | None:
    """For `gateway.listen`; None: plain HTTP."""
    return _https(config, config.gateway, "gateway.tls_cert_file")


def metrics_tls(config: Config) -> Renewable | None:
    """For `metrics.listen`; None: plain HTTP."""
    return _https(config, config.metrics, "metrics.tls_cert_file")


def _https(config: Config, section: GatewaySection | MetricsSection, name: str) -> Renewable | None:
    if not section.tls_cert_file:
        return None
    certificate = config.beside_data(section.tls_cert_file)
    key = config.beside_data(section.tls_key_file) if section.tls_key_file else None
    return Renewable(name, lambda: _context(certificate, key), certificate)


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 is spoken too, which clients of S3 still have; its weak ciphers are not (Python's
    defaults are RFC 9325's). HTTP/1.1 only (ALPN, RFC 7301)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, certificate, key)
    return context
