"""The block of public access (S3 user guide, "Blocking public access to your S3 storage")."""

from __future__ import annotations

from objectio.model.bucket import PUBLIC_ACCESS, PublicAccessBlock
from objectio_api_s3.configuration import schema
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element

_NAMES = {
    "BlockPublicAcls": "block_acls",
    "IgnorePublicAcls": "ignore_acls",
    "BlockPublicPolicy": "block_policy",
    "RestrictPublicBuckets": "restrict_buckets",
}


async def get_public_access_block(call: Call) -> Reply:
    found = await schema.load_or_refuse(
        call, PUBLIC_ACCESS, PublicAccessBlock, "NoSuchPublicAccessBlockConfiguration"
    )
    shown = (element(name, str(getattr(found, at)).lower()) for name, at in _NAMES.items())
    return xml_reply("PublicAccessBlockConfiguration", "".join(shown))


async def put_public_access_block(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "PublicAccessBlockConfiguration"), *_NAMES)
    values = {at: schema.boolean(root, name) for name, at in _NAMES.items()}
    return await schema.save(call, PUBLIC_ACCESS, PublicAccessBlock(**values))


async def delete_public_access_block(call: Call) -> Reply:
    return await schema.remove(call, PUBLIC_ACCESS)
