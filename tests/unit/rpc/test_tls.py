"""TLS sessions, to which proofs are bound, and the file of the secret."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from dataclasses import replace

import pytest

from objectio.errors import ConfigError, Unauthenticated, Unavailable
from objectio.rpc.auth import load_secret, make_secret

SECRET = bytes(range(100, 132))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def tls(request, certificate):
    """(server's, client's)"""
    cert, key = certificate
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(cert, key)
    far.maximum_version = request.param
    return far, ssl.create_default_context(cafile=str(cert))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_calls_over_tls(make_server, make_channel, tls, socket_dir, kind):
    server = make_server()
    server.add(1, lambda call: call.reply(b"", [bytes(call.payload)]))
    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{socket_dir}/s"
    where = await server.listen(address, tls[0])
    channel = make_channel(where, tls=tls[1], tls_name="far")
    await channel.connect()
    payload = os.urandom(3_000_000)
    into = memoryview(bytearray(len(payload)))
    assert bytes((await channel.call(1, b"", [payload], into=into)).payload) == payload
    await channel.close()


async def test_without_tls_nobody_speaks_to_a_server_that_has_it(make_server, make_channel, tls):
    server = make_server()
    channel = make_channel(await server.listen("127.0.0.1:0", tls[0]))
    with pytest.raises(Unavailable):
        await channel.connect(0.5)
    assert server._connections == set()


async def test_a_proof_cannot_be_relayed_through_another_tls_session(
    make_server, make_channel, tls, until
):
    """Somebody with a certificate that the client accepts sits in between, and passes on."""
    server = make_server()
    where = await server.listen("127.0.0.1:0", tls[0])
    port = int(where.rpartition(":")[2])
    pumps = []

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while raw := await reader.read(65536):
                writer.write(raw)
        writer.close()

    async def between(reader, writer):
        far = await asyncio.open_connection("127.0.0.1", port, ssl=tls[1], server_hostname="far")
        pumps.append(asyncio.create_task(pump(reader, far[1])))
        pumps.append(asyncio.create_task(pump(far[0], writer)))

    listener = await asyncio.start_server(between, "127.0.0.1", 0, ssl=tls[0])
    relayed = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    channel = make_channel(relayed, tls=tls[1], tls_name="far")
    with pytest.raises(Unauthenticated):
        await channel.connect()
    assert server.refused["proof"] >= 1
    await channel.close()
    listener.close()
    await asyncio.wait(pumps, timeout=5)
    direct = make_channel(where, tls=tls[1], tls_name="far")
    await direct.connect()
    await direct.close()


# The secret.


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "cluster.secret"
    old = os.umask(0)
    try:
        secret = make_secret(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(secret) == 32
    assert load_secret(path) == secret
    assert make_secret(tmp_path / "another") != secret
    with pytest.raises(FileExistsError):
        make_secret(path)
    assert load_secret(path) == secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "cluster.secret"
    make_secret(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_secret(path)


@pytest.mark.parametrize("text", ["", "xyz", "00" * 31, "00" * 33, "\udcff"])
def test_what_is_no_secret_is_refused(tmp_path, text):
    path = tmp_path / "cluster.secret"
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_secret(path)
    with pytest.raises(ConfigError):
        load_secret(tmp_path / "nothing")


def test_an_identity_shows_no_secret_and_has_names(identity):
    who = identity()
    assert SECRET.hex() not in repr(who)
    assert str(SECRET) not in repr(who)
    for changes in ({"secret": b"short"}, {"role": ""}, {"node": "a\nb"}):
        with pytest.raises(ConfigError):
            replace(who, **changes)
