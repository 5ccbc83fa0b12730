"""The sink `webhook` against a real HTTP server."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading

import pytest

from objectio.abc.sinks import EventMessage
from objectio.errors import ConfigError, InvalidRequest, Unavailable
from objectio.sinks.webhook import WebhookConfig, WebhookSink, WebhookTarget
from objectio.testing.receiver import receiving

ARN = "arn:aws:sns:us-east-1:000000000000:t"


def message(number=1):
    record = {"s3": {"object": {"key": f"k{number}"}}, "eventName": "ObjectCreated:Put"}
    return EventMessage(str(number), b"b/k", json.dumps(record).encode())


@pytest.fixture
def receiver():
    with receiving() as each:
        yield each


@pytest.fixture
async def make_sink(receiver):
    made = []

    def make(**more):
        target = WebhookTarget(arn=ARN, **{"url": receiver.url, **more})
        made.append(WebhookSink(WebhookConfig(target=(target,))))
        return made[-1]

    yield make
    for sink in made:
        await sink.close()


async def test_what_is_sent(receiver, make_sink):
    sink = make_sink(events_per_request_max=2)
    assert list(sink.targets) == [ARN]
    assert sink.messages_max(ARN) == 2
    await sink.send(ARN, [message(1), message(2)])
    headers, body = receiver.requests[0]
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers
    assert json.loads(body)["Records"] == receiver.records
    assert receiver.keys() == ["k1", "k2"]


async def test_a_connection_is_used_again(receiver, make_sink):
    sink = make_sink()
    for number in range(5):
        await sink.send(ARN, [message(number)])
    assert receiver.connections == 1
    assert len(receiver.records) == 5


async def test_a_connection_that_was_closed_is_made_anew(receiver, make_sink):
    sink = make_sink()
    await sink.send(ARN, [message(1)])
    receiver.answers = [0]
    await sink.send(ARN, [message(2)])
    assert receiver.keys() == ["k1", "k2"]
    assert receiver.connections == 2


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 503])
async def test_who_cannot_take_it_now_is_asked_again(receiver, make_sink, status):
    sink = make_sink()
    receiver.answers = [status]
    with pytest.raises(Unavailable, match=str(status)):
        await sink.send(ARN, [message()])
    await sink.send(ARN, [message()])
    assert receiver.keys() == ["k1"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_who_does_not_want_it(receiver, make_sink, status):
    receiver.answers = [status]
    with pytest.raises(InvalidRequest) as caught:
        await make_sink().send(ARN, [message()])
    assert caught.value.fields["reason"] == "refused"


async def test_nobody_there(make_sink):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sink = make_sink(url=f"http://127.0.0.1:{taken.getsockname()[1]}/")
        with pytest.raises(Unavailable):
            await sink.send(ARN, [message()])


async def test_who_does_not_answer_is_not_waited_for(make_sink):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Unavailable, match="timed out"):
            await make_sink(url=url, timeout_seconds=0.1).send(ARN, [message()])


async def test_closing_ends_what_is_being_sent(make_sink):
    import asyncio

    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = make_sink(url=f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_seconds=60)
        sending = asyncio.ensure_future(sink.send(ARN, [message()]))
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            await asyncio.to_thread(connection.recv, 1)
            async with asyncio.timeout(10):
                await sink.close()
            with pytest.raises(Unavailable):
                await sending
    assert not [each for each in threading.enumerate() if each.name.startswith("webhook")]


async def test_bearer_and_signature(receiver, make_sink, tmp_path):
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text("tok\n")
    secret.write_text("s3cret\n")
    sink = make_sink(bearer_token_file=str(token), hmac_secret_file=str(secret))
    await sink.send(ARN, [message()])
    headers, body = receiver.requests[-1]
    assert headers["authorization"] == "Bearer tok"
    fields = dict(each.split("=") for each in headers["x-objectio-signature"].split(","))
    expected = hmac.new(b"s3cret", f"{fields['t']}.".encode() + body, hashlib.sha256)
    assert fields["v1"] == expected.hexdigest()
    token.write_text("another")
    await sink.send(ARN, [message()])
    assert receiver.requests[-1][0]["authorization"] == "Bearer another"


def test_what_cannot_be_configured(tmp_path):
    with pytest.raises(ValueError, match="absolute"):
        WebhookTarget(arn=ARN, url="http://x/", ca_file="relative")
    one = WebhookTarget(arn=ARN, url="http://x/")
    with pytest.raises(ValueError, match="two of the targets"):
        WebhookConfig(target=(one, one))
    lost = WebhookTarget(arn=ARN, url="http://x/", hmac_secret_file=str(tmp_path / "lost"))
    with pytest.raises(ConfigError, match="lost"):
        WebhookSink(WebhookConfig(target=(lost,)))
