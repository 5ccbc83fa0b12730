"""The ACL of a bucket."""

from __future__ import annotations

from objectio.model.bucket import ACL, Acl, decode_document, encode_document
from objectio_api_s3 import acl
from objectio_api_s3.request import Call, Reply, empty_reply


async def get_bucket_acl(call: Call) -> Reply:
    """Where ACLs are disabled, the owner has all of it, whatever was granted once."""
    await call.check_owner()
    found = await acl.settings(call)
    raw = None if found.disabled else found.documents.get(ACL)
    grants = None if raw is None else decode_document(raw, Acl)
    return acl.reply(grants, found.bucket.owner, call.context.directory)


async def put_bucket_acl(call: Call) -> Reply:
    body = await call.read_document()
    await call.check_owner()
    found = await acl.settings(call)
    owner = found.bucket.owner
    grants = acl.parse_put(call.op.headers, body, found, owner, call.context.directory)
    value = None if grants == acl.private(owner) else encode_document(grants)
    await call.context.objects.put_document(call.op.bucket, ACL, value, judged=found.bucket)
    return empty_reply()
