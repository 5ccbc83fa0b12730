"""PostObject: a file that a browser sends in a form (S3 API reference, "POST Object").

Who uploads, and what, stands in the form. Without a policy it is anybody. With one it is whoever
signed it, and the policy bounds what the form may say: then the two of them are asked, the policy first
and the gate after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from objectio import limits
from objectio.abc.api import FormCredentials
from objectio.abc.objects import ObjectInfo
from objectio.errors import PayloadTooLarge
from objectio_api_s3 import acl, checksums, permissions, sse, tags
from objectio_api_s3.errors import refuse
from objectio_api_s3.form import Form, parse_boundary, read_form
from objectio_api_s3.headers import (
    Headers,
    parse_attributes,
    refuse_unsupported,
    written_headers,
)
from objectio_api_s3.post_policy import parse_policy
from objectio_api_s3.request import Call, Reply, empty_reply
from objectio_api_s3.xml import PROLOG, element, encode_plain

HEADERS: Final = (
    acl.HEADERS | sse.WRITE_HEADERS | {b"x-amz-website-redirect-location", b"x-amz-tagging"}
)

_OLD: Final = "HMAC-SHA1"
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]+")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PLAIN_HEADERS: Final = frozenset(
    (
        *("cache-control", "content-type", "content-disposition", "content-encoding"),
        *("content-language", "expires"),
    )
)
_SIGNING: Final = frozenset(
    (
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"),
        "x-amz-security-token",
    )
)


async def post_object(call: Call) -> Reply:
    op, objects = call.op, call.context.objects
    await call.check_owner()
    body = call.request.body
    form = await read_form(body, parse_boundary(op.headers.get(b"content-type", b"")))
    fields, file = form.fields, form.file
    op.key = _parse_key(form)
    headers = _headers(fields)
    refuse_unsupported(headers, HEADERS)
    await _authenticate(call, form)
    op.headers = headers
    values = dict(permissions.conditions(op))
    given = tags.parse_document(fields["tagging"].encode()) if "tagging" in fields else {}
    values.update(permissions.request_tags(given))
    await call.require("s3:PutObject", lambda: values)
    if given:
        await acl.require_of_writer(call, "s3:PutObjectTagging", lambda: values)
    if file.size > limits.PUT_SIZE_BYTES_MAX:
        raise PayloadTooLarge("Your proposed upload exceeds the maximum allowed size")
    declared = checksums.parse_declared(headers)
    file.expect(declared)
    owner, granted = await acl.place(call)
    name = "" if declared is None else declared.algorithm.name
    attributes = parse_attributes(headers, name, checksums.FULL_OBJECT if name else "", granted)
    info = await objects.put_object(
        op.bucket,
        op.key,
        file,
        replace(attributes, tags=given) if given else attributes,
        owner=owner,
        encryption=sse.parse_write(headers),
        origin=call.origin("ObjectCreated:Post"),
    )
    return _answer(call, fields, info)


def _parse_key(form: Form) -> bytes:
    name = form.fields.get("key")
    if not name:
        refuse(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'. If it is specified, please check the "
            "order of the fields.",
            ArgumentName="key",
        )
    # Browsers may send a whole path; only its last part is a name.
    key = name.replace("${filename}", re.split(r"[/\\]", form.file.name)[-1]).encode("utf-8")
    if len(key) > limits.OBJECT_KEY_BYTES_MAX:
        refuse("KeyTooLongError")
    return key


def _headers(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """The fields that stand for headers of a PutObject."""
    found: dict[bytes, bytes] = {}
    for name, value in fields.items():
        header = "x-amz-acl" if name == "acl" else name
        if header in _SIGNING or header == "x-amz-tagging":
            continue
        if header not in _PLAIN_HEADERS and not header.startswith("x-amz-"):
            continue
        if _HEADER_NAME.fullmatch(header) is None or _CONTROLS.search(value) is not None:
            refuse("InvalidArgument", "A field cannot be a header.", ArgumentName=name)
        found[header.encode("ascii")] = value.encode("utf-8")
    return found


async def _authenticate(call: Call, form: Form) -> None:
    """Makes the caller whoever signed the policy, and holds the form against it."""
    fields = form.fields
    policy = fields.get("policy")
    if policy is None:
        if fields.keys() & {"signature", "x-amz-signature", "awsaccesskeyid", "x-amz-credential"}:
            _refuse_missing("policy")
        return
    act_as = call.request.act_as
    if act_as is not None:
        await act_as(_credentials(fields, policy))
    checked = {**fields, "bucket": call.op.bucket, "key": call.op.key.decode("utf-8")}
    parse_policy(policy).check(checked, form.file.size)


def _credentials(fields: Mapping[str, str], policy: str) -> FormCredentials:
    encoded, token = policy.encode("utf-8"), fields.get("x-amz-security-token", "")
    if "x-amz-credential" in fields or "x-amz-signature" in fields:
        return FormCredentials(
            encoded,
            _need(fields, "x-amz-credential"),
            _need(fields, "x-amz-date"),
            _need(fields, "x-amz-signature"),
            _need(fields, "x-amz-algorithm"),
            token,
        )
    access_key, signature = _need(fields, "awsaccesskeyid"), _need(fields, "signature")
    return FormCredentials(encoded, access_key, "", signature, _OLD, token)


def _need(fields: Mapping[str, str], name: str) -> str:
    found = fields.get(name)
    if not found:
        _refuse_missing(name)
    return found


def _refuse_missing(name: str) -> NoReturn:
    refuse(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'. If it is specified, please check the "
        "order of the fields.",
        ArgumentName=name,
    )


def _answer(call: Call, fields: Mapping[str, str], info: ObjectInfo) -> Reply:
    op = call.op
    key = op.key.decode("utf-8")
    headers: Headers = written_headers(info)
    location = f"{'https' if call.request.secure else 'http'}://{op.host}/{op.bucket}/{quote(key)}"
    redirect = fields.get("success_action_redirect") or fields.get("redirect", "")
    if _is_url(redirect):
        joint = "&" if urlsplit(redirect).query else "?"
        told = f"bucket={op.bucket}&key={quote(key, safe='')}&etag={quote(chr(34) + info.etag)}%22"
        headers.append((b"location", f"{redirect}{joint}{told}".encode("latin-1", "replace")))
        return empty_reply(303, headers)
    headers.append((b"location", location.encode("latin-1", "replace")))
    status = fields.get("success_action_status", "")
    if status == "201":
        document = (
            f"{PROLOG}<PostResponse>{element('Location', location)}<Bucket>{op.bucket}</Bucket>"
            f"<Key>{encode_plain(op.key)}</Key>{element('ETag', f'{chr(34)}{info.etag}{chr(34)}')}"
            "</PostResponse>"
        ).encode()
        headers.append((b"content-type", b"application/xml"))
        headers.append((b"content-length", b"%d" % len(document)))
        return Reply(201, headers, document)
    return empty_reply(200 if status == "200" else 204, headers)


def _is_url(text: str) -> bool:
    """What can be an absolute URL in a header; anything else counts as not said."""
    if not text or not text.isascii() or re.search(r"[\x00-\x20\x7f]", text) is not None:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
