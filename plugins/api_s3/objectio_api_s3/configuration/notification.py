"""Who is told of what happens in a bucket (S3 API reference, PutBucketNotificationConfiguration)."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from typing import Final

from objectio.model.bucket import NOTIFICATION, Notification, NotificationRule
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element

_RULES_MAX: Final = 100
_ID_CHARS_MAX: Final = 255
_FORMS: Final = ("Topic", "Queue", "CloudFunction")

# S3 user guide, "Supported event types"; those that something here can cause.
_EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ObjectCreated": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "ObjectRemoved": ("Delete", "DeleteMarkerCreated"),
    "ObjectTagging": ("Put", "Delete"),
    "ObjectAcl": ("Put",),
    "LifecycleExpiration": ("Delete", "DeleteMarkerCreated"),
}
_NEVER_HERE: Final = (
    *("s3:ReducedRedundancyLostObject", "s3:ObjectRestore:", "s3:Replication:"),
    *("s3:LifecycleTransition", "s3:IntelligentTiering"),
)


def _spell_events() -> frozenset[str]:
    found = {"s3:ObjectAcl:Put"}
    for kind, causes in _EVENTS.items():
        found |= {f"s3:{kind}:{cause}" for cause in (*causes, "*")}
    return frozenset(found - {"s3:ObjectAcl:*"})


EVENTS: Final = _spell_events()


def parse_notification(root: Node) -> Notification:
    schema.check(root, *(f"{form}Configuration" for form in _FORMS), "EventBridgeConfiguration")
    if root.child("EventBridgeConfiguration") is not None:
        raise schema.not_built("EventBridge")
    if len(root.children) > _RULES_MAX:
        refuse("MalformedXML")
    rules = tuple(
        _parse_rule(node, node.name.removesuffix("Configuration")) for node in root.children
    )
    if len({rule.id for rule in rules}) < len(rules):
        refuse("InvalidArgument", "Same ID used for multiple configurations. IDs must be unique")
    for one, other in itertools.combinations(rules, 2):
        if _overlap(one, other):
            refuse(
                "InvalidArgument",
                "Configurations overlap. Configurations on the same bucket cannot share a common "
                "event type.",
            )
    return Notification(rules=rules)


def _parse_rule(node: Node, form: str) -> NotificationRule:
    schema.check(node, "Id", "Event", "Filter", form)
    name = schema.text(node, "Id") or secrets.token_urlsafe(24)
    if len(name) > _ID_CHARS_MAX:
        refuse("InvalidArgument", f"The ID is longer than {_ID_CHARS_MAX} characters")
    target = schema.need_text(node, form)
    if not target.startswith("arn:") or target.count(":") < 5:
        refuse("InvalidArgument", "The ARN is not well formed", ArgumentValue=target)
    events = tuple(schema.leaf(event).strip() for event in node.all("Event"))
    if not events:
        refuse("MalformedXML")
    for event in events:
        if event.startswith(_NEVER_HERE):
            raise schema.not_built("an event type that nothing causes")
        if event not in EVENTS:
            refuse(
                "InvalidArgument",
                "The event is not supported for notifications",
                ArgumentName="Event",
                ArgumentValue=event,
            )
    prefix, suffix = _parse_filter(node)
    return NotificationRule(
        id=name, target=target, events=events, prefix=prefix, suffix=suffix, form=form
    )


def _parse_filter(node: Node) -> tuple[str, str]:
    given = node.child("Filter")
    if given is None:
        return "", ""
    keys = schema.check(given, "S3Key").child("S3Key")
    found: dict[str, str] = {}
    for rule in [] if keys is None else schema.check(keys, "FilterRule").children:
        schema.check(rule, "Name", "Value")
        name = schema.need_text(rule, "Name").strip().lower()
        if name not in ("prefix", "suffix"):
            refuse("InvalidArgument", "filter rule name must be either prefix or suffix")
        if name in found:
            refuse("InvalidArgument", f"Cannot specify more than one {name} rule in a filter.")
        found[name] = schema.text(rule, "Value")
        if len(found[name]) > 1024:
            refuse("InvalidArgument", "Size of filter rule value cannot exceed 1024 bytes")
    return found.get("prefix", ""), found.get("suffix", "")


def _overlap(one: NotificationRule, other: NotificationRule) -> bool:
    """Whether one event could match both (S3 user guide, "Configuring event notifications using
    object key name filtering")."""
    prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    if not (prefixes and suffixes):
        return False
    return any(_same(a, b) for a in one.events for b in other.events)


def _same(one: str, other: str) -> bool:
    return (
        one == other
        or (one.endswith("*") and other.startswith(one[:-1]))
        or (other.endswith("*") and one.startswith(other[:-1]))
    )


def show_notification(notification: Notification) -> str:
    return "".join(_show_rule(rule) for rule in notification.rules)


def _show_rule(rule: NotificationRule) -> str:
    shown = element("Id", rule.id) + element(rule.form, rule.target)
    shown += "".join(element("Event", event) for event in rule.events)
    filters = "".join(
        f"<FilterRule>{element('Name', name)}{element('Value', value)}</FilterRule>"
        for name, value in (("prefix", rule.prefix), ("suffix", rule.suffix))
        if value
    )
    if filters:
        shown += f"<Filter><S3Key>{filters}</S3Key></Filter>"
    return f"<{rule.form}Configuration>{shown}</{rule.form}Configuration>"


async def get_notification(call: Call) -> Reply:
    found = await schema.load(call, NOTIFICATION, Notification)
    shown = "" if found is None else show_notification(found)
    return xml_reply("NotificationConfiguration", shown)


async def put_notification(call: Call) -> Reply:
    """An empty configuration takes all rules away."""
    made = parse_notification(await schema.read(call, "NotificationConfiguration"))
    if made.rules:
        return await schema.save(call, NOTIFICATION, made)
    reply = await schema.remove(call, NOTIFICATION)
    reply.status = 200
    reply.headers.append((b"content-length", b"0"))
    return reply
