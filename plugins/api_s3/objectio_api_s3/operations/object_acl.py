"""The ACL of an object: get, put."""

from __future__ import annotations

from msgspec.structs import replace

from objectio.abc.objects import ObjectAttributes, ObjectInfo
from objectio_api_s3 import acl
from objectio_api_s3.headers import version_header
from objectio_api_s3.request import Call, Reply, empty_reply


async def get_object_acl(call: Call) -> Reply:
    """Where ACLs are disabled, everything is the bucket owner's and nobody else's."""
    op, context = call.op, call.context
    await call.check_owner()
    found = await acl.settings(call)
    info = await context.objects.head_object(
        op.bucket, op.key, version_id=op.version_id, check_key=False
    )
    if found.disabled:
        reply = acl.reply(None, found.bucket.owner, context.directory)
    else:
        owner = info.owner or found.bucket.owner
        reply = acl.reply(info.attributes.acl, owner, context.directory)
    if info.versioned:
        reply.headers.append(version_header(info.version_id))
    return reply


async def put_object_acl(call: Call) -> Reply:
    op, context = call.op, call.context
    body = await call.read_document()
    await call.check_owner()
    found = await acl.settings(call)

    def change(info: ObjectInfo) -> ObjectAttributes:
        owner = info.owner or found.bucket.owner
        new = acl.parse_put(op.headers, body, found, owner, context.directory)
        return replace(info.attributes, acl=None if new == acl.private(owner) else new)

    info = await context.objects.update_object(
        op.bucket,
        op.key,
        change,
        version_id=op.version_id,
        origin=call.origin("ObjectAcl:Put"),
    )
    return empty_reply(200, [version_header(info.version_id)] if info.versioned else None)
