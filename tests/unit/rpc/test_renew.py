"""Certificates that are read anew while a server has connections, on both event loops."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import time
from functools import partial

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from objectio.abc.metrics import NullMetrics
from objectio.errors import ConfigError
from objectio.rpc.tls import Certificates, Renewable, client_context, server_context
from objectio.testing.tls import make_certificate

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture
def files(tmp_path):
    """The first certificate is in place, the second beside it."""
    first, second = (make_certificate(tmp_path / name) for name in ("first.pem", "second.pem"))
    return shutil.copy(first, tmp_path / "now.pem"), first, second


def served(path):
    return Renewable("it", lambda: server_context(path, path), path)


def serial_of(path):
    return x509.load_pem_x509_certificates(path.read_bytes())[0].serial_number


def trusting(*paths, verify=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for path in paths:
        context.load_verify_locations(path)
    return context


class Echo:
    """A server that answers with what it gets."""

    def __init__(self, context):
        self._context = context

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _answer(self, reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def connect(self, context):
        return await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.port, ssl=context), 10
        )

    async def serial(self):
        """Of the certificate that a new connection is shown."""
        _, writer = await self.connect(trusting(verify=False))
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(raw).serial_number


async def echoes(reader, writer):
    writer.write(b"still there")
    return await asyncio.wait_for(reader.readexactly(11), 10) == b"still there"


@LOOPS
def test_new_connections_see_the_new_one_and_old_ones_go_on(files, run):
    now, first, second = files

    async def check():
        context = served(now)
        async with Echo(context) as server:
            before = await server.connect(trusting(first))
            assert await echoes(*before)
            shutil.copy(second, now)
            assert await server.serial() == serial_of(first)
            context.renew()
            assert await server.serial() == serial_of(second)
            assert await echoes(*before)
            before[1].close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await server.connect(trusting(first))

    run(check())


@pytest.mark.parametrize("left", [b"-----BEGIN CERT", b"-----BEGIN PRIVATE", b""])
def test_a_file_without_certificate_or_key_is_told_so(tmp_path, left):
    path = make_certificate(tmp_path / "one.pem")
    key, begin, certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    path.write_bytes(b"".join(part for part in (key, begin + certificate) if left and left in part))
    with pytest.raises(
        ConfigError, match=r"one\.pem: that is not a certificate and its private key"
    ):
        served(path)


@LOOPS
def test_a_key_of_another_kind_takes_the_place_of_the_old_one_for_everybody(files, tmp_path, run):
    """OpenSSL would go on showing the old certificate to clients that want one of that kind."""
    now, _, _ = files

    def make():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(now)
        return context

    old_kind_only = trusting(verify=False)
    old_kind_only.maximum_version = ssl.TLSVersion.TLSv1_2
    old_kind_only.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")

    async def check():
        context = Renewable("it", make, now)
        async with Echo(context) as server:
            (await server.connect(old_kind_only))[1].close()
            shutil.copy(make_certificate(tmp_path / "rsa.pem", kind="rsa"), now)
            context.renew()
            assert await server.serial() == serial_of(now)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await server.connect(old_kind_only)

    run(check())


def break_with_nonsense(now, second):
    now.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")


def break_by_absence(now, second):
    now.unlink()


def break_with_the_key_of_another(now, second):
    key, _, _ = second.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    certificate = now.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    now.write_bytes(key + certificate[1] + certificate[2])


def break_with_a_password(now, second):
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"unknown"),
    )
    now.write_bytes(key + now.read_bytes()[now.read_bytes().index(b"-----BEGIN CERTIFICATE") :])


@pytest.mark.parametrize(
    "damage",
    [break_with_nonsense, break_by_absence, break_with_the_key_of_another, break_with_a_password],
)
async def test_what_is_broken_changes_nothing(files, damage):
    now, first, second = files
    context = served(now)
    async with Echo(context) as server:
        damage(now, second)
        with pytest.raises(ConfigError, match=str(now)):
            context.renew()
        assert await server.serial() == serial_of(first)
        with pytest.raises(ConfigError):
            served(now)
        shutil.copy(second, now)
        context.renew()
        assert await server.serial() == serial_of(second)


@LOOPS
def test_whoever_connects_trusts_what_was_read_last(files, tmp_path, run):
    now, first, second = files
    shutil.copy(second, now)
    trusted = shutil.copy(first, tmp_path / "trusted.pem")
    context = Renewable("it", lambda: client_context(trusted))

    async def check():
        async with Echo(served(now)) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await server.connect(context)
            shutil.copy(second, trusted)
            context.renew()
            reader, writer = await server.connect(context)
            assert await echoes(reader, writer)
            writer.close()
            trusted.write_text("nonsense")
            with pytest.raises(ConfigError, match=r"trusted\.pem"):
                context.renew()
            (await server.connect(context))[1].close()

    run(check())


async def test_each_is_read_by_itself(files, tmp_path, caplog):
    caplog.set_level(logging.INFO, "objectio.tls")
    now, first, second = files
    other = shutil.copy(first, tmp_path / "other.pem")
    certificates = Certificates()
    broken = certificates.add(Renewable("broken", lambda: server_context(other, other), other))
    whole = certificates.add(Renewable("whole", lambda: server_context(now, now), now))
    assert certificates.add(None) is None
    other.write_text("nonsense")
    shutil.copy(second, now)
    assert not await certificates.renew()
    async with Echo(broken) as left, Echo(whole) as right:
        assert (await left.serial(), await right.serial()) == (serial_of(first), serial_of(second))
    assert "broken stays as it was: TLS from" in caplog.text
    assert f"whole: read anew, serial {serial_of(second):x}, valid until" in caplog.text
    shutil.copy(second, other)
    assert await certificates.renew()


async def test_it_is_shown_until_when_each_is_valid(tmp_path):
    shown = {}

    class Metrics(NullMetrics):
        def gauge_function(self, name, help, read, **labels):
            assert name == "objectio_tls_certificate_expiry_timestamp_seconds"
            shown[labels["listener"]] = read

    paths = [make_certificate(tmp_path / f"{days}.pem", days=days) for days in (1, 10, 20)]
    certificates = Certificates()
    certificates.show(Metrics())
    for name, path in zip(("gateway", "cluster"), paths, strict=False):
        make = partial(server_context, path, path)
        certificates.add(Renewable(f"{name}.tls_cert_file", make, path))
    certificates.add(Renewable("cluster.tls_ca_file", partial(client_context, paths[2])))
    assert set(shown) == {"gateway", "cluster"}

    def days_left():
        return {name: round((read() - time.time()) / 86400) for name, read in shown.items()}

    assert days_left() == {"gateway": 1, "cluster": 10}
    shutil.copy(paths[2], paths[0])
    paths[1].write_text("nonsense")
    assert days_left() == {"gateway": 1, "cluster": 10}
    assert not await certificates.renew()
    assert days_left() == {"gateway": 20, "cluster": 10}, "what is served, not what lies there"


@pytest.mark.parametrize(("days", "warned"), [(-1, True), (1, False)])
def test_a_certificate_that_has_run_out_is_told(tmp_path, caplog, days, warned):
    path = make_certificate(tmp_path / "one.pem", days=days)
    served(path)
    assert ("is valid from" in caplog.text) == warned
