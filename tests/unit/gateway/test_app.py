"""The gateway application: mounts, reserved paths, errors, limits, counting, logging."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from objectio.errors import DeviceFailed, NotFound
from objectio.gateway.app import GatewayApp
from objectio.gateway.counting import OPERATIONS_MAX, FrontEndCounters
from objectio.gateway.gate import Gate
from objectio.gateway.health import Health
from objectio.iam.credentials import StaticCredentials


class CountingMetrics:
    """Keeps what was counted, by (name, labels)."""

    def __init__(self):
        self.values = {}
        self.functions = {}

    def counter(self, name, help, **labels):
        return self._instrument(name, labels)

    gauge = counter

    def histogram(self, name, help, buckets=(), **labels):
        return self._instrument(name, labels)

    def gauge_function(self, name, help, read, **labels):
        self.functions[name] = read

    def _instrument(self, name, labels):
        key = (name, *sorted(labels.items()))
        values = self.values.setdefault(key, [])

        class Instrument:
            def inc(self, amount=1):
                values.append(amount)

            def observe(self, value):
                values.append(value)

        return Instrument()


class TextExporter:
    metrics = None

    def render(self, accept=""):
        return "text/plain; version=0.0.4", f"accepted {accept}".encode()


async def test_a_request_passes(client, front_end):
    answer = await client.call()
    assert (answer.status, answer.body) == (200, b"hello")
    (request,) = front_end.handled
    assert request.identity.is_root
    assert request.access.action == "s3:GetObject"
    assert len(request.request_id) == 16
    assert set(request.request_id) <= set("0123456789ABCDEF")
    await client.call()
    assert front_end.handled[1].request_id != request.request_id


async def test_mounts_are_found_by_whole_segments_of_the_raw_path(world):
    s3, catalog, admin = (
        world.EchoFrontEnd("/"),
        world.EchoFrontEnd("/iceberg/v1"),
        world.EchoFrontEnd("/iceberg/v1/admin/"),
    )
    front_ends = {"s3": s3, "iceberg": catalog, "admin": admin}
    client = world.Client(GatewayApp(front_ends, Gate(world.store)))
    for path, expected in (
        (b"/", s3),
        (b"/iceberg", s3),
        (b"/iceberg/v1", catalog),
        (b"/iceberg/v1/", catalog),
        (b"/iceberg/v1/config", catalog),
        (b"/iceberg/v1x", s3),
        (b"/%69ceberg/v1/config", s3),
        (b"/iceberg/v1/admin", admin),
        (b"/iceberg/v1/admin/x", admin),
        (b"//iceberg/v1", s3),
    ):
        assert (await client.call(path=path)).status == 200
        assert expected.handled.pop().access.resource == path.decode()
        assert not s3.handled + catalog.handled + admin.handled
    with pytest.raises(ValueError, match="two front ends"):
        GatewayApp({"a": s3, "b": world.EchoFrontEnd("/")}, Gate(world.store))


async def test_nothing_is_mounted_there(world):
    client = world.Client(GatewayApp({"x": world.EchoFrontEnd("/x")}, Gate(world.store)))
    assert (await client.call(path=b"/y")).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_health(make_client, method):
    report = {"ok": True}
    client = make_client(health=Health(lambda: report))
    answer = await client.call(method, b"/health", by=None)
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})
    report["ok"] = False
    assert (await client.call(method, b"/health", by=None)).status == 503


async def test_reserved_paths_take_nothing_from_s3(make_client, front_end):
    client = make_client(exporter=TextExporter())
    reserved = (b"/health", b"/health/live", b"/health/ready", b"/health/cluster", b"/metrics")
    for path in reserved:
        assert (await client.call(path=path, by=None)).status != 403
        assert (await client.call(path=path)).headers[b"x-caller"] == b"root"
        assert (await client.call("PUT", path=path)).headers[b"x-caller"] == b"root"
        for settings in (
            {"path": path + b"/key"},
            {"path": path + b"/"},
            {"path": path, "query": b"list-type=2"},
            {"path": path, "method": "PUT"},
        ):
            assert (await client.call(by=None, **settings)).status == 403
    assert len(front_end.handled) == 2 * len(reserved)


async def test_metrics_only_for_loopback_unless_public(make_client):
    client = make_client(exporter=TextExporter())
    far = {"client": ("192.0.2.1", 1)}
    host = [(b"host", b"h"), (b"accept", b"text/html")]
    answer = await client.send("GET", b"/metrics", b"", host, [b""])
    assert (answer.status, answer.body) == (200, b"accepted text/html")
    assert (await client.send("GET", b"/metrics", b"", host, [b""], **far)).status == 403
    for name in (b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip"):
        passed_on = [*host, (name, b"127.0.0.1")]  # by a proxy here, whoever asked it
        assert (await client.send("GET", b"/metrics", b"", passed_on, [b""])).status == 403
    public = make_client(exporter=TextExporter(), metrics_public=True)
    assert (await public.send("GET", b"/metrics", b"", host, [b""], **far)).status == 200
    without = make_client()
    assert (await without.send("GET", b"/metrics", b"", host, [b""])).status == 403


async def test_errors_are_rendered_by_the_front_end(client, front_end, caplog):
    async def missing(scope, receive, send):
        raise NotFound("no such key", reason="NoSuchKey")

    front_end.responses[b"/missing"] = missing
    answer = await client.call(path=b"/missing")
    assert (answer.status, answer.reason) == (404, "NoSuchKey")
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
    assert front_end.handled[0].request_id.encode() in answer.body
    assert not [record for record in caplog.records if record.levelname != "INFO"]


async def test_internal_exceptions_are_logged_and_not_told(client, front_end, caplog):
    async def broken(scope, receive, send):
        raise KeyError("what only we should know")

    front_end.responses[b"/broken"] = broken
    answer = await client.call(path=b"/broken")
    assert (answer.status, answer.reason) == (500, "InternalError")
    assert b"only we" not in answer.body
    assert "what only we should know" in caplog.text
    assert "Traceback" in caplog.text
    assert front_end.handled[0].request_id in caplog.text


async def test_server_side_errors_are_logged(client, front_end, caplog):
    async def failing(scope, receive, send):
        raise DeviceFailed("osd 3 is gone", reason="InternalError")

    front_end.responses[b"/failing"] = failing
    assert (await client.call(path=b"/failing")).status == 500
    assert "osd 3 is gone" in caplog.text


async def test_a_front_end_that_cannot_render_or_classify(client, front_end, caplog):
    def broken(*args):
        raise ZeroDivisionError

    front_end_error, front_end.classify = front_end.error, broken
    rebuilt = type(client)(GatewayApp({"s3": front_end}, Gate(_nobody())))
    assert (await rebuilt.call()).status == 500
    front_end.error = broken
    rebuilt = type(client)(GatewayApp({"s3": front_end}, Gate(_nobody())))
    answer = await rebuilt.call()
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    front_end.error = front_end_error


def _nobody():
    return StaticCredentials([])


async def test_a_response_that_never_ends_is_not_passed_off_as_whole(client, front_end, caplog):
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def silent(scope, receive, send):
        return

    async def raising(scope, receive, send):
        await half(scope, receive, send)
        raise NotFound("too late")

    front_end.responses.update({b"/half": half, b"/silent": silent, b"/raising": raising})
    with pytest.raises(RuntimeError):  # upon which a server cuts the connection
        await client.call(path=b"/half")
    with pytest.raises(NotFound):
        await client.call(path=b"/raising")
    assert (await client.call(path=b"/silent")).status == 500


async def test_small_bodies_are_verified_before_the_handler(client, front_end, world):
    answer = await client.call("POST", body=b"<xml/>")
    assert answer.reason == "XAmzContentSHA256Mismatch"  # signed as empty
    assert front_end.handled == []
    too_long = bytes(world.body_bytes_max + 1)
    answer = await client.call("POST", body=too_long, content_sha256=b"UNSIGNED-PAYLOAD")
    assert answer.reason == "MaxMessageLengthExceeded"
    answer = await client.call("GET", headers=[(b"content-length", b"1")], body=b"x")
    assert answer.reason == "MaxMessageLengthExceeded"
    assert front_end.handled == []
    answer = await client.call("POST", body=b"<xml/>", content_sha256=b"UNSIGNED-PAYLOAD")
    assert (answer.status, answer.body) == (200, b"<xml/>")


async def test_handlers_get_the_verified_body_by_asgi_receive_too(client, front_end):
    async def plain_asgi(scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    async def impatient(scope, receive, send):
        await receive()

    front_end.responses.update({b"/asgi": plain_asgi, b"/object": impatient})
    answer = await client.call("POST", b"/asgi", body=b"x", content_sha256=b"UNSIGNED-PAYLOAD")
    assert answer.body == b"x"
    assert (await client.call("GET", b"/asgi")).body == b""
    answer = await client.call("PUT", b"/object", body=b"x", content_sha256=b"UNSIGNED-PAYLOAD")
    assert answer.status == 500


async def test_an_early_answer_to_a_large_body_closes_and_lingers(make_client, world):
    client = make_client()
    unsigned = {"content_sha256": b"UNSIGNED-PAYLOAD", "by": world.bob}
    pieces = [bytes(1 << 16)] * 40
    length = (b"content-length", b"%d" % (40 << 16))
    answer = await client.call("PUT", headers=[length], pieces=pieces, **unsigned)
    assert answer.status == 403
    assert answer.headers[b"connection"] == b"close"
    # The whole answer goes out first, and the end of the response comes after the draining.
    assert [len(m["body"]) > 0 for m in answer.sent[1:]] == [True, False]
    assert [m["more_body"] for m in answer.sent[1:]] == [True, False]
    small = await client.call("PUT", body=bytes(1 << 16), **unsigned)
    assert small.status == 403
    assert b"connection" not in small.headers
    waiting = await client.call(
        "PUT", headers=[(b"expect", b"100-continue")], body=bytes(10), **unsigned
    )
    assert waiting.headers[b"connection"] == b"close"
    unknown = await client.call("PUT", headers=[(b"transfer-encoding", b"chunked")], **unsigned)
    assert unknown.headers[b"connection"] == b"close"


async def test_too_many_at_once(make_client, front_end):
    client = make_client(requests_max=2)
    gate, entered = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(scope, receive, send):
        entered.release()
        await gate.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    front_end.responses[b"/wait"] = wait
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.call(path=b"/wait")) for _ in range(2)]
        for _ in tasks:
            await entered.acquire()
        answer = await client.call()
        assert (answer.status, answer.reason) == (503, "SlowDown")
        gate.set()
    assert [task.result().status for task in tasks] == [204, 204]
    assert (await client.call()).status == 200


async def test_counting(make_client, world):
    metrics = CountingMetrics()
    client = make_client(metrics=metrics)
    await client.call()
    await client.call()
    await client.call(by=world.bob)
    await client.call("TRACE")
    total = {
        tuple(dict(key[1:]).values()): sum(values)
        for key, values in metrics.values.items()
        if key[0] == "objectio_s3_requests_total"
    }
    assert total == {("GetObject", "200"): 2, ("GetObject", "403"): 1, ("unknown", "501"): 1}
    durations = metrics.values[("objectio_s3_request_duration_seconds", ("operation", "GetObject"))]
    assert len(durations) == 3
    assert all(0 < seconds < 5 for seconds in durations)
    assert metrics.functions["objectio_gateway_requests_in_flight"]() == 0


def test_the_label_set_is_bounded():
    metrics = CountingMetrics()
    counters = FrontEndCounters("s3", metrics)
    for number in range(3 * OPERATIONS_MAX):
        counters.count(f"s3:Made{number}Up", 200, 0.1)
    names = {dict(key[1:])["operation"] for key in metrics.values}
    assert len(names) == OPERATIONS_MAX + 1
    assert "other" in names


def test_bytes_are_counted():
    metrics = CountingMetrics()
    counters = FrontEndCounters("s3", metrics)
    counters.count("s3:GetObject", 200, 0.1, 0, 5)
    counters.count("s3:PutObject", 200, 0.1, 7, 0)
    counters.count("s3:PutObject", 200, 0.1, 3, 0)
    moved = {
        key: values for key, values in metrics.values.items() if key[0].endswith("bytes_total")
    }
    assert {(key[0].split("_")[2], key[1][1]): sum(moved[key]) for key in moved} == {
        ("received", "GetObject"): 0,
        ("sent", "GetObject"): 5,
        ("received", "PutObject"): 10,
        ("sent", "PutObject"): 0,
    }


async def test_one_log_line_per_request(client, world, caplog):
    caplog.set_level(logging.INFO, "objectio.gateway.request")
    await client.call("PUT", b"/b/a%20key", body=b"xyz", content_sha256=b"UNSIGNED-PAYLOAD")
    await client.call(by=world.bob, query=b"secret-looking=1")
    first, second = (record.getMessage() for record in caplog.records)
    for text in (
        "method=PUT path=/b/a%20key status=200 action=s3:PutObject identity=root",
        "access_key=AKIAROOT bytes_in=3",
        "remote=127.0.0.1",
    ):
        assert text in first
    assert "status=403 action=s3:GetObject identity=bob" in second
    assert "secret-looking" not in second
    caplog.clear()
    caplog.set_level(logging.WARNING, "objectio.gateway.request")
    await client.call()
    assert not caplog.records


async def test_duplicate_headers_that_must_be_single(client, front_end):
    answer = await client.call(headers=[(b"x-amz-copy-source", b"a"), (b"x-amz-copy-source", b"b")])
    assert (answer.status, answer.reason) == (403, "InvalidRequest")
    assert front_end.handled == []


async def test_lifespan_and_websocket(client):
    for events, kind, expected in (
        (
            ["lifespan.startup", "lifespan.shutdown"],
            "lifespan",
            ["lifespan.startup.complete", "lifespan.shutdown.complete"],
        ),
        (["websocket.connect"], "websocket", ["websocket.close"]),
    ):
        incoming, sent = iter(events), []

        async def receive(incoming=incoming):
            return {"type": next(incoming)}

        async def send(message, sent=sent):
            sent.append(message["type"])

        await client.app({"type": kind}, receive, send)
        assert sent == expected


async def test_bodies_that_are_malformed_never_reach_the_handler(client, front_end):
    answer = await client.call("PUT", headers=[(b"content-length", b"1x")])
    assert answer.reason == "InvalidArgument"
    assert front_end.handled == []
