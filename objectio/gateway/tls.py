"""HTTPS of the gateway: the context from the files that `[gateway]` names."""

from __future__ import annotations

import ssl

from objectio.config import Config
from objectio.errors import ConfigError


def server_tls(config: Config) -> ssl.SSLContext | None:
    """None: plain HTTP. TLS 1.2 is spoken too, which clients of S3 still have; its weak ciphers are
    not (Python's defaults are RFC 9325's). HTTP/1.1 only (ALPN, RFC 7301)."""
    gateway = config.gateway
    if not gateway.tls_cert_file:
        return None
    certificate = config.beside_data(gateway.tls_cert_file)
    key = config.beside_data(gateway.tls_key_file) if gateway.tls_key_file else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(f"TLS from {certificate}: {error}") from error
    return context


def _no_password() -> str:
    raise ConfigError("the private key of the gateway is encrypted: nobody could type a password")
