"""Deleting one object, or up to a thousand in one request.

Without a version a delete puts a marker on top where the bucket has versioning; with one it is gone
for good, unless it is locked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from objectio import limits
from objectio.abc.api import Wanted
from objectio.abc.objects import Conditions, Deleted, DeleteTarget
from objectio.errors import AccessDenied
from objectio_api_s3 import locks, permissions
from objectio_api_s3.conditions import delete_conditions
from objectio_api_s3.errors import Refusal, explain, refuse
from objectio_api_s3.headers import Headers, version_header
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Operation, Reply, arn, empty_reply, xml_reply
from objectio_api_s3.xml import element, optional

logger = logging.getLogger("objectio.api.s3")

_CONDITIONS: Final = {
    "ETag": b"if-match",
    "LastModifiedTime": b"x-amz-if-match-last-modified-time",
    "Size": b"x-amz-if-match-size",
}


async def delete_object(call: Call) -> Reply:
    """204 whether there was one or not; deleting is idempotent."""
    op = call.op
    await call.check_owner()
    done = await call.context.objects.delete_object(
        op.bucket,
        op.key,
        version_id=op.version_id,
        conditions=delete_conditions(op.headers),
        bypass_governance=locks.bypasses(op.headers),
        origin=call.origin("ObjectRemoved:Delete"),
    )
    headers: Headers = []
    version_id = done.version_id if op.version_id is None else op.version_id
    if version_id is not None:
        headers.append(version_header(version_id))
    if done.delete_marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    return empty_reply(204, headers)


class _Entry(NamedTuple):
    key: bytes
    version_id: str | None
    conditions: Conditions | None


async def delete_objects(call: Call) -> Reply:
    """Every key has its own fate; each is authorized by itself, as if it were deleted alone."""
    op = call.op
    body = await call.read_document()
    await call.check_owner()
    quiet, entries = _parse(body)
    bypass = locks.bypasses(op.headers)
    fates: list[Deleted | Exception] = [Deleted()] * len(entries)
    allowed = []
    for at, entry in enumerate(entries):
        refused = await _authorize(call, entry, bypass)
        if refused is None:
            allowed.append(at)
        else:
            fates[at] = refused
    if allowed:
        if bypass:
            await call.acts("s3:BypassGovernanceRetention")
        done = await call.context.objects.delete_objects(
            op.bucket,
            [DeleteTarget(*entries[at]) for at in allowed],
            bypass_governance=bypass,
            origin=call.origin("ObjectRemoved:Delete"),
        )
        for at, fate in zip(allowed, done, strict=True):
            fates[at] = fate
    shown = [
        _outcome(entry, fate)
        for entry, fate in zip(entries, fates, strict=True)
        if isinstance(fate, Exception) or not quiet
    ]
    return xml_reply("DeleteResult", "".join(shown))


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
    headers: dict[bytes, bytes] = {}
    for name, header in _CONDITIONS.items():
        value = node.value(name)
        if value:
            headers[header] = value.encode("latin-1", "replace")
    return _Entry(key, node.value("VersionId") or None, delete_conditions(headers))


async def _authorize(call: Call, entry: _Entry, bypass: bool) -> Exception | None:
    if len(entry.key) > limits.OBJECT_KEY_BYTES_MAX:
        return Refusal("KeyTooLongError")
    op, version_id = call.op, entry.version_id
    where = arn(op.bucket, entry.key)
    action = "s3:DeleteObject" if version_id is None else "s3:DeleteObjectVersion"

    def values() -> Mapping[str, Sequence[str]]:
        return _values(op, version_id)

    wanted = [Wanted(action, where, version_id, values)]
    if bypass:
        wanted.append(Wanted("s3:BypassGovernanceRetention", where, version_id, values))
    for each in wanted:
        try:
            await call.request.trust(each)
        except AccessDenied as error:
            if call.request.denied is None:
                call.request.denied = []
            call.request.denied.append(each)
            return error
    return None


def _values(op: Operation, version_id: str | None) -> Mapping[str, Sequence[str]]:
    found = dict(permissions.conditions(op))
    if version_id is not None:
        found["s3:VersionId"] = (version_id,)
    return found


def _outcome(entry: _Entry, fate: Deleted | Exception) -> str:
    said = element("Key", entry.key.decode("utf-8")) + optional("VersionId", entry.version_id)
    if not isinstance(fate, Exception):
        if fate.delete_marker:
            said += "<DeleteMarker>true</DeleteMarker>" + optional(
                "DeleteMarkerVersionId", fate.version_id
            )
        return f"<Deleted>{said}</Deleted>"
    answer = explain(fate)
    if answer.status >= 500:
        logger.error("a key of DeleteObjects was not deleted: %s: %s", type(fate).__name__, fate)
    return f"<Error>{said}<Code>{answer.code}</Code>{element('Message', answer.message)}</Error>"
