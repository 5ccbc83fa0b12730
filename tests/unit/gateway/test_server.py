"""The server on real sockets: life-cycle, hostile clients, and boto3."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess

import boto3
import pytest
import uvloop
from botocore.config import Config
from botocore.exceptions import ClientError

from objectio.gateway.app import GatewayApp
from objectio.gateway.arrivals import refuse
from objectio.gateway.exchange import ClientDisconnected
from objectio.gateway.gate import Gate
from objectio.gateway.protocol import Patience
from objectio.gateway.server import HttpServer, listen
from objectio.iam import signer

DEADLINE_SECONDS = 10


@pytest.fixture
def app(front_end, world):
    return GatewayApp({"s3": front_end}, Gate(world.store))


async def eventually(condition):
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def request(server, by, method="GET", path=b"/b/k", headers=(), body=b"", query=b"", **sign):
    """The bytes of one request, signed as `by` unless that is None."""
    pairs = [(b"host", b"127.0.0.1:%d" % server.port), *headers]
    if body and not any(name == b"content-length" for name, _ in pairs):
        pairs.append((b"content-length", b"%d" % len(body)))
    if by is not None:
        pairs = signer.sign_request(by, method, path, query, pairs, **sign)
    target = path + (b"?" + query if query else b"")
    lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target, lines, body)


async def read_response(reader):
    """(status, headers, body) of a response with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(status.split()[1]), headers, body


async def exchange(server, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(data)
            return await read_response(reader)
    finally:
        writer.close()


async def test_start_answers_and_stops(app, serve, world):
    async with serve(app) as server:
        assert server.port > 0
        assert server.endpoint == f"http://127.0.0.1:{server.port}"
        status, headers, body = await exchange(server, request(server, world.root))
        assert (status, body) == (200, b"hello")
        assert "date" in headers
        assert "server" not in headers
        taken = HttpServer(app, port=server.port)
        with pytest.raises(OSError, match="in use"):
            await taken.start()
        await taken.stop()
    with pytest.raises(ConnectionRefusedError):
        await exchange(server, b"")
    await server.stop()


def test_who_has_bound_a_port_may_still_be_too_late():
    """Two may, as long as neither listens. On the loop that nodes run on."""

    async def check():
        address = ("127.0.0.1", 0)
        first = listen(*address)
        second = listen(*first.getsockname())
        first.listen()
        with first, pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: .* in use"):
            await HttpServer(refuse, listener=second).start()
        assert second.fileno() == -1

    uvloop.run(check())


async def test_keep_alive_and_pipelining(app, serve, world):
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root) * 3)
        for _ in range(3):
            assert (await read_response(reader))[2] == b"hello"
        writer.write(request(server, world.bob))
        assert (await read_response(reader))[0] == 403
        writer.write(request(server, world.root))
        assert (await read_response(reader))[0] == 200
        writer.close()


@pytest.mark.parametrize(
    "path",
    [b"/", b"//b//k", b"/b/../k", b"/b/./k", b"/b/a%2Fb", b"/b/%E2%82%AC", b"/b/a+b", b"/b/%00"],
)
async def test_odd_paths_arrive_as_they_were_sent(app, serve, world, front_end, path):
    async with serve(app) as server:
        status, _, _ = await exchange(server, request(server, world.root, path=path, query=b"a&b="))
        assert status == 200
        assert front_end.handled[0].access.resource == path.decode()


async def test_stop_lets_requests_finish_and_closes_idle_connections(app, serve, world, front_end):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        entered.set()
        await leave.wait()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})

    front_end.responses[b"/slow"] = slow
    async with serve(app) as server:
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", server.port)
        idle_writer.write(request(server, world.root))
        await read_response(idle_reader)
        answer = asyncio.create_task(exchange(server, request(server, world.root, path=b"/slow")))
        await entered.wait()
        stopping = asyncio.create_task(server.stop(DEADLINE_SECONDS))
        assert await idle_reader.read() == b""
        assert not stopping.done()
        leave.set()
        assert (await answer)[2] == b"done"
        await stopping
        idle_writer.close()


