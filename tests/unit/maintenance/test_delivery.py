"""Delivery of events: at least once, to a real HTTP receiver that fails at times."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.errors import ConfigError, Unavailable
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.maintenance.delivery import Delivery, DeliverySettings, targets_of
from objectio.meta import keys
from objectio.sinks.webhook import WebhookConfig, WebhookSink, WebhookTarget
from objectio.store.events import EventRecord, encode_event
from objectio.testing.receiver import receiving

ARN = "arn:aws:sns:us-east-1:000000000000:one"
OTHER = "arn:aws:sns:us-east-1:000000000000:other"
SETTINGS = DeliverySettings(
    age_seconds_max=3600, pause_seconds=0.01, pause_seconds_max=0.05, aside_seconds_max=0.1
)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def kv():
    store = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    yield store
    await store.close()


@pytest.fixture
def receiver():
    with receiving() as each:
        yield each


@pytest.fixture
async def deliver(kv):
    running = []

    async def start(*targets, settings=SETTINGS):
        sink = WebhookSink(WebhookConfig(target=tuple(WebhookTarget(**each) for each in targets)))
        delivery = Delivery(kv, {"webhook": sink}, settings)
        delivery.start()
        running.append(delivery)
        return delivery

    yield start
    for delivery in running:
        await delivery.stop()


async def put(kv, *names, target=ARN, time_ms=None):
    at = int(time.time() * 1000) if time_ms is None else time_ms
    writes = []
    for number, name in enumerate(names):
        event = EventRecord(
            target, "r", "ObjectCreated:Put", at, "b", "o", "", name.encode(), number, 1, "e"
        )
        writes.append((keys.event(target, at + number, os.urandom(8)), encode_event(event)))
    await kv.commit([], writes)


def left(kv):
    return len(kv.scan_prefix(keys.EVENTS))


async def test_what_waited_and_what_comes(kv, receiver, deliver):
    await put(kv, "a", "b")
    await deliver({"arn": ARN, "url": receiver.url})
    await until(lambda: left(kv) == 0)
    await put(kv, "c")
    await until(lambda: left(kv) == 0)
    assert receiver.keys() == ["a", "b", "c"]


async def test_many_in_one_request(kv, receiver, deliver):
    await put(kv, *(f"{number:03}" for number in range(100)))
    await deliver({"arn": ARN, "url": receiver.url, "events_per_request_max": 30})
    await until(lambda: left(kv) == 0)
    assert receiver.keys() == [f"{number:03}" for number in range(100)]
    assert len(receiver.requests) < 10


async def test_none_is_lost_whatever_fails(kv, receiver, deliver):
    """And one that was sent again has the same id."""
    chance = random.Random(7)
    receiver.answers = [chance.choice((0, 200, 200, 400, 429, 500)) for _ in range(60)]
    names = [f"{number:02}" for number in range(80)]
    await put(kv, *names)
    await deliver({"arn": ARN, "url": receiver.url, "events_per_request_max": 3})
    await until(lambda: left(kv) == 0)
    assert set(receiver.keys()) == set(names)
    ids = {each["responseElements"]["x-amz-id-2"] for each in receiver.records}
    assert len(ids) == len(names)


async def test_who_refuses_one_gets_the_others(kv, receiver, deliver):
    receiver.answers = [400]
    await put(kv, "bad", "good", "better")
    await deliver({"arn": ARN, "url": receiver.url})
    await until(lambda: left(kv) == 0)
    assert receiver.keys() == ["good", "better", "bad"]


async def test_a_target_that_is_down_does_not_hold_up_another(kv, receiver, deliver):
    with receiving() as broken:
        broken.answers = [500] * 1000
        await put(kv, *"abc", target=OTHER)
        await put(kv, *"def")
        await deliver(
            {"arn": OTHER, "url": broken.url},
            {"arn": ARN, "url": receiver.url},
        )
        await until(lambda: len(receiver.records) == 3 and left(kv) == 3)
        broken.answers = []
        await until(lambda: left(kv) == 0)
        assert broken.keys() == ["a", "b", "c"]


async def test_what_was_sent_before_a_failure_is_not_sent_again(kv, receiver, deliver):
    receiver.answers = [200, 200, 500]
    await put(kv, *"abcd")
    await deliver({"arn": ARN, "url": receiver.url})
    await until(lambda: left(kv) == 0)
    assert receiver.keys() == ["a", "b", "c", "d"]


async def test_a_process_that_dies_before_it_struck_it_out_sends_it_again(
    kv, receiver, deliver, monkeypatch
):
    """A commit that fails stands for a death in between."""
    await put(kv, "a")
    commit = kv.commit
    failures = [Unavailable("gone")]

    async def fails(checks, writes):
        if failures:
            raise failures.pop()
        await commit(checks, writes)

    monkeypatch.setattr(kv, "commit", fails)
    await deliver({"arn": ARN, "url": receiver.url})
    await until(lambda: left(kv) == 0)
    assert receiver.keys() == ["a", "a"]


async def test_what_is_too_old_is_given_up(kv, receiver, deliver):
    await put(kv, "old", time_ms=1_000)
    await put(kv, "older", target=OTHER, time_ms=1_000)
    await put(kv, "waits", target=OTHER)
    await put(kv, "new")
    await deliver({"arn": ARN, "url": receiver.url})
    await until(lambda: left(kv) == 1)
    await until(lambda: receiver.keys() == ["new"])
    assert kv.scan_prefix(keys.events(OTHER))


def test_two_sinks_for_one_target():
    one = WebhookSink(WebhookConfig(target=(WebhookTarget(arn=ARN, url="http://x/"),)))
    with pytest.raises(ConfigError, match="another sink"):
        targets_of({"a": one, "b": one})
