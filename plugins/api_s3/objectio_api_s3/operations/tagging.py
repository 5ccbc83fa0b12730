"""The tags of an object: get, put, delete."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from objectio.abc.objects import ObjectAttributes, ObjectInfo
from objectio_api_s3 import permissions, tags
from objectio_api_s3.headers import Headers, version_header
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply


def _headers(info: ObjectInfo) -> Headers:
    return [version_header(info.version_id)] if info.versioned else []


async def get_object_tagging(call: Call) -> Reply:
    op = call.op
    await call.check_owner()
    info = await call.context.objects.head_object(
        op.bucket, op.key, version_id=op.version_id, check_key=False
    )
    return xml_reply("Tagging", tags.show(info.attributes.tags), headers=_headers(info))


async def put_object_tagging(call: Call) -> Reply:
    """Policies may ask for the tags that are to be set, so that who may is asked here."""
    op = call.op
    found = tags.parse_document(await call.read_document())
    action = "s3:PutObjectTagging" if op.version_id is None else "s3:PutObjectVersionTagging"
    values = {**permissions.conditions(op), **permissions.request_tags(found)}
    await call.require(action, lambda: values, version_id=op.version_id)
    return empty_reply(200, _headers(await _set(call, found, "ObjectTagging:Put")))


async def delete_object_tagging(call: Call) -> Reply:
    return empty_reply(204, _headers(await _set(call, {}, "ObjectTagging:Delete")))


async def _set(call: Call, found: Mapping[str, str], event: str) -> ObjectInfo:
    op = call.op
    await call.check_owner()

    def change(info: ObjectInfo) -> ObjectAttributes:
        return replace(info.attributes, tags=found)

    return await call.context.objects.update_object(
        op.bucket, op.key, change, version_id=op.version_id, origin=call.origin(event)
    )
