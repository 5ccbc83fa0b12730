"""Cross-origin resource sharing: the rules, the preflight, and the headers of every response.

A browser asks first (the preflight: OPTIONS, without credentials) and then looks whether the answer
to its request allows the origin, so the headers belong on errors too. WHATWG Fetch, "CORS protocol";
S3 user guide, "Elements of a CORS configuration".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from objectio import limits
from objectio.abc.objects import ObjectService
from objectio.errors import NotFound
from objectio.model.bucket import Document, decode_document
from objectio.model.remembered import Compiled
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.headers import Headers
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.xml import element, optional

NAME: Final = "cors"

_RULES_MAX: Final = 100
_ID_CHARS_MAX: Final = 255
_METHODS: Final = ("GET", "PUT", "HEAD", "POST", "DELETE")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2
_SECONDS_MAX: Final = 2**31 - 1
_ORIGIN_BYTES_MAX: Final = 4_096
_DECODED_BYTES_MAX: Final = 4 * limits.MIB
# What the answer depends on, for caches between here and the browser.
_VARY: Final = (
    b"vary",
    b"Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
)


class CorsRule(Document, frozen=True):
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    id: str = ""


class Cors(Document, frozen=True):
    rules: tuple[CorsRule, ...]


def parse_cors(root: Node) -> Cors:
    schema.check(root, "CORSRule")
    if not 1 <= len(root.children) <= _RULES_MAX:
        refuse("MalformedXML")
    return Cors(rules=tuple(_parse_rule(node) for node in root.children))


def _parse_rule(node: Node) -> CorsRule:
    schema.check(
        *(node, "ID", "AllowedMethod", "AllowedOrigin", "AllowedHeader", "ExposeHeader"),
        "MaxAgeSeconds",
    )
    name = schema.text(node, "ID")
    if len(name) > _ID_CHARS_MAX:
        refuse("InvalidRequest", f"The ID is longer than {_ID_CHARS_MAX} characters")
    methods = _texts(node, "AllowedMethod")
    origins = _texts(node, "AllowedOrigin")
    if not methods or not origins:
        refuse("MalformedXML")
    for method in methods:
        if method not in _METHODS:
            refuse(
                "InvalidRequest",
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}",
            )
    headers, expose = _texts(node, "AllowedHeader"), _texts(node, "ExposeHeader")
    for what, values in (("AllowedOrigin", origins), ("AllowedHeader", headers)):
        for value in values:
            if value.count("*") > 1:
                refuse(
                    "InvalidRequest",
                    f'{what} "{value}" can not have more than one wildcard.',
                )
    if any(not value.isprintable() or not value.isascii() for value in origins):
        refuse("InvalidRequest", "An AllowedOrigin is not an origin.")
    # They become part of a header: a name only, and nothing that ends it.
    if any(_TOKEN.fullmatch(value) is None for value in (*headers, *expose)):
        refuse("InvalidRequest", "A header name of the CORS config is not one.")
    age = schema.number(node, "MaxAgeSeconds")
    if age is not None and not 0 <= age <= _SECONDS_MAX:
        refuse("InvalidRequest", "MaxAgeSeconds is out of range.")
    return CorsRule(
        origins=origins,
        methods=methods,
        headers=headers,
        expose=expose,
        max_age_seconds=age,
        id=name,
    )


def _texts(node: Node, name: str) -> tuple[str, ...]:
    found = tuple(schema.leaf(child).strip() for child in node.all(name))
    if not all(found):
        refuse("MalformedXML")
    return found


def show_cors(cors: Cors) -> str:
    return "".join(
        "<CORSRule>"
        + optional("ID", rule.id)
        + "".join(element("AllowedMethod", value) for value in rule.methods)
        + "".join(element("AllowedOrigin", value) for value in rule.origins)
        + "".join(element("AllowedHeader", value) for value in rule.headers)
        + "".join(element("ExposeHeader", value) for value in rule.expose)
        + (
            ""
            if rule.max_age_seconds is None
            else f"<MaxAgeSeconds>{rule.max_age_seconds}</MaxAgeSeconds>"
        )
        + "</CORSRule>"
        for rule in cors.rules
    )


def matches(pattern: str, value: str) -> bool:
    """At most one `*` for any characters."""
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == value
    fits = len(value) >= len(head) + len(tail)
    return fits and value.startswith(head) and value.endswith(tail)


def find_rule(cors: Cors, origin: str, method: str, headers: Sequence[str] = ()) -> CorsRule | None:
    """The first that allows all of it."""
    for rule in cors.rules:
        if (
            method in rule.methods
            and any(matches(pattern, origin) for pattern in rule.origins)
            and all(
                any(matches(pattern.lower(), header) for pattern in rule.headers)
                for header in headers
            )
        ):
            return rule
    return None


def _answer(rule: CorsRule, origin: bytes, asked: Sequence[str] = ()) -> Headers:
    """What a response to `origin` says; the rule allows it."""
    anyone = "*" in rule.origins
    found: Headers = [
        (b"access-control-allow-origin", b"*" if anyone else origin),
        (b"access-control-allow-methods", ", ".join(rule.methods).encode("ascii")),
    ]
    if asked:
        found.append((b"access-control-allow-headers", ", ".join(asked).encode("ascii")))
    if rule.expose:
        found.append((b"access-control-expose-headers", ", ".join(rule.expose).encode("ascii")))
    if rule.max_age_seconds is not None:
        found.append((b"access-control-max-age", b"%d" % rule.max_age_seconds))
    if not anyone:
        found.append((b"access-control-allow-credentials", b"true"))
    found.append(_VARY)
    return found


def _decode_cors(raw: bytes) -> Cors:
    return decode_document(raw, Cors)


_decode: Final = Compiled(_decode_cors, _DECODED_BYTES_MAX)


async def find_cors(objects: ObjectService, name: str) -> Cors | None:
    """The rules of a bucket, if there is such a bucket and it has some."""
    try:
        bucket = await objects.get_bucket(name)
    except NotFound:
        return None
    raw = (await objects.get_documents(bucket)).get(NAME)
    return None if raw is None else _decode(raw)


def _is_origin(origin: bytes) -> bool:
    return 0 < len(origin) <= _ORIGIN_BYTES_MAX and all(33 <= byte < 127 for byte in origin)


async def response_headers(
    objects: ObjectService, bucket: str, method: str, headers: Mapping[bytes, bytes]
) -> Headers:
    """What is added to the response to a request that has an Origin."""
    origin = headers.get(b"origin", b"")
    if not bucket or not _is_origin(origin):
        return []
    cors = await find_cors(objects, bucket)
    if cors is None:
        return []
    asked = headers.get(b"access-control-request-method", b"").decode("latin-1")
    rule = find_rule(cors, origin.decode("ascii"), asked or method)
    return [] if rule is None else _answer(rule, origin)


async def preflight(call: Call) -> Reply:
    """Answered without credentials: it tells no more than which origins are allowed."""
    headers = call.op.headers
    origin = headers.get(b"origin", b"")
    if not origin:
        refuse("BadRequest", "Insufficient information. Origin request header needed.")
    method = headers.get(b"access-control-request-method", b"").decode("latin-1")
    if method not in _METHODS:
        refuse("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    listed = headers.get(b"access-control-request-headers", b"").decode("latin-1")
    asked = [name.strip().lower() for name in listed.split(",") if name.strip()]
    cors = await find_cors(call.context.objects, call.op.bucket)
    if cors is None:
        refuse("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    rule = None
    if _is_origin(origin) and all(_TOKEN.fullmatch(name) for name in asked):
        rule = find_rule(cors, origin.decode("ascii"), method, asked)
    if rule is None:
        refuse(
            "AccessForbidden",
            "CORSResponse: This CORS request is not allowed. This is usually because the evaluation "
            "of Origin, request method / Access-Control-Request-Method or "
            "Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        )
    return empty_reply(200, _answer(rule, origin, asked))


async def get_cors(call: Call) -> Reply:
    found = await schema.load_or_refuse(call, NAME, Cors, "NoSuchCORSConfiguration")
    return xml_reply("CORSConfiguration", show_cors(found))


async def put_cors(call: Call) -> Reply:
    return await schema.save(call, NAME, parse_cors(await schema.read(call, "CORSConfiguration")))


async def delete_cors(call: Call) -> Reply:
    return await schema.remove(call, NAME)
