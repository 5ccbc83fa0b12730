"""Deleting one object, or up to a thousand in one request."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from objectio import limits
from objectio.abc.api import Wanted
from objectio.abc.objects import DeleteTarget
from objectio.errors import AccessDenied, ObjectIOError
from objectio_api_s3.conditions import write_conditions
from objectio_api_s3.errors import Refusal, explain, refuse
from objectio_api_s3.headers import Headers
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Reply, arn, empty_reply, xml_reply
from objectio_api_s3.xml import element, optional

logger = logging.getLogger("objectio.api.s3")


async def delete_object(call: Call) -> Reply:
    """204 whether there was one or not; deleting is idempotent."""
    op = call.op
    await call.check_owner()
    version_id = op.version_id
    await call.context.objects.delete_object(
        op.bucket, op.key, version_id=version_id, conditions=write_conditions(op.headers)
    )
    headers: Headers = []
    if version_id is not None:
        headers.append((b"x-amz-version-id", version_id.encode("latin-1", "replace")))
    return empty_reply(204, headers)


async def delete_objects(call: Call) -> Reply:
    """Every key has its own fate; each is authorized by itself, as if it were deleted alone."""
    op = call.op
    body = await call.read_document()
    await call.check_owner()
    quiet, entries = _parse(body)
    fates: list[Exception | None] = [await _authorize(call, key) for key, _, _ in entries]
    allowed = [at for at, fate in enumerate(fates) if fate is None]
    plain = [at for at in allowed if entries[at][2] is None]
    if plain:
        targets = [DeleteTarget(entries[at][0], entries[at][1]) for at in plain]
        done = await call.context.objects.delete_objects(op.bucket, targets)
        for at, fate in zip(plain, done, strict=True):
            fates[at] = fate if isinstance(fate, Exception) else None
    for at in allowed:
        if entries[at][2] is not None:
            fates[at] = await _delete_if(call, entries[at])
    shown = [
        _outcome(entry, fate)
        for entry, fate in zip(entries, fates, strict=True)
        if fate is not None or not quiet
    ]
    return xml_reply("DeleteResult", "".join(shown))


_Entry = tuple[bytes, str | None, str | None]
"""Key, version id, ETag that it must have."""


def _parse(body: bytes) -> tuple[bool, Sequence[_Entry]]:
    root = parse(body, "Delete")
    objects = root.all("Object")
    if not 1 <= len(objects) <= limits.DELETE_KEYS_MAX:
        refuse("MalformedXML")
    quiet = root.value("Quiet", "false").strip().lower()
    if quiet not in ("true", "false"):
        refuse("MalformedXML")
    return quiet == "true", [_entry(node) for node in objects]


def _entry(node: Node) -> _Entry:
    key = node.value("Key").encode("utf-8")
    if not key:
        refuse("MalformedXML")
    if node.child("LastModifiedTime") is not None or node.child("Size") is not None:
        refuse("NotImplemented")
    return key, node.value("VersionId") or None, node.value("ETag") or None


async def _authorize(call: Call, key: bytes) -> Exception | None:
    if len(key) > limits.OBJECT_KEY_BYTES_MAX:
        return Refusal("KeyTooLongError")
    try:
        await call.request.trust(Wanted("s3:DeleteObject", arn(call.op.bucket, key)))
    except AccessDenied as error:
        return error
    return None


async def _delete_if(call: Call, entry: _Entry) -> Exception | None:
    key, version_id, etag = entry
    conditions = write_conditions({b"if-match": (etag or "").encode("latin-1", "replace")})
    try:
        await call.context.objects.delete_object(
            call.op.bucket, key, version_id=version_id, conditions=conditions
        )
    except ObjectIOError as error:
        return error
    return None


def _outcome(entry: _Entry, fate: Exception | None) -> str:
    key, version_id, _ = entry
    said = element("Key", key.decode("utf-8")) + optional("VersionId", version_id)
    if fate is None:
        return f"<Deleted>{said}</Deleted>"
    answer = explain(fate)
    if answer.status >= 500:
        logger.error("a key of DeleteObjects was not deleted: %s: %s", type(fate).__name__, fate)
    return f"<Error>{said}<Code>{answer.code}</Code>{element('Message', answer.message)}</Error>"