async def test_stop_cuts_what_does_not_finish(app, serve, world, front_end):
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(scope, receive, send):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    front_end.responses[b"/endless"] = endless
    async with serve(app) as server:
        answer = asyncio.create_task(
            exchange(server, request(server, world.root, path=b"/endless"))
        )
        await entered.wait()
        await server.stop(0.3)
        assert cancelled.is_set()
        results = await asyncio.gather(answer, return_exceptions=True)
        assert isinstance(results[0], (OSError, EOFError)) or results[0][0] == 500


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_who_is_cut_at_the_end_is_no_failure(app, serve, world, front_end, method, caplog):
    """The client takes nothing of its response, or sends no more of its request."""
    front_end.responses[b"/endless"] = stream_forever(asyncio.Event())
    async with serve(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        body = bytes(100_000) if method == "PUT" else b""
        data = request(server, world.root, method, path=b"/endless", body=body)
        writer.write(data[:-1] if body else data)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not server._server.server_state.tasks:
                await asyncio.sleep(0.01)
            await server.stop(0.3)
        writer.close()
    assert "cutting 1 connections" in caplog.text
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


async def test_a_refused_upload_hears_why(app, serve, world, front_end):
    """The client sends 8 MiB, which are more than fit the socket buffers, before it reads."""
    async with serve(app) as server:
        body = bytes(8 << 20)
        data = request(server, world.bob, "PUT", body=body, content_sha256=b"UNSIGNED-PAYLOAD")
        status, headers, text = await exchange(server, data)
        assert status == 403
        assert headers["connection"] == "close"
        assert b"AccessDenied" in text
        assert front_end.handled == []


async def test_a_small_refused_upload_keeps_its_connection(app, serve, world):
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        refused = request(
            server, world.bob, "PUT", body=bytes(1 << 19), content_sha256=b"UNSIGNED-PAYLOAD"
        )
        writer.write(refused + request(server, world.root))
        assert (await read_response(reader))[0] == 403
        assert (await read_response(reader))[2] == b"hello"
        writer.close()


async def test_expect_100_continue(app, serve, world):
    expect = [(b"expect", b"100-continue"), (b"content-length", b"5")]
    unsigned = {"content_sha256": b"UNSIGNED-PAYLOAD"}
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root, "PUT", headers=expect, **unsigned))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        status, headers, body = await read_response(reader)
        assert (status, "connection" in headers) == (200, False)
        assert hashlib.md5(b"hello").hexdigest().encode() in body
        writer.write(request(server, world.bob, "PUT", headers=expect, **unsigned))
        status, headers, _ = await read_response(reader)
        assert (status, headers["connection"]) == (403, "close")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http://localhost HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
    ],
)
async def test_malformed_http(app, serve, front_end, data, caplog):
    async with serve(app) as server:
        assert (await exchange(server, data))[0] == 400
        assert front_end.handled == []
        assert "Fatal" not in caplog.text


async def test_an_endless_head_is_refused(app, serve):
    async with serve(app) as server:
        for filler in (b"x" * 200_000, b"x: y\r\n" * 40_000):
            data = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + filler
            assert (await exchange(server, data))[0] == 431


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"\r\n"])
async def test_a_slow_head_is_refused(app, serve, sent):
    async with serve(app, patience=Patience(head_seconds_max=0.1)) as server:
        assert (await exchange(server, sent))[0] == 408


async def test_a_slow_second_head_is_refused_too(app, serve, world):
    async with serve(app, patience=Patience(head_seconds_max=0.1)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root) + b"GET / HT")
        assert (await read_response(reader))[0] == 200
        assert (await read_response(reader))[0] == 408
        writer.close()


@pytest.mark.parametrize("drip", [b"", b"\r\n"])
async def test_idle_connections_are_closed(app, serve, world, drip):
    async with serve(app, keep_alive_seconds=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root))
        await read_response(reader)
        writer.write(drip)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.read() == b""
        writer.close()


def stream_forever(stopped):
    async def app(scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                message = {"type": "http.response.body", "body": bytes(1 << 16), "more_body": True}
                await send(message)
                await asyncio.sleep(0)
        except ClientDisconnected:
            stopped.set()
            raise

    return app


async def test_a_client_that_goes_away_ends_its_response(app, serve, world, front_end):
    stopped = asyncio.Event()
    front_end.responses[b"/endless"] = stream_forever(stopped)
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root, path=b"/endless"))
        await reader.readexactly(100_000)
        writer.transport.abort()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopped.wait()
        await eventually(lambda: app.in_flight == 0)


