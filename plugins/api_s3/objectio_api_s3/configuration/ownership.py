"""Object ownership: whose objects are, and whether ACLs count."""

from __future__ import annotations

from typing import Final, cast

from objectio.model.bucket import ACL, OWNERSHIP, Acl, ObjectOwnership, Ownership, decode_document
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element

HEADER: Final = b"x-amz-object-ownership"
_RULES: Final = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")


def parse_header(value: bytes) -> ObjectOwnership:
    name = value.decode("latin-1")
    if name not in _RULES:
        refuse("InvalidArgument", "Invalid x-amz-object-ownership header: " + name)
    return cast("ObjectOwnership", name)


async def get_ownership_controls(call: Call) -> Reply:
    found = await schema.load_or_refuse(
        call, OWNERSHIP, Ownership, "OwnershipControlsNotFoundError"
    )
    return xml_reply("OwnershipControls", f"<Rule>{element('ObjectOwnership', found.rule)}</Rule>")


async def put_ownership_controls(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "OwnershipControls"), "Rule")
    rule = schema.check(schema.need(root, "Rule"), "ObjectOwnership")
    name = cast("ObjectOwnership", schema.choice(rule, "ObjectOwnership", _RULES))
    if name == "BucketOwnerEnforced":
        await _check_grants(call)
    return await schema.save(call, OWNERSHIP, Ownership(rule=name))


async def _check_grants(call: Call) -> None:
    """An ACL that gives others something must be taken back first: switched off, it would come to
    life again when ACLs are enabled some day."""
    bucket = await schema.find_bucket(call)
    raw = (await call.context.objects.get_documents(bucket)).get(ACL)
    if raw is not None and any(
        grant.grantee != bucket.owner for grant in decode_document(raw, Acl).grants
    ):
        refuse("InvalidBucketAclWithObjectOwnership")


async def delete_ownership_controls(call: Call) -> Reply:
    return await schema.remove(call, OWNERSHIP)
