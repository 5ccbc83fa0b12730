"""Object lock of a bucket, and the retention that its objects get by default."""

from __future__ import annotations

from typing import Final, cast

from objectio.model.bucket import (
    LOCK,
    DefaultRetention,
    ObjectLock,
    RetentionMode,
    decode_document,
)
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element

# S3 user guide, "Object Lock considerations": at most 100 years.
_DAYS_MAX: Final = 36_500
_YEARS_MAX: Final = 100


def parse_lock(root: Node) -> ObjectLock:
    schema.check(root, "ObjectLockEnabled", "Rule")
    schema.choice(root, "ObjectLockEnabled", ("Enabled",))
    rule = root.child("Rule")
    if rule is None:
        return ObjectLock()
    schema.check(rule, "DefaultRetention")
    given = schema.check(schema.need(rule, "DefaultRetention"), "Mode", "Days", "Years")
    mode = cast("RetentionMode", schema.choice(given, "Mode", ("GOVERNANCE", "COMPLIANCE")))
    days, years = schema.number(given, "Days"), schema.number(given, "Years")
    if (days is None) == (years is None):
        refuse("MalformedXML")
    if days is not None and not 0 < days <= _DAYS_MAX:
        refuse("InvalidRetentionPeriod", "Default retention period must be a positive integer")
    if years is not None and not 0 < years <= _YEARS_MAX:
        refuse("InvalidRetentionPeriod", "Default retention period must be a positive integer")
    return ObjectLock(default=DefaultRetention(mode=mode, days=days or 0, years=years or 0))


async def get_object_lock(call: Call) -> Reply:
    bucket = await schema.find_bucket(call)
    if not bucket.object_lock:
        refuse("ObjectLockConfigurationNotFoundError", BucketName=bucket.name)
    raw = (await call.context.objects.get_documents(bucket)).get(LOCK)
    lock = ObjectLock() if raw is None else decode_document(raw, ObjectLock)
    shown = element("ObjectLockEnabled", "Enabled")
    if lock.default is not None:
        default = lock.default
        period = (
            element("Days", str(default.days))
            if default.days
            else element("Years", str(default.years))
        )
        shown += (
            f"<Rule><DefaultRetention>{element('Mode', default.mode)}{period}"
            "</DefaultRetention></Rule>"
        )
    return xml_reply("ObjectLockConfiguration", shown)


async def put_object_lock(call: Call) -> Reply:
    """The store refuses it, InvalidBucketState, unless versioning is on."""
    lock = parse_lock(await schema.read(call, "ObjectLockConfiguration"))
    return await schema.save(call, LOCK, lock)
