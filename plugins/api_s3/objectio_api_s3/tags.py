"""Tags of objects and buckets: in the x-amz-tagging header, and as the Tagging document.

S3 user guide, "Categorizing your objects using tags": at most ten, keys of up to 128 characters,
values of up to 256, of letters, digits, white space and a few signs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.xml import element

TAGS_MAX: Final = 10
_KEY_CHARS_MAX: Final = 128
_VALUE_CHARS_MAX: Final = 256
_SIGNS: Final = frozenset("+-=._:/@")
_CATEGORIES: Final = ("L", "N", "Z")


def parse_header(value: bytes) -> dict[str, str]:
    """Pairs as in a query: "a=1&b=2", percent-encoded, a plus sign for a space."""
    pairs = []
    for pair in value.split(b"&"):
        if not pair:
            continue
        name, _, text = pair.partition(b"=")
        pairs.append((_decode(name), _decode(text)))
    return check(pairs)


def _decode(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        refuse("InvalidArgument", "The header x-amz-tagging is not UTF-8.")


def parse_document(body: bytes) -> dict[str, str]:
    root = parse(body, "Tagging")
    listed = root.child("TagSet")
    if listed is None or len(root.children) != 1:
        refuse("MalformedXML")
    return parse_set(listed)


def parse_set(node: Node, most: int = TAGS_MAX, whose: str = "Object") -> dict[str, str]:
    """The Tag elements of a TagSet."""
    return check([_pair(tag) for tag in node.children], most, whose)


def _pair(node: Node) -> tuple[str, str]:
    key, value = node.child("Key"), node.child("Value")
    if node.name != "Tag" or key is None or value is None or len(node.children) != 2:
        refuse("MalformedXML")
    return key.text, value.text


def check(
    pairs: Iterable[tuple[str, str]], most: int = TAGS_MAX, whose: str = "Object"
) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= _KEY_CHARS_MAX or not _is_plain(key):
            refuse("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > _VALUE_CHARS_MAX or not _is_plain(value):
            refuse("InvalidTag", "The TagValue you have provided is invalid", TagKey=key)
        if key.lower().startswith("aws:"):
            refuse("InvalidTag", "System tags cannot be added/updated by requester", TagKey=key)
        if key in found:
            refuse("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        found[key] = value
    if len(found) > most:
        code = "InvalidTag" if most == TAGS_MAX else "BadRequest"
        refuse(code, f"{whose} tags cannot be greater than {most}")
    return found


def _is_plain(text: str) -> bool:
    if text.isascii() and text.isalnum():
        return True
    return all(c in _SIGNS or unicodedata.category(c)[0] in _CATEGORIES for c in text)


def show(tags: Mapping[str, str]) -> str:
    """What is inside of a Tagging document: by key, so that it is always the same."""
    shown = "".join(
        f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>"
        for key, value in sorted(tags.items())
    )
    return f"<TagSet>{shown}</TagSet>"
