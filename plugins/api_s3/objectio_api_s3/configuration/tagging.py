"""The tags of a bucket."""

from __future__ import annotations

from typing import Final

from objectio.model.bucket import TAGS, Tags
from objectio_api_s3 import tags
from objectio_api_s3.configuration import schema
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply

_TAGS_MAX: Final = 50  # S3 user guide, "Using cost allocation S3 bucket tags"


def parse_tags(node: Node) -> Tags:
    """The Tag elements of a TagSet, or of a CreateBucketConfiguration's Tags."""
    return Tags(tags=tags.parse_set(node, _TAGS_MAX, "Bucket"))


async def get_tagging(call: Call) -> Reply:
    found = await schema.load_or_refuse(call, TAGS, Tags, "NoSuchTagSet")
    return xml_reply("Tagging", tags.show(found.tags))


async def put_tagging(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "Tagging"), "TagSet")
    return await schema.save(call, TAGS, parse_tags(schema.need(root, "TagSet")), 204)


async def delete_tagging(call: Call) -> Reply:
    return await schema.remove(call, TAGS)
