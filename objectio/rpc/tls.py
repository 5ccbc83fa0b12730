"""TLS: contexts from files that the configuration names, which can be read anew while they serve.

Between processes who may speak is decided by the secret of the cluster (see `objectio.rpc.auth`), so
clients need no certificates. TLS hides what is said; version 1.3, whose sessions the proofs are bound
to.

A `Renewable` stands in for the context that was read last. Connections take it when they begin, so
that those which are there keep what they began with. A context is never loaded a second time: OpenSSL
keeps one certificate for each kind of key, so an old RSA one would still be served to some after one
of ECDSA has taken its place.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import ConfigError

_log: Final = logging.getLogger("objectio.tls")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For whoever listens. It offers HTTP/2 and HTTP/1.1 to clients that ask (ALPN, RFC 7301): the
    port with the metadata speaks both beside the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2", "http/1.1"])
    load_certificate(context, certificate, key)
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


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """`key` None: it is in the file of the certificate. Raises `ConfigError`."""
    files = str(certificate) if key is None else f"{certificate} and {key}"

    def no_password() -> str:
        raise ConfigError(f"TLS from {files}: the key is encrypted, and nobody types a password")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except OSError as error:  # also ssl.SSLError
        why = str(error)
        if "PEM lib" in why:  # all that OpenSSL says
            why = "that is not a certificate and its private key, as PEM"
        raise ConfigError(f"TLS from {files}: {why}") from error


class Renewable(ssl.SSLContext):
    """What asyncio is given as the context of a listener, or for connecting.

    name        of the setting, for the log
    make        reads the files; raises `ConfigError`
    certificate what `make` serves, to say until when it is valid; None for clients
    """

    expires_at = math.nan
    """Until when what is served is valid, in Unix seconds; NaN: nobody knows."""

    def __new__(
        cls, name: str, make: Callable[[], ssl.SSLContext], certificate: Path | None = None
    ) -> Self:
        # It has neither certificates nor authorities itself: used by mistake, nobody gets through.
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(
        self, name: str, make: Callable[[], ssl.SSLContext], certificate: Path | None = None
    ) -> None:
        self.name = name
        self._make = make
        self._certificate = certificate
        self._latest = make()
        self._look_at_dates()

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Called by asyncio and uvloop for each connection."""
        return self._latest.wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self._latest.wrap_socket(*arguments, **options)

    @property
    def has_certificate(self) -> bool:
        """Whether it is for who listens."""
        return self._certificate is not None

    def renew(self) -> None:
        """Read the files again. Raises `ConfigError`, and keeps what it has, if they are no good."""
        self._latest = self._make()
        said = self._look_at_dates()
        _log.info("%s: read anew%s", self.name, said and f", {said}")

    def _look_at_dates(self) -> str:
        """What the certificate says about itself; warns of one that clients will refuse."""
        self.expires_at = math.nan
        if self._certificate is None:
            return ""
        from cryptography import x509

        try:
            leaf = x509.load_pem_x509_certificates(self._certificate.read_bytes())[0]
        except (OSError, ValueError):  # OpenSSL took it: its dates are all that is missing
            return ""
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        self.expires_at = end.timestamp()
        if not begin.timestamp() <= time.time() <= self.expires_at:
            _log.warning(
                "%s: %s is valid from %s until %s only", self.name, self._certificate, begin, end
            )
        return f"serial {leaf.serial_number:x}, valid until {end}"


Context = TypeVar("Context", bound=Renewable | None)


class Certificates:
    """All `Renewable`s of a process."""

    def __init__(self) -> None:
        self._contexts: list[Renewable] = []
        self._metrics: Metrics = NullMetrics()

    def show(self, metrics: Metrics) -> None:
        """Until when those are valid that are added from now on."""
        self._metrics = metrics

    def add(self, context: Context) -> Context:
        if context is not None:
            self._contexts.append(context)
            if context.has_certificate:
                self._metrics.gauge_function(
                    "objectio_tls_certificate_expiry_timestamp_seconds",
                    "Until when the certificate is valid that a listener serves: that of `tls_cert_file` "
                    "in the section gateway, metrics or cluster, as it was read last.",
                    lambda: context.expires_at,
                    listener=context.name.partition(".")[0],
                )
        return context

    async def renew(self) -> bool:
        """Each by itself: what cannot be read stays as it is, and a line in the log says why. Whether
        all could be."""
        whole = True
        for context in self._contexts:
            try:
                await asyncio.to_thread(context.renew)
            except ConfigError as error:
                whole = False
                _log.error("%s stays as it was: %s", context.name, error)
        if not self._contexts:
            _log.info("there are no certificates to be read anew")
        return whole
