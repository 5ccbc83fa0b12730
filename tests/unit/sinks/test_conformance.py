"""The sink `webhook` is one."""

from __future__ import annotations

import json

import pytest

from objectio.sinks.webhook import WebhookConfig, WebhookSink, WebhookTarget
from objectio.testing.receiver import receiving
from objectio.testing.sinks import SinkConformance

ARN = "arn:aws:sns:us-east-1:000000000000:t"


class TestWebhook(SinkConformance):
    @pytest.fixture(autouse=True)
    def receiver(self):
        with receiving() as self.there:
            yield

    @pytest.fixture
    async def sink(self, receiver):
        targets = [
            WebhookTarget(arn=f"{ARN}{most}", url=self.there.url, events_per_request_max=most)
            for most in (7, 1)
        ]
        return WebhookSink(WebhookConfig(target=tuple(targets)))

    def arrived(self):
        with self.there.lock:
            return [json.dumps(each).encode() for each in self.there.records]

    def refuse(self):
        self.there.answers = [400] * 100

    def vanish(self):
        self.there.answers = [0] * 100

    def recover(self):
        self.there.answers = []
