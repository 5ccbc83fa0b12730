"""Lifecycle rules (S3 user guide, "Lifecycle configuration elements").

What is acted upon becomes a `LifecycleRule`; in which of S3's forms it came (a Prefix of its own or
in a Filter, an And of one) stays in `extra`, so that a client which compares what it wrote with what
it reads finds no difference. Transitions to other storage classes are refused: there are none.
"""

from __future__ import annotations

import calendar
import re
import secrets
import time
from typing import Any, Final

from objectio.model.bucket import LIFECYCLE, Lifecycle, LifecycleFilter, LifecycleRule
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.times import iso8601
from objectio_api_s3.xml import element, optional

_RULES_MAX: Final = 1_000
_ID_CHARS_MAX: Final = 255
_NEWER_VERSIONS_MAX: Final = 100
_PREFIX_BYTES_MAX: Final = 1_024
_DAY_MS: Final = 86_400_000
_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?)?(?:Z|\+00:?00)?")
_MINIMUM: Final = b"x-amz-transition-default-minimum-object-size"
_MINIMUMS: Final = ("all_storage_classes_128K", "varies_by_storage_class")

_ACTIONS: Final = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
_TRANSITIONS: Final = ("Transition", "NoncurrentVersionTransition")
_TESTS: Final = ("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan")


