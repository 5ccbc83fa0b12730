"""Notification configurations."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from objectio_api_s3.configuration.notification import (
    EVENTS,
    parse_notification,
    show_notification,
)
from objectio_api_s3.errors import Refusal
from objectio_api_s3.parse import parse

from objectio.errors import OperationNotImplemented
from objectio.model.bucket import NotificationRule

ARN = "arn:aws:sns:us-east-1:000000000000:one"
FILTER = (
    "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>a/</Value></FilterRule>"
    "<FilterRule><Name>suffix</Name><Value>.jpg</Value></FilterRule></S3Key></Filter>"
)
CREATED = "<Event>s3:ObjectCreated:*</Event>"


def wrap(*inner):
    return f"<NotificationConfiguration>{''.join(inner)}</NotificationConfiguration>"


def topic(name="one", more=CREATED, form="Topic", arn=ARN):
    return f"<{form}Configuration><Id>{name}</Id><{form}>{arn}</{form}>{more}</{form}Configuration>"


def read(document):
    return parse_notification(parse(document.encode(), "NotificationConfiguration"))


@pytest.mark.parametrize("form", ["Topic", "Queue", "CloudFunction"])
def test_what_is_written_is_shown(form):
    document = wrap(
        topic(form=form, more=CREATED + "<Event>s3:ObjectRemoved:Delete</Event>" + FILTER)
    )
    found = read(document)
    assert found.rules == (
        NotificationRule(
            id="one",
            target=ARN,
            events=("s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"),
            prefix="a/",
            suffix=".jpg",
            form=form,
        ),
    )
    assert ET.canonicalize(wrap(show_notification(found))) == ET.canonicalize(document)


def test_events_are_those_of_s3():
    assert {"s3:ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload"} < EVENTS
    assert {"s3:ObjectRemoved:DeleteMarkerCreated", "s3:LifecycleExpiration:*"} < EVENTS
    assert {"s3:ObjectTagging:*", "s3:ObjectAcl:Put"} < EVENTS
    assert "s3:ObjectAcl:*" not in EVENTS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (wrap("<Other/>"), "MalformedXML"),
        (wrap(topic(more="")), "MalformedXML"),
        (wrap(topic(arn="")), "MalformedXML"),
        (wrap(topic(arn="somewhere")), "InvalidArgument"),
        (wrap(topic(more="<Event>s3:ObjectEaten:*</Event>")), "InvalidArgument"),
        (wrap(topic(name="a" * 256)), "InvalidArgument"),
        (wrap(topic(), topic(more="<Event>s3:ObjectRemoved:*</Event>")), "InvalidArgument"),
        (wrap(topic(), topic("two", "<Event>s3:ObjectCreated:Put</Event>")), "InvalidArgument"),
        (wrap(topic(), topic("two", CREATED + FILTER)), "InvalidArgument"),
        (wrap(topic(more=CREATED + FILTER.replace("prefix", "infix"))), "InvalidArgument"),
        (wrap(topic(more=CREATED + FILTER.replace("prefix", "suffix"))), "InvalidArgument"),
        (wrap(topic(more=CREATED + "<Filter><Key/></Filter>")), "MalformedXML"),
    ],
)
def test_refused(body, code):
    with pytest.raises(Refusal) as caught:
        read(body)
    assert caught.value.fields["reason"] == code


def test_rules_that_never_meet():
    two = topic("two", CREATED + FILTER.replace("a/", "b/"))
    assert len(read(wrap(topic(more=CREATED + FILTER), two)).rules) == 2
    removed = topic("two", "<Event>s3:ObjectRemoved:*</Event>")
    assert len(read(wrap(topic(), removed)).rules) == 2


@pytest.mark.parametrize(
    "body",
    [
        wrap("<EventBridgeConfiguration/>"),
        wrap(topic(more="<Event>s3:ObjectRestore:Post</Event>")),
        wrap(topic(more="<Event>s3:Replication:*</Event>")),
    ],
)
def test_nobody_waits_for_what_never_happens(body):
    with pytest.raises(OperationNotImplemented):
        read(body)


async def test_put_and_get(s3, bucket):
    path = "/bucket?notification"
    assert len((await s3.document(path)).root) == 0
    await s3.put(path, wrap(topic()).encode())
    assert (await s3.document(path)).one("TopicConfiguration/Topic") == ARN
    for _ in range(2):
        await s3.put(path, wrap().encode())
        assert len((await s3.document(path)).root) == 0
