"""What all documents of a bucket have in common: checking elements, and getting and putting them.

XML is checked strictly, as S3 does: an element that is not known, is there twice or holds nonsense
makes the whole document malformed, because a rule of which a part is ignored would do something else
than what it says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeVar

from objectio.abc.objects import BucketInfo
from objectio.errors import OperationNotImplemented
from objectio.model.bucket import Document, decode_document, encode_document
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Reply, empty_reply

_D = TypeVar("_D", bound=Document)

_DIGITS_MAX: Final = 10
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "false": False, "1": True, "0": False}


def check(node: Node, *names: str) -> Node:
    """That it has no other children than these."""
    for child in node.children:
        if child.name not in names:
            refuse("MalformedXML")
    return node


def need(node: Node, name: str) -> Node:
    found = node.child(name)
    if found is None:
        refuse("MalformedXML")
    return found


def text(node: Node, name: str, default: str = "") -> str:
    """The text of a child that has no elements of its own."""
    found = node.child(name)
    if found is None:
        return default
    return leaf(found)


def leaf(node: Node) -> str:
    if node.children:
        refuse("MalformedXML")
    return node.text


def need_text(node: Node, name: str) -> str:
    found = leaf(need(node, name))
    if not found:
        refuse("MalformedXML")
    return found


def number(node: Node, name: str) -> int | None:
    """An integer, which may be negative: what is out of range has other codes."""
    found = node.child(name)
    if found is None:
        return None
    shown = leaf(found).strip()
    digits = shown.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS_MAX:
        refuse("MalformedXML")
    return int(shown)


def boolean(node: Node, name: str, default: bool = False) -> bool:
    found = node.child(name)
    if found is None:
        return default
    value = _BOOLEANS.get(leaf(found).strip().lower())
    if value is None:
        refuse("MalformedXML")
    return value


def choice(node: Node, name: str, values: Collection[str]) -> str:
    found = need_text(node, name).strip()
    if found not in values:
        refuse("MalformedXML")
    return found


async def read(call: Call, root: str) -> Node:
    """The document that was sent. An empty body is a malformed one."""
    return parse(await call.read_document(), root)


async def find_bucket(call: Call) -> BucketInfo:
    await call.check_owner()
    return await call.context.objects.get_bucket(call.op.bucket)


async def load_raw(call: Call, name: str) -> bytes | None:
    bucket = await find_bucket(call)
    return (await call.context.objects.get_documents(bucket)).get(name)


async def load(call: Call, name: str, kind: type[_D]) -> _D | None:
    raw = await load_raw(call, name)
    return None if raw is None else decode_document(raw, kind)


async def load_or_refuse(call: Call, name: str, kind: type[_D], code: str) -> _D:
    found = await load(call, name, kind)
    if found is None:
        refuse(code, BucketName=call.op.bucket)
    return found


async def save(call: Call, name: str, value: Document, status: int = 200) -> Reply:
    await call.check_owner()
    await call.context.objects.put_document(call.op.bucket, name, encode_document(value))
    return empty_reply(status)


async def remove(call: Call, name: str) -> Reply:
    """That there is none is no error."""
    await call.check_owner()
    await call.context.objects.put_document(call.op.bucket, name, None)
    return empty_reply(204)


def not_built(what: str) -> OperationNotImplemented:
    """What S3 has and nobody here would act upon: to store it would be a lie."""
    return OperationNotImplemented(what)
