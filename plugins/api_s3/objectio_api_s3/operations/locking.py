"""Retention and legal hold of an object: get, put."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from objectio.abc.objects import ObjectAttributes, ObjectInfo
from objectio_api_s3 import locks, permissions
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import version_header
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.xml import element


async def _check_bucket(call: Call) -> None:
    """A lock in a bucket without object lock would mean nothing."""
    await call.check_owner()
    bucket = await call.context.objects.get_bucket(call.op.bucket)
    if not bucket.object_lock:
        refuse("InvalidRequest", "Bucket is missing Object Lock Configuration")


async def _look(call: Call) -> ObjectInfo:
    op = call.op
    await _check_bucket(call)
    return await call.context.objects.head_object(
        op.bucket, op.key, version_id=op.version_id, check_key=False
    )


async def _change(call: Call, change: Callable[[ObjectInfo], ObjectAttributes]) -> Reply:
    op = call.op
    info = await call.context.objects.update_object(
        op.bucket, op.key, change, version_id=op.version_id
    )
    return empty_reply(200, [version_header(info.version_id)] if info.versioned else None)


async def get_object_retention(call: Call) -> Reply:
    retention = (await _look(call)).attributes.retention
    if retention is None:
        refuse("NoSuchObjectLockConfiguration")
    return xml_reply("Retention", locks.show_retention(retention))


async def put_object_retention(call: Call) -> Reply:
    """Policies may ask for what is to be set, so that who may is asked here."""
    op = call.op
    new = locks.parse_retention(await call.read_document())
    values = {**permissions.conditions(op), **permissions.retention_values(new)}
    await call.require("s3:PutObjectRetention", lambda: values, version_id=op.version_id)
    bypass = locks.bypasses(op.headers)
    if bypass:
        await call.require("s3:BypassGovernanceRetention", lambda: values, version_id=op.version_id)
    await _check_bucket(call)

    def change(info: ObjectInfo) -> ObjectAttributes:
        locks.check_change(info.attributes.retention, new, bypass=bypass)
        return replace(info.attributes, retention=new)

    if bypass:
        await call.acts("s3:BypassGovernanceRetention")
    return await _change(call, change)


async def get_object_legal_hold(call: Call) -> Reply:
    held = (await _look(call)).attributes.legal_hold
    return xml_reply("LegalHold", element("Status", "ON" if held else "OFF"))


async def put_object_legal_hold(call: Call) -> Reply:
    op = call.op
    held = locks.parse_hold(await call.read_document())
    values = {**permissions.conditions(op), **permissions.hold_values(held)}
    await call.require("s3:PutObjectLegalHold", lambda: values, version_id=op.version_id)
    await _check_bucket(call)
    if not held:
        await call.acts("s3:PutObjectLegalHold")
    return await _change(call, lambda info: replace(info.attributes, legal_hold=held))