async def test_a_client_that_does_not_read_is_cut(app, serve, world, front_end):
    stopped = asyncio.Event()
    front_end.responses[b"/endless"] = stream_forever(stopped)
    async with serve(app, patience=Patience(write_seconds_max=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(request(server, world.root, path=b"/endless"))
        await reader.readexactly(100)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopped.wait()
        writer.close()


async def test_a_truncated_response_cannot_pass_for_a_whole_one(app, serve, world, front_end):
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        raise OSError("a disk broke")

    front_end.responses[b"/half"] = half
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root, path=b"/half"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()


async def test_a_front_end_cannot_split_a_response(app, serve, world, front_end):
    async def injecting(scope, receive, send):
        headers = [(b"x-user", b"a\r\nset-cookie: b=c"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    front_end.responses[b"/inject"] = injecting
    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, world.root, path=b"/inject"))
        try:
            seen = await reader.read()
        except ConnectionError:
            seen = b""
        assert b"set-cookie" not in seen
        writer.close()


def boto(world, server):
    config = Config(
        signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0}
    )
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=world.root.access_key,
        aws_secret_access_key=world.root.secret_key,
        config=config,
        verify=False,
    )


async def test_boto3_over_http(app, serve, world, front_end):
    async with serve(app) as server:
        client = boto(world, server)
        try:
            await asyncio.to_thread(
                client.put_object, Bucket="b", Key="a b/ü+~", Body=b"x" * 70_000
            )
            found = await asyncio.to_thread(client.get_object, Bucket="b", Key="a b/ü+~")
            assert found["Body"].read() == b"hello"
            link = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
            path, _, query = link.partition(f":{server.port}")[2].partition("?")
            head = b"GET %b?%b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"
            data = head % (path.encode(), query.encode(), server.port)
            assert (await exchange(server, data))[0] == 200
        finally:
            client.close()
        bob = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=world.bob.access_key,
            aws_secret_access_key=world.bob.secret_key,
        )
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(bob.get_object, Bucket="b", Key="k")
        bob.close()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    put, get, *_ = front_end.handled
    assert put.access.resource == get.access.resource == "/b/a%20b/%C3%BC%2B~"


@pytest.fixture
def tls(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, to make a certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_boto3_over_tls_sends_unsigned_trailers(app, serve, world, front_end, tls, size):
    data = bytes(size)
    async with serve(app, tls=tls) as server:
        client = boto(world, server)
        try:
            await asyncio.to_thread(client.put_object, Bucket="b", Key="k", Body=data)
        finally:
            client.close()
    (put,) = front_end.handled
    assert put.body.size == size
    assert put.body.declared_trailers == ("x-amz-checksum-crc32",)
    assert put.body.finish().etag == hashlib.md5(data).hexdigest()


# Where connections come from.


async def test_one_app_is_served_at_several_addresses(app, serve, world, tmp_path):
    path = tmp_path / "http.sock"
    async with serve(app, also=["127.0.0.1:0", f"unix:{path}"]) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        port = int(server.also[0].rpartition(":")[2])
        assert port not in (0, server.port)
        for connect in (
            asyncio.open_connection("127.0.0.1", server.port),
            asyncio.open_connection("127.0.0.1", port),
            asyncio.open_unix_connection(path),
        ):
            reader, writer = await connect
            writer.write(request(server, world.root))
            assert (await read_response(reader))[0] == 200
            writer.close()
    assert not path.exists()


async def test_what_a_killed_process_left_is_replaced_and_nothing_else(app, tmp_path):
    path = tmp_path / "http.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = HttpServer(app, "", also=[f"unix:{path}"])
    await server.start()
    await server.stop()
    path.write_text("a file of somebody")
    with pytest.raises(OSError, match="cannot listen on unix:"):
        await HttpServer(app, "", also=[f"unix:{path}"]).start()
    assert path.read_text() == "a file of somebody"


async def test_several_servers_share_a_socket(app, world):
    """When one of them stops, the other goes on taking connections."""
    first = listen("127.0.0.1", 0)
    first.listen()
    second = socket.socket(fileno=os.dup(first.fileno()))
    servers = [HttpServer(app, listener=one) for one in (first, second)]
    for server in servers:
        await server.start()
    assert servers[0].port == servers[1].port
    for server in servers:
        for _ in range(5):
            assert (await exchange(server, request(server, world.root)))[0] == 200
        await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", servers[0].port)


async def test_connections_that_somebody_else_has_accepted(app, world):
    server = HttpServer(app, "")
    await server.start()
    loop = asyncio.get_running_loop()
    other = await loop.create_server(server.make_protocol, "127.0.0.1", 0)
    server.port = other.sockets[0].getsockname()[1]
    assert (await exchange(server, request(server, world.root)))[0] == 200
    other.close()
    await server.stop()
