"""The tags of a bucket."""

from __future__ import annotations

from typing import Final

from objectio.model.bucket import TAGS, Tags
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element

_TAGS_MAX: Final = 50  # S3 user guide, "Using cost allocation tags"
_KEY_CHARS_MAX: Final = 128
_VALUE_CHARS_MAX: Final = 256
_RESERVED: Final = "aws:"


def parse_tags(node: Node) -> Tags:
    """The Tag elements of a TagSet, or of a CreateBucketConfiguration's Tags."""
    schema.check(node, "Tag")
    tags: dict[str, str] = {}
    for tag in node.children:
        schema.check(tag, "Key", "Value")
        key, value = schema.text(tag, "Key"), schema.leaf(schema.need(tag, "Value"))
        if not 1 <= len(key) <= _KEY_CHARS_MAX:
            refuse("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > _VALUE_CHARS_MAX:
            refuse("InvalidTag", "The TagValue you have provided is invalid", TagKey=key)
        if key.lower().startswith(_RESERVED):
            refuse("InvalidTag", "System tags cannot be added/updated by requester", TagKey=key)
        if key in tags:
            refuse("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        tags[key] = value
    if len(tags) > _TAGS_MAX:
        refuse("BadRequest", f"Bucket tag count cannot be greater than {_TAGS_MAX}")
    return Tags(tags=tags)


async def get_tagging(call: Call) -> Reply:
    found = await schema.load_or_refuse(call, TAGS, Tags, "NoSuchTagSet")
    shown = "".join(
        f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>"
        for key, value in found.tags.items()
    )
    return xml_reply("Tagging", f"<TagSet>{shown}</TagSet>")


async def put_tagging(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "Tagging"), "TagSet")
    return await schema.save(call, TAGS, parse_tags(schema.need(root, "TagSet")), 204)


async def delete_tagging(call: Call) -> Reply:
    return await schema.remove(call, TAGS)
