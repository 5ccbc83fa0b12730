"""A bucket as a website: index documents, redirects, and errors for people.

It answers below the names in `website_domains` only, to GET and HEAD, whoever asks: mostly nobody.
What is sent is an object like any other, and whoever asks must be allowed to read it. S3 user guide,
"Website endpoints", "Configuring an index document", "… a custom error document", "… a redirect".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from html import escape
from typing import Final
from urllib.parse import quote_from_bytes

from objectio.errors import AccessDenied, NotFound, ObjectIOError
from objectio.model.bucket import decode_document
from objectio_api_s3 import errors
from objectio_api_s3.conditions import READ_HEADERS
from objectio_api_s3.configuration.website import NAME, Redirect, RoutingRule, Website
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import Headers, clean
from objectio_api_s3.operations.object import get_object, head_object
from objectio_api_s3.request import Call, Reply, Stream

_REDIRECT: Final = b"x-amz-website-redirect-location"
_SELECTING: Final = READ_HEADERS | {b"range"}
_URL_SAFE: Final = "/!$&'()*+,;=:@-._~"  # RFC 3986 §3.3


async def serve(call: Call) -> Reply | Stream:
    key = call.op.key
    try:
        site = await _find_site(call)
    except ObjectIOError as error:
        return _page(call, error)
    if site.everything is not None:
        return _redirect(call, site.everything, key)
    rule = _find_rule(site, key, 0)
    if rule is not None:
        return _redirect(call, rule.redirect, _replace(rule, key))
    try:
        return await _send(call, _index(site, key))
    except ObjectIOError as error:
        return await _fail(call, site, error)


async def _find_site(call: Call) -> Website:
    objects = call.context.objects
    bucket = await objects.get_bucket(call.op.bucket)
    raw = (await objects.get_documents(bucket)).get(NAME)
    if raw is None:
        refuse("NoSuchWebsiteConfiguration", BucketName=bucket.name)
    return decode_document(raw, Website)


def _index(site: Website, key: bytes) -> bytes:
    """What stands for a folder."""
    return key + site.index.encode() if not key or key.endswith(b"/") else key


def _find_rule(site: Website, key: bytes, status: int) -> RoutingRule | None:
    """The first that fits; those for an error fit that error only."""
    for rule in site.rules:
        if rule.error == status and key.startswith(rule.prefix.encode()):
            return rule
    return None


def _replace(rule: RoutingRule, key: bytes) -> bytes:
    redirect = rule.redirect
    if redirect.key is not None:
        return redirect.key.encode()
    if redirect.prefix is not None:
        return redirect.prefix.encode() + key[len(rule.prefix.encode()) :]
    return key


def _redirect(call: Call, redirect: Redirect, key: bytes) -> Reply:
    protocol = redirect.protocol or ("https" if call.request.secure else "http")
    host = redirect.host or call.op.host
    return _moved(redirect.code, f"{protocol}://{host}/{quote_from_bytes(key, _URL_SAFE)}")


def _moved(code: int, location: str) -> Reply:
    return Reply(code, [(b"location", clean(location)), (b"content-length", b"0")])


async def _send(call: Call, key: bytes) -> Reply | Stream:
    """An object, or where it says that it is found. Raises as the reading of an object does."""
    await call.require("s3:GetObject", key=key)
    inner = Call(call.context, call.request, replace(call.op, key=key))
    reply = await (head_object(inner) if call.op.method == "HEAD" else get_object(inner))
    location = dict(reply.headers).get(_REDIRECT)
    if location is None:
        return reply
    await _discard(reply)
    return _moved(301, location.decode("latin-1"))


async def _discard(reply: Reply | Stream) -> None:
    if isinstance(reply, Stream):
        if isinstance(reply.rest, AsyncGenerator):
            await reply.rest.aclose()
        reply.reader.close()


async def _fail(call: Call, site: Website, error: ObjectIOError) -> Reply | Stream:
    """A folder that was meant, a rule for the error, the site's own page, or ours."""
    key = call.op.key
    status = errors.explain(error).status
    if isinstance(error, AccessDenied | NotFound) and await _is_folder(call, site, key):
        return _moved(302, f"/{quote_from_bytes(key, _URL_SAFE)}/")
    rule = _find_rule(site, key, status)
    if rule is not None:
        return _redirect(call, rule.redirect, _replace(rule, key))
    if not site.error:
        return _page(call, error)
    plain = {name: v for name, v in call.op.headers.items() if name not in _SELECTING}
    whole = Call(call.context, call.request, replace(call.op, headers=plain))
    try:
        reply = await _send(whole, site.error.encode())
    except ObjectIOError:
        return _page(call, error)
    if reply.status == 200:
        reply.status = status
    return reply


async def _is_folder(call: Call, site: Website, key: bytes) -> bool:
    """Whether there is an index below the key, that may be read."""
    if not key or key.endswith(b"/"):
        return False
    index = _index(site, key + b"/")
    try:
        await call.require("s3:GetObject", key=index)
        await call.context.objects.head_object(call.op.bucket, index, check_key=False)
    except ObjectIOError:
        return False
    return True


def _page(call: Call, error: ObjectIOError) -> Reply:
    answer = errors.explain(error)
    title = f"{answer.status} {_REASONS.get(answer.status, 'Error')}"
    lines = [
        *(("Code", answer.code), ("Message", answer.message)),
        *errors.elements(error),
        ("RequestId", call.request.request_id),
    ]
    listed = "".join(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in lines)
    body = (
        f"<!DOCTYPE html><html><head><title>{title}</title></head>"
        f"<body><h1>{title}</h1><ul>{listed}</ul></body></html>\n"
    ).encode()
    headers: Headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-amz-error-code", clean(answer.code)),
        (b"x-amz-error-message", clean(answer.message)),
    ]
    return Reply(answer.status, headers, b"" if call.op.method == "HEAD" else body)


_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 503: "Slow Down"}