def parse_lifecycle(root: Node) -> Lifecycle:
    schema.check(root, "Rule")
    if not 1 <= len(root.children) <= _RULES_MAX:
        refuse("MalformedXML")
    rules = tuple(_parse_rule(node) for node in root.children)
    if len({rule.id for rule in rules}) < len(rules):
        refuse("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    return Lifecycle(rules=rules)


def _refuse_transitions(node: Node) -> None:
    """What is wrong with a date is told before that there is nowhere to move objects to."""
    found = [child for child in node.children if child.name in _TRANSITIONS]
    for child in found:
        for date in child.all("Date"):
            parse_midnight(schema.leaf(date))
    if found:
        raise schema.not_built("transitions to other storage classes")


def _parse_rule(node: Node) -> LifecycleRule:
    _refuse_transitions(node)
    schema.check(node, "ID", "Prefix", "Filter", "Status", *_ACTIONS)
    name = schema.text(node, "ID") or secrets.token_urlsafe(24)
    if len(name) > _ID_CHARS_MAX:
        refuse("InvalidArgument", f"ID length should not exceed allowed limit of {_ID_CHARS_MAX}")
    enabled = schema.choice(node, "Status", ("Enabled", "Disabled")) == "Enabled"
    chosen, form = _parse_scope(node)
    actions: dict[str, Any] = {}
    for action, parse in (
        ("Expiration", _parse_expiration),
        ("NoncurrentVersionExpiration", _parse_noncurrent),
        ("AbortIncompleteMultipartUpload", _parse_abort),
    ):
        found = node.child(action)
        if found is not None:
            actions |= parse(found)
    if not actions:
        refuse("InvalidRequest", "At least one action needs to be specified in a rule")
    if actions.get("expire_delete_marker") is False:
        form["keeps_delete_marker"] = True
    rule = LifecycleRule(id=name, enabled=enabled, filter=chosen, extra=form, **actions)
    _check_together(rule)
    return rule


def _check_together(rule: LifecycleRule) -> None:
    """Delete markers and uploads have neither tags nor a size."""
    chosen = rule.filter
    sized = chosen.size_greater_than is not None or chosen.size_less_than is not None
    for named, name in (
        (rule.expire_delete_marker, "ExpiredObjectDeleteMarker"),
        (rule.abort_upload_days is not None, "AbortIncompleteMultipartUpload"),
    ):
        if named and chosen.tags:
            refuse("InvalidRequest", f"{name} cannot be specified with Tags")
        if named and sized:
            refuse("InvalidRequest", f"{name} cannot be specified with Object Size")


def _parse_scope(node: Node) -> tuple[LifecycleFilter, dict[str, Any]]:
    """The filter, and the form that it came in."""
    given = node.child("Filter")
    if given is None:  # the older form
        if node.child("Prefix") is None:
            refuse("MalformedXML")
        return LifecycleFilter(prefix=_prefix(node)), {"form": "prefix"}
    if node.child("Prefix") is not None:
        refuse("MalformedXML")
    schema.check(given, *_TESTS, "And")
    both = given.child("And")
    if both is None:
        # AWS takes several tests in an And only; what they mean without is as plain.
        named = given.child("Prefix") is not None
        return _parse_tests(given), {"form": "filter"} if named else {}
    if not both.children:
        refuse("MalformedXML")
    chosen = _parse_tests(schema.check(both, *_TESTS))
    if len(given.children) > 1:  # AWS refuses tests beside an And; clients send them, and mean all
        chosen = _both(_parse_tests(given), chosen)
    return chosen, {"form": "and"}


def _both(one: LifecycleFilter, other: LifecycleFilter) -> LifecycleFilter:
    """All that either says must hold; refused where that can never be."""
    shorter, longer = sorted((one.prefix, other.prefix), key=len)
    tags = one.tags | other.tags
    if not longer.startswith(shorter) or tags != other.tags | one.tags:
        refuse("MalformedXML")
    above = [each.size_greater_than for each in (one, other) if each.size_greater_than is not None]
    below = [each.size_less_than for each in (one, other) if each.size_less_than is not None]
    return LifecycleFilter(
        prefix=longer,
        tags=tags,
        size_greater_than=max(above, default=None),
        size_less_than=min(below, default=None),
    )


def _parse_tests(node: Node) -> LifecycleFilter:
    tags: dict[str, str] = {}
    for tag in node.all("Tag"):
        schema.check(tag, "Key", "Value")
        key = schema.need_text(tag, "Key")
        if key in tags:
            refuse("InvalidRequest", "Duplicate Tag Keys are not allowed.")
        tags[key] = schema.leaf(schema.need(tag, "Value"))
    above = schema.number(node, "ObjectSizeGreaterThan")
    below = schema.number(node, "ObjectSizeLessThan")
    if (above is not None and above < 0) or (below is not None and below < 1):
        refuse("InvalidRequest", "Object sizes must not be negative, and their upper bound above 0")
    if above is not None and below is not None and above >= below:
        refuse(
            "InvalidRequest", "'ObjectSizeLessThan' has to be greater than 'ObjectSizeGreaterThan'"
        )
    return LifecycleFilter(
        prefix=_prefix(node), tags=tags, size_greater_than=above, size_less_than=below
    )


def _prefix(node: Node) -> str:
    found = schema.text(node, "Prefix")
    if len(found.encode("utf-8", "surrogatepass")) > _PREFIX_BYTES_MAX:
        refuse("InvalidRequest", "The maximum size of a prefix is 1024.")
    return found


def _parse_expiration(node: Node) -> dict[str, Any]:
    schema.check(node, "Days", "Date", "ExpiredObjectDeleteMarker")
    if len(node.children) != 1:
        refuse("MalformedXML")
    days, date = schema.number(node, "Days"), node.child("Date")
    if days is not None:
        if days < 1:
            refuse("InvalidArgument", "'Days' for Expiration action must be a positive integer")
        return {"expire_days": days}
    if date is not None:
        return {"expire_date_ms": parse_midnight(schema.leaf(date))}
    return {"expire_delete_marker": schema.boolean(node, "ExpiredObjectDeleteMarker")}


def parse_midnight(value: str) -> int:
    """ISO 8601, the time of which is midnight UTC; milliseconds since 1970."""
    match = _DATE.fullmatch(value.strip())
    if match is None:
        refuse("MalformedXML")
    day, clock, fraction = match.groups()
    try:
        parsed = time.strptime(f"{day}T{clock or '00:00:00'}", "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        refuse("MalformedXML")
    found = calendar.timegm(parsed) * 1000
    if found % _DAY_MS or (fraction and fraction.strip("0")):
        refuse("InvalidArgument", "'Date' must be at midnight GMT")
    return found


def _parse_noncurrent(node: Node) -> dict[str, Any]:
    schema.check(node, "NoncurrentDays", "NewerNoncurrentVersions")
    days = schema.number(node, "NoncurrentDays")
    newer = schema.number(node, "NewerNoncurrentVersions")
    if days is None:
        refuse("MalformedXML")
    if days < 1:
        refuse(
            "InvalidArgument",
            "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer",
        )
    if newer is not None and not 1 <= newer <= _NEWER_VERSIONS_MAX:
        refuse("InvalidArgument", "'NewerNoncurrentVersions' must be from 1 to 100")
    return {"noncurrent_days": days, "newer_noncurrent_versions": newer or 0}


def _parse_abort(node: Node) -> dict[str, Any]:
    schema.check(node, "DaysAfterInitiation")
    days = schema.number(node, "DaysAfterInitiation")
    if days is None:
        refuse("MalformedXML")
    if days < 1:
        refuse("InvalidArgument", "'DaysAfterInitiation' must be a positive integer")
    return {"abort_upload_days": days}


def show_lifecycle(lifecycle: Lifecycle) -> str:
    return "".join(_show_rule(rule) for rule in lifecycle.rules)


def _show_rule(rule: LifecycleRule) -> str:
    shown = element("ID", rule.id) + _show_scope(rule.filter, rule.extra.get("form", ""))
    shown += element("Status", "Enabled" if rule.enabled else "Disabled")
    if rule.expire_days is not None:
        shown += f"<Expiration><Days>{rule.expire_days}</Days></Expiration>"
    elif rule.expire_date_ms is not None:
        shown += f"<Expiration><Date>{iso8601(rule.expire_date_ms)}</Date></Expiration>"
    elif rule.expire_delete_marker or rule.extra.get("keeps_delete_marker"):
        inner = element("ExpiredObjectDeleteMarker", str(rule.expire_delete_marker).lower())
        shown += f"<Expiration>{inner}</Expiration>"
    if rule.noncurrent_days is not None:
        inner = element("NoncurrentDays", str(rule.noncurrent_days))
        if rule.newer_noncurrent_versions:
            inner += element("NewerNoncurrentVersions", str(rule.newer_noncurrent_versions))
        shown += f"<NoncurrentVersionExpiration>{inner}</NoncurrentVersionExpiration>"
    if rule.abort_upload_days is not None:
        shown += (
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>"
            f"{rule.abort_upload_days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
        )
    return f"<Rule>{shown}</Rule>"


def _show_scope(chosen: LifecycleFilter, form: str) -> str:
    if form == "prefix":
        return element("Prefix", chosen.prefix)
    tests = (
        element("Prefix", chosen.prefix) if form == "filter" else optional("Prefix", chosen.prefix)
    )
    for key, value in chosen.tags.items():
        tests += f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>"
    if chosen.size_greater_than is not None:
        tests += element("ObjectSizeGreaterThan", str(chosen.size_greater_than))
    if chosen.size_less_than is not None:
        tests += element("ObjectSizeLessThan", str(chosen.size_less_than))
    return f"<Filter><And>{tests}</And></Filter>" if form == "and" else f"<Filter>{tests}</Filter>"


async def get_lifecycle(call: Call) -> Reply:
    found = await schema.load_or_refuse(call, LIFECYCLE, Lifecycle, "NoSuchLifecycleConfiguration")
    minimum = found.rules[0].extra.get("transition_minimum", _MINIMUMS[0])
    headers = [(_MINIMUM, minimum.encode("ascii"))]
    return xml_reply("LifecycleConfiguration", show_lifecycle(found), headers=headers)


async def put_lifecycle(call: Call) -> Reply:
    """A header says below which size nothing is moved to another storage class. Nothing ever is
    here; but clients want to read what they wrote."""
    minimum = call.op.headers.get(_MINIMUM, b"").decode("latin-1") or _MINIMUMS[0]
    if minimum not in _MINIMUMS:
        refuse("InvalidArgument", ArgumentName=_MINIMUM.decode("ascii"), ArgumentValue=minimum)
    made = parse_lifecycle(await schema.read(call, "LifecycleConfiguration"))
    if minimum != _MINIMUMS[0]:
        made.rules[0].extra["transition_minimum"] = minimum
    reply = await schema.save(call, LIFECYCLE, made)
    reply.headers.append((_MINIMUM, minimum.encode("ascii")))
    return reply


async def delete_lifecycle(call: Call) -> Reply:
    return await schema.remove(call, LIFECYCLE)
